"""What a net costs, counted without a clock.

MACs, activations and parameters come from shapes: on the meta device nothing is allocated. Operators, and the bytes
that forward keeps for backward, are counted while real work runs.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import HigherOrderOperator, OpOverload
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, shape_wrapper

from nfbench.catalog.models import Net
from nfbench.errors import UnsupportedWorkload, of_device, reason
from nfbench.nets.build import build, px_of, shapes_of
from nfbench.nets.outputs import named_tensors
from nfbench.units import first_few

_aten = torch.ops.aten


@dataclass(frozen=True)
class Count:
    """The counts of one image; 1 MAC is 2 FLOPs.

    ``activations`` are the output elements of convolutions and linear layers, ``train_macs`` the MACs of forward and
    backward together (None where only forward was counted), ``largest`` the elements of the largest tensor that goes in
    or comes out of such a layer, padded as it is. ``recomputed`` are MACs that checkpointing runs again in backward,
    ``uncounted`` the operators that multiply and have no formula; neither is part of the MACs.
    """

    macs: int
    activations: int
    params: int
    train_macs: int | None = None
    largest: int = 0
    recomputed: int = 0
    uncounted: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """What the MACs leave out, in a sentence; empty where that is nothing."""
        left_out = []
        if self.uncounted:
            left_out.append(f"{first_few(self.uncounted)}, which nfbench has no formula for")
        if self.recomputed:
            left_out.append(f"{self.recomputed / 1e9:.3g} G per image that checkpointing computes again in backward")
        return f"The MACs leave out {' and '.join(left_out)}" if left_out else ""


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


def _trilinear(
    a: Sequence[int], b: Sequence[int], c: Sequence[int], *expanded: Any, out_shape: object, **_: object
) -> int:
    """FLOPs of torch's product of three tensors, `nn.Bilinear`'s: 2 for each place of the space that they span."""
    shapes = []
    for shape, places in zip((a, b, c), expanded, strict=False):
        rest = iter(shape)
        shapes.append([1 if place in places else next(rest) for place in range(len(shape) + len(places))])
    return 2 * int(math.prod(max(sizes) for sizes in zip(*shapes, strict=True)))


def _attention_backward(_grad: object, q: Sequence[int], k: Sequence[int], v: Sequence[int], *_: Any, **__: Any) -> int:
    """FLOPs of the four products of attention's backward; torch's formula adds the scores, which are computed again."""
    return 4 * math.prod(q[:-1]) * k[-2] * (q[-1] + v[-1])


def _matrices(a: Sequence[int], b: Sequence[int], **_: Any) -> int:
    """FLOPs of a product of matrices, or of a stack of them, from the shapes of both."""
    return 2 * math.prod(a) * b[-1]


def _one_each(a: Sequence[int], *_: Any, **__: Any) -> int:
    """FLOPs of a product that takes each element of ``a`` once."""
    return 2 * math.prod(a)


_MORE: dict[str, Callable[..., int]] = {
    "convolution": convolution,
    "convolution_backward": convolution_backward,
    "_trilinear": _trilinear,
    "addbmm": lambda _bias, a, b, **_: _matrices(a, b),
    "addmv": lambda _bias, a, *_, **__: _one_each(a),
    "addr": lambda _bias, a, b, **_: 2 * math.prod(a) * math.prod(b),
    "mv": _one_each,
    "dot": _one_each,
    "vdot": _one_each,
    "_int_mm": _matrices,
    "conv_tbc": lambda x, weight, *_, out_shape: 2 * math.prod(out_shape) * math.prod(weight[:2]),
    **{
        f"_scaled_dot_product_{kind}_attention{device}_backward": _attention_backward
        for kind, device in (("flash", ""), ("flash", "_for_cpu"), ("efficient", ""), ("cudnn", ""))
    },
}
_FORMULAS: dict[Any, Callable[..., int]] = {
    **flop_registry,
    **{getattr(_aten, name): shape_wrapper(formula) for name, formula in _MORE.items()},
}
"""FLOPs of an operator from its arguments and its result (``out_val``): torch's own, and those that it lacks."""
_LAYERS = (_aten.convolution, _aten.mm, _aten.addmm)
_PRODUCT = re.compile(
    r"(mm|mv|dot|addr|matmul|linear|convolution|attention)(_|$)|rnn|quantized_(lstm|gru)|cdist|euclidean_dist"
    r"|multi_head|transformer_|(^|_)(fft|linalg(?!_check)|sparse(?!_mask)|cslt|mkldnn)_|cholesky|triangular_solve|ormqr|geqrf|spsolve"
)
"""What the name of an operator of torch has in it that multiplies; one without a formula is named."""
_WITHOUT_PRODUCTS = ("prim", "prims", "profiler", "c10d")
"""Namespaces of torch that multiply nothing."""


class _Counter(TorchDispatchMode):
    """Counts what reaches a backend. It follows no modules, so that a net may call its layers with anything.

    ``flops`` are of all but what checkpointing runs again in backward, which are ``recomputed``; ``layers`` hold the
    elements that go in and come out of each convolution and linear layer, ``uncounted`` operators without a formula.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = self.recomputed = 0
        self.layers: list[tuple[int, int]] = []
        self.uncounted: set[str] = set()
        self.in_backward = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # torch describes these in Python, and an NF net calls them most
        shape = _SHAPES.get(func)
        if shape is not None and args[0].is_meta:
            return shape(*args, **kwargs)
        if func is torch.ops.higher_order.cond:
            condition, if_true, if_false, operands = args
            with self:
                return (if_true if condition else if_false)(*operands)
        packet = _not_in_place(func)
        formula = _FORMULAS.get(packet)
        if formula is None:
            if isinstance(func, OpOverload) and func.namespace == "aten":
                with self:
                    parts = func.decompose(*args, **kwargs)
                if parts is not NotImplemented:
                    return parts
            self._note(func)
            return func(*args, **kwargs)
        out = func(*args, **kwargs)
        flops = formula(*args, **kwargs, out_val=out)
        if self.in_backward and _runs_forward():
            self.recomputed += flops
            return out
        self.flops += flops
        if packet in _LAYERS:
            self.layers.append((args[1 if packet is _aten.addmm else 0].numel(), out.numel()))
        return out

    def _note(self, func: Any) -> None:
        namespace, _, name = str(func).partition(".")
        if _PRODUCT.search(name) if namespace == "aten" else namespace not in _WITHOUT_PRODUCTS:
            self.uncounted.add(f"{namespace}.{name.partition('.')[0]}".rstrip("."))


def _not_in_place(func: Any) -> Any:
    """The packet of an operator's overloads; of one that works in place (``addmm_``) that of its twin that does not."""
    if isinstance(func, HigherOrderOperator):
        return func
    packet = func._overloadpacket
    name = packet.__name__
    return getattr(_aten, name[:-1], packet) if func.namespace == "aten" and name.endswith("_") else packet


def _runs_forward() -> bool:
    """Whether backward is computing a part of forward again.

    Backward itself runs without gradients and saves nothing. The forward of an `autograd.Function` does so too: it is
    told by the hooks that checkpointing sets meanwhile, and by the node whose backward calls it.
    """
    if torch.is_grad_enabled() or torch._C._autograd._top_saved_tensors_default_hooks(True) is not None:
        return True
    node = torch._C._current_autograd_node()
    return node is not None and node.name() == "CheckpointFunctionBackward"


@contextlib.contextmanager
def _plain_operators() -> Iterator[None]:
    """Inside, no operator does the work of several, so that counts are those of the meta device."""
    fast = torch.backends.mha.get_fastpath_enabled()
    onednn, cudnn = torch._C._get_mkldnn_enabled(), torch._C._get_cudnn_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    torch._C._set_mkldnn_enabled(False)
    torch._C._set_cudnn_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch._C._set_mkldnn_enabled(onednn)
        torch._C._set_cudnn_enabled(cudnn)


_SIDES = (224, 384, 64, 32)


class WrongPx(UnsupportedWorkload):
    """The net does not run at that px, but at another."""


def count(
    module: nn.Module, px: int, *, train: bool = False, name: str | None = None, sides: Sequence[int] = _SIDES
) -> Count:
    """The counts of ``module`` for one image of ``px`` × ``px``, in evaluation mode on the device of its parameters.

    Forward and backward together (``train``) are 3 × forward less the input gradient of the first convolution, which
    nothing needs. What checkpointing computes again is no part of it.

    Raises:
        WrongPx: px is not positive, or the net runs at another of ``sides``; ``name`` is what the message calls it.
        UnsupportedWorkload: it runs at none of them.
    """
    name = name or type(module).__name__
    if px <= 0:
        raise WrongPx(f"{name} cannot run at {px} px.", why="px is the side of the square input.", try_="--px 224")
    try:
        return _tried(module, px, train)
    except Exception as error:
        if of_device(error):
            raise
        what, why = f"{name} does not run at {px} px.", reason(error)
        for side in dict.fromkeys(sides):
            try:
                _tried(module, side, train)
            except Exception:
                continue
            raise WrongPx(what, why=why, try_=f"--px {side}, at which it runs") from error
        raise UnsupportedWorkload(
            what, why=why, try_="a net that runs on images of shape (images, 3, px, px) on the CPU"
        ) from error


def _tried(module: nn.Module, px: int, train: bool) -> Count:
    """The counts, with gradients where forward needs them for itself."""
    try:
        return _counted(module, px, train, grad=train)
    except RuntimeError as error:
        if train or of_device(error):
            raise
        with contextlib.suppress(Exception):
            return _counted(module, px, train, grad=True)
        raise


def _counted(module: nn.Module, px: int, train: bool, *, grad: bool) -> Count:
    device = next((p.device for p in module.parameters()), torch.device("meta"))
    modes = [(m, m.training) for m in module.modules()]
    gradients = [(p, p.grad) for p in module.parameters()]
    counter = _Counter()
    module.eval()
    try:
        image = torch.zeros(1, 3, px, px, device=device)
        with torch.set_grad_enabled(grad), _plain_operators(), counter:
            output = module(image)
            returned = [out for _, out in named_tensors(output)]
            if not returned:
                raise TypeError(f"its forward returns no tensor, but {type(output).__name__}")
            forward, activations = counter.flops, sum(out for _, out in counter.layers)
            largest = max(map(max, counter.layers), default=0)
            losses = [out.sum() for out in returned if out.requires_grad]
            # of a net of which nothing trains, training is forward alone
            if train and losses:
                counter.in_backward = True
                # reentrant checkpointing refuses torch.autograd.grad
                torch.stack([loss.real for loss in losses]).sum().backward()
    finally:
        for m, mode in modes:
            m.training = mode
        for parameter, gradient in gradients:
            parameter.grad = gradient
    return Count(
        forward // 2,
        activations,
        sum(p.numel() for p in module.parameters()),
        counter.flops // 2 if train else None,
        largest,
        counter.recomputed // 2,
        tuple(sorted(counter.uncounted)),
    )


def count_net(
    net: Net, sides: Sequence[int], *, train: bool = False, norm: str = "auto", classes: int = 1000
) -> list[Count]:
    """The counts at each px of ``sides``, from shapes; of a net that reads values, of a run on the CPU. Errors as
    `count` and `build`."""

    def counts(module: nn.Module) -> list[Count]:
        return [count(module, px, train=train, name=net.name, sides=(*px_of(net), *_SIDES)) for px in sides]

    module = shapes_of(net, num_classes=classes, norm=norm, px=sides[0])
    try:
        return counts(module)
    except WrongPx:
        raise
    except UnsupportedWorkload:
        if not any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
            raise
    with torch.random.fork_rng(devices=[]):
        return counts(build(net, num_classes=classes, norm=norm, px=sides[0]))


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
