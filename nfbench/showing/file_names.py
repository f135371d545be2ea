"""What the files of figures are called: no two the same, whatever the results' own names are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count

from nfbench.units import slug

_MOST = 100
"""Letters of an ending: with its machine, kind and suffix the name is one that any disk takes."""


def distinct(names: Iterable[str], form: str = "{}-{}") -> list[str]:
    """The names, each that was there already with a number that makes it another: "a", "a-2"."""
    found: dict[str, None] = {}
    for name in names:
        numbered = (form.format(name, i) if i > 1 else name for i in count(1))
        found[next(each for each in numbered if each not in found)] = None
    return list(found)


def endings(keys: Sequence[tuple[object, ...]]) -> list[str]:
    """What ends the file names of figures of one kind, no two of a machine the same: "digits-2-epochs".

    Each key is the machine and then what its figure is of, in words. Of those a name has what tells the figure from
    others that are alike in all words before; it is empty where the machine has one figure.
    """
    within: dict[tuple[object, ...], set[object]] = {}
    for key in keys:
        for i in range(1, len(key)):
            within.setdefault(key[:i], set()).add(key[i])
    found = [""] * len(keys)
    machines: dict[object, list[int]] = {}
    for place, key in enumerate(keys):
        told = (slug(str(key[i])) for i in range(1, len(key)) if len(within[key[:i]]) > 1)
        found[place] = "-".join(told)[:_MOST].strip("-")
        machines.setdefault(key[0], []).append(place)
    for places in machines.values():
        for place, name in zip(places, distinct(found[p] for p in places), strict=True):
            found[place] = name.strip("-")
    return found
