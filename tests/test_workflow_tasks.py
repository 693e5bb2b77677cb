"""What tasks, models, fields and pages ask for, in a cohort of a few people."""

from types import SimpleNamespace

import pytest
import yaml
from snakemake.exceptions import WorkflowError
from workflow import CHECKOUT

from m2m.options import Config, merged
from m2m.workflow.field_inputs import Fields
from m2m.workflow.job_flags import flag, low_flag, output_folder, repeated, subject_flags
from m2m.workflow.model_inputs import Fitting, Judging
from m2m.workflow.person_inputs import People
from m2m.workflow.section_digests import Digests
from m2m.workflow.study_pages import Pages
from m2m.workflow.study_paths import Layout
from m2m.workflow.task_inputs import Tasks
from m2m.workflow.validation_inputs import Validation

ROOT = "results/tiny"
BASE = yaml.safe_load((CHECKOUT / "tests/config.yaml").read_text())


class Few:
    """A cohort of four units, as its tables would say."""

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
        self.people = People(self.config, self.files, Few())
        self.fitting, self.judging = Fitting(self.tasks), Judging(self.tasks)
        self.fields = Fields(self.tasks)
        self.validation = Validation(self.tasks, self.people)
        self.pages = Pages(self.tasks)
        self.digests = Digests(self.config, self.files)


@pytest.fixture(scope="module")
def study():
    return Study()


def wildcards(**values):
    return SimpleNamespace(**values)


def test_a_task_translates_its_test_people_and_those_without_a_diffusion_scan(study):
    people = ["sub-02_ses-1", "sub-03"]
    assert study.tasks.units_to_translate("t1-fa") == people
    assert study.tasks.units_to_translate("fa-tdi") == people[:1]  # its source is measured
    (path,) = study.tasks.synthetic("fa-tdi", "mean", people[:1])
    assert path == (
        f"{ROOT}/synthetic/fa-tdi/mean/sub-02/ses-1/dwi/"
        "sub-02_ses-1_space-T1w_desc-synth_model-tracts_param-tdi_dwimap.nii.gz"
    )


def test_a_fold_s_networks_translate_that_fold_and_learn_from_the_others(study):
    (name, *_) = study.tasks.cross_fitted
    fold = study.config.tasks[name].fold
    assert study.tasks.units_to_translate(name) == [f"sub-0{fold}"]
    table = study.tasks.of_fold("split.tsv")
    assert table(wildcards(task=name)) == f"{ROOT}/cohort/fold-{fold}/split.tsv"
    assert table(wildcards(task="t1-fa")) == f"{ROOT}/cohort/split.tsv"
    asked = study.tasks.slices_of_other_folds(wildcards(fold=fold))
    assert asked[0] == f"{ROOT}/slices/sub-09/sub-09_slices.json" and "sub-09" in asked[-1]


def chain_of(study):
    return next(name for name, task in study.config.tasks.items() if task.chain)


def test_a_chain_runs_the_models_of_its_links_one_after_the_other(study):
    name = chain_of(study)
    first, last = study.tasks.links(name)
    model = study.config.tasks[name].models[0]
    job = wildcards(task=name, model=model, unit="sub-01", folder="sub-01")
    assert study.tasks.source_image(job) == study.tasks.synthetic(first, model, ["sub-01"])
    assert study.tasks.model_weights(job) == f"{ROOT}/models/{last}/{model}/model.safetensors"
    assert study.tasks.model_records(job) == [
        f"{ROOT}/models/{link}/{model}/model.json" for link in (first, last)
    ]
    assert study.tasks.links("t1-fa") == ("t1-fa",)
    # Nothing is trained for it.
    assert not any(f"/{name}/" in path for path in study.tasks.every_fit("{task}/{model}"))


def low_task(study):
    return next((name, task) for name, task in study.config.tasks.items() if task.low)


def test_models_beside_a_low_resolution_are_at_home_in_the_task_without(study):
    name, task = low_task(study)
    (beside, *_) = task.low.beside
    sees = next(model for model in task.models if model not in task.low.beside)
    assert study.tasks.home(name, beside) == task.low.after
    assert study.tasks.home(name, sees) == name
    job = {"task": name, "unit": "sub-01"}
    assert study.tasks.low_image(wildcards(**job, model=beside)) == []
    table = f"{ROOT}/low/{task.low.kind}/slices.tsv"
    assert study.tasks.low_table(wildcards(**job, model=sees)) == table
    assert study.tasks.low_image(wildcards(**job, model=sees)).startswith(
        f"{ROOT}/low/{task.low.kind}/sub-01/dwi/sub-01_space-T1w_desc-lowres"
    )


def test_a_low_resolution_is_of_the_series_or_of_the_map(study):
    for kind, low in study.config.lows.items():
        path = study.tasks.lowered("dwi-fa", "fa")(wildcards(low=kind, unit="sub-01"))
        assert path.startswith(f"{ROOT}/low/{kind}/" if low.of == "dwi" else f"{ROOT}/sub-01/")


def test_every_model_is_asked_for_once_for_each_task_and_fitted_once_at_home(study):
    fits = study.tasks.every_fit("models/{task}/{model}", study.tasks.studies["fgdl"])
    assert len(fits) == len(set(fits))
    wanted = study.tasks.every_model("models/{task}/{model}", study.tasks.studies["fgdl"])
    assert set(fits) < set(wanted)


def test_test_people_are_judged_by_the_status_that_is_written_last(study):
    job = wildcards(task="t1-dti", model="mean")
    made = study.judging.test_synthesis(job)
    assert made[0].endswith("desc-synth_model-tensor_param-tensor_status.json")
    assert made[1].endswith("desc-synthtractography_status.json")
    assert study.tasks.maps_flag(job) == ["--maps", f"{ROOT}/synthetic/t1-dti/mean"]
    assert len(study.judging.test_synthesis(wildcards(task="t1-fa", model="mean"))) == 1
    assert study.judging.test_truth(job)[0].endswith("param-tensor_dwimap.nii.gz")


def test_the_mean_map_is_asked_for_by_the_other_models_alone(study):
    others = wildcards(task="t1-fa", model="macro2micro")
    assert study.judging.mean_model(others) == ["mean"]
    assert len(study.judging.mean_maps(others)) == 1
    assert study.judging.mean_model(wildcards(task="t1-fa", model="mean")) == []


def test_a_field_lies_with_its_map_and_says_which_one(study):
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


def test_a_study_has_a_page_and_one_that_is_not_there_is_named(study):
    page, flow, methods, *tables = study.pages.wanted("compare")(None)
    assert page == f"{ROOT}/compare.html"
    assert (flow, methods) == (
        f"{ROOT}/figures/compare/flow.png", f"{ROOT}/figures/compare/methods.md"
    )  # fmt: skip
    assert tables and all(path.endswith("summary.tex") for path in tables)
    assert study.pages.figures("report") == f"{ROOT}/figures"
    with pytest.raises(WorkflowError, match="No task has study: nothing"):
        study.pages.wanted("nothing")(None)


def test_the_validation_is_planned_where_tasks_targets_and_people_are_named(study):
    assert study.validation.page(None)[0] == f"{ROOT}/downstream.html"
    images = study.validation.images()
    assert images["t1"]["map"] == study.files.at("t1w")
    name = next(iter(study.validation.measured_of()))
    assert "{fold}" in images[name]["map"] and images[name]["record"].endswith("model.json")
    assert study.validation.cnn_tables(None) == []  # too few people
    nobody = Study()
    nobody.tasks.cross_fitted = []
    with pytest.raises(WorkflowError, match=r"no downstream\.tasks"):
        nobody.validation.page(None)


def test_flags_of_a_job_name_what_only_it_knows():
    assert subject_flags(wildcards(unit="sub-01")) == ["--subject", "sub-01"]
    assert subject_flags(wildcards(unit="sub-01_ses-2")) == [
        "--subject", "sub-01", "--session", "ses-2"
    ]  # fmt: skip
    assert low_flag(wildcards(low="dwi-2")) == ["--low", "dwi-2"]
    assert repeated("--of", ["a", "b"]) == ["--of", "a", "--of", "b"]
    assert flag("--mask", "mask")(None, {"mask": "m.nii"}) == ["--mask", "m.nii"]
    assert flag("--mask", "mask")(None, {"mask": ["a", "b"]}) == ["--mask", "a", "--mask", "b"]
    assert flag("--mask", "mask")(None, {"mask": []}) == flag("--mask", "mask")(None, {}) == []
    assert output_folder(None, ["a/b/c.tsv", "a/d.tsv"]) == "a/b"


def test_raw_scans_are_asked_for_where_people_are_simulated_alone(study):
    scans = study.people.raw_scans(None)
    assert len(scans) == 2 * study.config.cohort.phantom.n_subjects
    assert scans[0] == f"{ROOT}/rawdata/sub-0001/anat/sub-0001_T1w.nii.gz"
    assert study.people.place_of_participant(wildcards(participant="0003")) == 2
    assert study.people.scan("t1w")(wildcards(unit="sub-01")) == "raw/sub-01.nii.gz"
    assert study.people.scan("dwi")(wildcards(unit="sub-01")) == []
    on_disk = Study(cohort={"source": "bids", "bids_dir": "nowhere"})
    assert on_disk.people.raw_scans(None) == []
    assert on_disk.people.participants_table(None) == []
    with pytest.raises(WorkflowError, match="there is no folder nowhere"):
        on_disk.people.listed_subjects(None)


def digests_of(study):
    """Every digest that a rule has as a parameter, by what it is of."""
    found = {
        f"{task} {model}": study.digests.model(wildcards(task=task, model=model))
        for task, section in study.config.tasks.items()
        for model in section.models
    }
    found |= {task: study.digests.task(wildcards(task=task)) for task in study.config.tasks}
    found |= {low: study.digests.low_dti(wildcards(low=low)) for low in study.config.lows}
    found |= {name: study.digests.report(name) for name in study.tasks.studies}
    return found | {
        "person": study.digests.person, "evaluation": study.digests.evaluation,
        "cohort": study.digests.cohort,
    }  # fmt: skip


def changed(**changes):
    """Names of the digests that a changed configuration changes."""
    before, after = digests_of(Study()), digests_of(Study(**changes))
    return {name for name, value in before.items() if after[name] != value}


def test_an_option_of_one_model_changes_that_model_alone():
    found = changed(models={"cyclegan": {"training": {"seed": 77}}})
    assert found and all(name.split()[-1:] == ["cyclegan"] for name in found if " " in name)
    assert not {name for name in found if " " not in name}


def test_a_section_s_option_changes_its_own_digest_alone():
    assert changed(evaluation={"bootstrap": 123}) == {"evaluation"}
    assert changed(dti={"fit": "OLS"}) == set(Study().config.lows)
    # How many people there are does not change anybody.
    assert changed(cohort={"phantom": {"n_subjects": 7}}) == set()
    assert changed(cohort={"phantom": {"snr": 12}}) == {"person"}
    assert changed(report={"title": "Another"}) == set(Study().tasks.studies)
