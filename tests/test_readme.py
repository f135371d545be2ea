"""The README and the guides: their commands run as they stand, and what they link is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import Cli
from make import H200, result, turns

import nfbench
from nfbench.analysis.store import Writer
from nfbench.cli import main
from nfbench.records import StepTime

ROOT = Path(nfbench.__file__).parents[1]
PAGES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if path.exists()]
LONGEST = 150
"""Lines of the README."""
ELSEWHERE = {
    "pip": "installs",
    "uv": "installs, or is a script of benchmarks/ with a test of its own",
    "torchrun": "needs several processes: test_distributed.py",
    "sbatch": "needs a cluster",
    "for": "builds wheels",
    "done": "builds wheels",
    "nfbench check": "needs a git ref: test_check_command.py",
    "nfbench run table3": "times a GPU",
    "nfbench run layouts": "times a GPU",
    "nfbench accuracy --model nfnet-f0 --dataset imagenet": "needs ImageNet",
}
"""How a command begins that is not run here, and why."""
MEASURES = ("step-time", "compare", "accuracy", "agc-cost", "batch-sweep", "agc-sweep", "run")


def commands() -> list[str]:
    """Every command of the pages once."""
    blocks = [block for path in PAGES for block in re.findall(r"```sh\n(.*?)```", path.read_text("utf-8"), re.S)]
    lines = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line))


def shown_here(command: str) -> bool:
    return not any(command.startswith(beginning) for beginning in ELSEWHERE)


@pytest.mark.usefixtures("workers_in_process")
@pytest.mark.parametrize("command", [c for c in commands() if shown_here(c)])
def test_a_command_runs_as_it_stands(cli: Cli, request: pytest.FixtureRequest, command: str) -> None:
    words = shlex.split(command)
    assert words[0] == "nfbench", command
    words = words[1 : words.index(">")] if ">" in words else words[1:]
    if any(word.startswith(("results", "mine.toml")) for word in words):
        # what the commands before it on the page would have left there
        Path("results/nvidia-h200").mkdir(parents=True)
        larger = result("nfnet-f0", (0.8,) * 12, machine=H200, workload=StepTime(model="nfnet-f0", batch=256))
        Writer(Path("results/nvidia-h200/a.jsonl")).write(*turns("nfnet-f0", "resnet50", 2.0), larger)
        Path("mine.toml").write_text('title = "T"\nquestion = "Q?"\n[[step-time]]\nmodel = "tiny-nfnet"\n')
    flags = ["--device", "fake", "--quiet"] if words[0] in MEASURES and "--list" not in words else []
    if flags:
        request.getfixturevalue("no_figures")
    done = cli(*words, *flags)
    assert done.exit_code == 0, done.output


def test_the_readme_is_short_and_every_page_links_only_what_is_there() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= LONGEST
    for path in PAGES:
        links = re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text("utf-8"))
        assert not [link for link in links if not (path.parent / link).exists()], path.name


def test_every_guide_begins_with_the_command_that_shows_its_subject() -> None:
    for name in ("measuring", "studies", "ci", "artifact"):
        text = (ROOT / "docs" / f"{name}.md").read_text("utf-8")
        assert re.match(r"# .+\n\n```sh\n(nfbench|uv run) ", text), name


@pytest.mark.parametrize(
    ("words", "typed", "expected"),
    [
        ("step-time", "nfnet-f", {"nfnet-f0", "nfnet-f6"}),
        ("compare", "bn-tiny", {"bn-tiny-nfnet"}),
        ("models", "resnet5", {"resnet50"}),
        ("run", "qu", {"quick"}),
        ("accuracy --dataset", "fash", {"fashion-mnist"}),
        ("plot --kind", "phas", {"phases"}),
        ("", "step", {"step-time"}),
    ],
)
def test_a_shell_completes_models_studies_data_sets_and_kinds(
    monkeypatch: pytest.MonkeyPatch, words: str, typed: str, expected: set[str]
) -> None:
    parts = ["nfbench", *words.split(), typed]
    monkeypatch.setenv("_NFBENCH_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(parts))
    monkeypatch.setenv("COMP_CWORD", str(len(parts) - 1))
    done = CliRunner().invoke(main, prog_name="nfbench")
    assert expected <= {line.partition(",")[2] for line in done.stdout.splitlines()}
