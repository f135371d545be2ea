"""Adaptive gradient clipping in at most two Triton launches for all parameters of a net.

One program a unit. A table on the device holds the address of every weight and gradient; `zero_grad` moves gradients,
so the addresses are compared at each call and where one has moved the table goes over anew, from pinned memory, without
waiting. Units whose rows begin and end on 16 bytes and fit in one block are read once, with vector loads, and written
only where they are clipped; all others take a loop.

::

    unit ──owner──▶ parameter ──table──▶ address of W, address of G (0 where there is no gradient)
      └── unit − first[parameter] = row;  row · length[parameter] = its first element
"""

from __future__ import annotations

import functools
import importlib.util
import os
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nfbench.nets.agc_foreach import Units, foreach
from nfbench.nets.agc_units import LEAST_NORM, is_vector, rows, units_of

LARGEST_BLOCK = 4096
LOOP_BLOCK = 1024
SPREAD = 64
"""Counters that the programs add to: one alone would be waited for by all of them."""

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_ALIGNED = 16


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


@functools.cache
def refusal(device: torch.device) -> str | None:
    """Why the kernels do not run on ``device``; None where one has compiled and run there. Waits for the device."""
    try:
        if device.type != "cuda" and not interpreted():
            return f"it needs CUDA, and this is {device.type}"
        probe = torch.nn.Parameter(torch.ones(2, 4, device=device))
        probe.grad = torch.ones_like(probe)
        clipped = int(Fused([probe])(0.01, 1e-3).clipped)
        return None if clipped == 2 else f"a trial clipped {clipped} of 2 units"
    except Exception as error:  # a compiler, a driver or Triton itself that is missing or too old says so in many ways
        return f"{type(error).__name__}: {error}".partition("\n")[0]


class _Launch(NamedTuple):
    """The units of one launch: which parameters they are of, and the static part of the table."""

    places: list[int]
    owner: Tensor
    first: Tensor
    length: Tensor
    block: int
    aligned: bool
    like: tuple[Tensor, Tensor]


class Fused:
    """The clip of just these parameters, all on one device. Call it with (λ, eps): it returns the `Units`.

    Float32, float16 and bfloat16 in dense layouts are for the kernels; a parameter of another kind goes through
    `foreach`. More than one type of weight or gradient takes launches of its own. In a CUDA graph the first call that
    is captured must follow one that is not.

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
        self.stream = 0
        self.table: Tensor | None = None
        self.launches: list[_Launch] = []
        self.rest: list[int] = []
        self.signature: list[object] = []
        self.spare: tuple[Tensor, Tensor] | None = None
        self.captured: list[tuple[Tensor, Tensor]] = []

    def holds(self, parameters: Sequence[Tensor]) -> bool:
        """Whether it was made for these very tensors."""
        return len(parameters) == len(self.parameters) and all(
            ref() is p for ref, p in zip(self.parameters, parameters, strict=True)
        )

    def __call__(self, clipping: float, eps: float) -> Units:
        parameters = [ref() for ref in self.parameters]
        gradients = [None if p is None else p.grad for p in parameters]
        self._refresh(parameters, gradients)
        counts = torch.zeros(2, SPREAD, dtype=torch.int32, device=self.device)
        for launch in self.launches:
            self._launch(launch, counts, clipping, eps)
        clipped, nonfinite = counts.sum(1).unbind()
        if self.rest:
            others = foreach([p for i in self.rest if (p := parameters[i]) is not None], clipping, eps)
            return Units(clipped + others.clipped, nonfinite + others.nonfinite)
        return Units(clipped, nonfinite)

    def _launch(self, launch: _Launch, counts: Tensor, clipping: float, eps: float) -> None:
        kernel = _kernels()[0 if launch.aligned else 1]
        whole = {"WHOLE": _ALIGNED // min(x.element_size() for x in launch.like)} if launch.aligned else {}
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
        """Bring the table up to date. Compares addresses only, unless one has moved."""
        weights = [0 if p is None else p.data_ptr() for p in parameters]
        addresses = [0 if g is None else g.data_ptr() for g in gradients]
        capturing = self.device.type == "cuda" and torch.cuda.is_current_stream_capturing()
        stream = torch.cuda.current_stream(self.device).cuda_stream if self.device.type == "cuda" else 0
        same = weights == self.weights and addresses == self.gradients and stream == self.stream
        if same and not capturing:
            return
        signature: list[object] = [
            None if p is None or g is None else (p.dtype, p.stride(), g.dtype, g.stride(), g.layout)
            for p, g in zip(parameters, gradients, strict=True)
        ]
        crooked = [(w | g) % _ALIGNED for w, g in zip(weights, addresses, strict=True)]
        signature.append(crooked)
        if signature != self.signature:
            if capturing:
                raise RuntimeError("Clip once outside of the CUDA graph before the call that is captured.")
            self._lay_out(parameters, gradients, crooked)
            self.signature = signature
        host = np.array([weights, addresses], dtype=np.int64)
        self._send(torch.from_numpy(host), capturing)
        # a captured table belongs to its graph: the next call outside of it sends its own
        self.weights, self.gradients, self.stream = ([], [], 0) if capturing else (weights, addresses, stream)

    def _send(self, host: Tensor, capturing: bool) -> None:
        if self.device.type != "cuda":
            self.table = host
            return
        if not capturing:
            self.table = host.pin_memory().to(self.device, non_blocking=True)
            if self.spare is None:
                self.spare = torch.empty_like(host).pin_memory(), torch.empty_like(host, device=self.device)
            return
        if self.spare is None:
            raise RuntimeError("Clip once outside of the CUDA graph before the call that is captured.")
        # neither may be allocated during a capture, and both must live as long as the graph
        pinned, self.table = self.spare
        pinned.copy_(host)
        self.table.copy_(pinned, non_blocking=True)
        self.captured.append(self.spare)
        self.spare = None

    def _lay_out(
        self, parameters: Sequence[Tensor | None], gradients: Sequence[Tensor | None], crooked: Sequence[int]
    ) -> None:
        """Sort the parameters into launches and make the static tables. Rare: shapes, types and strides decide it."""
        groups: dict[tuple[bool, torch.dtype, torch.dtype], list[int]] = {}
        self.rest = []
        for i, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
            if p is None or g is None or not p.numel():
                continue
            if not (p.dtype in _DTYPES and g.dtype in _DTYPES) or g.layout != torch.strided or _scattered(p, g):
                self.rest.append(i)
                continue
            length = p.numel() // units_of(p)
            sizes = (length * p.element_size(), length * g.element_size())
            whole = not crooked[i] and not any(size % _ALIGNED for size in sizes)
            aligned = whole and length <= LARGEST_BLOCK and not is_vector(p)
            groups.setdefault((aligned, p.dtype, g.dtype), []).append(i)
        self.launches = []
        for (aligned, _, _), places in groups.items():
            found = [(p, g) for i in places if (p := parameters[i]) is not None and (g := gradients[i]) is not None]
            self.launches.append(self._static(places, found, aligned))

    def _static(self, places: list[int], found: Sequence[tuple[Tensor, Tensor]], aligned: bool) -> _Launch:
        units = np.array([units_of(p) for p, _ in found])
        lengths = np.array([p.numel() for p, _ in found]) // units
        first, length = (np.zeros(len(self.parameters), dtype=np.int64) for _ in range(2))
        first[places], length[places] = np.cumsum(units) - units, lengths
        longest = 1 << (int(lengths.max()) - 1).bit_length()

        def there(values: np.ndarray[Any, Any], dtype: torch.dtype) -> Tensor:
            return torch.from_numpy(values).to(self.device, dtype)

        return _Launch(
            places,
            there(np.repeat(np.array(places), units), torch.int32),
            there(first, torch.int64),
            there(length, torch.int64),
            max(16, longest if aligned else min(LOOP_BLOCK, longest)),
            aligned,
            tuple(torch.empty(16, dtype=x.dtype, device=self.device) for x in found[0]),  # type: ignore[arg-type]
        )


def _scattered(p: Tensor, g: Tensor) -> bool:
    return rows(p.detach()) is None or rows(g.detach()) is None
