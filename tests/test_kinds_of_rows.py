from __future__ import annotations

from pathlib import Path

import all_sorts
import pytest
from make import accuracy as accuracy_run
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nfbench.analysis import accuracy
from nfbench.analysis.rows import rows
from nfbench.records import Result
from nfbench.showing import plots
from nfbench.showing.kinds import Drawing, Held, find
from nfbench.showing.study import ratios

KINDS = ("speedup", "phases", "ranks", "energy", "steps", "training-curves")


def held(results: list[Result]) -> Held:
    return Held(rows(results)[0], results, accuracy.rows(results)[0], ratios(results, everything=False))


@pytest.fixture(scope="module")
def every() -> list[Result]:
    return all_sorts.results()


@pytest.fixture(scope="module")
def drawings(every: list[Result]) -> dict[str, Drawing]:
    with plots.looks():
        return {kind: find(kind)(held(every)) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_drawn_or_missing_with_a_reason_and_once(
    kind: str, drawings: dict[str, Drawing], every: list[Result]
) -> None:
    drawing, all_of = drawings[kind], held(every)
    read = {
        "speedup": len(all_of.ratios),
        "steps": all_sorts.steps(every),
        "training-curves": all_sorts.seeds(every),
    }.get(kind, len(all_of.rows))
    assert len(drawing.drawn) + len(drawing.missing) == read
    assert len({id(row) for row in drawing.drawn} | {id(m.row) for m in drawing.missing}) == read
    assert drawing.drawn and drawing.figures
    assert all(m.why and not m.why.endswith(".") for m in drawing.missing)


def plots_text(artist: object) -> bool:
    from matplotlib.text import Text

    return isinstance(artist, Text) and bool(artist.get_text())


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_stays_in_the_figure(kind: str, drawings: dict[str, Drawing]) -> None:
    for _, figure in drawings[kind].figures[:4]:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        width, height = canvas.get_width_height()
        for text in figure.findobj(plots_text):
            if text.get_visible() and (text.axes is None or text.axes.get_visible()):
                box = text.get_window_extent(canvas.get_renderer())
                if box.width and text not in hidden(figure):
                    assert box.x0 >= -2 and box.x1 <= width + 2 and box.y0 >= -2 and box.y1 <= height + 2, text


def hidden(figure: object) -> set[object]:
    """Labels of ticks outside of their axis, which matplotlib keeps but does not draw."""
    found: set[object] = set()
    for axes in figure.axes:  # type: ignore[attr-defined]
        for axis in (axes.xaxis, axes.yaxis):
            drawn = {id(tick) for tick in axis._update_ticks()}
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            found |= {label for t in ticks if id(t) not in drawn or not axes.axison for label in (t.label1, t.label2)}
    return found


def test_the_same_results_give_the_same_bytes_and_write_nothing_elsewhere() -> None:
    few = [*all_sorts.in_turns("nfnet-f1", all_sorts.HOSTILE[0], (0.1, 0.2)), all_sorts.on_ranks(), accuracy_run()]
    for folder in ("a", "b"):
        made = plots.draw(held(few), Path(folder), KINDS, ("svg",))
        assert len(set(made.files)) == len(made.files) and all(drawing.figures for drawing in made.drawings.values())
    names = sorted(path.name for path in Path("a").iterdir())
    assert names == sorted(path.name for path in Path("b").iterdir())
    assert all(Path("a", name).read_bytes() == Path("b", name).read_bytes() for name in names)
    assert {path.parent for path in Path().rglob("*.*") if path.is_file()} == {Path("a"), Path("b")}
