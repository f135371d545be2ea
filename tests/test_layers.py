"""A module imports only from its own layer and those below; only nets, devices and learning know torch and its kin."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import nfbench

PACKAGE = Path(nfbench.__file__).parent
LAYERS = (
    ("errors", "units", "privacy", "records", "settings"),
    ("catalog",),
    ("analysis",),
    ("nets", "devices"),
    ("measuring", "learning", "studies"),
    ("showing",),
    ("options", "commands", "cli", "__main__"),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
HEAVY = {"torch", "timm", "torchvision", "pynvml"}
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def part(module: str) -> str:
    """The folder of a module, or the module itself where it stands in none; empty for the package."""
    return module.removeprefix("nfbench").lstrip(".").partition(".")[0]


@cache
def statements(module: str) -> list[ast.AST]:
    kinds = (ast.If, ast.Import, ast.ImportFrom)
    return [n for n in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))) if isinstance(n, kinds)]


def imports(module: str, for_types: bool) -> set[str]:
    """What a module imports, inside functions too, with what it imports ``for_types`` alone or without."""
    nodes = statements(module)
    if not for_types:
        blocks = [n for n in nodes if isinstance(n, ast.If) and getattr(n.test, "id", "") == "TYPE_CHECKING"]
        left_out = {id(inner) for block in blocks for inner in ast.walk(block)}
        nodes = [n for n in nodes if id(n) not in left_out]
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys()
            names |= inner if len(inner) == len(node.names) else {node.module, *inner}
    return names


def test_every_module_imports_only_downward_and_in_no_circle_not_even_inside_functions() -> None:
    assert {part(module) for module in MODULES} - {""} == set(RANK)
    upward = [
        f"{module} imports {other}"
        for module in MODULES.keys() - {"nfbench"}
        for other in imports(module, for_types=True) & MODULES.keys() - {"nfbench"}
        if RANK[part(other)] > RANK[part(module)]
    ]
    assert upward == []
    # a circle raises an error that names its modules
    running = {module: (imports(module, for_types=False) & MODULES.keys()) - {module} for module in MODULES}
    TopologicalSorter(running).prepare()


def test_torch_and_its_kin_stay_with_nets_devices_and_learning() -> None:
    elsewhere = {module for module in MODULES if part(module) not in ("", "nets", "devices", "learning")}
    assert {m for m in elsewhere if {name.partition(".")[0] for name in imports(m, for_types=True)} & HEAVY} == set()
