"""The layering of docs/architecture.md, checked on every import statement: imports point downwards, families do not know one another."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "fsd_gs"

COMMON = {"io", "interrupts", "cameras", "types"}
FAMILIES = {"splats", "render", "noise", "priors", "guidance", "export", "metrics"}
# The seam that guidance is written against: the protocol and the schedules, no implementation.
SEAMS = {"guidance": {"fsd_gs.priors.base", "fsd_gs.priors.schedule"}}
LEVEL = {"errors": 0, "core": 1} | dict.fromkeys(COMMON, 2) | {"catalogue": 2.5} | dict.fromkeys(FAMILIES, 3)
LEVEL |= {"config": 4, "image2d": 4, "doctor": 4, "train": 5, "pretrain": 5, "viewer": 6, "experiments": 7, "cli": 8}
ROOM_OF = {"fsd_gs.image2d.command": "train"}  # the command of a room may stand higher than its rule


def imports_of(path: Path) -> list[tuple[str, bool]]:
    """(module, at module level?) of every import in a file; TYPE_CHECKING blocks count as module level."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    deferred = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef) for n in ast.walk(f)}
    found = []
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
        found += [(name, id(node) not in deferred) for name in names]
    return found


def area(module: str) -> str:
    """fsd_gs.noise.base → noise; the package itself → ""."""
    parts = module.split(".")
    return ROOM_OF.get(module) or (parts[1] if len(parts) > 1 else "")


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    relative = path.relative_to(PACKAGE)
    here = area(".".join(["fsd_gs", *relative.with_suffix("").parts]))
    assert here in LEVEL, f"say in this test which level fsd_gs.{here} belongs to"
    for module, _ in imports_of(path):
        if not module.startswith("fsd_gs.") or area(module) not in LEVEL or area(module) == here:
            continue
        if any(module == seam or module.startswith(f"{seam}.") for seam in SEAMS.get(here, ())) or module == "fsd_gs.priors":
            continue
        assert LEVEL[area(module)] < LEVEL[here], f"fsd_gs/{relative} imports {module}"


HEAVY = {"gsplat", "diffusers", "transformers", "viser", "trimesh", "skimage", "plyfile", "peft", "matplotlib", "gaussforge", "ray"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_libraries_are_imported_where_they_are_used(path):
    tree = path.read_text(encoding="utf-8")
    for module, eager in imports_of(path):
        root = module.split(".")[0]
        if eager and root in HEAVY:
            assert "TYPE_CHECKING" in tree or path.name in EAGER_BY_PURPOSE, f"{path.name} imports {root} at module level"


# Modules that are themselves only imported at first use.
EAGER_BY_PURPOSE = {"capped_default.py", "plots.py"}


def test_gsplat_kernels_have_one_door():
    users = {str(p.relative_to(PACKAGE)) for p in FILES if any(m == "gsplat" or m.startswith("gsplat.rendering") for m, _ in imports_of(p))}
    assert {u for u in users if u.startswith("render/")} <= {"render/cuda.py"}


def test_no_file_trusts_remote_code_or_loads_pickles():
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert "trust_remote_code=True" not in text
        for call in [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call)]:
            name = ast.unparse(call.func)
            if name == "torch.load":
                assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in call.keywords), path
            assert name not in ("pickle.load", "pickle.loads"), path
