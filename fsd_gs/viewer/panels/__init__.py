"""The panels of the pages: each file holds the widgets of one, and what they do. A new panel is a file here and its name in ``PANELS``.

=========  ====================  ======================================================
panel      on                    is for
=========  ====================  ======================================================
make       the start page        a prompt, a preset, the button that makes assets
asset      the inspector         which asset, how many splats
run        a run                 step and time left; pause, save, stop
pictures   a run                 the views of the step
loss       a run                 the loss over the steps
view       a run, the inspector  how the splats are drawn, the background, the camera
filter     the inspector         which splats are kept
clean      the inspector         select, delete, set upright, save a new version
export     the inspector         files for other programs
turntable  the inspector         pictures and videos
=========  ====================  ======================================================
"""

PANELS = ("make", "asset", "run", "pictures", "loss", "view", "filter", "clean", "export", "turntable")
"""Modules of this package, in the order of the tabs."""
