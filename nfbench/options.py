"""Click options that commands share, and how flags become records: here and nowhere else."""

from __future__ import annotations

from typing import Any, get_args

import click

format_option = click.option(
    "--format",
    "format",
    type=click.Choice(["rich", "md", "csv", "json"]),
    default="rich",
    show_default=True,
    help="csv and json hold raw values in SI units.",
)
