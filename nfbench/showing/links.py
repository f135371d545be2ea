"""Paths that a terminal opens with a click: OSC 8 hyperlinks, and plain text everywhere else."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO

from nfbench.showing.tables import printable

_CANNOT = ("", "dumb", "unknown", "linux")
"""Values of TERM of terminals that know no links, or would show their escapes."""
_WINDOWS = ("WT_SESSION", "TERM_PROGRAM", "ConEmuANSI", "TERM")
"""Variables that Windows' own console does not set, and the terminals that know links do."""


def can_link(stream: TextIO) -> bool:
    """Whether ``stream`` is a terminal that understands links: never a pipe, a file or the log of a CI job."""
    if not stream.isatty() or os.environ.get("CI"):
        return False
    if sys.platform == "win32" and not any(map(os.environ.get, _WINDOWS)):
        return False
    return os.environ.get("TERM", "xterm" if sys.platform == "win32" else "") not in _CANNOT


def linked(path: Path, stream: TextIO) -> str:
    """``path`` as text for ``stream``, with a link to it where that can be clicked.

    The link is a ``file://`` URL of the absolute path without a host, every character quoted that could end it.
    """
    text = str(path)
    if not can_link(stream):
        return text
    url = path.absolute().as_uri()
    return f"\033]8;;{url}\033\\{printable(text)}\033]8;;\033\\"
