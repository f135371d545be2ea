"""What stands around a report's tables and figures: answers, legends, captions, and where figures go."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from make import CPU, H200, accuracy, once, reading, result
from report_cases import keep, trained, turns

from nfbench.analysis import claims
from nfbench.analysis.claims import Verdict
from nfbench.records import AgcCost, Dependence, Machine, Result, StepTime
from nfbench.showing import answers, counted, report_build, report_render, report_sources, report_write
from nfbench.showing import claims as show_claims
from nfbench.showing.report import Report, Study
from nfbench.showing.study import shown
from nfbench.showing.views import texts

FREE = turns("nf-resnet26", "resnet26", 0.8)


def built(*results: Result, path: str = "data/runs.jsonl") -> Report:
    return report_build.build(report_sources.read([keep(path, list(results))]))


def study(*results: Result, path: str = "data/runs.jsonl") -> Study:
    (found,) = built(*results, path=path).parts[0].studies
    return found


# answers


def clip(impl: Any, turn: int, time: float, clipped: float = 0.0) -> Result:
    readings = (reading("clip", "s", "step", "test", [time]),)
    workload = AgcCost(model="nfnet-f0", impl=impl, clipped=clipped)
    return result(workload=workload, session="s", turn=turn, readings=readings)


COST = [
    *(clip("timm", turn, 0.03 + 0.001 * turn, share) for turn in range(4) for share in (0.0, 0.5, 1.0)),
    *(clip("reference", turn, 0.1, share) for turn in range(4) for share in (0.0, 0.5, 1.0)),
    *(clip("foreach", turn, 0.01 * (1 + share), share) for turn in range(4) for share in (0.0, 0.5, 1.0)),
]


def clipping(batch: int, impl: Any, share: float) -> Result:
    """A step of 0.1 s of which the clip takes a ``share``."""
    found = result("nfnet-f0", workload=StepTime(model="nfnet-f0", batch=batch, agc_impl=impl))
    assert found.resolved is not None
    phases = (*found.readings, reading("clip", "s", "step", "test", [0.1 * share] * 20))
    resolved = type(found.resolved)(px=192, micro_batch=batch, precision="fp32", layout="nhwc", agc=0.01, agc_impl=impl)
    return result("nfnet-f0", workload=found.workload, readings=phases, resolved=resolved)


def test_the_cost_of_agc_is_its_share_of_a_step_and_how_long_timms_loop_takes() -> None:
    steps = [clipping(1, "foreach", 0.04), clipping(4, "foreach", 0.015), clipping(1, "timm", 0.13)]
    (sentence,) = study(*COST, *steps, path="agc-cost/a.jsonl").sentences
    assert sentence.startswith(
        "On A CPU: the clip by foreach is 4.0 % of nfnet-f0's step at batch 1 and 1.5 % at batch 4. timm's loop takes "
    )
    assert re.search(
        r"takes 3\.\d+ times as long on nfnet-f0 with 0 % of the units over their limit, 1\.\d+ with 100 %\. "
        r"This is a CPU: it says nothing about a GPU\.$",
        sentence,
    )
    assert answers.sentences("mine", shown([*COST, *steps])) == [sentence]


def over_batches(model: str, batch: int, tops: tuple[float, ...], machine: Machine = CPU) -> list[Result]:
    return [
        accuracy(model, (0.3, top), seed, machine=machine, run={"batch": batch}, agc=0.01)
        for seed, top in enumerate(tops)
    ]


def test_over_batches_the_smallest_is_set_against_the_largest_with_intervals() -> None:
    runs = [
        *over_batches("tiny-resnet", 4, (0.40, 0.41, 0.42)),
        *over_batches("tiny-resnet", 8, (0.10, 0.11, 0.12)),
        *over_batches("tiny-resnet", 32, (0.80, 0.81, 0.82)),
        *over_batches("tiny-nfnet", 4, (0.80, 0.81, 0.85)),
        *over_batches("tiny-nfnet", 32, (0.79, 0.82, 0.84)),
    ]
    said = study(*runs, path="small-batch/a.jsonl").sentences[0]
    assert said.startswith("On A CPU: top-1 on digits of ")
    assert "tiny-resnet: 41 ± 2 % at batch 4 and 81 ± 2 % at 32, which is higher" in said.replace(".0 ", " ")
    assert re.search(r"tiny-nfnet: 82 ± \d+ % at batch 4 and 82 ± \d+ % at 32, not told apart", said)
    assert answers.sentences("small-batch", shown(runs))[0] == said
    # a threshold's sweep has an answer of its own
    limits = [accuracy("tiny-nfnet", run={"batch": b, "agc": a}, agc=a) for b in (4, 8) for a in (0.01, 0.02, 0.04)]
    assert not [line for line in answers.sentences("mine", shown(limits)) if "top-1 on" in line]


def test_what_diverged_is_said_beside_the_top1_that_it_is_not_in() -> None:
    gone = accuracy(
        "tiny-nfnet", (0.1,), 5, status="diverged", run={"batch": 4, "epochs": 2}, more=(once("diverged_at", 9.0),)
    )
    runs = [*over_batches("tiny-nfnet", 4, (0.8, 0.9)), gone, *over_batches("tiny-nfnet", 8, (0.8, 0.9))]
    said = answers.sentences("mine", shown(runs))[0]
    assert re.search(r"tiny-nfnet: \d+ ± \d+ % \(1 of 3 diverged\) at batch 4 and \d+ ± \d+ % at 8", said)


def test_the_claims_own_study_answers_with_the_summary() -> None:
    report = built(*turns("nfnet-f1", "efficientnet-b7", 5.0, study="claims"), path="claims/a.jsonl")
    (part,) = report.parts
    assert part.studies[0].sentences == (part.judged[0].summary,)


def test_each_verdict_of_a_summary_is_said_in_full() -> None:
    def summary(*outcomes: Any) -> str:
        claim = claims.judge([])[0].claim
        return show_claims.summary([Verdict(claim, outcome, machine=H200) for outcome in outcomes])

    assert summary(*["agrees here"] * 2, "disagrees here") == "On NVIDIA H200: 2 agree here, 1 disagrees here."
    assert summary("does not hold", "not run") == "On NVIDIA H200: 1 does not hold, 1 not run."
    assert summary(*["does not hold"] * 2) == "On NVIDIA H200: 2 do not hold."
    assert summary("holds", "does not hold") == "On NVIDIA H200: 1 holds, 1 does not hold."


# legends


def test_a_legend_says_what_each_interval_is_over() -> None:
    once_ = study(result("resnet50", (0.1, 0.11, 0.12, 0.1) * 5)).legend
    assert "± of a step time: half of its 95 % interval, as a share of it, within this run (runs differ by more," in (
        " ".join(once_)
    )
    rounds = [
        result("resnet50", (0.1 + 0.01 * r,) * 20, round=r, session="s", start=f"2026-01-01T00:00:0{r}.000Z")
        for r in range(4)
    ]
    assert "as a share of it, over rounds of fresh processes." in " ".join(study(*rounds, path="b/a.jsonl").legend)
    assert (
        "± of a top-1: half of the 95 % interval over seeds, Student's t." in study(*trained(), path="c/a.jsonl").legend
    )
    ratios = " ".join(study(*FREE, path="d/a.jsonl").legend)
    assert (
        "times as fast: the baseline's step over the net's, paired round by round; ± is half of the 95 % interval over "
        "rounds of fresh processes."
    ) in ratios
    few = " ".join(study(*(r for r in FREE if r.round < 3), path="f/a.jsonl").legend)
    assert "the baseline's step over the net's, paired round by round." in few and "± is half" not in few
    assert study(result(status="error", readings=()), path="e/a.jsonl").legend == (
        "–: absent or could not be read, never 0.",
    )


def test_a_legend_is_that_of_the_columns_that_there_are() -> None:
    clips = " ".join(study(*COST, path="agc-cost/a.jsonl").legend)
    assert "± is half of the 95 % interval over turns, within this run; a ratio of one process has none." in clips
    assert not [word for word in ("step time", "top-1", "composed", "reported") if word in clips]
    assert "composed" in " ".join(study(result(composed=True), path="b/a.jsonl").legend)
    best = " ".join(study(*trained(), path="c/a.jsonl").legend)
    assert "best: the best epoch's" in best and "step time" not in best


# the words of a dependence


def dependent(**fields: Any) -> Result:
    readings = tuple(once(name, 0.5) for name in ("output_rest_changed", "share_rest_changed_no_agc", "mine_own"))
    return result(workload=Dependence(model="resnet50"), readings=readings, **fields)


def test_a_dependence_is_told_in_words() -> None:
    seen = shown([dependent()])
    for text in (texts(seen.kinds, "md")["counted"], texts(seen.kinds, "rich")["counted"]):
        assert "output of an image: the rest of its batch changed" in text
        assert "its share of the update without AGC: the rest changed" in text
        assert "mine own" in text and "status" not in text
    assert counted.CHANGES in study(dependent()).legend
    assert "output_rest_changed" in texts(seen.kinds, "csv")["counted"]
    assert "| status | out_of_memory |" in texts(shown([dependent(status="out_of_memory")]).kinds, "md")["counted"]


# captions


def captions(report: Report) -> dict[str, str]:
    return {picture.kind: picture.caption for picture in report.pictures}


# where figures go


def linked(path: str) -> set[str]:
    """The figures that a report in Markdown shows, from its folder."""
    return set(re.findall(r"!\[.*\]\((.*)\)", Path(path).read_text(encoding="utf-8")))


def test_two_reports_in_one_folder_keep_their_own_figures(cli: Cli) -> None:
    keep("one/a.jsonl", [result("resnet50", (0.1,) * 20)])
    keep("other/a.jsonl", [result("nfnet-f0", (0.9,) * 20)])
    assert cli("report", "one", "-o", "fk.md").exit_code == 0
    before = {name: Path(name).read_bytes() for name in linked("fk.md")}
    done = cli("report", "other", "-o", "st.md")
    assert before and all(name.startswith("fk-figures/") for name in before)
    assert {name: Path(name).read_bytes() for name in before} == before
    assert linked("st.md") and all(name.startswith("st-figures/") for name in linked("st.md"))
    assert done.stderr.startswith(f"With {len(linked('st.md'))} figures in st-figures.\n")
    assert not any(path.is_dir() for folder in ("one", "other") for path in Path(folder).iterdir())


@pytest.mark.parametrize(
    ("file", "out", "inside"),
    [
        ("h/quick/a.jsonl", "h/README.md", True),
        ("h/quick/a.jsonl", "h/mine.md", False),
        ("h/quick/a.jsonl", "README.md", False),
        ("h/a.jsonl", "h/README.md", False),
        ("o/quick/a.jsonl", "h/README.md", False),
    ],
)
def test_only_the_page_of_a_device_has_figures_in_its_studies(file: str, out: str, inside: bool) -> None:
    report = built(*FREE, path=file)
    figures = report_write.markdown(report, Path(out)).figures
    assert any(name.startswith("quick/figures/") for name in figures) == inside
    assert inside or all(name.startswith(f"{Path(out).stem}-figures/") for name in figures)


# several devices


def test_the_page_of_several_devices_leads_to_each_and_to_its_studies() -> None:
    report = built(*FREE, *turns("nfnet-f1", "efficientnet-b7", 2.0, machine=CPU))
    text = report_render.page(report, Path())
    (nav,) = re.findall(r"<nav.*?</nav>", text, re.DOTALL)
    assert text.index(nav) < text.index("<main")
    wanted = [part.anchor for part in report.parts] + [s.anchor for part in report.parts for s in part.studies]
    targets = re.findall(r'href="#([^"]*)"', nav)
    assert sorted(targets) == sorted(wanted) and len(targets) == 4
    for part in report.parts:
        assert part.title in nav
    assert all(f'id="{target}"' in text for target in targets)


# sweeps


def swept(*models: str) -> Study:
    clips = (0.01, 0.02)
    return study(
        *(
            accuracy(m, (0.5, top + 0.01 * i), agc=agc, run={"agc": agc, "batch": batch})
            for m, top in zip(models, (0.7, 0.8), strict=False)
            for i, agc in enumerate(clips)
            for batch in (64, 256)
        )
    )


def test_what_stands_in_the_table_of_thresholds_has_no_second_table_by_batch() -> None:
    found = swept("tiny-nfnet", "tiny-nf-resnet")
    titles = [table.title for table in found.tables if "batch" in table.name or "agc" in table.name]
    assert titles == [
        "tiny-nf-resnet on digits: top-1, λ by batch",
        "tiny-nfnet on digits: top-1, λ by batch",
    ]
    assert [head.title for head in found.tables[-1].heads] == ["λ", "batch 64", "batch 256"]


def test_a_sweep_of_batches_alone_keeps_its_table() -> None:
    found = study(*(accuracy("tiny-resnet", agc=None, run={"batch": batch}) for batch in (64, 256)))
    (table,) = [table for table in found.tables if table.name == "batch-sweep"]
    assert (table.title, [head.title for head in table.heads]) == (
        "digits: top-1, by batch",
        ["net", "batch 64", "batch 256"],
    )


def test_thresholds_at_one_batch_stand_in_the_table_of_training_alone() -> None:
    found = study(*(accuracy("tiny-nfnet", agc=agc, run={"agc": agc}) for agc in (0.01, 0.02)))
    assert [table.name for table in found.tables] == ["accuracy"]
    (trained_,) = found.tables
    at = [head.title for head in trained_.heads].index("agc λ")
    assert [row[at].text for row in trained_.rows] == ["0.01", "0.02"]


def test_the_best_of_one_net_is_said_once() -> None:
    said = [line for line in swept("tiny-nfnet").sentences if "highest" in line.lower()]
    assert len(said) == 1 and said[0].startswith("tiny-nfnet on digits: ") and "71.00 %" in said[0]
    several = [line for line in swept("tiny-nfnet", "tiny-resnet").sentences if "highest" in line.lower()]
    assert len(several) == 3 and several[0].startswith("Highest (one seed) on digits: tiny-resnet")


def test_a_clip_timed_in_steps_of_several_batches_repeats_no_step_time_by_batch() -> None:
    steps = [result("nfnet-f0", workload=StepTime(model="nfnet-f0", batch=b)) for b in (1, 4)]
    found = study(*COST, *steps, path="data/agc-cost/a.jsonl")
    assert {"steps", "clips"} <= {table.name for table in found.tables}
    assert not [table for table in found.tables if table.name == "batch-sweep"]


def test_that_a_machine_is_no_gpu_is_said_of_the_device_and_not_again_of_each_study() -> None:
    (part,) = built(result()).parts
    assert part.machines[0].endswith("This is no GPU: it says nothing about one")
    assert part.studies[0].machines == ("A CPU, 16 GiB, 2 cores",)
