"""Results that a report can tell something about, names that would break a page, and what a report says of them."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from make import CPU, H200, accuracy, result

from nfbench.records import Machine, Resolved, Result, StepTime, to_json
from nfbench.showing import report_build, report_render, report_sources, report_write
from nfbench.showing.report import Report

BF16 = Resolved(px=224, micro_batch=32, precision="bf16", layout="nhwc")


def turns(
    net: str,
    baseline: str,
    speedup: float,
    *,
    machine: Machine = H200,
    px: int = 224,
    spread: float = 0.01,
    **fields: Any,
) -> list[Result]:
    """Four rounds in which a step of ``baseline`` takes about ``speedup`` times as long as one of ``net``, in each one
    by ``spread`` of that more."""
    found = []
    resolved = Resolved(px=px, micro_batch=32, precision="bf16", layout="nhwc")
    for round in range(4):
        for place, (model, time) in enumerate(((net, 0.1), (baseline, 0.1 * speedup * (1 + spread * round)))):
            one = {
                "workload": StepTime(model=model, px=px),
                "resolved": resolved,
                "machine": machine,
                "session": f"{net}-{baseline}",
                "round": round,
                "start": f"2026-01-01T00:00:{10 * place + round:02d}.000Z",
            }
            found.append(result(model, (time,) * 20, **(one | fields)))
    return found


def trained(machine: Machine = CPU) -> list[Result]:
    """Two nets, three seeds each, the first with fewer MACs."""
    tops = {"tiny-nfnet": 0.90, "tiny-resnet": 0.95}
    return [
        accuracy(model, (0.5, top + 0.01 * seed), seed, machine=machine, macs=1e7 * (1 + place), study=None)
        for place, (model, top) in enumerate(tops.items())
        for seed in range(3)
    ]


def keep(path: str | Path, results: list[Result]) -> Path:
    """Write ``results`` to a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(to_json(r) + b"\n" for r in results))
    return path


HOSTILE = (
    "<script>window.pwned = 1</script>",
    '"><img src=x onerror="window.pwned=1">',
    "</style></svg></script><svg onload=window.pwned=1>",
    "javascript:window.pwned=1",
    "a|b`c`](x) ![i](http://evil.example/i.png) <details>",
    "``` \n# heading\n| cell |",
    "\x1b[31mred\x07 \x00 \u202eleft\u2028line",
    "../../etc/x",
    "{{ 7*7 }}{% raw %}$\\frac{1}{0}$",
)


def built(*results: Result, path: str = "data/runs.jsonl") -> Report:
    """The report on ``results``, kept at ``path``."""
    return report_build.build(report_sources.read([keep(path, list(results))]))


def page(report: Report) -> str:
    return report_render.page(report, Path())


def markdown(report: Report, path: str = "r.md") -> str:
    return report_write.markdown(report, Path(path)).text


def flat(text: str) -> str:
    return " ".join(text.split())


def words_of_page(text: str) -> str:
    """What a page says outside of its figures."""
    body = re.sub(r"<(style|script)>.*?</\1>|<svg.*?</svg>", " ", text, flags=re.DOTALL)
    return flat(html.unescape(re.sub(r"<[^>]*>", " ", body)))


def words_of_markdown(text: str) -> str:
    """What Markdown says, nothing in it escaped."""
    return flat(html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)))


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


F1_B7 = turns("nfnet-f1", "efficientnet-b7", 5.0)
FREE = turns("nf-resnet26", "resnet26", 0.8)
