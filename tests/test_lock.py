from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from make import Quiet

from nfbench.devices.base import World
from nfbench.devices.fake import FakeDevice
from nfbench.errors import DeviceUnavailable, UnsupportedWorkload
from nfbench.measuring.lock import lock_file, only_one
from nfbench.measuring.measure import measure
from nfbench.measuring.outcome import Watch
from nfbench.records import Resolved, Sampling, StepTime


@pytest.fixture(autouse=True)
def runtime_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NFBENCH_TEST_LOCKS", str(tmp_path))


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


@pytest.mark.parametrize("name", ["XDG_RUNTIME_DIR", "TMPDIR", "TMP"])
def test_the_place_of_a_lock_hangs_on_no_environment(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NFBENCH_TEST_LOCKS")
    monkeypatch.setenv(name, str(tmp_path))
    assert lock_file("card").parent == Path("/tmp")


def test_a_lock_is_every_user_s_whatever_the_umask() -> None:
    before = os.umask(0o077)
    try:
        with only_one("card", Watch()):
            assert lock_file("card").stat().st_mode & 0o777 == 0o666
    finally:
        os.umask(before)


def trap_link(file: Path, victim: Path) -> None:
    file.symlink_to(victim)


def trap_second_name(file: Path, victim: Path) -> None:
    file.hardlink_to(victim)


def trap_pipe(file: Path, victim: Path) -> None:
    os.mkfifo(file)


def trap_content(file: Path, victim: Path) -> None:
    file.write_text("precious")


@pytest.mark.parametrize("trap", [trap_link, trap_second_name, trap_pipe, trap_content])
def test_a_trap_in_the_place_of_a_lock_is_not_written_to(trap: Callable[[Path, Path], None], tmp_path: Path) -> None:
    victim, notes = tmp_path / "victim", Quiet()
    victim.write_text("precious")
    trap(lock_file("card"), victim)
    with only_one("card", notes):
        pass
    assert victim.read_text() == "precious" and len(notes.notes) == 1
    assert not lock_file("card").is_file() or lock_file("card").read_text() == "precious"


def test_max_time_bounds_the_wait() -> None:
    with (
        only_one("card", Watch()),
        pytest.raises(DeviceUnavailable, match="for longer than --max-time") as refused,
        only_one("card", Watch(), longest=0.01),
    ):
        pass
    assert refused.value.what.startswith(f"Process {os.getpid()} has timed")


def test_what_the_device_refuses_is_said_before_anybody_is_waited_for() -> None:
    class Busy(FakeDevice):
        def lock_name(self) -> str | None:
            return "card"

        def resolve(self, workload: StepTime) -> Resolved:
            raise UnsupportedWorkload("no such precision")

    with only_one("card", Watch()), pytest.raises(UnsupportedWorkload):
        measure(Busy(), StepTime(model="tiny-nfnet"), Sampling(), [].append)


def test_a_lock_that_cannot_be_had_is_said_and_the_timing_goes_on(tmp_path: Path) -> None:
    lock_file("card").mkdir()
    notes = Quiet()
    with only_one("card", notes):
        pass
    assert notes.notes == ["No lock on the device (Is a directory): another timing may run beside this one."]
