"""One seed decides everything, through named streams: each consumer of randomness draws from its own explicit generator.

Streams are independent, so that drawing more cameras never changes the noise map of the same seed.
"""

from __future__ import annotations

import hashlib

import torch


def stream_seed(seed: int, stream: str) -> int:
    """A 63-bit seed for ``stream`` (for example "cameras"), the same on every machine."""
    digest = hashlib.sha256(f"{stream}:{seed}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def make_generator(seed: int, stream: str) -> torch.Generator:
    """A CPU generator for ``stream``; draw on the CPU and move, so that CPU and CUDA runs see the same numbers."""
    return torch.Generator().manual_seed(stream_seed(seed, stream))
