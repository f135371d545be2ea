"""How the parameters of a net are laid out for the clip's kernels: which launch takes a unit, and how it is read.

Units whose rows begin and end on 16 bytes and fit in one block are read once, with vector loads, and written only where
they are clipped; all others take a loop. Each pair of types, weight and gradient, takes launches of its own.

::

    unit ──owner──▶ parameter ──table──▶ address of W, address of G (0 where there is no gradient)
      └── unit − first[parameter] = row;  row · length[parameter] = its first element
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nfbench.nets.agc_foreach import SPARSE
from nfbench.nets.agc_units import rows, units_of

ALIGNED = 16
"""Bytes that one vector load takes."""

_LARGEST_BLOCK = 4096
_LOOP_BLOCK = 1024
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class Kind(NamedTuple):
    """What decides how a parameter is laid out; ``length`` is the number of elements of each of its units."""

    units: int
    length: int
    weight: torch.dtype
    gradient: torch.dtype
    scattered: bool
    aligned: bool


class Launch(NamedTuple):
    """The units of one launch: the parameter of each, and the static part of the table.

    ``owner`` is (units of the launch,) in int32; ``first`` and ``length`` are (parameters of the net,) in int64. Each
    program takes ``block`` elements at a time. ``like``, of weight and gradient, only gives the types.
    """

    owner: Tensor
    first: Tensor
    length: Tensor
    block: int
    aligned: bool
    like: tuple[Tensor, Tensor]


def kind_of(parameter: Tensor, gradient: Tensor) -> Kind:
    """The kind of a parameter with this gradient.

    Raises:
        ValueError: the gradient is sparse.
    """
    if gradient.layout != torch.strided:
        raise ValueError(SPARSE.format(gradient.layout))
    aligned = not (parameter.data_ptr() | gradient.data_ptr()) % ALIGNED
    units = units_of(parameter)
    length = parameter.numel() // units if units else 0
    dense = gradient.shape == parameter.shape and all(rows(x.detach()) is not None for x in (parameter, gradient))
    return Kind(units, length, parameter.dtype, gradient.dtype, not dense, aligned)


def lay_out(kinds: Sequence[Kind | None], device: torch.device) -> tuple[list[Launch], list[int]]:
    """The launches on ``device`` for parameters of these kinds, and the places of those that no kernel takes.

    None stands for a parameter that has had no gradient yet. Allocates on the device, without waiting for it.
    """
    groups: dict[tuple[bool, torch.dtype, torch.dtype], list[int]] = {}
    rest = []
    for i, kind in enumerate(kinds):
        if kind is None or not kind.units * kind.length:
            continue
        if kind.scattered or kind.weight not in _DTYPES or kind.gradient not in _DTYPES:
            rest.append(i)
            continue
        narrow = min(kind.weight.itemsize, kind.gradient.itemsize)
        whole = kind.aligned and not kind.length * narrow % ALIGNED
        aligned = whole and kind.length <= _LARGEST_BLOCK and kind.units > 1
        groups.setdefault((aligned, kind.weight, kind.gradient), []).append(i)
    return [_launch(kinds, places, device, *key) for key, places in groups.items()], rest


def _launch(
    kinds: Sequence[Kind | None],
    places: list[int],
    device: torch.device,
    aligned: bool,
    weight: torch.dtype,
    gradient: torch.dtype,
) -> Launch:
    own = [kind for i in places if (kind := kinds[i]) is not None]
    units, lengths = np.array([k.units for k in own]), np.array([k.length for k in own])
    first, length = (np.zeros(len(kinds), dtype=np.int64) for _ in range(2))
    first[places], length[places] = np.cumsum(units) - units, lengths
    longest = 1 << (int(lengths.max()) - 1).bit_length()

    def there(values: np.ndarray[Any, Any]) -> Tensor:
        host = torch.from_numpy(values)
        return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host

    return Launch(
        there(np.repeat(np.array(places, dtype=np.int32), units)),
        there(first),
        there(length),
        max(16, longest if aligned else min(_LOOP_BLOCK, longest)),
        aligned,
        (torch.empty(16, dtype=weight, device=device), torch.empty(16, dtype=gradient, device=device)),
    )
