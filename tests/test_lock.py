from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from make import Quiet

from nfbench.devices.base import World
from nfbench.measuring.lock import lock_file, only_one
from nfbench.measuring.outcome import Watch


@pytest.fixture(autouse=True)
def runtime_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def test_the_second_waits_and_says_for_whom() -> None:
    first, second = Quiet(), Quiet()
    order: list[str] = []

    def late() -> None:
        with only_one("card", second):
            order.append("second")

    with only_one("card", first):
        thread = threading.Thread(target=late)
        thread.start()
        deadline = time.monotonic() + 10
        while not second.notes and time.monotonic() < deadline:
            time.sleep(0.01)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert first.notes == [] and len(second.notes) == 1
    assert second.notes[0].startswith("Waiting for process ")


def test_two_devices_do_not_wait_for_each_other_and_no_name_needs_no_lock(tmp_path: Path) -> None:
    with only_one("GPU-1234", Watch()), only_one("b", Watch()), only_one(None, Watch()):
        names = [path.name for path in tmp_path.iterdir()]
    assert len(names) == 2 and not any("1234" in name for name in names)


def test_a_rank_has_its_lock_before_the_next_takes_its_turn() -> None:
    class Turns(World):
        """Looks whether the card is taken when the turn ends."""

        def __init__(self) -> None:
            self.taken: list[bool] = []

        @contextlib.contextmanager
        def in_turn(self) -> Iterator[None]:
            yield
            handle = os.open(lock_file("card"), os.O_RDWR)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.taken.append(False)
            except BlockingIOError:
                self.taken.append(True)
            finally:
                os.close(handle)

    turns = Turns()
    with only_one("card", Watch(), turns):
        assert turns.taken == [True]


def test_a_lock_that_cannot_be_had_is_said_and_the_timing_goes_on(tmp_path: Path) -> None:
    lock_file("card").mkdir()
    notes = Quiet()
    with only_one("card", notes):
        pass
    assert notes.notes == ["No lock on the device (Is a directory): another timing may run beside this one."]
