"""The nouns: what was asked, what it became, where it ran and what was read.

Every record is a frozen msgspec Struct. A record leaves out the fields that stand at their default, so a field added
later keeps old files readable and old keys equal. One `Result` is one JSON line; its samples and the command come last.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Literal, NamedTuple, get_args

import msgspec

from nfbench.errors import RefusedResults

SCHEMA_VERSION = 1
"""Raised when an older nfbench would misread a file; a field that is merely added does not raise it."""

MAX_KEPT_STEPS = 1000

MOST = 1e30
"""What no clock, counter or meter has shown: a value beyond it was not written by nfbench, and counts as not finite."""

SHARES = frozenset(
    {"zero_gradients", "clipped_units", "others_cpu", "top1", "top5", "ema_top1", "ema_top5", "batch_top1"}
)
"""Readings of which only 0 to 1 makes sense; another value counts as not finite."""

SIMULATED = "simulated: no timing"
"""What stands wherever a simulated machine is named."""

Precision = Literal["fp32", "tf32", "fp16", "bf16"]
Layout = Literal["nchw", "nhwc"]
CompileMode = Literal["none", "default", "reduce-overhead", "max-autotune"]
Optimizer = Literal["sgd", "recipe"]
AgcImpl = Literal["reference", "foreach", "fused", "timm"]
Norm = Literal["none", "batch", "sync_batch", "group", "frozen"]
SamScope = Literal["micro-batch", "batch"]
Status = Literal["ok", "out_of_memory", "diverged", "unsupported", "error", "timeout", "interrupted"]
Scope = Literal["micro_step", "step", "block", "window", "epoch", "run"]
Side = Literal["base", "head"]
RecipeName = Literal["nfnet", "bn-resnet", "efficientnet"]
Tune = Literal["none", "lr", "agc", "lr,agc"]
Schedule = Literal["cosine", "exponential", "constant"]
Augment = Literal["none", "flip", "randaugment", "nfnet"]
Phase = Literal["ascent", "forward", "backward", "unscale", "clip", "update", "average"]

CUDA_GRAPHS: tuple[CompileMode, ...] = ("reduce-overhead", "max-autotune")
"""The modes that record CUDA graphs."""

STUCK = "stuck"
"""The note of a result that was measured while a process in which an error of CUDA stays held memory of the GPU."""

PHASES: tuple[Phase, ...] = get_args(Phase)
_CLOCKS_DIFFER = timedelta(minutes=5)


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of every record."""


class StepTime(Record, frozen=True, kw_only=True, tag_field="kind", tag="step-time"):
    """A training step to be timed; `auto` stays `auto` here, and `Resolved` says what it became.

    ``batch`` is images per optimizer update, ``micro_batch`` images per pass, ``px`` the side of the square input and
    ``agc`` the clipping threshold λ (``auto``: 0.01 for nets without normalization, none for the others). ``norm``
    takes the place of the net's batch normalization, ``sam`` is the radius ρ of sharpness-aware minimization, whose
    ascent sees ``sam_fraction`` of the images, and ``ema`` the decay of a moving average of the weights. ``world_size``
    is the number of processes, each with a device of its own, that share ``batch``; with more than one, each forward
    pass begins by taking over rank 0's buffers where ``broadcast_buffers``.
    """

    model: str
    px: int | Literal["train"] = "train"
    batch: int = 32
    micro_batch: int | Literal["auto"] = "auto"
    precision: Precision | Literal["auto"] = "auto"
    layout: Layout | Literal["best"] = "best"
    compile: CompileMode = "none"
    optimizer: Optimizer = "sgd"
    agc: float | Literal["auto", "none"] = "auto"
    agc_impl: AgcImpl | Literal["auto"] = "auto"
    norm: Norm | Literal["auto"] = "auto"
    sam: float | Literal["none"] = "none"
    sam_fraction: float = 0.2
    sam_scope: SamScope = "micro-batch"
    ema: float | Literal["none"] = "none"
    world_size: int = 1
    broadcast_buffers: bool = True


class AgcCost(Record, frozen=True, kw_only=True, tag_field="kind", tag="agc-cost"):
    """A clip to be timed by itself, on all parameters of a net that AGC clips.

    ``clipped`` is the share of units, 0 to 1, whose gradient is over its limit. ``impl`` is an implementation, or
    ``copy``: a copy of as many bytes as the gradients have, which gives the bandwidth to compare with.
    """

    model: str
    impl: AgcImpl | Literal["copy"]
    clipped: float = 0.0
    layout: Layout = "nhwc"


class Accuracy(Record, frozen=True, kw_only=True, tag_field="kind", tag="accuracy"):
    """A net to be trained on a data set, or with ``epochs`` 0 only evaluated.

    ``dataset`` is a name of `nfbench.learning.data`; of ``imagefolder:PATH`` only the last folder's name is kept, as
    ``imagefolder:NAME``. ``weights`` are where training starts: ``none``, ``published``, or ``file:`` and a digest of
    the file's content. ``px`` is the side of the input in training, ``test_px`` in evaluation. ``lr`` is the peak rate
    at this ``batch``. What is ``auto`` is the recipe's (`nfbench.catalog.recipes`); `Training` says what it became.
    ``tune`` names what is searched for before the run (`nfbench.learning.tuning`).
    """

    model: str
    dataset: str = "digits"
    epochs: int = 10
    batch: int = 64
    micro_batch: int | Literal["auto"] = "auto"
    px: int | Literal["train"] = "train"
    test_px: int | Literal["auto"] = "auto"
    precision: Precision | Literal["auto"] = "auto"
    layout: Layout = "nhwc"
    compile: CompileMode = "none"
    agc: float | Literal["auto", "none"] = "auto"
    agc_impl: AgcImpl | Literal["auto"] = "auto"
    norm: Norm | Literal["auto"] = "auto"
    sam: float | Literal["none"] = "none"
    sam_fraction: float = 0.2
    sam_scope: SamScope = "micro-batch"
    ema: float | Literal["auto", "none"] = "auto"
    recipe: RecipeName | Literal["auto"] = "auto"
    optimizer: str = "auto"
    lr: float | Literal["auto"] = "auto"
    schedule: Schedule | Literal["auto"] = "auto"
    warmup_epochs: float | Literal["auto"] = "auto"
    decay_epochs: float | Literal["auto"] = "auto"
    decay_rate: float | Literal["auto"] = "auto"
    momentum: float | Literal["auto"] = "auto"
    alpha: float | Literal["auto"] = "auto"
    eps: float | Literal["auto"] = "auto"
    weight_decay: float | Literal["auto"] = "auto"
    label_smoothing: float | Literal["auto"] = "auto"
    augment: Augment | Literal["auto"] = "auto"
    randaugment_layers: int | Literal["auto"] = "auto"
    randaugment_magnitude: int | Literal["auto"] = "auto"
    mixup: float | Literal["auto"] = "auto"
    cutmix: float | Literal["auto"] = "auto"
    drop_rate: float | Literal["auto"] = "auto"
    drop_path: float | Literal["auto"] = "auto"
    weights: str = "none"
    deterministic: bool = False
    tune: Tune = "none"
    world_size: int = 1
    broadcast_buffers: bool = True


class Flops(Record, frozen=True, kw_only=True, tag_field="kind", tag="flops"):
    """MACs, parameters and activations of one image, to be counted from shapes; ``px`` is the side of the input."""

    model: str
    px: int | Literal["train", "test"] = "train"


class Dependence(Record, frozen=True, kw_only=True, tag_field="kind", tag="dependence"):
    """How far an image's output and its share of the update depend on the rest of its batch, to be measured.

    ``batch`` is images, ``px`` the side of the input (``auto``: 64, or the train px where that is smaller or the only
    one), ``agc`` the clipping threshold λ.
    """

    model: str
    batch: int = 8
    px: int | Literal["auto"] = "auto"
    agc: float | Literal["auto", "none"] = "auto"


Workload = StepTime | AgcCost | Accuracy | Flops | Dependence
"""The union of what can be asked, tagged by ``kind``; later kinds join it."""


class Phases(NamedTuple):
    """The phases of an update in the order of their stamps: once at its beginning, of each pass, once at its end."""

    head: tuple[Phase, ...] = ()
    each: tuple[Phase, ...] = ("forward", "backward")
    tail: tuple[Phase, ...] = ("clip", "update")


class Sampling(Record, frozen=True, kw_only=True):
    """How long to measure.

    ``within`` is the wanted half-width of the median's 95 % interval as a share of the median, ``rounds`` the fresh
    processes of each net, ``turns`` the windows of each of them, ``max_time`` the cap in seconds on all that is timed
    after the first step, ``turn_time`` the shortest window in seconds. ``looks`` are the counts of rounds after which
    the measurement may end by what it has seen, so that the intervals of ratios are corrected for them; without looks
    ``rounds`` is fixed beforehand.
    """

    within: float = 0.01
    min_steps: int = 10
    rounds: int = 1
    turns: int = 1
    max_time: float = 60.0
    turn_time: float = 0.0
    looks: tuple[int, ...] = ()


class Candidate(Record, frozen=True, kw_only=True):
    """One candidate of a search: peak rate ``lr`` and threshold ``agc`` (None without a clip), the ``round`` in which
    it was tried (from 0), how many ``images`` it learnt from over all of its epochs, and its ``top1``, 0 to 1, on the
    training images that were held out; None where it diverged."""

    lr: float
    agc: float | None
    round: int
    images: int
    top1: float | None


class Training(Record, frozen=True, kw_only=True):
    """What a training run became: the recipe with each `auto` filled in, and the data.

    ``lr`` is the peak rate, ``warmup_epochs`` are linear from 0. ``decay_epochs`` is the interval at which an
    exponential schedule falls by the factor ``decay_rate``; ``alpha`` and ``eps`` are RMSProp's.
    ``randaugment_magnitude`` is on timm's scale, whose 10 is the whole range of an operation. ``majority`` is the share
    of the largest class of the test set; ``search`` are the candidates that were tried before the run, and ``lr`` is
    the best one's. Stochastic depth drops block i of n at ``drop_path`` · i / n. ``mean`` and
    ``std`` are of pixels from 0 to 1, a value a channel. ``data`` is a digest of all images and labels, or of the names
    and sizes of the files of a folder.
    """

    recipe: RecipeName
    optimizer: str
    lr: float
    schedule: Schedule
    warmup_epochs: float
    momentum: float | None
    weight_decay: float
    label_smoothing: float
    augment: Augment
    classes: int
    train_images: int
    test_images: int
    test_px: int
    data: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float = 1.0
    crop_mode: str = "center"
    decay_epochs: float | None = None
    decay_rate: float | None = None
    alpha: float | None = None
    eps: float | None = None
    randaugment_layers: int | None = None
    randaugment_magnitude: int | None = None
    randaugment_place: Literal["before mixing"] | None = None
    mixup: float = 0.0
    cutmix: float = 0.0
    drop_rate: float = 0.0
    drop_path: float = 0.0
    ema: float | None = None
    workers: int = 0
    deterministic: bool = False
    majority: float | None = None
    search: tuple[Candidate, ...] = ()


class Resolved(Record, frozen=True, kw_only=True):
    """What each `auto` became here, and the flags that a timing depends on.

    With several processes ``micro_batch`` is images per pass of each, ``backend`` what reduces their gradients, and
    ``nodes`` how many machines they are on. ``standardize`` says whose code standardizes weights where it is not the
    net's own: rows without it have timm's.
    """

    px: int
    micro_batch: int
    precision: Precision
    layout: Layout
    agc: float | None = None
    agc_impl: AgcImpl | None = None
    standardize: Literal["nfbench"] | None = None
    optimizer_impl: str | None = None
    tf32: bool | None = None
    cudnn_benchmark: bool | None = None
    allocator: str | None = None
    threads: int | None = None
    backend: str | None = None
    nodes: int | None = None
    training: Training | None = None


class Machine(Record, frozen=True, kw_only=True):
    """The machine. Two results pair only where it is equal; it names no host and holds no serial number or UUID.

    ``memory`` is the device's in bytes, ``power_limit`` is in watts, ``compute_capability`` is like ``"9.0"``. A
    ``simulated`` GPU is a library that runs no kernel (`tests/simulated_gpu`): what it times is no measurement.
    """

    device: Literal["cpu", "cuda", "fake"]
    name: str
    memory: int | None = None
    compute_capability: str | None = None
    mig_profile: str | None = None
    power_limit: float | None = None
    driver: str | None = None
    cpu: str | None = None
    cpu_cores: int | None = None
    simulated: bool = False

    @property
    def title(self) -> str:
        """The device's name as a person sees it."""
        return f"{self.name} ({SIMULATED})" if self.simulated else self.name

    @property
    def is_real_gpu(self) -> bool:
        """Whether what is published of GPUs may stand beside what it measures."""
        return self.device == "cuda" and not self.simulated


class Software(Record, frozen=True, kw_only=True):
    """Versions. Recorded and shown; a difference here is what a gate is for, never a reason to refuse."""

    nfbench: str
    python: str | None = None
    torch: str | None = None
    torchvision: str | None = None
    timm: str | None = None
    cuda: str | None = None
    cudnn: str | None = None
    commit: str | None = None
    dirty: bool | None = None


class Conditions(Record, frozen=True, kw_only=True):
    """The state of the machine around the window; part of no key.

    Clocks in Hz, temperature in °C, ``throttle`` the names of the reasons seen, ``load`` the one-minute load average
    over the host's cores at the start, ``other_processes`` on the same card (None where a container hides them),
    ``other_memory`` the bytes in use on it that are not this process's (None beside other workers of one runner, whose
    share nothing tells), ``other_load`` the share of time (0 to 1) in which others kept it busy while this process, and
    the workers beside it, did nothing (None where that was not waited for),
    ``default_power_limit`` the watts that the card's limit has unless somebody sets it.
    """

    other_processes: int | None = None
    other_memory: int | None = None
    other_load: float | None = None
    load: float | None = None
    sm_clock_max: float | None = None
    temperature: float | None = None
    default_power_limit: float | None = None
    throttle: tuple[str, ...] = ()


class Reading(Record, frozen=True, kw_only=True):
    """Raw values of one quantity in SI units; one that is not finite is None, a missing quantity has no Reading."""

    name: str
    unit: str
    scope: Scope
    source: str
    rank: int = 0
    values: tuple[float | None, ...]

    @property
    def finite(self) -> list[float]:
        """The values that are finite, in order."""
        # what no meter shows overflows in sums
        least, most = self._bounds()
        return [v for v in self.values if v is not None and least <= v <= most]

    def at(self, place: int) -> float | None:
        """The value at ``place``, or None where there is none that is finite."""
        least, most = self._bounds()
        value = self.values[place] if self.values else None
        return value if value is not None and least <= value <= most else None

    def _bounds(self) -> tuple[float, float]:
        return (0.0, 1.0) if self.name in SHARES else (-MOST, MOST)


def reading(name: str, unit: str, scope: Scope, source: str, values: Iterable[float], rank: int = 0) -> Reading:
    """A `Reading` with values that are not finite turned into None."""
    kept = tuple(float(v) if math.isfinite(v) else None for v in values)
    return Reading(name=name, unit=unit, scope=scope, source=source, values=kept, rank=rank)


class Result(Record, frozen=True, kw_only=True):
    """One measurement of one workload: what, how, where, and the raw readings. It never holds a median.

    ``session`` is shared by the results of one interleaved run; ``round`` counts its fresh processes, ``turn`` the
    windows of one process that takes turns with another, ``side`` is that of a comparison of code or environments.
    ``command`` is what was typed, without folders and addresses; files of older versions lack it.
    """

    schema: int
    id: str
    start: str
    status: Status
    workload: Workload
    sampling: Sampling
    machine: Machine
    software: Software
    resolved: Resolved | None = None
    conditions: Conditions = Conditions()
    session: str | None = None
    study: str | None = None
    side: Side | None = None
    round: int = 0
    turn: int = 0
    seed: int = 0
    stopped_by: Literal["within", "max_time", "turn_time"] | None = None
    composed: bool = False
    notes: dict[str, str] = msgspec.field(default_factory=dict)
    message: str | None = None
    readings: tuple[Reading, ...] = ()
    command: str | None = None

    @property
    def run(self) -> Accuracy:
        """The workload of a result of `accuracy`.

        Raises:
            TypeError: it is of another kind.
        """
        if not isinstance(self.workload, Accuracy):
            raise TypeError(f"a result of {type(self.workload).__name__} is no training run")
        return self.workload

    @property
    def step(self) -> StepTime:
        """The workload of a result of `step-time`.

        Raises:
            TypeError: it is of another kind.
        """
        if not isinstance(self.workload, StepTime):
            raise TypeError(f"a result of {type(self.workload).__name__} has no step")
        return self.workload

    def reading(self, name: str) -> Reading | None:
        """The reading of that name, or None where the quantity is absent."""
        # asked some hundred times of each result that is shown: a generator here takes twice as long
        for r in self.readings:
            if r.name == name:
                return r
        return None

    def each(self, name: str) -> list[Reading]:
        """The readings of that name, one per rank at most."""
        return [r for r in self.readings if r.name == name]

    def value(self, name: str) -> float | None:
        """The single value of a reading taken once, or None where it is absent; of several ranks rank 0's."""
        found = self.reading(name)
        return None if found is None else found.at(0)


def accumulation_steps(workload: StepTime | Accuracy, resolved: Resolved) -> int:
    """Passes of a whole update, on each of the processes that share the batch."""
    # a file that nfbench didn't write may hold a zero
    return max(1, workload.batch // max(1, resolved.micro_batch * workload.world_size))


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Result)


class _Version(msgspec.Struct):
    schema: int


_version = msgspec.json.Decoder(_Version)


@cache
def _fields(kind: type[Workload]) -> tuple[tuple[str, bool, object], ...]:
    """Name, whether it has no default, and default of each field; msgspec works them out anew at each call."""
    return tuple((f.name, f.required, f.default) for f in msgspec.structs.fields(kind))


def key(workload: Workload) -> str:
    """The name by which results are grouped, paired and resumed: the fields that are not at their default, as JSON."""
    # the encoder leaves out what is the default itself, which another float of the same value is not
    told = {
        name: value
        for name, required, default in _fields(type(workload))
        if (value := getattr(workload, name)) != default or required
    }
    return _encoder.encode({"kind": workload.__struct_config__.tag} | told).decode()


def of_kind(results: Iterable[Result], *kinds: type[Workload]) -> list[Result]:
    """Return the results whose workloads are of one of ``kinds``."""
    return [r for r in results if isinstance(r.workload, kinds)]


def recency(result: Result) -> str:
    """The text by which the later of results takes the others' place. A start in the future comes before all others,
    since it says only that a clock was wrong."""
    return "" if in_future(result) else result.start


def in_future(result: Result) -> bool:
    """Whether ``result`` says that it began later than now, beyond what clocks of machines differ by."""
    return result.start > (datetime.now(UTC) + _CLOCKS_DIFFER).isoformat()


def to_json(result: Result) -> bytes:
    """One line of JSON, without the line's end."""
    return _encoder.encode(result)


def from_json(line: bytes) -> Result:
    """The `Result` of one line.

    Raises:
        RefusedResults: a newer nfbench wrote it.
        msgspec.DecodeError: the line is broken or is no Result.
    """
    try:
        result = _decoded(line)
    except RecursionError as error:
        raise msgspec.DecodeError("nested too deep") from error
    _check_version(result.schema)
    _check_sound(result)
    return result


def _check_sound(result: Result) -> None:
    """Raise `msgspec.ValidationError` where figures could not be made of the result: files come from anybody."""
    workload, resolved = result.workload, result.resolved
    for place, record in (("workload", workload), ("resolved", resolved)):
        for name in ("px", "batch", "micro_batch", "world_size"):
            count = getattr(record, name, None)
            if isinstance(count, int) and not 1 <= count < 2**63:
                raise msgspec.ValidationError(f"Expected a positive number - at `$.{place}.{name}`")
    if resolved is None and result.readings and isinstance(workload, StepTime | Accuracy):
        raise msgspec.ValidationError("Object missing required field `resolved`")


def _decoded(line: bytes) -> Result:
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # what a newer nfbench wrote may be no Result of this one
        _check_version(_version.decode(line).schema)
        raise


def _check_version(version: int) -> None:
    if version > SCHEMA_VERSION:
        raise RefusedResults(
            f"written by a newer nfbench: its schema is {version}, this nfbench reads up to {SCHEMA_VERSION}.",
            try_="pip install --upgrade nfbench",
        )
