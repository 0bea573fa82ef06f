"""Every script of benchmarks/ and docs/figures is of the present code: the names that it takes from the package are there."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted([*(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "docs/figures").glob("*.py")])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_script_imports_from_the_package_is_there(script):
    missing = []
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fsd_gs":
            module = importlib.import_module(node.module)
            missing += [f"{node.module}.{name.name}" for name in node.names if not has(module, name.name)]
        elif isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] == "fsd_gs":
                    importlib.import_module(name.name)
    assert missing == []


def has(module, name):
    if hasattr(module, name):
        return True
    try:
        importlib.import_module(f"{module.__name__}.{name}")
    except ModuleNotFoundError:
        return False
    return True
