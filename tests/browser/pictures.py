"""Reading screenshots: is the object there, and in its colours?"""

import io

import numpy as np
from PIL import Image


def screenshot(element) -> np.ndarray:
    """[H, W, 3] float in [0, 1] of a playwright locator or page."""
    return np.asarray(Image.open(io.BytesIO(element.screenshot())).convert("RGB")).astype(float) / 255


def object_mask(picture: np.ndarray, threshold: float = 0.15) -> np.ndarray:
    """[H, W] saturated pixels: the colourful test objects, not the grey, white or black page around them."""
    return picture.max(2) - picture.min(2) > threshold


def coverage(picture: np.ndarray) -> float:
    return float(object_mask(picture).mean())


def mean_colour(picture: np.ndarray) -> np.ndarray:
    return picture[object_mask(picture)].mean(0)
