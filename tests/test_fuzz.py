"""Nearly valid input of every kind through the whole command line: no traceback, no fault of nfbench, nothing raw on
the terminal, no file of the user touched.

2,000 examples, the same ones in each run; ``NFBENCH_FUZZ=10000`` tries more of them.
"""

from __future__ import annotations

import contextlib
import copy
import gzip
import io
import json
import math
import os
import pickle
import random
import struct
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from all_sorts import composed, in_turns, on_ranks, timed
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from make import CPU, SOFTWARE, accuracy, once, result
from safetensors.torch import save

from nfbench import records
from nfbench.catalog.models import find
from nfbench.cli import main
from nfbench.nets.build import build
from nfbench.records import AgcCost, Dependence, Flops
from nfbench.showing import report
from nfbench.showing.figures.kinds import KINDS

EXAMPLES = int(os.environ.get("NFBENCH_FUZZ", "2000"))


def examples(of_2000: int) -> settings:
    """So many of the 2,000 examples, or as large a share of more of them."""
    return settings(
        max_examples=max(1, EXAMPLES * of_2000 // 2000),
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(autouse=True)
def in_this_process(workers_in_process: None, monkeypatch: pytest.MonkeyPatch) -> None:
    # figures are drawn below, by plot
    monkeypatch.setattr(report, "_draw", lambda *_: ({}, [], Counter()))
    monkeypatch.setattr(tempfile, "tempdir", str(Path.cwd()))
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """A folder for one example, in which the command is typed."""
    with tempfile.TemporaryDirectory() as outer:
        folder = Path(outer, "here")
        folder.mkdir()
        with contextlib.chdir(folder):
            yield folder


DOCUMENTED = {0, 1, 2, 3, 4, 5}
MADE = ("results", "out", "figures")
"""Folders that a command may make unasked, or in which tests here have it write."""


def contents() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file() and not path.is_symlink()}


def behaves(*argv: str) -> Result:
    """Type ``nfbench`` and ``argv``, and check all that holds of any command."""
    before = contents()
    done = CliRunner().invoke(main, list(argv))
    said = done.stdout + done.stderr
    assert done.exit_code in DOCUMENTED, (argv, said)
    assert done.exception is None or isinstance(done.exception, SystemExit), (argv, done.exception)
    assert "traceback" not in said.lower(), (argv, said)
    for line in said.split("\n"):
        assert line.isprintable() and not line.lstrip().startswith("::"), (argv, line)
    after = contents()
    assert before.items() <= after.items(), (argv, [name for name in before if before[name] != after.get(name)])
    named = {Path(word).parts[0] for word in argv if Path(word).parts}
    assert {Path(name).parts[0] for name in after.keys() - before.keys()} <= {*MADE, *named}, (argv, list(after))
    return done


# --- values that nobody meant

DEEP = "<deep>"
"""Stands for brackets within brackets, more than any stack takes."""
DEPTH = 20_000
TEXTS = (
    *("", " ", "-", "-1", "0", "nan", "inf", "1e999", "1e400%", "٣", "1_0", "0x10", "none", "auto", "best", "by model"),
    *(
        "\x1b]0;owned\x07\x1b[2J\x9b31m\x85\r",
        "a\n::stop-commands::x\n  ::add-mask::y",
        "\u202eleft\u2028\ufeff",
        "é" * 300,
    ),
    *(
        "../x",
        "~no-such-user/x",
        "/dev/null",
        "/proc/self/nowhere",
        "x" * 5000,
        "9" * 5000,
        "{0}%s{{x}}$(x)`x`",
        "=1+1",
    ),
    *("tiny-nfnet", "cuda:99999999999", "\udcff", "a,b=c<d>e~f@g:h", "*[?]**", "[bold]x[/]", "<b>&amp;\"'|\\"),
)
NUMBERS = (
    *(0, -1, 1, 2, 3, 7, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**400, -(10**400), True),
    *(0.0, -0.0, 0.5, 5e-324, 1e-300, 1e30, 1e300, 1.7976931348623157e308, math.nan, math.inf, -math.inf),
)
texts = st.sampled_from(TEXTS) | st.sampled_from(("\x00", "\ud800", "\x7f")) | st.text(max_size=8)
scalars = st.one_of(st.none(), st.sampled_from(NUMBERS), texts, st.just(DEEP))
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("from", "x", "kind", "")), inner, max_size=3)
    ),
    max_leaves=4,
)


def keys_of(held: Any) -> list[Any]:
    """The keys or places of a dict or list; none of what is neither, or empty."""
    if isinstance(held, dict):
        return list(held)
    return list(range(len(held))) if isinstance(held, list) else []


@st.composite
def spoilt(draw: Any, trees: Sequence[Any], most: int = 3) -> Any:
    """One of the ``trees`` of dicts and lists with up to ``most`` of its values altered, taken out or put elsewhere."""
    tree = copy.deepcopy(draw(st.sampled_from(trees)))
    for _ in range(draw(st.integers(0, most))):
        at = tree
        key = draw(st.sampled_from(keys_of(at)))
        while keys_of(at[key]) and draw(st.integers(0, 3)):
            at = at[key]
            key = draw(st.sampled_from(keys_of(at)))
        how = draw(st.sampled_from(("other", "other", "without", "moved", "emptied", "twice")))
        if how == "without":
            del at[key]
        elif how == "moved":
            at[key] = copy.deepcopy(at[draw(st.sampled_from(keys_of(at)))])
        elif how == "emptied" and isinstance(at[key], dict | list):
            at[key].clear()
        elif how == "twice" and isinstance(at, list):
            at += copy.deepcopy(at[key:])
        else:
            at[key] = draw(values)
        if not keys_of(tree):
            break
    return tree


@st.composite
def cut(draw: Any, content: bytes) -> bytes:
    """``content``, mostly whole; else cut off, or with bytes put in or altered."""
    how = draw(st.sampled_from(("whole", "whole", "whole", "shorter", "in", "over", "after")))
    place = draw(st.integers(0, len(content)))
    noise = draw(
        st.binary(min_size=1, max_size=6) | st.sampled_from((b"\n", b"\x00" * 9, b"\xff", b'"', b"\xef\xbb\xbf"))
    )
    if how == "shorter":
        return content[:place]
    if how == "in":
        return content[:place] + noise + content[place:]
    if how == "over":
        return content[:place] + noise + content[place + len(noise) :]
    return content + noise if how == "after" else content


# --- argument vectors, drawn from the commands' own parameters

COMMANDS: dict[str, click.Command] = {
    name: command
    for name in main.list_commands(click.Context(main))
    if (command := main.get_command(click.Context(main), name))
}
INTEGERS = ("1", "2", "4", "8", "32")
FLOATS = ("0.01", "0.5", "1", "50%", "1%")
FITS = {
    "paths": "rows.jsonl rows.jsonl rows.jsonl . results missing.jsonl broken.jsonl rows.jsonl/x LONG loop study.toml",
    "model": "tiny-nfnet tiny-nfnet tiny-resnet Tiny_NFNet timm:no_such tiny-nfne no.module:net json:loads timm:",
    "nets": "tiny-nfnet tiny-resnet tiny-nfnet@px=32 tiny-resnet@batch=8,layout=nchw tiny-nfnet@ @px=32 a@px=x",
    "baseline": "resnet50 nfnet-f0 resnet50@batch=32 resnet50@agc=none tiny-resnet @ nfnet-f0@norm=x",
    "of": "tiny nfnet nfnett",
    "study": "study.toml study.toml study.toml quick quik missing.toml broken.toml . LONG.toml loop",
    "out": "out out out/rows.jsonl out/page.html out/page.md rows.jsonl/x . LONG loop/x /dev/full",
    "junit": "out/junit.xml out /dev/full",
    "source": "src .",
    "allow": "driver driver,cpu name",
    "dataset": "digits digits mnist cifar10 cifar11 imagefolder:. imagefolder: imagefolder:loop imagenet",
    "data_dir": ". missing rows.jsonl loop",
    "weights": "rows.jsonl missing.pt published none . loop broken.jsonl /dev/full",
    "checkpoint": "out/kept rows.jsonl loop",
    "columns": "model,batch step_time model,,px no_such speedup,top1",
    "sort": "-step_time,model top1 - no_such",
    "where": "model=resnet50 batch=32,64 step_time<100ms top1>=50% px!=x model~[ start>2026 batch< = kind=accuracy",
    "only": "tiny-nfnet step-time batch=1 model=tiny-nfnet,px=32 no-such = bn-memory",
    "assignments": "batch=[1,2] px=32 scale=tiny agc=none accuracy.seeds=2 batch={from=1,to=4,step=1} x px= lr=x",
    "shard": "1/2 2/2 3/2 0/0 a/b",
    "optimizer": "sgd recipe adam no_such",
}
"""What is typed for a parameter of that name, where its type does not say it."""
FITS |= {"models": FITS["model"], "name": FITS["model"]}
SHORT = {
    "batch-sweep": [("--dry-run",)],
    "agc-sweep": [("--dry-run",)],
    "run": [*3 * [("--dry-run",)], ("--limit", "1")],
    "compare": [("--rounds", "1")],
    "agc-cost": [("--max-time", "0.01", "--no-steps")],
    "accuracy": [("--max-time", "10s")],
    "check": [("--against", base) for base in ("rows.jsonl", "broken.jsonl", "missing/python", "HEAD")],
}
"""What ends a command line, where the last flag counts, so that nothing that is measured takes long."""
LEFT_OUT = ("device", "dependence", "ray", "limit", "every")
OFTEN = ("table", "accuracy", "run", "models", "batch-sweep", "agc-sweep", "plot", "check") + 2 * ("table", "accuracy")


def word(parameter: click.Parameter) -> st.SearchStrategy[str]:
    """What may be typed for a parameter: what fits, or a number or a text that does not."""
    kind = parameter.type
    whole = isinstance(kind, click.types.IntParamType) or getattr(kind, "kind", None) is int
    numbers = (*getattr(kind, "words", ()), *(INTEGERS if whole else FLOATS))
    choices = tuple(kind.choices) if isinstance(kind, click.Choice) else ()
    known = FITS.get(str(parameter.name), "").replace("LONG", "a" * 300).split()
    fits = choices or tuple(known) or numbers
    wrong = (*TEXTS, *map(str, NUMBERS))
    return st.sampled_from((*(7 * len(wrong) // len(fits)) * fits, *wrong))


@st.composite
def flags(draw: Any, name: str, without: Sequence[str] = ()) -> list[str]:
    """Up to five flags of a command."""
    kept = [p for p in COMMANDS[name].params if isinstance(p, click.Option) and p.name not in (*without, *LEFT_OUT)]
    words: list[str] = []
    for option in draw(st.lists(st.sampled_from(kept), max_size=5)):
        words.append(draw(st.sampled_from((*option.opts, *option.secondary_opts))))
        words += [] if option.is_flag else [draw(word(option))]
    return words


@st.composite
def vectors(draw: Any) -> list[str]:
    """A whole command line, on the fake device."""
    name = draw(st.sampled_from((*COMMANDS, *OFTEN)))
    words = draw(flags(name))
    for parameter in COMMANDS[name].params:
        if isinstance(parameter, click.Argument):
            most = 3 if parameter.nargs == -1 else 1
            typed = draw(st.lists(word(parameter), min_size=draw(st.sampled_from((0, *9 * (1,)))), max_size=most))
            place = draw(st.integers(0, len(words)))
            words[place:place] = typed
        elif parameter.required and draw(st.sampled_from(range(10))):
            words += [parameter.opts[0], draw(word(parameter))]
    words += draw(st.sampled_from(SHORT.get(name, [()])))
    if any(parameter.name == "device" for parameter in COMMANDS[name].params):
        usual = "cpu" if name == "env" else "fake"
        words += ["--device", draw(st.sampled_from((*40 * (usual,), "cuda:9", "tpu", "", "fake:1")))]
    return [name, *words]


def around() -> None:
    """The files that command lines here are about."""
    Path("rows.jsonl").write_bytes(b"".join(records.to_json(r) + b"\n" for group in groups() for r in group))
    Path("broken.jsonl").write_bytes(b'{"schema":1}\n\xff\n{"schema":')
    Path("study.toml").write_text(toml(STUDIES[0]))
    Path("broken.toml").write_text("title = \x1b")
    Path("loop").symlink_to("loop")


@pytest.mark.usefixtures("no_figures")
@given(vectors())
@examples(580)
def test_argument_vectors(argv: list[str]) -> None:
    with own_folder():
        around()
        behaves(*argv)


# --- results


@cache
def groups() -> list[list[records.Result]]:
    """Results that are shown together."""
    clip = result(workload=AgcCost(model="nfnet-f0", impl="foreach"), resolved=None, readings=(once("clip", 1.0),))
    counted = result(workload=Flops(model="nfnet-f0"), resolved=None, readings=(once("macs", 1e9), once("px", 192.0)))
    dependent = result(
        workload=Dependence(model="resnet50"),
        resolved=None,
        readings=(once("output_rest_changed", 0.5), once("share_rest_changed_no_agc", 1.0), once("px", 64.0)),
    )
    return [
        in_turns("nfnet-f0", "resnet50", (0.12, 0.1), rounds=3),
        [timed(), timed(software=SOFTWARE, second=1)],
        [accuracy(seed=seed) for seed in range(2)] + [accuracy("tiny-resnet", (0.5, 0.8), agc=None)],
        [on_ranks(), composed()],
        [clip, counted, dependent],
        [
            result("nfnet-f1", status="out_of_memory", readings=(), resolved=None, message="no room"),
            result(machine=CPU),
        ],
    ]


def plain(found: records.Result) -> dict[str, Any]:
    """A result as JSON holds it, with a few of its samples."""
    row: dict[str, Any] = json.loads(records.to_json(found))
    for reading in row.get("readings", []):
        reading["values"] = reading["values"][:4]
    return row


@cache
def rows() -> list[Any]:
    return [[plain(r) for r in group] for group in groups()]


def as_json(row: Any) -> bytes:
    deep = "[" * DEPTH + "]" * DEPTH
    return json.dumps(row).replace(json.dumps(DEEP), deep).encode()


@st.composite
def lines(draw: Any) -> bytes:
    """A file of rows of one or two groups, in which some are spoilt, each by itself or all alike."""
    rows_here: list[Any] = []
    for _ in range(draw(st.integers(1, 2))):
        group = draw(spoilt(rows(), most=2))
        rows_here += group if isinstance(group, list) else [group]
    alike = draw(st.sampled_from(("no", "no", "yes")))
    if alike == "yes":
        name, value = draw(st.sampled_from(ALIKE)), draw(values)
        for row in rows_here:
            inner: Any = row
            for key in name[:-1]:
                inner = inner.get(key) if isinstance(inner, dict) else None
            if isinstance(inner, dict):
                inner[name[-1]] = value
    return draw(cut(b"\n".join(map(as_json, rows_here)) + b"\n"))


ALIKE = (
    *(
        ("start",),
        ("session",),
        ("round",),
        ("turn",),
        ("side",),
        ("study",),
        ("seed",),
        ("command",),
        ("notes", "norm"),
    ),
    *(
        ("workload", name)
        for name in ("model", "px", "batch", "agc", "epochs", "dataset", "sam", "ema", "world_size", "lr")
    ),
    *(("sampling", name) for name in ("looks", "within", "rounds", "turns", "turn_time")),
    *(("machine", name) for name in ("name", "memory", "device", "simulated")),
    *(("software", name) for name in ("nfbench", "torch", "commit")),
    *(("resolved", name) for name in ("px", "micro_batch", "agc", "nodes")),
    *(("resolved", "training", name) for name in ("classes", "lr", "test_images", "majority", "warmup_epochs")),
    *(("conditions", name) for name in ("load", "throttle", "other_load")),
)


@pytest.mark.usefixtures("no_figures")
@given(lines(), st.data())
@examples(780)
def test_results(content: bytes, data: st.DataObject) -> None:
    with own_folder():
        Path("rows.jsonl").write_bytes(content)
        name = data.draw(st.sampled_from((*20 * ("table",), "report")))
        out = ["-o", data.draw(st.sampled_from(("out/page.html", "out/page.md")))] if name == "report" else []
        behaves(name, "rows.jsonl", *data.draw(flags(name, ["out"])), *out)


@given(lines(), st.data())
@examples(40)
def test_figures(content: bytes, data: st.DataObject) -> None:
    with own_folder():
        Path("rows.jsonl").write_bytes(content)
        kinds = data.draw(st.lists(st.sampled_from([*KINDS]), min_size=1, max_size=4))
        behaves("plot", "rows.jsonl", "-o", "out", "--format", "svg", *(f"--kind={kind}" for kind in kinds))


# --- studies

STEP = {"model": ["tiny-nfnet", "tiny-resnet"], "px": "by model", "batch": {"from": 1, "to": 4, "factor": 2}}
TABLES_GOOD: dict[str, dict[str, Any]] = {
    "step-time": {
        **STEP,
        "device": "cpu",
        "exclude": [{"model": "tiny-nfnet", "batch": 2}],
        "rounds": 2,
        "within": 0.1,
    },
    "compare": {"net": "tiny-nfnet", "baseline": "tiny-resnet", "net_settings": {"sam": 0.05}, "turns": 2, "rounds": 4},
    "flops": {"model": "tiny-nfnet", "px": [32, "test"]},
    "agc-cost": {"model": "tiny-nfnet", "impl": "foreach", "clipped": [0.0, 0.5], "layout": "nchw"},
    "dependence": {"model": "tiny-nfnet", "batch": 4, "px": 32, "agc": ["none", 0.01]},
    "accuracy": {
        "model": "tiny-nfnet",
        "dataset": "digits",
        "seeds": 2,
        "epochs": 1,
        "lr": 0.1,
        "workers": 0,
        "data_dir": ".",
    },
}
ACCEPT = {"model": "nfnet-f0", "slower": "6%", "macs": 0.1, "until": "2027-01-31", "reason": "exact softmax"}
HEAD = {"title": "A study", "question": "Does it?", "figures": ["step-time"], "counts_only": False}
MODELS = {"models": {"tiny-nfnet": {"px": 32}, "tiny-resnet": {"px": 32, "agc": "none"}}}
STUDIES: list[dict[str, Any]] = [
    {
        **HEAD,
        "settings": {"batch": 8, "seeds": 1},
        **MODELS,
        **{k: [t] for k, t in TABLES_GOOD.items()},
        "accept": [ACCEPT],
    },
    {
        **HEAD,
        **MODELS,
        "step-time": [TABLES_GOOD["step-time"], {"model": "tiny-nfnet", "scale": "tiny", "claim": "bn-memory"}],
    },
    {**HEAD, "accuracy": [{**TABLES_GOOD["accuracy"], "time_limit": 60}]},
    {**HEAD, "accuracy": [{"model": "tiny-nfnet", "weights": "published", "checkpoint": "kept"}]},
    {**HEAD, "compare": [TABLES_GOOD["compare"]], "accept": [ACCEPT]},
]


def toml(held: dict[str, Any]) -> str:
    """A TOML file, its tables within its lines."""
    return "".join(f"{json.dumps(key)} = {inline(value)}\n" for key, value in held.items() if value is not None)


def inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {inline(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    if value == DEEP:
        return "[" * DEPTH + "]" * DEPTH
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, float):
        return str(value)
    return json.dumps(value) if value is not None else "1979-05-27T07:32:00"


@given(spoilt(STUDIES), st.data())
@examples(460)
def test_studies(study: Any, data: st.DataObject) -> None:
    with own_folder():
        whole = toml(study).encode() if isinstance(study, dict) else inline(study).encode()
        Path("study.toml").write_bytes(data.draw(cut(whole)))
        words = data.draw(flags("run", ["study", "listing", "out"]))
        behaves("run", "study.toml", *words, "--device", "fake", "--dry-run")


# --- weights


@cache
def state() -> dict[str, Any]:
    return dict(build(find("tiny-nfnet"), num_classes=10).state_dict())


class Exploit:
    """What a pickle can hold: it opens a file when it is read."""

    def __reduce__(self) -> Any:
        return open, ("exploited", "w")


TENSORS: tuple[Callable[[Any], Any], ...] = (
    lambda t: t[None][:0],
    lambda t: t.sum(),
    lambda t: t[None],
    lambda t: t.flatten(),
    lambda t: t.long(),
    lambda t: t.bool(),
    lambda t: t.to(torch.complex64),
    lambda t: t.half(),
    lambda t: t.double() * math.nan,
    lambda t: t.float().to_sparse(),
    lambda t: t.to("meta"),
    lambda t: torch.nn.Parameter(t.float()),
)
OTHERS = (None, 1, 0.5, "x", b"x", [], {}, [1, [2]], {"x": 1}, {1: 2}, math.nan)
WRAPPERS: tuple[Callable[[Any], Any], ...] = (
    lambda s: {"state_dict": s, "epoch": 3},
    lambda s: {"model": s, "model_ema": dict(list(s.items())[1:])},
    lambda s: {"a": s, "b": s},
    lambda s: {f"module.{k}": v for k, v in s.items()},
    lambda s: {"state_dict": {}, "data_config": {"input_size": "x"}},
    lambda s: list(s.values()),
    lambda s: next(iter(s.values())),
    lambda s: {"state_dict": s, "args": Exploit()},
    lambda s: {},
)


@st.composite
def weights(draw: Any) -> tuple[str, bytes]:
    """The name and the content of a file of weights for the smallest net."""
    held: Any = dict(state())
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from(sorted(state().keys() & held.keys())))
        how = draw(st.sampled_from(("tensor", "tensor", "without", "renamed", "other")))
        del held[name]
        tensor = state()[name]
        if how == "tensor":
            held[name] = draw(st.sampled_from(TENSORS))(tensor)
        elif how == "renamed":
            held[draw(texts)] = tensor
        elif how == "other":
            held[name] = draw(st.sampled_from(OTHERS))
    kind = draw(st.sampled_from(("pt", "pt", "old.pth", "safetensors", "bin")))
    if kind == "safetensors":
        dense = {k: t for k, t in held.items() if isinstance(t, torch.Tensor) and not (t.is_sparse or t.is_meta)}
        content = save({k: t.contiguous().clone() for k, t in dense.items()})
        return "w.safetensors", draw(cut(content))
    if draw(st.booleans()):
        held = draw(st.sampled_from(WRAPPERS))(held)
    file = io.BytesIO()
    if kind == "bin":
        pickle.dump(draw(st.sampled_from((Exploit(), OTHERS, {"x": 1}))), file)
    else:
        torch.save(held, file, _use_new_zipfile_serialization=kind == "pt")
    return f"w.{kind}", draw(cut(file.getvalue()))


@given(weights())
@examples(60)
def test_weights(file: tuple[str, bytes]) -> None:
    name, content = file
    with own_folder():
        write(mnist(), "data")
        Path(name).write_bytes(content)
        behaves("accuracy", *TRAIN, "--dataset", "mnist", "--epochs", "0", "--weights", name)


# --- files of data sets

TRAIN = ["--epochs", "1", "--batch", "2", "--model", "tiny-nfnet", "--device", "cpu", "--max-time", "1s"]
COUNTS = (0, 1, 2, 4, 27, 28, 29, 255, 2049, 2051, 2**16, 2**31 - 1, 2**31, 2**32 - 1)


@cache
def mnist() -> dict[str, bytes]:
    """The four files of MNIST with few pictures."""
    rng = random.Random(0)
    files: dict[str, bytes] = {}
    for part, count in (("train", 4), ("t10k", 2)):
        files[f"{part}-images-idx3-ubyte"] = struct.pack(">4I", 2051, count, 28, 28) + rng.randbytes(784 * count)
        files[f"{part}-labels-idx1-ubyte"] = struct.pack(">2I", 2049, count) + bytes(range(count))
    return files


def write(files: dict[str, bytes], folder: str) -> None:
    Path(folder).mkdir(parents=True)
    for name, content in files.items():
        Path(folder, name).write_bytes(content)


@st.composite
def idx(draw: Any) -> dict[str, bytes]:
    """The files of MNIST, with something else in two places or fewer of their headers."""
    files = dict(mnist())
    for name in draw(st.lists(st.sampled_from(sorted(files)), max_size=2)):
        place = draw(st.integers(0, 3 if "images" in name else 1))
        content = bytearray(files[name])
        struct.pack_into(">I", content, 4 * place, draw(st.sampled_from(COUNTS)))
        files[name] = bytes(content)
    for name in draw(st.lists(st.sampled_from(sorted(files)), max_size=2)):
        how = draw(st.sampled_from(("cut", "gz", "gz cut", "gone", "labels", "twice")))
        content = files.pop(name, b"")
        packed = gzip.compress(content, mtime=0)
        if how == "labels":
            files[name] = content[:8] + draw(
                st.binary(min_size=max(0, len(content) - 8), max_size=max(0, len(content) - 8))
            )
        elif how == "twice":
            files |= {name: content, f"{name}.gz": packed}
        elif how != "gone":
            files[f"{name}.gz" if "gz" in how else name] = (
                packed if how == "gz" else draw(cut(content if how == "cut" else packed))
            )
    return files


@given(idx())
@examples(50)
def test_idx_files(files: dict[str, bytes]) -> None:
    with own_folder():
        write(files, "data")
        behaves("accuracy", "--dataset", "mnist", *TRAIN)


@st.composite
def cifar(draw: Any) -> dict[str, bytes]:
    """The files of CIFAR-10 with few pictures, none of which is the published one."""
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]
    batch = {b"data": [[0] * 3072], b"labels": [0], b"filenames": [b"x.png"], b"batch_label": b"1"}
    files: dict[str, bytes] = {}
    for name in names:
        held = draw(st.sampled_from((batch, batch, {**batch, b"labels": [1, 2]}, {}, [], Exploit())))
        files[name] = draw(cut(pickle.dumps(held, protocol=2)))
    for name in draw(st.lists(st.sampled_from(names), max_size=2)):
        files.pop(name, None)
    return files


@given(cifar(), st.sampled_from(("folder", "folder", "archive")), st.sampled_from(("cifar10", "cifar100")))
@examples(30)
def test_cifar_files(files: dict[str, bytes], as_what: str, name: str) -> None:
    with own_folder():
        write(files, f"data/{'cifar-10-batches-py' if name == 'cifar10' else 'cifar-100-python'}")
        if as_what == "archive":
            Path("data", f"{name.replace('cifar', 'cifar-')}-python.tar.gz").write_bytes(
                gzip.compress(b"".join(files.values()))
            )
        behaves("accuracy", "--dataset", name, *TRAIN)
