"""What normalization does to a net: how far an image's output and its share of the update depend on other images.

Figures are relative changes, 0 where nothing depends on the batch; beside them stands what rounding alone does. They
are measured in training mode. Nothing is drawn: dropout and stochastic depth are off, and every other random number is
its mean, since one drawn for a place in the batch would change with the order of its images. Each forward begins with
the same buffers, frozen parameters and attributes. The figures have the names of their readings::

    output_rest_changed         an image's output, where the rest of its batch is other images
    output_evaluation_others    … where the net evaluates, with running statistics of other images
    output_rounding             … where only the order of the batch changes, or it comes twice: what 0 looks like
    share_rest_changed_no_agc   an image's share of the update without the clip, where the rest changes
    share_rounding_no_agc       … where only the order changes
    share_rest_changed_agc      the same two with the clip, where there is one
    share_rounding_agc
    clipped_units               the share of units that the clip shortens, 0 to 1
    px                          side of the images
    clipping                    λ of the clip, where there is one

With ℓ_j the loss of image j over the size of the batch and g = ∇ Σ_j ℓ_j, image i's share of the update is
AGC(g) − AGC(g − ∇ℓ_i), what the update would lack without i's term, all statistics staying as they are; ∇ℓ_i itself
without the clip. Without the clip it depends on no other image where the output does not. With it, the length and
direction of g, and so the rest, set what is left of ∇ℓ_i in each unit that is clipped: there AGC couples images that
normalization does not. A change is that of the image that changes most, a share's over the parameters that AGC clips.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from nfbench.catalog.models import Net
from nfbench.errors import NfbenchError, UnsupportedWorkload, of_device, reason
from nfbench.nets.agc import DEFAULT_CLIPPING, adaptive_clip_grad_, agc_parameters, units
from nfbench.nets.build import awaken, build, px_of
from nfbench.nets.norm import norm_of
from nfbench.nets.outputs import Heads, heads
from nfbench.nets.train_step import LABEL_SMOOTHING

CLASSES = 1000
DEFAULT_PX = 64
IMAGES = 4
"""The largest change is that of so many images at most, so that time grows with the batch and not with its square."""
BEYOND_ROUNDING = 10.0
"""Times what rounding does, from which a change is a dependence."""
FLOAT32 = 2.0**-23
"""The least that rounding does."""

_cross_entropy = functools.partial(F.cross_entropy, reduction="none", label_smoothing=LABEL_SMOOTHING)


class Batch(NamedTuple):
    """Images (N, 3, px, px) and the classes (N,) they have."""

    images: Tensor
    targets: Tensor

    def reversed(self) -> Batch:
        """Put the images in reverse order."""
        return Batch(self.images.flip(0), self.targets.flip(0))

    def beside(self, i: int, others: Batch) -> Batch:
        """Put image i in its place among ``others``."""
        images, targets = others.images.clone(), others.targets.clone()
        images[i], targets[i] = self.images[i], self.targets[i]
        return Batch(images, targets)

    def losses(self, module: nn.Module) -> Tensor:
        """Compute the loss of each image, (N,), as in training."""
        return _forward(module, self.images).loss(_cross_entropy, self.targets)


def dependence_of(
    net: Net, *, batch: int = 8, px: int | None = None, agc: float | str = "auto", seed: int = 0
) -> dict[str, float]:
    """Measure `dependence` of a net with random weights, awake, in float32 on the CPU, on normal images of variance 1.

    ``px`` is the side of the images, by default 64, or the train px where that is smaller or the only one.
    ``agc`` is λ, ``none`` or ``auto``: 0.01 for nets without normalization, none for others.

    Raises:
        UnknownModel: no such net.
        UnsupportedWorkload: the net cannot be built or run, or a setting makes no sense.
    """
    if batch < 2:
        raise UnsupportedWorkload(f"--batch {batch} has no rest for an image to depend on.", try_="--batch 8")
    if px is not None and px <= 0:
        raise UnsupportedWorkload(f"--px {px} is not positive.", try_=f"--px {DEFAULT_PX}")
    if not isinstance(agc, str) and not 0 < agc < math.inf:
        raise UnsupportedWorkload(f"--agc {agc:g} is not positive.", try_="--agc 0.01, or --agc none not to clip")
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed the generators of GPUs too, which fork_rng leaves alone here
        torch.default_generator.manual_seed(seed)
        module = build(net, num_classes=CLASSES, px=px or min(px_of(net)[0], DEFAULT_PX))
    awaken(module)
    if agc == "auto":
        agc = DEFAULT_CLIPPING if (net.norm or norm_of(module)) == "none" else "none"
    px = px or _small_px(module, px_of(net)[0])
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(2 * batch, 3, px, px, generator=generator)
    targets = torch.randint(CLASSES, (2 * batch,), generator=generator)
    return dependence(module, images, targets, None if agc == "none" else float(agc), name=net.name)


def dependence(
    module: nn.Module, images: Tensor, targets: Tensor, clipping: float | None, *, name: str | None = None
) -> dict[str, float]:
    """Measure the figures of this file, by name; the modes and running statistics of ``module`` are changed for it.

    ``images`` (2 · batch, 3, px, px) and ``targets`` (2 · batch) hold the batch and, in their second half, the images
    that take the place of its rest. ``clipping`` is λ, None for no clip.

    Raises:
        UnsupportedWorkload: the net does not run on the batch or gives it no logits; ``name`` is what messages call it.
    """
    half = len(images) // 2
    batch, others = Batch(images[:half], targets[:half]), Batch(images[half:], targets[half:])
    if not agc_parameters(module):
        clipping = None
    with _generators_kept(), _NoAlphaDropout(), _Means():  # type: ignore[no-untyped-call]
        _train_without_dropout(module)
        _check(module, batch, name or type(module).__name__)
        figures: dict[str, float] = {"px": images.shape[-1]} | ({} if clipping is None else {"clipping": clipping})
        with _in_words(name or type(module).__name__, batch.images):
            figures |= _outputs(module, batch, others)
            return figures | _shares(module, batch, others, clipping)


def sentences(figures: Mapping[str, float]) -> list[str]:
    """Say what depends on an image's batch, and how far, in a sentence each.

    A change over `BEYOND_ROUNDING` times that of rounding is a dependence; a smaller one is rounding.
    """

    def sentence(figure: str, rounding: str, depends: str, does_not: str) -> str:
        change = figures[figure]
        if change > BEYOND_ROUNDING * max(FLOAT32, figures[rounding]):
            return f"{depends}: it changes by {change:.2g}."
        return f"{does_not}: it changes by {change:.2g}, which is rounding."

    def of_the_rest(figure: str, rounding: str, what: str) -> str:
        rest = "on the rest of its batch"
        return sentence(figure, rounding, f"{what} depends {rest}", f"{what} does not depend {rest}")

    lines = [
        of_the_rest("output_rest_changed", "output_rounding", "In training an image's output"),
        sentence(
            "output_evaluation_others",
            "output_rounding",
            "Evaluation gives an image another output than training",
            "Evaluation gives an image the same output as training",
        ),
    ]
    for clip, words in (("no_agc", "Without AGC"), ("agc", "With AGC")):
        if f"share_rest_changed_{clip}" in figures:
            what = f"{words} an image's share of the update"
            lines.append(of_the_rest(f"share_rest_changed_{clip}", f"share_rounding_{clip}", what))
    return lines


@torch.no_grad()
def _outputs(module: nn.Module, batch: Batch, others: Batch) -> dict[str, float]:
    def change(after: Tensor, before: Tensor) -> float:
        norm = torch.linalg.vector_norm
        return float((norm(after - before, dim=1) / norm(before, dim=1)).max())

    def output(images: Tensor) -> Tensor:
        return _forward(module, images).main

    images, probed = batch.images, range(min(len(batch.images), IMAGES))
    before = output(images)
    rest = torch.stack([output(batch.beside(i, others).images)[i] for i in probed])
    again = [output(images.flip(0)).flip(0), output(torch.cat([images, images]))[: len(images)]]
    return {
        "output_rest_changed": change(rest, before[: len(probed)]),
        "output_evaluation_others": change(_evaluated(module, images, others.images), before),
        "output_rounding": max(change(output, before) for output in again),
    }


def _evaluated(module: nn.Module, images: Tensor, seen: Tensor) -> Tensor:
    """The output in evaluation mode with running statistics of ``seen`` alone; back to training mode afterwards.

    They are what training's moving average tends to on that batch: the mean, and the variance with n − 1.
    """
    for m in module.modules():
        if isinstance(m, _BatchNorm):
            m.reset_running_stats()
            m.momentum = None  # the plain mean over all batches since the reset
    state = _state(module)
    _forward(module, seen, state)
    output = _forward(module.eval(), images, state).main
    _train_without_dropout(module)
    return output


class _Update:
    """The update of one batch, and the shares that its images have in it. ``clipping`` is λ, None for no clip."""

    def __init__(
        self, module: nn.Module, batch: Batch, parameters: Sequence[nn.Parameter], clipping: float | None
    ) -> None:
        self.parameters, self.clipping = parameters, clipping
        self.terms = batch.losses(module) / len(batch.images)
        self.gradient = [] if clipping is None else _gradient(self.terms.sum(), parameters, retain_graph=True)

    def change(self, i: int, other: _Update, j: int) -> list[float]:
        """How far the share of image j of ``other`` is from that of image i: without the clip and, if any, with it."""
        terms = [_gradient(u.terms[k], u.parameters, retain_graph=True) for u, k in ((self, i), (other, j))]
        without = _distance(terms[1], terms[0])
        if self.clipping is None:
            return [without]
        return [without, _distance(other._clipped(terms[1]), self._clipped(terms[0]))]

    def clipped_units(self) -> float:
        """The share of units, 0 to 1, that the clip shortens in the whole batch's gradient."""
        assert self.clipping is not None
        for p, g in zip(self.parameters, self.gradient, strict=True):
            p.grad = g
        counts = units(self.parameters, self.clipping)
        for p in self.parameters:
            p.grad = None
        return counts.clipped / counts.units

    def _clipped(self, term: Sequence[Tensor]) -> Iterator[Tensor]:
        # one tensor at a time: units are clipped each for itself, and a large net's gradients fill the memory
        for p, g, t in zip(self.parameters, self.gradient, term, strict=True):
            yield self._clip(p, g) - self._clip(p, g - t)

    def _clip(self, parameter: nn.Parameter, gradient: Tensor) -> Tensor:
        assert self.clipping is not None
        parameter.grad = clipped = gradient.clone()
        adaptive_clip_grad_(parameter, self.clipping)
        parameter.grad = None
        return clipped


def _shares(module: nn.Module, batch: Batch, others: Batch, clipping: float | None) -> dict[str, float]:
    parameters = agc_parameters(module) or _trainable(module)
    last = len(batch.images) - 1
    probed = range(min(last + 1, IMAGES))
    before = _Update(module, batch, parameters, clipping)
    reverse = _Update(module, batch.reversed(), parameters, clipping)
    rest = [before.change(i, _Update(module, batch.beside(i, others), parameters, clipping), i) for i in probed]
    rounding = [before.change(i, reverse, last - i) for i in probed]
    figures = {}
    for column, clip in enumerate(["no_agc"] if clipping is None else ["no_agc", "agc"]):
        figures[f"share_rest_changed_{clip}"] = max(changes[column] for changes in rest)
        figures[f"share_rounding_{clip}"] = max(changes[column] for changes in rounding)
    return figures if clipping is None else {**figures, "clipped_units": before.clipped_units()}


def _trainable(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]


def _gradient(loss: Tensor, parameters: Sequence[nn.Parameter], retain_graph: bool = False) -> list[Tensor]:
    """One dense gradient per parameter, of its shape; zeros where the loss does not depend on it."""
    gradients = torch.autograd.grad(loss, parameters, retain_graph=retain_graph, materialize_grads=True)
    return [g.to_dense() if g.is_sparse else g for g in gradients]


def _distance(after: Iterable[Tensor], before: Iterable[Tensor]) -> float:
    """The relative change of all tensors together; 0 where zeros stay zeros."""
    pairs = ((float((a - b).norm()), float(b.norm())) for a, b in zip(after, before, strict=True))
    changes, norms = zip(*pairs, strict=True)
    return math.hypot(*changes) / max(math.hypot(*norms), torch.finfo(torch.float32).tiny)


@torch.no_grad()
def _small_px(module: nn.Module, train_px: int) -> int:
    px = min(train_px, DEFAULT_PX)
    try:
        module.eval()(torch.zeros(1, 3, px, px))
    except Exception:
        return train_px
    return px


@contextlib.contextmanager
def _in_words(name: str, images: Tensor) -> Iterator[None]:
    """Raise what the net ``name`` raises inside as `UnsupportedWorkload`."""
    try:
        yield
    except NfbenchError:
        raise
    except Exception as error:
        if of_device(error):
            raise
        raise UnsupportedWorkload(
            f"{name} does not run on {len(images)} images of {images.shape[-1]} px.",
            why=reason(error),
            try_="another --px, or a net that trains and evaluates on the CPU",
        ) from error


def _check(module: nn.Module, batch: Batch, name: str) -> None:
    if not _trainable(module):
        raise UnsupportedWorkload(
            f"{name} has no parameter that trains.",
            why="Without a gradient no image has a share of the update.",
            try_="requires_grad_(True) on what is to be trained",
        )
    output = _forward(module, batch.images, name=name).main
    with _in_words(name, batch.images):
        _gradient(batch.losses(module).sum(), _trainable(module))
    norms = torch.linalg.vector_norm(output.detach(), dim=1)
    if not bool(((norms > 0) & norms.isfinite()).all()):
        raise UnsupportedWorkload(
            f"{name} gives no logits to compare for {len(batch.images)} images of {batch.images.shape[-1]} px.",
            why=f"Of shape {tuple(output.shape)}, their norms run from {norms.min():g} to {norms.max():g}.",
            try_="another --px, or a net whose last layer is not zero throughout",
        )


def _train_without_dropout(module: nn.Module) -> None:
    """Training mode, but for dropout and stochastic depth, whoever wrote them."""
    module.train()
    for m in module.modules():
        leaf = next(m.children(), None) is None
        if leaf and any(word in type(m).__name__.lower() for word in ("drop", "stochasticdepth")):
            m.training = False


class _NoAlphaDropout(TorchFunctionMode):
    """Alpha dropout off where a net calls the function: no value of its mask leaves its input as it is."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (F.alpha_dropout, F.feature_alpha_dropout):
            kwargs["training"] = False
        return func(*args, **kwargs)


_MEANS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "_sample_dirichlet": lambda v: v["self"] / v["self"].sum(-1, keepdim=True),
    "_standard_gamma": lambda v: v["self"],
    "bernoulli": lambda v: v["self"] if v.get("p") is None else v["p"],
    "binomial": lambda v: v["count"] * v["prob"],
    "cauchy": lambda v: v["median"],
    "exponential": lambda v: 1 / v["lambd"],
    "geometric": lambda v: 1 / v["p"],
    "log_normal": lambda v: math.exp(v["mean"] + v["std"] ** 2 / 2),
    "multinomial": lambda v: (
        v["self"].argmax(-1, keepdim=True) if v["replacement"] else v["self"].topk(v["num_samples"]).indices
    ),
    "normal": lambda v: v["mean"],
    "poisson": lambda v: v["self"],
    "rand": lambda v: 0.5,
    "rand_like": lambda v: 0.5,
    "randint": lambda v: (v.get("low", 0) + v["high"]) // 2,
    "randint_like": lambda v: (v.get("low", 0) + v["high"]) // 2,
    "random": lambda v: ((v.get("from") or 0) + (2 if v.get("to") is None else v["to"])) // 2,
    "randn": lambda v: 0.0,
    "randn_like": lambda v: 0.0,
    "randperm": lambda v: torch.arange(v["n"]),
    "uniform": lambda v: (v["from"] + v["to"]) / 2,
}
"""What takes the place of the numbers that an operator draws, by its name and the values of its arguments: their mean,
the median where there is none, and of a choice the most probable."""


class _Means(TorchDispatchMode):
    """Replaces what operators draw by its mean, whichever layer or function called them.

    Dropout and stochastic depth that scale what survives leave their input as it is.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operator = func.overloadpacket.__name__
        if operator in ("rrelu_with_noise", "rrelu_with_noise_"):
            return _rrelu(operator.endswith("_"), *args, **kwargs)
        drawn = func(*args, **kwargs)
        mean = _MEANS.get(operator.rstrip("_"))
        if mean is not None:
            arguments = func._schema.arguments
            given = dict(zip((a.name for a in arguments), args, strict=False)) | kwargs
            value = mean({a.name: a.default_value for a in arguments} | given)
            value = torch.as_tensor(value, dtype=None if isinstance(value, Tensor) else torch.float64)
            # cut off, a mask of integers would keep nothing
            whole = not (drawn.is_floating_point() or drawn.is_complex())
            drawn.copy_((value + 0.5).floor() if whole else value)
        return drawn


def _rrelu(
    in_place: bool,
    x: Tensor,
    noise: Tensor,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    generator: object = None,
) -> Tensor:
    """A leaky ReLU with RReLU's mean slope, written to ``noise``, which backward reads."""
    slope = torch.where(x <= 0, (lower + upper) / 2, 1.0).to(x.dtype)
    if training:
        noise.copy_(slope)
    return x.mul_(slope) if in_place else x * slope


@contextlib.contextmanager
def _generators_kept() -> Iterator[None]:
    """Inside, the global generators of Python, NumPy and torch's CPU may be set; afterwards they are as before."""
    state, of_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(state)
            np.random.set_state(of_numpy)


def _state(module: nn.Module) -> dict[str, Tensor]:
    """Copies of what forward may change by itself: buffers, and parameters that no optimizer moves."""
    frozen = {
        n: nn.Parameter(p.clone(), requires_grad=False) for n, p in module.named_parameters() if not p.requires_grad
    }
    return {**frozen, **{name: buffer.clone() for name, buffer in module.named_buffers()}}


@contextlib.contextmanager
def _attributes_kept(module: nn.Module) -> Iterator[None]:
    """Inside, what the modules hold besides buffers and parts is copied, such as counters and private generators."""
    modules = [m for m in module.modules() if not isinstance(m, torch.jit.ScriptModule)]
    kept = [dict(vars(m)) for m in modules]
    memo: dict[int, Any] = {id(part): part for part in (*module.modules(), *module.parameters(), *module.buffers())}
    for m, attributes in zip(modules, kept, strict=True):
        for name in attributes.keys() - _OF_TORCH:
            # what cannot be copied, such as a lock, stays
            with contextlib.suppress(Exception):
                vars(m)[name] = copy.deepcopy(attributes[name], memo)
    try:
        yield
    finally:
        for m, attributes in zip(modules, kept, strict=True):
            vars(m).clear()
            vars(m).update(attributes)


_OF_TORCH = vars(nn.Module()).keys()
"""The attributes of every module."""


def _forward(
    module: nn.Module, images: Tensor, state: dict[str, Tensor] | None = None, name: str | None = None
) -> Heads:
    """Run ``module`` with ``state`` in the place of its own, by default copies, and generators that begin anew.

    So neither running statistics nor spectral norm's power iteration move from one forward to the next.
    """
    torch.default_generator.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    name = name or type(module).__name__
    with _in_words(name, images), _attributes_kept(module):
        output = functional_call(module, _state(module) if state is None else state, (images,))
    return heads(output, images=len(images), classes=CLASSES, name=name)
