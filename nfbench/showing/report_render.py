"""A report as text: Markdown with figures beside it, or one page that holds everything and loads nothing.

Whatever a template prints is escaped unless it is marked as safe, in both.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from nfbench.showing import svg
from nfbench.showing.report import Link, Report

LONG = 40
"""Rows above which a table is folded in Markdown."""
SIGNS = {
    "holds": "✓",
    "does not hold": "✗",
    "agrees here": "+",
    "disagrees here": "−",
    "cannot tell": "?",
    "measured only": "·",
    "by construction": "=",
    "not run": "–",
}
"""What tells verdicts apart without colour."""

_SPECIAL = re.compile(r"([\\`*_\[\]{}<>|#!~$&@])")
_TRAILING, _BLANK = re.compile(r" +$", re.MULTILINE), re.compile(r"\n{3,}")
_LEADING = re.compile(r"^(\d+)([.)])(?=\s|$)|^([-+=])")


def markdown(report: Report, files: Mapping[int, str], folder: Path) -> str:
    """The report as GitHub shows it; ``files`` are the paths of figures from ``folder``, by their place."""
    places = {id(picture): place for place, picture in enumerate(report.pictures)}
    text = _environment("md").get_template("report.md.j2").render(
        report=report,
        image=lambda picture: _Safe(address(files[places[id(picture)]])),
        link=lambda link: _linked(link, folder),
        signs=SIGNS,
        LONG=LONG,
    )  # fmt: skip
    return _BLANK.sub("\n\n", _TRAILING.sub("", text))


def page(report: Report, folder: Path) -> str:
    """The report as one page. Its policy lets no other style, no other script and no request through."""
    inlined, colours = [], set[str]()
    for place, picture in enumerate(report.pictures):
        text, own = svg.inline(picture.figure, f"g{place}-", picture.caption, picture.alt)
        inlined.append(Markup(text))
        colours |= own
    places = {id(picture): place for place, picture in enumerate(report.pictures)}
    environment = _environment("html")
    style = environment.get_template("report.css.j2").render(colours=svg.themed(colours), ground=svg.DARK)
    script = environment.get_template("report.js").render()
    return environment.get_template("report.html.j2").render(
        report=report,
        image=lambda picture: inlined[places[id(picture)]],
        link=lambda link: _linked(link, folder),
        signs=SIGNS,
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def address(path: str) -> str:
    """A relative path as it stands in a link: it names no scheme, whatever a folder is called."""
    return quote(path, safe="/")


def below(path: Path, folder: Path) -> str | None:
    """``path`` from ``folder``, where it lies below it: other paths tell more of a disk than a report should."""
    try:
        relative = os.path.relpath(path.resolve(), folder.resolve())
    except ValueError:  # another drive
        return None
    return None if relative.startswith("..") or Path(relative).is_absolute() else Path(relative).as_posix()


def _linked(link: Link, folder: Path) -> str | None:
    path = below(link.path, folder)
    return None if path is None else _Safe(address(path))


class _Safe(str):
    """Text that is Markdown or an address already."""

    __slots__ = ()

    def __html__(self) -> str:
        return self.replace("&", "&amp;").replace('"', "&quot;").replace("'", "&#39;")


def escaped(value: Any) -> str:
    """``value`` as plain text in Markdown: no markup, no link that GitHub would make, no cell that ends early."""
    if isinstance(value, _Safe):
        return value
    text = " ".join(str(value).split())
    text = _SPECIAL.sub(r"\\\1", text).replace("://", "\\://").replace("www.", "www\\.")
    return _LEADING.sub(lambda found: f"{found[1]}\\{found[2]}" if found[1] else f"\\{found[3]}", text)


def _verbatim(lines: tuple[str, ...]) -> _Safe:
    """Lines in a block of code, that none of them ends."""
    text = "\n".join(lines)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return _Safe(f"{fence}sh\n{text}\n{fence}")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _environment(kind: str) -> Environment:
    environment = Environment(
        loader=PackageLoader("nfbench.showing"),
        autoescape=kind == "html",
        finalize=escaped if kind == "md" else None,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"verbatim": _verbatim, "safe_md": _Safe, "markup": lambda text: _Safe(escape(text))}
    return environment
