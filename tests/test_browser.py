"""The report in a real browser: nothing fails, nothing is asked for, everybody can read it."""

import shutil

import browser
import pytest
import report_tree as tree
from axe_playwright_python.sync_playwright import Axe
from conftest import not_here
from playwright.sync_api import sync_playwright

CLEAN = {"console": [], "errors": [], "requests": []}


@pytest.fixture(scope="module")
def chromium():
    program = shutil.which("chromium")
    if program is None:
        not_here("chromium is not installed")
    with sync_playwright() as playwright:
        window = browser.launch(playwright, program)
        yield window
        window.close()


def judged(page):
    """Rules of axe-core that a page breaks, each with an element; and those that it keeps."""
    found = Axe().run(page).response
    broken = {rule["id"]: rule["nodes"][0]["html"] for rule in found["violations"]}
    return broken, {rule["id"] for rule in found["passes"]}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    root = tree.study(tmp_path_factory.mktemp("results") / "ds")
    tree.write_page(root)
    return root / "report.html"


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """The page of a study without test people, hence without results."""
    root = tmp_path_factory.mktemp("results") / "ds"
    tree.build(root, {"sub-01": "train", "sub-02": "validation"})
    tree.run_evaluation(root)
    tree.write_page(root, tasks=[tree.TASK])
    return root / "report.html"


@pytest.fixture(params=["report", "bare"])
def path(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(params=browser.WIDTHS)
def width(request):
    return browser.WIDTHS[request.param]


def test_a_page_opens_without_an_error_and_asks_for_nothing(chromium, path, width):
    with browser.opened(chromium, path, width) as (page, wrong):
        browser.unfold(page)
        assert page.locator("h1").inner_text() == "A <study> & more"
        assert wrong == CLEAN


def test_what_a_page_asks_for_or_does_wrong_is_noticed(chromium, tmp_path):
    path = tmp_path / "page.html"
    path.write_text("<img src='http://localhost:9/picture.png'><script>nothing()</script>")
    with browser.opened(chromium, path, 390) as (page, wrong):
        browser.unfold(page)
        assert wrong["requests"] == ["http://localhost:9/picture.png"]
        assert len(wrong["errors"]) == 1 and len(wrong["console"]) == 1


def test_every_picture_of_a_page_loads(chromium, path, width):
    with browser.opened(chromium, path, width) as (page, _):
        browser.unfold(page)
        widths = page.evaluate("[...document.images].map((picture) => picture.naturalWidth)")
    assert widths and min(widths) > 0


def test_a_page_is_as_wide_as_its_window(chromium, path, width):
    """What is wider, a table or a figure, scrolls inside its own frame."""
    with browser.opened(chromium, path, width) as (page, _):
        browser.unfold(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_axe_finds_nothing_to_mend(chromium, path, width):
    """Contrast, words for pictures, labels, order of headings, keyboard: all rules of axe-core."""
    with browser.opened(chromium, path, width) as (page, _):
        browser.unfold(page)
        broken, passed = judged(page)
    assert not broken
    assert {"color-contrast", "heading-order", "image-alt", "region"} <= passed


def test_axe_finds_pale_words_and_a_picture_without_words(chromium, tmp_path):
    path = tmp_path / "page.html"
    path.write_text("<p style='color: #bbb'>pale</p><img src='data:image/gif;base64,R0lGODlh'>")
    with browser.opened(chromium, path, 390) as (page, _):
        assert {"color-contrast", "image-alt", "html-has-lang"} <= judged(page)[0].keys()
