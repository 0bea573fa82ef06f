"""The layering of docs/architecture.md, checked on every import statement: imports point downwards and never in a circle, families do not
know one another, and a library that is slow to import or has a licence of its own has one door."""

import ast
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import pytest

PACKAGE = Path(__file__).parent.parent / "fsd_gs"

#: Level of a module or of everything under it; the longest name that fits counts. Imports go to a lower level, or stay in their room
#: (the first part of the name) at the same level or lower.
LEVEL = {
    "errors": 0,
    "core": 1,
    **dict.fromkeys(("io", "interrupts", "types", "cameras"), 2),
    "meshes": 3,
    "catalogue": 3,
    "priors.base": 3,  # the seam that guidance is written against: the protocol and the schedules, no implementation
    "priors.schedule": 3,
    "priors.settings": 3,
    "render": 3,  # a leaf; of the families only the splat-native prior draws, see below
    **dict.fromkeys(("splats", "noise", "priors", "guidance", "export", "metrics"), 4),
    "metrics.judge.train": 5,
    **dict.fromkeys(("config", "image2d", "doctor"), 5),
    **dict.fromkeys(("train", "pretrain"), 6),
    "image2d.command": 7,
    "train.command": 8,
    "train.edit_command": 8,
    "fleet": 8,
    **dict.fromkeys(("viewer", "experiments"), 9),
    "experiments.evaluate": 10,
    "app": 10,
    "completion": 10,
    "cli": 11,
    "__main__": 12,
}


@dataclass(frozen=True)
class Import:
    """module: as written, down to the module if the last part of the name is one. when: the importing module is imported, something in
    it is first used, or only a type checker reads it."""

    module: str
    when: Literal["import", "use", "typing"]


def name_of(path: Path) -> str:
    """fsd_gs/noise/base.py → fsd_gs.noise.base; a package's __init__.py is the package."""
    return ".".join(("fsd_gs", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


# The package's own __init__ is the façade above everything.
FILES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"}
each_file = pytest.mark.parametrize("path", FILES.values(), ids=lambda p: str(p.relative_to(PACKAGE)))


@cache
def imports_of(path: Path) -> list[Import]:
    """Every import in a file, also those in functions and under TYPE_CHECKING."""
    return list(_imports(ast.parse(path.read_text(encoding="utf-8")), "import"))


def _imports(node: ast.AST, when: str):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(a.name, when) for a in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "relative imports hide which room they go to"
            for a in child.names:
                longer = f"{child.module}.{a.name}"
                yield Import(longer if longer in FILES else child.module, when)
        elif isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from _imports(ast.Module(child.body, []), "typing")
            yield from _imports(ast.Module(child.orelse, []), when)
        else:
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, "use" if function and when == "import" else when)


def room(module: str) -> str:
    return module.split(".")[1]


def level(module: str) -> int:
    parts = module.split(".")[1:]
    names = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    found = next((LEVEL[name] for name in names if name in LEVEL), None)
    assert found is not None, f"say in this test which level {module} belongs to"
    return found


@each_file
def test_imports_point_downwards(path):
    here = name_of(path)
    for target in {i.module for i in imports_of(path)} & FILES.keys():
        assert level(target) < level(here) or (room(target) == room(here) and level(target) <= level(here)), f"{here} imports {target}"


def test_of_the_families_only_the_splat_native_prior_draws():
    families = [path for module, path in FILES.items() if level(module) == 4]
    drawing = {name_of(path) for path in families if any(i.module.startswith("fsd_gs.render") for i in imports_of(path))}
    assert drawing == {"fsd_gs.priors.splat.draw"}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one node (or a node that points at itself), by Tarjan's algorithm."""
    index, low, stack, found = {}, {}, [], []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1 or node in graph[node]:
                found.append(sorted(component))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a", "d"}, "e": {"d"}}) == [["a", "b", "c"], ["d"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def needs(path: Path) -> set[str]:
    """The modules of ours that a file imports. What a package's __init__ only names for type checkers is its façade, no need of its own."""
    facade = path.name == "__init__.py"
    return {i.module for i in imports_of(path) if not (facade and i.when == "typing")} & FILES.keys()


def test_no_module_imports_in_a_circle():
    """Neither at import nor at first use nor for types: two modules that need each other are one module, or miss a third."""
    assert circles({name: needs(path) for name, path in FILES.items()}) == []


HEAVY = {"gsplat", "diffusers", "transformers", "viser", "trimesh", "skimage", "plyfile", "peft", "matplotlib", "gaussforge", "kornia"}
# Modules that are themselves only imported at first use.
EAGER_BY_PURPOSE = {"fsd_gs.splats.capped_default"}


def root(module: str) -> str:
    return module.partition(".")[0]


def test_heavy_libraries_are_imported_where_they_are_used():
    assert {
        name for name, path in FILES.items() if any(i.when == "import" and root(i.module) in HEAVY for i in imports_of(path))
    } == EAGER_BY_PURPOSE
    importers = {name for name, path in FILES.items() for i in imports_of(path) if i.when == "import" and i.module in EAGER_BY_PURPOSE}
    assert not importers, f"imported at module level by {importers}"


def test_importing_the_whole_package_loads_no_heavy_library():
    """Imports of libraries that we import may bring a heavy one along: only a process of its own can tell."""
    modules = [name for name in FILES if name not in EAGER_BY_PURPOSE and not name.endswith("__main__")]
    code = f"import importlib, sys; [importlib.import_module(n) for n in {modules}]; print(sorted({HEAVY!r} & sys.modules.keys()))"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=PACKAGE.parent, stdin=subprocess.DEVNULL
    )
    assert (found.returncode, found.stdout.strip()) == (0, "[]"), found.stderr


def users_of(*libraries: str) -> set[str]:
    """Modules that import one of ``libraries`` or something under it, at whatever time."""
    names = tuple(f"{library}." for library in libraries)
    return {name for name, path in FILES.items() if any(f"{i.module}.".startswith(names) for i in imports_of(path))}


def test_gsplat_kernels_have_one_door():
    """The rasterization behind ``render.cuda``; splats use the densification, and ask whether its CUDA extension compiles."""
    gsplat = users_of("gsplat")
    rasterizing = {name for name in gsplat if {i.module for i in imports_of(FILES[name])} & {"gsplat", "gsplat.rendering"}}
    assert rasterizing == {"fsd_gs.render.cuda"}
    assert {room(name) for name in gsplat} == {"render", "splats"}


def test_libraries_with_one_door():
    assert len(users_of("plyfile")) == 1, "plyfile is GPL-3.0: one module imports it"
    assert {room(name) for name in users_of("viser")} == {"viewer"}
    assert {room(name) for name in users_of("peft")} == {"priors"}
    assert {room(name) for name in users_of("matplotlib")} == {"experiments"}


def test_no_file_trusts_remote_code_or_loads_pickles():
    for path in FILES.values():
        text = path.read_text(encoding="utf-8")
        assert "trust_remote_code=True" not in text
        for call in [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call)]:
            name = ast.unparse(call.func)
            if name == "torch.load":
                assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in call.keywords), path
            assert name not in ("pickle.load", "pickle.loads"), path


def test_every_module_that_the_documents_name_exists():
    """`fsd_gs/…` paths; "yours" stands for a file that a reader would add."""
    for document in [*PACKAGE.parent.glob("*.md"), *(PACKAGE.parent / "docs").rglob("*.md")]:
        if document.name == "CHANGELOG.md":
            continue
        lines = document.read_text(encoding="utf-8").splitlines()
        text = "\n".join(line for line in lines if not line.startswith(("    ", "+++", "---")))  # worked examples add files
        for named in re.findall(r"\bfsd_gs/[\w/]+(?:\.\w+)?", text):
            assert (PACKAGE.parent / named).exists() or "yours" in named, f"{document.name} names {named}"


SECTION = re.compile(r"^(?:Args|Attributes|Returns|Raises|Yields):$", re.M)


def run_on_fields(node: ast.ClassDef) -> list[str]:
    """Fields of a class that its docstring explains as "name: meaning" outside of an Attributes or Args section."""
    named = [s.target.id for s in node.body if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)]
    inits = [s for s in node.body if isinstance(s, ast.FunctionDef) and s.name == "__init__"]
    named += [a.arg for init in inits for a in (*init.args.args, *init.args.kwonlyargs)]
    prose = SECTION.split(ast.get_docstring(node) or "")[0]
    return [name for name in named if re.search(rf"(?:^|[.;)] |\n){re.escape(name)}(?:, \w+)*: ", prose)]


def test_fields_are_documented_in_sections():
    """So that an API reference can be built of them (Google style; ruff checks that every Args section is whole)."""
    found = {
        f"{name}.{node.name}": fields
        for name, path in FILES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and (fields := run_on_fields(node))
    }
    assert found == {}


def test_run_on_fields_are_found():
    (node,) = ast.parse('class A:\n    """Two numbers. low: the first; high: the second."""\n\n    low: int\n    high: int').body
    assert isinstance(node, ast.ClassDef)
    assert run_on_fields(node) == ["low", "high"]
