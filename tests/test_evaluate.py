"""Evaluation of a results tree whose models are known to be good, middling and bad."""

import shutil

import numpy as np
import pytest
import report_tree as tree

from m2m.bids import unit_path
from m2m.evaluate.subjects import refuse_leak, test_units
from m2m.stage import read_json, read_table, write_json, write_table, write_text

test_units.__test__ = False


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    return tree.run_evaluation(tree.build(tmp_path_factory.mktemp("results") / "ds"))


@pytest.fixture
def study(tmp_path):
    """A small study of its own: three people, one of them tested."""
    parts = {"sub-01": "train", "sub-02": "validation", "sub-03": "test"}
    return tree.build(tmp_path / "ds", parts)


def table(root, name):
    return read_table(root / "evaluation" / tree.TASK / f"{name}.tsv")


def value(rows, **wanted):
    (row,) = [r for r in rows if all(r[k] == v for k, v in wanted.items())]
    return row


def test_every_test_unit_has_every_region_and_nobody_else_is_in_the_table(evaluated):
    rows = table(evaluated, "macro2micro/metrics")
    tested = {unit for unit, part in tree.PARTS.items() if part == "test"}
    assert {(r["unit"], r["region"]) for r in rows} == {
        (unit, region) for unit in tested for region in ("slice", "brain", "wm", "rois")
    }


def test_mean_absolute_error_is_the_one_in_the_files(evaluated):
    unit = "sub-07"
    true = tree.load(unit_path(evaluated, "fa", unit, unit))
    mask = tree.load(unit_path(evaluated, "target-mask", unit, unit)) > 0
    synthetic = tree.load(unit_path(evaluated / "synthetic/t1-fa/mean", "synth-fa", unit, unit))
    expected = np.abs(true - synthetic)[mask].mean()
    row = value(table(evaluated, "mean/metrics"), unit=unit, region="brain")
    assert float(row["mae"]) == pytest.approx(expected, rel=1e-4)
    assert int(row["n_voxels"]) == mask.sum()


def test_regions_carry_their_names_and_their_true_means(evaluated):
    rows = table(evaluated, "t1/rois")
    assert {r["roi"] for r in rows} <= set(tree.BUNDLES.values())
    true = tree.load(unit_path(evaluated, "fa", "sub-07", "sub-07"))
    expected = true[tree.bundles() == 1].mean()
    row = value(rows, unit="sub-07", roi="genu")
    assert float(row["true"]) == pytest.approx(expected, rel=1e-4)


def test_the_better_model_wins_and_its_interval_says_so(evaluated):
    rows = table(evaluated, "comparison")
    for region, metric, sign in (("brain", "ssim", 1), ("brain", "mae", -1),
                                 ("rois", "concordance", 1)):  # fmt: skip
        row = value(rows, model="macro2micro", baseline="mean", region=region, metric=metric)
        assert sign * float(row["low"]) > 0 and sign * float(row["high"]) > 0
        assert row["n_subjects"] == "6"


def test_the_summary_is_the_mean_of_the_subjects(evaluated):
    values = [float(r["ssim"]) for r in table(evaluated, "mean/metrics") if r["region"] == "brain"]
    row = value(table(evaluated, "summary"), model="mean", region="brain", metric="ssim")
    assert float(row["mean"]) == pytest.approx(np.mean(values), rel=1e-5)
    assert min(values) <= float(row["low"]) <= float(row["mean"]) <= float(row["high"])
    assert [row[k] for k in ("n_input", "n_incomplete", "n_used")] == ["13", "1", "12"]


def test_the_mean_map_tells_nobody_apart_and_the_person_specific_map_does(evaluated):
    rows = table(evaluated, "summary")
    rates = {r["model"]: float(r["mean"]) for r in rows if r["metric"] == "identification"}
    assert rates["mean"] == 0 < rates["macro2micro"]
    across = value(rows, model="macro2micro", metric="correlation_across_people")
    assert float(across["mean"]) > 0.9


def test_a_model_that_saw_a_test_participant_is_refused_by_name(study):
    path = study / "models/t1-fa/mean/model.json"
    write_json(path, read_json(path) | {"train_participants": ["sub-01", "sub-03"]})
    with pytest.raises(ValueError, match=r"model mean was trained or chosen with .* sub-03"):
        tree.run_evaluation(study, ["mean"])


def test_a_model_that_was_chosen_on_a_test_participant_is_refused_too():
    record = {"model": "m", "split_hash": "a", "train_participants": []}
    with pytest.raises(ValueError, match="sub-09"):
        refuse_leak(record | {"validation_participants": ["sub-09"]}, "a", ["sub-09"])


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


def test_nobody_to_test_gives_tables_with_headers_only(study, capsys):
    quality = read_table(study / "cohort/quality.tsv")
    rows = [row | {"state": "excluded"} for row in quality]
    write_table(study / "cohort/quality.tsv", rows, list(quality[0]))
    tree.run_evaluation(study)
    assert "nothing to evaluate" in capsys.readouterr().out
    for name in ("mean/metrics", "mean/profile", "mean/rois", "summary", "comparison"):
        assert table(study, name) == []
        assert (study / "evaluation/t1-fa" / f"{name}.tsv").read_text().count("\n") == 1


def test_without_a_label_image_there_is_no_concordance_and_it_is_said(study, capsys):
    tree.run_evaluation(study, options="{}")
    assert "ROI concordance is not computed" in capsys.readouterr().out
    assert {row["region"] for row in table(study, "summary")} == {"slice", "brain", "wm"}


def test_labels_in_template_space_are_carried_by_the_affine(study):
    shift = np.eye(4)
    shift[0, 3] = 2 * tree.SPACING_MM
    labels = study / "atlas.nii.gz"
    tree.save(labels, np.roll(tree.bundles(), 2, axis=0), np.int16)
    status = unit_path(study, "anat-status", "sub-03", "sub-03")
    write_json(status, read_json(status) | {"grid_to_mni": shift.tolist()})
    tree.run_evaluation(study)
    own = table(study, "mean/rois")
    options = f'{{"rois": {{"image": "{labels}", "space": "MNI152"}}}}'
    tree.run_evaluation(study, options=options)
    carried = table(study, "mean/rois")
    assert [r["true"] for r in carried] == [r["true"] for r in own]
    assert carried[0]["roi"] == "roi-1"


def test_only_used_units_of_the_test_part_with_both_scans_are_tested():
    def unit(name, state):
        return {"unit": name, "folder": name, "participant_id": name, "state": state}

    units = [unit("a", "paired"), unit("b", "paired"), unit("c", "t1w-only"), unit("d", "paired")]
    quality = [{"unit": u["unit"], "state": "used"} for u in units[:3]]
    quality.append({"unit": "d", "state": "excluded"})
    parts = {"a": "test", "b": "train", "c": "test", "d": "test"}
    assert [u["unit"] for u in test_units(units, parts, quality)] == ["a"]


def test_two_sessions_of_a_person_are_one_subject(tmp_path):
    root = tree.run_evaluation(tree.build(tmp_path / "ds"), ["mean"])
    again = root / "evaluation/t1-fa/mean/metrics.tsv"
    text = again.read_text().replace("sub-08\tsub-08\t", "sub-08\tsub-07\t")
    again.write_text(text)
    tree.run_compare(root, ["mean"])
    row = value(table(root, "summary"), region="brain", metric="ssim")
    assert row["n_subjects"] == "5"
    shutil.rmtree(root)
