"""What is written to the screen: texts of which nothing moves the cursor, and paths that a click opens.

Only what nfbench adds itself has escapes: the faint rules of tables, links, and rich's live line.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TextIO

import click

from nfbench.errors import printable, printable_lines

NOTES = "nfbench.notes"
"""Where the context of a command keeps whether ``--notes`` was typed."""


def say(text: str, err: bool = True) -> None:
    """Write lines to standard error or to standard output, whoever wrote what they quote.

    A terminal gets them broken between words.
    """
    text = runnable(printable_lines(text))
    if (sys.stderr if err else sys.stdout).isatty():
        width = shutil.get_terminal_size().columns
        text = "\n".join(
            line if len(line) <= width else textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
            for line in text.splitlines()
        )
    click.echo(text, err=err)


def runnable(text: str) -> str:
    """``text`` with its commands as they can be typed here: ``uv run nfbench …`` where only uv knows where nfbench is.

    ``uv run`` sets UV_RUN_RECURSION_DEPTH, and only the script that activates an environment sets VIRTUAL_ENV_PROMPT.
    """
    if "UV_RUN_RECURSION_DEPTH" not in os.environ or "VIRTUAL_ENV_PROMPT" in os.environ:
        return text
    return _typed().sub("uv run nfbench ", text)


@cache
def _typed() -> re.Pattern[str]:
    folder = Path(__file__).parents[1] / "commands"
    names = "|".join(sorted(file.stem.replace("_", "-") for file in folder.glob("[!_]*.py")))
    return re.compile(rf"(?<![\w./-])(?<!-m )(?<!uv run )nfbench (?=(?:{names}|--help)\b)")


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


def say_files(what: str, folder: Path, names: str) -> None:
    """Say on standard error that files are in ``folder``, which a terminal links, and below it their ``names``."""
    click.echo(f"{what} in {linked(folder, sys.stderr)}:", err=True)
    say(f"  {names}")


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
