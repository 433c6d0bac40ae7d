"""The page as a reader meets it: in a browser, wide and narrow, light and dark, by mouse and by keyboard."""

from __future__ import annotations

import pytest

from refimpl.speclink.page import build

WIDE, NARROW = (1600, 1000), (390, 844)


@pytest.fixture(scope="module")
def file(real, tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "page.html"
    file.write_text(build(real), encoding="utf-8")
    return file


def text(browser, selector: str) -> str:
    return browser.run(f"document.querySelector({selector!r}).innerText")


def is_in_view(browser, selector: str) -> bool:
    return browser.run(
        f"(() => {{ const b = document.querySelector({selector!r}).getBoundingClientRect();"
        " return b.height > 0 && b.top < innerHeight && b.bottom > 0 && b.left < innerWidth && b.right > 0; })()"
    )


# Every text that is seen, with the contrast of its colour against what is behind it.
CONTRAST = """
(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const linear = (part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const poor = new Set();
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !element.checkVisibility() || /SCRIPT|STYLE|TEXT/i.test(element.tagName)) continue;
    const [a, b] = [light(rgba(getComputedStyle(element).color)), light(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) poor.add(`${element.className || element.tagName}: ${contrast.toFixed(2)}`);
  }
  return [...poor];
})()
"""
SHOWN = "[...document.querySelectorAll('article')].filter(a => a.checkVisibility())"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, (900, 900), NARROW], ids=["wide", "middle", "narrow"])
def test_page_is_readable(browser, file, size, scheme):
    browser.look(*size, scheme)
    browser.open(file, "#CONNECT-7")
    assert browser.errors == []
    assert browser.run("document.documentElement.scrollWidth") <= size[0], "nothing sticks out to the side"
    assert text(browser, "#code h2") == "CONNECT-7"
    assert "MapIndexesPage" in text(browser, "#code .source") or "map(" in text(browser, "#code .source .here")
    assert browser.run(CONTRAST) == []
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in ground[4:-1].split(",")) < 384) == (scheme == "dark")


def test_requirement_code_and_tests_stand_side_by_side(browser, file):
    browser.look(*WIDE, "light")
    browser.open(file, "#CONNECT-7")
    assert is_in_view(browser, "#CONNECT-7")
    assert is_in_view(browser, "#code .source .here")
    assert "CONNECT-7" in text(browser, "#code .source .here")
    assert "Tests: " in text(browser, "#code .tests h3")


def test_narrow_window_shows_one_thing_at_a_time(browser, file):
    browser.look(*NARROW, "light")
    browser.open(file)
    assert not is_in_view(browser, "#code")
    browser.run("document.querySelector('#CONNECT-7 .ties a').click()")
    browser.settle()
    assert is_in_view(browser, "#code .source .here")
    browser.run("document.querySelector('#code .back').click()")
    browser.settle()
    assert not is_in_view(browser, "#code")


def test_line_of_code_leads_back_to_its_requirements(browser, file):
    browser.look(*WIDE, "light")
    browser.open(file, "#refimpl/commands/connect.py")
    assert browser.run("document.querySelectorAll('#code .source .row').length") > 50
    browser.run("[...document.querySelectorAll('#code .source a')].find(a => a.textContent === 'CONNECT-9').click()")
    browser.settle()
    assert text(browser, "#code h2") == "CONNECT-9"
    assert is_in_view(browser, "#CONNECT-9")
    browser.run("document.querySelector('#code .source .here .number').click()")
    browser.settle()
    assert ".py:" in text(browser, "#code h2")
    assert "CONNECT-9" in text(browser, "#code .tests")


def test_search_and_states_narrow_the_document(browser, file):
    browser.look(*WIDE, "light")
    browser.open(file)
    everything = browser.run(f"{SHOWN}.length")
    browser.press("/")
    for letter in "workflow-7":
        browser.press(letter)
    assert browser.run(f"{SHOWN}.map(a => a.id)") == ["WORKFLOW-7"]
    assert text(browser, "#found") == "1 found"
    browser.press("Escape")
    assert browser.run(f"{SHOWN}.length") == everything
    browser.run("document.querySelector('.totals button').click()")
    state = browser.run("document.querySelector('.totals button').dataset.state")
    assert browser.run(f"[...new Set({SHOWN}.map(a => a.dataset.state))]") == [state]


def test_keyboard_alone_reaches_everything(browser, file):
    browser.look(*WIDE, "light")
    browser.open(file)
    browser.press("j")
    browser.press("j")
    assert browser.run("document.activeElement.id") == "RAT-1"
    browser.press("k")
    assert browser.run("document.activeElement.id") == "GLOSS-1"
    assert browser.run("location.hash") == "#GLOSS-1"
    browser.press("Enter")
    assert browser.run("document.activeElement.id") == "code"
    controls = "[...document.querySelectorAll('button, a, input, summary')]"
    assert browser.run(f"{controls}.filter(e => !(e.ariaLabel || e.textContent).trim()).length") == 0


def test_links_can_be_shared(browser, file):
    browser.look(*WIDE, "dark")
    for fragment in ("#E-MAPFAIL", "#SEC-B-2", "#workflow", "#refimpl/data_ring/workflow.py:1", "#nonsense"):
        browser.open(file, fragment)
        assert browser.errors == []
    browser.open(file, "#E-MAPFAIL")
    assert is_in_view(browser, "#E-MAPFAIL")
