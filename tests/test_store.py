from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from make import accuracy, keep, result

from nfbench.analysis import findings
from nfbench.analysis.rows import choose
from nfbench.analysis.store import Writer, load, mend, new_id, own_files, replacing, sweep
from nfbench.errors import BadResults
from nfbench.records import Result, to_json


def test_a_folder_gets_a_new_file_each_run(tmp_path: Path) -> None:
    first, second = Writer(tmp_path / "out"), Writer(tmp_path / "out")
    first.write(result("resnet50"))
    second.write(result("resnet26"))
    assert first.path != second.path
    assert first.path.suffix == ".jsonl"
    # of 3,000 sessions in a second none takes another's name; files of older ones had four digits
    assert len({new_id() for _ in range(3000)}) == 3000
    older = tmp_path / "out" / "20260101T000000Z-0a1b.jsonl"
    older.touch()
    assert own_files(tmp_path / "out") == [older, *sorted([first.path, second.path])]
    assert {r.workload.model for r in load([tmp_path]).results} == {"resnet50", "resnet26"}


def test_no_file_appears_before_there_is_a_result(tmp_path: Path) -> None:
    Writer(tmp_path / "out")
    Writer(tmp_path / "named.jsonl")
    assert list(tmp_path.rglob("*.jsonl")) == []


def test_a_result_and_the_name_of_a_new_file_are_synced_once_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out" / "named.jsonl"
    synced: list[tuple[Path, bytes]] = []

    def sync(handle: int) -> None:
        (place,) = (place for place in (path, path.parent) if os.path.samestat(os.fstat(handle), place.stat()))
        synced.append((place, path.read_bytes()))

    monkeypatch.setattr(os, "fsync", sync)
    writer = Writer(path)
    writer.write(result("resnet26"))
    one = path.read_bytes()
    assert one and synced == [(path, one), (path.parent, one)]
    writer.write(result("resnet50"), result("resnet101"))
    assert synced[2:] == [(path, path.read_bytes())] != [(path, one)]


@pytest.mark.parametrize("locks", [True, False])
@pytest.mark.parametrize("fails", ["write", "fsync"])
def test_where_the_disk_is_full_for_one_writer_the_row_of_another_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool, fails: str
) -> None:
    """The other appends after the first has looked at the size and before the disk refuses its line."""
    path = tmp_path / "x.jsonl"
    full, other = Writer(path), Writer(path)
    full.write(result("resnet26", id="first"))
    really = {"write": os.write, "fsync": os.fsync}
    beside: list[threading.Thread] = []

    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    def fail(handle: int, data: bytes = b"") -> int | None:
        if beside or (fails == "write" and b"lost" not in data):
            return really[fails](handle, data) if fails == "write" else really[fails](handle)
        beside.append(threading.Thread(target=other.write, args=[result("resnet50", id="told")]))
        beside[0].start()
        beside[0].join(0.3)
        if fails == "write":
            really["write"](handle, data[:50])
        raise OSError(errno.ENOSPC, "No space left on device")

    if not locks:
        monkeypatch.setattr(fcntl, "fcntl", refused)
    monkeypatch.setattr(os, fails, fail)
    with pytest.raises(BadResults):
        full.write(result("resnet101", id="lost"))
    monkeypatch.setattr(os, fails, really[fails])
    beside[0].join()
    full.write(result("resnet152", id="last"))
    assert {r.id for r in load([path]).results} - {"lost"} == {"first", "told", "last"}
    if locks:
        assert len(path.read_bytes().splitlines()) == 3


def test_results_cut_at_every_byte_of_the_last_line_lose_no_sound_row(tmp_path: Path) -> None:
    lines = [to_json(result(model, id=model)) + b"\n" for model in ("resnet26", "resnet50", "resnet101")]
    whole = b"".join(lines)
    for cut in range(len(lines[-1]) + 1):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(whole[: len(whole) - cut])
        Writer(path).write(result("resnet152"))
        loaded = load([path])
        # without its newline the last line is still a sound row
        kept = ["resnet26", "resnet50", *(["resnet101"] if cut <= 1 else []), "resnet152"]
        assert sorted(r.workload.model for r in loaded.results) == sorted(kept)
        assert len(loaded.broken) == (0 if cut <= 1 or cut == len(lines[-1]) else 1)


def test_broken_lines_are_named_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl"
    path.write_bytes(b'{"schema":1,"id"\n' + to_json(result()) + b'\n{"schema":1}\n\xff\xfe\n')
    loaded = load([path])
    assert len(loaded.results) == 1
    assert [b.line for b in loaded.broken] == [1, 3, 4]
    assert loaded.broken[0].why == "broken or cut off"
    assert loaded.broken[1].why.startswith("no result of nfbench (Object missing required field")


def test_a_file_without_one_sound_line_is_an_error_that_counts(tmp_path: Path) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text("nonsense\n{}\n")
    with pytest.raises(BadResults) as caught:
        load([path])
    assert caught.value.what == f"No result in {path}: 2 broken lines."
    assert "nfbench step-time" in caught.value.try_


def test_what_a_newer_nfbench_wrote_is_no_broken_line_though_this_one_cannot_read_it(tmp_path: Path) -> None:
    path = tmp_path / "new.jsonl"
    newer = to_json(result()).replace(b'"schema":1', b'"schema":2', 1).replace(b'"status":"ok"', b'"status":"splendid"')
    path.write_bytes(b"nonsense\n" + newer)
    with pytest.raises(BadResults, match=r"new\.jsonl, line 2: written by a newer nfbench: its schema is 2"):
        load([path])


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        ("resolved", "micro_batch", 0),
        ("resolved", "px", -1),
        ("workload", "batch", 0),
        ("workload", "micro_batch", 0),
        ("workload", "world_size", 0),
        ("resolved", None, None),
    ],
)
@pytest.mark.parametrize("of", [result, accuracy])
def test_a_row_of_which_no_figure_can_be_made_is_a_broken_line(
    tmp_path: Path, of: Callable[..., Result], place: str, name: str | None, value: object
) -> None:
    row = msgspec.json.decode(to_json(of("tiny-resnet-s")))
    if name is None:
        del row[place]
    else:
        row[place][name] = value
    path = tmp_path / "x.jsonl"
    path.write_bytes(to_json(result("resnet26")) + b"\n" + msgspec.json.encode(row) + b"\n")
    loaded = load([path])
    assert len(loaded.results) == 1 and place in loaded.broken[0].why


def test_a_line_that_is_cut_off_is_broken_whichever_nfbench_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / "cut.jsonl"
    newer = to_json(result()).replace(b'"schema":1', b'"schema":2', 1)
    path.write_bytes(to_json(result()) + b"\n" + newer[:-5])
    assert [(b.line, b.why) for b in load([path]).broken] == [(2, "broken or cut off")]


@pytest.mark.parametrize("beginning", [b'{"schema":1,"more":', b'{"schema":1,"status":1,"more":'])
def test_a_line_of_a_million_brackets_is_a_broken_one(tmp_path: Path, beginning: bytes) -> None:
    path = tmp_path / "deep.jsonl"
    path.write_bytes(to_json(result()) + b"\n" + beginning + b"[" * 10**6)
    assert [str(b) for b in load([path]).broken] == [f"{path}, line 2: broken or cut off"]
    assert mend([path]) == 1
    assert path.read_bytes() == to_json(result()) + b"\n"


def test_a_file_that_was_mended_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synced = tmp_path / "cut.jsonl", list[bytes]()
    path.write_bytes(to_json(result()) + b"\n" + to_json(result())[:-5])
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.pread(handle, 10**6, 0)))
    assert mend([path]) == 1 and synced == [to_json(result()) + b"\n"]


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    path = tmp_path / "edited.jsonl"
    line = to_json(result())
    path.write_bytes(b"\xef\xbb\xbf" + line + b"\r\n\r\n  \r\n\xef\xbb\xbf" + line + b"\n" + b"x" * 10**6)
    loaded = load([path])
    assert len(loaded.results) == 1
    assert [b.line for b in loaded.broken] == [4, 5]


def test_results_are_in_order_of_their_start_and_copies_count_once(tmp_path: Path) -> None:
    late, early = (result(start=f"2026-01-0{day}T00:00:00.000Z", id=str(day)) for day in (2, 1))
    # one id in two workloads is two results
    other = result("resnet26", start=early.start, id=early.id)
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(to_json(r) for r in (late, early)))
    (tmp_path / "b.jsonl").write_bytes(b"\n".join(to_json(r) for r in (other, late)))
    loaded = load([tmp_path])
    assert loaded.results == [early, other, late]
    assert loaded.repeated == 1


def test_a_row_that_begins_in_the_future_gives_way_to_all_others_and_says_so(tmp_path: Path) -> None:
    ahead, fresh = result(start="2999-01-01T00:00:00.000Z"), result(id="20260101T000001Z-0000")
    ahead = msgspec.structs.replace(ahead, software=msgspec.structs.replace(ahead.software, torch="1.0"))
    keep(tmp_path / "a.jsonl", [fresh, ahead])
    assert list(load([tmp_path]).results) == [ahead, fresh]
    assert choose([ahead, fresh]).groups == choose([fresh, ahead]).groups == [[fresh]]
    (finding,) = findings.of(ahead)
    assert finding.code == "future_start" and "Its start time, 2999-01-01 00:00, is in the future." in finding.message
    assert findings.of(fresh) == []


def test_a_folder_is_read_recursively_and_a_file_named_twice_counts_once(tmp_path: Path) -> None:
    Writer(tmp_path / "a" / "b").write(result())
    assert len(load([tmp_path, tmp_path / "a"]).results) == 1


def test_out_that_is_no_folder_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BadResults, match=r"neither a folder nor a \.jsonl file"):
        Writer(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_part_goes_at_the_next_run_once_its_writer_is_dead(tmp_path: Path) -> None:
    names = (".a.png.0123abcd.part", ".b.png.0123abcd.part", "seed-0.4711.part", "film.part", ".mine.part")
    for name in names:
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (0, 0))
    with replacing(tmp_path / "c.png") as written:
        os.utime(written, (0, 0))
        sweep(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([written.name, "film.part", ".mine.part"])
        written.write_text("whole")
    assert (tmp_path / "c.png").read_text() == "whole"
    with pytest.raises(RuntimeError), replacing(tmp_path / "c.png") as written:
        written.write_text("half")
        raise RuntimeError
    assert (tmp_path / "c.png").read_text() == "whole" and not written.exists()
