"""The axes of a study's table: lists and ranges make a grid, of which points may be excluded.

::

    batch = [2, 4, 8]                                a list is an axis
    batch = { from = 2, to = 4096, factor = 2 }      and so is a range, both ends in it; or with step = 2
    exclude = [{ model = "nfnet-f6", batch = 4096 }] points that match one of these tables are left out
    px = "by model"                                  what stands in [models."…"] for the point's model
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from nfbench.catalog.models import find
from nfbench.errors import BadStudy

BY_MODEL = "by model"
MOST_POINTS = 100_000
_RANGE = ("from", "to", "factor", "step")
_NETS = ("model", "net")


def points(
    table: Mapping[str, Any],
    models: Mapping[str, Mapping[str, Any]],
    exclude: Sequence[Mapping[str, Any]] = (),
    common: Collection[str] = (),
) -> list[dict[str, Any]]:
    """The points of the grid that the axes of ``table`` make, in the order of its keys, the last one fastest.

    ``models`` are settings of single nets. They go before those of ``table`` that are ``common`` to all tables, and the
    others of ``table`` before them.

    Raises:
        BadStudy: a range is none, the grid has over 100,000 points, or a net lacks what is ``by model``.
        UnknownModel: what lacks it is no net.
    """
    axes = [[(name, value) for value in axis(name, values)] for name, values in table.items()]
    count = 1
    for values in axes:
        count *= len(values)
    if count > MOST_POINTS:
        raise BadStudy(f"The axes make {count:,} workloads, over {MOST_POINTS:,}.", try_="fewer values an axis")
    found = [_with_model(dict(point), models, common) for point in itertools.product(*axes)]
    # an axis that a net has one value of would repeat it
    once = {json.dumps(point, sort_keys=True, default=str): point for point in found}
    return [point for point in once.values() if not any(matches(point, one) for one in exclude)]


def axis(name: str, value: Any) -> list[Any]:
    """The values of one setting: those of a list or of a range, or the one that there is.

    Raises:
        BadStudy: a table that is no range.
    """
    if isinstance(value, list):
        return value
    if not isinstance(value, dict) or name.endswith("_settings"):
        return [value]
    if unknown := [key for key in value if key not in _RANGE]:
        raise BadStudy(f"{name} is no range: {unknown[0]!r} is none of {', '.join(_RANGE)}.", try_=_pattern(name))
    low, high = value.get("from"), value.get("to")
    growth = [key for key in ("factor", "step") if key in value]
    numbers = [v for v in (low, high, *(value[key] for key in growth)) if type(v) in (int, float)]
    if len(numbers) != 3 or len(growth) != 1:
        raise BadStudy(
            f"{name} is no range: it needs numbers from and to, and a factor or a step.", try_=_pattern(name)
        )
    low, high, by = numbers
    if not all(map(math.isfinite, numbers)):
        raise BadStudy(f"{name} has no end: it needs finite numbers.", try_=_pattern(name))
    if by <= (1 if growth == ["factor"] else 0) or (growth == ["factor"] and low <= 0):
        raise BadStudy(f"{name} never gets from {low:g} to {high:g}: {growth[0]} is {by:g}.", try_=_pattern(name))
    return list(itertools.islice(_range(low, high, by, growth == ["factor"]), MOST_POINTS + 1))


def _range(low: float, high: float, by: float, factor: bool) -> Iterator[float]:
    # counted, not summed up, so that 0.1 in steps of 0.1 ends at 1
    for place in itertools.count():
        value = low * by**place if factor else low + by * place
        if value > high * (1 + 1e-9):
            return
        yield value if isinstance(value, int) else float(f"{value:.12g}")


def _pattern(name: str) -> str:
    return f"{name} = {{ from = 2, to = 64, factor = 2 }}"


def _with_model(
    point: dict[str, Any], models: Mapping[str, Mapping[str, Any]], common: Collection[str]
) -> dict[str, Any]:
    net = next((point[key] for key in _NETS if key in point), None)
    own = models.get(net, {}) if isinstance(net, str) else {}
    point.update({key: value for key, value in own.items() if key not in point or key in common})
    for name, value in point.items():
        if value == BY_MODEL:
            if name not in own:
                # a name that is misspelt lacks more than that
                find(str(net))
                raise BadStudy(
                    f"{net} has no {name}, which is to be taken by model.", try_=f'[models."{net}"] with {name} = …'
                )
            point[name] = own[name]
    return point


def matches(point: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether each setting of ``wanted`` is that of the point, or one of a list has it."""
    return all(
        name in point and (point[name] in value if isinstance(value, list) else point[name] == value)
        for name, value in wanted.items()
    )
