from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure
from sweep_cases import run

from nfbench.analysis import accuracy
from nfbench.showing import plots
from nfbench.showing.file_names import distinct, endings
from nfbench.showing.kinds import Drawing, Held


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ([("m", "digits", "2 epochs")], [""]),
        ([("m", "a.b", "1"), ("m", "a-b", "1")], ["a-b", "a-b-2"]),
        # each machine has names of its own
        ([("m", "a"), ("n", "a")], ["", ""]),
        ([("m", "a", "1"), ("m", "a", "2"), ("m", "b", "3")], ["a-1", "a-2", "b"]),
        # a name that looks like another's number
        ([("m", "a.b"), ("m", "a b 2"), ("m", "a-b")], ["a-b", "a-b-2", "a-b-3"]),
        ([("m", "x" * 300), ("m", "x" * 301)], ["x" * 60, "x" * 60 + "-2"]),
    ],
)
def test_an_ending_has_what_tells_a_figure_from_others_and_no_two_are_the_same(
    keys: list[tuple[str, ...]], wanted: list[str]
) -> None:
    assert endings(keys) == wanted


def test_a_number_never_makes_a_name_that_is_there_already() -> None:
    assert distinct(["a", "a", "a-2", "a-2"]) == ["a", "a-2", "a-2-2", "a-2-3"]


@pytest.mark.parametrize("kind", ["batch-accuracy", "agc-lines", "agc-heatmap", "accuracy-vs-flops", "training-curves"])
def test_data_sets_whose_names_are_one_in_a_file_name_have_a_figure_each(kind: str) -> None:
    some = [
        run(batch=batch, agc=clip, dataset=f"imagefolder:{name}")
        for batch in (32, 64)
        for clip in (0.01, 0.04)
        for name in ("a.b", "a-b")
    ]
    drawn = plots.draw(Held((), some, accuracy.rows(some)[0]), Path("f"), [kind], ["svg"])
    assert [path.name for path in drawn.files] == [f"{kind}-imagefolder-a-b.svg", f"{kind}-imagefolder-a-b-2.svg"]


def test_a_machine_whose_name_ends_as_a_kind_begins_takes_no_other_ones_file() -> None:
    made = {"batch-step-time": Drawing([("a", Figure())]), "step-time": Drawing([("a batch", Figure())])}
    assert [name for *_, name in plots.named(Held(), made)] == ["a-batch-step-time", "a-batch-step-time-2"]
