"""Click options that commands share, and the words that a flag may hold.

A flag's name is the field of `Workload` or `Sampling` that it fills, with ``-`` for ``_``; `nfbench.studies.entries`
makes the records, for flags and study files alike.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from nfbench.errors import UnsupportedWorkload
from nfbench.records import (
    AgcImpl,
    Augment,
    CompileMode,
    Layout,
    Norm,
    Optimizer,
    Precision,
    RecipeName,
    SamScope,
    Schedule,
)

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:  # not generic before click 8.3
    _ParamType = click.ParamType

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

format_option = click.option(
    "--format",
    "format",
    type=click.Choice(["rich", "md", "csv", "json"]),
    default="rich",
    show_default=True,
    help="csv and json hold raw values in SI units.",
)

device_option = click.option(
    "--device", default="auto", show_default=True, metavar="D", help="auto, cpu, cuda or cuda:N."
)

seed_option = click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of weights, inputs and targets."
)

where_option = click.option(
    "--where",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only rows where this holds: batch=32,64 or step_time<100ms; = != < <= > >= ~.",
)

noisy_option = click.option(
    "--noisy", is_flag=True, help="Use noisy rows in ratios, figures and verdicts like any other."
)

quiet_option = click.option("--quiet", is_flag=True, help="No live line.")


class NumberOr(_ParamType):
    """A number, or one of a few words that are kept as they are."""

    def __init__(self, kind: type[int] | type[float], *words: str) -> None:
        self.kind, self.words = kind, words
        self.name = "|".join(("N" if kind is int else "X", *words))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, (int, float)) or value in self.words:
            return value
        try:
            return self.kind(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor {' or '.join(self.words)}.", param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"[{self.name}]"


class Share(_ParamType):
    """A share given as ``1%`` or ``0.01``."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip()
        try:
            return float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            self.fail(f"{value!r} is no share; type 1% or 0.01.", param, ctx)


class Values(_ParamType):
    """Values given as ``2,4,8``, some of which may be words; a word by itself stays one where it is ``auto``."""

    name = "values"

    def __init__(self, kind: type[int] | type[float], *words: str) -> None:
        self.kind, self.words = kind, words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, list):
            return value
        texts = [text.strip() for text in str(value).split(",") if text.strip()]
        if texts == ["auto"] and "auto" in self.words:
            return "auto"
        try:
            found = [text if text in self.words and text != "auto" else self.kind(text) for text in texts]
        except ValueError:
            found = []
        if not found:
            words = "".join(f" or {word}" for word in self.words)
            self.fail(f"{value!r} is no list of numbers{words}; type 2,4,8.", param, ctx)
        return found

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "N,N..." if self.kind is int else "X,X..."


class Duration(_ParamType):
    """A time given as ``90``, ``90s``, ``20m`` or ``1h``, in seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip().lower()
        scale = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:])
        try:
            seconds = float(text) if scale is None else float(text[:-1]) * scale
        except ValueError:
            seconds = 0.0
        if not 0 < seconds < float("inf"):
            self.fail(f"{value!r} is no time; type 90s, 20m or 1h.", param, ctx)
        return seconds


def _choice(literal: Any, *words: str) -> click.Choice[str]:
    return click.Choice([*words, *get_args(literal)])


WORKLOAD_OPTIONS: tuple[Decorator, ...] = (
    click.option("--batch", type=int, default=32, show_default=True, help="Images an update."),
    click.option(
        "--micro-batch",
        type=NumberOr(int, "auto"),
        default="auto",
        show_default=True,
        help="Images a pass. auto: the whole batch, or the largest share of it that fits in the memory.",
    ),
    click.option("--px", type=NumberOr(int, "train"), default="train", show_default=True, help="Side of the input."),
    click.option(
        "--precision",
        type=_choice(Precision, "auto"),
        default="auto",
        show_default=True,
        help="auto: bf16 from sm_80, fp16 on sm_70/75, fp32 on a CPU.",
    ),
    click.option(
        "--layout",
        type=_choice(Layout, "best"),
        default="best",
        show_default=True,
        help="best: the quicker one in a trial; where that cannot tell, nhwc on a GPU and nchw on a CPU.",
    ),
    click.option("--compile", type=_choice(CompileMode), default="none", show_default=True, help="torch.compile mode."),
    click.option(
        "--agc",
        type=NumberOr(float, "auto", "none"),
        default="auto",
        show_default=True,
        help="Clipping threshold λ. auto: 0.01 for nets without normalization, none for others.",
    ),
    click.option(
        "--agc-impl",
        type=_choice(AgcImpl, "auto"),
        default="auto",
        show_default=True,
        help="auto: fused on CUDA where its kernel runs, else foreach.",
    ),
    click.option(
        "--norm",
        type=_choice(Norm, "auto"),
        default="auto",
        show_default=True,
        help="In the place of batch normalization; frozen: for time and memory only.",
    ),
    click.option(
        "--optimizer",
        type=_choice(Optimizer),
        default="sgd",
        show_default=True,
        help="sgd: one Nesterov SGD for all; recipe: the family's own.",
    ),
    click.option(
        "--sam",
        type=NumberOr(float, "none"),
        default="none",
        show_default=True,
        help="Radius ρ of sharpness-aware minimization, such as 0.05.",
    ),
    click.option(
        "--sam-fraction", type=Share(), default="0.2", show_default=True, help="Share of the images its ascent sees."
    ),
    click.option(
        "--sam-scope",
        type=_choice(SamScope),
        default="micro-batch",
        show_default=True,
        help="One ascent for each pass, or one for the batch.",
    ),
    click.option(
        "--ema",
        type=NumberOr(float, "none"),
        default="none",
        show_default=True,
        help="Decay of a moving average of the weights, such as 0.99999.",
    ),
)


def _auto(name: str, kind: type[int] | type[float], help: str, *words: str) -> Decorator:
    return click.option(f"--{name}", type=NumberOr(kind, "auto", *words), default="auto", show_default=True, help=help)


BY_NAME = {
    str(param.name): option for option in WORKLOAD_OPTIONS for param in click.command()(option(lambda **_: None)).params
}

RUN_OPTIONS: tuple[Decorator, ...] = (
    click.option("--dataset", default="digits", show_default=True, metavar="D", help="See above."),
    click.option("--epochs", type=int, default=10, show_default=True, help="0 only evaluates --weights."),
    click.option("--batch", type=int, default=64, show_default=True, help="Images an update."),
    *(BY_NAME[name] for name in ("micro_batch", "px")),
    _auto("test-px", int, "Side of the input in evaluation."),
    BY_NAME["precision"],
    click.option("--layout", type=_choice(Layout), default="nhwc", show_default=True),
    *(BY_NAME[name] for name in ("compile", "agc", "agc_impl", "norm", "sam", "sam_fraction", "sam_scope")),
    _auto("ema", float, "Decay of a moving average of the weights. auto: the recipe's.", "none"),
    click.option(
        "--recipe",
        type=_choice(RecipeName, "auto"),
        default="auto",
        show_default=True,
        help="auto: the family's own. It gives each auto below.",
    ),
    click.option("--optimizer", default="auto", show_default=True, metavar="NAME", help="One of timm's."),
    _auto("lr", float, "Peak rate at this batch. auto: the recipe's × batch / 256."),
    click.option("--schedule", type=_choice(Schedule, "auto"), default="auto", show_default=True),
    _auto("warmup-epochs", float, "auto: the recipe's, at most 10 % of the run."),
    _auto("decay-epochs", float, "An exponential schedule falls at this interval."),
    _auto("decay-rate", float, "By this factor."),
    _auto("momentum", float, "Of the optimizer."),
    _auto("alpha", float, "RMSProp's decay."),
    _auto("eps", float, "RMSProp's ε."),
    _auto("weight-decay", float, "Of weights; gains, biases and norms have none."),
    _auto("label-smoothing", float, "0 to 1."),
    click.option(
        "--augment",
        type=_choice(Augment, "auto"),
        default="auto",
        show_default=True,
        help="auto: none for digits and the MNISTs, flip (and crop) for CIFAR, else the recipe's.",
    ),
    _auto("randaugment-layers", int, "Operations an image."),
    _auto("randaugment-magnitude", int, "On timm's scale."),
    _auto("mixup", float, "α, on half of a batch; 0 for none."),
    _auto("cutmix", float, "α, on the other half; 0 for none."),
    _auto("drop-rate", float, "Dropout before the classifier. auto: the net's own."),
    _auto("drop-path", float, "Stochastic depth of the last block. auto: the net's own."),
    click.option(
        "--weights", default="none", show_default=True, metavar="W", help="published, or a file: where to start."
    ),
    click.option("--deterministic", is_flag=True, help="On CUDA too the seed decides all; times what that costs."),
    click.option(
        "--data-dir", type=click.Path(path_type=Path), metavar="DIR", help="Where data sets are.  [default: data]"
    ),
    click.option("--workers", type=click.IntRange(0), help="Processes that read what does not stay on the device."),
)

RANK_OPTIONS: tuple[Decorator, ...] = (
    click.option(
        "--broadcast-buffers/--no-broadcast-buffers",
        default=None,
        help="Under torchrun: rank 0's running statistics for all before each update.  [default: broadcast]",
    ),
)

RUN_BY_NAME = {
    str(param.name): option for option in RUN_OPTIONS for param in click.command()(option(lambda **_: None)).params
}

DATA_OPTIONS: tuple[Decorator, ...] = (
    click.option(
        "--dataset", default="digits", show_default=True, metavar="D", help="digits, fashion-mnist, cifar10, imagenet …"
    ),
    click.option("--epochs", type=click.IntRange(1), default=10, show_default=True),
    click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Runs of each."),
    RUN_BY_NAME["data_dir"],
)
"""What commands that train at several settings share."""

SAMPLING_OPTIONS: tuple[Decorator, ...] = (
    click.option(
        "--within",
        type=Share(),
        default="1%",
        show_default=True,
        help="Stop when the median's 95 % interval is ± this narrow.",
    ),
    click.option("--min-steps", type=int, default=10, show_default=True, help="Time at least so many steps."),
    click.option(
        "--rounds",
        type=int,
        default=1,
        show_default=True,
        help="From 2: fresh processes each, in the order A B B A; from 4 on ± is over rounds.",
    ),
    click.option(
        "--max-time", type=float, default=60.0, show_default=True, help="Seconds a model, from its first step on."
    ),
)


def options(*groups: tuple[Decorator, ...]) -> Decorator:
    """All options of ``groups`` on one command, in the order in which they stand."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed([d for group in groups for d in group]):
            function = decorator(function)
        return function

    return decorate


def net_and_settings(text: str) -> tuple[str, dict[str, Any]]:
    """``nfnet-f1@px=224,layout=nhwc`` as a net and its settings, named and typed like the flags.

    Raises:
        UnsupportedWorkload: a setting has no such name or no such value.
    """
    model, at, rest = text.partition("@")
    flags = click.command()(options(WORKLOAD_OPTIONS)(lambda **_: None))
    known = {param.name: param for param in flags.params if param.name is not None}
    found: dict[str, Any] = {}
    for part in filter(None, rest.split(",")) if at else ():
        name, equals, value = part.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name not in known:
            names = ", ".join(known)
            raise UnsupportedWorkload(
                f"{text!r}: there is no setting {name!r}." if equals else f"{text!r}: {part!r} gives no value.",
                why=f"The settings are {names}.",
                try_=f"{model}@px=224,layout=nhwc",
            )
        param = known[name]
        try:
            found[name] = param.type.convert(value.strip(), param, None)
        except click.BadParameter as error:
            raise UnsupportedWorkload(f"{text!r}: {name}: {error.message}") from error
    if at and not found:
        raise UnsupportedWorkload(f"{text!r} gives no setting after the @.", try_=f"{model}@px=224, or {model}")
    if not model:
        raise UnsupportedWorkload(f"{text!r} names no net.", try_="nfnet-f1@px=224")
    return model, found


def _named(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """A variable that is not set would put results wherever the command was typed."""
    source = ctx.get_parameter_source(str(param.name))
    if value == Path() and source is click.core.ParameterSource.COMMANDLINE:
        raise click.BadParameter("it is empty or the current folder; name a folder or a .jsonl file.", ctx, param)
    return value


out_option = click.option(
    "--out",
    type=click.Path(path_type=Path),
    callback=_named,
    metavar="PATH",
    help="A folder for a new file, or a .jsonl file to append to; else results/<device>/<command>/.",
)
