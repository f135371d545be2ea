"""What a net returned: the output that is trained and scored, its auxiliary heads, and the loss of them together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nfbench.errors import UnsupportedWorkload


class Heads(NamedTuple):
    """Logits of shape (images, classes): those of the classifier, and by name those of its auxiliary heads."""

    main: Tensor
    auxiliary: Mapping[str, Tensor]

    @property
    def weight(self) -> float:
        """What an auxiliary head's loss counts: 0.4 where it is the only one, as torchvision's reference training has
        it for Inception v3, and 0.3 where there are more, as Szegedy et al. 2014 (arXiv 1409.4842) have it for
        GoogLeNet."""
        return 0.4 if len(self.auxiliary) == 1 else 0.3

    def loss(self, criterion: Callable[[Tensor, Tensor], Tensor], targets: Tensor) -> Tensor:
        """The main output's loss and, weighted, those of the auxiliary heads."""
        loss = criterion(self.main, targets)
        for logits in self.auxiliary.values():
            loss = loss + self.weight * criterion(logits, targets)
        return loss


def heads(output: object, *, images: int, classes: int, name: str) -> Heads:
    """The heads in what a net returned for ``images``: a tensor, or several in tuples, dicts and objects.

    The main output is the first tensor of shape (images, classes), or with more columns where none has just these.
    Others of its shape are auxiliary heads where their names say ``aux``, in whatever case. ``name`` is what messages
    call the net.

    Raises:
        UnsupportedWorkload: there is no such tensor, or it does not depend on a parameter that trains although
            gradients are on.
    """
    tensors = dict(named_tensors(output))
    logits = {
        key: t
        for key, t in tensors.items()
        if t.dim() == 2 and len(t) == images and t.shape[1] >= classes and t.is_floating_point()
    }
    fits = {key: t for key, t in logits.items() if t.shape[1] == classes} or logits
    auxiliary = {key for key in fits if "aux" in key.casefold()}
    plain = [key for key in fits if key not in auxiliary]
    if not plain:
        returned = ", ".join(f"{key} {tuple(t.shape)} of {str(t.dtype)[6:]}" for key, t in tensors.items())
        raise UnsupportedWorkload(
            f"{name} returns no logits of shape ({images}, {classes}) to train on.",
            why=f"It returned {returned or type(output).__name__}.",
            try_="a net whose output, or one of whose outputs, has a row per image and a column per class",
        )
    main = fits[plain[0]]
    if torch.is_grad_enabled() and not main.requires_grad:
        raise UnsupportedWorkload(
            f"The output of {name} depends on no parameter that trains.",
            why="Its forward detaches it, or requires_grad is off.",
            try_=f"nfbench flops {name}, which needs no gradient",
        )
    return Heads(main, {key: t for key, t in fits.items() if key in auxiliary and t.shape == main.shape})


def note(output: object, trained: Heads) -> str:
    """Say in a few words which of several outputs the loss is of."""
    names = {id(t): key for key, t in named_tensors(output)}
    auxiliary = [f"{trained.weight} · {key}" for key in trained.auxiliary]
    rest = [key for key in names.values() if key not in trained.auxiliary and key != names[id(trained.main)]]
    words = "of " + " + ".join([names[id(trained.main)], *auxiliary])
    return words + (f"; not trained on: {', '.join(rest)}" if rest else "")


def named_tensors(output: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors of an output with their keys, fields, attributes or places, which a dot joins."""
    if isinstance(output, Tensor):
        yield prefix or "output", output
        return
    parts: Iterator[tuple[Any, Any]] | Any = ()
    if isinstance(output, Mapping):
        parts = output.items()
    elif isinstance(output, (tuple, list)):
        parts = zip(getattr(output, "_fields", range(len(output))), output, strict=True)
    elif dataclasses.is_dataclass(output):
        parts = ((field.name, getattr(output, field.name)) for field in dataclasses.fields(output))
    else:
        # of other objects their own tensors alone, since they may refer to each other
        parts = ((key, value) for key, value in getattr(output, "__dict__", {}).items() if isinstance(value, Tensor))
    for key, value in parts:
        yield from named_tensors(value, f"{prefix}.{key}" if prefix else str(key))
