"""Click options that commands share, and the words that a flag may hold.

A flag's name is the field of `Workload` or `Sampling` that it fills, with ``-`` for ``_``; `nfbench.studies.entries`
makes the records, for flags and study files alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
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


def _option(flag: str, type: Any, default: Any, help: str | None = None, **more: Any) -> Decorator:
    """An option whose help ends with its default."""
    return click.option(flag, type=type, default=default, show_default=True, help=help, **more)


def _auto(flag: str, kind: type[int] | type[float], help: str, *words: str) -> Decorator:
    return _option(flag, NumberOr(kind, "auto", *words), "auto", help)


def _by_name(group: Iterable[Decorator]) -> dict[str, Decorator]:
    return {str(param.name): option for option in group for param in click.command()(option(lambda **_: None)).params}


def _named(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """A variable that is not set would put results wherever the command was typed."""
    source = ctx.get_parameter_source(str(param.name))
    if value == Path() and source is click.core.ParameterSource.COMMANDLINE:
        raise click.BadParameter("it is empty or the current folder; name a folder or a .jsonl file.", ctx, param)
    return value


def _top1(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0 < value <= 1:
        raise click.BadParameter("a top-1 is over 0 and up to 100 %; type 90% or 0.9.", param_hint="--target")
    return value


def target_option(help: str) -> Decorator:
    """``--target``, a top-1 that is reached in training."""
    return click.option("--target", type=Share(), callback=_top1, metavar="SHARE", help=help)


def seed_of(help: str) -> Decorator:
    """``--seed``, of what ``help`` says."""
    return _option("--seed", click.IntRange(0, 2**63 - 1), 0, help)


def within_option(help: str) -> Decorator:
    """``--within``, as narrow as ``help`` says."""
    return _option("--within", Share(), "1%", help)


def max_time_option(kind: click.ParamType[Any] | type[float], default: str | float, help: str) -> Decorator:
    """``--max-time``, the cap of what ``help`` says."""
    return _option("--max-time", kind, default, help)


results_argument = click.argument(
    "paths", nargs=-1, required=True, metavar="RESULTS...", type=click.Path(path_type=Path)
)
model_option = click.option(
    "--model", "models", multiple=True, required=True, metavar="M", help="A net; repeat for more of them."
)
format_option = _option(
    "--format", click.Choice(["rich", "md", "csv", "json"]), "rich", "csv and json hold raw values in SI units."
)
device_option = _option("--device", str, "auto", "auto, cpu, cuda or cuda:N.", metavar="D")
seed_option = seed_of("Of weights, inputs and targets.")
where_option = click.option(
    "--where",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only rows where this holds: batch=32,64 or step_time<100ms; = != < <= > >= ~.",
)
older_option = click.option("--all", "everything", is_flag=True, help="Also results by older software.")
noisy_option = click.option(
    "--noisy", is_flag=True, help="Use noisy rows in ratios, figures and verdicts like any other."
)
quiet_option = click.option("--quiet", is_flag=True, help="No live line.")
out_option = click.option(
    "--out",
    type=click.Path(path_type=Path),
    callback=_named,
    metavar="PATH",
    help="A folder for a new file, or a .jsonl file to append to; else results/<device>/<command>/.",
)
run_time_option = max_time_option(Duration(), "24h", "Of each run, from its first update.")
LANDING_OPTIONS: tuple[Decorator, ...] = (out_option, format_option, quiet_option)

WORKLOAD_OPTIONS: tuple[Decorator, ...] = (
    _option("--batch", int, 32, "Images an update."),
    _auto(
        "--micro-batch",
        int,
        "Images a pass. auto: the whole batch, or the largest share of it that fits in the memory.",
    ),
    _option("--px", NumberOr(int, "train"), "train", "Side of the input."),
    _option(
        "--precision", _choice(Precision, "auto"), "auto", "auto: bf16 from sm_80, fp16 on sm_70/75, fp32 on a CPU."
    ),
    _option(
        "--layout",
        _choice(Layout, "best"),
        "best",
        "best: the quicker one in a trial; where that cannot tell, nhwc on a GPU and nchw on a CPU.",
    ),
    _option("--compile", _choice(CompileMode), "none", "torch.compile mode."),
    _auto("--agc", float, "Clipping threshold λ. auto: 0.01 for nets without normalization, none for others.", "none"),
    _option("--agc-impl", _choice(AgcImpl, "auto"), "auto", "auto: fused on CUDA where its kernel runs, else foreach."),
    _option(
        "--norm",
        _choice(Norm, "auto"),
        "auto",
        "In the place of batch normalization; frozen: for time and memory only.",
    ),
    _option("--optimizer", _choice(Optimizer), "sgd", "sgd: one Nesterov SGD for all; recipe: the family's own."),
    _option("--sam", NumberOr(float, "none"), "none", "Radius ρ of sharpness-aware minimization, such as 0.05."),
    _option("--sam-fraction", Share(), "0.2", "Share of the images its ascent sees."),
    _option("--sam-scope", _choice(SamScope), "micro-batch", "One ascent for each pass, or one for the batch."),
    _option("--ema", NumberOr(float, "none"), "none", "Decay of a moving average of the weights, such as 0.99999."),
)

BY_NAME = _by_name(WORKLOAD_OPTIONS)

RUN_OPTIONS: tuple[Decorator, ...] = (
    _option("--dataset", str, "digits", "See above.", metavar="D"),
    _option("--epochs", int, 10, "0 only evaluates --weights."),
    _option("--batch", int, 64, "Images an update."),
    *(BY_NAME[name] for name in ("micro_batch", "px")),
    _auto("--test-px", int, "Side of the input in evaluation."),
    BY_NAME["precision"],
    _option("--layout", _choice(Layout), "nhwc"),
    *(BY_NAME[name] for name in ("compile", "agc", "agc_impl", "norm", "sam", "sam_fraction", "sam_scope")),
    _auto("--ema", float, "Decay of a moving average of the weights. auto: the recipe's.", "none"),
    _option("--recipe", _choice(RecipeName, "auto"), "auto", "auto: the family's own. It gives each auto below."),
    _option("--optimizer", str, "auto", "One of timm's.", metavar="NAME"),
    _auto("--lr", float, "Peak rate at this batch. auto: the recipe's × batch / 256."),
    _option("--schedule", _choice(Schedule, "auto"), "auto"),
    _auto("--warmup-epochs", float, "auto: the recipe's, at most 10 % of the run."),
    _auto("--decay-epochs", float, "An exponential schedule falls at this interval."),
    _auto("--decay-rate", float, "By this factor."),
    _auto("--momentum", float, "Of the optimizer."),
    _auto("--alpha", float, "RMSProp's decay."),
    _auto("--eps", float, "RMSProp's ε."),
    _auto("--weight-decay", float, "Of weights; gains, biases and norms have none."),
    _auto("--label-smoothing", float, "0 to 1."),
    _option(
        "--augment",
        _choice(Augment, "auto"),
        "auto",
        "auto: none for digits and the MNISTs, flip (and crop) for CIFAR, else the recipe's.",
    ),
    _auto("--randaugment-layers", int, "Operations an image."),
    _auto("--randaugment-magnitude", int, "On timm's scale."),
    _auto("--mixup", float, "α, on half of a batch; 0 for none."),
    _auto("--cutmix", float, "α, on the other half; 0 for none."),
    _auto("--drop-rate", float, "Dropout before the classifier. auto: the net's own."),
    _auto("--drop-path", float, "Stochastic depth of the last block. auto: the net's own."),
    _option("--weights", str, "none", "published, or a file: where to start.", metavar="W"),
    click.option("--deterministic", is_flag=True, help="On CUDA too the seed decides all; times what that costs."),
    click.option(
        "--data-dir", type=click.Path(path_type=Path), metavar="DIR", help="Where data sets are.  [default: data]"
    ),
    click.option("--workers", type=click.IntRange(0), help="Processes that read what does not stay on the device."),
)

RUN_BY_NAME = _by_name(RUN_OPTIONS)

RANK_OPTIONS: tuple[Decorator, ...] = (
    click.option(
        "--broadcast-buffers/--no-broadcast-buffers",
        default=None,
        help="Under torchrun: rank 0's running statistics for all before each update.  [default: broadcast]",
    ),
)

DATA_OPTIONS: tuple[Decorator, ...] = (
    _option("--dataset", str, "digits", "digits, fashion-mnist, cifar10, imagenet …", metavar="D"),
    _option("--epochs", click.IntRange(1), 10),
    _option("--seeds", click.IntRange(1), 1, "Runs of each."),
    RUN_BY_NAME["data_dir"],
)
"""What commands that train at several settings share."""

SAMPLING_OPTIONS: tuple[Decorator, ...] = (
    within_option("Stop when the median's 95 % interval is ± this narrow."),
    _option("--min-steps", int, 10, "Time at least so many steps."),
    _option("--rounds", int, 1, "From 2: fresh processes each, in the order A B B A; from 4 on ± is over rounds."),
    max_time_option(float, 60.0, "Seconds a model, from its first step on."),
)


def options(*groups: Iterable[Decorator]) -> Decorator:
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
