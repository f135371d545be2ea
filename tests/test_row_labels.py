"""Rows that differ in one setting are told apart by their labels, whatever the setting is."""

from __future__ import annotations

from typing import Any

import pytest
from figure_cases import drawn
from matplotlib.axes import Axes
from messy import OLDER, steps

from nfbench.records import Accuracy, Resolved, Result, StepTime
from nfbench.settings import BY_NAME

RESOLVED: dict[str, tuple[Any, Any]] = {
    "px": (224, 192),
    "micro_batch": (32, 16),
    "precision": ("fp32", "bf16"),
    "layout": ("nhwc", "nchw"),
    "agc": (0.01, None),
    "agc_impl": ("foreach", "fused"),
    "optimizer_impl": ("foreach", "fused"),
    "tf32": (True, False),
    "standardize": (None, "nfbench"),
    "cudnn_benchmark": (True, False),
    "allocator": ("native", "cudaMallocAsync"),
    "threads": (1, 2),
    "backend": ("nccl", "gloo"),
    "nodes": (1, 2),
}
ASKED: dict[str, tuple[Any, Any]] = {
    "px": ("train", 224),
    "batch": (32, 64),
    "micro_batch": ("auto", 32),
    "precision": ("auto", "fp32"),
    "layout": ("best", "nhwc"),
    "compile": ("none", "default"),
    "optimizer": ("sgd", "recipe"),
    "agc": ("auto", 0.01),
    "agc_impl": ("auto", "foreach"),
    "norm": ("auto", "none"),
    "sam": ("none", 0.05),
    "ema": ("none", 0.999),
    "world_size": (1, 8),
    "broadcast_buffers": (True, False),
    "sam_fraction": (0.2, 0.5),
    "sam_scope": ("micro-batch", "batch"),
}
BESIDE: dict[str, dict[str, Any]] = {
    "broadcast_buffers": {"world_size": 8},
    "sam_fraction": {"sam": 0.05},
    "sam_scope": {"sam": 0.05},
}
"""What a setting needs to mean anything."""
CASES = [("resolved", field) for field in RESOLVED] + [("asked", field) for field in ASKED]


def pair(where: str, field: str, **both: Any) -> list[Result]:
    """Steps that differ in one field; ``both`` have these in `Resolved`."""
    found = []
    for value in (RESOLVED if where == "resolved" else ASKED)[field]:
        settled = {"px": 224, "micro_batch": 32, "precision": "fp32", "layout": "nhwc", "agc": 0.01} | both
        asked = {} if where == "resolved" else BESIDE.get(field, {}) | {field: value}
        settled |= {field: value} if where == "resolved" else {}
        batch = asked.pop("batch", 32)
        found.append(steps("nf-resnet50", batch, 0.1, asked=asked, resolved=Resolved(**settled)))
    return found


def labels(kind: str, results: list[Result]) -> list[str]:
    """The labels of the rows of a figure, in a figure with headers each below its own."""
    made = drawn(kind, *results)
    assert len(made.drawn) == len(results) and len(made.figures) == 1
    axes: Axes = made.figures[0][1].axes[0]
    found, head = [], ""
    for tick in axes.get_yticklabels():
        if tick.get_fontweight() == "bold":
            head = tick.get_text()
        else:
            found.append(f"{head}: {tick.get_text()}")
    return found


def test_every_setting_of_a_step_is_tried() -> None:
    assert set(RESOLVED) == set(Resolved.__struct_fields__) - {"training"}
    assert set(ASKED) == set(StepTime.__struct_fields__) - {"model"}
    # without its row a field would have no flag, no column and no words
    assert {*RESOLVED, *ASKED, *Accuracy.__struct_fields__} - {"model"} <= BY_NAME.keys()


@pytest.mark.parametrize(("where", "field"), CASES)
def test_rows_that_differ_in_one_setting_have_different_labels(where: str, field: str) -> None:
    told = labels("step-time", pair(where, field))
    assert len(set(told)) == len(told) == 2


def test_a_setting_that_follows_from_another_is_not_told() -> None:
    made = [
        steps("resnet50", 32, 0.1, resolved=Resolved(px=224, micro_batch=32, precision=p, layout="nhwc", tf32=t))
        for p, t in (("fp32", False), ("tf32", True))
    ]
    assert labels("step-time", made) == [": resnet50, fp32", ": resnet50, tf32"]


def test_what_nothing_tells_apart_is_numbered_a_long_name_that_is_cut_too() -> None:
    assert labels("step-time", pair("asked", "px")) == [": nf-resnet50", ": nf-resnet50 (2)"]
    made = [steps("n" * 300 + end + "n" * 300, 32, 0.1) for end in "ab"]
    told = labels("step-time", made)
    assert told[0] != told[1] and told[1].endswith(" (2)")


@pytest.mark.parametrize("kind", ["norm-cost", "layouts"])
def test_softwares_are_told_apart_where_all_are_shown(kind: str) -> None:
    ways = [("nchw", "group"), ("nhwc", "batch")] if kind == "norm-cost" else [("nchw", "batch"), ("nhwc", "batch")]
    some = [
        steps(
            "resnet50", 32, 0.1, resolved=Resolved(px=224, micro_batch=32, precision="fp32", layout=layout),
            asked={"layout": layout}, notes={"norm": norm}, **({"software": OLDER} if older else {}),
        )
        for layout, norm in ways
        for older in (False, True)
    ]  # fmt: skip
    made = drawn(kind, *some, everything=True)
    texts = [tick.get_text() for tick in made.figures[0][1].axes[0].get_yticklabels()]
    assert len(made.drawn) == 4 and sum("nfbench 0.0.9" in text for text in texts) == 1
    assert sum("nfbench 0.1.0" in text for text in texts) == 1
