"""The whole workflow on the tiny cohort, executed: results, caching, and the same again."""

import nibabel as nib
import numpy as np
import pytest
import yaml
from workflow import CHECKOUT, PLAN, planned, snakemake

from m2m import bids
from m2m.stage import file_digest, read_json, read_table

pytestmark = pytest.mark.end_to_end
MODELS = ("macro2micro", "mean", "t1")


def run_tiny(folder):
    run = snakemake(folder, "--cores", "2")
    assert run.returncode == 0, run.stdout[-5000:]
    return folder / "results/tiny"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return run_tiny(tmp_path_factory.mktemp("first"))


def test_units(root):
    parts = {r["participant_id"]: r["part"] for r in read_table(root / "cohort/split.tsv")}
    return [unit for unit, part in parts.items() if part == "test"]


test_units.__test__ = False


def synthetic(root, model):
    folder = root / "synthetic/t1-fa" / model
    return [bids.unit_path(folder, "synth-fa", unit, unit) for unit in test_units(root)]


def test_every_model_translates_every_test_person_on_the_true_grid(tiny):
    for model in MODELS:
        assert synthetic(tiny, model)
        for unit, path in zip(test_units(tiny), synthetic(tiny, model), strict=True):
            image, truth = nib.load(path), nib.load(bids.unit_path(tiny, "fa", unit, unit))
            assert image.shape == truth.shape
            np.testing.assert_allclose(image.affine, truth.affine)
            data = image.get_fdata()
            assert data.min() >= 0 and data.max() <= 1 and data.std() > 0


def test_no_test_person_is_among_those_that_a_model_was_fitted_on(tiny):
    for model in MODELS:
        record = read_json(tiny / "models/t1-fa" / model / "model.json")
        fitted = {*record["train_participants"], *record["validation_participants"]}
        assert fitted and not fitted & set(test_units(tiny))


def test_summary_counts_everybody(tiny):
    rows = read_table(tiny / "evaluation/t1-fa/summary.tsv")
    assert {row["model"] for row in rows} == set(MODELS)
    for row in rows:
        assert int(row["n_input"]) == 6
        assert int(row["n_used"]) + int(row["n_failed"]) + int(row["n_excluded"]) <= 6


def test_report_is_one_page_that_asks_for_nothing(tiny):
    page = (tiny / "report.html").read_text()
    assert "Simulated people" in page
    assert 'src="http' not in page and "url(http" not in page


def test_a_second_run_has_nothing_to_do(tiny):
    run = snakemake(tiny.parents[1], "--cores", "2")
    assert "Nothing to be done" in run.stdout


def test_a_changed_option_of_one_model_fits_only_that_model_again(tiny, tmp_path):
    config = yaml.safe_load((CHECKOUT / "tests/config.yaml").read_text())
    config["models"]["macro2micro"]["training"]["steps"] = 25
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    run = snakemake(tiny.parents[1], *PLAN, configfile=str(path))
    jobs = planned(run.stdout)
    assert jobs["train_model"] == 1
    assert jobs["translate_volume"] == len(test_units(tiny))
    assert not {"simulate", "dti", "anat", "grid", "split"} & set(jobs)


def test_a_deleted_map_is_made_again_for_its_person_only(tiny):
    unit = test_units(tiny)[0]
    path = tiny / bids.unit_path("", "dwi-fa", unit, unit).lstrip("/")
    original = path.read_bytes()
    path.unlink()
    try:
        run = snakemake(tiny.parents[1], *PLAN)
        jobs = planned(run.stdout)
        assert jobs["dti"] == jobs["grid"] == 1
        assert not {"simulate", "anat", "train_model", "translate_volume"} & set(jobs)
    finally:
        path.write_bytes(original)


def test_two_runs_from_scratch_give_the_same_synthetic_maps(tiny, tmp_path):
    again = run_tiny(tmp_path)
    for model in MODELS:
        for first, second in zip(synthetic(tiny, model), synthetic(again, model), strict=True):
            digests = [file_digest(p) for p in (first, second)]
            assert digests[0] == digests[1], first
