"""Waiting for pages, and reading screenshots: is the object there, and in its colours?"""

import io
import time

import numpy as np
from PIL import Image

PATIENCE = 180.0  # seconds; most waits end in a tenth of one, on a machine that does nothing else


def wait_until(page, condition, seconds=PATIENCE):
    """Poll while the page goes on; the last value. (playwright's own waiting uses eval, which our pages forbid.)"""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        page.wait_for_timeout(50)
    return value


def fill(field, value):
    """Type into a field of a viser panel as a hand does. The panel's client sends one change in 50 ms, the latest: what another field or
    a button says sooner would take the place of this one."""
    field.fill(value)
    field.page.wait_for_timeout(200)


def screenshot(element, **options) -> np.ndarray:
    """[H, W, 3] float in [0, 1] of a playwright locator or page."""
    return np.asarray(Image.open(io.BytesIO(element.screenshot(**options))).convert("RGB")).astype(float) / 255


def painted(picture: np.ndarray) -> float:
    """Share of the picture that is not white."""
    return float((picture.min(2) < 0.95).mean())


def object_mask(picture: np.ndarray, threshold: float = 0.15) -> np.ndarray:
    """[H, W] saturated pixels: the colourful test objects, not the grey, white or black page around them."""
    return picture.max(2) - picture.min(2) > threshold


def coverage(picture: np.ndarray) -> float:
    return float(object_mask(picture).mean())


def mean_colour(picture: np.ndarray) -> np.ndarray:
    return picture[object_mask(picture)].mean(0)
