"""The report in a real browser: nothing fails, nothing is asked for, everybody can read it."""

import re

import browser
import nibabel as nib
import numpy as np
import pytest
import report_tree as tree

from m2m.io.bids import unit_path
from m2m.io.tables import read_table

PEOPLE = {"sub-01": "train", "sub-02": "validation", "sub-03": "test", "sub-04": "test"}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    root = tree.study(tmp_path_factory.mktemp("results") / "ds", PEOPLE)
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
        assert wrong == browser.CLEAN


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
        broken, passed = browser.judged(page)
    assert not broken
    assert {"color-contrast", "heading-order", "image-alt", "region"} <= passed


def test_axe_finds_pale_words_and_a_picture_without_words(chromium, tmp_path):
    path = tmp_path / "page.html"
    path.write_text("<p style='color: #bbb'>pale</p><img src='data:image/gif;base64,R0lGODlh'>")
    with browser.opened(chromium, path, 390) as (page, _):
        assert {"color-contrast", "image-alt", "html-has-lang"} <= browser.judged(page)[0].keys()


def column(page, table, head):
    """Texts of a column of a table, from top to bottom."""
    heads = page.locator(f"#{table} thead th").all_inner_texts()
    index = [text.rstrip(" ▲▼") for text in heads].index(head) + 1
    return page.locator(f"#{table} tbody tr > :nth-child({index})").all_inner_texts()


def test_a_table_is_sorted_by_keyboard_and_says_so(chromium, report):
    table = f"people-{tree.TASK}"
    evaluation = report.parent / "evaluate" / tree.TASK
    ssim = [
        float(row["ssim"])
        for model in tree.MODELS
        for row in read_table(evaluation / model / "metrics.tsv")
        if row["region"] == "brain"
    ]
    with browser.opened(chromium, report, 1280) as (page, wrong):
        browser.unfold(page)
        head = page.locator(f"#{table} thead th", has_text="SSIM")
        assert head.get_attribute("aria-sort") is None
        head.locator("button").focus()
        for key, order in (("Enter", "ascending"), ("Space", "descending")):
            page.keyboard.press(key)
            assert head.get_attribute("aria-sort") == order
            found = [float(text) for text in column(page, table, "SSIM")]
            known = sorted(ssim, reverse=order == "descending")
            np.testing.assert_allclose(found, known, atol=6e-4)
        page.locator(f"#{table} thead th", has_text="model").locator("button").click()
        assert head.get_attribute("aria-sort") is None
        assert column(page, table, "model") == sorted(tree.MODELS * 2)
        assert wrong == browser.CLEAN


def told(page, name):
    """What the viewer says of a map at the crosshair."""
    words = page.locator("[data-part=values]").inner_text()
    return float(re.search(rf"{name} (-?\d\.\d+)", words)[1])


def started(page):
    """Bring the viewer into sight and wait until it is there."""
    page.locator("[data-part=frame]").scroll_into_view_if_needed()
    page.locator("#viewer[data-state=ready]").wait_for(state="attached")


def test_the_viewer_shows_maps_streamlines_and_the_values_of_the_files(chromium, report, width):
    root, canvas = report.parent, "#viewer canvas"
    with browser.opened(chromium, report, width) as (page, wrong):
        assert page.locator("#viewer").get_attribute("data-state") is None
        started(page)
        synthetic = browser.picture_of(page, canvas)
        assert len(np.unique(synthetic.reshape(-1, 3), axis=0)) > 200
        person = page.locator("[data-part=person] option:checked").inner_text()[:6]
        # By keyboard to another place, whose values are known from the files.
        for axis, steps in (("x", 6), ("y", -9), ("z", 3)):
            page.locator(f"[data-part={axis}]").focus()
            for _ in range(abs(steps)):
                page.keyboard.press("ArrowRight" if steps > 0 else "ArrowLeft")
        mm = [float(page.locator(f"[data-part={axis}]").input_value()) for axis in "xyz"]
        page.locator("[data-part=values]", has_text=f"x {mm[0]:.0f}, y {mm[1]:.0f}").wait_for()
        image = nib.load(unit_path(root, "fa", person, person))
        voxel = np.rint(np.linalg.solve(image.affine, [*mm, 1])[:3]).astype(int)
        near = image.get_fdata()[tuple(slice(v - 1, v + 2) for v in voxel)]
        assert near.min() - 0.005 <= told(page, "true FA") <= near.max() + 0.005
        error = told(page, "synthetic FA") - told(page, "true FA")
        assert told(page, "error") == pytest.approx(error, abs=0.006)
        page.locator("[data-part=map]").select_option("error")
        assert np.abs(browser.picture_of(page, canvas) - synthetic.astype(int)).mean() > 1
        page.locator("[data-part=view]").select_option("turned")
        without = browser.picture_of(page, canvas).astype(int)
        page.locator("[data-part=streamlines]").select_option("measured")
        page.wait_for_timeout(1000)
        assert np.abs(browser.picture_of(page, canvas) - without).mean() > 0.5
        assert wrong == browser.CLEAN


def test_axe_finds_nothing_to_mend_in_the_viewer_that_runs(chromium, report):
    with browser.opened(chromium, report, 390) as (page, _):
        started(page)
        broken, passed = browser.judged(page)
        assert not broken and {"select-name", "label"} <= passed
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_page_itself_forbids_requests(chromium, report, tmp_path):
    """What its words say, its policy makes the browser do."""
    path = tmp_path / "report.html"
    leak = "<img src='http://localhost:9/picture.png'></main>"
    path.write_text(report.read_text().replace("</main>", leak))
    with browser.opened(chromium, path, 390) as (page, wrong):
        browser.unfold(page)
        assert any("Content Security Policy" in text for text in wrong["console"])
