"""A stage's section from the whole configuration or from JSON, and sections that depend on others."""

import json

import pytest
import yaml
from pydantic import ValidationError
from workflow import CHECKOUT

from m2m.io.errors import DataError
from m2m.io.files import digest
from m2m.options import Config, Dti, Phantom, Task, load_config, merged
from m2m.options.configured import (
    Written,
    compared_by,
    described_images,
    figures_folder,
    fitted_model,
    fitted_task,
    of_low_res_factor,
    read_config,
    section_of,
    split_of,
    titled,
)
from m2m.workflow.calls import write_config
from m2m.workflow.results_layout import Layout
from m2m.workflow.section_digests import Digests, ordered_digest

SECTIONS = set(Config.model_fields) - {"dataset", "results", "models", "tasks", "shard", "published"}


@pytest.fixture(scope="module", params=["tests/config.yaml", "config.yaml", "config.paper.yaml"])
def config(request):
    return load_config(CHECKOUT / request.param)


@pytest.fixture
def written(config, tmp_path):
    write_config(config, tmp_path / "config.json")
    return read_config(tmp_path / "config.json")


@pytest.mark.parametrize("name", sorted(SECTIONS))
def test_a_section_from_the_file_is_that_of_the_configuration(config, written, name):
    assert written.section(name) == getattr(config, name)
    assert digest(written.section(name)) == digest(getattr(config, name))


def test_models_and_tasks_from_the_file_are_those_of_the_configuration(config, written):
    assert {name: written.model(name) for name in config.models} == config.models
    assert {name: written.task(name) for name in config.tasks} == config.tasks
    for page in {task.page for task in config.tasks.values()}:
        same = {name: task for name, task in config.tasks.items() if task.page == page}
        assert list(written.tasks(page).items()) == list(same.items())
    assert written.published == config.published
    assert written.simulated == (config.cohort.source == "phantom") == bool(written.simulation)


def test_the_digest_of_a_rule_is_of_the_section_that_its_stage_uses(config, written):
    layout = Layout(config)
    digests = Digests(config, layout)
    for task, section in config.tasks.items():
        job = type("Job", (), {"task": task})()
        assert digest(fitted_task(written.task(task))) == digests.task(job)
        for job.model in section.models:
            model = fitted_model(written.model(job.model), written.task(task), job.model)
            assert digest(model) == digests.model(job)
    section = compared_by(written.section("evaluation"), written.simulation, layout.root)
    assert digest(section) == digests.evaluation
    assert digest(titled(written.section("report"), "compare")) == digests.report("compare")


def test_only_requested_sections_are_validated():
    broken = Written({"dti": {"fit": "OLS"}, "anat": {"no such": "key"}})
    assert broken.section("dti") == Dti(fit="OLS")
    with pytest.raises(ValidationError, match="no such"):
        broken.section("anat")


def test_an_unknown_task_or_model_is_named():
    written = Written({"tasks": {"t1-fa": {}}, "models": {}})
    with pytest.raises(DataError, match="has no t1-tdi in tasks"):
        written.task("t1-tdi")
    with pytest.raises(DataError, match="has no mean in models"):
        written.model("mean")


def test_a_section_is_given_once(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"dti": {"fit": "OLS"}}))
    assert section_of("dti", path, None) == section_of("dti", None, '{"fit": "OLS"}')
    with pytest.raises(DataError, match="give one of them"):
        section_of("dti", path, "{}")
    with pytest.raises(DataError, match="is needed"):
        section_of("dti", None, None)
    assert section_of("dti", None, None, needed=False) == Dti()


def test_a_task_has_its_own_steps_and_losses_of_a_model():
    base = yaml.safe_load((CHECKOUT / "tests/config.yaml").read_text())
    model = Config.model_validate(base).models["macro2micro"]
    task = Task(steps={"macro2micro": 5}, losses={"l1": 0.25})
    fitted = fitted_model(model, task, "macro2micro")
    assert (fitted.training.steps, fitted.losses.l1) == (5, 0.25)
    assert fitted_model(model, Task(), "macro2micro") == model
    # Other models of a task do not change it.
    assert fitted_task(task) == fitted_task(Task(models=("mean",), page="compare"))


def test_simulated_participants_have_their_own_regions_and_ground_truth(config):
    section = config.evaluation.model_copy(update={"rois": type(config.evaluation.rois)()})
    assert compared_by(section, None, "results/a") == section
    known = compared_by(section, Phantom(), "results/a")
    assert known.rois.image.startswith("results/a/truth/{folder}/") and known.truth is None
    distorted = compared_by(section, Phantom(distortion_mm=3), "results/a")
    assert str(distorted.truth) == "results/a/truth"


def test_files_that_follow_from_the_configuration(config):
    assert of_low_res_factor(config.dti, 4).low_res_factor == 4
    assert [str(path) for path in split_of("r")] == ["r/cohort/split.tsv", "r/cohort/split.json"]
    assert str(split_of("r", 2)[0]) == "r/cohort/fold-2/split.tsv"
    assert figures_folder("r", "report") == "r/figures"
    assert figures_folder("r", "ablation") == "r/figures/ablation"
    images = described_images(config.downstream, config.tasks.__getitem__, "r", simulated=True, given={})
    assert images["t1"]["map"].startswith("r/{folder}/anat/{unit}")


@pytest.mark.parametrize("text", [None, "{not json", "[]", '{"a": 1}'])
def test_a_file_that_is_not_a_configuration_is_refused_by_name(tmp_path, text):
    path = tmp_path / "config.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match="configuration"):
        read_config(path)


def test_the_order_of_names_counts_where_a_job_displays_them():
    one, other = {"t1": 1, "fa": 2}, {"fa": 2, "t1": 1}
    assert digest(one) == digest(other)
    assert ordered_digest(one) != ordered_digest(other)


@pytest.mark.parametrize("name", sorted(path.name for path in (CHECKOUT / "config").glob("*.yaml")))
def test_each_file_of_config_goes_over_config_pretrained(name):
    base, further = (
        yaml.safe_load((CHECKOUT / path).read_text()) for path in ("config.pretrained.yaml", f"config/{name}")
    )
    config = Config.model_validate(merged(base, further))
    models = config.tasks[config.install.task].models
    assert config.install.model in models
    weights = {model for model, path in config.real.weights.items() if path}
    assert config.install.model in weights <= set(models)
