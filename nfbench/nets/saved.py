"""Counting the bytes that forward keeps for backward."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


class Saved:
    """Counts the storages that autograd saves while `counting`, each once; those of ``own`` tensors are not counted.

    That is what a pass holds between forward and backward besides the net's own parameters and buffers, in bytes,
    whatever the allocator rounds up.
    """

    def __init__(self, own: Iterable[Tensor]) -> None:
        self._own = {_place(tensor) for tensor in own}
        self._storages: dict[tuple[torch.device, int], int] = {}

    @property
    def bytes(self) -> int:
        """The bytes so far."""
        return sum(self._storages.values())

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Enter it around forward."""
        with torch.autograd.graph.saved_tensors_hooks(self._pack, _unpack):
            yield

    def _pack(self, tensor: Tensor) -> Tensor:
        place = _place(tensor)
        if place not in self._own and tensor.layout is torch.strided:
            self._storages[place] = tensor.untyped_storage().nbytes()
        # the tensor itself would hold its own graph, which holds the tensor
        return tensor.detach()


def _place(tensor: Tensor) -> tuple[torch.device, int]:
    return tensor.device, tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else id(tensor)


def _unpack(tensor: Tensor) -> Tensor:
    return tensor
