"""Stand-ins for the workshop: assets in no time, or step by step when a test says so."""

import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from export_scenes import egg
from PIL import Image

from fsd_gs.errors import InputError
from fsd_gs.export.formats import save_splats
from fsd_gs.train import runs
from fsd_gs.train.asset import Outcome
from fsd_gs.train.loop import StopRun


def write_run(config):
    """The files of a finished run."""
    folder = runs.run_folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    runs.write_config(config, folder)
    save_splats(egg(200), folder / runs.SPLATS)
    Image.fromarray(np.full((64, 140, 3), 200, np.uint8)).save(folder / runs.PREVIEW)
    runs.mark_finished(folder, config.steps, config.steps)
    return folder


def at_once(config, observer):
    """Every asset is finished; a prompt with "dragon" is refused as the real prior would."""
    if "dragon" in config.prompt:
        raise InputError(f"prompt: '{config.prompt}' names nothing that this prior knows")
    return Outcome(write_run(config), "finished", config.steps)


class Stepwise:
    """Makes an asset one step at each ``go.release()``."""

    def __init__(self):
        self.go = threading.Semaphore(0)

    def __call__(self, config, observer):
        observer.started(SimpleNamespace(step=0, steps=config.steps))
        for step in range(1, config.steps + 1):
            self.go.acquire()
            try:
                observer.stepped(None, SimpleNamespace(step=step, steps=config.steps))
            except StopRun as stop:
                return Outcome(write_run(config) if stop.keep else Path(), "kept" if stop.keep else "stopped", step)
        return Outcome(write_run(config), "finished", config.steps)
