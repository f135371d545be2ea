"""What a report holds, in both of its looks; that results from anybody can neither break it nor run in it."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections import Counter
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import Cli
from make import CPU, FAKE, H200, HOSTILE, SOFTWARE, accuracy, keep, reading, result, step_times, trained, turns

from nfbench.analysis.store import load
from nfbench.privacy import typed
from nfbench.records import AgcCost, Machine, Result, Sampling, StepTime
from nfbench.showing import answers, claim_tables, report
from nfbench.showing.report import Report, Study
from nfbench.showing.shown_rows import shown
from nfbench.showing.tables import Laid

F1_B7 = turns("nfnet-f1", "efficientnet-b7", 5.0)
FREE = turns("nf-resnet26", "resnet26", 0.8)


def built(*results: Result, path: str = "data/runs.jsonl", figures: bool = False) -> Report:
    """The report on ``results``, kept at ``path``; ``figures`` take most of the time and are drawn where asked for."""
    with pytest.MonkeyPatch.context() as patch:
        if not figures:
            patch.setattr(report, "_draw", lambda *_: ({}, [], Counter()))
        return report.build([keep(path, results)])


def study_of(*results: Result, path: str = "data/runs.jsonl", figures: bool = False) -> Study:
    (study,) = built(*results, path=path, figures=figures).parts[0].studies
    return study


def markdown(made: Report, path: str = "r.md") -> str:
    return report.markdown(made, Path(path))[0]


def page(made: Report) -> str:
    return report.page(made, Path())


def texts(table: Laid) -> list[dict[str, str]]:
    """The cells of each row, by the title of their column."""
    return [{c.title: c.text(row) for c in table.columns} for row in table.rows]


def flat(text: str) -> str:
    return " ".join(text.split())


def words_of_page(text: str) -> str:
    body = re.sub(r"<(style|script)>.*?</\1>", " ", text, flags=re.DOTALL)
    return flat(html.unescape(re.sub(r"<[^>]*>", " ", body)))


def words_of_markdown(text: str) -> str:
    """What Markdown says, nothing in it escaped."""
    return flat(html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)))


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# the answer


def asked(results: Sequence[Result], **settings: Any) -> list[Result]:
    """``results`` with settings of their step."""
    return [msgspec.structs.replace(r, workload=msgspec.structs.replace(r.step, **settings)) for r in results]


def answer(*results: Result) -> str:
    return answers.answer(shown(results))


TWIN = turns("bn-nfnet-f0", "nfnet-f0", 0.5)
TINY = turns("tiny-nfnet", "tiny-resnet", 2.0, px=32)
CLEAR = turns("nf-resnet50", "resnet50", 0.8)
WILD = turns("nfnet-f1", "efficientnet-b7", 0.85, spread=0.12)
OPEN = turns("nf-resnet26", "resnet26", 0.85, spread=0.12)
"""Rounds that differ so much that the interval reaches far over 1."""
MORE_OPEN = [*OPEN, *(msgspec.structs.replace(r, round=r.round + 4) for r in OPEN)]
UNEVEN = [*asked(F1_B7[::2], batch=8), *F1_B7[1::2]]


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        # the paper's own pair first, then what the paper reports of, then full size
        ([*FREE, *TWIN, *F1_B7], "On NVIDIA H200, bf16: NFNet-F1 is "),
        ([*FREE, *TWIN], "On NVIDIA H200, bf16: BN-NFNet-F0 is .* times as fast as NFNet-F0 "),
        ([*TINY, *FREE], "On NVIDIA H200, bf16: NF-ResNet26 is "),
        # one that is clear of 1 before one of more turns, which it is only with an interval
        ([*MORE_OPEN, *CLEAR], "On NVIDIA H200, bf16: NF-ResNet50 is "),
        ([*MORE_OPEN, *(r for r in CLEAR if r.round < 3)], "On .* cannot tell whether NF-ResNet26 is faster than "),
        # sides that share their batch and their ranks, others where there are none
        ([*UNEVEN, *FREE], "On NVIDIA H200, bf16: NF-ResNet26 is "),
        ([*asked(F1_B7[::2], world_size=8), *F1_B7[1::2], *FREE], "On NVIDIA H200, bf16: NF-ResNet26 is "),
        (UNEVEN, "On NVIDIA H200, bf16: a step of NFNet-F1 is .* as one of EfficientNet-B7 "),
        # no ratio that says it: two BN nets, training runs, noise, the fake device
        (turns("resnet26", "resnet50", 2.0), r"On NVIDIA H200: resnet26 takes .* of 32 images, .*; resnet50 takes "),
        (trained(), r"On A CPU: on digits no other net is as accurate with as few MACs as tiny-nfnet \("),
        ([result(), result("resnet26", (0.1,))], r"On A CPU: resnet50 takes 100.0 ms .* images, 320.0 images/s\. This"),
        (turns("nfnet-f1", "efficientnet-b7", 5.0, machine=FAKE), "These are figures of the fake device, which times "),
        # an interval that reaches over 1 names neither net as the faster one
        (WILD, r"On .* cannot tell whether NFNet-F1 is faster than EfficientNet-B7: 1\.0 ± 0\.2 times as fast \(both"),
        (turns("nf-resnet26", "resnet26", 0.99), r"On .* NF-ResNet26 and ResNet26 are about equally fast: 1\.0"),
        # a threshold that is not a net's own is named though both sides have it
        (asked(F1_B7, agc="none"), r".* NFNet-F1 with λ none is [\d.]+ ± [\d.]+ times as fast as EfficientNet-B7 "),
        (asked(F1_B7, agc=0.08), ".* NFNet-F1 with λ 0.08 is .* as EfficientNet-B7 with λ 0.08 .*, with its clip"),
        (asked(F1_B7, agc=0.01), ".* NFNet-F1 is .* times as fast as EfficientNet-B7 with λ 0.01 "),
    ],
)  # fmt: skip
def test_the_answer_is_the_ratio_that_says_most_else_what_there_is(results: list[Result], expected: str) -> None:
    assert re.match(expected, answer(*results))


def test_the_answer_gives_the_interval_and_apart_what_the_paper_says_and_of_no_gpu_that_it_is_none() -> None:
    measured, paper = answer(*F1_B7).split("; the paper says ")
    assert re.search(r"NFNet-F1 is 5\.\d+ ± 0\.\d+ times as fast as EfficientNet-B7 \(both 224 px", measured)
    assert measured.endswith("(both 224 px, nhwc, batch 32)")
    assert paper == (
        "8.81 on TPUv3, 13.1 on V100, 8.70 in its text, at batch 32 per device and the px that each net trains at."
    )
    # its batch is that of each device
    px = {"nfnet-f1": 224, "efficientnet-b7": 600}
    ranks = [
        msgspec.structs.replace(r, resolved=msgspec.structs.replace(r.resolved, px=px[r.step.model]))
        for r in asked(F1_B7, batch=256, world_size=8, px="train")
        if r.resolved is not None
    ]
    assert answer(*ranks).endswith("8.70 in its text.")
    cpu = answer(*turns("nf-resnet26", "resnet26", 0.8, machine=CPU))
    assert cpu.endswith("This is a CPU: it says nothing about a GPU.")
    few = answer(*(r for r in F1_B7 if r.round < 3))
    assert re.search(r"NFNet-F1 is 5\.\d+ times as fast as EfficientNet-B7 \(both", few)
    assert "; 4 rounds are needed for an interval: --rounds 4)" in few and "±" not in few


def test_of_one_pair_its_own_clip_and_the_newest_software_go_before_more_turns() -> None:
    own = [msgspec.structs.replace(r, session="own") for r in turns("nfnet-f1", "efficientnet-b7", 3.0)[:4]]
    ratio = answers.headline(shown([*asked(F1_B7, agc="none"), *own]).measured)
    assert ratio is not None and ratio.net.step.agc == "auto"
    older = msgspec.structs.replace(SOFTWARE, torch="2.7.0")
    many = turns("nfnet-f1", "efficientnet-b7", 3.0, software=older, session="old")
    new = [msgspec.structs.replace(r, start=f"2026-02-{r.start[8:]}") for r in F1_B7 if r.round < 2]
    ratio = answers.headline(shown([*many, *new], everything=True).measured)
    assert ratio is not None and (ratio.turns, ratio.net.software) == (2, SOFTWARE)


def test_what_is_doubtful_about_a_ratio_stands_under_the_answer_and_among_the_findings() -> None:
    made = built(*WILD)
    (part,) = made.parts
    (doubt,) = part.doubts
    assert doubt.startswith("nfnet-f1 against efficientnet-b7: 4 rounds gave ")
    assert doubt.endswith("wanted were ± 1.0 %. Take --rounds 8, or a quieter machine.")
    assert doubt in part.studies[0].findings
    for words in (words_of_page(page(made)), words_of_markdown(markdown(made))):
        assert f"Doubtful: {doubt}" in words
    assert built(*turns("nfnet-f1", "efficientnet-b7", 5.0, sampling=Sampling(within=0.5))).parts[0].doubts == []


# the claims


def test_claims_stand_with_their_verdicts_and_what_is_reported() -> None:
    made = built(*turns("nfnet-f1", "efficientnet-b7", 5.0, study="claims"), path="claims/a.jsonl")
    (part,) = made.parts
    ((summary, judged),) = part.judged
    verdicts = {verdict.claim.id: verdict for verdict in judged}
    assert part.studies[0].sentences == [summary]
    assert verdicts["bn-distributed"].verdict == "not run" and "torchrun" in verdicts["bn-distributed"].why
    text = words_of_page(page(made))
    assert re.search(
        r"measured speed of nfnet-f1 relative to efficientnet-b7: 5\.\d.* reported 8\.7 / 8\.81 / 13\.1", text
    )
    assert re.search(r"= by construction .* nfbench models resnet50 --dependence shows it", text)


def test_of_results_that_were_not_measured_for_the_claims_only_those_judged_are_listed() -> None:
    ((_, judged),) = built(*F1_B7).parts[0].judged
    assert "f1-vs-b7" in [verdict.claim.id for verdict in judged]
    assert not {verdict.verdict for verdict in judged} & {"not run", "by construction"}
    assert built(result()).parts[0].judged == []
    # the fake device times nothing
    (part,) = built(*turns("nfnet-f1", "efficientnet-b7", 5.0, machine=FAKE, study="claims")).parts
    assert part.judged == [] and not [line for line in part.studies[0].sentences if "hold" in line]


# the same content twice


def everything(made: Report) -> list[str]:
    """Every text of a report."""
    lines = [made.title, *made.notes]
    for part in made.parts:
        lines += [part.title, part.answer, *part.doubts]
        for summary, judged in part.judged:
            lines.append(summary)
            for v in judged:
                lines += [v.claim.id, v.claim.text, v.claim.who, claim_tables.reported(v), v.verdict, v.why]
                lines += [text for f in v.figures for text in (f"{f.about}: {f.judged}", f.conditions, f.scope)]
        for study in part.studies:
            lines += [study.group.title, study.group.question, *study.sentences, *study.legend]
            lines += [*study.findings, *study.left_out, *(file.name for file in study.group.files)]
            lines += [r.command for r in study.group.results if r.command is not None]
            for table in study.tables:
                lines += [str(table.title), *(c.title for c in table.columns)]
                lines += [text for row in texts(table) for text in row.values()]
    return list(dict.fromkeys(flat(line) for line in lines if line))


def test_markdown_and_page_hold_the_same_content() -> None:
    command = "nfbench run claims --set scale=tiny"
    results = [*turns("nfnet-f1", "efficientnet-b7", 5.0, study="claims", command=command), *trained(H200)]
    made = built(*results, figures=True)
    text, shown_page, wanted = markdown(made), page(made), everything(made)
    assert len(wanted) > 100
    for words in (words_of_markdown(text), words_of_page(shown_page)):
        assert [line for line in wanted if line not in words] == []
        assert "8 results, nfbench 0.1.0, torch 2.15.0, timm 1.0.31, last 2026-01-01." in words
        assert "The command is not recorded." in words
    assert f"\n\nTo make it again:\n\n```sh\n{command}\n```" in text
    headings = [words_of_markdown(h) for h in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]
    assert headings == [words_of_page(h) for h in re.findall(r"<h\d[^>]*>(.*?)</h\d>", shown_page)]
    alternatives = [words_of_markdown(alt) for alt in re.findall(r"\n!\[(.*)\]\(", text)]
    assert alternatives == [html.unescape(alt) for alt in re.findall(r'<img [^>]*alt="([^"]*)"', shown_page)]
    assert alternatives[0] == "How many times as fast a net is as another, measured in turns. NVIDIA H200"


# tables


def test_every_step_time_is_in_the_table_sorts_by_its_raw_value_and_is_folded_in_markdown_where_it_is_long() -> None:
    made = built(*(result(m, (t,) * 20) for m, t in (("resnet50", 0.1), ("nfnet-f0", 1.5))))
    steps = made.parts[0].studies[0].tables[0]
    assert [(row["model"], row["step time"]) for row in texts(steps)] == [
        ("resnet50", "100.0 ms ± 0 %"),
        ("nfnet-f0", "1.500 s ± 0 %"),
    ]
    assert 'data-v="0.1">100.0 ms ± 0 %' in page(made)
    made = built(*(result("resnet50", workload=StepTime(model="resnet50", batch=b)) for b in range(1, 51)))
    text = markdown(made)
    assert "<details><summary>Step times (50)</summary>" in text
    assert text.count("\n| resnet50 | 224 |") == page(made).count('data-v="224.0">224</td>') == 50


def test_values_that_are_not_finite_are_absent_and_never_zero() -> None:
    nan = float("nan")
    diverged = result("nfnet-f0", (nan,) * 20, status="diverged")
    made = built(diverged, result("resnet50", (0.1, nan, 0.1, 0.1, float("inf"), 0.1)), accuracy(top1=(nan, nan)))
    tables = [table for study in made.parts[0].studies for table in study.tables]
    (steps,) = [table for table in tables if table.title == "Step times"]
    times = {row["model"]: row["step time"] for row in texts(steps)}
    assert times["nfnet-f0"] == "–" and times["resnet50"].startswith("100.0 ms")
    assert 'data-v="nan"' not in page(made) and 'data-v="inf"' not in page(made)


def swept(*models: str) -> Study:
    """Training runs at two thresholds and two batches."""
    return study_of(
        *(
            accuracy(m, (0.5, top + 0.01 * i), agc=agc, run={"agc": agc, "batch": batch})
            for m, top in zip(models, (0.7, 0.8), strict=False)
            for i, agc in enumerate((0.01, 0.02))
            for batch in (64, 256)
        )
    )


def test_what_several_tables_or_sentences_would_hold_stands_in_one() -> None:
    (best,) = [line for line in swept("tiny-nfnet").sentences if "highest" in line.lower()]
    assert best.startswith("tiny-nfnet on digits: ") and "71.00 %" in best
    both = swept("tiny-nfnet", "tiny-nf-resnet")
    assert both.sentences[1].startswith("Highest (one seed) on digits: tiny-nf-resnet")
    assert [table.title for table in both.tables][1:] == [
        "tiny-nf-resnet on digits: top-1, λ by batch",
        "tiny-nfnet on digits: top-1, λ by batch",
    ]
    assert [column.title for column in both.tables[-1].columns] == ["λ", "batch 64", "batch 256"]
    batches = study_of(*(accuracy("tiny-resnet", agc=None, run={"batch": batch}) for batch in (64, 256)))
    assert [table.title for table in batches.tables][1:] == ["digits: top-1, by batch"]
    thresholds = study_of(*(accuracy("tiny-nfnet", agc=agc, run={"agc": agc}) for agc in (0.01, 0.02)))
    assert [[row["agc λ"] for row in texts(table)] for table in thresholds.tables] == [["0.01", "0.02"]]
    steps = [result("nfnet-f0", workload=StepTime(model="nfnet-f0", batch=b)) for b in (1, 4)]
    readings = (reading("clip", "s", "step", "test", [0.01]),)
    clip = result(workload=AgcCost(model="nfnet-f0", impl="foreach"), session="s", readings=readings)
    clips = study_of(clip, *steps, path="data/agc-cost/a.jsonl")
    assert [table.title for table in clips.tables] == ["Step times", "The clip by itself"]


# parts and studies


def test_devices_never_share_a_table_a_figure_or_a_sentence_and_the_page_leads_to_each() -> None:
    made = built(*F1_B7, *turns("nf-resnet26", "resnet26", 0.8, machine=CPU))
    assert made.title == "Training steps and accuracy on 2 devices"
    gpu, cpu = sorted(made.parts, key=lambda part: part.title, reverse=True)
    assert (gpu.title, cpu.title) == ("NVIDIA H200", "A CPU")
    assert "NFNet-F1" in gpu.answer and "NF-ResNet26" in cpu.answer and "A CPU" not in gpu.answer
    for part, models in ((gpu, {"nfnet-f1", "efficientnet-b7"}), (cpu, {"nf-resnet26", "resnet26"})):
        assert {row["model"] for row in texts(part.studies[0].tables[0])} == models
    assert "A CPU, 16 GiB, 2 cores. 8 results, nfbench 0.1.0" in words_of_page(page(made))
    (nav,) = re.findall(r"<nav.*?</nav>", page(made), re.DOTALL)
    targets = re.findall(r'href="#([^"]*)"', nav)
    assert sorted(targets) == sorted(
        [part.anchor for part in made.parts] + [study.anchor for part in made.parts for study in part.studies]
    )
    assert all(f'id="{target}"' in page(made) for target in targets)


def test_machines_of_one_name_are_told_apart_and_the_fake_device_is_set_aside() -> None:
    other = msgspec.structs.replace(H200, driver="590.2")
    made = built(*(result(machine=machine, id=str(i)) for i, machine in enumerate((H200, other, FAKE))))
    assert [part.title for part in made.parts] == ["NVIDIA H200"]
    assert made.notes == ["1 result of the fake device not shown."]
    names = [row["machine"] for row in texts(made.parts[0].studies[0].tables[0])]
    assert names == ["NVIDIA H200, driver 580.1", "NVIDIA H200, driver 590.2"]
    assert [part.title for part in built(result(machine=FAKE)).parts] == ["fake"]


def test_older_software_and_other_sessions_are_set_aside_in_words_unless_all_is_asked_for() -> None:
    old = result(software=msgspec.structs.replace(SOFTWARE, torch="2.7.0"), start="2025-01-01T00:00:00.000Z")
    path = keep("a.jsonl", [old, result()])
    newest, every = (report.build([path], all_).parts[0].studies[0] for all_ in (False, True))
    assert newest.left_out[0] == "Not shown: 1 by older software (--all shows them)."
    assert (len(newest.tables[0].rows), len(every.tables[0].rows)) == (1, 2)
    assert not [line for line in every.left_out if "older" in line]
    again = [
        msgspec.structs.replace(r, session="later", id=f"later{i}", start=r.start.replace("2026-01", "2026-02"))
        for i, r in enumerate(turns("nf-resnet50", "resnet50", 0.8))
    ]
    (part,) = built(*turns("nf-resnet50", "resnet50", 0.5), *again).parts
    assert any("8 results of older sessions" in line for line in part.studies[0].left_out)
    assert "0.8" in part.answer and "0.5 " not in part.answer


def test_every_result_counts_once_and_lines_that_hold_none_are_counted() -> None:
    whole = result(times=(0.2,) * 10)
    cut = msgspec.structs.replace(whole, status="interrupted", readings=(step_times(0.4, 0.4),))
    # of a run that was cut off and went on the whole one counts, wherever it lies
    for first, second in (("a", "b"), ("b", "a")):
        keep(f"{first}{second}/{first}/runs.jsonl", [cut])
        path = keep(f"{first}{second}/{second}/runs.jsonl", [whole])
        path.write_bytes(path.read_bytes() + b'{"schema":')
        made = report.build([Path(f"{first}{second}")])
        assert [r.status for study in made.parts[0].studies for r in study.group.results] == ["ok"]
        assert made.notes == [
            "Skipped 1 line that holds no result: runs.jsonl, line 2: broken or cut off",
            "1 result that was there more than once: told once.",
        ]


def test_findings_and_what_no_figure_shows_are_listed() -> None:
    failed = result("nfnet-f1", status="out_of_memory", readings=(), message="CUDA out of memory")
    study = study_of(result(), failed, figures=True)
    assert any(line.startswith("nfnet-f1: Ended as out of memory: CUDA out of memory.") for line in study.findings)
    assert any(line.startswith("step-time: nfnet-f1") and "no step time" in line for line in study.left_out)


# figures


def test_the_figure_at_the_top_is_the_first_that_the_results_hold_and_does_not_stand_twice() -> None:
    kinds = {}
    for name, results in {
        "steps": [result(), result("nfnet-f0")],
        "trained": trained(),
        "all": [*F1_B7, *trained(H200)],
        "none": [result(status="out_of_memory", readings=())],
    }.items():
        (part,) = built(*results, path=f"{name}.jsonl", figures=True).parts
        kinds[name] = part.top.kind if part.top is not None else None
        names = [(picture.kind, picture.name) for study in part.studies for picture in study.pictures]
        assert part.top is None or ((part.top.kind, part.top.name) not in names and names)
    assert kinds == {"steps": "step-time", "trained": "accuracy-vs-flops", "all": "speedup", "none": None}


def test_of_many_figures_of_a_kind_some_are_drawn_and_the_others_counted() -> None:
    nets = ("tiny-nfnet", "tiny-resnet", "tiny-nf-resnet", "tiny-efficientnet", "tiny-nfnet-s", "tiny-resnet-s")
    runs = [accuracy(net, agc=agc, run={"agc": agc}) for net in nets for agc in (0.01, 0.02)]
    study = study_of(*runs, figures=True)
    assert sum(picture.kind == "agc-heatmap" for picture in study.pictures) == 4
    assert "agc-heatmap: 4 of its 6 figures are in this report; nfbench plot draws all 6" in study.left_out


# the command


@pytest.mark.parametrize(
    ("words", "stored"),
    [
        (["run", "claims", "--set", "scale=tiny"], "run claims --set scale=tiny"),
        (["compare", "nfnet-f1@px=224", "b; rm -rf x"], "compare nfnet-f1@px=224 'b; rm -rf x'"),
        (["--out", "/srv/acme/x.jsonl", "--out=/srv/acme/x/"], "--out x.jsonl --out=x"),
        (["imagefolder:/data/cats", "data=../cats", "--a=/x/y"], "imagefolder:cats data=cats --a=y"),
        (["~/x/w.pt", r"C:\x\w.pt", "{home}/x/w.pt", "{home}"], "w.pt w.pt w.pt '~'"),
        (["--against", "origin/main", "a/mine.toml", "--against=/x/y"], "--against origin/main mine.toml --against=y"),
        (["--ray", "auto", "--ray", "10.0.0.1:6379", "--ray=head:1"], "--ray auto --ray ADDRESS --ray=ADDRESS"),
        (["cuda:GPU-8a5bcd12-3456-7890-abcd-ef0123456789"], "'cuda:…'"),
    ],
)  # fmt: skip
def test_a_stored_command_names_no_folder_no_address_and_no_card(words: list[str], stored: str) -> None:
    assert typed(word.format(home=Path.home()) for word in words) == stored


def test_each_result_has_the_command_that_measured_it_and_the_report_shows_it(cli: Cli, tmp_path: Path) -> None:
    given = ("--device", "fake", "--max-time", 1, "--quiet", "--out", tmp_path / "data" / "a.jsonl")
    assert cli("step-time", "--model", "tiny-nfnet", *given).exit_code == 0
    assert cli("compare", "tiny-nfnet", "tiny-resnet", "--rounds", 1, *given).exit_code == 0
    commands = [r.command for r in load([Path("data")]).results]
    end = "--device fake --max-time 1 --quiet --out a.jsonl"
    step, compare = (
        f"nfbench step-time --model tiny-nfnet {end}",
        f"nfbench compare tiny-nfnet tiny-resnet --rounds 1 {end}",
    )
    assert commands[0] == step and len(commands) > 1 and set(commands[1:]) == {compare}
    assert cli("report", "data", "-o", "r.md").exit_code == 0
    assert f"```sh\n{step}\n```" in Path("r.md").read_text() and f"```sh\n{compare}\n```" in Path("r.md").read_text()


def test_of_many_commands_a_few_stand_there_and_of_older_files_none() -> None:
    many = study_of(*(result(command=f"nfbench step-time --batch {i}", seed=i) for i in range(8)), result(seed=8))
    lines = markdown(built(*many.group.results)).split("```")[1].splitlines()
    assert lines[1:3] == ["nfbench step-time --batch 0", "nfbench step-time --batch 1"] and len(lines) == 8
    assert lines[-1] == "# and 2 more"
    assert "The command of 1 result is not recorded." in markdown(built(*many.group.results))
    assert "The command is not recorded." in markdown(built(result()))


# what anybody may have put into results


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))


def named(names: Sequence[str], device: str, study: str) -> list[Result]:
    """Results whose models, data sets, software, commands and messages are ``names``, in turn, on ``device`` and of
    ``study``."""
    machine = Machine(device="cpu", name=device, cpu=study, driver=device)
    results = []
    for place, name in enumerate(names):
        software = msgspec.structs.replace(SOFTWARE, torch=name, commit=name)
        common = {"machine": machine, "software": software, "study": study, "message": name, "notes": {"norm": name}}
        common |= {"command": name}
        results += turns(name, f"{name} {place}", 2.0, **common)
        results.append(result(name, status="error", readings=(), workload=StepTime(model=name, batch=7), **common))
        results.append(accuracy(name, run={"dataset": names[-1 - place % 2]}, **common))
    return results


def check_page(text: str) -> None:
    """Nothing in it but what the template makes, and a policy that lets nothing else through."""
    elements = Elements(text).all
    tags = [tag for tag, _ in elements]
    assert (tags.count("script"), tags.count("style"), tags.count("h1"), tags.count("html")) == (1, 1, 1, 1)
    assert not set(tags) & {"iframe", "object", "embed", "link", "form", "base", "svg", "foreignobject"}
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "xlink:href")], tag
        target = attributes.get("href") or "#"
        assert target.startswith("#") or re.fullmatch(r"[\w%./~-]+", target), target
        source = attributes.get("src")
        assert source is None or (tag == "img" and re.fullmatch(r"data:image/svg\+xml;base64,[\w+/=]+", source)), tag
    (policy,) = [attributes["content"] for _, attributes in elements if "http-equiv" in attributes]
    hashes = []
    for tag in ("style", "script"):
        (held,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        hashes.append(base64.b64encode(hashlib.sha256(held.encode()).digest()).decode())
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )


def check_markdown(text: str) -> None:
    """Every cell is in its table, and no markup but the template's is in it."""
    outside = re.sub(r"^(`{3,})sh\n.*?\n\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    tags = set(re.findall(r"(?<!\\)<[^>]*>", outside))
    assert tags <= {"<details>", "</details>", "<summary>", "</summary>"}
    assert not re.search(r"(?<!\\)`(?!nfbench report`)[^`\n]*$", re.sub(r"`nfbench report`", "", outside), re.MULTILINE)
    assert not re.search(r"(?<!\\)\]\((?!data/|r-figures/)", outside)
    width = 0
    for line in outside.split("\n"):
        cells = len(re.findall(r"(?<!\\)\|", line))
        assert not cells or not width or cells == width, line
        width = cells
    assert all(c.isprintable() or c == "\n" for c in text)


MARKUP = [*named(HOSTILE, HOSTILE[0], HOSTILE[1]), *named(["a"], "../../etc/x", "../../etc/y")]
LONG = named(["x" * 10**5], "y " * 10**5, "z" * 10**5)


@pytest.mark.parametrize("results", [MARKUP, LONG], ids=["markup and paths", "long"])
def test_hostile_names_neither_break_a_report_nor_leave_its_folder(results: list[Result], tmp_path: Path) -> None:
    made = built(*results, path="data/a.jsonl", figures=True)
    before = tree(tmp_path)
    for ending in ("html", "md"):
        report.write(Path(f"out/here/r.{ending}"), made)
    written = {name: held for name, held in tree(tmp_path).items() if name not in before}
    assert all(name.startswith("out/here/r") for name in written)
    assert sum(map(len, written.values())) < 8 * 2**20
    check_page(written["out/here/r.html"].decode())
    check_markdown(written["out/here/r.md"].decode())


def test_markdown_makes_no_link_of_what_only_looks_like_one() -> None:
    message = "see www.example.com, https://example.com or mail a@example.com"
    text = markdown(built(result(status="error", readings=(), message=message)))
    assert r"see www\.example.com, https\://example.com or mail a\@example.com" in text


def test_a_hostile_folder_is_quoted_in_links() -> None:
    made = built(result(), path="data/javascript:alert(1) )](x)/a.jsonl")
    assert '<a href="data/javascript%3Aalert%281%29%20%29%5D%28x%29/a.jsonl">' in page(made)
    assert "[a.jsonl](data/javascript%3Aalert%281%29%20%29%5D%28x%29/a.jsonl)" in markdown(made)


# where it is written


def test_a_page_is_one_file_and_markdown_has_its_figures_beside_it(cli: Cli, tmp_path: Path) -> None:
    keep("elsewhere/runs.jsonl", F1_B7)
    before = set(tree(tmp_path))
    done = cli("report", "elsewhere", "-o", "out/mine.html")
    assert done.exit_code == 0, done.output
    assert set(tree(tmp_path)) - before == {"out/mine.html"} and done.stdout == "out/mine.html\n"
    assert "NFNet-F1 is 5." in done.stderr
    done = cli("report", "elsewhere", "-o", "out/mine.md")
    made = set(tree(tmp_path)) - before - {"out/mine.html", "out/mine.md"}
    assert done.exit_code == 0 and made and all(name.startswith("out/mine-figures/") for name in made)
    text = Path("out/mine.md").read_text()
    assert {f"out/{name}" for name in re.findall(r"!\[.*\]\((.*)\)", text)} == made
    assert done.stderr.startswith(f"With {len(made)} figures in out/mine-figures.\n")
    # what lies elsewhere is named and not linked: its path tells more of a disk than a report should
    assert "runs.jsonl" in words_of_markdown(text) and "](../" not in text


def test_the_page_of_a_device_is_that_of_its_studies_without_one_off_runs(cli: Cli) -> None:
    keep("results/h/quick/a.jsonl", FREE)
    assert cli("report", "results/h", "-o", "results/h/README.md").exit_code == 0
    whole = tree(Path("results/h"))
    assert b"[a.jsonl](quick/a.jsonl)" in whole["README.md"]
    keep("results/h/step-time/b.jsonl", [result("nfnet-f5", machine=H200)])
    made = report.of_device(Path("results/h"))
    assert made is not None
    report.write(Path("results/h/README.md"), made)
    assert {n: b for n, b in tree(Path("results/h")).items() if not n.startswith("step-time/")} == whole
    cli("report", "results/h", "-o", "all.md")
    assert "nfnet-f5" in Path("all.md").read_text() and "nfnet-f5" not in Path("results/h/README.md").read_text()
    keep("results/without/step-time/b.jsonl", [result()])
    assert report.of_device(Path("results/without")) is None


@pytest.mark.parametrize(
    ("paths", "out", "message"),
    [
        ("a.jsonl", "r.pdf", "-o r.pdf names no kind of report.\nA report is Markdown or a page for a browser, told"),
        ("a.jsonl", "folder.md", "-o folder.md is a folder.\nTry: -o folder.md/report.html\n"),
        ("a.jsonl", "file/r.md", "file cannot be made: File exists.\nTry: -o with a folder that you may write to\n"),
        ("nowhere", "r.md", "There is no file or folder nowhere.\n"),
        ("folder.md", "r.md", "No result in folder.md: no .jsonl file with a line in it.\n"),
    ],
)
def test_what_cannot_be_read_or_written_is_worded(paths: str, out: str, message: str, cli: Cli) -> None:
    Path("folder.md").mkdir()
    Path("file").write_text("")
    keep("a.jsonl", [result()])
    done = cli("report", paths, "-o", out)
    assert done.exit_code == 1 and done.stderr.startswith(message)
    assert not Path(out).is_file()
