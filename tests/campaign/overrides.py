"""Generated overrides, thousands of them: each is accepted and comes back from YAML the same, or is refused in one line.

python tests/campaign/overrides.py 5000 [SEED]
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from test_config_text import generated, try_override


def main(count: int = 5000, seed: int = 0) -> int:
    wrong = [message for override in generated(count, seed) if (message := try_override(override))]
    print(f"{count} overrides, {len(wrong)} wrong", *wrong[:20], sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
