"""`m2m init` writes a study.yaml that runs, with comments that are true of the dataset."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from cohort_tree import BVALS, add_dwi, add_t1, dataset, write_image, write_rows
from jsonschema import Draft202012Validator
from typer.testing import CliRunner
from workflow import planned, snakemake

from m2m import cli
from m2m.models.pretrained import weights_of
from m2m.options import Config

ROOT = Path(__file__).parents[1]
THREE = ("sub-01", "sub-02", "sub-03")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The folder that `m2m init` is called in."""
    folder = tmp_path / "study"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def init(root, *arguments):
    """Call `m2m init`."""
    return CliRunner().invoke(cli.app, ["init", str(root), *arguments])


def written(root, *arguments):
    """Call `m2m init`; the file's text, and the configuration that it is."""
    result = init(root, *arguments)
    assert result.exit_code == 0, result.output
    text = Path("study.yaml").read_text()
    return text, Config.model_validate(yaml.safe_load(text))


def uncommented(text, pattern):
    """The text with lines that match a pattern out of their comment."""
    return "\n".join(re.sub("# ", "", line, count=1) if re.search(pattern, line) else line for line in text.split("\n"))


# -- the file ---------------------------------------------------------------------------------------


def test_a_written_file_is_a_configuration_of_the_dataset_and_short(here, tmp_path):
    root = dataset(tmp_path / "ds", *THREE)
    text, config = written(root, "--dataset", "first")
    assert (config.dataset, config.cohort.source, config.cohort.bids_dir) == ("first", "bids", root.resolve())
    assert list(config.tasks) == ["t1-fa"] and config.tasks["t1-fa"].models == tuple(config.models)
    assert "# 3 participants: 3 with T1w and DWI.\n" in text
    assert "# of 3: 1 to train on, 1 to choose models on, 1 to test on" in text
    lines = text.splitlines()
    assert len(lines) <= 80 and max(map(len, lines)) <= 160


def test_the_file_names_its_schema_which_lies_beside_it_and_accepts_it(here, tmp_path):
    text, _ = written(dataset(tmp_path / "ds", *THREE))
    name = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)[1]
    Draft202012Validator(json.loads((here / name).read_text())).validate(yaml.safe_load(text))


def test_the_study_is_called_after_the_dataset(here, tmp_path):
    root = dataset(tmp_path / "ds", *THREE)
    (root / "dataset_description.json").write_text('{"Name": "Ageing & MRI: wave 2 (Köln)"}')
    assert written(root)[1].dataset == "ageing-mri-wave-2-k-ln"
    (root / "dataset_description.json").write_text("no JSON")
    assert written(root, "--force")[1].dataset == "ds"


@pytest.mark.parametrize("folder", ["with space", "a: b", "a #b", "yes", "quo'te \"s", "Ünï"])
def test_any_folder_is_written_so_that_yaml_reads_it(here, tmp_path, folder):
    root = dataset(tmp_path / folder, *THREE)
    assert written(root)[1].cohort.bids_dir == root.resolve()


def test_a_relative_folder_is_written_whole(here, tmp_path):
    root = dataset(tmp_path / "ds", *THREE)
    assert written("../ds")[1].cohort.bids_dir == root.resolve()


def test_the_next_three_commands_are_printed(here, tmp_path):
    root = dataset(tmp_path / "ds", *THREE)
    output = init(root, "--out", "my study.yaml").output
    calls = [shlex.split(line, comments=True) for line in output.splitlines() if line.startswith("  snakemake")]
    start = ["snakemake", "--configfile", str(here / "my study.yaml"), "--cores", "all"]
    assert calls == [[*start, "cohort"], [*start, "-n", "--quiet"], start]


def test_sessions_and_reasons_are_named(here, tmp_path):
    root = dataset(tmp_path / "ds", *THREE)
    for session in ("ses-a", "ses-b"):
        add_t1(root, "sub-04", session)
        add_dwi(root, "sub-04", session, bvals=BVALS + 300)
    add_t1(root, "sub-05")
    add_t1(root, "sub-06", "ses-a")
    add_dwi(root, "sub-06", "ses-b")
    add_t1(root, "sub-07", "ses-a")
    add_dwi(root, "sub-07", "ses-a")
    add_t1(root, "sub-07", "ses-b")
    text, _ = written(root)
    assert "# 7 participants, 5 with T1w and DWI.\n" in text
    numbers = "5 with T1w and DWI, 5 with T1w only"
    assert f"# Sessions: ses-a, ses-b. Units, a participant in one session each: 10; {numbers}.\n" in text
    assert "#   2 x DWI: no b0: no volume with b <= 50 s/mm2\n" in text
    assert "#   2 x no DWI in this session\n" in text
    assert "#   1 x no DWI in the dataset\n" in text


def test_a_higher_limit_of_b0_is_proposed_where_participants_need_it(here, tmp_path):
    root = dataset(tmp_path / "ds", *THREE)
    text, config = written(root)
    assert "b0_threshold" not in text and config.dti.b0_threshold_s_per_mm2 == 50
    add_t1(root, "sub-04")
    add_dwi(root, "sub-04", bvals=[63, *[1000] * 6])
    text, config = written(root, "--force")
    assert "# 4 participants: 4 with T1w and DWI.\n" in text
    assert (
        "  b0_threshold_s_per_mm2: 70" in text
        and "# else dropped, having no volume of a lower b: 1 of 4 participants" in text
    )
    assert config.dti.b0_threshold_s_per_mm2 == 70
    assert "  1000 s/mm2 in 4, 6 directions" in text  # b = 63 is no shell


def test_no_higher_limit_of_b0_is_proposed_that_wins_no_participant(here, tmp_path):
    root = dataset(tmp_path / "ds", *THREE)
    add_dwi(root, THREE[0], entities="_run-2", bvals=[63, *[1000] * 6])  # there is another series
    add_dwi(root, "sub-04", bvals=[63, *[1000] * 6])  # there is no T1w
    add_t1(root, "sub-05")
    add_dwi(root, "sub-05", bvals=[300, *[1000] * 6])  # too far from 0 to be meant as b0
    text, config = written(root)
    assert "b0_threshold" not in text and config.dti.b0_threshold_s_per_mm2 == 50


def test_pairs_across_sessions_are_proposed_where_participants_have_no_other(here, tmp_path):
    root = dataset(tmp_path / "ds")
    for name in THREE:
        add_t1(root, name, "ses-a")
        add_dwi(root, name, "ses-a")
    add_dwi(root, THREE[0], "ses-b")  # this participant takes part by the other session
    text, config = written(root)
    assert "t1w_of_other_session" not in text and not config.cohort.t1w_of_other_session
    assert "3 with T1w and DWI in one session.\n" in text
    add_t1(root, "sub-04", "ses-a")
    add_dwi(root, "sub-04", "ses-b")
    text, config = written(root, "--force")
    assert config.cohort.t1w_of_other_session and "# 4 participants, 4 with T1w and DWI.\n" in text
    assert "# else dropped, T1w and DWI being of different sessions: 1 of 4 participants" in text


def test_masks_and_preprocessed_scans_are_counted_and_used(here, tmp_path):
    root = dataset(tmp_path / "ds")
    for name in THREE:
        add_t1(root, name, entities="_desc-preproc")
        add_dwi(root, name, entities="_desc-preproc")
        add_t1(root, name)
    for name in THREE[:2]:
        mask(root, name)
    text, config = written(root)
    assert "# 3 of 3 DWI are desc-preproc" in text and "# a brain mask lies beside 2 of 3 series" in text
    assert "# Of 3 T1w, desc-preproc: 3; with a brain mask beside it, which is used: 0." in text
    assert config.dti.mask.method == "median_otsu"
    mask(root, THREE[2])
    text, config = written(root, "--force")
    assert "# a brain mask lies beside 3 of 3 series" in text
    assert config.dti.mask.method == "supplied"


def mask(root, name):
    """A brain mask beside a DWI."""
    write_image(root / name / "dwi" / f"{name}_desc-brain_mask.nii.gz", (4, 5, 6))


# -- sections in comments ----------------------------------------------------------------------------


def test_tasks_in_comments_are_tasks(here, tmp_path):
    text, _ = written(dataset(tmp_path / "ds", *THREE))
    config = Config.model_validate(yaml.safe_load(uncommented(text, r"# t1-\w+: {")))
    assert [task.target for task in config.tasks.values()] == ["fa", "md", "tdi"]


def test_phenotypes_stand_in_comments_that_are_a_section(here, tmp_path):
    root = dataset(tmp_path / "ds", *THREE, "sub-04")
    (root / "sub-04" / "dwi" / "sub-04_dwi.bval").unlink()
    rows = [
        ("sub-01", "31.5", "F", "x"),
        ("sub-02", "60", "M", "y"),
        ("sub-03", "n/a", "F", "x"),
        ("sub-04", "9", "M", "z"),
    ]
    write_rows(root / "participants.tsv", ("participant_id", "age", "no", "two words"), *rows)
    text, config = written(root)
    assert not config.downstream.targets
    assert "#   age: a number, known of 2, 31.5 to 60\n" in text
    assert "#   no: classes, known of 3: F (2), M (1)\n" in text
    assert "two words" not in text, "a folder is named after it"
    section = Config.model_validate(yaml.safe_load(uncommented(text, r"^# (downstream:|  targets|  tasks)"))).downstream
    assert section.targets == {"age": "regression", "no": "classification"} and section.tasks == ("t1-fa",)


# -- what it refuses --------------------------------------------------------------------------------


def refused(root, *arguments):
    """What a refused call prints, in one line."""
    result = init(root, *arguments)
    assert result.exit_code == 1 and "Traceback" not in result.output
    assert result.output.count("\n") == 1
    return result.output


def test_a_folder_that_is_no_dataset_is_refused(here, tmp_path):
    assert "BIDS dataset is not a folder" in refused(tmp_path / "nothing")
    assert "is no BIDS dataset: it has no folder sub-*" in refused(here)


def test_a_dataset_without_t1w_is_refused(here, tmp_path):
    root = dataset(tmp_path / "ds")
    add_dwi(root, "sub-01")
    assert "BIDS dataset has no T1w (found 0 T1w, 1 DWI)" in refused(root)


def test_without_dwi_nothing_is_written_and_translate_is_named(here, tmp_path):
    root = dataset(tmp_path / "ds")
    for name in THREE:
        add_t1(root, name)
    output = refused(root)
    assert "no usable DWI, so that nothing can be trained" in output and "3 with T1w only" in output
    assert f"m2m translate {root} --out FOLDER" in output
    assert not list(here.iterdir())


def test_without_dwi_phenotypes_are_predicted_by_the_installed_weights(here, tmp_path):
    root = dataset(tmp_path / "ds")
    names = [f"sub-{i:02d}" for i in range(50)]
    for name in names:
        add_t1(root, name)
    rows = [(name, str(20 + i), "FM"[i % 2], "RL"[i < 5]) for i, name in enumerate(names)]
    write_rows(root / "participants.tsv", ("participant_id", "age", "sex", "hand"), *rows)
    result = init(root)
    assert result.exit_code == 0, result.output
    assert "--cores all downstream  " in result.output and "0 with T1w and DWI" in result.output
    text = Path("study.yaml").read_text()
    config = Config.model_validate(yaml.safe_load(text))
    assert not config.tasks and config.downstream.without_dwi
    assert config.downstream.targets == {"age": "regression", "sex": "classification"}
    record = json.loads(weights_of("t1-fa").with_name("model.json").read_text())
    assert (config.anat.spacing_mm, list(config.anat.shape)) == (record["spacing_mm"], record["shape"])
    assert "#   age: a number, known of 50, 20 to 69\n" in text and max(map(len, text.splitlines())) <= 160


def test_scans_that_are_not_of_the_same_participants_train_nothing(here, tmp_path):
    root = dataset(tmp_path / "ds", "sub-01", "sub-02")
    add_t1(root, "sub-03")
    add_dwi(root, "sub-04")
    output = refused(root)
    assert "training and testing need 3 participants with a usable T1w and DWI" in output
    assert "2 with T1w and DWI, 1 with T1w only, 1 with DWI only" in output


@pytest.mark.parametrize("existing", ["study.yaml", "study.schema.json", "results/ds/logs"])
def test_what_exists_is_left_alone_without_force(here, tmp_path, existing):
    root = dataset(tmp_path / "ds", *THREE)
    (root / "dataset_description.json").unlink()
    if Path(existing).suffix:
        Path(existing).write_text("mine")
    else:
        Path(existing).mkdir(parents=True)
    assert "exist" in refused(root)
    assert Path(existing).is_dir() or Path(existing).read_text() == "mine"
    assert sorted(path.name for path in here.iterdir()) == [Path(existing).parts[0]]
    written(root, "--force")


@pytest.mark.parametrize(("folder", "arguments"), [("a{b}", ()), ("ds", ("--dataset", "my study"))])
def test_a_name_that_the_workflow_refuses_is_refused_here(here, tmp_path, folder, arguments):
    assert "letters, digits and hyphens" in refused(dataset(tmp_path / folder, *THREE), *arguments)
    assert not list(here.iterdir())


# -- the workflow -----------------------------------------------------------------------------------


def counts(text):
    """Participants of each part, as the file's comment has them."""
    numbers = re.search(r"of \d+: (\d+) to train on, (\d+) to choose models on, (\d+) to test on", text).groups()
    return dict(zip(("train", "validation", "test"), map(int, numbers), strict=True))


@pytest.mark.workflow
def test_real_scans_run_to_their_cohort_without_an_edit(here, shared_data):
    text, config = written(shared_data / "bids", "--dataset", "real")
    assert "# 13 participants: 3 with T1w and DWI, 6 with T1w only, 4 with DWI only.\n" in text
    assert "#   928 to 1000 s/mm2 in 2, 12 to 16 directions\n" in text
    assert "#   2500 s/mm2 in 1, 20 directions\n" in text
    assert "next shell that suffices: 1\n" in text
    assert "1.72 x 1.72 x 5.2 (1), 3 x 3 x 3 (1), 3.5 x 3.5 x 4.2 (1)\n" in text
    assert (config.anat.spacing_mm, config.anat.shape) == (3, (64, 80, 64))
    done = snakemake(here, "--cores", "2", "cohort", configfile=str(here / "study.yaml"))
    assert done.returncode == 0, done.stdout
    assert json.loads((here / "results/real/cohort/split.json").read_text())["counts"] == counts(text)
    plan = snakemake(here, "--cores", "2", "-n", "--quiet", configfile=str(here / "study.yaml"))
    assert plan.returncode == 0, plan.stdout
    jobs = planned(plan.stdout)
    assert (jobs["anat"], jobs["grid"], jobs["train_model"]) == (9, 3, 3)


@pytest.mark.end_to_end
def test_simulated_scans_run_to_their_cohort_without_an_edit(here):
    made = snakemake(here, "--cores", "2", "results/tiny/cohort/manifest.tsv")
    assert made.returncode == 0, made.stdout
    text, config = written("results/tiny/rawdata", "--dataset", "again")
    assert (config.anat.spacing_mm, config.anat.shape) == (5, (40, 48, 40))
    assert "1000 s/mm2 in 6, 12 directions\n" in text
    done = snakemake(here, "--cores", "2", "cohort", configfile=str(here / "study.yaml"))
    assert done.returncode == 0, done.stdout
    assert json.loads((here / "results/again/cohort/split.json").read_text())["counts"] == counts(text)
