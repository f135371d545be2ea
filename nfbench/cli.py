"""The command group, and the one place where an error becomes an exit code."""

from __future__ import annotations

import ast
import contextlib
import errno
import importlib
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import click

from nfbench import __version__
from nfbench.devices.base import abandon_world, joined_world, last_words, leave_world, place
from nfbench.errors import (
    Interrupted,
    NfbenchError,
    Stop,
    Terminated,
    UnsupportedWorkload,
    kept_traceback,
    printable_lines,
)
from nfbench.showing.screen import runnable, say
from nfbench.units import nearest

_GROUPS = {
    "Measure": ("step-time", "flops", "accuracy", "agc-cost"),
    "Sweep": ("run", "batch-sweep", "agc-sweep"),
    "Judge": ("compare", "check"),
    "Show": ("table", "plot", "report"),
    "Look up": ("models", "env"),
}
_EXAMPLES = {
    "step-time": "nfbench step-time nfnet-f0 --batch 32",
    "flops": "nfbench flops nfnet-f0",
    "accuracy": "nfbench accuracy tiny-nfnet --dataset digits",
    "agc-cost": "nfbench agc-cost nfnet-f0",
    "run": "nfbench run quick",
    "batch-sweep": "nfbench batch-sweep nfnet-f0",
    "agc-sweep": "nfbench agc-sweep tiny-nfnet",
    "compare": "nfbench compare nfnet-f0 bn-nfnet-f0",
    "check": "nfbench check gate --against origin/main",
    "table": "nfbench table results/",
    "plot": "nfbench plot results/",
    "report": "nfbench report results/ -o report.html",
    "models": "nfbench models nfnet-f0",
    "env": "nfbench env",
}
"""What to type, by command, where a usage error does not say it itself."""
_ON_RANKS = ("step-time", "accuracy")
"""The commands that torchrun may start."""
_COMMANDS = Path(__file__).with_name("commands")
FAULT = 70
_SYSTEM = frozenset(
    getattr(errno, name)
    for name in (
        *("ENOSPC", "EDQUOT", "EROFS", "EIO", "EFBIG", "ESTALE", "ENXIO", "ENODEV"),
        *("EACCES", "EPERM", "ENOENT", "EEXIST", "ENOTDIR", "EISDIR", "ENOTEMPTY", "ENAMETOOLONG", "ELOOP"),
        *("EMFILE", "ENFILE", "ENOMEM", "EAGAIN", "EBUSY", "ETXTBSY"),
    )
    if hasattr(errno, name)
)
"""What disks, permissions, paths and the machine's limits answer, which is no fault of nfbench."""


class Commands(click.Group):
    """Subcommands found by file name in ``nfbench/commands`` and imported only when called."""

    def main(self, *args: Any, **settings: Any) -> Any:
        # a Windows console, or a pipe there, has an encoding without the rules of tables
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
                stream.reconfigure(errors="replace")
        return super().main(*args, **settings)

    def list_commands(self, ctx: click.Context) -> list[str]:
        found = {p.stem.replace("_", "-") for p in _COMMANDS.glob("[!_]*.py")}
        grouped = [name for names in _GROUPS.values() for name in names if name in found]
        return [*grouped, *sorted(found - set(grouped))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"nfbench.commands.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not args[0].startswith("-") and args[0] not in (names := self.list_commands(ctx)):
            near = nearest(args[0], names)
            raise click.UsageError(
                f"There is no command {args[0]!r}.\nTry: nfbench {near[0] if near else '--help'}", ctx
            )
        name, command, rest = super().resolve_command(ctx, args)
        # the words that results are stored with
        ctx.obj = args
        if (here := place()) is not None and name not in _ON_RANKS:
            raise UnsupportedWorkload(
                f"torchrun started {here.size} processes, which `nfbench {name}` cannot share.",
                why=f"Only {' and '.join(_ON_RANKS)} train one net on several devices.",
                try_=f"nfbench {name} without torchrun",
            )
        return name, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        names = self.list_commands(ctx)
        grouped = {name for members in _GROUPS.values() for name in members}
        groups = [*_GROUPS.items(), ("Other", tuple(n for n in names if n not in grouped))]
        rows = [
            (f"{'' if place else group:<8} {name}", _summary(name))
            for group, members in groups
            for place, name in enumerate(m for m in members if m in names)
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        here = place()
        if here is None or here.rank == 0:
            return self._invoke(ctx)
        # rank 0 speaks for all, and torchrun prints a trace for each exit code that is not 0
        with (
            Path(os.devnull).open("w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
            contextlib.suppress(click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError),
        ):
            return self._invoke(ctx)
        raise click.exceptions.Exit(0)

    def _invoke(self, ctx: click.Context) -> Any:
        try:
            with _terminated():
                try:
                    found = super().invoke(ctx)
                    leave_world()
                    return found
                except (click.ClickException, click.exceptions.Exit, click.Abort):
                    raise
                except Exception as error:
                    joined_world().refuse(error)
                    raise
                finally:
                    abandon_world()
        except NfbenchError as error:
            _leave(ctx, str(error), error.exit_code)
        except KeyboardInterrupt:
            _leave(ctx, "Interrupted.", Interrupted.exit_code)
        except Stop as stop:
            _leave(ctx, f"{type(stop).__name__}.", stop.exit_code)
        except click.ClickException as error:
            vars(error)["message"] = runnable(printable_lines(error.message.rstrip() + _advice(error)))
            raise
        except (click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except OSError as error:
            if error.errno not in _SYSTEM:
                _leave(ctx, _fault(error), FAULT)
            name = error.filename
            file = f"The file {name!r}" if isinstance(name, str | bytes) else "A file, or the output,"
            _leave(ctx, f"{file} cannot be used: {error.strerror}.", NfbenchError.exit_code)
        except Exception as error:
            _leave(ctx, _fault(error), FAULT)


def _advice(error: click.ClickException) -> str:
    """The nearest of several choices, or a command that works, to end the message of a usage error with."""
    if not isinstance(error, click.UsageError):
        return ""
    param = getattr(error, "param", None)
    kind = getattr(param, "type", None)
    if "Try: " in error.message:
        return ""
    quoted = re.match(r"'(.*?)'", error.message)
    if isinstance(kind, click.Choice) and quoted and (near := nearest(quoted[1], map(str, kind.choices))):
        flag = next(iter(getattr(param, "opts", ())), "")
        return f"\nTry: {flag} {near[0]}"
    command = "" if error.ctx is None or error.ctx.info_name is None else error.ctx.info_name
    example = _EXAMPLES.get(command)
    return "" if example is None or "type " in error.message else f"\nTry: {example}"


def _summary(name: str) -> str:
    """The first line of the command's module docstring, read without importing the module."""
    source = (_COMMANDS / f"{name.replace('-', '_')}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0].rstrip(".")


@contextlib.contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM raises `Terminated` in the main thread, so that what was measured is kept."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> NoReturn:
        raise Terminated

    # a terminal that is closed ends a run like SIGTERM, with all that was measured kept and nothing left behind
    numbers = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        # nohup has it ignored
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(ctx: click.Context, message: str, code: int) -> NoReturn:
    say(message)
    here = place()
    if here is not None and here.rank == 0 and code:
        last_words(message)
    ctx.exit(code)


def _fault(error: Exception) -> str:
    kept = kept_traceback(error, "fault", f"nfbench {__version__}: {' '.join(sys.argv[1:])}\n\n")
    return f"A fault of nfbench, not yours: {type(error).__name__}: {error}\n{kept} An issue with it helps to mend it."


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="nfbench")
def main() -> None:
    """\b
    Does removing batch normalization pay, on this device, and by how much?
    Start with: nfbench run quick
    """
