"""The workflow parses, plans and refuses: dry runs only, nothing is executed."""

import pytest
import yaml
from workflow import CHECKOUT, PLAN, planned, snakemake

from m2m.options import load_config

SHIPPED = ["config.yaml", "config.paper.yaml", "tests/config.yaml", "tests/real.yaml"]
pytestmark = pytest.mark.workflow


def write_config(folder, **changes):
    config = yaml.safe_load((CHECKOUT / "tests/config.yaml").read_text()) | changes
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return str(path)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_configuration_is_valid(name):
    assert load_config(CHECKOUT / name).tasks


def test_dry_run_plans_every_simulated_person(tmp_path):
    run = snakemake(tmp_path, *PLAN)
    assert run.returncode == 0, run.stdout
    jobs = planned(run.stdout)
    assert jobs["simulate"] == 6
    assert jobs["index"] == jobs["validate"] == jobs["split"] == 1


def test_dry_run_of_a_dataset_on_disk_simulates_nobody(tmp_path, shared_data):
    config = write_config(
        tmp_path, cohort={"source": "bids", "bids_dir": str((shared_data / "bids").resolve())}
    )
    run = snakemake(tmp_path, *PLAN, configfile=config)
    assert run.returncode == 0, run.stdout
    assert "simulate" not in planned(run.stdout)


@pytest.mark.parametrize(("study", "models"), [("compare", 7), ("ablation", 3)])
def test_a_study_is_planned_only_when_it_is_asked_for(tmp_path, study, models):
    jobs = planned(snakemake(tmp_path, study, *PLAN).stdout)
    assert jobs["train_model"] == models and jobs[f"page_of_{study}"] == 1
    assert "page_of_report" not in jobs
    assert jobs.get("train_encoder", 0) == (study == "ablation")
    assert f"page_of_{study}" not in planned(snakemake(tmp_path, *PLAN).stdout)


def test_a_study_that_the_configuration_lacks_is_a_clear_error(tmp_path):
    config = write_config(tmp_path, tasks={"t1-fa": {"models": ["mean"]}})
    run = snakemake(tmp_path, "compare", "-n", configfile=config)
    assert run.returncode != 0
    assert "No task of the configuration has study: compare" in run.stdout


def test_a_misspelt_key_stops_the_dry_run_by_name(tmp_path):
    run = snakemake(tmp_path, "-n", configfile=write_config(tmp_path, dti={"fitt": "WLS"}))
    assert run.returncode != 0
    assert "dti.fitt" in run.stdout


def test_an_unknown_model_in_a_task_stops_the_dry_run_by_name(tmp_path):
    config = write_config(tmp_path, tasks={"t1-fa": {"models": ["macro3micro"]}})
    run = snakemake(tmp_path, "-n", configfile=config)
    assert run.returncode != 0
    assert "macro3micro" in run.stdout


def test_a_program_that_a_chain_needs_and_is_not_here_stops_the_dry_run_by_name(tmp_path):
    config = write_config(tmp_path, preprocess={"chain": "fsl"})
    run = snakemake(tmp_path, "-n", configfile=config)
    assert run.returncode != 0
    assert "eddy" in run.stdout
    assert "PATH" in run.stdout


def test_snakemake_lint_finds_nothing(tmp_path):
    run = snakemake(tmp_path, "--lint")
    assert run.returncode == 0, run.stdout
