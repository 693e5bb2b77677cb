"""Checks before the first job of the workflow, and changes of Snakemake."""

import json
import logging
from types import SimpleNamespace

import pytest
from snakemake.exceptions import WorkflowError
from snakemake.jobs import Job
from snakemake.logging import DefaultFilter, LogEvent
from snakemake.settings.enums import Quietness
from workflow import CHECKOUT

from m2m.options import Config, load_config
from m2m.workflow import calls, slurm, snakemake_patches
from m2m.workflow.results_layout import Layout


class Logger:
    """It stores the warnings."""

    def __init__(self):
        self.warnings = []

    def warning(self, text):
        self.warnings.append(text)


@pytest.fixture
def files(tmp_path):
    config = {"dataset": "few", "results": tmp_path, "models": {}, "tasks": {}}
    return Layout(Config.model_validate(config))


@pytest.fixture(autouse=True)
def released():
    """Release the locks at the end of a test."""
    yield
    while calls.LOCKS:
        calls.LOCKS.pop().close()


def test_the_results_are_locked_by_one_call_at_a_time(files):
    calls.stop_if_another_call_writes_here(files, Logger())
    with pytest.raises(WorkflowError, match="Another call of the workflow writes to"):
        calls.stop_if_another_call_writes_here(files, Logger())


def test_results_that_cannot_be_locked_cause_a_warning(files, monkeypatch):
    def refuse(*_):
        raise OSError("no locks here")

    monkeypatch.setattr(calls.fcntl, "flock", refuse)
    logger = Logger()
    calls.stop_if_another_call_writes_here(files, logger)
    assert "cannot be locked" in logger.warnings[0]


def test_remaining_jobs_stop_the_next_call_and_are_listed(files, monkeypatch):
    monkeypatch.setattr(slurm, "jobs_left", lambda record: f"12 RUNNING ({record})")
    with pytest.raises(WorkflowError, match="12 RUNNING"):
        calls.stop_if_jobs_are_left(files, "run-8")
    logger = Logger()
    calls.warn_of_jobs_left(files, SimpleNamespace(is_main_process=False), logger)
    assert not logger.warnings  # a job of a call does not warn
    calls.warn_of_jobs_left(files, SimpleNamespace(is_main_process=True), logger)
    assert "12 RUNNING" in logger.warnings[0]


def test_a_call_records_the_name_of_its_jobs(files, tmp_path):
    calls.stop_if_jobs_are_left(files, None)
    assert not (tmp_path / "few/logs/slurm_run").exists()
    calls.stop_if_jobs_are_left(files, "run-8")
    assert (tmp_path / "few/logs/slurm_run").read_text() == "run-8\n"


def test_programs_that_are_missing_are_named_unless_conda_provides_them():
    here = SimpleNamespace(deployment_settings=SimpleNamespace(deployment_method=set()))
    calls.stop_if_commands_are_missing(["sh"], here)
    with pytest.raises(WorkflowError, match="no-such-program"):
        calls.stop_if_commands_are_missing(["sh", "no-such-program"], here)
    here.deployment_settings.deployment_method = {"conda"}
    calls.stop_if_commands_are_missing(["no-such-program"], here)


@pytest.mark.parametrize("name", ["config.yaml", "tests/config.yaml", "tests/downstream.yaml"])
def test_the_configuration_is_written_whole_and_read_back_the_same(tmp_path, name):
    config, path = load_config(CHECKOUT / name), tmp_path / "logs/config.json"
    calls.write_config(config, path)
    assert Config.model_validate_json(path.read_text()) == config
    # Bases are resolved, and the tasks of folds are among the others.
    assert not any("base" in model for model in json.loads(path.read_text())["models"].values())
    assert json.loads(path.read_text())["tasks"].keys() == config.tasks.keys()
    before = path.stat().st_mtime_ns
    calls.write_config(config, path)
    assert path.stat().st_mtime_ns == before


def test_snakemake_is_changed_only_in_the_version_it_was_written_for():
    assert snakemake_patches.applies() and not snakemake_patches.warning()
    for other in ("9.2.7", "9.28.0", "10.0.0"):
        assert not snakemake_patches.applies(other)
        assert other in snakemake_patches.warning(other)
        assert "\n" not in snakemake_patches.warning(other)


def test_another_version_is_not_changed(monkeypatch):
    monkeypatch.setattr(snakemake_patches, "applies", lambda found=None: False)
    monkeypatch.setattr(snakemake_patches, "version", lambda name: "9.28.0")
    before, limiter = DefaultFilter.filter, object()
    workflow = SimpleNamespace(scheduler=SimpleNamespace(job_rate_limiter=limiter))
    assert "9.28.0" in snakemake_patches.patch_plan()
    snakemake_patches.patch_run(workflow)
    assert DefaultFilter.filter is before
    assert workflow.scheduler.job_rate_limiter is limiter
    assert snakemake_patches.parent_groups(workflow) == {}
    assert snakemake_patches.run_name(workflow) is None


def test_the_right_version_is_changed_once(monkeypatch):
    monkeypatch.setattr(DefaultFilter, "filter", DefaultFilter.filter)
    monkeypatch.setattr(snakemake_patches, "collect_garbage_rarely", lambda: None)
    assert snakemake_patches.patch_plan() == ""
    changed = DefaultFilter.filter
    snakemake_patches.patch_plan()
    assert DefaultFilter.filter is changed
    table = logging.makeLogRecord({"event": LogEvent.RUN_INFO})
    assert changed(DefaultFilter({Quietness.PROGRESS}, False, False, True, False), table)
    assert not changed(DefaultFilter({Quietness.PROGRESS}, False, False, False, False), table)


def test_only_an_environment_by_a_function_needs_a_job_s_parameters():
    snakemake_patches.find_environments_without_parameters()
    found = Job.conda_env_spec.fget
    rule = SimpleNamespace(conda_env="m2m.yaml", expand_conda_env=lambda *arguments: arguments)
    assert found(SimpleNamespace(rule=rule, wildcards_dict={})) == ({},)
    rule.conda_env = print
    job = SimpleNamespace(rule=rule, wildcards_dict={}, params=["one"], input=["a.nii"], _conda_env_spec=None)
    assert found(job) == ({}, ["one"], ["a.nii"])


def test_a_run_has_no_limit_of_jobs_a_second_and_a_name():
    workflow = SimpleNamespace(
        parent_groupids={},
        dag=None,
        scheduler=SimpleNamespace(job_rate_limiter=object(), run=None, _executor=SimpleNamespace(run_uuid="run-8")),
    )
    snakemake_patches.patch_run(workflow)
    assert workflow.scheduler.job_rate_limiter is None
    assert snakemake_patches.run_name(workflow) == "run-8"
    assert snakemake_patches.parent_groups(workflow) is workflow.parent_groupids
