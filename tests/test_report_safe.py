"""What anybody may have put into results, and figures inside a page: nothing breaks it, and nothing in it loads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from make import SOFTWARE, accuracy, result
from matplotlib.figure import Figure
from messy import messy
from report_cases import HOSTILE, built, markdown, page, tree, turns

from nfbench.analysis import accuracy as trained_rows
from nfbench.analysis.rows import rows
from nfbench.records import Machine, Result, StepTime
from nfbench.showing import report_write, svg
from nfbench.showing.figures.canvas import looks
from nfbench.showing.figures.driver import drawing
from nfbench.showing.figures.prepared import Held
from nfbench.showing.figures.style import COLOURS
from nfbench.showing.figures.table import KINDS
from nfbench.showing.study import ratios


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


@cache
def held() -> Held:
    some = messy()
    return Held(rows(some)[0], some, trained_rows.rows(some)[0], ratios(some, everything=False))


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


@pytest.mark.parametrize("kind", KINDS)
def test_no_figure_of_any_kind_holds_an_image_which_a_pages_policy_would_block(kind: str) -> None:
    with looks():
        made = drawing(KINDS[kind], held())
    for place, (_, figure) in enumerate(made.figures):
        text, _ = svg.inline(figure, f"g{place}-", kind, "Words")
        assert "<svg" in text and "<image" not in text


def test_a_figure_that_holds_an_image_is_refused() -> None:
    made = Figure()
    made.add_subplot().imshow([[0, 1], [1, 0]])
    with pytest.raises(ValueError, match="Name: the figure holds an image, which no page shows: draw it as lines and"):
        svg.inline(made, "g1-", "Name", "Words")


def test_arrows_of_a_page_have_no_words_and_older_browsers_draw_them_too() -> None:
    style = re.search(r"<style>(.*?)</style>", page(built(result())), re.DOTALL)
    assert style is not None
    for sign in ("↕", "↑", "↓"):
        assert f'content: " {sign}"; content: " {sign}" / "";' in style[1]
