"""The code of another commit beside this one: the merge base of a git ref and HEAD, as a worktree."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nfbench.errors import NfbenchError

_PREFIX = "nfbench-base-"
_REQUIREMENTS = ("pyproject.toml", "setup.py", "setup.cfg", "requirements.txt")


class Worktree(NamedTuple):
    """Two trees of one repository.

    ``root`` holds HEAD with what is changed in it, ``base_root`` the merge base. ``changed`` are files of the root that
    say what is installed and differ between the two, ``dirty`` whether anything of the root is not committed.
    """

    root: Path
    head: str
    base_root: Path
    base: str
    changed: tuple[str, ...]
    dirty: bool


def is_ref(name: str) -> bool:
    """Whether git knows ``name`` as a commit here; False where there is no git or no repository."""
    try:
        return _run(["rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"]).returncode == 0
    except NfbenchError:
        return False


@contextlib.contextmanager
def merge_base(ref: str) -> Iterator[Worktree]:
    """The worktree of the merge base of ``ref`` and HEAD, for as long as it is needed.

    Raises:
        NfbenchError: no git, no repository, no such ref, no common commit, or git cannot make the worktree.
    """
    root = Path(
        _checked(
            ["rev-parse", "--show-toplevel"],
            f"{Path.cwd().name or 'This'} is in no git repository.",
            "cd into the repository, or --against PYTHON or RESULTS",
        )
    )
    head = _checked(["rev-parse", "--verify", "HEAD^{commit}"], "The repository has no commit yet.", "git commit")
    branch = ref.removeprefix("origin/")
    _checked(
        ["rev-parse", "--verify", f"{ref}^{{commit}}"],
        f"There is no git ref, Python or results called {ref!r}.",
        f"git fetch origin {branch}" if ref.startswith("origin/") else "git branch -a for the refs",
    )
    base = _checked(
        ["merge-base", ref, "HEAD"],
        f"{ref} and HEAD have no common commit here.",
        "git fetch --unshallow; in GitHub's actions/checkout fetch-depth: 0",
    )
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-")).resolve()
    try:
        tree = folder / "tree"
        _run(["worktree", "prune"])
        _checked(["worktree", "add", "--detach", "--force", str(tree), base], "git cannot make a worktree.", "")
        try:
            changed = [f for f in _REQUIREMENTS if _run(["diff", "--quiet", base, "--", f":/{f}"]).returncode == 1]
            dirty = bool(_run(["status", "--porcelain"]).stdout.strip())
            yield Worktree(root, head, tree, base, tuple(changed), dirty)
        finally:
            _run(["worktree", "remove", "--force", str(tree)])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _run(["worktree", "prune"])


def _sweep() -> None:
    """Take away what runs that were killed have left."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = left.name.removeprefix(_PREFIX).partition("-")[0]
        with contextlib.suppress(OSError, ValueError):
            if (
                left.stat().st_uid == os.getuid()
                and not Path(f"/proc/{int(owner)}").exists()
                and Path("/proc").exists()
            ):
                shutil.rmtree(left, ignore_errors=True)


def _checked(command: list[str], what: str, try_: str) -> str:
    done = _run(command)
    if done.returncode:
        words = done.stderr.strip().splitlines()
        raise NfbenchError(what, why=f"git says: {words[-1][:300]}" if words else "", try_=try_)
    return done.stdout.strip()


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    # a hook's GIT_DIR would answer for another repository
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    try:
        return subprocess.run(["git", *command], env=clean, capture_output=True, text=True, timeout=600, check=False)
    except FileNotFoundError:
        raise NfbenchError(
            "git is not installed, so that there is no base to compare with.", try_="--against PYTHON or RESULTS"
        ) from None
    except subprocess.TimeoutExpired:
        raise NfbenchError(f"git {command[0]} did not end within 10 minutes.") from None
