"""The page of the server, in headless Chromium."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pypdf
import pytest

FHS = Path(__file__).parents[3] / "examples" / "fhs-3.0.pdf"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SIZES = ((390, 800), (1100, 800), (1600, 900))
WAIT = 120_000
"""Milliseconds for what a busy machine does slowly."""

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium: Playwright's, or the one of this machine."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        bundled = Path(playwright.chromium.executable_path)
        found = [str(bundled)] if bundled.exists() else [*filter(None, map(shutil.which, PROGRAMS))]
        if not found:
            pytest.skip("no Chromium: run `playwright install chromium`, or install chromium")
        browser = playwright.chromium.launch(executable_path=found[0])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any, listen: Callable[..., str]) -> Iterator[Open]:
    """A function that opens the page in a window; it fails at foreign requests and errors."""
    contexts: list[Any] = []
    problems: list[str] = []

    def open_(
        size: tuple[int, int] = (1600, 900),
        *,
        colors: str = "light",
        strict: bool = True,
        **more: Any,
    ) -> Any:
        address = listen(**more)
        width, height = size
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=colors
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT)

        def requested(request: Any) -> None:
            if strict and not request.url.startswith((f"{address}/", "blob:", "data:")):
                problems.append(f"request to {request.url}")

        page.on("request", requested)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{address}/")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def pdf(root: Path) -> str:
    """The name of a PDF of one page among the served files."""
    (root / "manuals").mkdir()
    writer = pypdf.PdfWriter()
    writer.add_page(pypdf.PdfReader(FHS).pages[13])
    writer.write(root / "manuals" / "boot.pdf")
    return "manuals/boot.pdf"


def add(page: Any, name: str) -> None:
    page.locator("#found button", has_text=name).click()


def ask(page: Any, question: str = "Where is the kernel?") -> None:
    page.fill("#question", question)
    page.press("#question", "Enter")
    page.locator("#answers > li").last.locator(".citations button").first.wait_for()


def wait_until_read(page: Any) -> None:
    page.locator("#reading", has_text="Ready: ").wait_for()


@pytest.mark.long
def test_files_are_listed_and_searched(open_page: Open, pdf: str) -> None:
    page = open_page()
    page.locator("#found button", has_text=pdf).wait_for()
    assert page.locator("#found button").all_inner_texts() == ["0.txt", "1.txt", pdf]
    page.fill("#search", "BOOT man")
    page.locator("#found button", has_text="0.txt").wait_for(state="detached")
    assert page.locator("#found button").all_inner_texts() == [pdf]
    page.fill("#search", "nothing")
    page.locator("#more", has_text="No file").wait_for()


def test_a_citation_opens_its_page_with_the_quote_marked(open_page: Open, pdf: str) -> None:
    page = open_page()
    add(page, pdf)
    wait_until_read(page)
    ask(page)
    citation = page.locator(".citations button").first
    citation.click()
    image = page.locator("#picture img")
    image.wait_for()
    assert page.inner_text("#where") == f"{pdf}, page 1 of 1"
    marks = page.locator("#picture mark")
    assert marks.count() >= 1
    frame = image.bounding_box()
    for mark in marks.all():
        box = mark.bounding_box()
        assert frame["x"] <= box["x"] < box["x"] + box["width"] <= frame["x"] + frame["width"]
        assert frame["y"] <= box["y"] < box["y"] + box["height"] <= frame["y"] + frame["height"]
        assert box["height"] > 4
    assert image.evaluate("each => each.naturalWidth") >= 800
    page.click("#tab-text")
    assert page.locator("#picture").is_hidden()
    quote = citation.locator(".quote").inner_text().strip("“”")
    assert " ".join(page.inner_text("#text mark").split()) == quote
    assert page.get_attribute("#tab-text", "aria-selected") == "true"


@pytest.mark.long
def test_several_documents_are_asked_together(open_page: Open) -> None:
    page = open_page()
    add(page, "0.txt")
    add(page, "1.txt")
    assert page.inner_text("#scope") == "About 2 documents together"
    wait_until_read(page)
    with page.expect_request("**/v1/chat/completions") as sent:
        ask(page, "Who?")
    assert sent.value.post_data_json["documents"] == ["0.txt", "1.txt"]
    page.get_by_label("0.txt", exact=True).uncheck()
    assert page.inner_text("#scope") == "About 1.txt"
    with page.expect_request("**/v1/chat/completions") as sent:
        ask(page, "And when?")
    assert sent.value.post_data_json["documents"] == ["1.txt"]
    assert [each["role"] for each in sent.value.post_data_json["messages"]] == [
        *("user", "assistant", "user")
    ]
    add(page, "0.txt")  # a second click on a file removes it
    assert page.locator("#documents li").all_inner_texts() == ["1.txt\n✕"]
    page.get_by_label("Remove 1.txt").click()
    assert page.inner_text("#scope").startswith("No document")


def test_stages_are_those_of_the_events(open_page: Open) -> None:
    """A stream of made events: the page shows their words and numbers, and adds none."""
    page = open_page()
    page.locator("#found button").first.wait_for()
    told = [
        {"task": "Fetching x", "done": 2500000, "total": 5000000, "unit": "bytes"},
        {"task": "Reading x", "done": 64, "total": 1234, "unit": "tokens"},
    ]
    events = [json.dumps({"choices": [], "progress": each}) for each in told]
    stage = {"name": "searching", "text": "Searching the text"}
    events.append(json.dumps({"choices": [], "stage": stage}))
    body = "".join(f"data: {event}\n\n" for event in events)
    page.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(body=body, content_type="text/event-stream"),
    )
    page.fill("#question", "Who?")
    page.press("#question", "Enter")
    page.locator(".stages li", has_text="Reading x").wait_for()
    assert page.locator(".stages li:visible").all_inner_texts() == [
        "Fetching x: 3 of 5 MB",
        "Reading x: 64 of 1,234 tokens",
        "Searching the text",
    ]
    page.locator("#answers", has_text="no answer").wait_for()


def test_what_an_answer_took_is_told(open_page: Open) -> None:
    page = open_page()
    add(page, "0.txt")
    wait_until_read(page)
    ask(page)
    told = page.locator(".stages").inner_text()
    assert re.fullmatch(
        r"[\d,]+ tokens, [\d,]+ of them stored before; \d+ tokens? answered; [\d.]+\ss", told
    )


@pytest.mark.long
def test_a_conversation_is_saved_and_copied(open_page: Open) -> None:
    page = open_page()
    assert page.is_disabled("#copy")
    assert page.is_disabled("#save")
    add(page, "0.txt")
    ask(page, "Who\nwrote it?")
    ask(page, "And when?")
    with page.expect_download() as saved:
        page.click("#save")
    assert saved.value.suggested_filename == "nsa-conversation.md"
    text = Path(saved.value.path()).read_text()
    assert text.startswith("# Questions and answers\n\nAnswered by ")
    assert re.findall("^## .*", text, re.MULTILINE) == ["## Who wrote it?", "## And when?"]
    assert text.count("About 0.txt.") == 1
    assert re.search(r"^1\. 0\.txt, lines? \d+.*\n   > The worker of line", text, re.MULTILINE)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("#copy")
    page.locator("#copy", has_text="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == text
    page.click("#clear")
    assert page.locator("#answers > li").count() == 0
    assert page.is_disabled("#save")
    assert page.is_visible("#empty")


def test_the_empty_state_has_three_examples(open_page: Open) -> None:
    page = open_page()
    examples = page.locator("#examples button")
    assert examples.count() == 3
    assert page.locator("#empty ol li").count() == 3
    examples.nth(1).click()
    assert page.input_value("#question") == examples.nth(1).inner_text()
    assert page.evaluate("document.activeElement.id") == "question"


def focused(page: Any) -> str:
    return str(page.evaluate("document.activeElement.id || document.activeElement.textContent"))


@pytest.mark.long
def test_the_keyboard_suffices(open_page: Open, pdf: str) -> None:
    page = open_page()
    page.locator("#found button", has_text=pdf).wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(20):
        page.keyboard.press("Tab")
        assert page.evaluate(
            "(getComputedStyle(document.activeElement).outlineStyle !== 'none')"
            " || document.activeElement.matches('#files')"
        )
        if focused(page) == "search":
            break
    page.keyboard.type("boot")
    page.locator("#found button", has_text="0.txt").wait_for(state="detached")
    page.keyboard.press("ArrowDown")
    assert focused(page) == pdf
    page.keyboard.press("Enter")
    page.locator("#documents li").wait_for()
    while focused(page) != "question":
        page.keyboard.press("Tab")
    page.keyboard.type("Where is the kernel?")
    page.keyboard.press("Enter")
    page.locator(".citations button").first.wait_for()
    while not page.evaluate("document.activeElement.matches('.citations button')"):
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    page.locator("#picture img").wait_for()
    assert focused(page) == "where"
    while focused(page) != "tab-picture":
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert focused(page) == "tab-text"
    assert page.is_visible("#text")
    page.keyboard.press("Escape")
    assert page.is_hidden("#viewer")
    assert page.evaluate("document.activeElement.matches('.citations button')")


@pytest.mark.long
def test_every_control_has_a_name(open_page: Open) -> None:
    page = open_page()
    page.locator("#found button").first.wait_for()
    unnamed = page.evaluate(
        """[...document.querySelectorAll("button, input, select, textarea, a")].filter(each =>
            !(each.textContent.trim() || each.ariaLabel || each.labels?.length || each.hidden
              || each.title)).map(each => each.outerHTML)"""
    )
    assert unnamed == []
    assert page.get_attribute("#announced", "aria-live") == "polite"
    add(page, "0.txt")
    page.locator("#announced", has_text="Ready: ").wait_for(state="attached")


CONTRAST = """selector => {
  const numbers = color => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(value => value / 255)
    .map(value => value <= .03928 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4)
    .reduce((sum, value, at) => sum + value * [.2126, .7152, .0722][at], 0);
  const element = document.querySelector(selector);
  let behind = element;
  while (numbers(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
  const [high, low] = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor]
    .map(numbers).map(light).sort((a, b) => b - a);
  return (high + .05) / (low + .05);
}"""


@pytest.mark.long
@pytest.mark.parametrize("colors", ["light", "dark"])
def test_text_can_be_read_in_both_colors(open_page: Open, colors: str) -> None:
    page = open_page(colors=colors)
    add(page, "0.txt")
    ask(page)
    for selector in (
        *("body", "#model", "#scope", "#send", "#found button", ".question", ".answer"),
        *(".stages", ".citations button", ".citations .quote", "#drop u"),
    ):
        assert page.evaluate(CONTRAST, selector) >= 4.5, selector
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    other = {"light": "dark", "dark": "light"}[colors]
    page.select_option("#colors", other)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != ground
    page.reload()
    assert page.input_value("#colors") == other


@pytest.mark.long
@pytest.mark.parametrize("size", SIZES)
def test_the_page_fits_its_window(open_page: Open, pdf: str, size: tuple[int, int]) -> None:
    page = open_page(size)

    def fits(*seen: str) -> None:
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        for selector in seen:
            box = page.locator(selector).bounding_box()
            assert box is not None, selector
            assert box["x"] >= 0, selector
            assert box["y"] >= 0, selector
            assert box["x"] + box["width"] <= size[0], selector
            assert box["y"] + box["height"] <= size[1], selector

    page.locator("#found button", has_text=pdf).wait_for()
    fits("#copy", "#colors", "#search", "#question", "#send")
    for name in ("0.txt", "1.txt", pdf):
        add(page, name)
    wait_until_read(page)
    library, reading = (page.locator(each).bounding_box() for each in ("#library", "#reading"))
    assert reading["y"] >= library["y"]
    assert reading["y"] + reading["height"] <= library["y"] + library["height"] + 1
    for name in ("0.txt", "1.txt"):
        page.click(f"[aria-label='Remove {name}']")
    ask(page)
    fits("#question", "#send", "#save")
    page.locator(".citations button").first.click()
    page.locator("#picture img").wait_for()
    fits("#close", "#tab-text", "#picture")


def test_no_request_leaves_the_machine(open_page: Open, site: Any) -> None:
    """The policy refuses foreign pictures, requests and frames, and inline code."""
    page = open_page(strict=False)  # a refused request is an attempt
    url = site.put("/spy", b"x", Access_Control_Allow_Origin="*")
    refused = page.evaluate(
        """async url => {
          const found = [];
          document.addEventListener("securitypolicyviolation",
            event => found.push(event.effectiveDirective));
          const image = new Image();
          image.src = url;
          document.body.append(image);
          await fetch(url).catch(() => null);
          const frame = document.createElement("iframe");
          frame.src = url;
          document.body.append(frame);
          const style = document.createElement("style");
          style.textContent = "body { color: red }";
          document.body.append(style);
          try { document.body.innerHTML = "<b>x</b>"; } catch { found.push("trusted types"); }
          await new Promise(resolve => setTimeout(resolve, 300));
          return found;
        }""",
        url,
    )
    assert {"img-src", "connect-src", "frame-src", "style-src-elem", "trusted types"} <= {*refused}
    assert site.requests == []


@pytest.mark.long
def test_a_key_is_asked_for_once(open_page: Open, pdf: str) -> None:
    page = open_page(api_key="secret")
    page.locator("#locked[open]").wait_for()
    page.fill("#key", "secret")
    page.press("#key", "Enter")
    add(page, pdf)
    ask(page)
    page.locator(".citations button").first.click()
    page.locator("#picture img").wait_for()
    assert page.locator("#locked[open]").count() == 0


def test_a_document_that_cannot_be_read_is_told(open_page: Open, root: Path) -> None:
    (root / "broken.pdf").write_bytes(b"%PDF-1.7 nothing")
    page = open_page()
    add(page, "broken.pdf")
    page.locator("#reading [role=alert]", has_text="broken.pdf").wait_for()


@pytest.mark.long
def test_files_are_uploaded(open_page: Open, tmp_path: Path, prose: Any) -> None:
    (tmp_path / "mine.txt").write_text(prose(60))
    page = open_page()
    page.set_input_files("#files", tmp_path / "mine.txt")
    wait_until_read(page)
    assert page.inner_text("#scope") == "About mine.txt"
    ask(page)
    page.locator(".citations button").first.click()
    page.locator("#text mark").wait_for()
    assert page.is_hidden("#picture")
    assert page.is_disabled("#tab-picture")
