"""``[[accept]]`` in a study file: a change for the worse that is wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from nfbench.analysis.acceptance import Accept
from nfbench.analysis.verdicts import COUNTS
from nfbench.catalog import models
from nfbench.errors import BadStudy, NfbenchError


def one(entry: Mapping[str, Any], settings: Sequence[str], place: str) -> Accept:
    """One ``[[accept]]`` of a study file; ``settings`` are the names that narrow it, ``place`` where it stands.

    Raises:
        BadStudy: it names no model, nothing that is accepted, no day or no reason.
    """
    where = {k: v for k, v in entry.items() if k in settings}
    if not isinstance(where.get("model"), str):
        raise BadStudy(f"{place}: model is missing or no text.", try_='model = "nfnet-f0"')
    try:
        where["model"] = models.find(where["model"]).name
    except NfbenchError as error:
        raise BadStudy(f"{place}: {error.what}", why=error.why, try_=error.try_) from error
    shares = {k: _share(entry[k], f"{place}: {k}") for k in ("slower", *COUNTS) if k in entry}
    if not shares:
        raise BadStudy(f"{place} accepts nothing.", try_='slower = "6%"')
    until = entry.get("until")
    try:
        day = until if type(until) is date else date.fromisoformat(str(until))
    except ValueError:
        raise BadStudy(f"{place}: until is no day: {until!r}.", try_='until = "2027-01-31"') from None
    if not isinstance(entry.get("reason"), str) or not entry["reason"].strip():
        raise BadStudy(f"{place} gives no reason.", try_='reason = "…"')
    slower = shares.pop("slower", 0.0)
    return Accept(where=where, until=day, reason=entry["reason"].strip(), slower=slower, counts=shares)


def _share(value: object, place: str) -> float:
    """A share as "6%", "0.06" or 0.06."""
    try:
        text = str(value).strip()
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        share = -1.0
    if not 0 < share < 1:
        raise BadStudy(f"{place} is no share between 0 and 1: {value!r}.", try_='"6%" or 0.06')
    return share
