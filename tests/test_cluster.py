"""Studies on a Ray cluster: a real one of two nodes on this machine, of which one is lost, and what can be wrong."""

from __future__ import annotations

import importlib.util
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Cli
from make import LONGEST, wait_until
from ray_cluster import LocalCluster

from nfbench import __version__
from nfbench.analysis.store import load
from nfbench.records import key
from nfbench.studies import ray

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason='Ray is not installed: pip install "nfbench[ray]"'
)
HEAD = 'title = "T"\nquestion = "Q?"\n[settings]\nmax_time = 1\n'
NET = """
import os, time
from pathlib import Path

class Net:
    pass

def net(num_classes):
    with (Path(__file__).parent / "begun").open("a") as file:
        file.write(os.environ["RAY_RAYLET_PID"] + "\\n")
    held = Path(__file__).parent / "held"
    # there it goes on until the node is lost
    there = held.exists() and held.read_text() == os.environ["RAY_RAYLET_PID"]
    time.sleep(600 if there else {seconds})
    return Net()
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    nets = tmp_path_factory.mktemp("nets")
    for name, seconds in (("quicknet", 0.5), ("slownet", 600)):
        (nets / name).mkdir()
        (nets / name / "__init__.py").write_text(NET.format(seconds=seconds))
    made = LocalCluster(nets)
    try:
        yield made
    finally:
        made.close()


def begun(cluster: LocalCluster, net: str) -> list[int]:
    """The nodes, by their process, on which a workload of ``net`` has begun."""
    path = cluster.path / net / "begun"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def start(cluster: LocalCluster, study: str, code: str = "") -> subprocess.Popen[str]:
    """`nfbench run` of a study on the cluster, after ``code``."""
    name = "other" if code else "mine"
    Path(f"{name}.toml").write_text(HEAD + study)
    arguments = ["run", f"{name}.toml", "--device", "fake", "--ray", cluster.address]
    arguments += [] if code else ["--out", "o.jsonl"]
    code = f"{code}\nfrom nfbench.cli import main\nmain({arguments!r}, prog_name='nfbench')"
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=cluster.env
    )


def workers(cluster: LocalCluster) -> list[int]:
    return cluster.processes("nfbench.studies.worker")


@needs_ray
def test_a_lost_node_s_workloads_are_handed_out_again_and_each_is_kept_once(cluster: LocalCluster) -> None:
    (cluster.path / "quicknet" / "held").write_text(str(cluster.second))
    child = start(cluster, '[[step-time]]\nmodel = "quicknet:net"\nbatch = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\n')
    wait_until(lambda: cluster.second in begun(cluster, "quicknet") or child.poll() is not None)
    assert child.poll() is None, child.communicate()[1]
    cluster.lose()
    out, said = child.communicate(timeout=LONGEST)
    assert child.returncode == 0, said
    assert "was lost with its node" in said and "It is handed out again." in said
    loaded = load([Path("o.jsonl")])
    assert not loaded.broken and not loaded.repeated
    assert Counter(key(r.workload) for r in loaded.results).most_common(1)[0][1] == 1
    assert sorted(r.step.batch for r in loaded.results) == list(range(1, 11))
    assert {(r.status, r.study) for r in loaded.results} == {("ok", "mine")}
    # and nothing of Ray's on either stream
    assert out.startswith("model") and "INFO" not in out + said and "raylet" not in out + said
    wait_until(lambda: not workers(cluster))


@needs_ray
def test_sigterm_ends_what_runs_on_the_cluster_and_keeps_what_came_back(cluster: LocalCluster) -> None:
    # meanwhile one of another version is refused before anything is handed out
    other = start(cluster, '[[step-time]]\nmodel = "tiny-nfnet"\n', "import nfbench; nfbench.__version__ = '99.0'")
    study = '[[step-time]]\nmodel = ["quicknet:net", "slownet:net"]\nbatch = 16\n'
    child = start(cluster, study)
    wait_until(lambda: (begun(cluster, "slownet") and Path("o.jsonl").exists()) or child.poll() is not None)
    assert workers(cluster)
    child.send_signal(signal.SIGTERM)
    _, said = child.communicate(timeout=LONGEST)
    assert child.returncode == 143, said
    assert "1 result in o.jsonl\nThe same command goes on from there." in said and "Traceback" not in said
    assert [r.workload.model for r in load([Path("o.jsonl")]).results] == ["quicknet:net"]
    wait_until(lambda: not workers(cluster))
    _, said = other.communicate(timeout=LONGEST)
    assert other.returncode == 1, said
    assert f" has nfbench {__version__}, this is nfbench 99.0.\nNothing was handed out" in said


def run(cli: Cli, address: str, device: str = "fake") -> str:
    """What `nfbench run --ray` says on standard error when it ends with 1."""
    Path("mine.toml").write_text(HEAD + '[[step-time]]\nmodel = "tiny-nfnet"\n')
    done = cli("run", "mine.toml", "--device", device, "--ray", address)
    assert done.exit_code == 1, done.output
    assert not Path("results").exists()
    return done.stderr


@needs_ray
def test_an_address_at_which_nobody_answers_is_not_waited_for(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = run(cli, f"127.0.0.1:{port}")
    assert f"No Ray cluster answers at 127.0.0.1:{port}: Connection refused.\nTry: ray start --head" in said
    monkeypatch.setattr(ray, "ANSWER", 1.0)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        said = run(cli, f"127.0.0.1:{port}")
    assert f"No Ray cluster answers at 127.0.0.1:{port}: nothing of Ray's in 1 s." in said


@needs_ray
@pytest.mark.parametrize("address", ["local", "ray://head:10001", "head:port", ":6379", "head:99999"])
def test_what_is_no_address_of_a_cluster_is_said(address: str, cli: Cli) -> None:
    said = run(cli, address)
    assert f"--ray {address} is no address of a cluster." in said and "Try: --ray auto, or --ray HOST:6379" in said


def test_without_ray_the_message_says_how_to_install_it(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray.importlib.util, "find_spec", lambda name: None)
    said = run(cli, "auto")
    assert '--ray needs Ray, which is not installed.\nTry: pip install "nfbench[ray]", or uv sync --extra ray' in said


def test_a_card_cannot_be_chosen_on_a_cluster(cli: Cli) -> None:
    said = run(cli, "auto", device="cuda:1")
    assert "--device cuda:1 names a card, and Ray chooses those.\nTry: --device cuda" in said
