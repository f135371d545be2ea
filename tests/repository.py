"""A git repository with a net of its own and a study that gates it, for tests of `check`."""

from __future__ import annotations

import subprocess
from pathlib import Path

STUDY = 'title = "Gate"\nquestion = "Slower?"\n[[step-time]]\nmodel = "mynet:net"\n'


class Repository:
    """A repository in ``folder`` whose ``mynet:net`` sleeps a share of each step of the fake device."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main")
        self.net()
        self.write("gate.toml", STUDY)
        self.commit("first")
        self.git("branch", "base")

    def git(self, *command: str) -> str:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *who, *command], cwd=self.folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def write(self, file: str, text: str) -> None:
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def net(self, sleep: float = 0.0, operators: object = 100, file: str = "mynet.py") -> None:
        text = f"class Net:\n    sleep = {sleep}\n    operators = {operators}\n"
        self.write(file, text + "def net(num_classes):\n    return Net()\n")

    def commit(self, message: str) -> str:
        self.git("add", "-A")
        self.git("commit", "-qm", message)
        return self.git("rev-parse", "HEAD")
