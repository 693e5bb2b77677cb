"""A figure is a function and a record: the workflow requests it, it is drawn, the page shows it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import report_tree as tree
from test_report import Page

from m2m.figures import figure_records, style
from m2m.figures.draw import draw_task
from m2m.figures.figure_records import (
    FIGURES,
    SECTIONS,
    FigureSpec,
    of_page,
    of_scope,
    of_target,
    paths_of_page,
)
from m2m.figures.study import Study
from m2m.io.modalities import MODALITIES
from m2m.io.tables import read_table
from m2m.options import Task

ROOT = Path(__file__).parents[1]
EVERY = {
    "overview",
    "panel",
    "metrics",
    "forest",
    "profile",
    "rois",
    "training",
    "agreement",
    "spectrum",
    "uncertainty",
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_record_names_an_existing_function(name):
    spec = FIGURES[name]
    module, function = spec.draw.split(":")
    path = ROOT / f"{module.replace('.', '/')}.py"
    defined = {n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef)}
    assert function in defined
    assert spec.section in SECTIONS and spec.columns
    assert set(spec.targets) <= set(MODALITIES)


def test_each_target_has_its_figures_and_a_further_scalar_map_has_those_of_fa_but_one():
    assert set(of_target("fa")) == EVERY | {"speed", "bundle_profiles"}
    assert set(of_target("tdi")) == EVERY | {"projections"}
    assert set(of_target("dti")) == EVERY | {"projections", "bundles"}
    assert set(of_target("md")) == EVERY | {"bundle_profiles"}
    assert list(of_page(False, visits=True)) == ["visits", "quality", "flow"]
    assert list(of_page(True)) == ["ratio", "quality", "flow"] and list(of_page(False)) == ["quality", "flow"]
    assert len(FIGURES) == sum(len(of_scope(s)) for s in ("task", "page", "downstream", "fields", "pairs"))


def test_the_records_are_imported_without_a_large_library():
    code = "import sys, m2m.figures.figure_records; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in run.stdout.split()}
    assert not loaded & {"numpy", "matplotlib", "pandas", "typer", "torch"}


def test_no_rule_and_no_page_names_a_figure():
    rules = "\n".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    templates = (ROOT / "m2m/report/templates").glob("*.html.j2")
    pages = "\n".join(path.read_text() for path in templates)
    for name in FIGURES:
        assert not re.search(rf"/{name}\.(png|pdf|svg)", rules), name
        assert f"figure_element(figures.{name})" not in pages, name


def test_the_docs_list_every_figure():
    (row,) = re.findall(r"^\| `figures/flow\..*$", (ROOT / "docs/data.md").read_text(), re.M)
    every = set(re.search(r"<task>/\{(.*?)\}", row)[1].split(","))
    assert every == EVERY
    assert all(f"`{name}`" in row for name in {*of_scope("task")} - EVERY)


def toy_figure(study):
    """A line for the number of test participants."""
    figure = style.new_figure(style.SINGLE_MM, 40)
    figure.subplots().plot([0, len(study.folders)])
    return figure, [{"subjects": len(study.folders), "task": study.name}]


@pytest.fixture
def toy(monkeypatch):
    spec = FigureSpec(
        "A toy",
        "A caption of the toy.",
        f"{__name__}:toy_figure",
        ("task", "subjects"),
        section="training",
        natures=("scalar",),
    )
    monkeypatch.setitem(figure_records.FIGURES, "toy", spec)


def test_a_further_figure_is_requested_drawn_and_shown(toy, tmp_path, monkeypatch):
    assert "t1-fa/toy" in paths_of_page({"t1-fa": "fa", "fa-tdi": "tdi"}, uses_low_res=False)
    assert "fa-tdi/toy" not in paths_of_page({"t1-fa": "fa", "fa-tdi": "tdi"}, uses_low_res=False)

    root = tree.build(tmp_path / "ds", {"sub-01": "train", "sub-02": "validation"})
    tree.run_evaluation(root)
    monkeypatch.setattr("m2m.figures.draw.of_target", lambda target: {"toy": of_target(target)["toy"]})
    study = Study(root, "t1-fa", Task(models=("mean",)), pd.DataFrame(), {"a": "a"})
    draw_task(study, tmp_path / "drawn", "note")
    for end in style.FORMATS:
        assert (tmp_path / f"drawn/t1-fa/toy.{end}").stat().st_size
    assert read_table(tmp_path / "drawn/t1-fa/toy.tsv") == [{"task": "t1-fa", "subjects": "1"}]

    text = tree.write_page(root, tasks=["t1-fa"])
    assert "A caption of the toy." in Page(text).text
    assert 'id="figure-t1-fa-toy"' in text
    assert text.index('id="figure-t1-fa-training"') < text.index('id="figure-t1-fa-toy"')
