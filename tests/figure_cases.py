"""Figures of made results, and what is to be read in them."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nfbench.analysis import training_runs
from nfbench.analysis.rows import rows
from nfbench.records import Result
from nfbench.showing.figures.canvas import looks
from nfbench.showing.figures.driver import Drawing, drawing
from nfbench.showing.figures.kinds import KINDS
from nfbench.showing.shown_rows import Shown, ratio_rows, ratios


def held(*results: Result, everything: bool = False) -> Shown:
    """All that figures can be drawn from, also what is noisy and older sessions."""
    trained = training_runs.rows(results, everything)[0]
    turns = ratio_rows(ratios(results, everything))
    return Shown(rows(results, everything)[0], turns, (), trained, results=results, everything=everything)


def drawn(kind: str, *results: Result, everything: bool = False) -> Drawing:
    """The figures of a kind, and what is in none."""
    return drawn_from(kind, held(*results, everything=everything))


def drawn_from(kind: str, of: Shown) -> Drawing:
    """The figures of a kind, and what is in none."""
    with looks():
        return drawing(KINDS[kind], of)


def only(kind: str, *results: Result) -> Figure:
    """The one figure of a kind."""
    ((_, figure),) = drawn(kind, *results).figures
    return figure


def axes_of(kind: str, *results: Result) -> Axes:
    """The first axes of the one figure of a kind."""
    return only(kind, *results).axes[0]


def legend(figure: Figure) -> list[str]:
    """The entries of the legend."""
    return [text.get_text() for box in figure.legends for text in box.get_texts()]


def foot(figure: Figure) -> str:
    """The note below a figure, in one line."""
    return str(figure.get_supxlabel()).replace("\n", " ")


def texts(axes: Axes) -> list[str]:
    """What is written inside the axes."""
    return [text.get_text() for text in axes.texts if text.get_text()]


def ticks(axes: Axes) -> list[str]:
    """The names beside the y axis."""
    return [text.get_text() for text in axes.get_yticklabels()]


def marked(axes: Axes) -> list[Any]:
    """The lines that are points, but for the front and for the samples beside a strip."""
    lines = [line for line in axes.lines if line.get_marker() not in ("None", None, "")]
    return [line for line in lines if line.get_label() not in ("_sample", "_front")]


def points(axes: Axes) -> list[tuple[float, float]]:
    """Where points stand, but for hollow ones, which were reported."""
    lines = [line for line in marked(axes) if line.get_markerfacecolor() != "white"]
    return [(float(x), float(y)) for line in lines for x, y in zip(*line.get_data(), strict=True)]


def why(made: Drawing) -> set[str]:
    """The reasons for what is in no figure."""
    return {missing.why for missing in made.missing}
