"""Settings, from flags or from a study file, become records, entries and tasks here and nowhere else.

A setting's name is the field that it fills; a message names it as the flag that it is on the command line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

import msgspec

from nfbench.analysis.stats import LEAST_ROUNDS
from nfbench.catalog import datasets, published
from nfbench.catalog.models import find
from nfbench.errors import BadData, BadStudy, NfbenchError, UnsupportedWorkload
from nfbench.learning.learner import Sources, digest
from nfbench.records import Accuracy, AgcCost, AgcImpl, Dependence, Flops, Sampling, StepTime, Workload, key
from nfbench.settings import BY_NAME, BY_TORCHRUN, MOST_COUNT, check, defaults, parts_of, words_of
from nfbench.units import as_typed, expanded, known, resolved, seconds_of, share_of, shorten

_W = TypeVar("_W", StepTime, Accuracy)


class Entry(NamedTuple):
    """One point of a grid: one workload, or several that take turns.

    ``table`` is the kind of its table in the study file, ``seeds`` are those of training runs, ``time_limit`` caps
    the seconds of each task, start aside, ``claims`` are those that it is for.
    """

    table: str
    workloads: tuple[Workload, ...]
    sampling: Sampling = Sampling()
    seeds: tuple[int, ...] = ()
    sources: Sources = Sources()
    time_limit: float | None = None
    claims: tuple[str, ...] = ()

    @property
    def compared(self) -> tuple[StepTime, StepTime] | None:
        """The net and the baseline of a ratio."""
        if self.table != "compare":
            return None
        net, baseline = self.workloads
        assert isinstance(net, StepTime) and isinstance(baseline, StepTime)
        return net, baseline


class Task(NamedTuple):
    """What is run, resumed, sharded and handed out as a whole: one round or one seed of an entry."""

    entry: Entry
    round: int = 0
    seed: int = 0

    @property
    def workload(self) -> Workload:
        """Its first workload."""
        return self.entry.workloads[0]

    @property
    def trains(self) -> bool:
        """Whether it is a training run, which has data, a checkpoint and a seed of its own."""
        return isinstance(self.workload, Accuracy)

    @property
    def clips(self) -> list[AgcCost]:
        """Its clips, which take turns in one process; none where it is of another kind."""
        return [w for w in self.entry.workloads if isinstance(w, AgcCost)]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of its workloads."""
        return tuple(key(w) for w in self.entry.workloads)

    @property
    def identity(self) -> tuple[object, ...]:
        """What two tasks that are the same have in common."""
        return self.keys, self.round, self.seed

    @property
    def name(self) -> str:
        """The task in a few words: "nfnet-f0, batch 64, λ 0.02, seed 1"."""
        first = self.workload
        parts = [" against ".join(dict.fromkeys(w.model for w in self.entry.workloads))]
        parts += words_of(first)
        if (pair := self.entry.compared) is not None:
            other = [part for part in words_of(pair[1]) if part not in parts]
            if other or pair[0].model == pair[1].model:
                parts.append(f"against {', '.join(other) or 'without'}")
        if self.round or self.entry.sampling.rounds > 1:
            parts.append(f"round {self.round + 1}")
        if self.trains and (self.seed or len(self.entry.seeds) > 1):
            parts.append(f"seed {self.seed}")
        return ", ".join(parts)


def tasks(entries: Sequence[Entry], seed: int = 0) -> list[Task]:
    """The tasks of the entries in their order, each once; ``seed`` is that of what is no training run."""
    found = [
        Task(entry, round, number)
        for entry in entries
        for round in range(entry.sampling.rounds)
        for number in (entry.seeds or (seed,))
    ]
    once: dict[tuple[object, ...], Task] = {}
    for task in found:
        before = once.setdefault(task.identity, task)
        if before.entry.claims != task.entry.claims:
            # measured once, for all that it speaks to
            claims = tuple(dict.fromkeys((*before.entry.claims, *task.entry.claims)))
            once[task.identity] = before._replace(entry=before.entry._replace(claims=claims))
    return list(once.values())


TURN_TIME = 3.0
"""Seconds of timing from which a turn of a comparison counts."""

PATHS = ("data_dir", "checkpoint", "workers")
_USUAL = {"within": "1%", "min-steps": 10, "rounds": 4, "turns": 4, "max-time": 60}


def _fields(kind: type[Any]) -> tuple[str, ...]:
    return tuple(f.name for f in msgspec.structs.fields(kind) if f.name not in BY_TORCHRUN)


WORKLOAD = _fields(StepTime)
ABOUT = ("device", "scale", "claim", "exclude", "time_limit")
"""Keys that are about a table, not settings of its workloads."""

_CLAIMS = tuple(row["id"] for row in published.rows("claims.csv"))
LONGEST_RUN = 86400.0
CLIP_TIME = 20.0
_SAMPLING = tuple(name for name in _fields(Sampling) if name != "looks")
ROUNDS = {"rounds": LEAST_ROUNDS, "turns": 2, "turn_time": TURN_TIME}
"""How a pair is timed unless its table says otherwise: A B B A in each round."""
_RUN = (*_fields(Accuracy), *PATHS, "seeds", "seed", "max_time")
_CLIP = ("model", "impl", "clipped", "layout", "within", "max_time")
TABLES: dict[str, tuple[str, ...]] = {
    "step-time": (*WORKLOAD, *_SAMPLING, *ABOUT),
    "compare": (
        "net",
        "baseline",
        "net_settings",
        "baseline_settings",
        *(f for f in WORKLOAD if f != "model"),
        *_SAMPLING,
        *ABOUT,
    ),
    "flops": (*_fields(Flops), *ABOUT),
    "agc-cost": (*_CLIP, *ABOUT),
    "dependence": (*_fields(Dependence), *ABOUT),
    "accuracy": (*_RUN, *ABOUT),
}
"""The kinds of tables, each named after its command, and the keys that it may have."""

_CAPS = ("within", "min_steps", "rounds", "turns", "max_time", "turn_time")


def settings_of(table: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``given``, settings for all tables, that a table takes; caps of timings are none of training runs."""
    keys = [k for k in TABLES[table] if k not in ABOUT and not (table == "accuracy" and k in _CAPS)]
    return {k: v for k, v in given.items() if k in keys}


def entry_of(table: str, point: Mapping[str, Any], about: Mapping[str, Any]) -> Entry:
    """The entry of one point of a grid; ``about`` holds what is said about its table.

    Raises:
        NfbenchError: a setting has a wrong type or value; the message names it.
    """
    claims = about.get("claim", [])
    claims = [claims] if isinstance(claims, str) else claims
    limit = about.get("time_limit")
    if not isinstance(claims, list) or not all(isinstance(c, str) for c in claims):
        raise BadStudy("claim is no name.", try_='claim = "bn-memory"')
    if limit is not None and (not isinstance(limit, (int, float)) or isinstance(limit, bool) or not limit > 0):
        raise BadStudy(f"time_limit is {limit!r}.", try_="time_limit = 600, in seconds")
    for claim in claims:
        known(claim, _CLAIMS, BadStudy, f"There is no claim {claim!r}.")
    made = _MAKERS[table](dict(point))
    return made._replace(table=table, time_limit=limit, claims=tuple(claims))


def excluding(table: str, exclude: Any) -> None:
    """Raise `BadStudy` where ``exclude`` of a table is no list of tables of its settings."""
    if not isinstance(exclude, list) or not all(isinstance(one, dict) and one for one in exclude):
        raise BadStudy("exclude is no list of tables.", try_='exclude = [{ model = "nfnet-f6", batch = 4096 }]')
    for one in exclude:
        check_keys(one, tuple(k for k in TABLES[table] if k not in ABOUT), "exclude", "a table")


def check_keys(table: Mapping[str, Any], keys: tuple[str, ...], file: str, place: str) -> None:
    """Raise `BadStudy` where ``table`` has a key that is none of ``keys``."""
    for name in table:
        known(name, keys, BadStudy, f"{file}, {place}: unknown key {name!r}.")


def _step(point: dict[str, Any]) -> Entry:
    _text(point, "model", '"nf-resnet50"')
    sampling = sampling_of(_pop(point, _SAMPLING))
    return Entry("", (step_time_of(point),), sampling)


def _compare(point: dict[str, Any]) -> Entry:
    for name in ("net", "baseline"):
        if not isinstance(point.get(name), str):
            raise BadStudy(f"{name} is missing or no text.", try_='net = "…" and baseline = "…"')
    sampling = sampling_of({**ROUNDS, **_pop(point, _SAMPLING)})
    sides = []
    for side in ("net", "baseline"):
        own = point.get(f"{side}_settings", {})
        if not isinstance(own, dict):
            raise BadStudy(f"{side}_settings is no table.", try_=f"{side}_settings = {{ sam = 0.05 }}")
        check_keys(own, WORKLOAD, f"{side}_settings", "the table")
        shared = {k: v for k, v in point.items() if k in WORKLOAD}
        sides.append(step_time_of({**shared, "model": point[side], **own}))
    if sides[0] == sides[1]:
        raise BadStudy(f"{point['net']} is compared with itself.", try_="net_settings or another baseline")
    return Entry("", tuple(sides), sampling)


def _accuracy(point: dict[str, Any]) -> Entry:
    how_many, first, cap = (
        point.pop(name, own) for name, own in (("seeds", 1), ("seed", 0), ("max_time", LONGEST_RUN))
    )
    for name, value, least in (("seeds", how_many, 1), ("seed", first, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise BadStudy(f"{name} is {value!r}.", try_=f"{name} = {max(least, 3)}")
    at_most("seeds", how_many)
    _text(point, "model", '"tiny-nfnet"')
    workload, sources = accuracy_of(point)
    # nothing is drawn where nothing is trained
    seeds = tuple(range(first, first + (how_many if workload.epochs else 1)))
    return Entry("", (workload,), sampling_of({"max_time": cap}), seeds, sources)


def _flops(point: dict[str, Any]) -> Entry:
    workload = _plain(Flops, point)
    return Entry("", (workload,))


def _dependence(point: dict[str, Any]) -> Entry:
    workload = _plain(Dependence, point)
    if workload.batch < 2:
        raise UnsupportedWorkload(f"--batch {workload.batch} has no rest for an image to depend on.", try_="--batch 8")
    return Entry("", (workload,))


def _clips(point: dict[str, Any]) -> Entry:
    """All implementations of one net and share take turns with each other and with a copy."""
    asked = point.pop("impl", "all")
    sampling = sampling_of({"max_time": CLIP_TIME, **_pop(point, _SAMPLING)})
    every: tuple[AgcImpl, ...] = get_args(AgcImpl)
    if asked != "all" and asked not in every:
        raise BadStudy(f"impl is {asked!r}.", try_=f"one of {', '.join(every)}, or without it all that run here")
    first = _plain(AgcCost, {"impl": "foreach", **point})
    if not 0 <= first.clipped <= 1:
        raise BadStudy(f"clipped is {first.clipped:g}.", try_="clipped = 0.5, a share of the units")
    impls: tuple[Any, ...] = (*(every if asked == "all" else (asked,)), "copy")
    return Entry("", tuple(msgspec.structs.replace(first, impl=impl) for impl in impls), sampling)


def _plain(kind: type[Any], point: dict[str, Any]) -> Any:
    _text(point, "model", '"nfnet-f0"')
    made = _record(kind, point)
    check(made)
    return msgspec.structs.replace(made, model=find(made.model).name)


def _pop(point: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: point.pop(name) for name in names if name in point}


def _text(point: Mapping[str, Any], name: str, pattern: str) -> None:
    if not isinstance(point.get(name), str):
        raise BadStudy(f"{name} is missing or no text.", try_=f"{name} = {pattern}")


_MAKERS = {
    "step-time": _step,
    "compare": _compare,
    "accuracy": _accuracy,
    "flops": _flops,
    "agc-cost": _clips,
    "dependence": _dependence,
}


def step_time_of(settings: Mapping[str, Any]) -> StepTime:
    """The `StepTime` of settings named like its fields.

    Raises:
        NfbenchError: a value has the wrong type or range, or the model is unknown; the message names the setting.
    """
    step: StepTime = _record(StepTime, settings)
    return checked(step)


def sampling_of(settings: Mapping[str, Any]) -> Sampling:
    """The `Sampling` of settings named like its fields; errors as `step_time_of`."""
    found: Sampling = _record(Sampling, {name: _in_si(name, value) for name, value in settings.items()})
    for name in ("within", "min_steps", "rounds", "turns", "max_time"):
        positive(name.replace("_", "-"), getattr(found, name))
    for name, value in (("rounds", found.rounds), ("turns", found.turns), ("min-steps", found.min_steps)):
        at_most(name, value)
    if found.within >= 1:
        near = f"{found.within:g}%" if found.within < 100 else _USUAL["within"]
        raise UnsupportedWorkload(f"--within {found.within:g} is no share below 1.", try_=f"--within {near}")
    if not 0 <= found.turn_time < float("inf"):
        raise UnsupportedWorkload(f"--turn-time {found.turn_time:g} is negative.", try_="--turn-time 3")
    return found


def _in_si(name: str, value: Any) -> Any:
    """A time or a width that was typed with a unit, as a number."""
    read, such = {"max_time": (seconds_of, "20m"), "turn_time": (seconds_of, "3s"), "within": (share_of, "1%")}.get(
        name, (None, "")
    )
    if read is None or not isinstance(value, str):
        return value
    try:
        return read(value)
    except ValueError:
        flag = f"--{name.replace('_', '-')}"
        raise UnsupportedWorkload(f"{flag} {shorten(value)} is no value.", try_=f"{flag} {such}") from None


def checked(workload: _W) -> _W:
    """``workload`` with its model under the catalogue's name.

    Raises:
        UnsupportedWorkload: a value that no device could run, or that is of what another one leaves out.
        UnknownModel: the model is not known.
    """
    check(workload)
    if workload.agc == "none" and workload.agc_impl != "auto":
        raise UnsupportedWorkload(
            f"--agc-impl {workload.agc_impl} has no effect with --agc none, which turns clipping off.",
            try_="one of the two",
        )
    parts, usual = parts_of("sam")[1:], defaults(type(workload))
    if workload.sam == "none" and any(getattr(workload, name) != usual[name] for name in parts):
        flags = " and ".join(f"--{BY_NAME[name].flag}" for name in parts)
        raise UnsupportedWorkload(f"{flags} are of an ascent that was not asked for.", try_="--sam 0.05 with them")
    check_passes(workload.micro_batch, workload.batch, f"--batch {workload.batch}")
    return msgspec.structs.replace(workload, model=find(workload.model).name)


def check_passes(micro_batch: int | str, images: int, what: str) -> None:
    """Raise `UnsupportedWorkload` where ``micro_batch`` does not divide ``images``, which are ``what`` in words."""
    if not isinstance(micro_batch, str) and images % micro_batch:
        fewest = -(-images // micro_batch)
        # not all the divisors of a number that may have twenty digits
        near = next((images // passes for passes in range(fewest, fewest + 10_000) if images % passes == 0), 1)
        raise UnsupportedWorkload(
            f"--micro-batch {micro_batch} does not divide {what}.",
            why="Every pass of an update takes the same number of images.",
            try_=f"--micro-batch {near}, or --micro-batch auto",
        )


def positive(name: str, value: float | str, try_: str = "") -> None:
    """Raise `UnsupportedWorkload` unless ``value``, of flag ``name``, is positive and finite, or a word."""
    if not isinstance(value, str) and (not value > 0 or value == float("inf")):
        raise UnsupportedWorkload(
            f"--{name} {as_typed(value)} is not positive.", try_=try_ or f"--{name} {_USUAL[name]}"
        )


MOST = {"rounds": 1000, "turns": 1000, "min-steps": MOST_COUNT, "seeds": 1000, "workers": 1024}
"""Beyond these work has no end or memory no room, and nothing more is known."""


def at_most(name: str, value: int) -> None:
    """Raise `UnsupportedWorkload` where ``value`` of flag ``name`` asks for more than `MOST`."""
    if value > MOST[name]:
        raise UnsupportedWorkload(
            f"--{name} {shorten(str(value))} is more than makes sense.",
            why=f"The most is {MOST[name]:,}.",
            try_=f"--{name} {_USUAL.get(name, 3)}",
        )


def _record(kind: type[Any], settings: Mapping[str, Any]) -> Any:
    try:
        return msgspec.convert(dict(settings), kind)
    except msgspec.ValidationError as error:
        raise NfbenchError(f"A setting has a wrong value: {error}.") from error


def accuracy_of(given: Mapping[str, Any]) -> tuple[Accuracy, Sources]:
    """The run of settings named like the fields of `Accuracy` and `Sources`, ``dataset`` and ``weights`` with paths.

    Raises:
        NfbenchError: a value has the wrong type or range, or the model or data set is unknown; the message names it.
    """
    asked = dict(given)
    for name in (*PATHS, "dataset", "weights"):
        if "\0" in str(asked.get(name, "")):
            raise NfbenchError(f"--{name.replace('_', '-')} has a NUL character in it, which no path may have.")
    found = {name: asked.pop(name, None) for name in PATHS}
    paths: dict[str, Any] = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in found.items()
        if value not in (None, "")
    }
    dataset = asked.get("dataset", Accuracy(model="").dataset)
    if isinstance(dataset, str):
        asked["dataset"], folder = _dataset(dataset)
        if folder is not None:
            paths["folder"] = folder
    weights = asked.get("weights", "none")
    if isinstance(weights, str) and weights not in ("none", "published"):
        asked["weights"] = f"file:{_digest(Path(weights))}"
        paths["weights"] = weights
    workload, sources = _record(Accuracy, asked), _record(Sources, paths)
    if sources.workers is not None and sources.workers < 0:
        raise UnsupportedWorkload(f"--workers {sources.workers} is negative.", try_="--workers 2")
    at_most("workers", sources.workers or 0)
    return _checked_run(workload), sources


def check_sources(sources: Sources) -> None:
    """Raise `BadData` where a folder of data is not there, before anything slow begins."""
    for what, path, try_ in (
        ("The data folder", sources.data_dir, "--data-dir FOLDER"),
        ("The folder", sources.folder, "--dataset imagefolder:PATH"),
    ):
        folder = None if path is None else expanded(path)
        if folder is not None and not folder.is_dir():
            raise BadData(f"{what} {path} {'is a file' if folder.exists() else 'does not exist'}.", try_=try_)


def with_data(tasks: Sequence[Task]) -> tuple[list[Task], BadData | None]:
    """The ``tasks`` whose data is here, or that need none, and why others are left out. Only ImageNet is looked for:
    every other set is at hand, or its error says where to get it.

    Raises:
        BadData: no task is left.
    """
    left: list[Task] = []
    absent: BadData | None = None
    for task in tasks:
        try:
            if isinstance(task.workload, Accuracy) and task.workload.dataset == "imagenet":
                datasets.imagenet_root(expanded(task.entry.sources.data_dir or "data"))
            left.append(task)
        except BadData as error:
            absent = error
    if absent is not None and not left:
        raise absent
    return left, absent


def _checked_run(run: Accuracy) -> Accuracy:
    run = checked(run)
    if run.norm == "frozen":
        raise UnsupportedWorkload(
            "--norm frozen trains nothing worth an accuracy: it is for time and memory only.", try_="--norm group"
        )
    if run.warmup_epochs != "auto" and run.warmup_epochs > run.epochs > 0:
        raise UnsupportedWorkload(
            f"--warmup-epochs {run.warmup_epochs:g} is more than --epochs {run.epochs}.", try_="--warmup-epochs auto"
        )
    tuned = [] if run.tune == "none" else run.tune.split(",")
    if fixed := next((name for name in tuned if getattr(run, name) != "auto"), None):
        raise UnsupportedWorkload(
            f"--tune {run.tune} searches for {fixed}, and --{fixed} {getattr(run, fixed)} gives it.",
            try_="one of the two",
        )
    if tuned and run.epochs == 0:
        raise UnsupportedWorkload(
            "--tune searches before a training, and --epochs 0 trains nothing.", try_="--epochs 10"
        )
    if run.epochs == 0 and run.weights == "none":
        raise UnsupportedWorkload(
            "--epochs 0 evaluates weights, and none are given.", try_="--weights published, or --weights FILE"
        )
    for name in ("randaugment_layers", "randaugment_magnitude"):
        if getattr(run, name) != "auto" and run.augment not in ("randaugment", "nfnet"):
            raise UnsupportedWorkload(
                f"--{BY_NAME[name].flag} is of an augmentation that was not asked for.",
                try_="--augment randaugment with it",
            )
    return run


def _dataset(name: str) -> tuple[str, str | None]:
    """The name that a record holds, and the folder of an ``imagefolder``."""
    row = datasets.find(name)
    if row.name != "imagefolder":
        return row.name, None
    path = name.partition(":")[2]
    if not path:
        raise BadData(
            "--dataset imagefolder names no folder.",
            why="It needs one with train/ and val/, a folder for each class in both.",
            try_="--dataset imagefolder:PATH",
        )
    folder = resolved(expanded(path))
    # a home folder is called after its user
    return f"imagefolder:{'home' if folder == expanded('~') else folder.name}", str(folder)


def _digest(path: Path) -> str:
    try:
        return digest(expanded(path))
    except IsADirectoryError as error:
        raise NfbenchError(f"--weights {path} is a folder.", try_="--weights with a file in it") from error
    except FileNotFoundError as error:
        raise NfbenchError(
            f"There is no file of weights {path}.", try_="--weights published, or --weights with the path of a file"
        ) from error
    except OSError as error:
        raise NfbenchError(f"--weights {path} cannot be read: {error.strerror}.") from error
