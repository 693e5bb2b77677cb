"""Inputs of tasks, models, fields and pages, in a cohort of a few participants."""

from types import SimpleNamespace

import pytest
import yaml
from snakemake.exceptions import WorkflowError
from workflow import CHECKOUT

from m2m.options import Config, merged
from m2m.workflow.field_inputs import Fields
from m2m.workflow.job_flags import flag, low_res_flag, output_folder, repeated, subject_flags
from m2m.workflow.model_inputs import Evaluating, Fitting
from m2m.workflow.report_pages import Pages
from m2m.workflow.results_layout import Layout
from m2m.workflow.section_digests import Digests
from m2m.workflow.subject_inputs import Subjects
from m2m.workflow.task_inputs import Tasks
from m2m.workflow.validation_inputs import Validation

ROOT = "results/tiny"
BASE = yaml.safe_load((CHECKOUT / "tests/config.yaml").read_text())


class Few:
    """A cohort of four units, as in its tables."""

    def units(self, *states):
        known = {"paired": ["sub-01", "sub-02_ses-1"], "t1w-only": ["sub-03"], "dwi-only": []}
        return [unit for state in states for unit in known[state]]

    def of_part(self, *parts):
        known = {"train": ["sub-01"], "validation": [], "test": ["sub-02_ses-1"]}
        return [unit for part in parts for unit in known[part]]

    def of_fold(self, fold, inside=True):
        return [f"sub-0{fold}"] if inside else ["sub-09"]

    def row(self, unit):
        return {"t1w": f"raw/{unit}.nii.gz", "dwi": None}


class Study:
    """Every object of the workflow for one configuration."""

    def __init__(self, **changes):
        self.config = Config.model_validate(merged(BASE, changes))
        self.files = Layout(self.config)
        self.tasks = Tasks(self.config, self.files, Few())
        self.subjects = Subjects(self.config, self.files, Few())
        self.fitting, self.evaluating = Fitting(self.tasks), Evaluating(self.tasks)
        self.fields = Fields(self.tasks)
        self.validation = Validation(self.tasks, self.subjects)
        self.pages = Pages(self.tasks)
        self.digests = Digests(self.config, self.files)


@pytest.fixture(scope="module")
def study():
    return Study()


def wildcards(**values):
    return SimpleNamespace(**values)


def test_a_task_translates_its_test_participants_and_those_without_a_diffusion_scan(study):
    subjects = ["sub-02_ses-1", "sub-03"]
    assert study.tasks.units_to_translate("t1-fa") == subjects
    assert study.tasks.units_to_translate("fa-tdi") == subjects[:1]  # its source is measured
    (path,) = study.tasks.synthetic("fa-tdi", "mean", subjects[:1])
    assert path == (
        f"{ROOT}/synthetic/fa-tdi/mean/sub-02/ses-1/dwi/"
        "sub-02_ses-1_space-T1w_desc-synth_model-tracts_param-tdi_dwimap.nii.gz"
    )


def test_a_fold_s_networks_translate_that_fold_and_are_trained_on_the_others(study):
    (name, *_) = study.tasks.cross_fitted
    fold = study.config.tasks[name].fold
    assert study.tasks.units_to_translate(name) == [f"sub-0{fold}"]
    table = study.tasks.of_fold("split.tsv")
    assert table(wildcards(task=name)) == f"{ROOT}/cohort/fold-{fold}/split.tsv"
    assert table(wildcards(task="t1-fa")) == f"{ROOT}/cohort/split.tsv"
    requested = study.tasks.slices_of_other_folds(wildcards(fold=fold))
    assert requested[0] == f"{ROOT}/slices/sub-09/sub-09_slices.json" and "sub-09" in requested[-1]


def cascade_of(study):
    return next(name for name, task in study.config.tasks.items() if task.cascade)


def test_a_cascade_runs_the_models_of_its_steps_one_after_the_other(study):
    name = cascade_of(study)
    first, last = study.tasks.cascade_steps(name)
    model = study.config.tasks[name].models[0]
    job = wildcards(task=name, model=model, unit="sub-01", folder="sub-01")
    assert study.tasks.source_image(job) == study.tasks.synthetic(first, model, ["sub-01"])
    assert study.tasks.model_weights(job) == f"{ROOT}/models/{last}/{model}/model.safetensors"
    assert study.tasks.model_records(job) == [f"{ROOT}/models/{step}/{model}/model.json" for step in (first, last)]
    assert study.tasks.cascade_steps("t1-fa") == ("t1-fa",)
    # No model is trained for it.
    assert not any(f"/{name}/" in path for path in study.tasks.every_fit("{task}/{model}"))


def low_task(study):
    return next((name, task) for name, task in study.config.tasks.items() if task.low_res)


def test_baselines_of_a_low_resolution_are_trained_in_the_task_without(study):
    name, task = low_task(study)
    (baseline, *_) = task.low_res.baselines
    own = next(model for model in task.models if model not in task.low_res.baselines)
    assert study.tasks.training_task(name, baseline) == task.low_res.synthesis_task
    assert study.tasks.training_task(name, own) == name
    job = {"task": name, "unit": "sub-01"}
    assert study.tasks.low_res_image(wildcards(**job, model=baseline)) == []
    table = f"{ROOT}/low_res/{task.low_res.kind}/slices.tsv"
    assert study.tasks.low_res_table(wildcards(**job, model=own)) == table
    assert study.tasks.low_res_image(wildcards(**job, model=own)).startswith(
        f"{ROOT}/low_res/{task.low_res.kind}/sub-01/dwi/sub-01_space-T1w_desc-lowres"
    )


def test_a_low_resolution_is_of_the_series_or_of_the_map(study):
    for kind, low in study.config.low_resolutions.items():
        path = study.tasks.low_res_source("dwi-fa", "fa")(wildcards(low_res=kind, unit="sub-01"))
        assert path.startswith(f"{ROOT}/low_res/{kind}/" if low.source == "dwi" else f"{ROOT}/sub-01/")


def test_every_model_is_requested_once_for_each_task_and_trained_once(study):
    fits = study.tasks.every_fit("models/{task}/{model}", study.tasks.pages["fgdl"])
    assert len(fits) == len(set(fits))
    wanted = study.tasks.every_model("models/{task}/{model}", study.tasks.pages["fgdl"])
    assert set(fits) < set(wanted)


def test_test_participants_are_evaluated_after_the_status_that_is_written_last(study):
    job = wildcards(task="t1-dti", model="mean")
    made = study.evaluating.test_synthesis(job)
    assert made[0].endswith("desc-synth_model-tensor_param-tensor_status.json")
    assert made[1].endswith("desc-synthtractography_status.json")
    assert study.tasks.maps_flag(job) == ["--maps", f"{ROOT}/synthetic/t1-dti/mean"]
    assert len(study.evaluating.test_synthesis(wildcards(task="t1-fa", model="mean"))) == 1


def test_the_mean_map_is_an_input_of_the_other_models_only(study):
    others = wildcards(task="t1-fa", model="macro2micro")
    assert study.evaluating.mean_model(others) == ["mean"]
    assert study.evaluating.evaluated_mean(others) == [f"{ROOT}/evaluate/t1-fa/mean/metrics.tsv"]
    assert study.evaluating.mean_model(wildcards(task="t1-fa", model="mean")) == []


def test_a_field_is_stored_with_its_map(study):
    fields = study.fields
    assert fields.of.startswith("|/synthetic/") and fields.directions == ["--directions"]
    measured, synthetic = (
        wildcards(of="", unit="sub-01"),
        wildcards(of="/synthetic/a/b", unit="sub-01"),
    )
    assert fields.maps(measured) == []
    assert fields.maps(synthetic) == ["--maps", f"{ROOT}/synthetic/a/b"]
    assert fields.mask(measured).endswith("desc-target_mask.nii.gz")
    assert fields.mask(synthetic).endswith("desc-brain_mask.nii.gz")
    assert fields.status(synthetic).endswith("desc-synthtractography_status.json")
    assert fields.shown_flags(None)[-2:] == ["--unit", "sub-02_ses-1"]


def test_a_field_without_tract_density_is_refused_by_name():
    tasks = {"t1-fa": {"models": ["mean"]}}
    alone = Study()
    alone.config = Config.model_validate(BASE | {"tasks": tasks, "downstream": {}})
    fields = Fields(Tasks(alone.config, alone.files, Few()))
    with pytest.raises(WorkflowError, match="which no task needs"):
        fields.every("field")(None)


def test_a_page_has_files_and_a_missing_page_is_named(study):
    page, flow, methods, *tables = study.pages.wanted("compare")(None)
    assert page == f"{ROOT}/compare.html"
    assert (flow, methods) == (f"{ROOT}/figures/compare/flow.png", f"{ROOT}/figures/compare/methods.md")
    assert tables and all(path.endswith("summary.tex") for path in tables)
    assert study.pages.figures("report") == f"{ROOT}/figures"
    with pytest.raises(WorkflowError, match="No task has page: nothing"):
        study.pages.wanted("nothing")(None)


def test_the_validation_is_planned_where_tasks_targets_and_participants_are_named(study):
    assert study.validation.page(None)[0] == f"{ROOT}/downstream.html"
    images = study.validation.images()
    assert images["t1"]["map"] == study.files.at("t1w")
    name = next(iter(study.validation.measured_of()))
    assert "{fold}" in images[name]["map"] and images[name]["record"].endswith("model.json")
    assert study.validation.cnn_tables(None) == []  # too few participants
    without_folds = Study()
    without_folds.validation.wanted = False
    with pytest.raises(WorkflowError, match=r"no downstream\.tasks"):
        without_folds.validation.page(None)


def test_flags_of_a_job_depend_on_its_wildcards():
    assert subject_flags(wildcards(unit="sub-01")) == ["--subject", "sub-01"]
    assert subject_flags(wildcards(unit="sub-01_ses-2")) == ["--subject", "sub-01", "--session", "ses-2"]
    assert low_res_flag(wildcards(low_res="dwi-2")) == ["--low-res", "dwi-2"]
    assert repeated("--of", ["a", "b"]) == ["--of", "a", "--of", "b"]
    assert flag("--mask", "mask")(None, {"mask": "m.nii"}) == ["--mask", "m.nii"]
    assert flag("--mask", "mask")(None, {"mask": ["a", "b"]}) == ["--mask", "a", "--mask", "b"]
    assert flag("--mask", "mask")(None, {"mask": []}) == flag("--mask", "mask")(None, {}) == []
    assert output_folder(None, ["a/b/c.tsv", "a/d.tsv"]) == "a/b"


def test_raw_scans_are_inputs_only_where_participants_are_simulated(study):
    scans = study.subjects.raw_scans(None)
    assert len(scans) == 2 * study.config.cohort.phantom.n_subjects
    assert scans[0] == f"{ROOT}/rawdata/sub-0001/anat/sub-0001_T1w.nii.gz"
    assert study.subjects.place_of_participant(wildcards(participant="0003")) == 2
    assert study.subjects.scan("t1w")(wildcards(unit="sub-01")) == "raw/sub-01.nii.gz"
    assert study.subjects.scan("dwi")(wildcards(unit="sub-01")) == []
    on_disk = Study(cohort={"source": "bids", "bids_dir": "nowhere"})
    assert on_disk.subjects.raw_scans(None) == []
    assert on_disk.subjects.participants_table(None) == []
    with pytest.raises(WorkflowError, match="there is no folder nowhere"):
        on_disk.subjects.listed_subjects(None)


def test_ages_of_sessions_are_a_parameter_that_changes_with_their_content_alone(tmp_path):
    def parameter():
        return Study(cohort={"source": "bids", "bids_dir": str(tmp_path)}).subjects.session_tables(None)

    table = tmp_path / "sub-01" / "sub-01_sessions.tsv"
    table.parent.mkdir()
    table.write_text("session_id\tage\nses-1\t30\n")
    assert parameter() == ""  # without a participants.tsv they are not read
    (tmp_path / "participants.tsv").write_text("participant_id\nsub-01\n")
    first = parameter()
    table.touch()
    (tmp_path / "sub-02").mkdir()
    assert first and parameter() == first
    table.write_text("session_id\tage\nses-1\t31\n")
    second = parameter()
    (tmp_path / "sub-02" / "sub-02_sessions.tsv").write_text(table.read_text())
    assert len({first, second, parameter()}) == 3
    assert Study().subjects.session_tables(None) == ""  # simulated participants have none


def digests_of(study):
    """Every digest that a rule has as a parameter, by its section."""
    found = {
        f"{task} {model}": study.digests.model(wildcards(task=task, model=model))
        for task, section in study.config.tasks.items()
        for model in section.models
    }
    found |= {task: study.digests.task(wildcards(task=task)) for task in study.config.tasks}
    found |= {low: study.digests.low_res_dti(wildcards(low_res=low)) for low in study.config.low_resolutions}
    found |= {name: study.digests.report(name) for name in study.tasks.pages}
    return found | {
        "subject": study.digests.subject,
        "evaluation": study.digests.evaluation,
        "cohort": study.digests.cohort,
    }


def changed(**changes):
    """Names of the digests that a changed configuration changes."""
    before, after = digests_of(Study()), digests_of(Study(**changes))
    return {name for name, value in before.items() if after[name] != value}


def test_an_option_of_one_model_changes_that_model_alone():
    found = changed(models={"cyclegan": {"training": {"seed": 77}}})
    assert found and all(name.split()[-1:] == ["cyclegan"] for name in found if " " in name)
    assert not {name for name in found if " " not in name}


def test_a_section_s_option_changes_its_own_digest_alone():
    assert changed(evaluation={"min_roi_voxels": 123}) == {"evaluation"}
    assert changed(dti={"fit": "OLS"}) == set(Study().config.low_resolutions)
    # How many participants there are does not change any participant.
    assert changed(cohort={"phantom": {"n_subjects": 7}}) == set()
    assert changed(cohort={"phantom": {"snr": 12}}) == {"subject"}
    assert changed(report={"title": "Another"}) == set(Study().tasks.pages)


def test_the_series_of_a_unit_is_the_joined_one_where_several_are_joined(study):
    row = {"dwi": "raw/a.nii.gz", "bval": "raw/a.bval", "bvec": "raw/a.b", "dwi_mask": "raw/m.nii.gz"}
    row["joined"] = '[["raw/b.nii.gz", "raw/b.bval", "raw/b.b"]]'
    subjects = Subjects(study.config, study.files, SimpleNamespace(row=lambda unit: row))
    wildcards = SimpleNamespace(unit="sub-01_ses-1")
    folder = f"{ROOT}/sub-01/ses-1/dwi/sub-01_ses-1_desc-joined_dwi"
    assert subjects.scan("dwi")(wildcards) == f"{folder}.nii.gz"
    assert subjects.scan("bvec")(wildcards) == f"{folder}.bvec"
    assert subjects.scan("dwi_mask")(wildcards) == "raw/m.nii.gz"
    assert subjects.series("bvec")(wildcards) == ["raw/a.b", "raw/b.b"]
    row["joined"] = None
    assert subjects.scan("dwi")(wildcards) == "raw/a.nii.gz"


def test_the_deformation_is_made_for_the_models_that_use_it_only(study):
    tasks, job = study.tasks, {"task": "t1-fa", "unit": "sub-03"}
    assert tasks.deformation(wildcards(model="atlas", **job)) == f"{ROOT}/sub-03/anat/sub-03_desc-deform_status.json"
    assert tasks.deformation(wildcards(model="mean", **job)) == []
    assert tasks.table_to_fit(wildcards(model="atlas", **job)) == f"{ROOT}/cohort/deformed.tsv"
    assert tasks.table_to_fit(wildcards(model="mean", **job)) == f"{ROOT}/cohort/slices.tsv"
    status = f"{ROOT}/{{}}/anat/{{}}_desc-deform_status.json"
    assert tasks.deformations_to_fit(wildcards()) == [status.format("sub-01", "sub-01")]
    assert tasks.deformations_of_other_folds(wildcards(fold="1")) == [status.format("sub-09", "sub-09")]
    assert tasks.deformation_needed() and not tasks.deformation_needed(["fa-tdi", *tasks.cross_fitted])
    reported = tasks.reported_deformations(wildcards())
    assert len(reported) == 3 and status.format("sub-03", "sub-03") in reported
    network = {"prior": True, "deformed": True}
    inputs = Study(models={"net": {"family": "unet", "network": network}}, tasks={"t1-dti": {"models": ["net"]}}).tasks
    assert inputs.deformation_needed(["t1-dti"]) and inputs.deformation(
        wildcards(model="net", task="t1-dti", unit="sub-03")
    )
    none = Study(tasks={name: {"models": ["macro2micro", "mean", "t1"]} for name in ("t1-fa", "t1-dti")}).tasks
    assert not none.deformation_needed() and none.reported_deformations(wildcards()) == []


def test_files_that_options_name_are_inputs_of_training():
    perceptual = {"network": "vgg19", "weights": "vgg19.pth"}
    models = {"given": {"family": "atlas", "map": "fa.nii.gz"}, "macro2micro": {"perceptual": perceptual}}
    study = Study(models=models)
    given = {name: study.fitting.given_files(wildcards(model=name)) for name in (*models, "mean")}
    assert given == {"given": ["fa.nii.gz"], "macro2micro": ["vgg19.pth"], "mean": []}
