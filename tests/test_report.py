"""What a report holds, in both of its looks, and where it is written."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from conftest import Cli
from make import CPU, FAKE, H200, SOFTWARE, accuracy, result
from report_cases import (
    BF16,
    F1_B7,
    FREE,
    built,
    flat,
    keep,
    markdown,
    page,
    trained,
    tree,
    turns,
    words_of_markdown,
    words_of_page,
)

from nfbench.records import Result, StepTime
from nfbench.showing import report_build, report_render, report_sources, report_write
from nfbench.showing.report import Report

SMALL = result(workload=StepTime(model="resnet50", px=96, agc="none"))


# the claims


def test_claims_stand_with_their_verdicts_and_what_is_reported() -> None:
    (judged,) = built(*turns("nfnet-f1", "efficientnet-b7", 5.0, study="claims")).parts[0].judged
    claims = {claim.id: claim for claim in judged.claims}
    assert len(claims) == 14 and judged.rest == ""
    assert claims["f1-vs-b7"].measured.startswith("efficientnet-b7's step over nfnet-f1's: 5.")
    assert claims["f1-vs-b7"].reported.startswith("8.7 / 8.81 / 13.1")
    assert claims["bn-distributed"].verdict == "not run" and "torchrun" in claims["bn-distributed"].why
    shown = claims["bn-dependence"].verdict, claims["bn-dependence"].why
    assert shown == ("by construction", "nfbench models resnet50 --dependence shows it")


def test_of_results_that_were_not_measured_for_the_claims_only_those_judged_are_listed() -> None:
    (judged,) = built(*F1_B7).parts[0].judged
    assert "f1-vs-b7" in [claim.id for claim in judged.claims]
    assert not {claim.verdict for claim in judged.claims} & {"not run", "by construction"}
    others = 11 - len(judged.claims)
    assert (
        judged.rest == f"Nothing here speaks for or against {others} other claims: nfbench run claims measures for all."
    )
    assert built(result()).parts[0].judged == ()


# the same content twice


def everything(report: Report) -> list[str]:
    """Every text of a report."""
    found = [report.title, *report.notes]
    for part in report.parts:
        found += [part.title, part.answer, *part.doubts, *part.machines]
        for judged in part.judged:
            found += [judged.summary, judged.rest]
            for c in judged.claims:
                found += [
                    c.id,
                    c.text,
                    c.who,
                    c.reported,
                    c.verdict,
                    c.measured,
                    c.why,
                    *(t for f in c.figures for t in f),
                ]
        for study in part.studies:
            found += [
                study.title,
                study.question,
                *study.legend,
                *study.sentences,
                *study.findings,
                *study.left_out,
                *study.machines,
            ]
            found += [study.made, *study.commands, *(link.text for link in study.links)]
            for table in study.tables:
                found += [table.title, *(head.title for head in table.heads)]
                found += [cell.text for row in table.rows for cell in row]
    return list(dict.fromkeys(flat(text) for text in found if text))


def test_markdown_and_page_hold_the_same_content() -> None:
    report = built(*turns("nfnet-f1", "efficientnet-b7", 5.0, study="claims"), *trained(H200))
    text, shown_page, wanted = markdown(report), page(report), everything(report)
    assert len(wanted) > 100
    for said in (words_of_markdown(text), words_of_page(shown_page)):
        assert [w for w in wanted if w not in said] == []
    assert "\n\nTo make it again:\n\n```sh\nnfbench " in text
    outside = re.sub(r"```sh\n.*?\n```", "", text, flags=re.DOTALL)
    headings = [words_of_markdown(h) for h in re.findall(r"^#+ (.*)$", outside, re.MULTILINE)]
    assert headings == [words_of_page(h) for h in re.findall(r"<h\d[^>]*>(.*?)</h\d>", shown_page)]
    assert text.count("\n![") == shown_page.count("<svg ") == len(report.pictures) > 1


def test_every_step_time_is_in_the_table_and_sorts_by_its_raw_value() -> None:
    report = built(*(result(m, (t,) * 20) for m, t in (("resnet50", 0.1), ("nfnet-f0", 1.5))))
    steps = report.parts[0].studies[0].tables[0]
    at = [head.title for head in steps.heads].index("step time")
    assert [(row[0].text, row[at].raw) for row in steps.rows] == [("resnet50", 0.1), ("nfnet-f0", 1.5)]
    assert [row[at].text for row in steps.rows] == ["100.0 ms ± 0 %", "1.500 s ± 0 %"]
    assert 'data-v="0.1">100.0 ms ± 0 %' in page(report)


def test_a_long_table_is_folded_in_markdown_with_its_number_of_rows_and_whole_in_both() -> None:
    report = built(*(result("resnet50", workload=StepTime(model="resnet50", batch=b)) for b in range(1, 51)))
    text = markdown(report)
    assert "<details><summary>Step times: 50 rows</summary>" in text
    assert text.count("\n| resnet50 | 224 |") == 50
    table = report.parts[0].studies[0].tables[0]
    assert len(table.rows) == 50 and page(report).count('data-v="224.0">224</td>') == 50


def test_reported_columns_are_marked() -> None:
    table = next(t for t in built(*F1_B7).parts[0].studies[0].tables if t.name == "ratios")
    assert [head.title for head in table.heads if head.reported] == ["reported"]


# parts, studies and commands

TRAINED = "nfbench accuracy --model tiny-nfnet --dataset digits --epochs 3 --batch 50 --max-time 60"


def test_devices_never_share_a_table_a_figure_or_a_sentence() -> None:
    report = built(*F1_B7, *turns("nf-resnet26", "resnet26", 0.8, machine=CPU))
    assert report.title == "Training steps and accuracy on 2 devices"
    gpu, cpu = sorted(report.parts, key=lambda part: part.title, reverse=True)
    assert (gpu.title, cpu.title) == ("NVIDIA H200", "A CPU")
    assert "NFNet-F1" in gpu.answer and "NF-ResNet26" in cpu.answer and "A CPU" not in gpu.answer
    for part, models in ((gpu, {"nfnet-f1", "efficientnet-b7"}), (cpu, {"nf-resnet26", "resnet26"})):
        steps = part.studies[0].tables[0]
        assert {row[0].text for row in steps.rows} == models
    assert re.findall(r"^#+ .*$", markdown(report), re.MULTILINE)[1] in ("## NVIDIA H200", "## A CPU")


def test_machines_of_one_name_are_told_apart_in_the_table() -> None:
    other = msgspec.structs.replace(H200, driver="590.2")
    (part,) = built(result(machine=H200), result(machine=other, start="2026-01-02T00:00:00.000Z")).parts
    assert len(part.machines) == 2
    steps = part.studies[0].tables[0]
    assert steps.heads[-1].title == "machine"
    assert [row[-1].text for row in steps.rows] == ["NVIDIA H200, driver 580.1", "NVIDIA H200, driver 590.2"]


def test_results_of_the_fake_device_are_set_aside_where_there_are_others() -> None:
    report = built(*F1_B7, result(machine=FAKE))
    assert [part.title for part in report.parts] == ["NVIDIA H200"]
    assert report.notes == ("1 result of the fake device set aside.",)
    assert [part.title for part in built(result(machine=FAKE)).parts] == ["fake"]


def test_a_folder_that_bears_a_studys_name_has_its_title_question_and_command() -> None:
    study = built(result(), path="results/x/claims-tiny/a.jsonl").parts[0].studies[0]
    assert study.title == "Claims, tiny scale"
    assert study.commands[0] == "nfbench run claims --set scale=tiny"
    assert study.question == "Which claims of the paper and its readers hold, here?"


@pytest.mark.parametrize(
    ("results", "title", "command"),
    [
        ([SMALL], "Step times", "nfbench step-time --model resnet50 --px 96 --agc none"),
        (F1_B7, "Nets compared", "nfbench compare nfnet-f1@px=224 efficientnet-b7@px=224"),
        ([accuracy("tiny-nfnet")], "Training runs", TRAINED),
        ([result("a b; rm -rf /")], "Step times", "nfbench step-time --model 'a b; rm -rf /'"),
    ],
)  # fmt: skip
def test_without_a_study_results_stand_by_command_with_what_makes_them_again(
    results: list[Result], title: str, command: str
) -> None:
    (study,) = built(*results).parts[0].studies
    assert (study.title, study.commands) == (title, (command,))


def test_older_software_is_set_aside_in_words_unless_all_is_asked_for() -> None:
    old = result(software=msgspec.structs.replace(SOFTWARE, torch="2.7.0"), start="2025-01-01T00:00:00.000Z")
    sources = report_sources.read([keep("a.jsonl", [old, result()])])
    some, every = (report_build.build(sources, all_).parts[0].studies[0] for all_ in (False, True))
    assert some.left_out[0] == "Set aside: 1 by older software (--all shows them)."
    assert (len(some.tables[0].rows), len(every.tables[0].rows)) == (1, 2)
    assert not [line for line in every.left_out if "older" in line]


def test_lines_that_hold_no_result_are_counted() -> None:
    path = keep("a.jsonl", [result()])
    path.write_bytes(path.read_bytes() + b'{"schema":')
    (note,) = report_build.build(report_sources.read([path])).notes
    assert note == "Skipped 1 line that holds no result: a.jsonl, line 2: broken or cut off"


def test_findings_and_what_no_figure_shows_are_listed() -> None:
    failed = result("nfnet-f1", status="out_of_memory", readings=(), message="CUDA out of memory")
    study = built(result(), failed).parts[0].studies[0]
    assert any(line.startswith("nfnet-f1: Ended as out of memory: CUDA out of memory.") for line in study.findings)
    assert any(line.startswith("step-time: nfnet-f1") and "no step time" in line for line in study.left_out)


# the figure at the top


def test_the_figure_at_the_top_is_the_first_that_the_results_hold() -> None:
    assert built(result(), result("nfnet-f0")).parts[0].top.kind == "step-time"  # type: ignore[union-attr]
    top = built(*trained()).parts[0].top
    assert top is not None and top.kind == "accuracy-vs-flops"
    assert built(*F1_B7, *trained(H200)).parts[0].top.kind == "speedup"  # type: ignore[union-attr]
    counted = result(status="out_of_memory", readings=())
    assert built(counted).parts[0].top is None


def test_a_figure_says_what_it_shows_and_of_which_data() -> None:
    top = built(result("resnet50"), result("nfnet-f0")).parts[0].top
    assert top is not None
    assert top.alt.startswith("Measured time of a step of each net, on A CPU, of ")
    assert "nfnet-f0" in top.alt and "resnet50" in top.alt and "Across: step time, ms" in top.alt


def test_of_many_figures_of_a_kind_some_are_drawn_and_the_others_counted() -> None:
    nets = ("tiny-nfnet", "tiny-resnet", "tiny-nf-resnet", "tiny-efficientnet", "tiny-nfnet-s", "tiny-resnet-s")
    runs = [accuracy(net, (0.5, 0.9), agc=agc, run={"agc": agc}) for net in nets for agc in (0.01, 0.02)]
    study = built(*runs).parts[0].studies[0]
    assert sum(picture.kind == "agc-heatmap" for picture in study.pictures) == 4
    said = "agc-heatmap: 4 of its 6 figures are in this report; nfbench plot draws all 6"
    assert said in study.left_out


def test_the_figure_at_the_top_does_not_stand_twice() -> None:
    for results in ([result(), result("nfnet-f0")], F1_B7):
        alts = [picture.alt for picture in built(*results).pictures]
        assert len(alts) == len(set(alts)) > 1


# where it is written


def test_a_page_is_one_file_and_markdown_has_its_figures_beside_it(cli: Cli, tmp_path: Path) -> None:
    keep("elsewhere/runs.jsonl", F1_B7)
    before = set(tree(tmp_path))
    done = cli("report", "elsewhere", "-o", "out/mine.html")
    assert done.exit_code == 0, done.output
    assert set(tree(tmp_path)) - before == {"out/mine.html"} and done.stdout == "out/mine.html\n"
    assert "NFNet-F1 trains 5." in done.stderr
    done = cli("report", "elsewhere", "-o", "out/mine.md")
    made = set(tree(tmp_path)) - before - {"out/mine.html"}
    assert done.exit_code == 0 and "out/mine.md" in made
    assert made - {"out/mine.md"} and all(name.startswith("out/mine-figures/") for name in made - {"out/mine.md"})
    linked = re.findall(r"!\[.*\]\((.*)\)", Path("out/mine.md").read_text())
    assert {f"out/{name}" for name in linked} == made - {"out/mine.md"}


def test_figures_of_a_study_below_the_reports_folder_stand_in_the_study() -> None:
    keep("d/quick/a.jsonl", FREE)
    report = report_build.build(report_sources.read([Path("d")]))
    found = report_write.markdown(report, Path("d/README.md"))
    assert set(found.figures) == {f"figures/{report.pictures[0].name}.svg"} | {
        f"quick/figures/{picture.name}.svg" for picture in report.pictures[1:]
    }
    assert "[a.jsonl](quick/a.jsonl)" in found.text
    elsewhere = report_write.markdown(report, Path("o/README.md"))
    assert all(name.startswith("README-figures/") for name in elsewhere.figures)
    assert "a.jsonl" in elsewhere.text and "](../" not in elsewhere.text


def test_the_page_of_a_device_is_that_of_its_studies_without_one_off_runs(cli: Cli) -> None:
    keep("results/h/quick/a.jsonl", FREE)
    assert cli("report", "results/h", "-o", "results/h/README.md").exit_code == 0
    whole = tree(Path("results/h"))
    keep("results/h/step-time/b.jsonl", [result("nfnet-f5", machine=H200)])
    report = report_write.device(Path("results/h"))
    assert report is not None
    report_write.to(Path("results/h/README.md"), report)
    assert {n: b for n, b in tree(Path("results/h")).items() if not n.startswith("step-time/")} == whole
    cli("report", "results/h", "-o", "all.md")
    assert "nfnet-f5" in Path("all.md").read_text() and "nfnet-f5" not in Path("results/h/README.md").read_text()


def test_a_folder_without_studies_has_no_page() -> None:
    keep("results/h/step-time/b.jsonl", [result()])
    assert report_write.device(Path("results/h")) is None


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (
            "r.pdf",
            "-o r.pdf names no kind of report.\nA report is Markdown or a page for a browser, told apart by the file's "
            "name.\nTry: -o report.md, or -o report.html\n",
        ),
        ("folder.md", "-o folder.md is a folder.\nTry: -o folder.md/report.html\n"),
        ("file/r.md", "file cannot be made: File exists.\nTry: -o with a folder that you may write to\n"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_is_worded(out: str, message: str, cli: Cli) -> None:
    Path("folder.md").mkdir()
    Path("file").write_text("")
    keep("a.jsonl", [result()])
    done = cli("report", "a.jsonl", "-o", out)
    assert (done.exit_code, done.stderr) == (1, message)


def test_results_that_are_missing_are_worded(cli: Cli) -> None:
    done = cli("report", "nowhere", "-o", "r.md")
    assert done.exit_code == 1 and done.stderr.startswith("There is no file or folder nowhere.\n")
    Path("empty").mkdir()
    done = cli("report", "empty", "-o", "r.md")
    assert done.exit_code == 1 and done.stderr.startswith("No result in empty: no .jsonl file with a line in it.\n")
    assert not Path("r.md").exists()


def test_a_report_is_the_same_each_time_it_is_made() -> None:
    for name in ("a", "b"):
        keep(f"{name}/runs.jsonl", [*F1_B7, result(resolved=BF16)])
    one, other = (report_build.build(report_sources.read([Path(name)])) for name in ("a", "b"))
    assert markdown(one, "a/r.md") == markdown(other, "b/r.md")
    assert report_render.page(one, Path("a")) == report_render.page(other, Path("b"))
