"""Every setting of a timed step and of a training run, once: what it is called and how it is shown.

A setting is a field of records of `nfbench.records`, which give its type and its default. From its row here come its
flag, its key in a study file and after the @ of a net, the check of its value, its column in tables, its words beside a
net's name and in sentences of what differs. A new setting is a field, a row here and what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec

from nfbench.errors import UnsupportedWorkload
from nfbench.records import Accuracy, Resolved, StepTime, Training, Workload
from nfbench.units import as_typed, grouped

BY_TORCHRUN = ("world_size", "broadcast_buffers")
"""Settings that neither a flag nor a study file gives."""


class Check(NamedTuple):
    """What a number must be, and what is said of one that is not."""

    holds: Callable[[float], bool]
    otherwise: str


POSITIVE = Check(lambda value: 0 < value < float("inf"), "is not positive")
NOT_NEGATIVE = Check(lambda value: 0 <= value < float("inf"), "is negative")
MOST_COUNT = 10**9
"""Of whatever is counted, beyond which work has no end or memory no room."""
BELOW_1 = Check(lambda value: 0 <= value < 1, "is not from 0 to below 1")
INSIDE = Check(lambda value: 0 < value < 1, "is not between 0 and 1")
AT_LEAST_1 = Check(lambda value: value >= 1, "is too small")
SHARE = Check(lambda value: 0 < value <= 1, "is no share of the images")


@dataclass(frozen=True)
class Setting:
    """A setting: the ``name`` of its field, and all that is said of it.

    ``words`` tell a value beside the name of a net; a value with words of its own has them in ``instead``. ``help`` is
    that of the flag, ``help_of_run`` that of a training run's flag where it means another thing there. A number must
    pass ``check``; of one that does not, the message proposes ``such``. ``title`` heads the column, which a narrow
    table leaves out the sooner the higher its ``spare`` is. A setting that is ``part_of`` another is shown only where
    that one was asked for. ``settled_by`` names settings that settle this one where it was left open: it is shown where
    rows differ in it that are equal in those.

    ``named`` says which names of nets hold it where they differ in it: 0 all, 1 those of single rows, where a sweep has
    it on an axis or it follows from one, 2 only those that nothing else tells apart.
    """

    name: str
    words: str = ""
    help: str = ""
    help_of_run: str | None = None
    check: Check | None = None
    such: str = "auto"
    title: str = ""
    spare: int = 2
    named: Literal[0, 1, 2] = 0
    instead: Mapping[str, str] | None = None
    part_of: str | None = None
    settled_by: tuple[str, ...] = ()
    metavar: str | None = None

    @property
    def flag(self) -> str:
        """Its flag without the dashes before it."""
        return self.name.replace("_", "-")

    @property
    def heading(self) -> str:
        """What stands above its column."""
        return self.title or self.name.replace("_", " ")

    @property
    def number(self) -> bool:
        """Whether values are numbers, beside words such as ``auto``."""
        hints = [hint for kind in _HOLD for name, hint in hints_of(kind).items() if name == self.name]
        return any({int, float} & set(alternatives(hint)) for hint in hints)

    def text(self, value: object) -> str:
        """A value in words."""
        if isinstance(value, str) and value in (self.instead or {}):
            return (self.instead or {})[value]
        words = self.words or f"{self.heading} {{}}"
        if isinstance(value, bool):
            value = "on" if value else "off"
        if isinstance(value, float) and "{}" in words:
            value = f"{value:.9g}"
        text = words.format(value)
        return text.removesuffix("s") if value == 1 and words.startswith("{} ") else text


_OF_RECIPE: Any = {"spare": 10, "settled_by": ("recipe",)}
_OF_NET: Any = {"spare": 10, "settled_by": ("recipe", "model")}
_FIT = (
    "Images per forward and backward pass. auto: the whole batch, or the largest equal part of it that fits in memory."
)
_TRIED = "best: a short trial chooses the faster one; if it finds no difference, nhwc on a GPU and nchw on a CPU."
_LAMBDA = "Clipping threshold λ. auto: 0.01 for nets without normalization, none for others."
_NORM = "What replaces batch normalization. frozen is for time and memory only."
_SGD = "sgd: the same Nesterov SGD for every net. recipe: the optimizer of the net's family."
_RADIUS = "Radius ρ of sharpness-aware minimization, such as 0.05."
_ASCENT = "Share of the images that the ascent step of SAM uses."
_NO_EMA = {"none": "no EMA"}
_EMA = "Decay of a moving average of the weights, such as 0.99999."
_EMA_OF_RUN = "Decay of a moving average of the weights. auto: the recipe's."
_AUGMENT = "auto: none for digits and the MNISTs, flip and crop for CIFAR, the recipe's for all others."
_RATE = "Peak learning rate at this batch. auto: the recipe's learning rate × batch / 256."
_WARMUP = "auto: as in the recipe, but at most 10 % of the run."
_DECAY = "Epochs after which an exponential schedule lowers the learning rate."
_WEIGHTS = "Weight decay of weights. Gains, biases and norms have none."
_DROPOUT = "Dropout before the classifier. auto: as in the catalogue."
_DEPTH = "Stochastic depth of the last block. auto: as in the catalogue."
_TUNE = "Values to search for before the run, on training images that are held out. See above."
_CLIP = "auto: fused on CUDA where its kernel runs, else foreach."

SETTINGS: tuple[Setting, ...] = (
    Setting("dataset", "{}", "See above.", metavar="D", named=2),
    Setting(
        "epochs",
        "{} epochs",
        "Epochs to train. 0 only evaluates --weights.",
        check=NOT_NEGATIVE,
        such="10, or 0 to evaluate only",
    ),
    Setting(
        "test_px",
        "tested at {} px",
        "Width and height of the input in evaluation.",
        check=POSITIVE,
        such="224, or auto",
    ),
    Setting("weights", "{} weights", "Weights to start from: published, or a file.", metavar="W"),
    Setting("norm", "{} norm", _NORM, spare=4, instead={"none": "no norm"}),
    Setting(
        "recipe", "{} recipe", "Recipe that gives the value of each auto below. auto: the recipe of the net's family."
    ),
    Setting("lr", "lr {}", _RATE, check=POSITIVE, such="0.1, or --lr auto", named=1),
    Setting("tune", "tuned {}", _TUNE, instead={"none": "not tuned"}, named=1),
    Setting("schedule", "{}", **_OF_RECIPE),
    Setting("warmup_epochs", "", _WARMUP, check=NOT_NEGATIVE, named=2, **_OF_RECIPE),
    Setting("decay_epochs", "", _DECAY, check=POSITIVE, named=2, **_OF_RECIPE),
    Setting(
        "decay_rate",
        "",
        "Factor by which an exponential schedule lowers the learning rate.",
        check=POSITIVE,
        named=2,
        **_OF_RECIPE,
    ),
    Setting("momentum", "", "Momentum of the optimizer.", check=BELOW_1, such="0.9", named=2, **_OF_RECIPE),
    Setting("alpha", "", "Decay of RMSProp's moving average.", check=BELOW_1, such="0.9", named=2, **_OF_RECIPE),
    Setting("eps", "", "ε of RMSProp.", check=POSITIVE, named=2, **_OF_RECIPE),
    Setting("weight_decay", "", _WEIGHTS, check=NOT_NEGATIVE, named=1, **_OF_RECIPE),
    Setting(
        "label_smoothing", "smoothing {}", "Label smoothing, 0 to 1.", check=BELOW_1, such="0.1", named=1, **_OF_RECIPE
    ),
    Setting("augment", "augment {}", _AUGMENT, **_OF_RECIPE),
    Setting(
        "mixup", "MixUp {}", "α of MixUp, for half of each batch. 0: off.", check=NOT_NEGATIVE, named=1, **_OF_RECIPE
    ),
    Setting(
        "cutmix",
        "CutMix {}",
        "α of CutMix, for the other half of each batch. 0: off.",
        check=NOT_NEGATIVE,
        named=1,
        **_OF_RECIPE,
    ),
    Setting(
        "randaugment_layers", "", "RandAugment operations per image.", check=AT_LEAST_1, such="2", named=2, **_OF_NET
    ),
    Setting(
        "randaugment_magnitude", "", "RandAugment magnitude on timm's scale.", check=NOT_NEGATIVE, named=2, **_OF_NET
    ),
    Setting("drop_rate", "dropout {}", _DROPOUT, check=BELOW_1, such="0.1", named=1, **_OF_NET),
    Setting("drop_path", "", _DEPTH, check=BELOW_1, such="0.1", named=1, **_OF_NET),
    Setting("px", "{} px", "Width and height of the input in pixels.", check=POSITIVE, such="224", spare=0),
    Setting("batch", "batch {}", "Images per optimizer update.", check=POSITIVE, such="32", spare=0, named=1),
    Setting("micro_batch", "passes of {}", _FIT, check=POSITIVE, title="micro-batch", named=1),
    Setting("precision", "{}", "auto: bf16 from sm_80, fp16 on sm_70/75, fp32 on a CPU.", spare=1),
    Setting("layout", "{}", _TRIED, help_of_run="", spare=1, instead={"best": "best layout"}),
    Setting("compile", "compile {}", "torch.compile mode.", instead={"none": "not compiled"}),
    Setting("optimizer", "optimizer {}", _SGD, "A name of timm's optimizers.", settled_by=("recipe",), metavar="NAME"),
    Setting("agc", "λ {}", _LAMBDA, check=POSITIVE, such="0.01, or --agc none not to clip", title="agc λ", spare=0),
    Setting("sam", "", _RADIUS, check=POSITIVE, such="0.05, or --sam none", title="sam ρ", spare=11, part_of="sam"),
    Setting("sam_fraction", "", _ASCENT, check=SHARE, such="0.2", spare=12, part_of="sam"),
    Setting(
        "sam_scope", "", "Whether SAM takes one ascent step per micro-batch or one per batch.", part_of="sam", spare=12
    ),
    Setting(
        "ema", "EMA {}", _EMA, _EMA_OF_RUN, INSIDE, "0.99999", instead=_NO_EMA, part_of="ema", settled_by=("recipe",)
    ),
    Setting("world_size", "{} devices", title="ranks", part_of="world_size"),
    Setting("broadcast_buffers", "shared buffers {}", title="buffers broadcast", part_of="world_size", named=2),
    Setting("deterministic", "", "Make runs on CUDA repeatable too. The cost in time is measured.", spare=3, named=2),
    Setting("agc_impl", "clip by {}", _CLIP, title="clip by", spare=3),
    Setting("standardize", "weights standardized by {}", title="standardized by", named=2),
    Setting("optimizer_impl", "{} optimizer", title="update by", named=2),
    Setting("tf32", title="TF32", named=2),
    Setting("cudnn_benchmark", title="cuDNN benchmark", named=2),
    Setting("allocator", named=2),
    Setting("threads", "{} threads", named=2),
    Setting("backend", "{}", title="reduced by", named=2),
    Setting("nodes", "on {} machines", named=2),
    Setting("asked_precision", "asked for {}", named=2),
    Setting("asked_layout", "asked for {}", named=2),
    Setting("clipped", "{:.0%} of the units over their limit", named=2),
    Setting("software", "{}", named=1),
)
"""In the order of the columns of a table."""

BY_NAME = {setting.name: setting for setting in SETTINGS}
_HOLD = (StepTime, Accuracy, Resolved, Training)
"""The records that hold settings: as asked, and what each `auto` became."""
_UNSAID = ("model", "broadcast_buffers", "impl")


@cache
def hints_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The types of the fields of a record."""
    return get_type_hints(kind)


def alternatives(hint: Any) -> tuple[Any, ...]:
    """The types that a union is of; any other type by itself."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


@cache
def defaults(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The defaults of the fields of a record that have one."""
    return {field.name: field.default for field in msgspec.structs.fields(kind) if not field.required}


@cache
def settings_of(kind: type[msgspec.Struct], *more: type[msgspec.Struct]) -> tuple[Setting, ...]:
    """The settings that records of a kind, or one ``more``, hold, in the order of columns."""
    names = {name for each in (kind, *more) for name in each.__struct_fields__}
    return tuple(setting for setting in SETTINGS if setting.name in names)


def parts_of(name: str) -> tuple[str, ...]:
    """The setting of that name and those that mean nothing without it."""
    return tuple(setting.name for setting in SETTINGS if setting.part_of == name)


def flags_of(kind: type[msgspec.Struct]) -> list[str]:
    """The settings of a kind of workload that have a flag, in the order of its record."""
    return [name for name in kind.__struct_fields__ if name in BY_NAME and name not in BY_TORCHRUN]


@cache
def named_up_to(most: int) -> tuple[str, ...]:
    """The settings that names of nets tell up to that level of `Setting.named`, level by level, of each those of steps
    first."""
    of_runs = defaults(Accuracy).keys() - defaults(StepTime).keys()
    settings = sorted(SETTINGS, key=lambda setting: (setting.named, setting.name in of_runs))
    return tuple(setting.name for setting in settings if setting.named <= most)


def check(workload: Workload) -> None:
    """Raise `UnsupportedWorkload` where a number is none that its setting may have."""
    for setting in settings_of(type(workload)):
        value = getattr(workload, setting.name)
        if setting.check is None or isinstance(value, str):
            continue
        flag = f"--{setting.flag} {as_typed(value)}"
        if not setting.check.holds(value):
            wrong = "is no finite number" if value in (float("inf"), float("-inf")) else setting.check.otherwise
            raise UnsupportedWorkload(f"{flag} {wrong}.", try_=f"--{setting.flag} {setting.such}")
        if isinstance(value, int) and value > MOST_COUNT:
            raise UnsupportedWorkload(
                f"{flag} is more than makes sense.",
                why=f"The most is {MOST_COUNT:,}.",
                try_=f"--{setting.flag} {setting.such}",
            )


def asked_for(workload: Workload, setting: Setting) -> bool:
    """Whether the setting was asked for that this one is a part of; True where it is a part of none."""
    if (of := setting.part_of) is None:
        return True
    value, usual = getattr(workload, of), defaults(type(workload))[of]
    # a file that nfbench did not write may hold a zero
    return bool(value > usual if isinstance(usual, int) else value != usual)


def text_of(row: Mapping[str, Any], name: str) -> str:
    """The words of one setting of a row, those of SAM together."""
    return sam(row) if name in SAM else BY_NAME[name].text(row[name])


def in_words(row: Mapping[str, Any], names: Iterable[str] | None = None) -> list[str]:
    """The settings ``names`` of a row, or all that it has, in words: those of SAM together, and nothing twice."""
    return list(dict.fromkeys(text_of(row, name) for name in (row if names is None else names)))


def tell_apart(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Choose the settings that tell rows apart, and leave out each that tells no more than those before it."""
    needed: list[str] = []
    kinds = 1
    for name in named_up_to(2):
        if (count := len({tuple(map(row.get, (*needed, name))) for row in rows})) > kinds:
            needed.append(name)
            kinds = count
    return needed


def beside_models(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """What each row says beside its model: the settings that tell the rows of that model apart, in words."""
    needed = {model: tell_apart(alike) for model, alike in grouped(rows, lambda row: str(row["model"])).items()}
    return [in_words(row, (name for name in needed[str(row["model"])] if name in row)) for row in rows]


def words_of(workload: Workload, without: Sequence[str] = ()) -> list[str]:
    """The settings of a workload that are not at their default, and its batch, in words."""
    usual, left_out = defaults(type(workload)), (*_UNSAID, *without)
    values = {name: value for name, value in msgspec.structs.asdict(workload).items() if name not in left_out}
    return in_words({name: v for name, v in values.items() if name == "batch" or v != usual.get(name)})


def sam(row: Mapping[str, Any]) -> str:
    """What a row says of SAM: "SAM ρ 0.05 on 20 % of each micro-batch", the share where it is known."""
    if row.get("sam") == "none":
        return "no SAM"
    _, share_name, scope_name = SAM
    parts = ["SAM", *([f"ρ {row['sam']}"] if "sam" in row else [])]
    if (share := row.get(share_name)) is not None:
        parts.append(f"on {100 * share:.3g} %" if isinstance(share, (int, float)) else f"on {share}")
    if scope_name in row:
        parts.append("of each micro-batch" if row[scope_name] == "micro-batch" else f"of the {row[scope_name]}")
    elif share is not None:
        parts.append("of the images")
    return " ".join(parts)


SAM = parts_of("sam")
