"""One training step: (ascent,) forward, loss, backward, accumulation (, unscale), clip, update, zero_grad (, average).

Nothing is synchronized, printed or copied in `TrainStep.update`; where time goes is read from the stamps it takes.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nfbench.errors import UnsupportedWorkload
from nfbench.nets import agc
from nfbench.nets.flops import Operators, Saved
from nfbench.nets.outputs import heads, note
from nfbench.nets.sam import Sam, ascent_images
from nfbench.records import Layout, Phases, Reading, Resolved, StepTime, reading

LABEL_SMOOTHING = 0.1
POOL_BYTES = 2**26
"""Inputs kept on the device where they are more than one pass takes; a batch that is larger goes round."""

FORMATS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}
AUTOCAST = {"fp16": torch.float16, "bf16": torch.bfloat16}


def lay_out(net: nn.Module, layout: Layout) -> None:
    """Lay the 4-D parameters and buffers of ``net`` out, in place; others, such as those of a Conv3d, stay."""
    for tensor in (*net.parameters(), *net.buffers()):
        if tensor.dim() == 4 and tensor.layout is torch.strided:
            tensor.data = tensor.data.to(memory_format=FORMATS[layout])


class Average:
    """The moving average of a net: a copy in evaluation mode, in which what trains is averaged over the updates.

    So are the running statistics of normalization layers. Other buffers are copied: an average of unit vectors, such as
    spectral normalization keeps, is none. timm's `ModelEmaV3` averages these too, and cannot copy a net in which a
    weight is computed from others.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        with _Copying():
            self.module = copy.deepcopy(net, _uncopied(net)).eval()
        for buffer in self.module.buffers():
            if buffer.layout is torch.strided and 0 in buffer.stride():
                # elements that share their memory cannot be written
                buffer.data = buffer.clone()

    @torch.no_grad()
    def update(self, net: nn.Module, t: int) -> None:
        """Average after update t, which counts from 0, with the decay min(decay, (1 + t) / (10 + t))."""
        averaged: list[Tensor] = []
        trained: list[Tensor] = []
        for (name, average), (_, tensor) in zip(_named_tensors(self.module), _named_tensors(net), strict=True):
            statistic = name.rpartition(".")[2].startswith("running_") and tensor.is_floating_point()
            if tensor.requires_grad or statistic:
                averaged.append(average)
                trained.append(tensor)
            elif average.shape == tensor.shape:
                average.copy_(tensor)
            else:
                average.data = tensor.detach().clone()
        if averaged:
            torch._foreach_lerp_(averaged, trained, weight=1 - min(self.decay, (1 + t) / (10 + t)))


def _named_tensors(net: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from net.named_parameters()
    yield from net.named_buffers()


def _uncopied(net: nn.Module) -> dict[int, Any]:
    """What `copy.deepcopy` shall take as it is, by id: attributes that cannot be copied, such as locks and files."""
    parts = {id(part): part for part in (*net.modules(), *net.parameters(), *net.buffers())}
    uncopied: dict[int, Any] = {}
    for module in net.modules():
        for value in () if isinstance(module, torch.jit.ScriptModule) else vars(module).values():
            try:
                copy.deepcopy(value, dict(parts))
            except Exception:
                uncopied[id(value)] = value
    return uncopied


class _Copying(TorchFunctionMode):
    """Lets `copy.deepcopy` copy tensors that were computed, such as the weight that old weight_norm sets."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__deepcopy__ and not args[0].is_leaf:
            return args[1].setdefault(id(args[0]), args[0].detach().clone())
        return func(*args, **(kwargs or {}))


class TrainStep:
    """A net with its optimizer and inputs, ready to be updated.

    Inputs are normal with unit variance, float32, of shape (micro_batch, 3, px, px) and on the device; targets are
    uniform over the classes. The gradient is that of the mean loss over all passes of the update. In fp16 gradients
    are unscaled before the clip, and an update that is not finite is skipped.

    The ascent of SAM sees the first ⌈sam_fraction · n⌉ images of each micro-batch, or of the whole batch. ``ema`` is
    the decay of the weights' `Average`. ``batch`` is this rank's share.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        workload: StepTime,
        resolved: Resolved,
        *,
        device: torch.device,
        classes: int,
        seed: int,
    ) -> None:
        self.net, self.optimizer, self.workload, self.resolved = net, optimizer, workload, resolved
        self.device, self.classes, self.seed = device, classes, seed
        self.batch = workload.batch // workload.world_size
        self.clipping, self.impl = resolved.agc, resolved.agc_impl or "foreach"
        self.clipped = [] if self.clipping is None else agc.agc_parameters(net)
        self.clip: Callable[[], object] = (
            _nothing if self.clipping is None else agc.clipper(self.clipped, self.clipping, self.impl)
        )
        self.sam = None if workload.sam == "none" else Sam(net, workload.sam)
        self.ema: Average | None = None
        self.phases = _phases(workload, unscale=resolved.precision == "fp16")
        self.criterion: nn.Module = nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING)
        # The scale only ever falls, so that its fall counts the skipped updates.
        self.scaler = _scaler(device) if resolved.precision == "fp16" else None
        self.model = self.compiled(net)
        self.inputs: list[Tensor] = []
        self.targets: list[Tensor] = []
        self.loss = torch.tensor(float("nan"))
        self.updates = self.averaged = 0
        self.micro_batch = 0
        self.notes: dict[str, str] = {}

    def arrange(self, layout: Layout, micro_batch: int) -> None:
        """Lay weights and inputs out for passes of ``micro_batch`` images; momentum and gradients start anew."""
        self._let_go()
        lay_out(self.net.to(self.device), layout)
        self.micro_batch = micro_batch
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        image_bytes = 12 * self.resolved.px**2
        held = max(1, min(self.batch // micro_batch, POOL_BYTES // (image_bytes * micro_batch)))
        generator = torch.Generator(self.device).manual_seed(self.seed)
        size = (held * micro_batch, 3, self.resolved.px, self.resolved.px)
        images = torch.randn(size, generator=generator, device=self.device)
        classes = torch.randint(self.classes, (size[0],), generator=generator, device=self.device)
        self.inputs = [i.contiguous(memory_format=FORMATS[layout]) for i in images.split(micro_batch)]
        self.targets = list(classes.split(micro_batch))
        if self.scaler is not None and isinstance(self.optimizer, torch.optim.SGD):
            # torch's fused SGD leaves new momentum uninitialized where the first update is skipped
            for group in self.optimizer.param_groups:
                for p in group["params"]:
                    self.optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
        if self.workload.ema != "none":
            self.averaged = 0
            self.ema = Average(self.net, self.workload.ema)

    def compiled(self, net: nn.Module) -> Callable[[Tensor], Tensor]:
        """``net`` as it is run."""
        mode = self.workload.compile
        if mode == "none":
            return net
        run: Callable[[Tensor], Tensor] = torch.compile(net, mode=None if mode == "default" else mode, dynamic=False)
        return run

    @contextlib.contextmanager
    def eager(self) -> Iterator[None]:
        """Inside, the net is run as it is written: sizes that are only tried are not worth a compilation."""
        compiled, self.model = self.model, self.net
        try:
            yield
        finally:
            self.model = compiled

    def park(self) -> None:
        """Move everything off the device; `arrange` brings it back."""
        self._let_go()
        self.net.to("cpu")

    def _let_go(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.state.clear()
        if self.scaler is not None:
            # an update that failed after its unscaling would have the next one refused
            self.scaler._per_optimizer_states.clear()
        self.inputs, self.targets, self.ema = [], [], None
        if self.sam is not None:
            self.sam.forget()

    def update(self, stamp: Callable[[], None], passes: int) -> None:
        """One update over ``passes`` micro-batches, with a stamp at the end of each phase of `phases`."""
        self._ascend_batch(stamp, passes)
        for index in range(passes):
            self._pass(stamp, index, passes)
        self._gather(stamp)
        self.clip()
        stamp()
        self._finish(stamp)

    def _gather(self, stamp: Callable[[], None]) -> None:
        """After the last pass: weights back from where the batch's ascent led, gradients unscaled."""
        self._check_dense(p.grad for p in self.net.parameters() if p.grad is not None)
        if self.sam is not None and self.workload.sam_scope == "batch":
            self.sam.restore()
            stamp()
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
            stamp()

    def _finish(self, stamp: Callable[[], None]) -> None:
        """Update, moving average."""
        self._apply()
        stamp()
        if self.ema is not None:
            self.ema.update(self.net, self.averaged)
            self.averaged += 1
            stamp()
        self.updates += 1

    def _ascend_batch(self, stamp: Callable[[], None], passes: int) -> None:
        if self.sam is None or self.workload.sam_scope != "batch":
            return
        left = images = ascent_images(passes * self.micro_batch, self.workload.sam_fraction)
        total: list[Tensor] = []
        for index in range(-(-images // self.micro_batch)):
            taken = min(left, self.micro_batch)
            gradients = self._ascent_gradient(index, taken, taken / images)
            if total:
                torch._foreach_add_(total, gradients)
            else:
                total = gradients
            left -= taken
        self.sam.ascend(total, guarded=self.scaler is not None)
        del total, gradients
        stamp()

    def _ascent_gradient(self, index: int, images: int, weight: float = 1.0) -> list[Tensor]:
        """The gradient of the mean loss of a pass's first images, times ``weight``, which adds to no parameter's."""
        assert self.sam is not None
        which = index % len(self.inputs)
        with self.sam.buffers_kept():
            with self._autocast():
                loss = self._loss(self.inputs[which][:images], self.targets[which][:images]) * weight
            scaled = loss if self.scaler is None else self.scaler.scale(loss)
            gradients = list(torch.autograd.grad(scaled, self.sam.parameters, materialize_grads=True))
        self._check_dense(gradients)
        return gradients

    def _pass(self, stamp: Callable[[], None], index: int, passes: int) -> None:
        perturbed = self.sam if self.workload.sam_scope == "micro-batch" else None
        if perturbed is not None:
            images = ascent_images(self.micro_batch, self.workload.sam_fraction)
            perturbed.ascend(self._ascent_gradient(index, images), guarded=self.scaler is not None)
            stamp()
        which = index % len(self.inputs)
        with self._autocast():
            loss = self._loss(self.inputs[which], self.targets[which])
            if passes > 1:
                loss = loss / passes
        stamp()
        self.loss = loss.detach()
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        # freeing the graph belongs to backward, not to what follows
        del loss
        stamp()
        if perturbed is not None:
            perturbed.restore()
            stamp()

    def _check_dense(self, gradients: Iterable[Tensor]) -> None:
        """Before the first update, raise `UnsupportedWorkload` where a gradient is sparse."""
        if not self.updates and any(g.layout is not torch.strided for g in gradients):
            raise UnsupportedWorkload(
                f"{self.workload.model} has sparse gradients.",
                why="The clip, weight decay and torch's fused optimizers take dense ones.",
                try_="sparse=False in its embeddings",
            )

    def _loss(self, images: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of the main output and, weighted, of auxiliary heads."""
        output = self.model(images)
        trained = heads(output, images=len(images), classes=self.classes, name=self.workload.model)
        if not isinstance(output, Tensor) and "loss" not in self.notes:
            self.notes["loss"] = note(output, trained)
        return trained.loss(self.criterion, targets)

    def _apply(self) -> None:
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        dtype = AUTOCAST.get(self.resolved.precision)
        return contextlib.nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)

    @property
    def accumulation_steps(self) -> int:
        """Passes of a whole update."""
        return self.batch // self.micro_batch

    def scale(self) -> float | None:
        """The loss scale of fp16, else None. Synchronizes."""
        return None if self.scaler is None else float(self.scaler.get_scale())

    def inspect(self, count_operators: bool) -> list[Reading]:
        """One more update of two passes at most, looked into: gradients before the clip, loss, operators, bytes."""
        passes = min(2, self.accumulation_steps)
        counts: list[int] = []
        losses: list[Tensor] = []
        operators = Operators()
        counting = operators if count_operators else contextlib.nullcontext()
        with counting:
            # an ascent over the batch grows with the batch, unlike what follows
            self._ascend_batch(_nothing, self.accumulation_steps)
            before = operators.taken()
            for index in range(passes):
                self._pass(_nothing, index, passes)
                losses.append(self.loss)
                counts.append(operators.taken())
            self._gather(_nothing)
            before += operators.taken()
        loss = float(torch.stack(losses).sum())
        images = reading("inspected_images", "1", "run", "count", [passes * self.micro_batch])
        readings = [*self._gradients(), images, reading("loss", "1", "run", "one update", [loss])]
        operators.taken()
        self._clip_all(counting)
        with counting:
            self._finish(_nothing)
        rest = before + operators.taken()
        if count_operators:
            total = counts[0] + (self.accumulation_steps - 1) * counts[-1] + rest
            readings.append(reading("operators", "1", "step", "dispatch mode", [total]))
            saved = self.saved_bytes()
            if saved is None:
                self.notes["saved_bytes"] = "not counted: its forward takes gradients by torch.func"
            else:
                readings.append(reading("saved_bytes", "B", "micro_step", "saved tensors", [saved]))
        return readings

    def _clip_all(self, counting: contextlib.AbstractContextManager[object]) -> None:
        """Clip, counted as if every unit were over its limit: on a CPU no others are touched, and a count that depends
        on values could not be compared."""
        if self.device.type != "cpu":
            with counting:
                self.clip()
            return
        gradients = [p.grad for p in self.clipped if p.grad is not None]
        kept = [g.clone() for g in gradients]
        for g in gradients:
            g.fill_(1e6)
        with counting:
            self.clip()
        for g, before in zip(gradients, kept, strict=True):
            g.copy_(before)
        self.clip()

    def saved_bytes(self) -> int | None:
        """Bytes that one pass keeps for backward. Of a compiled net the hooks would see something else.

        None where the net takes gradients in forward by torch.func, which refuses hooks on saved tensors.
        """
        saved = Saved([*self.net.parameters(), *self.net.buffers()])
        try:
            with saved.counting(), self._autocast():
                self._loss(self.inputs[0], self.targets[0])
        except RuntimeError as error:
            if "saved tensor hooks" not in str(error):
                raise
            return None
        return saved.bytes

    def _gradients(self) -> list[Reading]:
        gradients = [p.grad for p in self.net.parameters() if p.grad is not None]
        if not gradients:
            return []
        zeros = sum(g.numel() - int(torch.count_nonzero(g)) for g in gradients)
        found = [reading("zero_gradients", "1", "run", "one update", [zeros / sum(g.numel() for g in gradients)])]
        if self.clipping is not None:
            units = agc.units(self.clipped, self.clipping, self.impl)
            if units.units:
                share = units.clipped / units.units
                found.append(reading("clipped_units", "1", "run", "one update", [share]))
                found.append(reading("nonfinite_units", "1", "run", "one update", [units.nonfinite]))
        return found


def _scaler(device: torch.device) -> torch.amp.GradScaler:
    return torch.amp.GradScaler(device.type, growth_interval=2**31 - 1)


def skipped_updates(before: float, after: float) -> float:
    """How often GradScaler halved its scale between the two, each for one update that it skipped.

    Not a number once the scale has reached zero, below which it cannot be halved.
    """
    return math.log2(before / after) if after > 0 else math.nan


def _phases(workload: StepTime, unscale: bool) -> Phases:
    head, each, tail = Phases()
    if unscale:
        tail = ("unscale", *tail)
    if workload.ema != "none":
        tail = (*tail, "average")
    if workload.sam == "none":
        return Phases(head, each, tail)
    if workload.sam_scope == "batch":
        return Phases(("ascent",), each, ("ascent", *tail))
    return Phases(head, ("ascent", *each, "ascent"), tail)


def _nothing() -> None:
    return None
