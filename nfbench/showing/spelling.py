"""How characters are spelt where a stream cannot write them: a table is worth more than its rules."""

from __future__ import annotations

import codecs
import io
from typing import TextIO

ASCII = dict(
    zip(
        "λραεµ±×→…–−·─█▸≠",
        ("lambda", "rho", "alpha", "epsilon", "u", "+/-", "x", "->", "..", "-", "-", ",", "-", "#", ">", "!="),
        strict=True,
    )
)
"""Characters of nfbench's own and what stands for them; anything else becomes a question mark."""
_HANDLER = "nfbench.spelt"


def _spelt(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(ASCII.get(c, "?") for c in error.object[error.start : error.end]), error.end


def never_fails(stream: TextIO) -> None:
    """Have ``stream`` write what its encoding lacks as `ASCII` has it, in place of raising `UnicodeEncodeError`."""
    if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
        try:
            "".join(ASCII).encode(stream.encoding)
        except UnicodeEncodeError:
            codecs.register_error(_HANDLER, _spelt)
            stream.reconfigure(errors=_HANDLER)
