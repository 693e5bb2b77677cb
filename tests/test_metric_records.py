"""A metric is a function and a record: tables, figures, page and docs follow from these."""

import importlib
import runpy
from pathlib import Path

import numpy as np
import pytest
import report_tree as tree
from test_report import Page

from m2m.evaluate.metric_records import (
    METRICS,
    REGIONS,
    Metric,
    Panel,
    columns,
    in_report,
    panels,
)
from m2m.evaluate.metric_tables import columns_of
from m2m.evaluate.pairs import of_images
from m2m.figures.results import draw_metrics
from m2m.io.bids import unit_path
from m2m.io.tables import read_table
from m2m.report.paper_tables import summary_cells

ROOT = Path(__file__).parents[1]
NATURES = ("scalar", "density", "tensor")


@pytest.mark.parametrize("name", METRICS)
def test_a_record_names_the_function_and_the_regions_of_its_metric(name):
    metric = METRICS[name]
    assert (metric.measure is None) == bool(metric.source)
    if metric.source:
        module, function = metric.source.split(":")
        assert callable(getattr(importlib.import_module(module), function))
    assert set(metric.regions) <= set(REGIONS) and set(metric.natures) <= set(NATURES)
    assert {panel.region for panel in metric.panels + metric.forest} <= set(metric.regions)
    assert set(metric.headlines) <= set(metric.regions)
    assert metric.better in ("higher", "lower") or metric.better.startswith("nearer ")
    assert metric.title and metric.description


def test_no_two_metrics_share_a_title_or_a_place():
    assert len({metric.title for metric in METRICS.values()}) == len(METRICS)
    for figure in ("panels", "forest"):
        for nature in NATURES:
            places = [
                panel.place
                for metric in METRICS.values()
                for panel in getattr(metric, figure)
                if nature in (panel.natures or NATURES) and nature in (metric.natures or NATURES)
            ]
            assert len(places) == len(set(places))


def test_panels_are_in_their_fixed_order():
    detail = [
        ("brain", "sharpness_ratio"),
        ("brain", "high_coherence"),
        ("brain", "residual_r"),
        ("wm", "histogram_distance"),
    ]
    image = [("brain", name) for name in ("ssim", "psnr", "mae", "pearson")]
    wm = [("wm", name) for name in ("ssim", "psnr", "mae")]
    rois = ("rois", "concordance")
    assert panels("metrics", "scalar") == [*image, *wm, rois, *detail]
    assert panels("metrics", "density") == [*image, *wm[:2], ("brain", "dice"), rois, *detail]
    assert panels("metrics", "tensor") == [
        *image[:3],
        ("wm", "angle_deg"),
        ("brain", "log_distance"),
        ("brain", "md_mae_um2_per_ms"),
        rois,
        ("bundles", "density_r"),
        *detail,
    ]
    main = [("brain", "psnr"), ("brain", "ssim")]
    own = {"scalar": ("wm", "mae"), "density": ("brain", "dice"), "tensor": ("wm", "angle_deg")}
    for nature, one in own.items():
        assert panels("forest", nature) == [*main, one, rois]
    assert list(in_report())[:4] == ["ssim", "psnr", "mae", "pearson"]


def test_the_docs_hold_the_table_of_the_records():
    text = (ROOT / "docs" / "data.md").read_text()
    assert runpy.run_path(str(ROOT / "docs" / "stages.py"))["data_page"](text) == text, "make docs"
    assert all(f"| `{name}` |" in text for name in METRICS)


@pytest.fixture
def toy(monkeypatch):
    """A metric that scalar maps have, with a panel in both figures."""

    def largest_error(reference, synthetic, region):
        return float(np.abs(reference - synthetic)[region].max())

    record = Metric(
        "largest error",
        2,
        "lower",
        ("brain", "wm"),
        "largest absolute difference",
        of_images(largest_error),
        natures=("scalar",),
        headlines={"wm": "worst voxel"},
        panels=(Panel("wm", 90),),
        forest=(Panel("wm", 90),),
    )
    monkeypatch.setitem(METRICS, "largest", record)


@pytest.fixture
def evaluated(toy, tmp_path):
    parts = {"sub-01": "train", "sub-02": "validation"}
    parts |= dict.fromkeys(("sub-03", "sub-04", "sub-05"), "test")
    root = tree.build(tmp_path / "ds", parts, [tree.TASK, "fa-tdi"])
    tree.run_evaluation(root)
    return tree.run_evaluation(root, task="fa-tdi")


def test_a_further_metric_runs_from_the_maps_to_the_page(evaluated):
    folder = evaluated / "evaluate" / tree.TASK
    where = "sub-04", "sub-04"
    brain = tree.load(unit_path(evaluated, "target-mask", *where)) > 0
    maps = (
        tree.load(unit_path(evaluated, "fa", *where)),
        tree.load(unit_path(evaluated / "synthetic/t1-fa/mean", "synth-fa", *where)),
    )
    expected = np.abs(maps[0] - maps[1])[brain].max()
    rows = {(r["unit"], r["region"]): r for r in read_table(folder / "mean/metrics.tsv")}
    assert float(rows["sub-04", "brain"]["largest"]) == pytest.approx(expected, rel=1e-5)
    assert rows["sub-04", "slice"]["largest"] is None
    assert list(rows["sub-04", "brain"]) == list(columns_of("metrics"))

    summary, comparison = (read_table(folder / f"{n}.tsv") for n in ("summary", "comparison"))
    shown = {(r["model"], r["region"]): r for r in summary if r["metric"] == "largest"}
    assert set(shown) == {(m, region) for m in tree.MODELS for region in ("brain", "wm")}
    assert sum(row["metric"] == "largest" for row in comparison) == 2 * 3
    cells = {(r["region"], r["metric"]): r for r in summary_cells(summary, comparison, tree.MODELS)}
    mean = float(shown["mean", "wm"]["mean"])
    assert cells["white matter", "largest error, lower"]["cells"]["mean"].startswith(f"{mean:.2f} ")

    page = Page(tree.write_page(evaluated, tasks=[tree.TASK, "fa-tdi"]))
    assert any(row[:2] == ["white matter", "largest error"] for row in page.tables["summary-t1-fa"])
    assert "worst voxel" in page.text
    assert "largest error" not in str(page.tables["summary-fa-tdi"]), "densities have none"


def test_a_further_panel_gives_the_figure_a_further_line(toy):
    assert panels("metrics", "scalar")[-1] == panels("forest", "scalar")[-1] == ("wm", "largest")
    rows = [
        {"model": model, "participant_id": f"sub-{i}", "region": "wm", "metric": "largest", "value": 0.1 * i}
        for model in "abcd"
        for i in range(4)
    ]
    pandas = pytest.importorskip("pandas")
    columns_ = ["model", "region", "metric", "mean", "low", "high"]
    figure, _ = draw_metrics(pandas.DataFrame(rows), pandas.DataFrame(columns=columns_), list("abcd"), "scalar")
    shown = [axes for axes in figure.axes if axes.axison]
    assert len(figure.axes) == 16 and len(shown) == 13
    assert shown[-1].get_title() == "largest error, white matter"
    assert shown[-1].get_ylabel() == "lower is better"
    # Models are named below the lowest panel of each column.
    named = [axes for axes in shown if axes.xaxis.get_tick_params()["labelbottom"]]
    assert [shown.index(axes) for axes in named] == [9, 10, 11, 12]


def test_columns_are_the_metrics_of_one_participant_in_the_records_order():
    assert columns()[:4] == ["psnr", "ssim", "mae", "pearson"]
    assert set(METRICS) - set(columns()) == {"identification", "correlation_across_participants"}
