"""What is written to the screen: texts of which nothing moves the cursor, and paths that a click opens.

Only what nfbench adds itself has escapes: the faint rules of tables, links, and rich's live line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

import click

from nfbench.errors import printable, printable_lines


def say(text: str, err: bool = True) -> None:
    """Write lines to standard error or to standard output, whoever wrote what they quote."""
    click.echo(printable_lines(text), err=err)


def command_ci(lines: Iterable[str]) -> None:
    """Write workflow commands, which `nfbench.showing.ci` has made safe, to standard error."""
    for line in lines:
        click.echo(line, err=True)


def on_terminal() -> bool:
    """Whether a person reads the standard output."""
    return sys.stdout.isatty()


def show(table: str, format: str) -> None:
    """Write a table, which ends in a newline, to standard output: as it is to a file or a pipe."""
    if format in ("csv", "json") and on_terminal():
        table = printable_lines(table)
    click.echo(table, nl=False)


def linked(path: Path, stream: TextIO) -> str:
    """``path`` as text for ``stream``, with a link to it where rich finds a terminal that shows colours: never in a
    pipe, a file or the log of a CI job."""
    if not stream.isatty() or os.environ.get("CI"):
        return str(path)
    from rich.console import Console
    from rich.style import Style

    console = Console(file=stream)
    if console.color_system is None or console.legacy_windows:
        return str(path)
    # a URL quotes every character that could end the link
    return Style(link=path.absolute().as_uri()).render(printable(str(path)))
