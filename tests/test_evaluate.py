"""Evaluation of a results tree whose models are known to be good, middling and bad."""

import shutil

import numpy as np
import pytest
import report_tree as tree
from nibabel.streamlines import ArraySequence

from m2m.evaluate.metric_tables import TABLES
from m2m.evaluate.streamlines import density_r, region_of
from m2m.evaluate.subjects import refuse_leak, test_units
from m2m.io.bids import unit_path
from m2m.io.files import read_json, write_json, write_text
from m2m.io.tables import read_table, write_table
from m2m.io.volume import Volume
from m2m.options import Evaluation, Rois

test_units.__test__ = False


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    return tree.run_evaluation(tree.build(tmp_path_factory.mktemp("results") / "ds"))


@pytest.fixture
def study(tmp_path):
    """A small study: three participants, one of them tested."""
    parts = {"sub-01": "train", "sub-02": "validation", "sub-03": "test"}
    return tree.build(tmp_path / "ds", parts)


def table(root, name):
    return read_table(root / "evaluate" / tree.TASK / f"{name}.tsv")


def value(rows, **wanted):
    (row,) = [r for r in rows if all(r[k] == v for k, v in wanted.items())]
    return row


def test_every_test_unit_has_every_region_and_no_other_participant_is_in_the_table(evaluated):
    rows = table(evaluated, "macro2micro/metrics")
    tested = {unit for unit, part in tree.PARTS.items() if part == "test"}
    assert {(r["unit"], r["region"]) for r in rows} == {
        (unit, region) for unit in tested for region in ("slice", "brain", "wm", "rois")
    }


def test_mean_absolute_error_is_the_one_in_the_files(evaluated):
    unit = "sub-07"
    reference = tree.load(unit_path(evaluated, "fa", unit, unit))
    mask = tree.load(unit_path(evaluated, "target-mask", unit, unit)) > 0
    synthetic = tree.load(unit_path(evaluated / "synthetic/t1-fa/mean", "synth-fa", unit, unit))
    expected = np.abs(reference - synthetic)[mask].mean()
    row = value(table(evaluated, "mean/metrics"), unit=unit, region="brain")
    assert float(row["mae"]) == pytest.approx(expected, rel=1e-4)
    assert int(row["n_voxels"]) == mask.sum()


def test_regions_have_their_names_and_the_means_of_the_measured_map(evaluated):
    rows = table(evaluated, "t1/rois")
    assert {r["roi"] for r in rows} <= set(tree.BUNDLES.values())
    reference = tree.load(unit_path(evaluated, "fa", "sub-07", "sub-07"))
    expected = reference[tree.bundles() == 1].mean()
    row = value(rows, unit="sub-07", roi="genu")
    assert float(row["reference"]) == pytest.approx(expected, rel=1e-4)


def test_the_better_model_is_better_in_every_metric_and_its_interval_excludes_0(evaluated):
    rows = table(evaluated, "comparison")
    for region, metric, sign in (("brain", "ssim", 1), ("brain", "mae", -1), ("rois", "concordance", 1)):
        row = value(rows, model="macro2micro", baseline="mean", region=region, metric=metric)
        assert sign * float(row["low"]) > 0 and sign * float(row["high"]) > 0
        assert row["n_subjects"] == "6" and float(row["p_holm"]) <= 0.05


def test_the_summary_is_the_mean_of_the_subjects(evaluated):
    values = [float(r["ssim"]) for r in table(evaluated, "mean/metrics") if r["region"] == "brain"]
    row = value(table(evaluated, "summary"), model="mean", region="brain", metric="ssim")
    assert float(row["mean"]) == pytest.approx(np.mean(values), rel=1e-5)
    assert min(values) <= float(row["low"]) <= float(row["mean"]) <= float(row["high"])
    assert [row[k] for k in ("n_input", "n_incomplete", "n_used")] == ["13", "1", "12"]


def test_participants_are_identified_from_participant_specific_maps_and_not_from_the_mean_map(evaluated):
    rows = table(evaluated, "summary")
    rates = {r["model"]: float(r["mean"]) for r in rows if r["metric"] == "identification"}
    assert rates["mean"] == pytest.approx(1 / 6, rel=1e-5)  # the same for all: chance, not 0
    assert rates["macro2micro"] > rates["mean"]
    row = value(rows, model="mean", metric="identification")
    # Clopper and Pearson, 1 of 6.
    assert (float(row["low"]), float(row["high"])) == pytest.approx((0.00421, 0.64123), abs=1e-5)
    across = value(rows, model="macro2micro", metric="correlation_across_participants")
    assert float(across["mean"]) > 0.9


def test_a_model_trained_on_a_test_participant_is_refused_by_name(study):
    path = study / "models/t1-fa/mean/model.json"
    write_json(path, read_json(path) | {"train_participants": ["sub-01", "sub-03"]})
    with pytest.raises(ValueError, match=r"model mean of task t1-fa was trained or validated on .* sub-03"):
        tree.run_evaluation(study, ["mean"])


def test_a_model_validated_on_a_test_participant_is_refused_too():
    record = {"task": "t1-fa", "model": "m", "split_hash": "a", "train_participants": []}
    with pytest.raises(ValueError, match="sub-09"):
        refuse_leak([record | {"validation_participants": ["sub-09"]}], "a", ["sub-09"])


def test_a_model_of_another_split_is_refused(study):
    path = study / "models/t1-fa/mean/model.json"
    write_json(path, read_json(path) | {"split_hash": "0000"})
    with pytest.raises(ValueError, match="trained on split 0000"):
        tree.run_evaluation(study, ["mean"])


def test_one_test_subject_gives_means_without_intervals(study, capsys):
    tree.run_evaluation(study)
    assert "fewer than 3 test subjects" in capsys.readouterr().out
    for row in table(study, "summary"):
        assert row["n_subjects"] == "1" and row["mean"] and row["low"] is row["high"] is None
    assert all(row["low"] is row["p"] is None for row in table(study, "comparison"))


def test_a_failed_translation_is_left_out_and_counted(study, capsys):
    path = unit_path(study / "synthetic/t1-fa/t1", "synth-fa", "sub-03", "sub-03")
    write_text(path, "")
    tree.run_evaluation(study)
    assert "left out: sub-03" in capsys.readouterr().out
    (row,) = table(study, "t1/metrics")
    assert row["unit"] == "sub-03" and "cannot be read" in row["problem"] and not row["ssim"]
    summary = table(study, "summary")
    assert {row["model"] for row in summary} == {"macro2micro", "mean"}
    assert all(row["n_failed"] == "0" for row in summary)
    for row in table(study, "comparison"):
        assert (row["model"], row["baseline"]) == ("macro2micro", "mean")


def test_no_participant_to_test_gives_tables_with_headers_only(study, capsys):
    quality = read_table(study / "cohort/quality.tsv")
    rows = [row | {"state": "excluded"} for row in quality]
    write_table(study / "cohort/quality.tsv", rows, list(quality[0]))
    tree.run_evaluation(study)
    assert "nothing to evaluate" in capsys.readouterr().out
    for name in (*(f"mean/{name}" for name in TABLES), "summary", "comparison"):
        assert table(study, name) == []
        assert (study / "evaluate/t1-fa" / f"{name}.tsv").read_text().count("\n") == 1


def test_without_a_label_image_there_is_no_concordance_and_a_message(study, capsys):
    tree.run_evaluation(study, options=Evaluation())
    assert "ROI concordance is not computed" in capsys.readouterr().out
    assert {row["region"] for row in table(study, "summary")} == {"slice", "brain", "wm"}


def test_metrics_for_the_literature_are_computed_where_they_are_asked_for(study):
    tree.run_evaluation(study)
    assert {row["metric"] for row in table(study, "summary")}.isdisjoint({"ms_ssim"})
    tree.run_evaluation(study, options=Evaluation(ms_ssim=True, central_share=0.5))
    summary = {(row["model"], row["region"], row["metric"]): row["mean"] for row in table(study, "summary")}
    assert 0 < float(summary["macro2micro", "slice", "ms_ssim"]) < 1
    whole, central, brain = (float(summary["macro2micro", r, "psnr"]) for r in ("slice", "central", "brain"))
    assert brain < central < whole, "the less background, the lower"


def test_labels_in_template_space_are_resampled_through_the_affine(study):
    shift = np.eye(4)
    shift[0, 3] = 2 * tree.SPACING_MM
    labels = study / "atlas.nii.gz"
    tree.save(labels, np.roll(tree.bundles(), 2, axis=0), np.int16)
    status = unit_path(study, "anat-status", "sub-03", "sub-03")
    write_json(status, read_json(status) | {"grid_to_mni": shift.tolist()})
    tree.run_evaluation(study)
    own = table(study, "mean/rois")
    options = Evaluation(rois=Rois(image=str(labels), space="MNI152"))
    tree.run_evaluation(study, options=options)
    resampled = table(study, "mean/rois")
    assert [r["reference"] for r in resampled] == [r["reference"] for r in own]
    assert resampled[0]["roi"] == "roi-1"


def test_only_used_units_of_the_test_part_with_both_scans_are_tested():
    def unit(name, state):
        return {"unit": name, "folder": name, "participant_id": name, "state": state}

    units = [unit("a", "paired"), unit("b", "paired"), unit("c", "t1w-only"), unit("d", "paired")]
    quality = [{"unit": u["unit"], "state": "used"} for u in units[:3]]
    quality.append({"unit": "d", "state": "excluded"})
    parts = {"a": "test", "b": "train", "c": "test", "d": "test"}
    assert [u["unit"] for u in test_units(units, parts, quality)] == ["a"]


def test_two_sessions_of_a_participant_are_one_subject(tmp_path):
    root = tree.run_evaluation(tree.build(tmp_path / "ds"), ["mean"])
    again = root / "evaluate/t1-fa/mean/metrics.tsv"
    text = again.read_text().replace("sub-08\tsub-08\t", "sub-08\tsub-07\t")
    again.write_text(text)
    tree.run_compare(root, ["mean"])
    row = value(table(root, "summary"), region="brain", metric="ssim")
    assert row["n_subjects"] == "5"
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """Every task: FA, tract density, a cascade of both, tensors with streamlines."""
    return tree.study(tmp_path_factory.mktemp("several") / "ds")


def test_tract_density_is_compared_on_its_logarithmic_scale_and_by_dice(several):
    row = value(read_table(several / "evaluate/fa-tdi/mean/metrics.tsv"), unit="sub-07", region="brain")
    where = "sub-07", "sub-07"
    reference = tree.load(unit_path(several, "tdi", *where))
    synthetic = tree.load(unit_path(several / "synthetic/fa-tdi/mean", "synth-tdi", *where))
    brain = tree.load(unit_path(several, "target-mask", *where)) > 0
    r = np.corrcoef(np.log1p(reference[brain]), np.log1p(synthetic[brain]))[0, 1]
    assert float(row["pearson"]) == pytest.approx(r, abs=1e-5)
    tracts = [(image > 5)[brain] for image in (reference, synthetic)]
    both = 2 * (tracts[0] & tracts[1]).sum() / (tracts[0].sum() + tracts[1].sum())
    assert 0.5 < both < 1
    assert float(row["dice"]) == pytest.approx(both, rel=1e-5)
    assert row["angle_deg"] is row["md_mae_um2_per_ms"] is None


def test_regional_means_of_a_density_are_in_natural_units(several):
    rows = read_table(several / "evaluate/fa-tdi/mean/rois.tsv")
    reference = tree.load(unit_path(several, "tdi", "sub-07", "sub-07"))
    row = value(rows, unit="sub-07", roi="genu")
    assert float(row["reference"]) == pytest.approx(reference[tree.bundles() == 1].mean(), rel=1e-4)
    assert float(row["reference"]) > 1


def test_tensors_differ_by_the_rotation_and_the_diffusivity_they_were_made_with(several):
    for model in ("macro2micro", "mean"):
        rows = read_table(several / f"evaluate/t1-dti/{model}/metrics.tsv")
        wm = value(rows, unit="sub-08", region="wm")
        assert float(wm["angle_deg"]) == pytest.approx(tree.TURN_DEG[model], abs=0.1)
        brain = value(rows, unit="sub-08", region="brain")
        expected = 1e3 * tree.MD_ERROR_MM2_PER_S[model]
        assert float(brain["md_mae_um2_per_ms"]) == pytest.approx(expected, rel=1e-3)
        assert float(brain["log_distance"]) > np.sqrt(3) * expected


def test_tensors_are_compared_by_the_fa_they_have(several):
    ours = read_table(several / "evaluate/t1-dti/mean/metrics.tsv")
    same = read_table(several / "evaluate/t1-fa/mean/metrics.tsv")
    for unit, region in (("sub-06", "brain"), ("sub-11", "wm")):
        a, b = (value(rows, unit=unit, region=region) for rows in (ours, same))
        assert float(a["ssim"]) == pytest.approx(float(b["ssim"]), rel=1e-4)
        assert float(a["mae"]) == pytest.approx(float(b["mae"]), rel=1e-3)


def test_a_bundle_without_synthetic_streamlines_counts_as_zero(several):
    rows = read_table(several / "evaluate/t1-dti/mean/bundles.tsv")
    lost = value(rows, unit="sub-09", bundle=tree.BUNDLES[tree.LACKING])
    assert int(lost["reference_n"]) >= 5
    assert (lost["synthetic_n"], lost["synthetic_volume_mm3"], lost["density_r"], lost["dice"]) == ("0",) * 4
    assert lost["synthetic_length_mm"] is None
    own = [row for row in rows if row["unit"] == "sub-09"]
    metric = value(read_table(several / "evaluate/t1-dti/mean/metrics.tsv"), unit="sub-09", region="bundles")
    mean = np.mean([float(row["density_r"]) for row in own])
    assert float(metric["density_r"]) == pytest.approx(mean, rel=1e-4)
    assert float(metric["bundle_dice"]) == pytest.approx(np.mean([float(row["dice"]) for row in own]), rel=1e-4)


def test_measured_and_synthetic_streamlines_are_compared_in_the_space_of_the_t1(several):
    """They agree only after the transform in the status of the stage `grid`."""
    rows = read_table(several / "evaluate/t1-dti/macro2micro/bundles.tsv")
    labels = {name: label for label, name in tree.BUNDLES.items()}
    for row in rows:
        expected = tree.length_mm(labels[row["bundle"]])
        assert float(row["reference_length_mm"]) == pytest.approx(expected, rel=1e-4)
    summary = read_table(several / "evaluate/t1-dti/summary.tsv")
    r = {row["model"]: float(row["mean"]) for row in summary if row["metric"] == "density_r"}
    assert r["macro2micro"] > 0.9 > 0.5 > r["mean"]
    lengths = [row for row in summary if row["metric"] == "length_concordance"]
    assert [float(row["mean"]) for row in lengths] == pytest.approx([1, 1], abs=1e-4)


def test_failed_streamlines_leave_out_the_bundles_and_not_the_map(tmp_path, capsys):
    parts = {"sub-01": "train", "sub-02": "validation", "sub-03": "test"}
    root = tree.build(tmp_path / "ds", parts, ["t1-dti"])
    path = unit_path(root / "synthetic/t1-dti/mean", "synth-tractogram", "sub-03", "sub-03")
    write_text(path, "")
    tree.run_evaluation(root, task="t1-dti")
    assert "bundles left out: sub-03" in capsys.readouterr().out
    rows = read_table(root / "evaluate/t1-dti/mean/metrics.tsv")
    bundles = value(rows, region="bundles")
    assert bundles["density_r"] is None and "cannot be read" in bundles["problem"]
    assert float(value(rows, region="brain")["ssim"]) > 0.5
    for row in read_table(root / "evaluate/t1-dti/summary.tsv"):
        assert row["n_failed"] == "0"
    assert read_table(root / "evaluate/t1-dti/mean/bundles.tsv") == []


def test_without_a_label_image_streamlines_are_not_compared_and_there_is_a_message(tmp_path, capsys):
    parts = {"sub-01": "train", "sub-02": "validation", "sub-03": "test"}
    root = tree.build(tmp_path / "ds", parts, ["t1-dti"])
    tree.run_evaluation(root, ["mean"], Evaluation(), "t1-dti")
    assert "ROI concordance and bundles are not computed" in capsys.readouterr().out
    assert read_table(root / "evaluate/t1-dti/mean/bundles.tsv") == []


def test_a_cascade_is_refused_for_either_of_its_networks(tmp_path):
    parts = {"sub-01": "train", "sub-02": "validation", "sub-03": "test"}
    root = tree.build(tmp_path / "ds", parts, tree.TASKS)
    path = root / "models/fa-tdi/mean/model.json"
    write_json(path, read_json(path) | {"validation_participants": ["sub-03"]})
    tree.run_evaluation(root)
    with pytest.raises(ValueError, match=r"model mean of task fa-tdi was trained .* sub-03"):
        tree.run_evaluation(root, ["mean"], task="t1-fa-tdi")


LABELS = np.zeros((4, 6, 4), int)
LABELS[:, :3], LABELS[:, 3:5] = 1, 2


def test_a_streamline_belongs_to_the_region_with_most_of_its_points_if_half_lie_there():
    def line(*ys):
        return np.array([[2.0, 2 * y, 2.0] for y in ys], np.float32)

    lines = ArraySequence(
        [line(0, 1, 2, 3), line(2, 3, 4, 5), line(4, 5, 5, 5), line(1, 2, 3, 4), line(3, 40, -9), line(3, 4, 5)]
    )
    labels = Volume(LABELS, np.diag([2.0, 2, 2, 1]))
    # Most in 1; half in 2; a quarter in 2; half and half: the lower label; outside; two thirds.
    assert region_of(lines, labels).tolist() == [1, 2, 0, 1, 0, 2]


def test_density_r_is_over_the_voxels_that_either_visits():
    a, b = np.zeros(50), np.zeros(50)
    a[:4], b[2:6] = (1, 2, 3, 4), (3, 4, 1, 1)
    assert density_r(a, b) == pytest.approx(np.corrcoef(a[:6], b[:6])[0, 1])
    assert density_r(a, 0 * b) == 0


def test_the_simulated_truth_is_a_region_of_its_own(study):
    """A ground truth equal to the synthetic map: no error, whatever the measured map is."""
    truth = study.parent / "truth"
    synthetic = unit_path(study / "synthetic/t1-fa/mean", "synth-fa", "sub-03", "sub-03")
    path = unit_path(truth, "truth-fa", "sub-03", "sub-03")
    write_text(path, "")
    shutil.copy(synthetic, path)
    options = tree.evaluation_options(study).model_copy(update={"truth": truth})
    root = tree.run_evaluation(study, options=options)
    row = value(table(root, "mean/metrics"), unit="sub-03", region="truth")
    assert float(row["mae"]) == 0 and float(row["ssim"]) == pytest.approx(1)
    measured = value(table(root, "mean/metrics"), unit="sub-03", region="brain")
    assert float(measured["mae"]) > 0
    assert {r["region"] for r in table(root, "summary")} >= {"truth", "brain"}
