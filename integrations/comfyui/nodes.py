"""The nodes: generate, load, export. Progress, previews and interruption go through ComfyUI's own hooks.

A workflow may come from a stranger: settings typed into a node pass the allow-list of the start page (``fsd_gs.viewer.form``), files are
read from ComfyUI's input folder and written to its output folder only. What is wrong is the line that the terminal would show: before the
graph runs where it can be known by then (``validate_inputs``), else as the error of the node.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import comfy.model_management
import comfy.utils
import folder_paths
import numpy as np
import torch
from comfy_api.latest import IO, UI, ComfyExtension, Types
from PIL import Image

from fsd_gs.config import Config
from fsd_gs.core.device import resolve_device
from fsd_gs.core.quality import GOOD, QUALITIES
from fsd_gs.errors import FsdGsError, InputError
from fsd_gs.export.formats import EXPORTERS, LOADERS, TARGETS, export, load_splats
from fsd_gs.export.options import ExportOptions
from fsd_gs.export.provenance import read_provenance
from fsd_gs.render import make_rasterizer
from fsd_gs.train import runs
from fsd_gs.train.asset import make_asset
from fsd_gs.train.loop import Observer, StopRun
from fsd_gs.train.session import Session
from fsd_gs.train.step import StepReport
from fsd_gs.viewer.form import Request, presets, requested_config

from .convert import from_splat, to_splat

CATEGORY = "3d/fsd-gs"


def settings_of(prompt: str, seed: int, quality: str, config: str, settings: str) -> Config:
    """The settings of a run; FsdGsError, one line, for whatever is wrong with them.

    An asset that is there with other settings is made anew; an unfinished one with the same settings goes on.
    """
    if not prompt.strip():
        raise InputError('prompt: expected words that say what to make, got nothing; for example "a red chair"')
    output = str(Path(folder_paths.get_output_directory()) / "fsd_gs")
    typed = f"quality={quality} {settings}".strip()
    wanted = requested_config(Request(prompt.strip(), config, seed, 1, typed), output)
    folder = runs.run_folder(wanted)
    if (folder / runs.CONFIG).is_file() and runs.differing_settings(runs.load_run_config(folder), wanted):
        return requested_config(Request(prompt.strip(), config, seed, 1, typed, replace=True), output)
    return wanted


class Hooks(Observer):
    """Tells ComfyUI how far an asset is and what it looks like, and the asset when ComfyUI wants an end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bar: comfy.utils.ProgressBar | None = None
        self._shown = 0

    def started(self, session: Session) -> None:
        self._bar = comfy.utils.ProgressBar(session.steps)

    def stepped(self, session: Session, report: StepReport) -> None:
        if comfy.model_management.processing_interrupted():
            raise StopRun
        if self._bar is not None:
            self._bar.update_absolute(report.step, report.steps, self._preview(report.step))

    def _preview(self, step: int) -> tuple[str, Image.Image, int] | None:
        """The contact sheet of the run's folder, once when it is new."""
        sheets = sorted((self._folder / "previews").glob("*.png"))
        if len(sheets) == self._shown or not sheets:
            return None
        self._shown = len(sheets)
        return "JPEG", Image.open(sheets[-1]).convert("RGB"), 512


class Generate(IO.ComfyNode):
    @classmethod
    def define_schema(cls) -> IO.Schema:
        return IO.Schema(
            node_id="FSDGS_Generate",
            display_name="FSD-GS Generate",
            category=CATEGORY,
            description="Words to Gaussian splats by Flow Score Distillation; another seed gives another asset.",
            search_aliases=["text to 3d", "text to splat", "gaussian splatting"],
            inputs=[
                IO.String.Input("prompt", default="a red chair", multiline=True),
                IO.Int.Input("seed", default=0, min=0, max=2**63 - 1, control_after_generate=True),
                IO.Combo.Input("quality", options=list(QUALITIES), default=GOOD, tooltip="how much it may cost"),
                IO.Combo.Input("config", options=presets(), tooltip="of fsd-gs train --config; default needs no GPU and no weights"),
                IO.String.Input("settings", default="", optional=True, advanced=True, tooltip="more key=value settings"),
            ],
            outputs=[
                IO.Splat.Output(display_name="splat"),
                IO.File3DPLY.Output(display_name="model_3d"),
                IO.Image.Output(display_name="preview"),
            ],
        )

    @classmethod
    def validate_inputs(cls, prompt: str, seed: int, quality: str, config: str, settings: str = "") -> bool | str:
        try:
            settings_of(prompt, seed, quality, config, settings)
        except FsdGsError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, prompt: str, seed: int, quality: str, config: str, settings: str = "") -> IO.NodeOutput:
        wanted = settings_of(prompt, seed, quality, config, settings)
        folder = runs.run_folder(wanted)
        with torch.inference_mode(False), torch.enable_grad():  # ComfyUI runs nodes without gradients; this one is an optimisation
            outcome = make_asset(wanted, None, folder, [Hooks(folder)])
        if outcome.state == "stopped":  # with everything saved: the same node goes on with it
            comfy.model_management.throw_exception_if_processing_interrupted()
        splats = outcome.result.splats if outcome.result is not None else load_splats(folder / runs.SPLATS)
        picture = torch.from_numpy(np.array(Image.open(folder / runs.PREVIEW).convert("RGB")))[None].float() / 255
        return IO.NodeOutput(to_splat(Types.SPLAT, splats), Types.File3D(str(folder / runs.SPLATS)), picture)


class Load(IO.ComfyNode):
    @classmethod
    def define_schema(cls) -> IO.Schema:
        return IO.Schema(
            node_id="FSDGS_Load",
            display_name="Load splats",
            category=CATEGORY,
            description=f"Splats of a file in the input folder ({', '.join(LOADERS)}).",
            inputs=[IO.Combo.Input("file", options=input_files())],
            outputs=[IO.Splat.Output(display_name="splat"), IO.Int.Output(display_name="count"), IO.String.Output(display_name="origin")],
        )

    @classmethod
    def execute(cls, file: str) -> IO.NodeOutput:
        if file not in input_files():
            raise InputError(f"file: '{file}' is not in the input folder")
        path = Path(folder_paths.get_input_directory()) / file
        splats, origin = load_splats(path), read_provenance(path)
        return IO.NodeOutput(to_splat(Types.SPLAT, splats), len(splats), origin.text() if origin else "")

    @classmethod
    def fingerprint_inputs(cls, file: str) -> float:
        path = Path(folder_paths.get_input_directory()) / file
        return path.stat().st_mtime if file in input_files() else 0.0


def input_files() -> list[str]:
    """Files of splats in ComfyUI's input folder and the folders in it."""
    folder = Path(folder_paths.get_input_directory())
    found = (path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.suffix.lower() in LOADERS)
    return sorted(path.relative_to(folder).as_posix() for path in found)


class Export(IO.ComfyNode):
    @classmethod
    def define_schema(cls) -> IO.Schema:
        return IO.Schema(
            node_id="FSDGS_Export",
            display_name="Export splats",
            category=CATEGORY,
            description="Splats as a file in the output folder: "
            + "; ".join(f"{name}: {kind.description}" for name, kind in EXPORTERS.items()),
            is_output_node=True,
            inputs=[
                IO.Splat.Input("splat"),
                IO.Combo.Input("format", options=list(EXPORTERS), default="ply"),
                IO.Combo.Input(
                    "target", options=["auto", *TARGETS], default="auto", tooltip="whose axes; auto: those the format's readers expect"
                ),
                IO.String.Input("filename_prefix", default="3d/fsd-gs"),
            ],
            outputs=[IO.File3DAny.Output(display_name="model_3d"), IO.String.Output(display_name="path")],
        )

    @classmethod
    def execute(cls, splat: Types.SPLAT, format: str, target: str, filename_prefix: str) -> IO.NodeOutput:
        folder, name, counter, _, _ = folder_paths.get_save_image_path(filename_prefix, folder_paths.get_output_directory())
        rasterizer = make_rasterizer("auto", resolve_device("auto")) if EXPORTERS[format].needs_rasterizer else None
        written = []
        for i, splats in enumerate(from_splat(splat)):
            path = Path(folder) / f"{name}_{counter + i:05}_{EXPORTERS[format].suffix}"
            bar = comfy.utils.ProgressBar(100)
            options = ExportOptions(target=None if target == "auto" else target, title=name, rasterizer=rasterizer, progress=_progress(bar))
            export(splats, path, format, options)
            written.append(path)
        return IO.NodeOutput(Types.File3D(str(written[0])), str(written[0]), ui=UI.PreviewText("\n".join(map(str, written))))


def _progress(bar: comfy.utils.ProgressBar) -> Callable[[int, int], None]:
    def tell(done: int, total: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total)

    return tell


class Extension(ComfyExtension):
    async def get_node_list(self) -> list[type[IO.ComfyNode]]:
        return [Generate, Load, Export]


async def comfy_entrypoint() -> Extension:
    """What ComfyUI asks for."""
    return Extension()
