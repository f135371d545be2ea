"""The ranks that torchrun started: what they agree on goes through its store, gradients through nccl or gloo.

The store is torchrun's own TCP store, reachable wherever its rendezvous is: no second network has to be found, and a
rank that waits in it can be told that another has failed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, TCPStore
from torch.distributed.rendezvous import rendezvous

from nfbench.devices.guard import Guard
from nfbench.devices.world import Failure, Place, RankFailed, World
from nfbench.errors import DeviceUnavailable, NfbenchError
from nfbench.records import Result, Status

_T = TypeVar("_T")

PATIENCE = timedelta(hours=2)
"""A collective may wait for a rank that compiles; one that has failed is noticed otherwise."""
FOREVER = timedelta(days=7)
"""Waiting for other timings on the same device."""

_joins = itertools.count()


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
