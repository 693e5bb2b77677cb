"""Two calls of the workflow on the same results, from two folders: the second is refused."""

import os
import shlex
import sys
import time
from pathlib import Path

import pytest
import yaml
from workflow import CHECKOUT, snakemake

sys.path.insert(0, str(CHECKOUT / "benchmarks"))
from faults import Study

pytestmark = pytest.mark.workflow
# Writes a file when it starts, and waits for another file before it does its work.
WAITS = """#!/bin/sh
touch {folder}/begun
until test -e {folder}/go; do sleep .1; done
exec {m2m} "$@"
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A configuration with absolute results, and an `m2m` that waits."""
    program = tmp_path / "bin/m2m"
    program.parent.mkdir()
    names = {"folder": tmp_path, "m2m": Path(sys.executable).with_name("m2m")}
    program.write_text(WAITS.format(**{k: shlex.quote(str(v)) for k, v in names.items()}))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    path = tmp_path / "config.yaml"
    config = yaml.safe_load((CHECKOUT / "tests/config.yaml").read_text())
    path.write_text(yaml.safe_dump(config | {"results": str(tmp_path / "results")}))
    yield path
    (tmp_path / "go").touch()


def arguments(config):
    """Arguments of a call that makes one table, even if it exists."""
    return (str(config.parent / "results/tiny/rawdata/participants.tsv"), "--force")


def begun(config, name):
    """A call from a folder of this name whose first stage runs."""
    (config.parent / "begun").unlink(missing_ok=True)
    running = Study(config.parent / name, config, arguments(config))
    call = running.start()
    while not (config.parent / "begun").exists():
        assert call.poll() is None, running.log.read_text()[-3000:]
        time.sleep(0.1)
    return call


def second(config):
    """A call from another folder, as it ends."""
    folder = config.parent / "second"
    all_arguments = (*arguments(config), "--cores", "1")
    return snakemake(folder, *all_arguments, configfile=str(config), timeout=120)


def test_a_second_call_is_refused_by_name_while_the_first_runs_and_runs_afterwards(config):
    first = begun(config, "first")
    refused = second(config)
    assert refused.returncode != 0
    assert f"Another call of the workflow writes to {config.parent}/results/tiny" in refused.stdout
    assert "Traceback" not in refused.stdout
    (config.parent / "go").touch()
    assert first.wait() == 0
    last = second(config)
    assert last.returncode == 0, last.stdout[-3000:]


def test_a_killed_call_holds_no_lock_though_its_stage_still_runs(config):
    first = begun(config, "first")
    first.kill()
    first.wait()
    another = begun(config, "second")
    (config.parent / "go").touch()
    assert another.wait() == 0


def test_a_plan_is_made_while_a_call_runs(config):
    first = begun(config, "first")
    plan = snakemake(config.parent / "second", "-n", configfile=str(config))
    assert plan.returncode == 0, plan.stdout[-3000:]
    (config.parent / "go").touch()
    assert first.wait() == 0


def test_where_files_cannot_be_locked_a_call_warns_and_goes_on(config):
    (config.parent / "results/tiny/logs/workflow.lock").mkdir(parents=True)
    (config.parent / "go").touch()
    call = second(config)
    assert call.returncode == 0, call.stdout[-3000:]
    assert "workflow.lock cannot be locked" in call.stdout


def test_a_call_without_hooks_is_refused(config):
    running = Study(config.parent / "hookless", config, (*arguments(config), "--no-hooks"))
    call = running.start()
    assert call.wait(timeout=120) == 1
    assert "call without it" in running.log.read_text()
