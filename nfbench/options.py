"""Click options that commands share, and the words that a flag may hold.

A flag's name is the field of `Workload` or `Sampling` that it fills, with ``-`` for ``_``; its help stands in
`nfbench.settings`. `nfbench.studies.entries` makes the records, for flags and study files alike.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from nfbench.errors import UnsupportedWorkload
from nfbench.records import Accuracy, StepTime
from nfbench.settings import BY_NAME, alternatives, defaults, flags_of, hints_of
from nfbench.units import seconds_of, share_of

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


def completed(of: Callable[[], Iterable[str]]) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """What a shell offers for a parameter that takes one of the names ``of``, which are read only when it asks."""
    return lambda _context, _parameter, typed: [name for name in of() if name.startswith(typed)]


def _nets() -> Iterable[str]:
    from nfbench.catalog.models import NETS

    return (net.name for net in NETS)


def _data_sets() -> Iterable[str]:
    from nfbench.catalog.datasets import DATASETS

    return DATASETS


def _studies() -> Iterable[str]:
    from nfbench.studies.study import shipped

    return shipped()


complete_nets, complete_data_sets, complete_studies = map(completed, (_nets, _data_sets, _studies))


def share(value: object) -> float:
    """A share given as ``1%`` or ``0.01``."""
    try:
        return share_of(value)
    except ValueError:
        raise click.BadParameter(f"{str(value)!r} is no share; type 1% or 0.01.") from None


def narrow(value: object) -> float:
    """A half-width given as ``1%`` or ``0.01``, below 100 %."""
    width, text = share(value), str(value).strip()
    if not 0 < width < 1:
        meant = f"{text}%" if 1 <= width < 100 and not text.endswith("%") else "1%"
        raise click.BadParameter(f"{text!r} is not between 0 and 100 %; type {meant}.")
    return width


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


def duration(value: object) -> float:
    """A time given as ``90``, ``90s``, ``20m`` or ``1h``, in seconds."""
    try:
        return seconds_of(value)
    except ValueError:
        raise click.BadParameter(f"{str(value)!r} is no time; type 90s, 20m or 1h.") from None


def _option(flag: str, type: Any, default: Any, help: str | None = None, **more: Any) -> Decorator:
    """An option whose help ends with its default."""
    return click.option(flag, type=type, default=default, show_default=True, help=help, **more)


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
    return click.option("--target", type=share, callback=_top1, metavar="SHARE", help=help)


def seed_of(help: str) -> Decorator:
    """``--seed``, of what ``help`` says."""
    return _option("--seed", click.IntRange(0, 2**63 - 1), 0, help)


def within_option(help: str) -> Decorator:
    """``--within``, as narrow as ``help`` says."""
    return _option("--within", narrow, "1%", help)


def max_time_option(default: str | None, help: str) -> Decorator:
    """``--max-time``, the cap of what ``help`` says."""
    return _option("--max-time", duration, default, help, metavar="TIME")


results_argument = click.argument(
    "paths", nargs=-1, required=True, metavar="RESULTS...", type=click.Path(path_type=Path)
)
format_option = _option(
    "--format", click.Choice(["rich", "md", "csv", "json"]), "rich", "csv and json hold raw values in SI units."
)
device_option = _option("--device", str, "auto", "auto, cpu, cuda or cuda:N.", metavar="D")
seed_option = seed_of("Seed of weights, inputs and targets.")
where_option = click.option(
    "--where",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only rows where this holds: batch=32,64 or step_time<100ms; = != < <= > >= ~.",
)
older_option = click.option("--all", "everything", is_flag=True, help="Show results of older software too.")
noisy_option = click.option(
    "--noisy", is_flag=True, help="Use noisy rows in ratios, figures and verdicts like any other."
)


def _kept_notes(context: click.Context, _: click.Parameter, typed: bool) -> None:
    from nfbench.showing.screen import NOTES

    context.meta[NOTES] = typed


notes_option = click.option(
    "--notes",
    is_flag=True,
    expose_value=False,
    callback=_kept_notes,
    help="Show every note on the rows.",
)
quiet_option = click.option("--quiet", is_flag=True, help="Show no live progress line.")
out_option = click.option(
    "--out",
    type=click.Path(path_type=Path),
    callback=_named,
    metavar="PATH",
    help="A folder for a new file, or a .jsonl file to append to; else results/<device>/<command>/.",
)
run_time_option = max_time_option("24h", "For each run, from its first update.")
LANDING_OPTIONS: tuple[Decorator, ...] = (out_option, format_option, notes_option, quiet_option)


def _flag_of(kind: type[StepTime | Accuracy], name: str) -> Decorator:
    """The flag of a setting of a kind of workload, whose record gives its type and its default."""
    setting, default, type_ = BY_NAME[name], defaults(kind)[name], TYPES[kind][name]
    help = setting.help_of_run if kind is Accuracy and setting.help_of_run is not None else setting.help
    if default is False:
        return click.option(f"--{setting.flag}", is_flag=True, help=help)
    more: dict[str, Any] = {"shell_complete": complete_data_sets} if name == "dataset" else {}
    metavar = setting.metavar if type_ is str else None
    return _option(f"--{setting.flag}", type_, default, help or None, metavar=metavar, **more)


def _type_of(hint: Any) -> Any:
    """What reads the value of a flag; of words those that leave it open come first."""
    kinds = alternatives(hint)
    words = [word for kind in reversed(kinds) for word in get_args(kind)]
    numbers = [kind for kind in kinds if not get_args(kind)]
    if not numbers:
        return click.Choice(words)
    if words:
        return NumberOr(numbers[0], *words)
    return share if numbers == [float] else numbers[0]


TYPES: dict[type[StepTime | Accuracy], dict[str, Any]] = {
    kind: {name: _type_of(hints_of(kind)[name]) for name in flags_of(kind)} for kind in (StepTime, Accuracy)
}
"""What reads the value of each setting of a kind of workload."""
STEP_FLAGS = {name: _flag_of(StepTime, name) for name in TYPES[StepTime]}
RUN_FLAGS = {name: _flag_of(Accuracy, name) for name in TYPES[Accuracy]}
WORKLOAD_OPTIONS = tuple(STEP_FLAGS.values())
data_dir_option = click.option(
    "--data-dir", type=click.Path(path_type=Path), metavar="DIR", help="Where data sets are.  [default: data]"
)
RUN_OPTIONS = (
    *RUN_FLAGS.values(),
    data_dir_option,
    click.option("--workers", type=click.IntRange(0), help="Processes that read what does not stay on the device."),
)

RANK_OPTIONS: tuple[Decorator, ...] = (
    click.option(
        "--broadcast-buffers/--no-broadcast-buffers",
        default=None,
        help="Under torchrun: rank 0's running statistics for all before each update.  [default: broadcast]",
    ),
)

DATA_OPTIONS: tuple[Decorator, ...] = (
    _option(
        "--dataset",
        str,
        "digits",
        "digits, fashion-mnist, cifar10, imagenet …",
        metavar="D",
        shell_complete=complete_data_sets,
    ),
    _option("--epochs", click.IntRange(1), 10),
    _option("--seeds", click.IntRange(1, 1000), 1, "Training runs per setting."),
    data_dir_option,
)
"""What commands that train at several settings share."""

SAMPLING_OPTIONS: tuple[Decorator, ...] = (
    within_option("Stop when the median's 95 % interval is ± this narrow."),
    _option("--min-steps", int, 10, "Time at least so many steps."),
    _option("--rounds", int, 1, "From 2: fresh processes each, in the order A B B A; from 4 on ± is over rounds."),
    max_time_option("60s", "For each net, from its first step on."),
)


def options(*groups: Iterable[Decorator]) -> Decorator:
    """All options of ``groups`` on one command, in the order in which they stand."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed([d for group in groups for d in group]):
            function = decorator(function)
        return function

    return decorate


def nets(*default: str) -> Decorator:
    """The nets of a command, typed with and without ``--model``: its parameter ``models``, by default ``default``.

    Raises:
        click.UsageError: there is none, or one of them is there twice.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def command(*, nets: tuple[str, ...], models: tuple[str, ...], **given: Any) -> Any:
            named = (*nets, *models) or default
            if not named:
                raise click.UsageError("No net is named.", click.get_current_context())
            if twice := next((net for net in named if named.count(net) > 1), None):
                raise click.UsageError(f"{twice} is named twice; type each net once.", click.get_current_context())
            return function(models=named, **given)

        option = click.option(
            "--model",
            "models",
            multiple=True,
            metavar="NET",
            help="The same as NET; may be repeated.",
            shell_complete=complete_nets,
        )
        metavar = "[NET]..." if default else "NET..."
        return click.argument("nets", nargs=-1, metavar=metavar, shell_complete=complete_nets)(option(command))

    return decorate


def net_and_settings(text: str) -> tuple[str, dict[str, Any]]:
    """``nfnet-f1@px=224,layout=nhwc`` as a net and its settings, named and typed like the flags.

    Raises:
        UnsupportedWorkload: a setting has no such name or no such value.
    """
    model, at, rest = text.partition("@")
    found: dict[str, Any] = {}
    for part in filter(None, rest.split(",")) if at else ():
        name, equals, value = part.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name not in TYPES[StepTime]:
            names = ", ".join(TYPES[StepTime])
            raise UnsupportedWorkload(
                f"{text!r}: there is no setting {name!r}." if equals else f"{text!r}: {part!r} gives no value.",
                why=f"The settings are {names}.",
                try_=f"{model}@px=224,layout=nhwc",
            )
        type_ = click.types.convert_type(TYPES[StepTime][name])
        try:
            found[name] = type_.convert(value.strip(), None, None)
        except click.BadParameter as error:
            raise UnsupportedWorkload(f"{text!r}: {name}: {error.message}") from error
    if at and not found:
        raise UnsupportedWorkload(f"{text!r} gives no setting after the @.", try_=f"{model}@px=224, or {model}")
    if not model:
        raise UnsupportedWorkload(f"{text!r} names no net.", try_="nfnet-f1@px=224")
    return model, found
