"""Paths that a terminal opens with a click, and plain text everywhere else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TextIO

from nfbench.units import printable


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
