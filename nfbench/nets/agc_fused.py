"""Adaptive gradient clipping in at most two Triton launches for all parameters of a net.

One program a unit. A table on the device holds the address of every weight and gradient; `zero_grad` moves gradients,
so the addresses are compared at each call and where one has moved the table goes over anew, from pinned memory, without
waiting. Shapes, types, strides and the address modulo 16 decide which units there are and how each is read; they are
compared at each call too, without an operator of torch.

Units whose rows begin and end on 16 bytes and fit in one block are read once, with vector loads, and written only where
they are clipped; all others take a loop. Each pair of types, weight and gradient, takes launches of its own.

::

    unit ──owner──▶ parameter ──table──▶ address of W, address of G (0 where there is no gradient)
      └── unit − first[parameter] = row;  row · length[parameter] = its first element
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import os
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nfbench.errors import out_of_memory, reason
from nfbench.nets.agc_units import LEAST_NORM, SPARSE, Units, foreach, rows, units_of

ALIGNED = 16
"""Bytes that one vector load takes."""

_LARGEST_BLOCK = 4096
_LOOP_BLOCK = 1024
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)

SPREAD = 64
"""Counters that the programs add to: one alone would be waited for by all of them."""

SPARES = 4
"""Tables kept ready for captures, in which none can be allocated."""

_OUTSIDE_FIRST = "Clip once outside of the CUDA graph, with gradients of the same shapes, before what is captured."


@functools.cache
def _kernels() -> tuple[Any, Any]:
    """The two kernels; Triton is imported with the first use, since a CPU does without it.

    Raises:
        ImportError: there is no Triton.
    """
    from nfbench.nets import agc_kernels

    return agc_kernels.clip_aligned, agc_kernels.clip_looped


def interpreted() -> bool:
    """Whether Triton's interpreter is on (TRITON_INTERPRET=1), in which the kernels run on CPU tensors."""
    return os.environ.get("TRITON_INTERPRET") == "1" and importlib.util.find_spec("triton") is not None


_refusals: dict[torch.device, str | None] = {}
_captured: list[tuple[Tensor, Tensor, list[Launch]]] = []
"""What CUDA graphs have addresses of. A graph may outlive its plan, and does not say when it goes."""


def refusal(device: torch.device) -> str | None:
    """Why the kernels do not run on ``device``; None where one has compiled and run there. Waits for the device.

    Raises:
        RuntimeError: it was not known yet, and a CUDA graph is being captured, in which nothing can be tried.
    """
    if device not in _refusals:
        if device.type == "cuda" and _capturing():
            raise RuntimeError(_OUTSIDE_FIRST)
        try:
            _refusals[device] = _tried(device)
        except Exception as error:
            if not out_of_memory(error):
                raise
            return "there was no memory for its trial"  # there may be some the next time
    return _refusals[device]


def _tried(device: torch.device) -> str | None:
    try:
        if device.type != "cuda" and not interpreted():
            return f"it needs CUDA, and this is {device.type}"
        probe = torch.nn.Parameter(torch.ones(2, 4).to(device))
        probe.grad = torch.ones(2, 4).to(device)
        Fused([probe])(0.01, 1e-3)
        clipped = int(probe.grad.cpu().isclose(torch.tensor(0.01)).all(dim=1).sum())
        return None if clipped == 2 else f"a trial clipped {clipped} of 2 units"
    except Exception as error:  # a compiler, a driver or Triton itself that is missing or too old says so in many ways
        if out_of_memory(error):
            raise
        words = reason(error)
        return "Triton finds no C compiler: install one, or name it in CC" if "find C compiler" in words else words


def _capturing() -> bool:
    return torch.cuda.is_current_stream_capturing()


class Fused:
    """The clip of just these parameters, all on one device. Call it with (λ, eps): it returns the `Units`.

    Float32, float16 and bfloat16 in dense layouts are for the kernels; a parameter of another kind goes through
    `foreach`. More than one type of weight or gradient takes launches of its own. What is captured in a CUDA graph must
    follow a call outside of it, with gradients of the same shapes and types.

    Raises:
        ValueError: the parameters are not on CUDA (nor is Triton's interpreter on), or on several devices.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.device = parameters[0].device if parameters else torch.device("cpu")
        if any(p.device != self.device for p in parameters):
            raise ValueError("The fused clip takes parameters of one device.")
        if self.device.type != "cuda" and not interpreted():
            raise ValueError("The fused clip needs a CUDA device; `foreach` runs everywhere.")
        _kernels()
        self.parameters = [weakref.ref(p) for p in parameters]
        self.weights: list[int] = []
        self.gradients: list[int] = []
        self.looks: list[_Look | None] = [None] * len(parameters)
        self.stream = 0
        self.table: Tensor | None = None
        self.launches: list[Launch] = []
        self.rest: list[int] = []
        self.kinds: list[ParameterKind | None] = [None] * len(parameters)
        self.spares: list[tuple[Tensor, Tensor]] = []
        self.given: list[tuple[Tensor, Tensor]] = []

    def holds(self, parameters: Sequence[Tensor]) -> bool:
        """Whether it was made for these very tensors."""
        return len(parameters) == len(self.parameters) and all(
            ref() is p for ref, p in zip(self.parameters, parameters, strict=True)
        )

    def __call__(self, clipping: float, eps: float) -> Units:
        # Triton launches on the current device, whichever the parameters are on
        on_device = torch.cuda.device(self.device) if self.device.type == "cuda" else contextlib.nullcontext()
        with torch.no_grad(), on_device:
            parameters = [ref() for ref in self.parameters]
            self._refresh(parameters, [None if p is None else p.grad for p in parameters])
            counts = torch.zeros(2, SPREAD, dtype=torch.int32, device=self.device)
            for launch in self.launches:
                self._launch(launch, counts, float(clipping), float(eps))
            clipped, nonfinite = counts.sum(1).unbind()
            left = [p for i in self.rest if (p := parameters[i]) is not None and p.grad is not None]
            if left:
                others = foreach(left, clipping, eps)
                return Units(clipped + others.clipped, nonfinite + others.nonfinite)
            return Units(clipped, nonfinite)

    def _launch(self, launch: Launch, counts: Tensor, clipping: float, eps: float) -> None:
        kernel = _kernels()[0 if launch.aligned else 1]
        whole = {"WHOLE": ALIGNED // min(x.element_size() for x in launch.like)} if launch.aligned else {}
        kernel[(len(launch.owner),)](
            self.table,
            launch.owner,
            launch.first,
            launch.length,
            *launch.like,
            counts,
            len(self.parameters),
            clipping,
            eps,
            LEAST_NORM=LEAST_NORM,
            SPREAD=SPREAD,
            BLOCK=launch.block,
            **whole,
            enable_fp_fusion=True,  # said aloud, since Triton 3.9 warns where it is left to the default
            num_warps=max(1, min(8, launch.block // 512)),
        )

    def _refresh(self, parameters: Sequence[Tensor | None], gradients: Sequence[Tensor | None]) -> None:
        """Bring the table up to date. A parameter that has no gradient now keeps its place."""
        looks = [
            old if p is None or g is None else _look(p, g)
            for old, p, g in zip(self.looks, parameters, gradients, strict=True)
        ]
        weights = [0 if p is None else p.data_ptr() for p in parameters]
        addresses = [0 if g is None else g.data_ptr() for g in gradients]
        cuda = self.device.type == "cuda"
        capturing = cuda and _capturing()
        stream = torch.cuda.current_stream(self.device).cuda_stream if cuda else 0
        if looks != self.looks:
            kinds = [
                old if p is None or g is None else kind_of(p, g)
                for old, p, g in zip(self.kinds, parameters, gradients, strict=True)
            ]
            if kinds != self.kinds:
                if capturing:
                    raise RuntimeError(_OUTSIDE_FIRST)
                self.launches, self.rest = lay_out(kinds, self.device)
            self.kinds, self.looks = kinds, looks
        moved = weights != self.weights or addresses != self.gradients
        if not moved and stream == self.stream and not capturing:
            return
        # neither pinned nor on the device may anything be allocated during a capture
        host = torch.empty(2, len(weights), dtype=torch.int64, device="cpu", pin_memory=cuda and not capturing)
        values = np.array([weights, addresses], dtype=np.int64)
        # a call of `Tensor.numpy` or `copy_` would be an operator more
        ctypes.memmove(host.data_ptr(), values.ctypes.data, values.nbytes)
        if capturing:
            self._send_captured(host)
            # a graph's table is not for the next call outside of it, which sends its own
            self.weights, self.gradients = [], []
            return
        self._send(host, stream)
        self.weights, self.gradients, self.stream = weights, addresses, stream

    def _send(self, host: Tensor, stream: int) -> None:
        if self.device.type != "cuda":
            self.table = host
            return
        self.table = host.to(self.device, non_blocking=True)
        if stream != self.stream:
            # allocated on another stream, these must not be reused there before this one is done with them
            for launch in self.launches:
                for tensor in (launch.owner, launch.first, launch.length, *launch.like):
                    tensor.record_stream(torch.cuda.current_stream(self.device))
        while len(self.spares) < SPARES:
            self.spares.append((torch.empty_like(host).pin_memory(), torch.empty_like(host, device=self.device)))

    def _send_captured(self, host: Tensor) -> None:
        """A table of the graph's own, copied by the graph at each replay from pinned memory that nobody else writes."""
        pair = next((pair for pair in self.given if torch.equal(pair[0], host)), None)
        if pair is None:
            if not self.spares:
                raise RuntimeError(_OUTSIDE_FIRST)
            # neither may be allocated during a capture
            pair = self.spares.pop()
            pair[0].copy_(host)
            self.given.append(pair)
        _captured.append((*pair, self.launches))
        self.table = pair[1]
        self.table.copy_(pair[0], non_blocking=True)


_Look = tuple[int, int, torch.Size, torch.Size, tuple[int, ...], tuple[int, ...], torch.dtype, torch.dtype]
"""All of a parameter and its gradient that decides their `ParameterKind`, each first of the parameter."""


def _look(p: Tensor, g: Tensor) -> _Look:
    """What is looked at in each call, without an operator of torch.

    Raises:
        ValueError: the gradient is sparse.
    """
    if g.layout != torch.strided:
        raise ValueError(SPARSE.format(g.layout))
    starts = p.data_ptr() % ALIGNED, g.data_ptr() % ALIGNED
    return *starts, p.shape, g.shape, p.stride(), g.stride(), p.dtype, g.dtype


class ParameterKind(NamedTuple):
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


def kind_of(parameter: Tensor, gradient: Tensor) -> ParameterKind:
    """The kind of a parameter with this gradient, which is dense."""
    aligned = not (parameter.data_ptr() | gradient.data_ptr()) % ALIGNED
    units = units_of(parameter)
    length = parameter.numel() // units if units else 0
    dense = gradient.shape == parameter.shape and all(rows(x.detach()) is not None for x in (parameter, gradient))
    return ParameterKind(units, length, parameter.dtype, gradient.dtype, not dense, aligned)


def lay_out(kinds: Sequence[ParameterKind | None], device: torch.device) -> tuple[list[Launch], list[int]]:
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
    kinds: Sequence[ParameterKind | None],
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
