"""What a net costs, counted without a clock.

MACs, activations and parameters come from shapes: on the meta device nothing is allocated. Operators, and the bytes
that forward keeps for backward, are counted while real work runs.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from nfbench.errors import UnsupportedWorkload, reason

_aten = torch.ops.aten


@dataclass(frozen=True)
class Count:
    """The counts of one image; 1 MAC is 2 FLOPs.

    ``activations`` are the output elements of convolutions and linear layers, ``train_macs`` the MACs of forward and
    backward together (None where only forward was counted), ``largest`` the elements of the largest tensor that goes in
    or comes out of such a layer, padded as it is.
    """

    macs: int
    activations: int
    params: int
    train_macs: int | None = None
    largest: int = 0


def convolution(
    x: Sequence[int],
    weight: Sequence[int],
    _bias: object,
    _stride: object,
    _padding: object,
    _dilation: object,
    transposed: bool,
    *_: object,
    out_shape: Sequence[int],
) -> int:
    """FLOPs of a convolution from shapes: 2 · numel(out) · numel(weight) / C_out.

    Of a transposed one 2 · numel(x) · numel(weight) / C_in; a weight's first dimension is the divisor in both.
    """
    return 2 * math.prod(x if transposed else out_shape) * math.prod(weight[1:])


def _batch_norm(x: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    saved = x.shape[1] if args[4] else 0
    return torch.empty_like(x), x.new_empty(saved), x.new_empty(saved)


def _batch_norm_backward(_grad: Tensor, x: Tensor, *args: Any) -> tuple[Tensor | None, ...]:
    of_x, *of_affine = args[7]
    return torch.empty_like(x) if of_x else None, *(x.new_empty(x.shape[1]) if of else None for of in of_affine)


_SHAPES: dict[Any, Callable[..., Any]] = {
    _aten.gelu.default: lambda x, **_: torch.empty_like(x),
    _aten.gelu_backward.default: lambda _grad, x, **_: torch.empty_like(x),
    _aten.native_batch_norm.default: _batch_norm,
    _aten.native_batch_norm_backward.default: _batch_norm_backward,
}


class _Shortcut(TorchDispatchMode):
    """Answers, on the meta device, the operators that torch describes in Python and an NF net calls most.

    They hold no MACs and their results have their inputs' shapes; torch's way takes two thirds of the time.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        shape = _SHAPES.get(func)
        if shape is not None and args[0].is_meta:
            return shape(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def convolution_backward(
    grad_out: Sequence[int],
    x: Sequence[int],
    weight: Sequence[int],
    _bias: object,
    _stride: object,
    _padding: object,
    _dilation: object,
    transposed: bool,
    _output_padding: object,
    _groups: object,
    output_mask: Sequence[bool],
    **_: object,
) -> int:
    """FLOPs of a convolution's backward, from shapes: each gradient asked for costs what forward does.

    torch's own formula takes the weight's gradient of a grouped convolution for that of a dense one.
    """
    per_gradient = 2 * math.prod(x if transposed else grad_out) * math.prod(weight[1:])
    return per_gradient * (bool(output_mask[0]) + bool(output_mask[1]))


def _formulas(layers: list[tuple[int, int]]) -> dict[Any, Callable[..., int]]:
    """The counter's formulas; each convolution and linear layer adds the elements of its input and of its output."""

    def convolved(*args: Any, out_shape: Sequence[int], **_: object) -> int:
        layers.append((math.prod(args[0]), math.prod(out_shape)))
        return convolution(*args, out_shape=out_shape)

    def multiplied(*args: Any, out_shape: Sequence[int], **_: object) -> int:
        layers.append((math.prod(args[-2]), math.prod(out_shape)))
        return 2 * math.prod(out_shape) * int(args[-1][0])

    return {
        _aten.convolution: convolved,
        _aten.convolution_backward: convolution_backward,
        _aten.mm: lambda a, b, **kwargs: multiplied(a, b, **kwargs),
        _aten.addmm: lambda bias, a, b, **kwargs: multiplied(a, b, **kwargs),
    }


def count(module: nn.Module, px: int, *, train: bool = False, name: str | None = None) -> Count:
    """The counts of ``module`` for one image of ``px`` × ``px``, in evaluation mode on the device of its parameters.

    Forward and backward together (``train``) are 3 × forward less the input gradient of the first convolution, which
    nothing needs.

    Raises:
        UnsupportedWorkload: px is not positive, or the net does not run at it; ``name`` is what the message calls it.
    """
    name = name or type(module).__name__
    if px <= 0:
        raise UnsupportedWorkload(
            f"{name} cannot run at {px} px.", why="px is the side of the square input.", try_="--px 224"
        )
    device = next((p.device for p in module.parameters()), torch.device("meta"))
    modes = [(m, m.training) for m in module.modules()]
    layers: list[tuple[int, int]] = []
    counter = FlopCounterMode(display=False, custom_mapping=_formulas(layers))
    module.eval()
    try:
        image = torch.empty(1, 3, px, px, device=device)
        with torch.set_grad_enabled(train), counter, _Shortcut():  # type: ignore[no-untyped-call]
            returned = list(_tensors(module(image)))
            forward, activations = counter.get_total_flops(), sum(out for _, out in layers)
            largest = max(map(max, layers), default=0)
            if train:
                losses = [out.sum() for out in returned if out.requires_grad]
                # of a net of which nothing trains, training is forward alone
                if losses:
                    trained = [p for p in module.parameters() if p.requires_grad]
                    torch.autograd.grad(torch.stack(losses).sum(), trained, allow_unused=True)
            total = counter.get_total_flops()
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError) as error:
        raise UnsupportedWorkload(
            f"{name} does not run at {px} px.",
            why=reason(error),
            try_="another --px, or none: the net's own train and test px",
        ) from error
    finally:
        for m, mode in modes:
            m.training = mode
    params = sum(p.numel() for p in module.parameters())
    return Count(forward // 2, activations, params, total // 2 if train else None, largest)


def _tensors(output: object) -> Iterator[Tensor]:
    """The tensors of what a net returned: one, or several in tuples, lists and dicts."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, (tuple, list)):
        for value in output:
            yield from _tensors(value)


class Operators(TorchDispatchMode):
    """While entered, counts every operator that reaches a backend, those of backward included."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))

    def taken(self) -> int:
        """The operators since the last call."""
        count, self.count = self.count, 0
        return count


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
