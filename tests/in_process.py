"""Workers that answer in this process: with the records of real ones, without the seconds that those take to start."""

from __future__ import annotations

import math
from typing import Any

from nfbench.measuring.outcome import Watch
from nfbench.studies import processes
from nfbench.studies.processes import Place, Process
from nfbench.studies.worker import Answer, Hello, Message, Pipe, Request, Said, encoder, messages, opened, requests


class Told(Pipe):
    """Tells the watch at once, and holds the answers."""

    def __init__(self) -> None:
        self.watch: Watch | None = None
        self.hello: Hello | None = None
        self.answers: list[Answer] = []

    def send(self, message: Message) -> None:
        message = messages.decode(encoder.encode(message))
        if isinstance(message, Answer):
            self.answers.append(message)
        elif isinstance(message, Hello):
            self.hello = message
        elif isinstance(message, Said) and self.watch is not None:
            processes._tell(self.watch, message)


class InProcess(Process):
    """A worker that is no process; it cannot be killed, and stops for nobody."""

    def __init__(self, device: str, allowance: float = 0.0, place: Place | None = None) -> None:
        self.device, self.place, self.child, self.hello = device, place or Place(), None, None
        self.pipe: Told | None = None

    def start(self) -> Any:
        if self.pipe is None:
            self.pipe = Told()
            self.worker = opened(self.device, self.pipe)
            self.hello = self.pipe.hello

    def ready(self, until: float = math.inf) -> None:
        self.start()

    def ask(self, request: Request, watch: Watch, until: float = math.inf) -> Answer:
        self.start()
        assert self.pipe is not None
        self.pipe.watch = watch
        if self.worker is not None:
            self.pipe.answers.clear()
            self.worker.answer(requests.decode(encoder.encode(request)))
        return self.pipe.answers[0]

    def alive(self) -> bool:
        return self.pipe is not None

    def interrupt(self, keep: Any) -> None:
        return None

    def close(self) -> None:
        return None
