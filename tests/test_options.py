"""The configuration dies early, by name, and changes nothing silently."""

import pytest
from pydantic import ValidationError

from m2m.options import Config, load_config

SMALL = {
    "dataset": "tiny",
    "models": {"mean": {"family": "mean"}},
    "tasks": {"t1-fa": {"models": ["mean"]}},
}


def with_section(**sections):
    return Config.model_validate(SMALL | sections)


def test_a_minimal_configuration_is_enough():
    config = with_section()
    assert config.cohort.source == "phantom"
    assert config.models["mean"].family == "mean"


@pytest.mark.parametrize(
    ("sections", "named"),
    [
        ({"dti": {"fitt": "WLS"}}, "dti.fitt"),
        ({"cohort": {"phantom": {"effects": {"fa_mail": 0}}}}, "cohort.phantom.effects.fa_mail"),
        ({"diffusion": {}}, "diffusion"),
        ({"models": {"mean": {"family": "mean", "steps": 3}}}, "models.mean.mean.steps"),
        (
            {"models": {"m": {"family": "macro2micro", "training": {"step": 3}}}},
            "models.m.macro2micro.training.step",
        ),
    ],
)
def test_a_misspelt_key_is_named_with_its_section(sections, named):
    with pytest.raises(ValidationError) as caught:
        with_section(**sections)
    assert named in [".".join(map(str, e["loc"])) for e in caught.value.errors()]


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"cohort": {"source": "bids"}}, "bids_dir"),
        ({"cohort": {"phantom": {"n_directions": 5}}}, "n_directions"),
        ({"cohort": {"phantom": {"age_years": [80, 20]}}}, "lower limit"),
        ({"cohort": {"participant_label": ["a_b"]}}, "participant_label"),
        ({"split": {"validation": 0.5, "test": 0.5}}, "part to train on"),
        ({"dti": {"fit": "wls"}}, "dti.fit"),
        ({"anat": {"spacing_mm": 0}}, "spacing_mm"),
        ({"grid": {"fa_mean": [0.4, 0.1]}}, "lower limit"),
        ({"slices": {"t1_range_percent": [99, 1]}}, "lower limit"),
        ({"models": {"a/b": {"family": "mean"}}, "tasks": {}}, "models"),
        ({"models": {"m": {"family": "mena"}}, "tasks": {}}, "mena"),
        ({"models": {"m": {"family": "macro2micro", "network": {"context": 4}}}}, "odd"),
        (
            {"models": {"m": {"family": "macro2micro", "training": {"devices": 5}}}},
            "12 cannot be divided among 5 devices",
        ),
        ({"dataset": "my study"}, "dataset"),
        (
            {
                "models": {"u": {"family": "unet", "labels_from": "mean"}, **SMALL["models"]},
                "tasks": {"t1-fa": {"models": ["u", "mean"]}},
            },
            "tasks.t1-fa: u learns from labels of mean, which must be a model of the task with",
        ),
        (
            {"models": {"f": {"family": "fgdl-cms", "labels_from": "u"}, **SMALL["models"]}},
            "labels_from and correct_labels are two ways",
        ),
    ],
)
def test_an_impossible_value_is_refused(sections, message):
    with pytest.raises(ValidationError, match=message):
        with_section(**sections)


def test_a_task_names_only_models_that_exist():
    with pytest.raises(ValidationError, match=r"tasks\.t1-fa\.models names \['unet'\]"):
        with_section(tasks={"t1-fa": {"models": ["mean", "unet"]}})


LINKS = {
    "t1-fa": {"models": ["mean"]},
    "fa-tdi": {"source": "fa", "target": "tdi", "models": ["mean"]},
}


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        ({"chain": ["t1-fa", "fa-dti"]}, "two tasks that are no chains"),
        ({"chain": ["fa-tdi", "t1-fa"]}, "t1 to tdi is not fa to tdi, then t1 to fa"),
        ({"chain": ["t1-fa", "fa-tdi"], "source": "fa"}, "fa to tdi is not t1 to fa"),
        ({"chain": ["t1-fa", "fa-tdi"], "models": ["mean", "line"]}, r"\['line'\], not in both"),
    ],
)
def test_a_chain_whose_links_do_not_fit_is_refused(chain, message):
    chain = {"target": "tdi", "models": ["mean"]} | chain
    models = {"mean": {"family": "mean"}, "line": {"family": "t1"}}
    with pytest.raises(ValidationError, match=message):
        with_section(models=models, tasks=LINKS | {"t1-fa-tdi": chain})


def test_a_chain_of_fitting_links_is_accepted():
    chain = {"target": "tdi", "chain": ["t1-fa", "fa-tdi"], "models": ["mean"]}
    config = with_section(models={"mean": {"family": "mean"}}, tasks=LINKS | {"both": chain})
    assert config.modalities == {"t1", "fa", "tdi"}


def test_streamlines_are_not_carried_by_a_registration_without_a_matrix():
    sections = {"models": {"mean": {"family": "mean"}}, "grid": {"registration": "syn"}}
    assert with_section(tasks={"t1-fa": LINKS["t1-fa"]}, **sections)
    with pytest.raises(ValidationError, match="syn carries scalar maps only"):
        with_section(tasks={"fa-tdi": LINKS["fa-tdi"]}, **sections)


@pytest.mark.parametrize(
    ("tractography", "commands"),
    [
        ({}, set()),
        ({"backend": "mrtrix3"}, {"tckgen", "dwi2response", "dwi2fod"}),
        ({"backend": "mrtrix3", "mrtrix3": {"algorithm": "Tensor_Det"}}, {"tckgen"}),
    ],
)
def test_a_backend_names_the_programs_that_it_needs(tractography, commands):
    assert set(with_section(tractography=tractography).tractography.commands) == commands


def test_a_model_takes_after_its_base_key_by_key():
    models = {
        "full": {
            "family": "macro2micro",
            "losses": {"low": 0.5, "high": 0.25},
            "planes": ["axial"],
        },
        "bands-off": {"base": "full", "losses": {"low": 0}},
        "longer": {"base": "bands-off", "training": {"steps": 7}},
    }
    found = with_section(models=models, tasks={}).models
    losses = found["longer"].losses
    assert (losses.low, losses.high) == (0, 0.25) and found["longer"].planes == ("axial",)
    assert found["longer"].training.steps == 7 != found["bands-off"].training.steps
    assert found["full"].losses.low == 0.5


@pytest.mark.parametrize(
    "models",
    [
        {"a": {"base": "nobody"}},
        {"a": {"base": "b"}, "b": {"base": "a"}},
        {"a": {"base": "a", "family": "mean"}},
    ],
)
def test_a_base_that_is_no_other_model_is_refused(models):
    with pytest.raises(ValidationError, match=r"models\.[ab]\.base must name another model"):
        with_section(models=models)


def test_steps_may_be_of_each_model_by_name():
    models = {"u": {"family": "unet"}, "m": {"family": "mean"}}
    tasks = {"t1-fa": {"models": ["u", "m"], "steps": {"u": 5}}}
    task = with_section(models=models, tasks=tasks).tasks["t1-fa"]
    assert task.steps_of("u") == 5 and task.steps_of("m") is None
    tasks["t1-fa"]["steps"] = {"v": 5}
    with pytest.raises(ValidationError, match=r"tasks\.t1-fa\.steps names \['v'\]"):
        with_section(models=models, tasks=tasks)


def test_a_task_s_losses_have_the_names_of_losses():
    tasks = {"t1-fa": {"models": ["mean"], "losses": {"squared": 2}}}
    assert with_section(tasks=tasks).tasks["t1-fa"].losses == {"squared": 2}
    tasks["t1-fa"]["losses"] = {"square": 2}
    with pytest.raises(ValidationError, match=r"tasks\.t1-fa\.losses\.square\b"):
        with_section(tasks=tasks)


def test_a_chain_of_another_study_is_refused():
    chain = {"target": "tdi", "chain": ["t1-fa", "fa-tdi"], "models": ["mean"], "study": "compare"}
    with pytest.raises(ValidationError, match="tasks of its own study"):
        with_section(models={"mean": {"family": "mean"}}, tasks=LINKS | {"both": chain})


def test_cyclegan_needs_slices_to_draw_unpaired_ones_from():
    alone = {"family": "cyclegan", "training": {"batch_size": 1}}
    with pytest.raises(ValidationError, match="batch_size 2 or more"):
        with_section(models={"c": alone})


def test_options_do_not_change_after_they_were_checked():
    config = with_section()
    with pytest.raises(ValidationError, match="frozen"):
        config.split.seed = 2


def test_the_configuration_survives_json():
    config = with_section(grid={"registration": "affine"})
    assert Config.model_validate_json(config.model_dump_json()) == config


def test_a_file_is_read_and_checked(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("dataset: tiny\nmodels: {mean: {family: mean}}\ntasks: {}\nsplit: {seed: 4}\n")
    assert load_config(path).split.seed == 4
    path.write_text(path.read_text() + "sead: 5\n")
    with pytest.raises(ValidationError, match="sead"):
        load_config(path)


def cross_fitting(models=None, **downstream):
    models = models or {"m": {"family": "macro2micro"}, "mean": {"family": "mean"}}
    tasks = {"t1-fa": {"models": list(models), "steps": {"m": 7}, "losses": {"squared": 1}}}
    downstream = {"tasks": ["t1-fa"], "folds": 3, **downstream}
    return with_section(models=models, tasks=tasks, downstream=downstream).tasks


def test_cross_fitting_trains_a_task_s_models_once_for_each_fold():
    tasks = cross_fitting()
    assert list(tasks) == ["t1-fa", "t1-fa-fold1", "t1-fa-fold2", "t1-fa-fold3"]
    task = tasks["t1-fa-fold2"]
    assert (task.study, task.fold, task.models) == ("downstream", 2, ("m",))
    assert task.steps_of("m") == 7 and task.losses == {"squared": 1}
    assert cross_fitting(models=None, steps=9)["t1-fa-fold1"].steps_of("m") == 9
    assert tasks["t1-fa"].fold is None


def test_an_encoder_that_saw_everybody_is_refused_in_cross_fitting():
    with pytest.raises(ValidationError, match="saw people of every fold"):
        cross_fitting({"m": {"family": "macro2micro", "perceptual": {"network": "self"}}})


def test_only_tasks_that_train_can_be_cross_fitted():
    with pytest.raises(ValidationError, match="nothing is not a task that trains a model"):
        cross_fitting(tasks=["nothing"])


@pytest.mark.parametrize("change", [{"source": "fa", "target": "tdi"}, {"target": "dti"}])
def test_only_fa_and_tract_density_from_t1_are_validated(change):
    tasks = {"x": {"models": ["mean"], **change}}
    with pytest.raises(ValidationError, match="x is not from T1 to FA, MD or tract density"):
        with_section(tasks=tasks, downstream={"tasks": ["x"]})
