"""Participants without DWI: phenotypes from the T1, synthetic maps by given weights and an atlas."""

import numpy as np
import pandas as pd
import pytest
import yaml
from cohort_tree import add_dwi, add_t1
from line_model import run, write_line
from pydantic import ValidationError
from small_cohort import AFFINE, SHAPE, subject
from test_report import Page
from workflow import PLAN, planned, snakemake

from m2m.cohort.folds import load_folds
from m2m.cohort.quality import outcome_of_t1
from m2m.downstream.analysis import pairs
from m2m.downstream.prediction import BOUNDS
from m2m.figures import style
from m2m.figures.figure_records import of_validation
from m2m.io.bids import files_of, measure
from m2m.io.errors import DataError
from m2m.io.files import file_digest, read_json, write_json
from m2m.io.tables import read_table, write_table
from m2m.io.unit_status import MADE_BY
from m2m.io.volume import Volume, load, resample, save
from m2m.models import pretrained
from m2m.models.given_weights import given_weights
from m2m.options import Config, Deformation
from m2m.options.configured import measured_of
from m2m.options.downstream_options import compared_effects
from m2m.structural.template import load_template
from m2m.translate import subject as translation

N, FOLDS = 32, 4
NAMES = [f"sub-{i:02d}" for i in range(N)]
# The last three: a T1 that failed, one that is excluded, a participant with a DWI only.
FAILED, EXCLUDED, NO_T1 = NAMES[-3:]
REGIONS = ("front", "back")


def phenotypes():
    """Age and sex of each participant, in random order."""
    rng = np.random.default_rng(4)
    return dict(zip(NAMES, rng.uniform(20, 60, N).round(1), strict=True)), dict(
        zip(NAMES, rng.permutation(["F", "M"] * (N // 2)), strict=True)
    )


def write_units(root):
    """Tables of the cohort; one participant has a usable DWI, which must not matter."""
    columns = ("participant_id", "session_id", "unit", "folder", "state", "reason")
    states = {NO_T1: "dwi-only", NAMES[0]: "paired"}
    rows = [
        {
            "participant_id": name,
            "unit": name,
            "folder": name,
            "state": states.get(name, "t1w-only"),
            "reason": "no DWI",
        }
        for name in NAMES
    ]
    write_table(root / "cohort/units.tsv", rows, columns)
    ages, sexes = phenotypes()
    about = [{"participant_id": name, "age": ages[name], "sex": sexes[name]} for name in NAMES]
    write_table(root / "participants.tsv", about, ("participant_id", "age", "sex"))


def write_scans(root):
    """Files of anat, deform and translation: sex changes the T1, and age the brain's shape alone."""
    ages, sexes = phenotypes()
    for seed, name in enumerate(NAMES[:-1]):
        at = files_of(name, root)
        t1, _, brain, _ = subject(seed)
        back = np.arange(SHAPE[1])[:, None] < SHAPE[1] // 2
        t1 = t1 + (0.3 * (sexes[name] == "M") * back + 0.2) * (brain > 0)
        save(at("t1w"), Volume(t1.astype(np.float32), AFFINE))
        save(at("brain"), Volume(brain, AFFINE), dtype=np.uint8)
        finding = {"problem": "half a head", "file": "", "value": "", "remedy": "look"}
        status = {"status": "failed", "finding": finding} if name == FAILED else {"status": "ok"}
        status |= {"excluded": ["a brain of 3 l"] if name == EXCLUDED else [], "grid_to_mni": np.eye(4).tolist()}
        write_json(at("anat-status"), status | {"brain_mask": "supplied"})
        shift = np.zeros((*SHAPE, 3))
        shift[..., 1] = (ages[name] - 40) / 2
        save(at("deformation"), Volume(shift, AFFINE))
        write_json(at("deform-status"), {"status": "ok", "excluded": [], "options": {}, "sha256": name})
        of_weights = files_of(name, root / "synthetic/downstream/mine")
        save(of_weights("synth-fa"), Volume((t1 / 4).astype(np.float32), AFFINE))


def write_atlas(path):
    """FA that grows along the y axis of the template."""
    brain = load_template("brain", 6.0)
    y = np.indices(brain.shape)[1] / brain.shape[1]
    save(path, Volume((0.2 + 0.6 * y).astype(np.float32), brain.affine))
    return path


def configuration(root, **changes):
    """Section of a study without DWI; paths are those of `root`."""
    labels = np.zeros(SHAPE, int)
    labels[4:-4, : SHAPE[1] // 2, 4:-4], labels[4:-4, SHAPE[1] // 2 :, 4:-4] = 2, 1
    save(root / "labels.nii.gz", Volume(labels, AFFINE), dtype=np.int16)
    write_table(root / "labels.tsv", [{"index": i + 1, "name": n} for i, n in enumerate(REGIONS)], ("index", "name"))
    return {
        "dataset": "t1s",
        "cohort": {"source": "bids", "bids_dir": "bids"},
        "anat": {"spacing_mm": 6.0, "shape": list(SHAPE)},
        "evaluation": {
            "rois": {"image": str(root / "labels.nii.gz"), "space": "MNI152", "labels": str(root / "labels.tsv")}
        },
        "downstream": {
            "targets": {"age": "regression", "sex": "classification"},
            "weights": {"mine": str(root / "weights/model.safetensors")},
            "atlas": str(root / "atlas.nii.gz"),
            "note": "These T1s were among its anatomies.",
            "folds": FOLDS,
            "min_subjects": 5,
            "permutations": 399,
            "bootstrap": 20,
        }
        | changes,
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """All stages of the validation, one after the other."""
    root = tmp_path_factory.mktemp("t1s")
    write_units(root)
    write_scans(root)
    write_atlas(root / "atlas.nii.gz")
    write_line(root / "weights", spacing_mm=6.0, train_participants=[NAMES[1], "sub-elsewhere"])
    config = root / "config.json"
    config.write_text(Config.model_validate(configuration(root)).model_dump_json())
    about = ("--participants", root / "participants.tsv")
    folds = ("--units", root / "cohort/units.tsv", *about, "--number", FOLDS, "--out-dir", root / "cohort")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(style.RC, "savefig.dpi", 50)
        for stage, *further in (
            ("folds", *folds),
            ("features", "--root", root, "--config", config),
            ("downstream", "--root", root, "--config", config, *about),
            ("draw-downstream", "--root", root, "--config", config, *about),
            ("methods", "--root", root, "--page", "downstream", "--config", config),
            ("report-downstream", "--root", root, "--config", config),
        ):
            result = run(stage, *further)
            assert result.exit_code == 0, (stage, result.output)
    return root


def score(root, target, name):
    scores = pd.read_csv(root / "downstream/scores.tsv", sep="\t")
    main = {"age": "r2", "sex": "auc"}[target]
    own = scores[(scores["target"] == target) & (scores["metric"] == main) & (scores["predictor"] == "linear")]
    return own.set_index("input").loc[name]


def test_participants_with_a_usable_t1_are_described_whatever_their_dwi(root):
    features = read_table(root / "downstream/features.tsv")
    assert [row["participant_id"] for row in features] == NAMES[:-3]
    images = {column.split(":")[0] for column in features[0] if ":" in column}
    assert images == {"t1", "mine", "atlas"}
    fold_of = load_folds(root / "cohort/folds.tsv", root / "cohort/folds.json")
    assert NO_T1 not in fold_of and len(set(fold_of.values())) == FOLDS
    assert not list((root / "cohort").glob("fold-*"))  # no network is trained


def test_the_atlas_is_deformed_to_each_t1(root):
    features = pd.read_csv(root / "downstream/features.tsv", sep="\t").set_index("participant_id")
    atlas, labels = load(root / "atlas.nii.gz"), load(root / "labels.nii.gz").data
    ages, _ = phenotypes()
    for name in NAMES[:3]:
        shifted = np.eye(4)
        shifted[1, 3] = (ages[name] - 40) / 2
        expected = resample(atlas, AFFINE, SHAPE, shifted).data
        inside = (labels == 1) & (load(files_of(name, root)("brain")).data > 0)
        assert features.loc[name, "atlas:front"] == pytest.approx(expected[inside].mean(), abs=2e-3)


def test_a_t1_is_translated_by_given_weights(tmp_path):
    write_scans(tmp_path)
    weights = write_line(tmp_path / "weights", intercept=0.1, slope=0.5, spacing_mm=6.0)
    config = tmp_path / "config.json"
    config.write_text(Config.model_validate(configuration(tmp_path)).model_dump_json())
    names = ("--task", "downstream", "--model", "mine")
    for name in (NAMES[2], FAILED):
        result = run("synthesise", "--root", tmp_path, "--subject", name, "--config", config, *names)
        assert result.exit_code == 0, result.output
    at, of_weights = files_of(NAMES[2], tmp_path), files_of(NAMES[2], tmp_path / "synthetic/downstream/mine")
    inside, t1 = load(at("brain")).data > 0, load(at("t1w")).data
    scaled = (t1 - t1[inside].min()) / np.ptp(t1[inside])
    np.testing.assert_allclose(load(of_weights("synth-fa")).data[inside], (0.1 + 0.5 * scaled)[inside], atol=1e-4)
    assert read_json(str(of_weights("synth-status")).format(measure=measure("fa")))["weights"] == file_digest(weights)
    assert files_of(FAILED, tmp_path / "synthetic/downstream/mine")("synth-fa").stat().st_size == 0


def test_a_map_is_kept_until_the_record_of_its_model_changes(tmp_path, monkeypatch):
    write_scans(tmp_path)
    record = write_line(tmp_path / "weights", spacing_mm=6.0).with_name("model.json")
    config = tmp_path / "config.json"
    config.write_text(Config.model_validate(configuration(tmp_path)).model_dump_json())
    call = ("--root", tmp_path, "--config", config, "--task", "downstream", "--model", "mine", "--subject", NAMES[2])
    monkeypatch.setenv(MADE_BY, "1")
    assert "keeps" not in run("synthesise", *call).output
    assert "translate keeps what it made" in run("synthesise", *call).output
    write_json(record, read_json(record) | {"trained_on": "others"})  # options that no weight depends on stand there
    assert "keeps" not in run("synthesise", *call).output


def test_the_studys_deformation_is_taken_where_its_options_are_those_of_the_weights(tmp_path, monkeypatch):
    own, other, called = Deformation(), Deformation(radius=2), []
    monkeypatch.setattr(translation, "translate_unit", lambda *inputs: called.append(inputs))
    installed = given_weights({"a": "pretrained"}, 2.0)["a"]
    assert installed.takes(own) and not installed.takes(other)
    line = write_line(tmp_path / "line")
    assert not given_weights({"a": line}, 3.0)["a"].takes(own)
    at = files_of("sub-01", tmp_path)
    for section in (own, other):
        translation.translate_given("sub-01", tmp_path, "a", installed, section)
    (*_, require, _, _, _, field), (*_, none, _, _, _, no_field) = called
    assert (require, field) == ([at("deform-status")], at("deformation")) and (none, no_field) == ([], None)


def test_each_input_tells_what_its_image_holds(root):
    assert score(root, "age", "atlas")["value"] > 0.9  # the shape alone
    assert score(root, "age", "t1")["value"] < 0.3 and score(root, "age", "mine")["value"] < 0.3
    for name in ("t1", "mine"):
        assert score(root, "sex", name)["value"] > 0.95
    assert score(root, "sex", "atlas")["value"] < 0.8
    found = {(row["input"], row["reference_input"]) for row in read_table(root / "downstream/comparison.tsv")}
    wanted = {("t1", "covariates"), ("mine", "t1"), ("t1+mine", "t1"), ("mine", "atlas"), ("mine", "covariates")}
    assert found == wanted | {("atlas", "t1"), ("t1+atlas", "t1"), ("atlas", "covariates")}


def test_no_interval_reaches_beyond_what_a_metric_can_be(root):
    rows = [row for row in read_table(root / "downstream/scores.tsv") if row["low"] is not None]
    limits = {(row["metric"], float(row["low"]), float(row["high"])) for row in rows}
    assert {metric for metric, _, high in limits if high == 1} >= {"auc", "balanced_accuracy"}
    for metric, low, high in limits:
        least, most = BOUNDS[metric]
        assert least <= low <= high <= most, metric


def test_nothing_is_stated_about_measured_maps(root):
    for name in ("recovery", "transfer", "agreement"):
        assert read_table(root / f"downstream/{name}.tsv") == []
    drawn = {path.stem for path in (root / "figures/downstream").glob("*.png")}
    assert drawn == {"scores", "regions", "effects", "calibration", "embedding"}
    assert all(len(read_table(root / f"figures/downstream/{name}.tsv")) > 1 for name in drawn)
    page = Page((root / "downstream.html").read_text(encoding="utf-8"))
    assert page.tables.keys() - {None} == {"scores-table", "comparison-table"}
    for word in ("measured fa", "Recovery", "Transfer", "Agreement of gaps", "Simulated", "None", "cross-fitted"):
        assert word not in page.text
    drawn_effects = read_table(root / "figures/downstream/effects.tsv")
    assert {(row["reference"], row["image"]) for row in drawn_effects} == {("atlas", "mine")}


def test_the_page_states_what_each_input_tells_and_where_it_ends(root):
    page = Page((root / "downstream.html").read_text(encoding="utf-8"))
    assert "age is predicted above chance from atlas alone" in page.text
    assert "sex is predicted above chance from mine alone" in page.text
    assert "age is not predicted above chance from covariates alone" in page.text
    assert "mine minus the atlas: " in page.text
    assert "no score of it can exceed what the T1 holds" in page.text
    assert "There is no measured map of these participants" in page.text
    assert "names 1 of these 29 participants among those of its training" in page.text
    assert "These T1s were among its anatomies." in page.text
    record = read_json(root / "downstream/downstream.json")
    assert record["given"]["mine"]["trained_on"] == [NAMES[1]]
    assert {key: record["flow"][key] for key in ("n_input", "n_failed", "n_excluded", "n_incomplete", "n_used")} == {
        "n_input": N,
        "n_failed": 1,
        "n_excluded": 1,
        "n_incomplete": 1,
        "n_used": N - 3,
    }


def test_the_methods_tell_of_no_diffusion(root):
    text = (root / "figures/downstream/methods.md").read_text()
    for word in ("## Diffusion", "tensor", "diffusion scans", "cross-fitting", "mean FA", "[@mcgraw1996]", "None"):
        assert word not in text
    for phrase in (
        "32 participants and sessions, 1 failed, 1 were excluded, 1 had no usable T1 and 29 were used",
        f"{FOLDS} folds",
        "`mine` predicts FA from the T1 by weights that were trained elsewhere, on 2 participants",
        "1 have the name of a participant of this study",
        "These T1s were among its anatomies.",
        "`atlas` is an FA map in template space",
        "without a measured map",
    ):
        assert phrase in text
    assert "avants2008" in (root / "figures/downstream/references.bib").read_text()


def test_a_dwi_does_not_change_whether_a_t1_is_used(root):
    units = {row["unit"]: row for row in read_table(root / "cohort/units.tsv")}
    assert outcome_of_t1(units[NAMES[0]], root) == outcome_of_t1(units[NAMES[1]], root) == ("used", "", "")
    assert outcome_of_t1(units[EXCLUDED], root) == ("excluded", "anat", "a brain of 3 l")
    assert outcome_of_t1(units[FAILED], root)[0] == "failed" and outcome_of_t1(units[NO_T1], root)[0] == "incomplete"


def test_given_maps_are_compared_with_measured_ones_where_networks_are_cross_fitted_too():
    config = {
        "dataset": "d",
        "models": {"mean": {"family": "mean"}},
        "tasks": {"t1-fa": {"models": ["mean"]}},
        "downstream": {
            "tasks": ["t1-fa"],
            "weights": {"mine": "m.safetensors", "other": "o.safetensors"},
            "atlas": "a",
        },
    }
    study = Config.model_validate(config)
    assert not study.downstream.without_dwi
    found = measured_of(study.downstream, study.tasks.__getitem__, {"mine": "fa", "other": "md"})
    assert found == {"t1-fa.mean": "fa", "mine": "fa", "other": None, "atlas": "fa"}
    assert ("mine", "fa") in pairs(found) and ("mine", "atlas") in pairs(found)
    assert ("fa", "mine") in compared_effects(found) and "gaps" in of_validation(found)


@pytest.mark.parametrize(
    ("measured", "figures"),
    [({"mine": None}, {"gaps", "effects"}), ({"mine": None, "atlas": None}, {"gaps"}), ({"mine": "fa"}, set())],
)
def test_figures_without_anything_to_compare_are_left_out(measured, figures):
    assert of_validation({"x": "fa"}).keys() - of_validation(measured).keys() == figures


def test_the_installed_weights_are_found_by_name(tmp_path, monkeypatch):
    write_line(tmp_path / "t1-fa")
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    found = given_weights({"shipped": "pretrained"}, 3.0)
    assert found["shipped"].path == tmp_path / "t1-fa/model.safetensors"


@pytest.mark.parametrize(
    ("changes", "spacing_mm", "problem"),
    [
        ({}, 2.0, "trained at 3 mm .* set anat.spacing_mm: 3"),
        ({"source": "fa", "target": "tdi"}, 3.0, "not a model from a T1"),
        (None, 3.0, "there are no such weights"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path, changes, spacing_mm, problem):
    if changes is not None:
        write_line(tmp_path, **changes)
    with pytest.raises(DataError, match=problem.replace(" .* ", "[^~]*")):
        given_weights({"mine": tmp_path / "model.safetensors"}, spacing_mm)


def test_names_and_configurations_that_cannot_be_are_refused():
    for name in ("t1", "fa", "atlas", "noise-free", "covariates"):
        with pytest.raises(ValidationError, match="name of another input"):
            Config.model_validate({"dataset": "d", "downstream": {"weights": {name: "w"}}})
    for given, missing in (({}, "models"), ({"models": {}}, "tasks")):
        with pytest.raises(ValidationError, match=f"{missing}: this key is needed"):
            Config.model_validate({"dataset": "d", **given})
    task = {"models": {"m": {"family": "mean"}}, "tasks": {"downstream": {"models": ["m"]}}}
    with pytest.raises(ValidationError, match="choose another name"):
        Config.model_validate({"dataset": "d", **task, "downstream": {"weights": {"mine": "w"}}})


def test_folds_need_a_split_or_units(tmp_path):
    assert run("folds", "--number", 2, "--out-dir", tmp_path).exit_code == 2


def test_the_workflow_plans_anat_deformation_and_translation_of_each_t1(tmp_path):
    for i in range(6):
        add_t1(tmp_path / "bids", f"sub-{i}")
    add_t1(tmp_path / "bids", "sub-6")
    add_dwi(tmp_path / "bids", "sub-6")
    add_dwi(tmp_path / "bids", "sub-7")
    about = [{"participant_id": f"sub-{i}", "age": 20 + i, "sex": "FM"[i % 2]} for i in range(8)]
    write_table(tmp_path / "bids/participants.tsv", about, tuple(about[0]))
    write_atlas(tmp_path / "atlas.nii.gz")
    write_line(tmp_path / "weights", spacing_mm=6.0)
    config = configuration(tmp_path)
    config["cohort"] |= {"check_voxels": False}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config))
    call = {"configfile": str(tmp_path / "study.yaml")}
    done = snakemake(tmp_path, "results/t1s/cohort/split.tsv", "--cores", "1", **call)
    assert done.returncode == 0, done.stdout
    plan = snakemake(tmp_path, "downstream", *PLAN, **call).stdout
    assert "Exception" not in plan
    jobs = planned(plan)
    each = {"anat": 7, "deform": 7, "translate_given": 1}
    once = ("folds_of_t1s", "features", "predict_phenotypes", "page_of_downstream", "methods_of_downstream")
    assert jobs.items() >= (each | dict.fromkeys(once, 1)).items()
    assert not jobs.keys() & {"dti", "grid", "train_model", "quality", "collect"}
    assert "`snakemake downstream`" in snakemake(tmp_path, "-n", **call).stdout
    config["anat"]["spacing_mm"] = 2.0
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config))
    refused = snakemake(tmp_path, "downstream", "-n", **call).stdout
    assert "downstream.weights.mine was trained at 6 mm" in refused
