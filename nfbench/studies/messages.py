"""What a runner and its worker say to each other: one JSON object a line, requests in, messages out.

::

    runner  Request …            → worker
    runner  Hello, Said …, Answer ← worker      (once Hello; an Answer ends each Request)
"""

from __future__ import annotations

from typing import Literal

import msgspec

from nfbench.learning.learner import Sources
from nfbench.measuring.outcome import Labels
from nfbench.records import AgcCost, Machine, Record, Result, Sampling, Software, Workload


class Request(Record, frozen=True, kw_only=True):
    """A workload to be measured, a step in one turn. The worker keeps what it has built while the step stays the same.

    ``counts`` asks for what can be counted, and times nothing. ``sources`` are the paths of a training run, ``beside``
    the clips with which one takes turns.
    """

    workload: Workload
    beside: tuple[AgcCost, ...] = ()
    sampling: Sampling
    seed: int = 0
    round: int = 0
    turn: int = 0
    labels: Labels = Labels()
    counts: bool = False
    sources: Sources = Sources()


class Hello(Record, frozen=True, kw_only=True, tag=True):
    """The device is open. What the runner needs to write a row for a worker that died."""

    machine: Machine
    software: Software


class Said(Record, frozen=True, kw_only=True, tag=True):
    """Something for the watch: ``numbers`` are steps, value, low, high and seconds left of a progress."""

    what: Literal["phase", "progress", "going", "note", "waits"]
    text: str = ""
    numbers: tuple[float | None, ...] = ()


class Answer(Record, frozen=True, kw_only=True, tag=True):
    """The result, or the worded error that stands in its place; ``fatal`` where no other workload could run either.

    ``more`` came before the result: those of workloads that took turns in one process.
    """

    result: Result | None = None
    more: tuple[Result, ...] = ()
    error: tuple[str, str, str] | None = None
    fatal: bool = False


Message = Hello | Said | Answer

requests = msgspec.json.Decoder(Request)
messages: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
encoder = msgspec.json.Encoder()
