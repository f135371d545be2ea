"""`benchmarks/first_gpu.sh` with a Python that answers at once: what it runs, keeps, judges and prints."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "benchmarks" / "first_gpu.sh"
STEPS = ["env", "step-time", "plain-loop", "compare", "itself", "tests"]
STEPS += ["batch-256", "batch-32", "batch-4096", "agc-cost", "memory"]
LIMIT = re.compile(r"^(step|measure) ([\w-]+) (\d+) ", re.MULTILINE)

PYTHON = r"""#!/bin/bash
echo "$*" >>"$FAKE/calls"
while [ $# -gt 0 ]; do
  case $1 in --out) out=$2 ;; --columns) columns=$2 ;; esac
  words="$words $1" && shift
done
case $words in
  *" table "*)
    echo header
    case $columns in
      model,batch,micro_batch,step_time,status) echo nfnet-f0,4096,1024,0.1,ok ;;
      px,precision) echo 224,bf16 ;;
      step_time) echo 0.1 ;;
      clipped,impl,time) echo 0.5,fused,0.001 ;;
      status) echo out_of_memory ;;
    esac ;;
  *" env"*) printf 'GPU      Some GPU\nGPU memory   140 GiB\n' ;;
  *" report "*) echo "# Report" >"$out" ;;
  *bare_loop*) echo "{\"step_time\": ${FAKE_PLAIN:-0.1}}" ;;
  *" pytest"*) echo "tests/gpu/test_agc_cuda.py::test_it PASSED [100%]" ;;
  *)
    echo "{\"simulated\":${FAKE_SIMULATED:-false},\"of\":\"$words\"}" >>"$out"
    case $words in *compare*) echo "other,1.2,${FAKE_LOW:-0.9},1.3,," ;; esac ;;
esac
case $words in
  *"${FAKE_HANGS:-never}"*) touch "$FAKE/hangs" && exec sleep 60 ;;
  *"${FAKE_FAILS:-never}"*) exit 1 ;;
esac
"""

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or shutil.which("timeout") is None, reason="needs bash and POSIX tools"
)


class Runs:
    """Runs of the script into one folder."""

    def __init__(self, folder: Path) -> None:
        self.base, self.folder, self.script = folder, folder / "first", SCRIPT
        (folder / "python").write_text(PYTHON)
        (folder / "python").chmod(0o755)

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        fake = {"PYTHON": str(self.base / "python"), "FAKE": str(self.base)}
        command = ["bash", str(self.script), *arguments, str(self.folder)]
        variables = {**os.environ, **fake, **variables}
        return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, *arguments: str, **variables: str) -> tuple[int, dict[str, str]]:
        process = self.start(*arguments, **variables)
        printed, _ = process.communicate(timeout=60)
        return process.returncode, table(printed)

    def calls(self) -> list[str]:
        """What was run since this was last asked for, without what only reads."""
        file = self.base / "calls"
        lines = file.read_text().splitlines()
        file.unlink()
        return [line for line in lines if " table " not in line and " report " not in line]


def table(printed: str) -> dict[str, str]:
    """The table at the end: of each step what became of it, with its figure."""
    lines = printed.rpartition("figure\n")[2].splitlines()[:-1]
    return {line.split()[0]: re.sub(r" +", " ", line[13:]) for line in lines}


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def test_the_limits_add_up_to_eight_minutes_and_the_most_valuable_comes_first() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    limits = LIMIT.findall(SCRIPT.read_text())
    assert [name for _, name, _ in limits] == STEPS
    assert sum(int(limit) for _, _, limit in limits) <= 480


def test_it_goes_on_where_it_was_and_runs_all_only_when_asked_to(runs: Runs) -> None:
    code, shown = runs.run(FAKE_FAILS="compare nfnet-f0")
    assert code == 1 and list(shown) == STEPS
    assert {name for name, what in shown.items() if not what.startswith("passed")} == {"compare"}
    assert "GPU Some GPU" in shown["env"] and "140 GiB" not in shown["env"]
    assert "nfnet-f0 at 4096 in passes of 1024: 100 ms" in shown["batch-4096"]
    assert "100 ms; nfbench says +0.00 %" in shown["plain-loop"] and "1 passed" in shown["tests"]
    assert "1.2 times as fast (0.9 to 1.3)" in shown["compare"]
    assert "fused 1 ms" in shown["agc-cost"] and "out_of_memory" in shown["memory"]
    assert len(runs.calls()) == len(STEPS)

    rows = (runs.folder / "results.jsonl").read_text()
    assert runs.run()[0] == 0 and len(runs.calls()) == 1
    assert (runs.folder / "results.jsonl").read_text().startswith(rows)
    assert (runs.folder / "log.txt").read_text().count("== compare") == 2
    assert {path.name for path in runs.folder.iterdir()} == {"results.jsonl", "log.txt", "steps.tsv", "report.md"}

    assert runs.run("--again", NFBENCH_SECONDS="1")[0] == 0
    calls = runs.calls()
    assert len(calls) == len(STEPS)
    timed = [call for call in calls if " env" not in call and "-m pytest" not in call]
    assert all("--max-time 1 " in call or "--seconds 1" in call for call in timed)


def test_what_a_signal_stops_keeps_its_rows_and_the_table_is_printed(runs: Runs) -> None:
    process = runs.start(FAKE_HANGS="compare nfnet-f0")
    while not (runs.base / "hangs").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=30)
    shown = table(printed)
    assert process.returncode == 1 and list(shown) == STEPS
    assert shown["plain-loop"].startswith("passed") and shown["compare"].startswith("stopped")
    assert all(shown[name].startswith("not run") for name in STEPS[4:])
    assert "compare nfnet-f0" in (runs.folder / "results.jsonl").read_text()
    assert "== compare" in (runs.folder / "log.txt").read_text() and not (runs.folder / "step.jsonl").exists()


def test_a_step_that_hangs_is_ended_and_the_next_one_runs(runs: Runs) -> None:
    runs.script = runs.base / "benchmarks" / "first_gpu.sh"
    runs.script.parent.mkdir()
    runs.script.write_text(LIMIT.sub(r"\1 \2 1 ", SCRIPT.read_text()))
    code, shown = runs.run(FAKE_HANGS=" env")
    assert code == 1 and "out of time" in shown["env"] and shown["step-time"].startswith("passed")


@pytest.mark.parametrize("simulated", [False, True])
def test_what_differs_fails_but_on_a_simulated_gpu(runs: Runs, simulated: bool) -> None:
    code, shown = runs.run(FAKE_PLAIN="0.11", FAKE_LOW="1.1", FAKE_SIMULATED=str(simulated).lower())
    assert code == (0 if simulated else 1)
    for name in ("plain-loop", "itself"):
        assert ("not judged: simulated" in shown[name]) == shown[name].startswith("passed") == simulated
    assert shown["compare"].startswith("passed")
