"""Which device a run uses: chosen once, by name, and passed on; there is no global device."""

from __future__ import annotations

import torch

from fsd_gs.errors import BackendError, ConfigError


def resolve_device(name: str | torch.device) -> torch.device:
    """ "auto" is the first CUDA device if there is one; BackendError if a GPU is asked for where none is."""
    if str(name) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device: expected auto, cpu, cuda or cuda:N, got '{name}'") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device: expected auto, cpu, cuda or cuda:N, got '{name}'")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BackendError(f"device: '{name}' was asked for, but torch {torch.__version__} sees no CUDA GPU; use device=cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BackendError(f"device: '{name}' was asked for, but there are {torch.cuda.device_count()} GPUs; use a lower number")
    return device


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a CPU multiplies bfloat16 itself: AMX, or AVX-512's own instructions (Zen 4, Cooper Lake). Elsewhere float32 is faster."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # older torch versions cannot tell
    return device.type == "cpu" and bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
