"""The report in a real browser: no errors, no requests, and it is accessible."""

import re

import browser
import nibabel as nib
import numpy as np
import pytest
import report_tree as tree

from m2m.io.bids import unit_path
from m2m.io.tables import read_table

SUBJECTS = {"sub-01": "train", "sub-02": "validation", "sub-03": "test", "sub-04": "test"}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    root = tree.study(tmp_path_factory.mktemp("results") / "ds", SUBJECTS)
    tree.write_page(root)
    return root / "report.html"


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """The page of a study without test participants, hence without results."""
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


def test_a_page_opens_without_errors_and_requests(chromium, path, width):
    with browser.opened(chromium, path, width) as (page, problems):
        browser.unfold(page)
        assert page.locator("h1").inner_text() == "A <study> & more"
        assert problems == browser.CLEAN


def test_requests_and_errors_of_a_page_are_detected(chromium, tmp_path):
    path = tmp_path / "page.html"
    path.write_text("<img src='http://localhost:9/picture.png'><script>nothing()</script>")
    with browser.opened(chromium, path, 390) as (page, problems):
        browser.unfold(page)
        assert problems["requests"] == ["http://localhost:9/picture.png"]
        assert len(problems["errors"]) == 1 and len(problems["console"]) == 1


def test_every_image_of_a_page_loads(chromium, path, width):
    with browser.opened(chromium, path, width) as (page, _):
        browser.unfold(page)
        widths = page.evaluate("[...document.images].map((image) => image.naturalWidth)")
    assert widths and min(widths) > 0


def test_a_page_is_as_wide_as_its_window(chromium, path, width):
    """Wider tables and figures scroll inside their own frames."""
    with browser.opened(chromium, path, width) as (page, _):
        browser.unfold(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_axe_finds_no_violation(chromium, path, width):
    """Contrast, texts of images, labels, order of headings, keyboard: all rules of axe-core."""
    with browser.opened(chromium, path, width) as (page, _):
        browser.unfold(page)
        violations, passed = browser.checked(page)
    assert not violations
    assert {"color-contrast", "heading-order", "image-alt", "region"} <= passed


def test_axe_finds_low_contrast_and_an_image_without_text(chromium, tmp_path):
    path = tmp_path / "page.html"
    path.write_text("<p style='color: #bbb'>pale</p><img src='data:image/gif;base64,R0lGODlh'>")
    with browser.opened(chromium, path, 390) as (page, _):
        assert {"color-contrast", "image-alt", "html-has-lang"} <= browser.checked(page)[0].keys()


def column(page, table, title):
    """Texts of a column of a table, from top to bottom."""
    titles = page.locator(f"#{table} thead th").all_inner_texts()
    index = [text.rstrip(" ▲▼") for text in titles].index(title) + 1
    return page.locator(f"#{table} tbody tr > :nth-child({index})").all_inner_texts()


def test_a_table_is_sorted_by_keyboard_and_announces_the_order(chromium, report):
    table = f"participants-{tree.TASK}"
    evaluation = report.parent / "evaluate" / tree.TASK
    ssim = [
        float(row["ssim"])
        for model in tree.MODELS
        for row in read_table(evaluation / model / "metrics.tsv")
        if row["region"] == "brain"
    ]
    with browser.opened(chromium, report, 1280) as (page, problems):
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
        assert problems == browser.CLEAN


def value_of(page, name):
    """Value of a map at the crosshair, as the viewer shows it."""
    text = page.locator("[data-part=values]").inner_text()
    return float(re.search(rf"{name} (-?\d\.\d+)", text)[1])


def start_viewer(page):
    """Scroll to the viewer and wait until it is ready."""
    page.locator("[data-part=frame]").scroll_into_view_if_needed()
    page.locator("#viewer[data-state=ready]").wait_for(state="attached")


def test_the_viewer_shows_maps_streamlines_and_the_values_of_the_files(chromium, report, width):
    root, canvas = report.parent, "#viewer canvas"
    with browser.opened(chromium, report, width) as (page, problems):
        assert page.locator("#viewer").get_attribute("data-state") is None
        start_viewer(page)
        synthetic = browser.figure_of(page, canvas)
        assert len(np.unique(synthetic.reshape(-1, 3), axis=0)) > 200
        subject = page.locator("[data-part=subject] option:checked").inner_text()[:6]
        # By keyboard to another position, whose values are known from the files.
        for axis, steps in (("x", 6), ("y", -9), ("z", 3)):
            page.locator(f"[data-part={axis}]").focus()
            for _ in range(abs(steps)):
                page.keyboard.press("ArrowRight" if steps > 0 else "ArrowLeft")
        mm = [float(page.locator(f"[data-part={axis}]").input_value()) for axis in "xyz"]
        page.locator("[data-part=values]", has_text=f"x {mm[0]:.0f}, y {mm[1]:.0f}").wait_for()
        image = nib.load(unit_path(root, "fa", subject, subject))
        voxel = np.rint(np.linalg.solve(image.affine, [*mm, 1])[:3]).astype(int)
        near = image.get_fdata()[tuple(slice(v - 1, v + 2) for v in voxel)]
        assert near.min() - 0.005 <= value_of(page, "measured FA") <= near.max() + 0.005
        error = value_of(page, "synthetic FA") - value_of(page, "measured FA")
        assert value_of(page, "error") == pytest.approx(error, abs=0.006)
        page.locator("[data-part=map]").select_option("error")
        assert np.abs(browser.figure_of(page, canvas) - synthetic.astype(int)).mean() > 1
        page.locator("[data-part=view]").select_option("render")
        without = browser.figure_of(page, canvas).astype(int)
        page.locator("[data-part=streamlines]").select_option("measured")
        page.wait_for_timeout(1000)
        whole = browser.figure_of(page, canvas).astype(int)
        assert np.abs(whole - without).mean() > 0.5
        names = page.locator("[data-part=bundle] option").all_inner_texts()
        assert names[0] == "all" and {*names} >= {*tree.BUNDLES.values()}
        page.locator("[data-part=bundle]").select_option("left CST")
        page.wait_for_timeout(1000)
        bundle = browser.figure_of(page, canvas).astype(int)
        assert 0.05 < np.abs(bundle - without).mean() < np.abs(whole - without).mean()
        assert problems == browser.CLEAN


def test_axe_finds_no_violation_in_the_running_viewer(chromium, report):
    with browser.opened(chromium, report, 390) as (page, _):
        start_viewer(page)
        violations, passed = browser.checked(page)
        assert not violations and {"select-name", "label"} <= passed
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_page_itself_forbids_requests(chromium, report, tmp_path):
    """The content security policy of the page blocks requests."""
    path = tmp_path / "report.html"
    leak = "<img src='http://localhost:9/picture.png'></main>"
    path.write_text(report.read_text().replace("</main>", leak))
    with browser.opened(chromium, path, 390) as (page, problems):
        browser.unfold(page)
        assert any("Content Security Policy" in text for text in problems["console"])
