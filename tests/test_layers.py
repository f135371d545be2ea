"""A layer imports only from layers above it; only nets, devices and training runs know torch, timm and pynvml."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import nfbench

PACKAGE = Path(nfbench.__file__).parent
LAYERS = (
    ("errors", "units", "records"),
    ("catalog",),
    ("analysis",),
    ("nets", "devices"),
    ("measuring", "learning", "studies"),
    ("showing",),
    ("options", "commands", "cli", "__main__"),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
HEAVY = {"torch", "timm", "torchvision", "pynvml"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def names() -> list[str]:
    return [str(path.relative_to(PACKAGE)) for path in MODULES]


@pytest.mark.parametrize("path", MODULES, ids=names())
def test_a_layer_imports_only_from_layers_above_it(path: Path) -> None:
    own = RANK.get(part(path), -1)
    for name in imports(path):
        pieces = name.split(".")
        if pieces[0] == "nfbench" and len(pieces) > 1 and pieces[1] in RANK and own >= 0:
            assert RANK[pieces[1]] <= own, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=names())
def test_torch_stays_with_nets_machine_and_training(path: Path) -> None:
    if part(path) not in ("nets", "devices", "learning"):
        assert not {name.split(".")[0] for name in imports(path)} & HEAVY


def test_every_part_of_the_package_has_a_layer() -> None:
    assert {part(path) for path in MODULES} - {"__init__"} == set(RANK)
