"""A report as a file, and the figures of a Markdown one: nothing is written outside of the file's folder."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import NamedTuple

from nfbench.errors import BadResults
from nfbench.showing import report_build, report_render, report_sources
from nfbench.showing.figures.canvas import looks, save
from nfbench.showing.report import Report
from nfbench.showing.study import write

PAGE = "README.md"
SUFFIXES = (".md", ".html")


class Text(NamedTuple):
    """A Markdown report, and where each of its figures goes: paths from the report's folder, in their order."""

    text: str
    figures: tuple[str, ...]


def check(path: Path) -> None:
    """Raise `BadResults` where ``path`` is no name of a report."""
    if path.suffix.lower() not in SUFFIXES:
        raise BadResults(
            f"-o {path} names no kind of report.",
            why="A report is Markdown or a page for a browser, told apart by the file's name.",
            try_="-o report.md, or -o report.html",
        )
    if path.is_dir():
        raise BadResults(f"-o {path} is a folder.", try_=f"-o {path / 'report.html'}")


def device(folder: Path) -> Report | None:
    """The report on the studies in the folder of a device, without one-off runs; None where there are none.

    It follows from the results alone: the same results give the same report, on any machine.

    Raises:
        BadResults: a newer nfbench wrote one of them.
    """
    studies = [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name not in report_sources.ONE_OFF]
    held = [path for path in studies if any(path.rglob("*.jsonl"))]
    try:
        return report_build.build(report_sources.read(held)) if held else None
    except BadResults as error:
        if "newer nfbench" in error.what:
            raise
        return None


def markdown(report: Report, path: Path) -> Text:
    """The report as Markdown that is to stand at ``path``, its figures in a folder that bears the report's name.

    The page of a device, as `run` writes it, has those of each study in the study's ``figures``, beside the ones that
    `run` draws there, and those of the whole device in ``figures``: there is one such page.
    """
    inside = in_place(report, path)
    whole = PurePosixPath("figures" if inside else f"{path.stem}-figures")
    found: dict[str, None] = {}
    for picture in report.pictures:
        study = report_render.below(picture.folder, path.parent) if inside and picture.folder is not None else None
        folder = PurePosixPath(study) / "figures" if study else whole
        names = (str(folder / f"{picture.name}{f'-{i}' if i > 1 else ''}.svg") for i in range(1, len(found) + 2))
        found[next(name for name in names if name not in found)] = None
    figures = tuple(found)
    return Text(report_render.markdown(report, dict(enumerate(figures)), path.parent), figures)


def in_place(report: Report, path: Path) -> bool:
    """Whether ``path`` is the page of a device: its README.md, all results in folders of studies directly below it."""
    files = [link.path for part in report.parts for study in part.studies for link in study.links]
    below = [report_render.below(file, path.parent) for file in files if file.suffix == ".jsonl"]
    return path.name == PAGE and all(place is not None and place.count("/") == 1 for place in below)


def to(path: Path, report: Report) -> list[Path]:
    """Write the report, as ``path`` is named; the files that were written, the report itself first.

    Raises:
        BadResults: ``path`` is no name of a report, or cannot be written.
    """
    check(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadResults(
            f"{path.parent} cannot be made: {error.strerror}.", try_="-o with a folder that you may write to"
        ) from error
    if path.suffix.lower() == ".html":
        return write(path.parent, {path.name: report_render.page(report, path.parent)})
    text, figures = markdown(report, path)
    written: list[Path] = []
    with looks():
        for name, picture in zip(figures, report.pictures, strict=True):
            place = path.parent / name
            written += save(picture.figure, place.parent, place.stem, ("svg",))
    return [*write(path.parent, {path.name: text}), *written]
