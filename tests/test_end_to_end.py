"""The whole workflow on the tiny cohort, executed: results, caching, and the same again."""

import json
import subprocess
import sys
from pathlib import Path

import browser
import nibabel as nib
import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.numpy import load_file
from workflow import CHECKOUT, PLAN, planned, snakemake, warm_stages

from m2m import GENERATED_BY
from m2m.diffusion import tensors
from m2m.diffusion.density import load_tractogram
from m2m.diffusion.scales import log_density
from m2m.io import bids
from m2m.io.files import file_digest, read_json
from m2m.io.modalities import MODALITIES
from m2m.io.tables import read_table
from m2m.options import load_config

pytestmark = pytest.mark.end_to_end
NAMES = ("compare", "ablation", "fgdl")
ALL = load_config(CHECKOUT / "tests/config.yaml").tasks
TASKS = {name: task for name, task in ALL.items() if task.page == "report"}
MODELS = [(name, model) for name, task in TASKS.items() for model in task.models]
STUDIES = {name: task for name, task in ALL.items() if task.page in NAMES}
CROSS_FITTED = {name: task for name, task in ALL.items() if task.fold}


def run_tiny(folder, *targets):
    run = snakemake(folder, *targets, "--cores", "2")
    assert run.returncode == 0, run.stdout[-5000:]
    return folder / "results/tiny"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    with warm_stages(tmp_path_factory.mktemp("warm") / "bin"):
        yield run_tiny(tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def studied(tiny):
    """Published systems, ablations and FGDL, beside the report of the same cohort."""
    run_tiny(tiny.parents[1], *NAMES)
    return tiny


@pytest.fixture(scope="module")
def validated(studied):
    """Phenotypes predicted from the same cohort's maps, cross-fitted ones too; and their fields."""
    run_tiny(studied.parents[1], "downstream", "render")
    return studied


def test_units(root):
    parts = {r["participant_id"]: r["part"] for r in read_table(root / "cohort/split.tsv")}
    return [unit for unit, part in parts.items() if part == "test"]


test_units.__test__ = False


def synthetic(root, task, model, kind=None):
    folder = root / "synthetic" / task / model
    kind = kind or MODALITIES[TASKS[task].target].synthetic
    return [bids.unit_path(folder, kind, unit, unit) for unit in test_units(root)]


@pytest.mark.parametrize(("task", "model"), MODELS)
def test_every_task_gives_every_test_participant_a_map_on_the_true_grid(tiny, task, model):
    target = TASKS[task].target
    assert synthetic(tiny, task, model)
    for unit, path in zip(test_units(tiny), synthetic(tiny, task, model), strict=True):
        image = nib.load(path)
        truth = nib.load(bids.unit_path(tiny, MODALITIES[target].kind, unit, unit))
        assert image.shape == truth.shape
        np.testing.assert_allclose(image.affine, truth.affine)
        data = image.get_fdata()
        assert data.std() > 0
        if target == "dti":
            measures = tensors.measures(data[data.any(axis=-1)])
            assert measures.md.min() > 0 and 0 < measures.fa.max() <= 1
        else:
            assert data.min() >= 0 and (target == "tdi" or data.max() <= 1)


def test_every_json_of_a_subject_names_the_version_that_made_it(tiny):
    paths = [*tiny.rglob("sub-*_*.json")]
    assert {path.relative_to(tiny).parts[0] for path in paths} > {"rawdata", "slices", "synthetic", "truth"}
    silent = [path for path in paths if read_json(path).get("GeneratedBy") != list(GENERATED_BY)]
    assert not silent


def test_the_network_s_tensors_carry_streamlines_in_the_brain(tiny):
    for unit, path in zip(test_units(tiny), synthetic(tiny, "t1-dti", "mean", "synth-tractogram"), strict=True):
        brain = nib.load(bids.unit_path(tiny, "brain", unit, unit))
        points = load_tractogram(path).get_data()
        voxels = np.rint(nib.affines.apply_affine(np.linalg.inv(brain.affine), points)).astype(int)
        assert len(points) > 100 and brain.get_fdata()[tuple(voxels.T)].mean() > 0.95


def test_the_maps_of_a_chain_are_those_of_its_links(tiny):
    """fa-tdi's own line, applied to the synthetic FA: nothing else happens in between."""
    weights = load_file(tiny / "models/fa-tdi/t1/model.safetensors")
    paths = zip(synthetic(tiny, "t1-fa", "t1"), synthetic(tiny, "t1-fa-tdi", "t1"), strict=True)
    for fa_path, tdi_path in paths:
        fa, tdi = (nib.load(path).get_fdata() for path in (fa_path, tdi_path))
        line = (weights["intercept"] + weights["slope"] * fa).clip(0)
        inside = tdi > 0
        assert inside.any()
        np.testing.assert_allclose(log_density(tdi)[inside], line[inside], atol=1e-4)


@pytest.mark.parametrize("task", [name for name, task in TASKS.items() if not task.cascade])
def test_no_test_participant_is_among_those_that_a_model_was_fitted_on(tiny, task):
    for model in TASKS[task].models:
        record = read_json(tiny / "models" / task / model / "model.json")
        fitted = {*record["train_participants"], *record["validation_participants"]}
        assert fitted and not fitted & set(test_units(tiny))


@pytest.mark.parametrize("task", TASKS)
def test_summary_counts_every_participant(tiny, task):
    rows = read_table(tiny / "evaluate" / task / "summary.tsv")
    assert {row["model"] for row in rows} == set(TASKS[task].models)
    for row in rows:
        assert int(row["n_input"]) == 6
        assert int(row["n_used"]) + int(row["n_failed"]) + int(row["n_excluded"]) <= 6


def test_report_is_one_page_that_asks_for_nothing(tiny):
    page = (tiny / "report.html").read_text()
    assert "Simulated participants" in page
    assert 'src="http' not in page and "url(http" not in page
    assert 'id="viewer-data"' in page and len(page) <= 10e6


@pytest.mark.parametrize("folder", ["rawdata", "", "synthetic/t1-fa/macro2micro"])
def test_the_standard_s_validator_finds_no_error(tiny, folder):
    program = Path(sys.executable).with_name("bids-validator-deno")
    call = subprocess.run([program, tiny / folder, "--json"], capture_output=True, text=True)
    issues = json.loads(call.stdout)["issues"]["issues"]
    assert issues, "it has always something to recommend"
    assert [issue for issue in issues if issue["severity"] == "error"] == []


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_compares_its_models_on_the_test_participants_and_has_a_page(studied, name):
    page = (studied / f"{STUDIES[name].page}.html").read_text()
    rows = read_table(studied / "evaluate" / name / "summary.tsv")
    assert {row["model"] for row in rows} == set(STUDIES[name].models)
    assert all(model in page for model in STUDIES[name].models)
    for model in STUDIES[name].models:
        training_task = STUDIES[name].training_task(name, model)
        record = read_json(studied / "models" / training_task / model / "model.json")
        assert not {*record["train_participants"]} & set(test_units(studied))


def test_the_encoder_has_seen_training_participants_only(studied):
    parts = {r["participant_id"]: r["part"] for r in read_table(studied / "cohort/split.tsv")}
    record = read_json(studied / "encoders/fa/encoder.json")
    assert {parts[subject] for subject in record["train_participants"]} == {"train"}


@pytest.mark.parametrize("task", CROSS_FITTED)
def test_no_participant_is_translated_by_a_network_that_saw_them(validated, task):
    own = {
        row["participant_id"]
        for row in read_table(validated / "cohort/folds.tsv")
        if row["fold"] == str(CROSS_FITTED[task].fold)
    }
    (model,) = CROSS_FITTED[task].models
    record = read_json(validated / "models" / task / model / "model.json")
    learned_from = {*record["train_participants"], *record["validation_participants"]}
    assert own and len(learned_from) == 6 - len(own) and not own & learned_from
    folder = validated / "synthetic" / task / model
    kind = MODALITIES[CROSS_FITTED[task].target].synthetic
    translated = {p.name for p in folder.glob("sub-*")}
    assert translated == own
    for unit in own:
        assert nib.load(bids.unit_path(folder, kind, unit, unit)).get_fdata().std() > 0


def test_the_validation_has_its_page_and_names_folds_seeds_and_hashes(validated):
    page = (validated / "downstream.html").read_text()
    record = read_json(validated / "downstream/downstream.json")
    assert "Simulated participants prove nothing about biology" in page
    assert record["features_hash"] in page and record["folds_hash"] in page
    assert len(record["folds"]) == record["n_subjects"] == 6
    assert set(record["refused"]) == {"sex"}  # too few of each
    inputs = {row["input"] for row in read_table(validated / "downstream/scores.tsv")}
    assert {"covariates", "t1", "fa", "tdi", "t1-fa.macro2micro", "t1+t1-tdi.macro2micro"} <= inputs
    assert record["folds_hash"] in (validated / "figures/downstream/methods.md").read_text()
    assert "Nothing to be done" in snakemake(validated.parents[1], "downstream", "-n").stdout


def test_test_participants_have_views_of_their_measured_and_synthetic_maps_or_a_reason(validated):
    for root in (validated, validated / "synthetic/t1-dti/macro2micro"):
        for unit in test_units(validated):
            status = read_json(bids.unit_path(root, "render-status", unit, unit))
            turntable = Path(bids.unit_path(root, "field-turntable", unit, unit))
            if status["status"] == "ok":
                with Image.open(turntable) as animation:
                    assert animation.n_frames == 2 and animation.convert("L").getextrema()[1] > 50
            else:  # a network of a few steps
                assert root != validated and "to seed in" in status["finding"]["problem"]
                assert turntable.stat().st_size == 0
    compared = read_table(validated / "figures/held_out.tsv")
    assert {row["method"] for row in compared} >= {"field", "cubic, inverse variance"}
    page = (validated / "fields.html").read_text()
    assert "Three orientations, one in 4 slices kept: PSNR" in page and "image/gif" in page
    assert "Nothing to be done" in snakemake(validated.parents[1], "render", "-n").stdout


@pytest.mark.parametrize("width", browser.WIDTHS.values())
@pytest.mark.parametrize("name", ["report", *NAMES, "downstream", "fields"])
def test_every_page_opens_in_a_browser_and_can_be_read_by_all(validated, chromium, name, width):
    with browser.opened(chromium, validated / f"{name}.html", width) as (page, wrong):
        browser.unfold(page)
        assert wrong == browser.CLEAN
        widths = page.evaluate("[...document.images].map((image) => image.naturalWidth)")
        assert widths and min(widths) > 0
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.checked(page)[0] == {}


@pytest.mark.parametrize(("task", "model"), MODELS)
def test_every_map_has_its_standard_deviation(tiny, task, model):
    kind = f"synthsd-{MODALITIES[TASKS[task].target].kind}"
    paths = zip(synthetic(tiny, task, model), synthetic(tiny, task, model, kind), strict=True)
    for map_path, sd_path in paths:
        image, sd = nib.load(map_path), nib.load(sd_path)
        assert image.shape == sd.shape
        brain = image.get_fdata() != 0
        assert (sd.get_fdata()[brain] > 0).all() and sd.get_fdata().max() < 5


def test_a_second_run_has_nothing_to_do(tiny):
    run = snakemake(tiny.parents[1], "--cores", "2")
    assert "Nothing to be done" in run.stdout


def test_a_changed_option_of_one_task_fits_only_its_network_again(tiny, tmp_path):
    config = yaml.safe_load((CHECKOUT / "tests/config.yaml").read_text())
    config["tasks"]["t1-tdi"]["steps"] = 25
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    run = snakemake(tiny.parents[1], *PLAN, configfile=str(path))
    jobs = planned(run.stdout)
    assert jobs["train_model"] == 1
    assert jobs["translate_volume"] == 1  # all test participants are of one shard
    assert not {"simulate", "dti", "anat", "grid", "split"} & set(jobs)


def test_a_deleted_map_is_made_again_for_its_participant_only(tiny):
    unit = test_units(tiny)[0]
    path = tiny / bids.unit_path("", "dwi-fa", unit, unit).lstrip("/")
    original = path.read_bytes()
    path.unlink()
    try:
        run = snakemake(tiny.parents[1], *PLAN)
        jobs = planned(run.stdout)
        assert jobs["dti"] == jobs["track"] == jobs["grid"] == 1
        # Of the tasks, only fa-tdi has measured FA as its source.
        assert jobs["translate_volume"] == len(TASKS["fa-tdi"].models)
        assert not {"simulate", "anat", "train_model"} & set(jobs)
    finally:
        path.write_bytes(original)


def test_two_runs_from_scratch_give_the_same_synthetic_maps(tiny, tmp_path):
    with warm_stages(tmp_path / "bin"):  # with another hash seed
        again = run_tiny(tmp_path, "translate", "tractography")
    for task in TASKS:
        for model in TASKS[task].models:
            paths = [synthetic(root, task, model) for root in (tiny, again)]
            for first, second in zip(*paths, strict=True):
                assert file_digest(first) == file_digest(second), first
    for kind in ("tractogram", "tdi"):
        for unit in test_units(tiny):
            first, second = (bids.unit_path(root, kind, unit, unit) for root in (tiny, again))
            assert file_digest(first) == file_digest(second), first
