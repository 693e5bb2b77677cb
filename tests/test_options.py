"""The configuration fails early, with the name of the key, and is never changed silently."""

import pytest
from pydantic import ValidationError

from m2m.options import Config, load_config
from m2m.options.configured import fitted_model

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
        ({"cohort": {"participant_label": ["ses-1"]}}, "participant_label"),
        ({"split": {"validation": 0.5, "test": 0.5}}, "leave a training part"),
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
            "tasks.t1-fa: u is trained on labels corrected by mean, which must be a model of the task with",
        ),
        (
            {"models": {"f": {"family": "fgdl-cms", "labels_from": "u"}, **SMALL["models"]}},
            "labels_from and correct_labels are alternatives",
        ),
    ],
)
def test_an_invalid_value_is_refused(sections, message):
    with pytest.raises(ValidationError, match=message):
        with_section(**sections)


def test_participants_are_named_with_their_prefix_or_without():
    named, bare = (with_section(cohort={"participant_label": labels}) for labels in (["sub-01", "2"], ["01", "sub-2"]))
    assert named.cohort.participant_label == ("01", "2") and named == bare


def test_a_task_names_only_models_that_exist():
    with pytest.raises(ValidationError, match=r"tasks\.t1-fa\.models names \['unet'\]"):
        with_section(tasks={"t1-fa": {"models": ["mean", "unet"]}})


STEPS = {
    "t1-fa": {"models": ["mean"]},
    "fa-tdi": {"source": "fa", "target": "tdi", "models": ["mean"]},
}


@pytest.mark.parametrize(
    ("cascade", "message"),
    [
        ({"cascade": ["t1-fa", "fa-dti"]}, "two tasks that are not cascades"),
        ({"cascade": ["fa-tdi", "t1-fa"]}, "t1 to tdi is not fa to tdi, then t1 to fa"),
        ({"cascade": ["t1-fa", "fa-tdi"], "source": "fa"}, "fa to tdi is not t1 to fa"),
        ({"cascade": ["t1-fa", "fa-tdi"], "models": ["mean", "line"]}, r"\['line'\], not in both"),
    ],
)
def test_a_cascade_whose_steps_do_not_fit_is_refused(cascade, message):
    cascade = {"target": "tdi", "models": ["mean"]} | cascade
    models = {"mean": {"family": "mean"}, "line": {"family": "t1"}}
    with pytest.raises(ValidationError, match=message):
        with_section(models=models, tasks=STEPS | {"t1-fa-tdi": cascade})


def test_a_cascade_of_fitting_steps_is_accepted():
    cascade = {"target": "tdi", "cascade": ["t1-fa", "fa-tdi"], "models": ["mean"]}
    config = with_section(models={"mean": {"family": "mean"}}, tasks=STEPS | {"both": cascade})
    assert config.modalities == {"t1", "fa", "tdi"}


def test_streamlines_are_not_warped_by_a_registration_without_a_matrix():
    sections = {"models": {"mean": {"family": "mean"}}, "grid": {"registration": "syn"}}
    assert with_section(tasks={"t1-fa": STEPS["t1-fa"]}, **sections)
    with pytest.raises(ValidationError, match="syn can resample scalar maps only"):
        with_section(tasks={"fa-tdi": STEPS["fa-tdi"]}, **sections)


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


def test_a_model_inherits_from_its_base_key_by_key():
    models = {
        "full": {
            "family": "macro2micro",
            "losses": {"l1_low_frequency": 0.5, "l1_high_frequency": 0.25},
            "planes": ["axial"],
        },
        "no-frequency-loss": {"base": "full", "losses": {"l1_low_frequency": 0}},
        "longer": {"base": "no-frequency-loss", "training": {"steps": 7}},
    }
    found = with_section(models=models, tasks={}).models
    losses = found["longer"].losses
    assert (losses.l1_low_frequency, losses.l1_high_frequency) == (0, 0.25) and found["longer"].planes == ("axial",)
    assert found["longer"].training.steps == 7 != found["no-frequency-loss"].training.steps
    assert found["full"].losses.l1_low_frequency == 0.5


@pytest.mark.parametrize(
    "models",
    [
        {"a": {"base": "unknown"}},
        {"a": {"base": "b"}, "b": {"base": "a"}},
        {"a": {"base": "a", "family": "mean"}},
    ],
)
def test_a_base_that_is_not_another_model_is_refused(models):
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


COMPARED = {
    "m": {"family": "macro2micro"},
    "u": {"family": "unet", "mirror": True},
    "c": {"family": "cyclegan", "mirror": True},
    "p": {"family": "macro2micro-2023", "mirror": True},
    "mean": {"family": "mean"},
}


def test_a_task_gives_all_its_networks_the_same_inputs():
    task = {"models": ["m", "u", "mean"], "inputs": {"context": 3, "prior": True, "position": True}, "page": "compare"}
    config = with_section(models=COMPARED, tasks={"same": task})
    fitted = [fitted_model(config.models[name], config.tasks["same"], name) for name in ("m", "u")]
    for model in fitted:
        assert (model.window.context, model.window.prior, model.window.position) == (3, True, True)
    assert fitted[0].network.widths == config.models["m"].network.widths  # its other options stay
    assert fitted_model(config.models["mean"], config.tasks["same"], "mean") == config.models["mean"]
    assert config.models["u"].window.prior is False


@pytest.mark.parametrize("model", ["c", "p"])
def test_a_network_that_cannot_have_a_task_s_inputs_is_refused(model):
    task = {"models": ["m", model], "inputs": {"context": 3, "prior": True}}
    with pytest.raises(ValidationError, match=rf"tasks\.same\.inputs: {model} cannot have context=3"):
        with_section(models=COMPARED, tasks={"same": task})


def test_inputs_of_a_cascade_are_those_of_its_tasks():
    cascade = {"target": "tdi", "cascade": ["t1-fa", "fa-tdi"], "models": ["mean"], "inputs": {"context": 1}}
    with pytest.raises(ValidationError, match="inputs: not with cascade"):
        with_section(tasks=STEPS | {"both": cascade})


def test_networks_are_compared_with_mirroring_or_without_it():
    task = {"models": ["m", "u", "mean"], "page": "compare"}
    with_section(models=COMPARED, tasks={"same": task})
    models = COMPARED | {"u": {"family": "unet"}}
    with pytest.raises(ValidationError, match=r"tasks\.same: set mirror of all networks or of none; \['u'\]"):
        with_section(models=models, tasks={"same": task})
    with_section(models=models, tasks={"same": task | {"page": "ablation"}})  # there it may be the change
    with_section(models=models | {"m": {"family": "macro2micro", "mirror": False}}, tasks={"same": task})


def test_an_option_that_is_gone_is_named_with_the_reason():
    for section, key in (("evaluation", "bootstrap"), ("report", "band_resamples")):
        with pytest.raises(ValidationError, match=f"remove {key}: intervals are by Student's t"):
            with_section(**{section: {key: 100}})


def test_a_task_s_losses_have_the_names_of_losses():
    tasks = {"t1-fa": {"models": ["mean"], "losses": {"mse": 2}}}
    assert with_section(tasks=tasks).tasks["t1-fa"].losses == {"mse": 2}
    tasks["t1-fa"]["losses"] = {"square": 2}
    with pytest.raises(ValidationError, match=r"tasks\.t1-fa\.losses\.square\b"):
        with_section(tasks=tasks)


def test_a_cascade_of_another_page_is_refused():
    cascade = {"target": "tdi", "cascade": ["t1-fa", "fa-tdi"], "models": ["mean"], "page": "compare"}
    with pytest.raises(ValidationError, match="tasks of its own report page"):
        with_section(models={"mean": {"family": "mean"}}, tasks=STEPS | {"both": cascade})


def test_cyclegan_needs_a_batch_with_unpaired_slices():
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
    tasks = {"t1-fa": {"models": list(models), "steps": {"m": 7}, "losses": {"mse": 1}}}
    downstream = {"tasks": ["t1-fa"], "folds": 3, **downstream}
    return with_section(models=models, tasks=tasks, downstream=downstream).tasks


def test_cross_fitting_trains_a_task_s_models_once_for_each_fold():
    tasks = cross_fitting()
    assert list(tasks) == ["t1-fa", "t1-fa-fold1", "t1-fa-fold2", "t1-fa-fold3"]
    task = tasks["t1-fa-fold2"]
    assert (task.page, task.fold, task.models) == ("downstream", 2, ("m",))
    assert task.steps_of("m") == 7 and task.losses == {"mse": 1}
    assert cross_fitting(models=None, steps=9)["t1-fa-fold1"].steps_of("m") == 9
    assert tasks["t1-fa"].fold is None


def test_an_encoder_trained_on_every_participant_is_refused_in_cross_fitting():
    with pytest.raises(ValidationError, match="trained on participants of every fold"):
        cross_fitting({"m": {"family": "macro2micro", "perceptual": {"network": "self"}}})


def test_only_tasks_that_train_can_be_cross_fitted():
    with pytest.raises(ValidationError, match="nothing is not a task that trains a model"):
        cross_fitting(tasks=["nothing"])


@pytest.mark.parametrize("change", [{"source": "fa", "target": "tdi"}, {"target": "dti"}])
def test_only_fa_and_tract_density_from_t1_are_validated(change):
    tasks = {"x": {"models": ["mean"], **change}}
    with pytest.raises(ValidationError, match="x is not from T1 to FA, MD or tract density"):
        with_section(tasks=tasks, downstream={"tasks": ["x"]})
