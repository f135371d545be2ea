"""A real Ray cluster of two nodes on this machine, in processes of its own, for tests of `--ray`.

Run as a script it is that cluster: it prints ADDRESS and the process of the second node, ends that node at once when it
reads "lose", and ends all with its standard input.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nfbench


class LocalCluster:
    """Two nodes of one CPU each, which can import what is in ``path``. All their processes have the name of ``folder``
    in their environment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # sockets have short names only
        self.folder = Path(tempfile.mkdtemp(prefix="nfr-", dir="/tmp"))
        self.env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self.env |= {
            "RAY_TMPDIR": str(self.folder),
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_WAIT_POLICY": "passive",
            "PYTHONPATH": os.pathsep.join([str(path), str(Path(nfbench.__file__).parent.parent)]),
            "PYTHONWARNINGS": "ignore",
        }
        self.child = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=self.env,
            start_new_session=True,
        )
        assert self.child.stdout is not None
        self.address, self.second = "", 0
        for line in self.child.stdout:
            if line.startswith("ADDRESS"):
                _, self.address, second = line.split()
                self.second = int(second)
                break

    def lose(self) -> None:
        """End all processes of the second node at once."""
        assert self.child.stdin is not None
        self.child.stdin.write("lose\n")
        self.child.stdin.flush()

    def processes(self, words: str = "") -> list[int]:
        """Those of the cluster, and of all that runs on it, that have ``words`` in their command line."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                mine = f"RAY_TMPDIR={self.folder}".encode() in (entry / "environ").read_bytes()
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if mine and command and words in command and int(entry.name) != os.getpid():
                    found.append(int(entry.name))
        return found

    def close(self) -> None:
        """End everything, whatever state it is in."""
        assert self.child.stdin is not None and self.child.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.child.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(10)
        until = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < until:
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.05)
        self.child.wait()
        self.child.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def main() -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)
    (raylet,) = second.all_processes["raylet"]
    print("ADDRESS", cluster.address, raylet.process.pid, flush=True)
    for line in sys.stdin:
        if line == "lose\n":
            cluster.remove_node(second, allow_graceful=False)
    cluster.shutdown()


if __name__ == "__main__":
    main()
