"""Weight files that the user downloads and points at: read as plain tensors only, and recognised by their checksum.

Libraries that download such files themselves name them after the first digits of their SHA-256 (``…-6726825d.pth``). A file with other
content can be used, but the network's ``name`` then says so, because its figures are comparable with nobody else's.
"""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fsd_gs.errors import FileFormatError


@dataclass(frozen=True)
class WeightFile:
    """A file of weights that is not shipped.

    Attributes:
        network: what the file belongs to, for messages.
        url: where it comes from.
        sha256: the first digits of its checksum.
        megabytes: how large it is.
    """

    network: str
    url: str
    sha256: str
    megabytes: int

    def read(self, path: str | Path) -> dict[str, Any]:
        """The tensors of the local file; FileFormatError if it is missing or holds anything but tensors (pickled code is not run)."""
        path = Path(path).expanduser()
        advice = f"download {self.url} ({self.megabytes} MB) and give its path"
        if not path.is_file():
            raise FileFormatError(f"{self.network}: no weights at {path}; {advice}")
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
            raise FileFormatError(f"{self.network}: {path} is no PyTorch file of plain tensors; {advice}") from error
        if not isinstance(state, dict):
            raise FileFormatError(f"{self.network}: {path} holds a {type(state).__name__}, expected tensors by name; {advice}")
        return state

    def wrong_tensors(self, path: str | Path) -> FileFormatError:
        """The error for a file whose tensors are those of another network."""
        return FileFormatError(f"{self.network}: {path} holds other tensors than this network's; download {self.url} ({self.megabytes} MB)")

    def label(self, path: str | Path) -> str:
        """Nothing for the official file, else " (other weights, sha256 …)", to be appended to the network's name."""
        digest = hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()
        return "" if digest.startswith(self.sha256) else f" (other weights, sha256 {digest[:8]})"
