"""Adaptive gradient clipping around any optimizer of torch, for a user's own training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nfbench.nets.agc import EPS, Impl, adaptive_clip_grad_, agc_parameters


class AGC(Optimizer):
    """``AGC(optimizer, model)``: `step` clips the gradients adaptively, then steps ``optimizer``.

    Groups, state, defaults and state dict are those of the wrapped optimizer, shared and not copied: checkpoints go
    from one to the other, and a scheduler may hold either. Gradients have to be those of the mean loss of the whole
    batch, after any accumulation, since the clip depends on their scale.

    A ``GradScaler`` gets this wrapper, in ``unscale_`` and in ``step``; it unscales before the clip even where the
    wrapped optimizer is fused and could unscale by itself. A closure is evaluated as often as the wrapped optimizer
    likes, and its gradients are clipped each time. Hooks on this wrapper run around clip and update, those on the
    wrapped optimizer around the update; hooks that are global to torch see both.

    Source: Brock et al. 2021, arXiv 2102.06171, section 4; see `adaptive_clip_grad_`.

    Args:
        optimizer: what does the update.
        model: the net whose parameters are clipped, wrapped in DistributedDataParallel or not. Of these, only the ones
            that ``optimizer`` has at the time of a step are.
        clipping: λ, the largest ratio of a unit's gradient norm to its weight norm.
        ignore: names of modules and parameters that are left unclipped, with all below them, instead of the
            classifier's weight.
        eps: what a unit's weight norm is at least taken for.
        impl: ``auto``, ``foreach``, ``fused``, ``reference`` or ``timm``, as for `adaptive_clip_grad_`.

    Raises:
        TypeError: ``optimizer`` is none.
        ValueError: ``clipping`` is not positive, ``eps`` is negative, either is not finite, the model has no such name
            as one in ``ignore``, ``impl`` is unknown, or ``optimizer`` has no parameter of ``model``.
    """

    last_clipped: Tensor | None
    """The number of units clipped at the last clip, 0-d int64, on the gradients' device; None before the first."""

    def __init__(
        self,
        optimizer: Optimizer,
        model: nn.Module,
        clipping: float = 0.01,
        ignore: Iterable[str] | None = None,
        eps: float = EPS,
        impl: Impl = "auto",
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"AGC wraps an optimizer, and this is a {type(optimizer).__name__}. "
                "Give it one: AGC(torch.optim.SGD(model.parameters(), lr=0.1), model)."
            )
        if not clipping > 0:
            raise ValueError(
                f"clipping is {clipping}: it is λ, the largest ratio of a gradient's norm to its weight's. "
                "Give a positive number such as 0.01; to clip nothing, leave AGC out."
            )
        adaptive_clip_grad_((), clipping, eps, impl)  # what is wrong with these is told now, not in the first step
        self.optimizer = optimizer
        self.clipping, self.eps, self.impl = clipping, eps, impl
        self.last_clipped = None
        self._clippable = _clippable(model, ignore)
        owned = {p for group in optimizer.param_groups for p in group["params"]}
        if owned.isdisjoint(model.parameters()):
            raise ValueError(
                "The optimizer has none of the model's parameters, so there is nothing to clip. "
                "Give AGC the model that the optimizer was built from."
            )
        # Optimizer.__init__ would make groups and state of its own; this is how torch readies an unpickled optimizer
        super().__setstate__({})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Clip, then update; with a closure, clip after each of its evaluations. Returns what ``optimizer`` returns."""
        if closure is None:
            self._clip()
            return self.optimizer.step()

        def clipped() -> float:
            with torch.enable_grad():
                loss = closure()
            self._clip()
            return loss

        return self.optimizer.step(clipped)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.optimizer.zero_grad(set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to ``optimizer``; of its parameters those are clipped that the model had when AGC was made."""
        self.optimizer.add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """The wrapped optimizer's, which knows nothing of the clip."""
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        state = self.optimizer.state_dict()
        for after in self._optimizer_state_dict_post_hooks.values():
            changed = after(self, state)
            state = state if changed is None else changed
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict of the wrapped optimizer's kind, from before AGC or after."""
        state_dict = state_dict.copy()
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            changed = before(self, state_dict)
            state_dict = state_dict if changed is None else changed
        self.optimizer.load_state_dict(state_dict)
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    # load_state_dict of the wrapped optimizer puts new objects in the place of these, so they are looked up each time

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.optimizer.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        self.optimizer.param_groups = groups

    @property
    def state(self) -> defaultdict[Tensor, Any]:
        return self.optimizer.state

    @state.setter
    def state(self, state: defaultdict[Tensor, Any]) -> None:
        self.optimizer.state = state

    @property
    def defaults(self) -> dict[str, Any]:
        return self.optimizer.defaults

    @defaults.setter
    def defaults(self, defaults: dict[str, Any]) -> None:
        self.optimizer.defaults = defaults

    def __getstate__(self) -> dict[str, Any]:
        # as torch does, without hooks and without a scheduler's patch of step
        kept = ("optimizer", "clipping", "eps", "impl", "last_clipped", "_clippable")
        return {name: self.__dict__[name] for name in kept}

    def __repr__(self) -> str:
        return f"AGC (\nclipping: {self.clipping}\neps: {self.eps}\nimpl: {self.impl}\noptimizer: {self.optimizer!r}\n)"

    def _clip(self) -> None:
        owned = {p for group in self.param_groups for p in group["params"]}
        clipped = [p for p in self._clippable if p in owned]
        self.last_clipped = adaptive_clip_grad_(clipped, clipping=self.clipping, eps=self.eps, impl=self.impl)


def _clippable(model: nn.Module, ignore: Iterable[str] | None) -> list[nn.Parameter]:
    """`agc_parameters`, and those as well that are frozen now: they may be thawed during training."""
    frozen = [p for p in model.parameters() if p.is_floating_point() and not p.requires_grad]
    try:
        for p in frozen:
            p.requires_grad_(True)
        return agc_parameters(model, ignore)
    finally:
        for p in frozen:
            p.requires_grad_(False)
