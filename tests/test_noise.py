"""Noisy rows: worked out when shown, grey with their reason, and used nowhere unless that is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from make import H200, once, result, step_times

from nfbench.analysis.rows import quiet, row, rows
from nfbench.analysis.sessions import current
from nfbench.records import Conditions, Resolved, Result, Sampling, StepTime, reading, to_json
from nfbench.showing import answers, shown_rows, tables
from nfbench.showing.figures import driver
from nfbench.showing.figures.canvas import looks
from nfbench.showing.notes import notes_of
from nfbench.showing.shown_rows import Shown
from nfbench.showing.views import view

LOADED = once("others_cpu", 0.31)


def timed(model: str = "resnet50", *more: Any, times: tuple[float, ...] = (0.1,) * 20, **fields: Any) -> Result:
    return result(model, readings=(step_times(*times), *more), **fields)


@pytest.mark.parametrize(
    ("group", "why"),
    [
        ([timed("resnet50", LOADED)], "other processes took 31 % of the CPU"),
        ([timed("resnet50", once("others_cpu", 0.2))], None),  # up to a fifth is allowed
        ([timed("resnet50", once("others_cpu", share), round=i) for i, share in enumerate((0.9, 0.05, 0.05))], None),
        (
            [timed("resnet50", once("others_cpu", share), round=i) for i, share in enumerate((0.9, 0.3, 0.05))],
            "other processes took 30 % of the CPU",
        ),
        ([timed(machine=H200, conditions=Conditions(other_processes=2))], "other processes used the GPU"),
        ([timed(machine=H200, conditions=Conditions(other_processes=0))], None),
        ([timed(machine=H200, conditions=Conditions(other_load=0.4))], "other processes used the GPU"),
        ([timed(machine=H200, conditions=Conditions(other_load=0.04, other_memory=2**29))], None),
        ([timed(times=(0.1, 0.4) * 10)], "its steps are known to ± 60 % only"),
        ([timed(times=(0.03, 4.0, 0.03, 4.0, 0.03, 4.0))], "its steps are known to ± 99 % only"),  # ± is not printed
        ([timed(times=(t,) * 20, round=n) for n, t in enumerate((0.1, 0.2))], "its steps are known to ± 35 % only"),
        ([timed(times=(t,) * 20, round=n) for n, t in enumerate((0.1, 0.11))], None),
        ([timed(times=(0.1,) * 4)], "only 4 steps were timed"),
        ([timed(times=(4.3,))], "only 1 step was timed"),
        ([timed(times=(0.1,) * 5)], None),
        ([timed(times=(0.1,) * 3, round=n) for n in range(2)], None),  # six in all
        ([timed("resnet50", once("steps", 3.0), times=(0.1,) * 3)], "only 3 steps were timed"),
    ],
)
def test_what_makes_a_row_noisy(group: list[Result], why: str | None) -> None:
    assert row(group).get("noisy") == why
    assert quiet(group) == ([] if why else group)


def test_what_has_no_rate_or_is_composed_of_few_updates_is_not_noisy() -> None:
    failed = result(status="out_of_memory", readings=(), resolved=None)
    assert "noisy" not in row([failed]) and quiet([failed]) == [failed]
    resolved = Resolved(px=224, micro_batch=4, precision="fp32", layout="nhwc")
    parts = (
        once("passes", 2.0),
        *(reading(phase, "s", "micro_step", "test", [0.1] * 4) for phase in ("forward", "backward")),
        *(reading(phase, "s", "step", "test", [0.01] * 2) for phase in ("clip", "update")),
        once("steps", 2.0),
    )
    assert "noisy" not in row([result(composed=True, resolved=resolved, readings=parts)])


def test_a_noisy_row_says_so_in_every_format_and_in_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    (shown,), _ = rows([timed("resnet50", LOADED)])
    assert "(noisy)" in view([shown], "steps", "md")
    assert "other processes took 31 % of the CPU" in view([shown], "steps", "csv")
    (finding,) = [note.text for note in notes_of([shown]) if "Noisy" in note.text]
    assert "other processes took 31 % of the CPU" in finding and "--noisy" in finding
    monkeypatch.setattr(tables.sys.stdout, "isatty", lambda: True, raising=False)
    both, _ = rows([timed("resnet50", LOADED), timed("resnet26")])
    lines = [line for line in view(both, "steps", "rich").splitlines() if "resnet" in line]
    assert [line.startswith("\x1b[2m") for line in lines] == ["resnet50" in line for line in lines]
    (used,), _ = rows([timed("resnet50", LOADED)], noisy=True)
    assert "(noisy)" not in view([used], "steps", "md") and not any("Noisy" in note.text for note in notes_of([used]))


def pair(loaded: bool) -> list[Result]:
    """Four rounds of an NFNet and its twin, on a CPU whose other processes had much of it or not."""
    more = (LOADED,) if loaded else ()
    return [
        timed(
            model,
            *more,
            times=(seconds,) * 20,
            workload=StepTime(model=model),
            round=n,
            turn=turn,
            session="s",
            sampling=Sampling(turns=2, rounds=4),
            id=f"{model}-{n}-{turn}",
            study="claims",
        )
        for n in range(4)
        for turn in range(2)
        for model, seconds in (("nfnet-f0", 0.1), ("bn-nfnet-f0", 0.13 + 0.001 * n))
    ]


def test_it_is_no_side_of_a_ratio_of_a_claim_or_of_an_answer() -> None:
    seen = shown_rows.shown(pair(loaded=True))
    assert len(seen.steps) == 2 and seen.ratios == []
    (sentence,) = answers.sentences("quick", seen)
    assert sentence.startswith("No answer about nfnet-f0, bn-nfnet-f0, which are too noisy") and "--fresh" in sentence
    seen = shown_rows.shown(pair(loaded=True), noisy=True)
    assert len(seen.ratios) == 1 and len(answers.sentences("quick", seen)) == 1
    assert len(shown_rows.shown(pair(loaded=False)).ratios) == 1

    def verdict(results: list[Result], noisy: bool = False) -> str:
        (judged,) = answers.verdicts(results, noisy)
        return next(v.verdict for v in judged if v.claim.id == "bn-twin-slower")

    assert verdict(pair(loaded=True)) == "not run"
    assert verdict(pair(loaded=True), noisy=True) == verdict(pair(loaded=False)) != "not run"


@pytest.mark.parametrize("kind", ["step-time", "speedup"])
def test_no_figure_draws_it_and_the_reason_is_listed(kind: str) -> None:
    loaded, well = [timed("resnet50", LOADED)], [timed("resnet26")]
    steps, _ = rows([*loaded, *well])
    with looks():
        made = driver.drawings(Shown(steps, results=[*loaded, *well]), [kind])[kind]
        all_the_same = driver.drawings(Shown(rows(loaded, noisy=True)[0], results=loaded, noisy=True), [kind])[kind]
    assert "resnet50" not in {r["model"] for r in made.drawn}
    told = [*(missing.why for missing in made.missing), *made.notes]
    assert any("noisy" in why for why in told)
    assert not any("noisy" in missing.why for missing in all_the_same.missing)


def test_plot_and_report_take_the_flag(cli: Cli) -> None:
    Path("r.jsonl").write_bytes(b"\n".join(map(to_json, pair(loaded=True))))
    done = cli("plot", "r.jsonl", "--kind", "speedup")
    assert done.exit_code == 1 and "2 noisy rows in no ratio, unless --noisy" in done.stderr
    assert cli("plot", "r.jsonl", "--kind", "speedup", "--noisy").exit_code == 0
    assert cli("report", "r.jsonl", "-o", "plain.md").exit_code == 0
    assert cli("report", "r.jsonl", "-o", "noisy.md", "--noisy").exit_code == 0
    assert cli("report", "r.jsonl", "-o", "page.html").exit_code == 0
    assert Path("page.html").read_text(encoding="utf-8").count('<tr class="noisy">') == 2
    plain, noisy = (Path(name).read_text(encoding="utf-8") for name in ("plain.md", "noisy.md"))
    assert "times as fast" not in plain.partition("## ")[0] and "times as fast" in noisy


def test_a_disturbed_session_does_not_make_a_quiet_one_noisy_and_is_not_averaged_in() -> None:
    loaded = timed("resnet50", LOADED, times=(4.3,) * 6, session="loaded")
    well = [timed(times=(0.028,) * 20, session="well", round=n) for n in range(2)]
    shown = row([loaded, *well])
    assert "noisy" not in shown and shown["step_time"] == pytest.approx(0.028)
    (disturbed,) = [f for f in shown["findings"] if f.code == "disturbed"]
    assert disturbed.message.startswith("1 of 3 timings are left out")
    assert quiet([loaded, *well]) == well


@pytest.mark.parametrize("loaded_is_newer", [True, False])
def test_a_noisy_session_takes_no_quiet_ones_place(loaded_is_newer: bool) -> None:
    quiet_start, loaded_start = ("2026-01-01", "2026-01-02") if loaded_is_newer else ("2026-01-02", "2026-01-01")
    well = timed(session="well", id="well", start=f"{quiet_start}T00:00:00.000Z", times=(0.1, 0.11) * 10)
    loaded = timed("resnet50", LOADED, session="loaded", id="loaded", start=f"{loaded_start}T00:00:00.000Z")
    (shown,) = current([well, loaded])
    assert shown.id == "well"
    assert ("a newer one is noisy" in shown.notes.get("older_session", "")) == loaded_is_newer
