"""The command line, installed or from a bare checkout: ``nfbench`` and ``python -m nfbench``."""

import os
import signal
import sys
from typing import Any


def main() -> None:
    """Run the command. Ctrl-C before it has been imported ends quietly with 130, as it does afterwards in words."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    from nfbench.cli import main as command

    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command(prog_name="nfbench")


def _leave(*_: Any) -> None:
    # nothing has been measured, and an import that is broken off can print anything on its way out
    sys.stderr.flush()
    os._exit(130)


if __name__ == "__main__":
    main()
