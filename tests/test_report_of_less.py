"""Pages of studies that lack test participants or regions, or have fields beside their maps."""

from pathlib import Path

import report_tree as tree
from PIL import Image
from test_report import Page

from m2m.io.bids import unit_path
from m2m.options import Evaluation
from m2m.report import page_figures


def test_a_study_without_test_subjects_still_has_its_page(tmp_path):
    root = tree.build(tmp_path / "ds", {"sub-01": "train", "sub-02": "validation"}, tree.TASKS)
    for task in tree.TASKS:
        tree.run_evaluation(root, task=task)
    page = Page(tree.write_page(root))
    assert page.text.count("Nothing to evaluate") == len(tree.TASKS)
    assert "sub-01" in page.text


def test_a_study_without_regions_states_it(tmp_path):
    root = tree.build(tmp_path / "ds", {"sub-01": "train", "sub-02": "test"}, ["t1-dti"])
    tree.run_evaluation(root, options=Evaluation(), task="t1-dti")
    text = Page(tree.write_page(root, tasks=["t1-dti"])).text
    assert "ROI concordance was not computed" in text
    assert "Streamlines were not compared by bundle" in text


def test_views_of_a_field_are_shown_where_they_were_made(tmp_path):
    row = {"unit": "sub-01", "state": "used", "part": "test", "reason": None}
    assert page_figures.subjects(tmp_path, [row], 5)[0]["figures"] == []
    path = Path(unit_path(tmp_path, "field-stills", "sub-01", "sub-01"))
    path.parent.mkdir(parents=True)
    Image.linear_gradient("L").save(path)
    ((description, uri),) = page_figures.subjects(tmp_path, [row], 5)[0]["figures"]
    assert "field of tract density" in description and uri.startswith("data:image/webp")
