from __future__ import annotations

import html
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from conftest import Cli
from make import CPU, FAKE, H200, SOFTWARE, accuracy, result
from matplotlib.figure import Figure
from report_cases import BF16, HOSTILE, keep, trained, turns

from nfbench.records import Machine, Result, Sampling, StepTime
from nfbench.showing import (
    report_build,
    report_headline,
    report_render,
    report_sources,
    report_write,
    svg,
)
from nfbench.showing.report import Report
from nfbench.showing.study import shown
from nfbench.showing.style import COLOURS

F1_B7 = turns("nfnet-f1", "efficientnet-b7", 5.0)
TWIN = turns("bn-nfnet-f0", "nfnet-f0", 0.5)
FREE = turns("nf-resnet26", "resnet26", 0.8)
TINY = turns("tiny-nfnet", "tiny-resnet", 2.0, px=32)
BOTH_BN = turns("resnet26", "resnet50", 2.0)
SMALL = result(workload=StepTime(model="resnet50", px=96, agc="none"))
NO_GPU = "This is a CPU: it says nothing about a GPU."


def built(*results: Result, path: str = "data/runs.jsonl") -> Report:
    return report_build.build(report_sources.read([keep(path, list(results))]))


def page(report: Report) -> str:
    return report_render.page(report, Path())


def markdown(report: Report, path: str = "r.md") -> str:
    return report_write.markdown(report, Path(path)).text


def flat(text: str) -> str:
    return " ".join(text.split())


def words_of_page(text: str) -> str:
    body = re.sub(r"<(style|script)>.*?</\1>|<svg.*?</svg>", " ", text, flags=re.DOTALL)
    return flat(html.unescape(re.sub(r"<[^>]*>", " ", body)))


def words_of_markdown(text: str) -> str:
    return flat(html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)))


# the answer


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        pytest.param([*FREE, *TWIN, *F1_B7], "On NVIDIA H200, bf16: NFNet-F1 trains ", id="the paper's own pair first"),
        pytest.param([*FREE, *TWIN], "On NVIDIA H200, bf16: NFNet-F0 trains ", id="then what the paper reports of"),
        pytest.param([*TINY, *FREE], "On NVIDIA H200, bf16: NF-ResNet26 trains ", id="full size first"),
        pytest.param(BOTH_BN, "On NVIDIA H200: 2 step times of 2 nets, and no ratio", id="two BN nets are no answer"),
        pytest.param(trained(), "On A CPU: on digits none is as accurate for as few MACs as tiny-nfnet (", id="top-1"),
        pytest.param([result()], "On A CPU: 1 step time of 1 net, and no ratio measured in turns.", id="what there is"),
    ],
)  # fmt: skip
def test_the_answer_is_the_ratio_that_says_most_else_what_there_is(results: list[Result], expected: str) -> None:
    assert report_headline.answer(shown(results)).startswith(expected)


def test_the_answer_gives_the_interval_and_what_the_paper_says_apart() -> None:
    answer = built(*F1_B7).parts[0].answer
    measured, paper = answer.split("; the paper says ")
    assert re.search(r"NFNet-F1 trains 5\.\d+ ± 0\.\d+ times as fast as EfficientNet-B7 \(both 224 px", measured)
    assert "± within this run" in measured
    assert (
        paper
        == "8.81 on TPUv3, 13.1 on V100, 8.70 in its text, at batch 32 a device and the px that each net trains at."
    )


def test_a_ratio_is_turned_so_that_the_normalizer_free_net_is_on_top() -> None:
    found = report_headline.headline(shown(TWIN).ratios)
    assert found is not None
    assert (found.net.workload.model, found.baseline.workload.model) == ("nfnet-f0", "bn-nfnet-f0")
    assert found.speedup.value == pytest.approx(2.0, rel=0.05)


def test_what_is_no_gpu_says_so() -> None:
    one = built(*turns("nf-resnet26", "resnet26", 0.8, machine=CPU)).parts[0]
    assert one.answer.endswith(NO_GPU)
    assert built(*F1_B7).parts[0].answer.count("says nothing") == 0


def test_the_fake_device_times_nothing_so_it_has_no_headline_and_judges_no_claim() -> None:
    (part,) = built(*turns("nfnet-f1", "efficientnet-b7", 5.0, machine=FAKE, study="claims")).parts
    assert part.answer == "These are figures of the fake device, which times nothing."
    assert (part.judged, part.doubts) == ((), ())
    assert not [line for study in part.studies for line in study.sentences if "hold" in line]
    assert "Claims</h2>" not in page(built(*turns("nfnet-f1", "efficientnet-b7", 5.0, machine=FAKE)))


WILD = turns("nfnet-f1", "efficientnet-b7", 0.5, spread=9.0)
"""Its turns differ so much that their interval reaches far over 1."""


def test_an_interval_that_reaches_over_1_names_neither_net_as_the_faster_one() -> None:
    answer = built(*WILD).parts[0].answer
    assert answer.startswith("On NVIDIA H200, bf16: cannot tell which trains faster, NFNet-F1 or EfficientNet-B7: ")
    assert re.search(r"EfficientNet-B7: [\d.]+ \([\d.]+ to [\d.]+\) times \(both 224 px", answer)
    assert "NFNet-F1 trains" not in answer
    same = built(*turns("nf-resnet26", "resnet26", 0.99)).parts[0].answer
    assert re.search(r"bf16: NF-ResNet26 and ResNet26 train about equally fast, 1\.0\d* ± 0\.0\d+ times \(both", same)


def test_of_equal_ratios_one_that_is_clear_of_1_is_the_answer() -> None:
    clear = turns("nf-resnet50", "resnet50", 0.8)
    open_ = turns("nf-resnet26", "resnet26", 0.8, spread=9.0)
    # the more turns it has the more it would count
    found = report_headline.headline(shown([*open_, *clear[:6]]).ratios)
    assert found is not None and found.net.workload.model == "nf-resnet50"


def test_what_is_doubtful_about_a_ratio_stands_under_the_answer_and_among_the_findings() -> None:
    report = built(*(r for r in WILD if r.turn < 2))
    (part,) = report.parts
    assert any(line.startswith("nfnet-f1 against efficientnet-b7: 2 turns are few") for line in part.doubts)
    assert set(part.doubts) <= set(part.studies[0].findings)
    assert f"Doubtful: {part.doubts[0]}" in words_of_page(page(report))
    assert f"Doubtful: {part.doubts[0]}" in words_of_markdown(markdown(report))
    sound = turns("nfnet-f1", "efficientnet-b7", 5.0, sampling=Sampling(within=0.5))
    assert built(*sound).parts[0].doubts == ()


# the claims


def test_claims_stand_with_their_verdicts_and_what_is_reported() -> None:
    (judged,) = built(*turns("nfnet-f1", "efficientnet-b7", 5.0, study="claims")).parts[0].judged
    claims = {claim.id: claim for claim in judged.claims}
    assert len(claims) == 14 and judged.rest == ""
    assert claims["f1-vs-b7"].measured.startswith("efficientnet-b7's step over nfnet-f1's: 5.")
    assert claims["f1-vs-b7"].reported.startswith("8.7 / 8.81 / 13.1")
    assert claims["bn-distributed"].verdict == "not run" and "torchrun" in claims["bn-distributed"].why


def test_of_results_that_were_not_measured_for_the_claims_only_those_judged_are_listed() -> None:
    (judged,) = built(*F1_B7).parts[0].judged
    assert "f1-vs-b7" in [claim.id for claim in judged.claims]
    assert all(claim.verdict != "not run" for claim in judged.claims)
    others = 14 - len(judged.claims)
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


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


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


# what anybody may have put into results


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def named(names: Sequence[str], device: str, study: str) -> list[Result]:
    """Results whose models, data sets, software and messages are ``names``, in turn, on ``device`` and of ``study``."""
    machine = Machine(device="cpu", name=device, cpu=study, driver=device)
    found = []
    for place, name in enumerate(names):
        software = msgspec.structs.replace(SOFTWARE, torch=name, commit=name)
        common = {"machine": machine, "software": software, "study": study, "message": name, "notes": {"norm": name}}
        found += turns(name, f"{name} {place}", 2.0, **common)
        found.append(result(name, status="error", readings=(), workload=StepTime(model=name, batch=7), **common))
        found.append(accuracy(name, run={"dataset": names[-1 - place % 2]}, **common))
    return found


def check_page(text: str) -> None:
    """Nothing in it but what the template and matplotlib make."""
    elements = Elements(text).found
    tags = [tag for tag, _ in elements]
    assert (tags.count("script"), tags.count("style"), tags.count("h1"), tags.count("html")) == (1, 1, 1, 1)
    assert not set(tags) & {"img", "iframe", "object", "embed", "link", "form", "base", "image", "foreignobject"}
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for name in ("href", "xlink:href", "src"):
            target = attributes.get(name) or "#"
            assert target.startswith("#") or re.fullmatch(r"[\w%./~-]+", target), target


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


@pytest.mark.parametrize(
    "results",
    [
        pytest.param(named(HOSTILE, HOSTILE[0], HOSTILE[1]), id="markup"),
        pytest.param(named(["a"], "../../etc/x", "../../etc/y"), id="paths"),
        pytest.param(named(["x" * 10**6], "y " * 10**6, "z" * 10**6), id="long"),
    ],
)
def test_hostile_names_neither_break_a_report_nor_write_outside_of_its_folder(
    results: list[Result], tmp_path: Path
) -> None:
    report = built(*results, path="data/a.jsonl")
    before = tree(tmp_path)
    for ending in ("html", "md"):
        report_write.to(Path(f"out/here/r.{ending}"), report)
    made = {n: b for n, b in tree(tmp_path).items() if n not in before}
    assert all(n.startswith("out/here/r") for n in made)
    assert sum(map(len, made.values())) < 5 * 2**20
    check_page(made["out/here/r.html"].decode())
    check_markdown(made["out/here/r.md"].decode())


def test_a_hostile_folder_is_quoted_in_links_and_no_command() -> None:
    folder = "data/javascript:alert(1) )](x)"
    report = built(result(), path=f"{folder}/a.jsonl")
    assert '<a href="data/javascript%3Aalert%281%29%20%29%5D%28x%29/a.jsonl">' in page(report)
    assert "[a.jsonl](data/javascript%3Aalert%281%29%20%29%5D%28x%29/a.jsonl)" in markdown(report)


def test_values_that_are_not_finite_are_absent_and_never_zero() -> None:
    nan = float("nan")
    diverged = result("nfnet-f0", (nan,) * 20, status="diverged")
    report = built(diverged, result("resnet50", (0.1, nan, 0.1, 0.1, float("inf"), 0.1)), accuracy(top1=(nan, nan)))
    steps = next(t for s in report.parts[0].studies for t in s.tables if t.name == "steps")
    at = [head.title for head in steps.heads].index("step time")
    times = {row[0].text: row[at] for row in steps.rows}
    assert (times["nfnet-f0"].text, times["nfnet-f0"].raw) == ("–", None)
    assert times["resnet50"].raw == pytest.approx(0.1)
    assert 'data-v="nan"' not in page(report) and 'data-v="inf"' not in page(report)


# figures inside a page


def figure() -> Figure:
    made = Figure()
    axes = made.add_subplot()
    axes.plot([1, 2], [3, 4], color=COLOURS[0], marker="o", label="a <b> & c")
    axes.legend()
    axes.set_xlabel("time, s")
    return made


def test_a_figure_in_a_page_has_ids_of_its_own_text_as_text_and_no_inline_style() -> None:
    one, colours = svg.inline(figure(), "g1-", "Name <x>", "Words")
    ids = re.findall(r' id="([^"]*)"', one)
    assert ids and all(i.startswith("g1-") for i in ids) and len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]*)', one)) <= set(ids)
    assert "<style" not in one and " style=" not in one and "<metadata" not in one
    assert ">time, s</text>" in one and ">a &lt;b&gt; &amp; c</text>" in one
    assert '<title id="g1-title">Name &lt;x&gt;</title><desc id="g1-description">Words</desc>' in one
    assert 'role="img" aria-labelledby="g1-title g1-description"' in one
    assert COLOURS[0].lower() in colours and "#ffffff" in colours
    assert svg.inline(figure(), "g1-", "Name <x>", "Words")[0] == one


@pytest.mark.parametrize("colour", [*COLOURS, "#000000"])
def test_every_colour_of_a_figure_is_seen_on_a_dark_page(colour: str) -> None:
    assert svg.contrast(svg.dark(colour.lower()), svg.DARK) >= 3


def test_families_are_told_apart_on_a_dark_page_too() -> None:
    assert len({svg.dark(colour.lower()) for colour in COLOURS}) == len(COLOURS)
    assert svg.dark("#ffffff") == svg.DARK


def test_a_report_is_the_same_each_time_it_is_made() -> None:
    for name in ("a", "b"):
        keep(f"{name}/runs.jsonl", [*F1_B7, result(resolved=BF16)])
    one, other = (report_build.build(report_sources.read([Path(name)])) for name in ("a", "b"))
    assert markdown(one, "a/r.md") == markdown(other, "b/r.md")
    assert report_render.page(one, Path("a")) == report_render.page(other, Path("b"))
