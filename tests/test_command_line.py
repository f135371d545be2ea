"""What is typed wrong is answered with what to type, and what is printed runs as typed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click
import pytest
from conftest import Cli
from make import keep, result

from nfbench.showing import screen

FAKE = ("--device", "fake", "--quiet", "--max-time", "1s")


@pytest.mark.parametrize(
    ("words", "code", "answer"),
    [
        ("modles", 2, "There is no command 'modles'.\nTry: nfbench models"),
        ("zzz", 2, "Try: nfbench --help"),
        ("plot results --kind spedup", 2, "Try: --kind speedup"),
        ("step-time nfnet-f0 --layout nhcw", 2, "Try: --layout nhwc"),
        ("table", 2, "Try: nfbench table results/"),
        ("compare", 2, "Try: nfbench compare nfnet-f0 bn-nfnet-f0"),
        ("step-time", 2, "No net is named.\nTry: nfbench step-time nfnet-f0 --batch 32"),
        ("accuracy --epochs 1", 2, "Try: nfbench accuracy tiny-nfnet --dataset digits"),
        ("step-time nfnet-f0 --model nfnet-f0", 2, "nfnet-f0 is named twice"),
        ("step-time nfnet-f0@pixels=3", 1, "there is no setting 'pixels'"),
        ("step-time nfnet-f0 --within 5", 2, "'5' is not between 0 and 100 %; type 5%."),
        ("compare a b --within 5", 2, "type 5%."),
        ("check gate --slower-than 3", 2, "type 3%."),
        ("step-time nfnet-f0 --max-time soon", 2, "type 90s, 20m or 1h."),
        ("run quick --set within=5 --dry-run --device fake", 1, "Try: --within 5%"),
        ("run quick --set max_time=soon --dry-run --device fake", 1, "Try: --max-time 20m"),
        ("run quick --list", 1, "Try: nfbench run --list, or nfbench run quick --dry-run"),
        ("table results --front macs --baseline x", 1, "Try: one of --front and --baseline"),
        ("flops nfnet-f0 --all", 1, "Try: nfbench flops nfnet-f0, or --all"),
    ],
)
def test_what_is_typed_wrong_is_answered_with_what_to_type(words: str, code: int, answer: str, cli: Cli) -> None:
    done = cli(*words.split())
    assert done.exit_code == code, done.output
    assert answer in done.output
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    "command", ["step-time", "accuracy", "agc-cost", "batch-sweep", "agc-sweep", "compare", "flops"]
)
def test_every_command_that_takes_nets_takes_them_without_a_flag(command: str, cli: Cli) -> None:
    assert "NET" in cli(command, "--help").output.partition("\n")[0] or command in ("compare", "flops")
    assert cli(command, "no-such-net", "no-such-net-2").exit_code == 1


def test_a_net_may_bring_settings_of_its_own(cli: Cli) -> None:
    done = cli("step-time", "tiny-nfnet@batch=8", "--model", "tiny-resnet", "--batch", 16, *FAKE, "--format", "json")
    assert [(row["model"], row["batch"]) for row in json.loads(done.stdout)] == [("tiny-nfnet", 8), ("tiny-resnet", 16)]


@pytest.mark.parametrize(("typed", "seconds"), [("90", 90), ("90s", 90), ("20m", 1200), ("1h", 3600)])
def test_a_cap_is_typed_alike_everywhere(typed: str, seconds: float, cli: Cli) -> None:
    done = cli("step-time", "tiny-nfnet", "--device", "fake", "--quiet", "--max-time", typed, "--out", "a.jsonl")
    assert done.exit_code == 0
    assert json.loads(Path("a.jsonl").read_text())["sampling"]["max_time"] == seconds
    for flags in (("--max-time", typed), ("--set", f"max_time={typed}")):
        dry = cli("run", "quick", "--device", "fake", "--dry-run", *flags)
        assert dry.exit_code == 0, dry.output


def test_a_larger_cap_measures_again_what_a_smaller_one_cut_short(cli: Cli) -> None:
    study = Path("s.toml")
    study.write_text("""title = "T"\nquestion = "Q?"\n[[step-time]]\nmodel = "tiny-nfnet"\nlayout = "nhwc"\n""")
    run = ("run", study, "--device", "fake", "--quiet", "--within", "0.0001%", "--set", "min_steps=9999")
    assert cli(*run, "--max-time", "1s").exit_code == 0
    assert "0 of 1 workload would run" in cli(*run, "--max-time", "1s", "--dry-run").output
    assert "1 of 1 workload would run" in cli(*run, "--max-time", "2s", "--dry-run").output
    assert "0 of 1 workload would run" in cli(*run, "--max-time", "500", "--max-time", "0.5s", "--dry-run").output


@pytest.mark.parametrize(
    ("condition", "warns"),
    [
        ("step_time<100", True),
        ("forward>=2", True),
        ("step_time<100ms", False),
        ("step_time<0.1", False),
        ("batch=32", False),
    ],
)
def test_a_time_without_a_unit_is_said_to_be_in_seconds(condition: str, warns: bool, cli: Cli) -> None:
    keep("a.jsonl", [result()])
    done = cli("table", "a.jsonl", "--where", condition)
    key, sign, value = condition.partition("<") if "<" in condition else condition.partition(">=")
    assert (f"means {value} s; type {key}{sign}{value}ms for milliseconds." in done.stderr) == warns


def test_commands_in_messages_begin_with_uv_run_where_only_uv_knows_nfbench(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "nfbench table x · torchrun -m nfbench step-time; uv run nfbench plot, nfbench knows, ./nfbench env"
    monkeypatch.setenv("UV_RUN_RECURSION_DEPTH", "1")
    monkeypatch.delenv("VIRTUAL_ENV_PROMPT", raising=False)
    assert screen.runnable(text) == f"uv run {text}"
    assert "Try: uv run nfbench table results/" in cli("table").output
    assert "Try: uv run nfbench run quick" in cli("run").output
    monkeypatch.setenv("VIRTUAL_ENV_PROMPT", "nfbench")
    assert screen.runnable(text) == text


def test_a_terminal_gets_lines_that_are_broken_between_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "a-long-word " * 9 + "x" * 90
    screen.say(text)
    assert capsys.readouterr().err == text + "\n"
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(screen.shutil, "get_terminal_size", lambda: os.terminal_size((80, 24)))
    monkeypatch.setattr(click, "echo", lambda text, err: print(text))
    screen.say(text)
    lines = capsys.readouterr().out.splitlines()
    assert [len(line) for line in lines] == [71, 35, 90] and " ".join(lines) == text
