"""What the prior sees: the views of the step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from fsd_gs.core.sheets import Frame, contact_sheet, to_uint8
from fsd_gs.viewer.panels.base import LIVE, Panel

if TYPE_CHECKING:
    import viser

    from fsd_gs.viewer.moment import Update


class PicturesPanel(Panel):
    """The views of the step as one picture."""

    title = "Views"
    pages = (LIVE,)

    def build(self, gui: viser.GuiApi) -> None:
        self.views = gui.add_image(np.full((64, 64, 3), 255, np.uint8), label="The views of this step", format="jpeg")

    def show(self, update: Update) -> None:
        self.views.image = views_picture(update.snapshot.views)


def views_picture(views: Tensor) -> Frame:
    """Up to four views [V, H, W, 3] two by two, small ones enlarged to fill the panel."""
    enlarge = -(-180 // views.shape[1])
    frames = [to_uint8(view).repeat(enlarge, axis=0).repeat(enlarge, axis=1) for view in views[:4]]
    return contact_sheet(frames, columns=2)


PANEL = PicturesPanel
