"""The parity check with timm's benchmark.py: arguments, what the tools write, resuming, tables. Nothing is timed."""

from __future__ import annotations

import ast
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
import torch
from make import result

import nfbench
from nfbench.analysis.stats import Estimate
from nfbench.errors import NfbenchError
from nfbench.records import Resolved

sys.path.insert(0, str(Path(nfbench.__file__).parent.parent / "benchmarks"))
import against_timm  # type: ignore[import-not-found]
from bare_loop import bare_loop  # type: ignore[import-not-found]
from timm_tables import (  # type: ignore[import-not-found]
    Case,
    Differences,
    Line,
    Log,
    Settings,
    comma_separated,
    markdown,
    rows,
    within,
)

CASE = Case("resnet18", 96, 16)
SETTINGS = Settings(
    device="cpu",
    layout="nchw",
    precision="fp32",
    seconds=4.0,
    threads=2,
    machine="A CPU",
    cores=2,
    software="torch 2.15",
    timm_commit="aa4b5850",
)
TIMM = {"model": "resnet18", "train_samples_per_sec": 80.0, "train_batch_size": 16, "train_img_size": 96}


class FakeProcesses(against_timm.Processes):  # type: ignore[misc]
    """Answers like the tools: nfbench and the plain loop 100, timm 80 images/s. Process ``stop_at`` is interrupted."""

    started: ClassVar[list[list[str]]] = []
    stop_at: ClassVar[int] = 1000

    def _output(self, words: Sequence[str]) -> str:
        if len(self.started) == self.stop_at:
            raise KeyboardInterrupt
        self.started.append(list(words))
        net = words[words.index("--model") + 1].removeprefix("timm:") if "--model" in words else words[1]
        batch = int(words[words.index("--batch-size" if "--batch-size" in words else "--batch") + 1])
        if words[:2] == ["-m", "nfbench"]:
            threads = Resolved(px=96, micro_batch=8, precision="fp32", layout="nchw", threads=2)
            line = msgspec.json.encode(result(f"timm:{net}", (batch / 100,) * 20, resolved=threads))
            Path(words[words.index("--out") + 1]).write_bytes(line + b"\n")
        elif words[0] == "-P":
            px = int(words[words.index("--img-size") + 1])
            figures = {**TIMM, "model": net, "train_batch_size": batch, "train_img_size": px}
            Path(words[words.index("--results-file") + 1]).write_text(json.dumps(figures))
        elif words[0].endswith("bare_loop.py"):
            return json.dumps({"net": net, "steps": 40, "step_time": batch / 100, "threads": 2})
        else:
            return json.dumps({"net": net, "step_time": 0.08, "longer": {"optimizer": 0.02}})
        return ""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a checkout, with tools that answer at once on a machine with nothing else to do."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "benchmark.py").write_text("class TrainBenchmarkRunner: ...\n")
    monkeypatch.setattr(against_timm, "Processes", FakeProcesses)
    monkeypatch.setattr(against_timm, "_others", lambda before, after: 0.01)
    monkeypatch.setattr(FakeProcesses, "started", [])
    return folder


def run(checkout: Path, *words: str) -> None:
    against_timm.main([str(checkout), "--threads", "2", "--out", str(checkout.parent / "out"), *words])


def line(tool: str, images_per_s: float, number: int = 0, others: float = 0.0, **fields: Any) -> Line:
    given = {"net": "resnet18", "px": 96, "batch": 16, "steps": 3, "seconds": 9.0, "load": 0.1} | fields
    times = (16 / images_per_s,) * 3 if tool == "nfbench" else ()
    return Line(tool=tool, round=number, images_per_s=images_per_s, others=others, step_times=times, **given)


def log_of(folder: Path, *lines: Line | Differences) -> Log:
    log = Log(folder / "timm.ndjson", SETTINGS)
    for entry in lines:
        log.append(entry)
    return log


def a_round(number: int, timm: float, others: float = 0.0) -> list[Line]:
    """nfbench and the plain loop at 100 images/s."""
    figures = {"bare loop": 100.0, "nfbench": 100.0, "timm": timm}
    return [line(tool, figure, number, others) for tool, figure in figures.items()]


def four_rounds(timm: float, others: float = 0.0) -> list[Line]:
    return [entry for number in range(4) for entry in a_round(number, timm, others)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "wrote no result"),
        (json.dumps({"model": "resnet18", "error": "out of memory"}), "out of memory"),
        (json.dumps({**TIMM, "train_batch_size": 4}), "were 4 and 96 in place of 16 and 96"),
        (json.dumps({**TIMM, "train_img_size": 224}), "were 16 and 224 in place of 16 and 96"),
    ],
)
def test_a_result_of_something_else_is_refused(text: str, message: str) -> None:
    with pytest.raises(NfbenchError, match=message):
        against_timm.images_per_s_of(text, CASE)


def test_the_tools_take_turns_and_get_the_same_settings(checkout: Path) -> None:
    run(checkout, "--only", "resnet18", "--layout", "nhwc", "--rounds", "4")
    tools = [{"-m": "nfbench", "-P": "timm"}.get(words[0], Path(words[0]).stem) for words in FakeProcesses.started]
    one, other = ["bare_loop", "nfbench", "timm"], ["timm", "nfbench", "bare_loop"]
    assert tools == [*one, "timm_differences", *other, *one, *other]
    bare, ours, theirs = (" ".join(words) for words in FakeProcesses.started[:3])
    assert "--px 96 --batch 16 --layout nhwc --precision fp32 --device cpu" in bare
    assert "--px 96 --batch 16 --layout nhwc --precision fp32 --device cpu" in ours
    assert "--micro-batch 16 --agc none --optimizer sgd --compile none" in ours
    assert "--img-size 96 --batch-size 16" in theirs
    assert "--channels-last" in theirs and "--no-retry" in theirs and "--amp" not in theirs
    # 4 s at 100 images/s in batches of 16
    assert "--num-bench-iter 25" in theirs


def test_the_same_command_goes_on_where_it_was_stopped(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--only", "resnet18", "--only", "nf_resnet26", "--rounds", "2"]
    monkeypatch.setattr(FakeProcesses, "stop_at", 6)
    with pytest.raises(KeyboardInterrupt):
        run(checkout, *words)
    file = checkout.parent / "out" / "timm.ndjson"
    assert len(file.read_text().splitlines()) == 1 + 6
    with file.open("a") as torn:
        torn.write('{"net":"resnet18","px"')
    monkeypatch.setattr(FakeProcesses, "stop_at", 1000)
    run(checkout, *words)
    figures = [json.loads(text) for text in file.read_text().splitlines()[1:]]
    assert len(FakeProcesses.started) == len(figures) == 2 * (2 * 3 + 1)
    keys = [(entry["net"], entry.get("round"), entry.get("tool")) for entry in figures]
    assert len(set(keys)) == len(keys)
    run(checkout, *words)
    assert len(FakeProcesses.started) == len(figures)


def test_figures_of_other_software_are_not_mixed_in(tmp_path: Path) -> None:
    log_of(tmp_path, *a_round(0, 100.0))
    with pytest.raises(NfbenchError, match=r"software: torch 2\.15, now torch 2\.16") as error:
        Log(tmp_path / "timm.ndjson", msgspec.structs.replace(SETTINGS, software="torch 2.16"))
    assert "--out" in str(error.value)


def test_the_ratio_is_paired_by_round_and_has_an_interval_from_four_rounds_on(tmp_path: Path) -> None:
    lines = [entry for number, timm in enumerate((98.0, 102.0, 100.0)) for entry in a_round(number, timm)]
    log = log_of(tmp_path, *lines)
    timm, bare = rows(log, [CASE])
    assert (timm.against, bare.against) == ("timm", "bare loop")
    assert timm.ratio.low is None and within(timm.ratio) == "4 rounds are needed"
    for entry in a_round(3, 100.0):
        log.append(entry)
    timm, bare = rows(log, [CASE])
    assert bare.ratio == Estimate(1.0, 1.0, 1.0)
    assert timm.ratio.value == pytest.approx(1.0, abs=1e-3)
    # t of 3 degrees of freedom, 3.182, times the standard error of the logarithms
    assert timm.ratio.high == pytest.approx(1.0264, abs=1e-3)
    assert within(timm.ratio) == "yes"


def test_a_round_is_counted_only_whole_and_undisturbed_and_measured_differences_are_taken_out(tmp_path: Path) -> None:
    disturbed = [*a_round(4, 10.0)[:2], line("timm", 10.0, 4, others=0.21)]
    parts = {"optimizer": 0.022, "label smoothing": -0.002}
    differences = Differences(net="resnet18", step_time=0.08, longer=parts)
    log = log_of(tmp_path, *four_rounds(80.0), *disturbed, *a_round(5, 10.0)[:2], differences)
    timm, bare = rows(log, [CASE])
    assert (timm.rounds, timm.left_out) == (4, 1)
    assert timm.ratio.value == pytest.approx(1.25) and within(timm.ratio) == "no"
    assert timm.expected == pytest.approx(1.25) and bare.expected == 1.0
    assert timm.explained.value == pytest.approx(1.0) and within(timm.explained) == "yes"


def test_the_tables_show_ratio_interval_machine_and_differences_and_no_path(tmp_path: Path) -> None:
    differences = Differences(net="resnet18", step_time=0.08, longer={"optimizer": 0.02})
    log = log_of(tmp_path, *four_rounds(80.0, others=0.07), differences)
    found = list(rows(log, [CASE]))
    page = markdown(log, found, 4)
    assert "| resnet18 | 96 | 16 | 4 | 100.00 | 80.00 | 1.250 (1.250 to 1.250) | no | 1.250 | 1.000" in page
    assert "| resnet18 | 80.0 | +25.0% | +25.0% |" in page
    assert "A CPU, 2 cores, threads: 2; torch 2.15; benchmark.py of timm's commit aa4b5850" in page
    assert "| 7% | 0.10 | 0 |" in page
    assert str(tmp_path) not in page
    table = list(csv.DictReader(comma_separated(log, found).splitlines()))
    assert [(row["net"], row["against"], row["ratio"], row["within"]) for row in table] == [
        ("resnet18", "timm", "1.25", "no"),
        ("resnet18", "bare loop", "1", "yes"),
    ]
    assert table[0]["explained_within"] == "yes" and table[0]["others_cpu_most"] == "0.07"


def test_the_bare_loop_imports_nothing_of_nfbench_and_trains() -> None:
    tree = ast.parse(Path(bare_loop.__code__.co_filename).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not [name for name in imported if name.startswith("nfbench")]
    assert bare_loop("test_resnet", 32, 2, None, torch.channels_last)(1) > 0
    assert bare_loop("test_nfnet", 32, 2, 0.01, torch.contiguous_format, precision="bf16")(1) > 0
