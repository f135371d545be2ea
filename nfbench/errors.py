"""Every error that nfbench raises on purpose, and the exit code each ends the command with.

::

    NfbenchError                 1   a user's error: what, why, what to type
    ├── UnknownModel                 no such net, with the nearest name
    ├── UnsupportedWorkload          the net or the device cannot do what was asked
    ├── DeviceUnavailable            no such device, or torch cannot use it
    ├── BadStudy                     a study file, with the place in it
    ├── BadWeights                   weights that are missing, refused, or of another net
    ├── BadResults                   a results file or folder that cannot be read or written
    │   └── RefusedResults           one of which nothing may be used, sound lines neither
    └── BadData                      a data set that is missing, broken or does not fit what was asked
    Slower                       3   a check: slower, a count that rose, or a head that cannot run
    Undecided                    4   a check: inconclusive, missing or incomparable
    Failed                       5   finished, but a workload failed
    Stop (BaseException)             a signal; what was measured is kept
    ├── Interrupted            130   Ctrl-C
    └── Terminated             143   SIGTERM

Anything else that reaches the command line is a fault of nfbench and ends with 70.
"""

from __future__ import annotations

import os
import re


def printable(text: str) -> str:
    """``text`` in one line, with what would move a terminal's cursor or change its colours shown as an escape, as in
    a literal of Python: it may come from anybody."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_lines(text: str) -> str:
    """``text`` with each line `printable`, and none a workflow command of GitHub Actions."""
    lines = (printable(line) for line in text.split("\n"))
    return "\n".join(f"\\{line}" if line.lstrip().startswith("::") else line for line in lines)


def kept_traceback(error: BaseException, name: str, heading: str = "") -> str:
    """Write the traceback below a ``heading`` to a temporary file, which has ``name`` in its own; say in a sentence
    where, or why nowhere."""
    import tempfile
    import traceback

    try:
        handle, path = tempfile.mkstemp(prefix=f"nfbench-{name}-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(heading)
            traceback.print_exception(error, file=file)
    except OSError as refused:
        return f"The traceback could not be written: {refused.strerror}."
    return f"The traceback is in {path}."


class NfbenchError(Exception):
    """A user's error, worded: what is wrong, why, and what to type instead; each may quote what came from anybody."""

    exit_code = 1

    def __init__(self, what: str, *, why: str = "", try_: str = "") -> None:
        self.what, self.why, self.try_ = map(printable_lines, (what, why, try_))
        super().__init__(str(self))

    def __str__(self) -> str:
        lines = [self.what]
        if self.why:
            lines.append(self.why)
        if self.try_:
            lines.append(f"Try: {self.try_}")
        return "\n".join(lines)


class UnknownModel(NfbenchError):
    """No net of that name."""


class UnsupportedWorkload(NfbenchError):
    """The net or the device cannot do what the workload asks."""


class DeviceUnavailable(NfbenchError):
    """The device is not there, or torch cannot use it."""


class BadStudy(NfbenchError):
    """A study file that cannot be used; the message names the place in it."""


class BadWeights(NfbenchError):
    """Weights that are missing, refused, or of another net."""


class BadResults(NfbenchError):
    """Results that cannot be read or written."""


class RefusedResults(BadResults):
    """Results of which nothing may be used: a newer nfbench wrote some, or simulated ones are among real ones."""


class BadData(NfbenchError):
    """A data set that is missing, broken or does not fit what was asked."""


class Slower(NfbenchError):
    """A check found something slower, a count that rose, or a head that cannot run."""

    exit_code = 3


class Undecided(NfbenchError):
    """A check could not tell, or had nothing to compare with."""

    exit_code = 4


class Failed(NfbenchError):
    """Everything ran to its end, but at least one workload failed; its row says why."""

    exit_code = 5


class Stop(BaseException):
    """A signal asked nfbench to end. Not an Exception, so that no handler mistakes it for a failure."""

    exit_code = 130


class Interrupted(Stop):
    """Ctrl-C."""

    exit_code = 130


class Terminated(Stop):
    """SIGTERM."""

    exit_code = 143


_NO_MEMORY = re.compile(
    r"\bcuda\b.{0,60}\bout of memory|\bcuda failure 2\b|cudaErrorMemoryAllocation|DefaultCPUAllocator: can't allocate"
    r"|\bCU[A-Z]+_\w*ALLOC(ATION)?_FAILED|\bNVML_SUCCESS == .*CUDACachingAllocator",
    re.IGNORECASE,
)
"""torch's own words and those that it passes on from CUDA, its libraries, Triton and NCCL. Some versions of torch fail
while they ask NVML who holds the memory that they lack (pytorch issue 185240)."""


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out, that of a device or of the host."""
    return isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)) is not None


def of_device(error: BaseException) -> bool:
    """Whether ``error`` is of the device, on which a net is built, and not of the net."""
    return out_of_memory(error) or any(words in str(error) for words in ("CUDA error", "cuDNN error"))


def reason(error: BaseException) -> str:
    """Give the kind of an error and the first line of its message."""
    return f"{type(error).__name__}: {error}".partition("\n")[0].rstrip()
