"""Links in a terminal: what they point to, and that nothing but a terminal gets them."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from conftest import Cli
from test_chart import Terminal

from nfbench.showing.links import can_link, linked

LINK = re.compile(r"\x1b\]8;;(?P<url>[!-~]+)\x1b\\(?P<text>[^\x1b]*)\x1b\]8;;\x1b\\")


@pytest.fixture(autouse=True)
def terminal_with_links(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("CI", raising=False)


@pytest.mark.parametrize(
    "name",
    [
        "plain.jsonl",
        "two words.jsonl",
        "Größe-漢字.jsonl",
        "100%25.jsonl",
        "a#b?c;d.jsonl",
        "\x1b\\\x1b]8;;http:x\x07",
        "a\nb",
    ],
)
def test_a_link_points_to_the_file_whatever_its_name(name: str, in_empty_folder: Path) -> None:
    match = LINK.fullmatch(linked(Path(name), Terminal()))
    assert match is not None
    url = match["url"]
    assert url.startswith("file:///")
    assert unquote_to_bytes(url.removeprefix("file://")) == os.fsencode(in_empty_folder / name)


def test_the_text_of_a_link_is_the_path_as_it_was_typed() -> None:
    match = LINK.fullmatch(linked(Path("results/a b.jsonl"), Terminal()))
    assert match is not None and match["text"] == str(Path("results/a b.jsonl"))


def test_a_name_with_control_characters_cannot_end_its_link() -> None:
    match = LINK.fullmatch(linked(Path("a\x1b\\\x07\x9cb"), Terminal()))
    assert match is not None and match["text"].isprintable()


def test_a_pipe_gets_the_path_and_nothing_else() -> None:
    assert linked(Path("a b"), io.StringIO()) == "a b"


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("TERM", "linux"), ("TERM", ""), ("CI", "true")])
def test_a_terminal_without_links_or_a_job_of_ci_gets_none(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert can_link(Terminal())
    monkeypatch.setenv(name, value)
    assert not can_link(Terminal())


def test_a_command_says_where_its_results_are_with_a_link(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from nfbench.cli import main

    out, err = io.StringIO(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    args = ["step-time", "--quiet", "--device", "fake", "--model", "tiny-nfnet", "--out", "a folder"]
    main.main(args, prog_name="nfbench", standalone_mode=False)
    match = LINK.search(err.getvalue())
    assert match is not None and match["text"].startswith("a folder")
    assert Path(unquote_to_bytes(match["url"].removeprefix("file://")).decode()).is_file()
    assert "\x1b" not in out.getvalue()


def test_what_is_piped_holds_no_escape(cli: Cli) -> None:
    done = cli("batch-sweep", "--device", "fake", "--model", "tiny-nfnet", "--batch", "2,4", "--out", "r")
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.stdout + done.stderr
    assert re.search(r"^2 results in r\S+\.jsonl$", done.stderr, re.M)
