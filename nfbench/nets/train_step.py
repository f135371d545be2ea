"""One training step: forward, loss, backward, accumulation, clip, update, zero_grad.

Nothing is synchronized, printed or copied in `TrainStep.update`; where time goes is read from the stamps it takes.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from nfbench.nets import agc
from nfbench.records import CompileMode, Layout, Precision, Reading, reading

LABEL_SMOOTHING = 0.1
POOL_BYTES = 2**26
"""Inputs kept on the device where they are more than one pass takes; a batch that is larger goes round."""

_FORMATS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}
_AUTOCAST = {"fp16": torch.float16, "bf16": torch.bfloat16}


class TrainStep:
    """A net with its optimizer and inputs, ready to be updated.

    Inputs are normal with unit variance, float32, of shape (micro_batch, 3, px, px) and on the device; targets are
    uniform over the classes. The gradient is that of the mean loss over all passes of the update. In fp16 gradients
    are unscaled before the clip, and an update that is not finite is skipped.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        device: torch.device,
        batch: int,
        px: int,
        classes: int,
        precision: Precision,
        clipping: float | None,
        compile: CompileMode,
        seed: int,
    ) -> None:
        self.net, self.optimizer, self.device = net, optimizer, device
        self.batch, self.px, self.classes, self.seed = batch, px, classes, seed
        self.precision, self.clipping = precision, clipping
        self.clipped = agc.agc_parameters(net) if clipping is not None else []
        self.criterion = nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING)
        # The scale only ever falls, so that its fall counts the skipped updates.
        self.scaler = torch.amp.GradScaler(device.type, growth_interval=2**31 - 1) if precision == "fp16" else None
        mode = None if compile == "default" else compile
        self.model: Callable[[Tensor], Tensor] = (
            net if compile == "none" else torch.compile(net, mode=mode, dynamic=False)
        )
        self.inputs: list[Tensor] = []
        self.targets: list[Tensor] = []
        self.loss = torch.tensor(float("nan"))
        self.updates = 0
        self.micro_batch = 0

    def arrange(self, layout: Layout, micro_batch: int) -> None:
        """Lay weights and inputs out for passes of ``micro_batch`` images; momentum and gradients start anew."""
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.state.clear()
        self.inputs, self.targets = [], []
        self.net.to(self.device, memory_format=_FORMATS[layout])  # type: ignore[call-overload]
        self.micro_batch = micro_batch
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        image_bytes = 12 * self.px**2
        held = max(1, min(self.batch // micro_batch, POOL_BYTES // (image_bytes * micro_batch)))
        generator = torch.Generator(self.device).manual_seed(self.seed)
        size = (held * micro_batch, 3, self.px, self.px)
        images = torch.randn(size, generator=generator, device=self.device)
        classes = torch.randint(self.classes, (size[0],), generator=generator, device=self.device)
        self.inputs = [i.contiguous(memory_format=_FORMATS[layout]) for i in images.split(micro_batch)]
        self.targets = list(classes.split(micro_batch))
        if self.scaler is not None and isinstance(self.optimizer, torch.optim.SGD):
            # torch's fused SGD leaves new momentum uninitialized where the first update is skipped
            for group in self.optimizer.param_groups:
                for p in group["params"]:
                    self.optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)

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
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.state.clear()
        self.inputs, self.targets = [], []
        self.net.to("cpu")

    def update(self, stamp: Callable[[], None], passes: int) -> None:
        """One update over ``passes`` micro-batches; stamps after each forward, backward, the clip and the update."""
        for index in range(passes):
            self._pass(stamp, index, passes)
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        if self.clipping is not None:
            agc.clip(self.clipped, self.clipping)
        stamp()
        self._apply()
        stamp()
        self.updates += 1

    def _pass(self, stamp: Callable[[], None], index: int, passes: int) -> None:
        which = index % len(self.inputs)
        with self._autocast():
            loss = self.criterion(self.model(self.inputs[which]), self.targets[which])
            if passes > 1:
                loss = loss / passes
        stamp()
        self.loss = loss.detach()
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        # freeing the graph belongs to backward, not to what follows
        del loss
        stamp()

    def _apply(self) -> None:
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        dtype = _AUTOCAST.get(self.precision)
        return contextlib.nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)

    @property
    def accumulation_steps(self) -> int:
        """Passes of a whole update."""
        return self.batch // self.micro_batch

    def scale(self) -> float | None:
        """The loss scale of fp16, else None. Synchronizes."""
        return None if self.scaler is None else float(self.scaler.get_scale())

    def inspect(self, count_operators: bool) -> list[Reading]:
        """One more update of two passes at most, looked into: gradients before the clip, loss, operators dispatched."""
        from nfbench.nets.operators import Operators

        passes = min(2, self.accumulation_steps)
        counts: list[int] = []
        losses: list[Tensor] = []
        operators = Operators()
        counting = operators if count_operators else contextlib.nullcontext()
        with counting:
            for index in range(passes):
                self._pass(_nothing, index, passes)
                losses.append(self.loss)
                counts.append(operators.taken())
            if self.scaler is not None:
                self.scaler.unscale_(self.optimizer)
            rest = operators.taken()
        loss = float(torch.stack(losses).sum())
        images = reading("inspected_images", "1", "run", "count", [passes * self.micro_batch])
        readings = [*self._gradients(), images, reading("loss", "1", "run", "one update", [loss])]
        operators.taken()
        with counting:
            if self.clipping is not None:
                agc.clip(self.clipped, self.clipping)
            self._apply()
        rest += operators.taken()
        self.updates += 1
        if count_operators:
            total = counts[0] + (self.accumulation_steps - 1) * counts[-1] + rest
            readings.append(reading("operators", "1", "step", "dispatch mode", [total]))
        return readings

    def _gradients(self) -> list[Reading]:
        gradients = [p.grad for p in self.net.parameters() if p.grad is not None]
        if not gradients:
            return []
        zeros = sum(g.numel() - int(torch.count_nonzero(g)) for g in gradients)
        found = [reading("zero_gradients", "1", "run", "one update", [zeros / sum(g.numel() for g in gradients)])]
        if self.clipping is not None:
            share = agc.clipped_share(self.clipped, self.clipping)
            found += [] if share is None else [reading("clipped_units", "1", "run", "one update", [share])]
        return found


def skipped_updates(before: float, after: float) -> float:
    """How often GradScaler halved its scale between the two, each for one update that it skipped.

    Not a number once the scale has reached zero, below which it cannot be halved.
    """
    return math.log2(before / after) if after > 0 else math.nan


def _nothing() -> None:
    return None
