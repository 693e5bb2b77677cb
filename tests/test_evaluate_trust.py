"""A results tree whose models have, or lack, participant-specific values, uncertainty and detail."""

import sys
import types

import numpy as np
import pytest
import report_tree as tree
from scipy import stats

from m2m.evaluate import perceptual
from m2m.io.bids import unit_path
from m2m.io.files import write_text
from m2m.io.modalities import MODALITIES
from m2m.io.tables import read_table


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Evaluated tasks of FA and of tensors."""
    root = tree.build(tmp_path_factory.mktemp("trust") / "ds", tasks=[tree.TASK, "t1-dti"])
    tree.run_evaluation(root)
    return tree.run_evaluation(root, task="t1-dti")


def rows(root, model, region="brain", task=tree.TASK, table="metrics"):
    found = read_table(root / "evaluate" / task / model / f"{table}.tsv")
    return {row["unit"]: row for row in found if row.get("region", region) == region}


def test_residual_r_is_computed_from_the_differences_from_the_mean_map(root):
    where = "sub-08", "sub-08"
    brain = tree.load(unit_path(root, "target-mask", *where)) > 0
    reference = tree.load(unit_path(root, "fa", *where))[brain]
    synthetic, mean = (
        tree.load(unit_path(root / "synthetic/t1-fa" / model, "synth-fa", *where))[brain]
        for model in ("macro2micro", "mean")
    )
    expected = np.corrcoef(synthetic - mean, reference - mean)[0, 1]
    found = float(rows(root, "macro2micro")["sub-08"]["residual_r"])
    assert found == pytest.approx(expected, abs=1e-4)
    assert 0.5 < expected < float(rows(root, "macro2micro")["sub-08"]["pearson"])
    assert all(row["residual_r"] is None for row in rows(root, "mean").values())


def test_a_mean_map_that_failed_leaves_out_this_value_only(tmp_path, capsys):
    parts = {"sub-01": "train", "sub-02": "validation", "sub-03": "test"}
    root = tree.build(tmp_path / "ds", parts)
    write_text(unit_path(root / "synthetic/t1-fa/mean", "synth-fa", "sub-03", "sub-03"), "")
    tree.run_evaluation(root, ["macro2micro"])
    assert "residual_r left out: sub-03" in capsys.readouterr().out
    row = rows(root, "macro2micro")["sub-03"]
    assert row["residual_r"] is None and float(row["ssim"]) > 0.5


def test_the_mean_map_has_less_coherent_detail_than_a_participant_specific_map(root):
    for unit, own in rows(root, "macro2micro").items():
        mean = rows(root, "mean")[unit]
        assert float(own["sharpness_ratio"]) == pytest.approx(1, abs=0.05)
        assert float(mean["high_coherence"]) < float(own["high_coherence"])
    assert all(row["sharpness_ratio"] is None for row in rows(root, "mean", "wm").values())
    assert all(float(row["histogram_distance"]) > 0 for row in rows(root, "mean", "wm").values())


def test_every_frequency_of_every_unit_is_in_the_table_of_spectra(root):
    found = read_table(root / "evaluate/t1-fa/t1/spectrum.tsv")
    frequencies = [float(r["frequency_per_mm"]) for r in found if r["unit"] == "sub-07"]
    assert len(found) == 6 * len(frequencies)
    assert frequencies == sorted(frequencies) and frequencies[-1] < 0.5 / tree.SPACING_MM


def test_deviations_of_the_size_of_the_error_are_calibrated(root):
    for row in rows(root, "macro2micro").values():
        assert float(row["coverage_95"]) == pytest.approx(0.95, abs=0.05)
        assert float(row["calibration_error"]) < 0.08
        assert float(row["retention_gain"]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("task", [tree.TASK, "t1-dti"])
def test_deviations_that_are_the_errors_are_ordered_as_the_oracle_does(root, task):
    for row in rows(root, "mean", task=task).values():
        assert float(row["sd_error_r"]) == pytest.approx(1, abs=1e-4)
        assert float(row["retention_gain"]) > 0.3
    curves = read_table(root / "evaluate" / task / "mean/uncertainty.tsv")
    ends = {r["curve"]: float(r["y"]) for r in curves if (r["unit"], r["x"]) == ("sub-09", "1")}
    modality = MODALITIES[tree.TASKS[task].target]
    where = "sub-09", "sub-09"
    brain = tree.load(unit_path(root, "target-mask", *where)) > 0
    reference, synthetic = (
        modality.scale(tree.load(unit_path(folder, kind, *where)))
        for folder, kind in ((root, modality.kind), (root / "synthetic" / task / "mean", modality.synthetic))
    )
    mae = np.abs(reference - synthetic)[brain].mean()
    assert ends == pytest.approx({"retention": mae, "oracle": mae}, rel=1e-4)


def test_without_maps_of_deviations_uncertainty_is_left_out_with_a_message(root, capsys):
    tree.run_evaluation(root, ["t1"])
    assert "uncertainty left out: sub-06" in capsys.readouterr().out
    tree.run_compare(root)
    row = rows(root, "t1")["sub-06"]
    assert row["calibration_error"] is row["retention_gain"] is None and row["ssim"]
    assert read_table(root / "evaluate/t1-fa/t1/uncertainty.tsv") == []


def test_p_is_corrected_over_the_baselines_of_one_model(root):
    found = [
        row
        for row in read_table(root / "evaluate/t1-fa/comparison.tsv")
        if (row["model"], row["region"], row["metric"]) == ("macro2micro", "brain", "mae")
    ]
    assert [row["baseline"] for row in found] == ["mean", "t1"]
    mae = {
        model: [float(row["mae"]) for _, row in sorted(rows(root, model).items())]
        for model in ("macro2micro", "mean", "t1")
    }
    known = [stats.ttest_rel(mae["macro2micro"], mae[other]).pvalue for other in ("mean", "t1")]
    assert [float(row["p"]) for row in found] == pytest.approx(known, rel=0.01)
    smaller, larger = sorted(known)  # Holm: twice the smaller, no less for the other
    assert sorted(float(row["p_holm"]) for row in found) == pytest.approx(
        [2 * smaller, max(larger, 2 * smaller)], rel=0.01
    )


def test_without_its_package_or_weights_lpips_is_not_computed_and_the_reason_is_printed(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "lpips", None)
    assert perceptual.perceptual_distance(None) is None
    assert "LPIPS not computed: import of lpips" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "lpips", types.ModuleType("lpips"))
    assert perceptual.perceptual_distance(None) is None
    assert "evaluation.lpips_weights is not set" in capsys.readouterr().out


def test_lpips_is_the_mean_over_slices_that_hold_enough_of_the_brain(monkeypatch, tmp_path):
    """The package is replaced by a stand-in whose distance is the mean difference."""
    stand_in = types.SimpleNamespace(LPIPS=lambda **_: Difference(), im2tensor=lambda image, factor: image / factor - 1)
    monkeypatch.setitem(sys.modules, "lpips", stand_in)
    monkeypatch.setattr("safetensors.torch.load_model", lambda network, path: None)
    distance = perceptual.perceptual_distance(tmp_path / "weights.safetensors")
    reference, mask = np.full((20, 20, 4), 0.5), np.zeros((20, 20, 4), bool)
    mask[..., :2], mask[3, 3, 2] = True, True
    synthetic = reference + np.array([0.1, 0.2, 0.4, 0.4])
    # Scaled from 0..1 to -1..1: twice 0.15.
    assert distance(reference, synthetic, mask) == pytest.approx(0.3)


class Difference:
    """Network of the stand-in."""

    def requires_grad_(self, _):
        return self

    def __call__(self, a, b):
        assert a.shape[-1] == 3
        return np.abs(a - b).mean()
