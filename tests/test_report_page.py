"""The page in a real browser: Debian's Chromium, without a screen and without a network."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from make import CPU, HOSTILE, keep, result, trained, turns

from nfbench.showing import report

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium, which drives the browser, is not installed")
# where both are, the driver is that of the first
CHROMIUM = shutil.which("google-chrome") or shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium or chromedriver: apt-get install chromium chromium-driver"
)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of results that a device gave, and one of what anybody may have put into a file."""
    folder = tmp_path_factory.mktemp("pages")
    good = [*turns("nfnet-f1", "efficientnet-b7", 5.0, study="claims"), *trained(CPU)]
    times = {"resnet50": 0.0123, "nfnet-f0": 1.5, "nf-resnet50": 0.25}
    good += [result(model, (time,) * 20) for model, time in times.items()]
    good.append(result("nfnet-f5", status="out_of_memory", readings=()))
    bad = [result(name, (0.1 + place,) * 20, study=HOSTILE[1], command=name) for place, name in enumerate(HOSTILE)]
    written = {}
    for name, results in (("good", good), ("bad", bad)):
        made = report.build([keep(folder / f"{name}.jsonl", results)])
        (written[name],) = report.write(folder / f"{name}.html", made)
    return written


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    # a container has neither a sandbox of its own nor much shared memory
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def opened(browser: Any, page: Path, width: int = 1200, scheme: str = "light", media: str = "") -> Any:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": [feature]})
    browser.get(page.as_uri())
    return browser


def steps(browser: Any) -> Any:
    """The table of step times on the CPU."""
    return next(t for t in browser.find_elements("css selector", "table") if "nf-resnet50" in t.text)


def column(table: Any, title: str) -> list[str]:
    script = """
        const [table, title] = arguments;
        const at = [...table.tHead.rows[0].cells].findIndex((head) => head.textContent.startsWith(title));
        return [...table.tBodies[0].rows].map((row) => row.cells[at].textContent);
    """
    return list(table.parent.execute_script(script, table, title))


def button(table: Any, title: str) -> Any:
    return next(b for b in table.find_elements("css selector", "thead button") if b.text.startswith(title))


def test_the_page_shows_the_results_without_a_word_in_the_console(browser: Any, pages: dict[str, Path]) -> None:
    browser.get_log("browser")
    table = steps(opened(browser, pages["good"]))
    assert browser.get_log("browser") == []
    loaded = "return performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith('data:'))"
    assert browser.execute_script(loaded) == []
    widths = browser.execute_script(
        "return [...document.images].map(image => image.complete && image.naturalWidth && image.width)"
    )
    assert widths and min(widths) > 200
    assert dict(zip(column(table, "model"), column(table, "step time"), strict=True)) == {
        "resnet50": "12.30 ms ± 0 %",
        "nfnet-f0": "1.500 s ± 0 %",
        "nf-resnet50": "250.0 ms ± 0 %",
        "nfnet-f5": "–",
    }
    # raw values are those of the file, in SI units
    raw = [cell.get_attribute("data-v") for cell in table.find_elements("css selector", "td[data-v]")]
    assert {"0.0123", "1.5", "0.25"} <= set(raw)
    assert "NFNet-F1 is 5." in browser.find_element("css selector", ".answer").text
    for link in browser.find_elements("css selector", "nav .devices > li > a"):
        link.click()
        heading = browser.find_element("id", link.get_attribute("href").partition("#")[2])
        assert heading.text == link.text and heading.is_displayed()


def test_a_click_sorts_by_the_raw_value_and_what_is_absent_stays_last(browser: Any, pages: dict[str, Path]) -> None:
    table = steps(opened(browser, pages["good"]))
    button(table, "step time").click()
    assert column(table, "model") == ["resnet50", "nf-resnet50", "nfnet-f0", "nfnet-f5"]
    head = button(table, "step time").find_element("xpath", "..")
    assert head.get_attribute("aria-sort") == "ascending"
    assert browser.find_element("id", "status").get_attribute("textContent").endswith("sorted by step time, ascending.")
    button(table, "step time").click()
    assert column(table, "model") == ["nfnet-f0", "nf-resnet50", "resnet50", "nfnet-f5"]
    assert head.get_attribute("aria-sort") == "descending"
    button(table, "model").click()
    assert column(table, "model") == ["nf-resnet50", "nfnet-f0", "nfnet-f5", "resnet50"]
    assert head.get_attribute("aria-sort") == "none"


def test_the_keyboard_reaches_everything_and_sorts(browser: Any, pages: dict[str, Path]) -> None:
    opened(browser, pages["good"])
    keys = webdriver.common.keys.Keys
    browser.find_element("css selector", "body").send_keys(keys.TAB)
    assert browser.switch_to.active_element.text == "To the answer"
    browser.switch_to.active_element.send_keys(keys.TAB)
    assert browser.switch_to.active_element.text == "Dark page"
    table = steps(browser)
    head = button(table, "images/s")
    browser.execute_script("arguments[0].focus()", head)
    assert browser.execute_script("return getComputedStyle(arguments[0]).outlineStyle", head) == "solid"
    head.send_keys(keys.ENTER)
    assert column(table, "model")[:3] == ["nfnet-f0", "nf-resnet50", "resnet50"]
    head.send_keys(keys.SPACE)
    assert column(table, "model")[:3] == ["resnet50", "nf-resnet50", "nfnet-f0"]
    regions = browser.find_elements("css selector", ".scroll, .drawing")
    assert regions and all(r.get_attribute("tabindex") == "0" and r.get_attribute("aria-label") for r in regions)


def test_a_screen_reader_finds_names_headings_in_order_and_landmarks(browser: Any, pages: dict[str, Path]) -> None:
    opened(browser, pages["good"])
    levels = [int(h.tag_name[1]) for h in browser.find_elements("css selector", "h1, h2, h3, h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert [len(browser.find_elements("css selector", tag)) for tag in ("main", "header", "footer")] == [1, 1, 1]
    assert all(len(image.accessible_name) > 10 for image in browser.find_elements("css selector", "img"))
    assert all(t.find_elements("css selector", "caption") for t in browser.find_elements("css selector", "table"))


CONTRAST = """
const parts = (c) => c.match(/[\\d.]+/g).slice(0, 3).map(Number);
const linear = (v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
const one = (c) => { const [r, g, b] = parts(c).map(v => linear(v / 255)); return .2126 * r + .7152 * g + .0722 * b };
const contrast = (a, b) => { const [l, h] = [one(a), one(b)].sort((x, y) => x - y); return (h + .05) / (l + .05) };
const ground = getComputedStyle(document.body).backgroundColor;
const texts = [...document.querySelectorAll('p, li, th, td, h1, h2, h3, .badge, a, summary span, button')]
  .filter(e => e.offsetParent && e.textContent.trim()).map(e => getComputedStyle(e).color);
const card = getComputedStyle(document.images[0]).backgroundColor;
return [ground, card, Math.min(...texts.map(c => contrast(c, ground)))];
"""


def test_light_and_dark_follow_the_system_and_the_button_and_can_be_read(browser: Any, pages: dict[str, Path]) -> None:
    white = "rgb(255, 255, 255)"
    ground, card, text = opened(browser, pages["good"]).execute_script(CONTRAST)
    assert ground == card == white and text >= 4.5
    ground, card, text = opened(browser, pages["good"], scheme="dark").execute_script(CONTRAST)
    assert (ground, card) == ("rgb(21, 24, 29)", white) and text >= 4.5
    toggle = browser.find_element("css selector", ".theme")
    assert toggle.text == "Light page"
    toggle.click()
    assert browser.execute_script(CONTRAST)[0] == white and toggle.text == "Dark page"


def test_nothing_is_wider_than_the_screen(browser: Any, pages: dict[str, Path]) -> None:
    for name in pages:
        for width in (360, 1400):
            opened(browser, pages[name], width)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_on_a_phone_a_row_is_a_card_that_sorts_and_a_figure_readable(browser: Any, pages: dict[str, Path]) -> None:
    table = steps(opened(browser, pages["good"], 390))
    cards = table.find_elements("css selector", "tbody tr")
    assert all(card.size["width"] <= 390 for card in cards)
    labels = browser.execute_script(
        "return [...arguments[0].cells].slice(1).map(c => getComputedStyle(c, '::before').content)", cards[0]
    )
    assert labels[0] == '"px "' and '"step time "' in labels
    tops = [cell.location["y"] for cell in cards[0].find_elements("css selector", "th, td")]
    assert len(set(tops)) > 2 and min(tops) == tops[0] < tops[1]
    button(table, "step time").click()
    assert column(table, "model")[0] == "resnet50"
    assert min(browser.execute_script("return [...document.images].map(image => image.width)")) >= 400


def test_paper_has_everything_unfolded_on_white_and_no_buttons(browser: Any, pages: dict[str, Path]) -> None:
    opened(browser, pages["good"], scheme="dark", media="print")
    shown = "return getComputedStyle(document.querySelector(arguments[0])).getPropertyValue(arguments[1])"
    assert browser.execute_script(shown, ".theme", "display") == "none"
    assert browser.execute_script(shown, ".scroll", "overflow") == "visible"
    assert browser.execute_script(shown, ":root", "--ground") == "#ffffff"
    folded = (
        "return [...document.querySelectorAll('details:not([open]) li')].map(li => li.getBoundingClientRect().height)"
    )
    heights = browser.execute_script(folded)
    assert heights and min(heights) > 0
    assert base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"]).startswith(b"%PDF")


def test_nothing_in_the_results_runs_and_the_policy_stops_what_gets_in(browser: Any, pages: dict[str, Path]) -> None:
    browser.get_log("browser")
    opened(browser, pages["bad"])
    assert browser.get_log("browser") == []
    assert browser.execute_script("return window.pwned") is None
    names = " ".join(column(browser.find_element("css selector", "table"), "model"))
    assert "<script>window.pwned = 1</script>" in names and "{{ 7*7 }}" in names
    browser.execute_script("""
        const add = (html) => document.body.insertAdjacentHTML('beforeend', html);
        add('<img src="x" onerror="window.pwned = 1">');
        add('<a id="run" href="javascript:window.pwned = 2">x</a>');
        document.getElementById('run').click();
        const script = document.createElement('script');
        script.textContent = 'window.pwned = 3';
        document.body.append(script);
    """)
    browser.execute_async_script("const done = arguments[0]; setTimeout(done, 50)")
    assert browser.execute_script("return window.pwned") is None
    assert "Content Security Policy" in " ".join(entry["message"] for entry in browser.get_log("browser"))
