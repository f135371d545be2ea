"""What reaches a terminal: links, no raw control characters, no workflow command of GitHub that comes from outside."""

from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest

from nfbench.cli import main
from nfbench.showing.screen import linked

LINK = re.compile(r"\x1b\]8;id=\d+;(?P<url>[!-~]+)\x1b\\(?P<text>[^\x1b]*)\x1b\]8;;\x1b\\")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def terminal_with_links(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("CI", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "name", ["two words.jsonl", "Größe-漢字.jsonl", "100%25#b?c;d", "\x1b\\\x1b]8;;http:x\x07", "a\nb"]
)
def test_a_link_points_to_the_file_whatever_its_name_which_cannot_end_it(name: str, in_empty_folder: Path) -> None:
    match = LINK.fullmatch(linked(Path(name), Terminal()))
    assert match is not None and match["url"].startswith("file:///")
    assert unquote_to_bytes(match["url"].removeprefix("file://")) == os.fsencode(in_empty_folder / name)
    assert match["text"].isprintable() and (match["text"] == name or not name.isprintable())


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("TERM", "unknown"), ("CI", "true")])
def test_without_links_the_path_is_all_there_is(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert linked(Path("a b"), io.StringIO()) == "a b" != linked(Path("a b"), Terminal())
    monkeypatch.setenv(name, value)
    assert linked(Path("a b"), Terminal()) == "a b"


def test_a_command_says_where_its_results_are_with_a_link_and_pipes_no_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    args = ["step-time", "--quiet", "--device", "fake", "--model", "tiny-nfnet", "--out", "a folder"]
    main.main(args, prog_name="nfbench", standalone_mode=False)
    match = LINK.search(err.getvalue())
    assert match is not None and match["text"].startswith("a folder")
    assert Path(unquote_to_bytes(match["url"].removeprefix("file://")).decode()).is_file()
    assert "\x1b" not in out.getvalue()


def test_a_stream_that_cannot_write_a_rule_of_a_table_gets_a_question_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="latin-1"))
    main.main(["models", "--family", "tiny"], prog_name="nfbench", standalone_mode=False)
    sys.stdout.flush()
    assert b"tiny-nfnet" in raw.getvalue() and b"?" in raw.getvalue()
