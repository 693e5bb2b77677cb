"""A page that is too large has a folder of files beside it, opens from disk as before, and prints whole."""

import re
import shutil

import browser
import pytest
import report_tree as tree

from m2m.report.page_files import save_page

SUBJECTS = {"sub-01": "train", "sub-02": "validation", "sub-03": "test", "sub-04": "test"}
# A4 without margins of 14 mm, in CSS pixels, and the height that an image may have.
PAPER_PX, IMAGE_PX = 688, 794


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page as one file."""
    root = tree.build(tmp_path_factory.mktemp("results") / "ds", SUBJECTS)
    tree.run_evaluation(root)
    tree.write_page(root, tasks=[tree.TASK])
    return root / "report.html"


@pytest.fixture(scope="module")
def divided(page, tmp_path_factory):
    """The page with all that can be beside it, in another place."""
    folder = tmp_path_factory.mktemp("sent") / "to you"
    save_page(page.parent / "divided.html", page.read_text(), 0.001)
    folder.mkdir()
    shutil.move(page.parent / "divided.html", folder)
    shutil.move(page.parent / "divided_files", folder)
    return folder / "divided.html"


def sources(path):
    return set(re.findall(r'src="([^"]+)"', path.read_text()))


def test_a_small_page_is_one_file_and_a_larger_one_has_no_more_beside_it_than_it_must(page, tmp_path):
    text, out, folder = page.read_text(), tmp_path / "report.html", tmp_path / "report_files"
    size = len(text.encode()) / 1e6
    save_page(out, text, size)
    assert out.read_text() == text and not folder.exists()
    save_page(out, text, size - 0.001)
    assert [path.name for path in folder.iterdir()] == ["viewer.js"]
    assert "data:image/webp" in out.read_text()
    save_page(out, text, 0.001)
    assert "data:image" not in out.read_text() and len(out.read_text()) < len(text) / 10
    assert {f"report_files/{path.name}" for path in folder.iterdir()} == sources(out)
    # What an earlier page left is removed.
    (folder / "0123456789abcdef.webp").write_bytes(b"")
    save_page(out, text, 0.001)
    assert {f"report_files/{path.name}" for path in folder.iterdir()} == sources(out)
    save_page(out, text, size)
    assert out.read_text() == text and not folder.exists()


def test_a_page_with_files_beside_it_opens_from_disk_with_its_viewer(chromium, divided):
    with browser.opened(chromium, divided, 1280) as (page, problems):
        browser.unfold(page)
        widths = page.evaluate("[...document.images].map((image) => image.naturalWidth)")
        assert widths and min(widths) > 0
        page.locator("[data-part=frame]").scroll_into_view_if_needed()
        page.locator("#viewer[data-state=ready]").wait_for(state="attached")
        assert "measured FA" in page.locator("[data-part=values]").inner_text()
        assert "needs the folder divided_files" in page.locator("footer").inner_text()
        assert problems == browser.CLEAN


def test_a_printed_page_has_no_table_or_figure_that_is_cut(chromium, page):
    with browser.opened(chromium, page, PAPER_PX) as (window, _):
        window.emulate_media(media="print")
        browser.unfold(window)
        assert window.evaluate("document.documentElement.scrollWidth") <= PAPER_PX
        heights = window.evaluate("[...document.images].map((image) => image.height)")
        assert heights and max(heights) <= IMAGE_PX
        assert not window.locator("#viewer").is_visible()
        cut = """[...document.querySelectorAll(".scroll, .wide, pre")].filter((part) => part.scrollWidth
            > part.clientWidth + 1).map((part) => part.ariaLabel)"""
        assert window.evaluate(cut) == []
