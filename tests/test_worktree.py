"""The merge base of a ref as a worktree."""

from __future__ import annotations

from pathlib import Path

import pytest
from repository import Repository

from nfbench.errors import NfbenchError
from nfbench.studies import against


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    made = Repository(tmp_path / "repository")
    monkeypatch.chdir(made.folder)
    return made


def test_the_worktree_holds_the_merge_base_and_is_gone_afterwards(repository: Repository) -> None:
    first = repository.git("rev-parse", "base")
    repository.git("checkout", "-q", "base")
    repository.write("later.py", "")
    repository.commit("on the base branch, after the two parted")
    repository.git("checkout", "-q", "main")
    repository.net(sleep=0.5)
    head = repository.commit("slower")
    with against.merge_base("base") as tree:
        assert (tree.base, tree.head) == (first, head)
        assert "sleep = 0.0" in (tree.base_root / "mynet.py").read_text()
        assert not (tree.base_root / "later.py").exists()
        assert tree.changed == ()
    assert not tree.base_root.exists()
    assert len(repository.git("worktree", "list").splitlines()) == 1


def test_it_goes_also_where_an_error_ends_it(repository: Repository) -> None:
    with pytest.raises(ZeroDivisionError), against.merge_base("base") as tree:
        raise ZeroDivisionError
    assert not tree.base_root.exists()
    assert len(repository.git("worktree", "list").splitlines()) == 1


def test_what_is_installed_is_named_where_it_differs_committed_or_not(repository: Repository) -> None:
    repository.write("pyproject.toml", "[project]\n")
    repository.commit("with a project")
    with against.merge_base("base") as tree:
        assert tree.changed == ("pyproject.toml",)
    repository.git("branch", "-f", "base")
    repository.write("requirements.txt", "torch\n")
    with against.merge_base("base") as tree:
        assert tree.changed == ()  # not tracked
    repository.write("pyproject.toml", "[project]\nname = 'x'\n")
    with against.merge_base("base") as tree:
        assert tree.changed == ("pyproject.toml",)


def test_a_ref_that_does_not_exist_is_named(repository: Repository) -> None:
    with pytest.raises(NfbenchError) as error, against.merge_base("origin/main"):
        pass
    assert str(error.value).startswith("There is no git ref, Python or results called 'origin/main'.")
    assert error.value.try_ == "git fetch origin main"


def test_histories_without_a_common_commit_are_said_to_be_shallow(repository: Repository) -> None:
    repository.git("checkout", "-q", "--orphan", "island")
    repository.commit("alone")
    words = r"base and HEAD have no common commit here\.[\s\S]*fetch-depth: 0"
    with pytest.raises(NfbenchError, match=words), against.merge_base("base"):
        pass


def test_outside_a_repository_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NfbenchError, match=r"is in no git repository\."), against.merge_base("main"):
        pass


def test_without_git_it_is_said(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert not against.is_ref("base")
    with pytest.raises(NfbenchError, match="git is not installed"), against.merge_base("base"):
        pass


def test_a_hooks_git_dir_does_not_answer_for_another_repository(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Repository(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    with against.merge_base("base") as tree:
        assert tree.root == repository.folder.resolve()
