"""What a check compares with: a git ref's merge base, another Python, stored results, or this environment itself."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from nfbench.analysis import baseline
from nfbench.analysis.baseline import Stored
from nfbench.analysis.store import check_alike, load
from nfbench.catalog.models import find
from nfbench.devices import is_simulated
from nfbench.devices.base import OTHER_TREE, child_environment
from nfbench.errors import BadResults, BadStudy, NfbenchError
from nfbench.records import StepTime, key
from nfbench.studies.check import Case, Sides
from nfbench.studies.processes import Place
from nfbench.studies.study import Study, read, shipped
from nfbench.units import first_few, resolved


class Base:
    """What is compared with, in words (``said``), where both sides run, and what is to be said about it.

    ``stored`` are the workloads of stored results by their key, ``workloads`` those that the base's study has (None
    where it has none of its own), which it ``counts_only`` where it times none of them. A base whose workers do not
    start ``may_be_new``, but for another Python.
    """

    def __init__(self, said: str, sides: Sides) -> None:
        self.said, self.sides = said, sides
        self.notes: list[str] = []
        self.stored: dict[str, Stored] | None = None
        self.workloads: list[StepTime] | None = None
        self.may_be_new = True
        self.counts_only = True

    def objection(self, case: Case) -> str | None:
        """Why what ``case`` has measured cannot be compared; None where it can."""
        return None

    def check_intact(self) -> None:
        """Raise `NfbenchError` where the code of the base is no longer what it was."""


class Ref(Base):
    """The merge base of a git ref."""

    def __init__(self, said: str, sides: Sides, tree: Worktree) -> None:
        super().__init__(said, sides)
        self.tree = tree
        self.files = _digests(tree.base_root)

    def check_intact(self) -> None:
        files = _digests(self.tree.base_root)
        changed = sorted(name for name in self.files.keys() | files.keys() if self.files.get(name) != files.get(name))
        if changed:
            raise NfbenchError(
                f"{first_few(changed)} of the base changed while it was timed.",
                why="Then the base is not what git has, and no verdict holds.",
                try_="code that writes nothing beside itself",
            )

    def objection(self, case: Case) -> str | None:
        """That the two sides ran the same code, or the base some of the head's."""
        base, head = case.base[-1], case.head[-1]
        if head.software.commit != self.tree.head:
            if find(case.workload.model).source == "factory":
                return (
                    f"{case.workload.model} is not code of this repository, so both sides ran the same: "
                    "--source names the folder of its package, pip install -e . installs it in place"
                )
            if not case.why:
                case.why.append("nfbench's own net: no file of this repository runs in it")
        elif base.software.commit != self.tree.base:
            commit = base.software.commit
            ran = f"commit {commit[:7]}" if commit else "code of no commit"
            return f"the base's workers ran {ran}, not the merge base {self.tree.base[:7]}: --source names its folder"
        if OTHER_TREE in base.notes:
            return f"the base's workers imported {base.notes[OTHER_TREE]} from the head: --source names its folder"
        return None


class Results(Base):
    """Stored rows."""

    def __init__(self, said: str, sides: Sides, stored: dict[str, Stored], allowed: Sequence[str]) -> None:
        super().__init__(said, sides)
        self.stored, self.allowed = stored, tuple(allowed)

    def objection(self, case: Case) -> str | None:
        """That the machine is another one."""
        assert case.stored is not None
        keys = baseline.machine_keys(case.stored.last.machine, case.head[-1].machine, self.allowed)
        if not keys:
            return None
        names = ",".join(text.partition(" ")[0] for text in keys)
        return f"the base is of another machine: {'; '.join(keys)} (--allow {names} compares all the same)"


@contextlib.contextmanager
def opened(
    against: str | None, study: Study, kind: str, workloads: Sequence[StepTime], source: str, allowed: Sequence[str]
) -> Iterator[Base]:
    """What ``against`` names, for as long as it is needed.

    Raises:
        NfbenchError: it is nothing of the three, or cannot be used.
    """
    if against is not None and not against.strip():
        raise NfbenchError("--against is empty.", why="In GitHub, github.base_ref is set for pull requests only.")
    if against is None:
        place = _here(source)
        yield Base("itself", Sides(place, place))
    elif _is_results(against):
        yield _results(against, study, kind, workloads, source, allowed)
    elif (python := _python(against)) is not None:
        here = _here(source)
        version = _probe(python)
        base = Base(f"{against} (nfbench {version})", Sides(here._replace(python=python), here))
        base.may_be_new = False
        yield base
    else:
        with merge_base(against) as tree:
            yield _ref(against, tree, study, kind, source)


def _here(source: str) -> Place:
    if not source:
        return Place(guarded=True)
    folder = resolved(Path(source))
    if not folder.is_dir():
        raise NfbenchError(f"--source {source} is no folder here.", try_="--source src")
    return Place(path=(folder,), guarded=True)


def _is_results(against: str) -> bool:
    path = Path(against)
    if path.is_dir():
        return next(path.rglob("*.jsonl"), None) is not None or not is_ref(against)
    return path.suffix == ".jsonl" or (path.is_file() and not os.access(path, os.X_OK))


def _python(against: str) -> str | None:
    """The interpreter of that name; None where it names none, or a git ref as well."""
    path = Path(against)
    if path.is_file() and os.access(path, os.X_OK):
        return str(path.absolute())  # not resolved: an environment's Python is a link
    looks = path.name.startswith("python")
    if looks and os.sep not in against and not is_ref(against) and (found := shutil.which(against)):
        return found
    if looks and not is_ref(against):
        raise NfbenchError(f"There is no Python {against}.", try_="--against path/to/environment/bin/python")
    return None


def _probe(python: str) -> str:
    """The version of nfbench that ``python`` holds."""
    try:
        done = subprocess.run(
            [python, "-c", "import nfbench.studies.worker, nfbench; print(nfbench.__version__)"],
            env=child_environment(own=False),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NfbenchError(f"{python} does not start: {error}.", try_="--against with a Python that runs") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise NfbenchError(
            f"{python} cannot run nfbench.", why=last[:300], try_=f"{python} -m pip install nfbench, with its torch"
        )
    return done.stdout.strip().splitlines()[-1]


def _results(
    against: str, study: Study, kind: str, workloads: Sequence[StepTime], source: str, allowed: Sequence[str]
) -> Results:
    store = f"nfbench check {study.name} --out base.jsonl, whose file can be the base of the next"
    try:
        loaded = load([Path(against)])
    except BadResults as error:
        raise BadResults(error.what, why=error.why, try_=store) from error
    check_alike(f"--against {against}", loaded.results, is_simulated(kind), store)
    stored = baseline.stored(loaded.results, study.name)
    if not any(key(workload) in stored for workload in workloads):
        there = ", ".join(sorted({s.last.workload.model for s in stored.values()})[:5])
        others = ", ".join(sorted({r.study for r in loaded.results if r.study}))
        holds = there or (f"rows of {others}" if others else "no step times")
        raise NfbenchError(
            f"{against} has no row of {study.name}'s workloads.",
            why=f"It holds {holds}; rows pair where every setting is equal.",
            try_=store,
        )
    base = Results(f"stored results, {against}", Sides(None, _here(source)), stored, allowed)
    if loaded.broken:
        base.notes.append(f"Skipped {len(loaded.broken)} broken lines of {against}: {loaded.broken[0]}")
    if loaded.repeated:
        base.notes.append(f"{loaded.repeated} rows of {against} are there more than once, and count once.")
    base.workloads = [s.last.step for s in stored.values()]
    return base


def _ref(ref: str, tree: Worktree, study: Study, kind: str, source: str) -> Ref:
    below = resolved(Path.cwd()).relative_to(resolved(tree.root))
    folder = tree.base_root / below
    if source and not (tree.root / source).is_dir():
        raise NfbenchError(f"--source {source} is no folder of the repository.", try_="--source src")
    sides = Sides(
        Place(
            path=(tree.base_root / source,),
            folder=folder if folder.is_dir() else tree.base_root,
            other_tree=tree.root,
            guarded=True,
        ),
        Place(path=(tree.root / source,), guarded=True),
    )
    base = Ref(f"{tree.base[:7]}, the merge base of {ref} and HEAD", sides, tree)
    if tree.changed:
        files = " and ".join(tree.changed)
        base.notes.append(f"{files} differs between base and head: only code was compared, in the head's environment.")
    if source and not (tree.base_root / source).is_dir():
        base.notes.append(f"The base has no {source}: its packages are looked for where the head's are installed.")
    if tree.base == tree.head:
        base.notes.append(
            "The merge base is HEAD itself: what differs is what is not committed."
            if tree.dirty
            else "The merge base is HEAD itself and nothing is uncommitted: both sides are the same code. "
            "After a push, --against HEAD~1 names the commit before."
        )
    for package in dict.fromkeys(step.model.partition(":")[0].partition(".")[0] for step in study.steps(kind)):
        here, below_src = (
            any((folder / f"{package}{end}").exists() for end in ("", ".py"))
            for folder in (tree.root, tree.root / "src")
        )
        if not source and below_src and not here:
            base.notes.append(f"{package} is in src: --source src puts it first on the workers' paths.")
    _add_study(base, study, kind)
    return base


def _add_study(base: Ref, study: Study, kind: str) -> None:
    """Note what the base's own study has, where it has one.

    Raises:
        BadStudy: the study is a link or outside of the repository, where the base's would be another file.
    """
    root, path = resolved(base.tree.root), Path(os.path.normpath(Path.cwd() / study.path))
    if study.path in shipped().values():
        return
    for place in (path, *path.parents):
        if resolved(place) == root and not place.is_symlink():
            break
        if place.is_symlink() and resolved(place.parent).is_relative_to(root):
            leads = os.path.relpath(resolved(path))
            raise BadStudy(
                f"The study {study.path} is a link, or in a folder that is one.",
                why="The base's study would be another file, and what is missing would not show.",
                try_=f"nfbench check {leads}",
            )
    else:
        raise BadStudy(
            f"The study {study.path} is not in the repository.",
            why="It is compared with the same file of the base.",
            try_="a study that git tracks, or one of nfbench run --list",
        )
    theirs = base.tree.base_root / path.relative_to(place)
    if not theirs.is_file():
        return
    try:
        read_study = read(theirs)
        base.workloads, base.counts_only = list(read_study.steps(kind)), read_study.counts_only
    except BadStudy as error:
        base.notes.append(
            f"The base's {study.path.name} cannot be read, so nothing is known to be missing: {error.what}"
        )


def _digests(folder: Path) -> dict[str, str]:
    """A digest of every file below ``folder`` but git's own, by its path; of a link, where it leads."""
    digests = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        try:
            if path.is_symlink():
                digests[name] = f"-> {path.readlink()}"
            elif path.is_file() and name != ".git":
                with path.open("rb") as file:
                    digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            digests[name] = f"cannot be read: {error.strerror}"
    return digests


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
