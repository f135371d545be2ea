"""What the figures share: their looks, and what their rows and files are called. Imports no matplotlib."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

from nfbench.analysis.rows import Row
from nfbench.catalog.models import FAMILIES
from nfbench.settings import beside_models, in_words, tell_apart
from nfbench.units import grouped, plural, slug

# Okabe and Ito's colours and Tol's: told apart with any kind of colour vision, none of them `REPORTED`
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"),
    *("#332288", "#8C6D31", "#882255", "#44AA99"),
)
REPORTED = "#6B6B6B"
"""The colour of whatever was reported in a figure that holds measurements too: families are told by marker there."""
MARKERS = "osD^vPX*<>hp8d"  # one per family, since there are more families than colours
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "nfbench",
    "svg.fonttype": "path",
    "text.parse_math": False,  # names come from anybody's results
    "font.size": 9,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 150,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
    "hatch.linewidth": 0.6,
    "savefig.facecolor": "white",
}
COLUMN = 5.0
"""Inches of a figure with one panel: printed 3.5 inches wide, as a column is, its smallest text has 5 points."""
PAGE = 7.2
"""Inches of a figure with several panels, as a page is wide."""
FORMATS = ("png", "svg")
"""What is written unless another is asked for."""
_LINE, _LINES = 32, 3
"""Letters of a line of a name beside an axis, and its lines at most: a long one would leave the axis no room."""
_ENDING = 100
"""Letters of an ending: with its machine, kind and suffix the name is one that any disk takes."""


def plain(text: str, most: int = 60) -> str:
    """``text`` from anybody's results as it can stand in a line: printable, its middle left out where it is long."""
    cut = text if len(text) <= most else f"{text[: most * 2 // 3]}…{text[len(text) - most // 3 + 1 :]}"
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in cut)


def subject(row: Row, machine: bool = True, epochs: bool = False) -> str:
    """The net of a row with what it was measured on: "nfnet-f0, batch 32, digits on NVIDIA H200"; with its epochs where
    rows differ in them."""
    parts = [plain(str(row.get("net", row.get("model", "?"))))]
    if "baseline" in row:
        parts = [f"{parts[0]} against {plain(str(row['baseline']))}"]
    settings = [f"batch {row['batch']}"] if "batch" in row else []
    settings += [f"λ {row['agc']}"] if "agc" in row and "dataset" in row else []
    settings += [plural(row["epochs"], "epoch")] if epochs and row.get("epochs") else []
    parts += [text for text in settings if text not in parts[0].split(", ")]
    parts += [plain(str(row["dataset"]), 40)] if "dataset" in row else []
    return ", ".join(parts) + (f" on {plain(str(row.get('machine', '?')))}" if machine else "")


def names(rows: Sequence[Row]) -> list[str]:
    """The model of each row with the settings that tell rows of it apart, and what any rows differ in that makes a step
    another one; no two the same."""
    differing = [key for key in ("px", "batch", "epochs") if len({row.get(key) for row in rows}) > 1]
    texts = []
    for row, words in zip(rows, beside_models(rows), strict=True):
        parts = [plain(str(row["model"]), 40), *words, *in_words(row, (key for key in differing if key in row))]
        parts += ["composed"] if row.get("composed") else []
        texts.append(", ".join(plain(part, 90) for part in dict.fromkeys(parts)))
    return distinct(texts, "{} ({})")


def apart(labels: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """``labels`` of the rows, those that are equal with the settings that tell their rows apart, or else a number."""
    texts = list(labels)
    for places in grouped(range(len(labels)), lambda place: labels[place]).values():
        needed = tell_apart([rows[place] for place in places])
        for place in places:
            words = in_words(rows[place], (name for name in needed if name in rows[place]))
            texts[place] = ", ".join([labels[place], *(plain(word, 90) for word in words)])
    return distinct(texts, "{} ({})")


def headers(groups: Sequence[Sequence[Row]]) -> list[str]:
    """The net of each group, with the settings in which others of that net differ, no two the same."""
    common: list[Row] = []
    for first, *others in groups:
        common.append({key: value for key, value in first.items() if all(row.get(key) == value for row in others)})
    return names(common)


def labels(rows: Sequence[Row]) -> list[str]:
    """The name of each row in lines, as it stands beside an axis, no two the same."""
    return distinct(map(wrapped, names(rows)), "{} ({})")


def wrapped(text: str) -> str:
    """``text`` in lines that end at commas where they can, its middle left out where it needs too many."""
    parts = _broken(text, _LINE * _LINES)
    return "\n".join(parts if len(parts) <= _LINES else _broken(text, _LINE * (_LINES - 1))[:_LINES])


def _broken(text: str, most: int) -> list[str]:
    joined = plain(text, most).replace(" ", "\N{NO-BREAK SPACE}").replace(",\N{NO-BREAK SPACE}", ", ")
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in textwrap.wrap(joined, _LINE)]


def distinct(names: Iterable[str], form: str = "{}-{}") -> list[str]:
    """The names, each that was there already with a number that makes it another: "a", "a-2"."""
    taken: dict[str, None] = {}
    for name in names:
        numbered = (form.format(name, i) if i > 1 else name for i in count(1))
        taken[next(each for each in numbered if each not in taken)] = None
    return list(taken)


def endings(keys: Sequence[tuple[object, ...]], always: int = 0) -> list[str]:
    """What ends the file names of figures of one kind, no two of a machine the same: "digits-2-epochs".

    Each key is the machine and then what its figure is of, in words. Of those a name has what tells the figure from
    others that are alike in all words before, and the first words that it has ``always``; else it is empty where the
    machine has one figure.
    """
    within: dict[tuple[object, ...], set[object]] = {}
    for key in keys:
        for i in range(1, len(key)):
            within.setdefault(key[:i], set()).add(key[i])
    endings = [""] * len(keys)
    for place, key in enumerate(keys):
        words = (slug(str(key[i])) for i in range(1, len(key)) if i <= always or len(within[key[:i]]) > 1)
        endings[place] = "-".join(words)[:_ENDING].strip("-")
    for places in grouped(range(len(keys)), lambda place: keys[place][0]).values():
        for place, name in zip(places, distinct(endings[p] for p in places), strict=True):
            endings[place] = name.strip("-")
    return endings


def drawable(time: float | None) -> bool:
    """Whether ``time`` in seconds can stand on an axis: matplotlib's ticks overflow with what no clock has shown."""
    return time is not None and 1e-12 < time < 1e12


def interval(row: Row) -> tuple[float, float] | None:
    """The ends of the step time's interval in seconds, where there is one that can be drawn."""
    ends = row.get("step_time_low"), row.get("step_time_high")
    return ends if all(map(drawable, ends)) else None  # type: ignore[return-value]


def in_order(row: Row) -> tuple[int, str]:
    """A key that sorts rows by family, then by model."""
    family = row.get("family")
    return FAMILIES.index(family) if family in FAMILIES else len(FAMILIES), row["model"]


def look(family: str) -> tuple[str, str]:
    """The colour and marker of a family."""
    place = FAMILIES.index(family) if family in FAMILIES else len(FAMILIES)
    return COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]


def series(model: str, family: str | None) -> tuple[str, str]:
    """What a net of that name and family is drawn as in a line through sizes, and the family whose looks it has.

    The tiny nets are one family in the catalogue: each is drawn like the family that it is small of.
    """
    if family == "tiny":
        name = model.removesuffix("-s").removesuffix("-l")
        return name, name.replace("tiny-", "", 1)
    if family in FAMILIES:
        return family, family
    return plain(model, 40), family or ""
