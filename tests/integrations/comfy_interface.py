"""ComfyUI's interface as its source (0.30.0) defines it, as far as the nodes use it: so that they are tested where there is no ComfyUI.

``comfy_api/latest`` (IO, Types, UI, ComfyExtension), ``comfy/utils.py`` (ProgressBar), ``comfy/model_management.py`` (interruption) and
``folder_paths.py``. ``test_comfyui_real.py`` runs the same nodes in the real one.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any


@dataclass
class Splat:
    positions: Any
    scales: Any
    rotations: Any
    opacities: Any
    sh: Any
    counts: Any = None


@dataclass
class File3D:
    source: str


@dataclass
class Socket:
    io_type: str
    id: str = ""
    options: dict = field(default_factory=dict)


def io_type(name):
    return SimpleNamespace(
        Input=lambda id, **options: Socket(name, id, options),
        Output=lambda id=None, display_name="": Socket(name, display_name),
        io_type=name,
    )


class NodeOutput:
    def __init__(self, *args, ui=None):
        self.args, self.ui = args, ui


class InterruptProcessingException(Exception):
    pass


class Interface:
    """The modules, to be put into ``sys.modules``; bars: (value, total, preview) of every progress report."""

    def __init__(self, base: Path) -> None:
        self.interrupted, self.bars = False, []
        self.folders = {name: base / name for name in ("input", "output")}
        for folder in self.folders.values():
            folder.mkdir(parents=True, exist_ok=True)

    def modules(self):
        latest = ModuleType("comfy_api.latest")
        names = {
            "Splat": "SPLAT",
            "File3DPLY": "FILE_3D_PLY",
            "File3DAny": "FILE_3D",
            "Image": "IMAGE",
            "Int": "INT",
            "String": "STRING",
            "Combo": "COMBO",
        }
        latest.IO = SimpleNamespace(
            ComfyNode=type("ComfyNode", (), {}),
            Schema=lambda **fields: SimpleNamespace(**fields),
            NodeOutput=NodeOutput,
            **{k: io_type(v) for k, v in names.items()},
        )
        latest.Types, latest.UI, latest.ComfyExtension = (
            SimpleNamespace(SPLAT=Splat, File3D=File3D),
            SimpleNamespace(PreviewText=str),
            object,
        )
        utils, management, paths = ModuleType("comfy.utils"), ModuleType("comfy.model_management"), ModuleType("folder_paths")
        utils.ProgressBar = lambda total: SimpleNamespace(update_absolute=lambda *report: self.bars.append(report))
        management.processing_interrupted = lambda: self.interrupted
        management.throw_exception_if_processing_interrupted = self.throw
        paths.get_input_directory = lambda: str(self.folders["input"])
        paths.get_output_directory = lambda: str(self.folders["output"])
        paths.get_save_image_path = self.save_path
        comfy = ModuleType("comfy")
        comfy.utils, comfy.model_management = utils, management
        return {
            "comfy": comfy,
            "comfy.utils": utils,
            "comfy.model_management": management,
            "folder_paths": paths,
            "comfy_api": ModuleType("comfy_api"),
            "comfy_api.latest": latest,
        }

    def throw(self):
        if self.interrupted:
            self.interrupted = False
            raise InterruptProcessingException

    def save_path(self, prefix, folder):
        place = Path(folder) / Path(prefix).parent
        if not place.resolve().is_relative_to(Path(folder).resolve()):
            raise Exception("**** ERROR: Saving image outside the output folder is not allowed.")
        place.mkdir(parents=True, exist_ok=True)
        return str(place), Path(prefix).name, 1, str(Path(prefix).parent), prefix


def load_nodes(interface: Interface, monkeypatch):
    """The package of nodes, imported against ``interface``."""
    import importlib.util

    for name, module in interface.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    source = Path(__file__).parents[2] / "integrations" / "comfyui"
    spec = importlib.util.spec_from_file_location("fsd_gs_nodes", source / "__init__.py", submodule_search_locations=[str(source)])
    package = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fsd_gs_nodes", package)
    for part in ("nodes", "convert"):
        monkeypatch.delitem(sys.modules, f"fsd_gs_nodes.{part}", raising=False)
    spec.loader.exec_module(package)
    return sys.modules["fsd_gs_nodes.nodes"]
