"""python train.py prompt="a red chair" — make 3D assets from words; see fsd_gs/train/step.py for the method."""

import sys

from fsd_gs.cli import guarded, train

if __name__ == "__main__":
    sys.exit(guarded(train, sys.argv[1:], "train.py"))
