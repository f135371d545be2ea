"""Results as a report, for GitHub or a browser"""

from __future__ import annotations

from pathlib import Path

import click

from nfbench import options
from nfbench.showing.screen import say


@click.command("report")
@options.results_argument
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), metavar="FILE", help="A .md or .html file."
)
@options.older_option
@options.noisy_option
def command(paths: tuple[Path, ...], out: Path, everything: bool, noisy: bool) -> None:
    """Write a report of results. RESULTS are files, or folders that are read recursively.

    The answer in a sentence, the verdicts on the claims and a figure stand first, then each study with its question,
    tables, figures, findings, machine and the command that was typed. A .html is one page that loads nothing; a .md has
    its figures in a folder of its name.
    """
    from nfbench.showing import report

    report.check(out)
    made = report.build(paths, everything, noisy)
    for note in made.notes:
        say(note)
    written = report.write(out, made)
    click.echo(written[0])
    if figures := len(written) - 1:
        say(f"With {figures} figure{'s'[: figures != 1]} in {written[1].parent}.")
    for part in made.parts:
        say(part.answer)
