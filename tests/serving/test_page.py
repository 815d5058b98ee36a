"""The page in a browser that reaches nothing but the server."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright
from served import Client, serving

from aurora_vl.gallery.gallery import Gallery
from aurora_vl.inference.retriever import Retriever
from aurora_vl.serving.access import Tokens
from aurora_vl.serving.engine import Engine

CHROMIUM = shutil.which("chromium")
QUERY = "a big red star on grass"
WIDTHS = {"desktop": (1280, 800), "phone": (390, 844)}
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        expect.set_options(timeout=120_000)
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@contextmanager
def opened(browser: Browser, client: Client, width: str = "desktop") -> Iterator[Page]:
    """The page; a request to another host or an error in its script fails the test."""
    size, faults = WIDTHS[width], []
    context = browser.new_context(viewport={"width": size[0], "height": size[1]})
    context.set_default_timeout(120_000)

    def guard(route: Route) -> None:
        if urlsplit(route.request.url).port == client.port:
            route.continue_()
        else:
            faults.append(route.request.url)
            route.abort()

    context.route("**/*", guard)
    page = context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(client.url)
    yield page
    context.close()
    assert faults == []


@pytest.fixture
def page(browser: Browser, client: Client) -> Iterator[Page]:
    with opened(browser, client) as found:
        yield found


@pytest.fixture
def first(gallery: Gallery, retriever: Retriever) -> Callable[..., str]:
    """The name of what the gallery finds first."""

    def search(adapter: str, rerank: int = 0) -> str:
        hits = gallery.search(QUERY, retriever, adapter=adapter, rerank=rerank, top=1)
        return Path(hits[0].item.path).name

    return search


@pytest.mark.parametrize("width", WIDTHS)
def test_typing_shows_the_expected_picture_first(
    browser: Browser, client: Client, first: Callable[..., str], width: str, tmp_path: Path
) -> None:
    with opened(browser, client, width) as page:
        page.keyboard.type(QUERY)  # the box has the focus
        expect(page.locator(".hit b").first).to_have_text(first("a"))
        expect(page.get_by_role("status")).to_contain_text("results in")
        expect(page.locator(".hit img").first).to_have_js_property("complete", True)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.screenshot(path=tmp_path / f"results-{width}.png")
        page.get_by_label("beside").select_option("mini")
        expect(page.locator("main section")).to_have_count(2)
        expect(page.locator("section:nth-child(2) .hit b").first).to_have_text(first("base"))
        page.emulate_media(color_scheme="dark")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.screenshot(path=tmp_path / f"beside-{width}-dark.png")


def test_results_are_reranked_and_filtered(page: Page, first: Callable[..., str]) -> None:
    page.locator("#model").select_option("b")
    page.get_by_label("Re-rank").check()
    page.get_by_role("searchbox").fill(QUERY)
    expect(page.locator(".hit b").first).to_have_text(first("b", rerank=20))
    page.get_by_label("Show").select_option("video")
    expect(page.locator(".hit")).to_have_count(3)


def test_a_picture_finds_itself(page: Page, pictures: list[Path], tmp_path: Path) -> None:
    page.get_by_label("Picture…").set_input_files(pictures[7])
    expect(page.locator(".hit b").first).to_have_text(pictures[7].name)
    page.screenshot(path=tmp_path / "by-picture.png")
    page.get_by_role("button", name="Remove").click()
    expect(page.locator(".hit")).to_have_count(0)


def test_a_broken_picture_gives_a_sentence(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    page.get_by_label("Picture…").set_input_files(broken)
    expect(page.get_by_role("status")).to_contain_text("not a picture that can be read")


def test_a_result_is_asked_about_by_keyboard(
    page: Page, engine: Engine, pictures: list[Path], tmp_path: Path
) -> None:
    page.get_by_label("Picture…").set_input_files(pictures[3])
    expect(page.locator(".hit b").first).to_have_text(pictures[3].name)
    page.locator(".hit").first.focus()
    page.keyboard.press("Enter")
    page.get_by_label("Ask about it").fill("what colour is it?")
    page.keyboard.press("Enter")
    assert engine.answerer is not None
    expected = engine.answerer.answer(pictures[3], "what colour is it?", adapter="asks-a")
    expect(page.locator("#answers p")).to_have_text(
        f"what colour is it? (asks-a){expected or '(no answer)'}"
    )
    page.screenshot(path=tmp_path / "asking.png")
    page.keyboard.press("Escape")
    expect(page.locator("#item")).not_to_be_visible()


def test_a_video_plays(page: Page, tmp_path: Path) -> None:
    page.get_by_role("searchbox").fill(QUERY)
    page.get_by_label("Show").select_option("video")
    expect(page.locator(".hit")).to_have_count(3)
    page.locator(".hit").first.hover()
    page.wait_for_function("() => document.querySelector('.hit video')?.currentTime > 0")
    page.locator(".hit").first.click()
    expect(page.locator("#item-media video")).to_be_visible()
    page.screenshot(path=tmp_path / "video.png")


def test_the_page_asks_for_a_token(browser: Browser, engine: Engine) -> None:
    token = "a-token-of-more-than-16"
    with serving(engine, tokens=Tokens([token])) as client, opened(browser, client) as page:
        page.get_by_label("Token", exact=True).fill("a-wrong-one")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("That token is not let in.")
        page.get_by_label("Token", exact=True).fill(token)
        page.keyboard.press("Enter")
        page.get_by_role("searchbox").fill(QUERY)
        expect(page.locator(".hit")).to_have_count(40)
        page.wait_for_function("() => document.querySelector('.hit img').naturalWidth > 0")
