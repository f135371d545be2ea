"""The ranks that torchrun started, and a device for each.

::

    rank 1 fails ──▶ "failed" in the store ──▶ the guard of rank 0: its row is kept, "done" ──▶ every rank ends

What ranks agree on goes through torchrun's own TCP store, gradients through nccl or gloo: no second network has to be
found, and a rank that waits in the store can be told that another has failed. One that waits inside a collective, which
never returns, has a guard beside it. A rank that was killed says nothing: then torchrun sends SIGTERM to the others,
and rank 0 looks which of them is gone.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import psutil
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, TCPStore
from torch.distributed.rendezvous import rendezvous

from nfbench.devices.base import Device, Failure, Place, RankFailed, World, enter_world, last_words
from nfbench.devices.choose import choose
from nfbench.errors import DeviceUnavailable, NfbenchError, Terminated
from nfbench.records import Result, Status

_T = TypeVar("_T")

PATIENCE = timedelta(hours=2)
"""A collective may wait for a rank that compiles; one that has failed is noticed otherwise."""
FOREVER = timedelta(days=7)
"""Waiting for other timings on the same device."""

PACE = 1.0
"""Seconds between two looks: one small question to the store each."""
GRACE = 3.0
"""Seconds that a rank is given to come to its own end, such as the same error or a connection that is lost."""
LAST_WORD = timedelta(seconds=20)
"""A failed rank stays until rank 0 has written its row: less than torchrun's patience, 30 s."""
_joins = itertools.count()


def open_on_ranks(wanted: str, here: Place) -> Device:
    """This rank's device for ``auto``, ``cpu`` or ``cuda``, once it has met the others.

    Raises:
        DeviceUnavailable: there is none for this rank, or the others cannot be reached.
    """
    if re.fullmatch(r"cuda:\d+", wanted):
        raise DeviceUnavailable(
            f"--device {wanted} is one GPU, and torchrun started {here.size} processes.",
            why="Each of them takes the GPU of its local rank.",
            try_="--device auto, with CUDA_VISIBLE_DEVICES to choose among the GPUs",
        )
    if wanted == "fake":
        raise DeviceUnavailable("The fake device is one process.", try_="nfbench without torchrun")
    ranks = Ranks(here)
    enter_world(ranks)
    kind, _ = choose(wanted)
    if kind == "cpu":
        from nfbench.devices.cpu import Cpu

        device: Device = Cpu()
        ranks.connect(torch.device("cpu"), None)
    else:
        from nfbench.devices.cuda import Cuda

        # some launchers show each process one card only; whether two share one is told by the cards
        index = 0 if torch.cuda.device_count() == 1 else here.local_rank
        choose(f"cuda:{index}")
        card = device = Cuda(index)
        ranks.connect(card.torch_device, card.uuid)
        # what NCCL has taken by now is no other's
        card.context = card.taken()
    device.world = ranks
    return device


class Ranks(World):
    """Several processes that share a batch.

    Raises:
        DeviceUnavailable: the others cannot be reached.
    """

    def __init__(self, place: Place) -> None:
        self.rank, self.size, self.local_rank, self.nodes, _ = place
        self.place = place
        prefix = f"nfbench/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{next(_joins)}"
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        try:
            store, _, _ = next(rendezvous("env://", self.rank, self.size, timeout=PATIENCE))
            # a call that waits holds its connection, so the guard has one of its own
            beside = TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=PATIENCE)
        except (dist.DistError, RuntimeError, ValueError) as error:
            raise DeviceUnavailable(
                f"Rank {self.rank} cannot reach the others.",
                why=str(error).partition("\n")[0],
                try_="torchrun --rdzv-backend c10d --rdzv-endpoint HOST:PORT with a host that every node reaches",
            ) from error
        self.store = PrefixStore(prefix, store)
        self.number = 0
        self.local: tuple[int, ...] = (os.getpid(),)
        self.agreed: list[str] = []
        self.guard = Guard(self.rank, self.size, PrefixStore(prefix, beside))
        self.guard.start()

    def connect(self, device: Any, card: str | None) -> None:
        """Make the process group: nccl between GPUs, gloo between CPUs. ``card`` names this rank's GPU.

        Raises:
            DeviceUnavailable: two ranks have the same card, or some a GPU and some a CPU.
        """
        mine = [device.type, socket.gethostname(), card, os.getpid()]
        everyone = [json.loads(v) for v in self._everyone(json.dumps(mine).encode())]
        if len({kind for kind, _, _, _ in everyone}) > 1:
            raise DeviceUnavailable("Some ranks have a GPU and some have none.", try_="--device cpu, or a GPU for each")
        self.local = tuple(process for _, host, _, process in everyone if host == mine[1])
        cards = [(host, name) for _, host, name, _ in everyone]
        if card is not None and len(set(cards)) < len(cards):
            first = next(r for r, own in enumerate(cards) if own in cards[:r])
            raise DeviceUnavailable(
                f"Ranks {cards.index(cards[first])} and {first} would share a GPU.",
                why="Each rank needs one of its own.",
                try_=f"torchrun --nproc-per-node {max(1, len({c for c in cards if c[0] == cards[first][0]}))}",
            )
        self.backend = "gloo" if device.type == "cpu" else "nccl"
        options: dict[str, Any] = {} if device.type == "cpu" else {"device_id": device}
        dist.init_process_group(
            self.backend,
            store=PrefixStore("group", self.store),
            rank=self.rank,
            world_size=self.size,
            timeout=PATIENCE,
            **options,
        )

    @property
    def processes(self) -> tuple[int, ...]:
        return self.local

    def agree(self, value: _T) -> _T:
        key = self._next("a")
        if self.first:
            self.store.set(key, json.dumps(value))
            self.agreed.append(key)
            return value
        found: _T = json.loads(self._wait(key))
        return found

    def least(self, value: int) -> int:
        found = self.gather(str(value).encode())
        return self.agree(min(map(int, found)) if self.first else value)

    def gather(self, value: bytes) -> list[bytes]:
        key = self._next("g")
        if not self.first:
            self.store.set(f"{key}/{self.rank}", value.decode())
            return []
        found = [value]
        for rank in range(1, self.size):
            found.append(self._wait(f"{key}/{rank}"))
            self.store.delete_key(f"{key}/{rank}")
        # who has come here has read what was agreed on before
        for old in self.agreed:
            self.store.delete_key(old)
        self.agreed.clear()
        return found

    def total(self, values: Sequence[float]) -> list[float]:
        found = [json.loads(part) for part in self.gather(json.dumps(list(values)).encode())]
        return self.agree([sum(column) for column in zip(*found, strict=True)])

    def barrier(self) -> None:
        self.gather(b"")
        self.agree(None)

    @contextlib.contextmanager
    def in_turn(self) -> Iterator[None]:
        key = self._next("t")
        if self.rank:
            self._wait(f"{key}/{self.rank - 1}")
        yield
        self.store.set(f"{key}/{self.rank}", "")
        self.barrier()

    @contextlib.contextmanager
    def on_failure(self, keep: Callable[[Status, str], None]) -> Iterator[None]:
        with self.guard.keeping(keep):
            yield

    def blame(self, status: Status, message: str) -> tuple[Status, str]:
        return self.guard.blame(Failure(self.rank, status, message))

    def blame_stop(self) -> tuple[Status, str | None]:
        return self.guard.blame_stop()

    def refuse(self, error: Exception) -> None:
        if isinstance(error, NfbenchError):
            worded = error.what, error.why, error.try_
        else:
            worded = f"A fault of nfbench, not yours: {type(error).__name__}: {error}", "", ""
        if not isinstance(error, RankFailed):
            self.guard.tell(Failure(self.rank, "error", worded[0], worded))
        self.guard.ended()

    def end(self, kept: Result) -> None:
        if kept.status != "interrupted":
            raise RankFailed(
                f"{kept.workload.model}: {kept.status.replace('_', ' ')}: {kept.message}.",
                why="The other ranks cannot go on without it, so nothing after it was run.",
            )

    def close(self) -> None:
        self.barrier()
        self.abandon()

    def abandon(self) -> None:
        self.guard.stop()
        if dist.is_initialized() and self.guard.failed() is None:
            dist.destroy_process_group()

    def _next(self, kind: str) -> str:
        self.number += 1
        return f"{kind}{self.number}"

    def _wait(self, key: str) -> bytes:
        self.store.wait([key], FOREVER)
        found: bytes = self.store.get(key)
        return found

    def _everyone(self, value: bytes) -> list[bytes]:
        """Every rank's ``value``, on every rank."""
        found = self.gather(value)
        return [text.encode() for text in self.agree([part.decode() for part in found])]


class Guard:
    """Watches the store for a failure; one for each rank.

    ``keep`` is what rank 0 does with a failure that its main thread cannot come to see. Whoever claims the end first,
    the main thread or this one, sees to it; a main thread that comes too late waits until the process is ended, so that
    one row is kept and not two.
    """

    def __init__(self, rank: int, size: int, store: Any) -> None:
        self.rank, self.size, self.store = rank, size, store
        self.keep: Callable[[Status, str], None] | None = None
        self.claiming = threading.Lock()
        self.claimed_by: int | None = None
        self.asking = threading.Lock()
        self.told: Failure | None = None
        self.wake, self.woken = os.pipe()
        os.set_blocking(self.woken, False)
        self.stopped = False
        self.before = -1
        self.thread = threading.Thread(target=self._watch, name="nfbench guard", daemon=True)
        self.store.set(f"pid/{rank}", json.dumps([socket.gethostname(), os.getpid()]))

    def start(self) -> None:
        """From the main thread: a signal must wake the guard even where no Python code can run."""
        if threading.current_thread() is threading.main_thread():
            self.before = signal.set_wakeup_fd(self.woken, warn_on_full_buffer=False)
        self.thread.start()

    @contextlib.contextmanager
    def keeping(self, keep: Callable[[Status, str], None]) -> Iterator[None]:
        """Inside, ``keep`` is what is done with such a failure. Once it was called nothing that follows runs."""
        self.keep = keep
        try:
            yield
        except NfbenchError:
            raise
        except BaseException:
            # without the claim the guard could end the process between here and the row that this thread is to keep
            self._claim()
            raise
        finally:
            with self.claiming:
                self.keep = None
                late = self.claimed_by not in (None, threading.get_ident())
            if late:
                self._wait_for_the_end()

    def stop(self) -> None:
        """Look no longer."""
        self.stopped = True
        with contextlib.suppress(OSError):
            os.write(self.woken, b"\0")
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(self.before)
        self.thread.join(2 * PACE)

    def tell(self, failure: Failure) -> Failure:
        """Put ``failure`` where all ranks see it, unless one came before it; return the first."""
        with self.asking:
            mine = json.dumps(failure)
            first = self.store.compare_set("failed", "", mine)
        self.told = Failure(*json.loads(first))
        return self.told

    def failed(self) -> Failure | None:
        """The first failure that was told."""
        if self.told is None:
            with self.asking, contextlib.suppress(Exception):
                if self.store.check(["failed"]):
                    self.told = Failure(*json.loads(self.store.get("failed")))
        return self.told

    def blame(self, own: Failure) -> tuple[Status, str]:
        """The first failure of all ranks, ``own`` unless another was told or is gone. Takes a few seconds at most."""
        self._claim()
        until = time.monotonic() + GRACE
        # a lost connection is the consequence of something that the other rank may be about to tell
        lost = any(word in own.message for word in ("onnection", "peer", "NCCL", "gloo", "ocket", "Broken pipe"))
        while lost and self.failed() is None and time.monotonic() < until:
            if (gone := self.gone()) is not None:
                own = _killed(gone)
                break
            time.sleep(0.1)
        first = own
        with contextlib.suppress(Exception):
            first = self.tell(own)
        return first.status, f"rank {first.rank}: {first.message}"

    def blame_stop(self) -> tuple[Status, str | None]:
        """A signal came: `interrupted`, or the failure of a rank that torchrun has found dead."""
        self._claim()
        gone = self.gone() if self.rank == 0 else None
        told = self.failed()
        if gone is None and told is None:
            self._say_stopped()
            return "interrupted", None
        return self.blame(told or _killed(gone or 0))

    def gone(self) -> int | None:
        """A rank of this machine whose process has ended, without having been told to."""
        for rank in range(self.size):
            with self.asking, contextlib.suppress(Exception):
                if rank == self.rank or not self.store.check([f"pid/{rank}"]):
                    continue
                host, pid = json.loads(self.store.get(f"pid/{rank}"))
                if host != socket.gethostname() or self.store.check([f"stopped/{rank}"]):
                    continue
                if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                    return rank
        return None

    def ended(self) -> None:
        """After this rank's last word on a failure: rank 0 lets the others go, they wait for it."""
        self._claim()
        with self.asking, contextlib.suppress(Exception):
            if self.rank == 0:
                self.store.set("done", "")
            else:
                self.store.wait(["done"], LAST_WORD)

    def _claim(self) -> None:
        """See to the end, which a signal may not break off; where the guard does, wait for it."""
        self._go_deaf()
        if not self._is_mine():
            self._wait_for_the_end()

    def _go_deaf(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)

    def _is_mine(self) -> bool:
        """Whether this thread is the first to see to the end."""
        with self.claiming:
            if self.claimed_by is None:
                self.claimed_by = threading.get_ident()
            return self.claimed_by == threading.get_ident()

    def _wait_for_the_end(self) -> NoReturn:
        while True:
            time.sleep(PACE)

    def _watch(self) -> None:
        while not self.stopped:
            ready, _, _ = select.select([self.wake], [], [], PACE)
            signalled = bool(ready) and os.read(self.wake, 64).strip(b"\0") != b""
            if self.stopped:
                return
            if self.failed() is not None or signalled:
                self._end(signalled)

    def _end(self, signalled: bool) -> None:
        until = time.monotonic() + GRACE
        while time.monotonic() < until and not self._is_done():
            if self.stopped or self.claimed_by is not None:
                return
            time.sleep(0.1)
        if not self._is_mine():
            return
        # the main thread hangs in a collective: nothing will come of it any more
        failure = self.failed()
        code = RankFailed.exit_code
        if self.rank == 0:
            if failure is None:
                gone = self.gone()
                code = Terminated.exit_code if gone is None else code
                failure = Failure(0, "interrupted", "SIGTERM") if gone is None else _killed(gone)
            try:
                said = self._last_row(failure)
                self.ended()
                last_words(said)
            finally:
                os._exit(NfbenchError.exit_code if failure.worded else code)
        if failure is None:
            self._say_stopped()
        else:
            self.ended()
        os._exit(0)

    def _say_stopped(self) -> None:
        """Tell the others that this rank ends because it was told to."""
        with self.asking, contextlib.suppress(Exception):
            self.store.set(f"stopped/{self.rank}", "")

    def _is_done(self) -> bool:
        """Whether rank 0 has come to its end, so that nothing is left to wait for."""
        with self.asking, contextlib.suppress(Exception):
            return bool(self.rank and self.store.check(["done"]))
        return False

    def _last_row(self, failure: Failure) -> str:
        """Keep what there is and say why there is no more."""
        if failure.worded is not None:
            what, why, try_ = failure.worded
            said = f"Rank {failure.rank}: {NfbenchError(what, why=why, try_=try_)}"
        else:
            message = f"rank {failure.rank}: {failure.message}"
            said = f"{failure.status.replace('_', ' ')}: {message}."
            if self.keep is not None:
                self.keep(failure.status, message)
        print(said, file=sys.stderr, flush=True)
        return said


def _killed(rank: int) -> Failure:
    return Failure(rank, "error", "it is gone: killed, perhaps by the kernel for want of memory")
