"""FSD-GS in ComfyUI: put this folder (or a link to it) into ``ComfyUI/custom_nodes``, with fsd-gs installed in ComfyUI's Python."""

from .nodes import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
