"""A finished cohort grows or shrinks: only what changed runs again, and the cohort's stages.

Scans are a few voxels. The stages of the cohort that the plan hangs on are the real ones; the
others are a stand-in that writes empty files (`benchmarks/touching.py`).
"""

import shutil
import subprocess
import sys

import pytest
import warm
import yaml
from cohort_tree import dataset
from workflow import CHECKOUT, first_on_path, planned, snakemake

from m2m.io.tables import read_table

sys.path.insert(0, str(CHECKOUT / "benchmarks"))
from scale import lay_out, write_config
from touching import install

pytestmark = pytest.mark.workflow
OWN = ("dti", "anat", "grid")  # of each participant, in any part of the split
MODELS = ("mean", "t1")
SUBJECTS = [f"sub-{i:02}" for i in range(1, 7)]


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """The stand-in, first on PATH; its calls start at once."""
    folder = tmp_path_factory.mktemp("stand-in")
    installed = install(folder / "installed") / "m2m"
    served = warm.program(folder / "bin", installed, "benchmarks.touching:main", "m2m.cli", "m2m.cohort")
    with served as program, first_on_path(program):
        yield


def evaluate(folder, *arguments):
    """Run up to the evaluation with the stand-in; return the output of Snakemake."""
    config = str(folder / "config.yaml")
    result = snakemake(folder, "evaluate", *arguments, "--cores", "2", configfile=config)
    assert result.returncode == 0, result.stdout[-3000:]
    return result.stdout


def run(folder, *arguments):
    """Run up to the evaluation; return the new logs: the jobs that ran."""
    before = log_times(folder)
    evaluate(folder, *arguments)
    return {name for name, time in log_times(folder).items() if before.get(name) != time}


def log_times(folder):
    """Time of the last change of each log, by its name below the folder of logs."""
    logs = folder / "results/growing/logs"
    return {str(p.relative_to(logs)): p.stat().st_mtime_ns for p in logs.rglob("*.log")}


def own_stages(subjects):
    """Logs of the own stages of each of these participants."""
    return {f"{stage}/{subject}/{subject}.log" for stage in OWN for subject in subjects}


def after_a_change(folder):
    """Logs of the cohort's stages, and of the stages after a new training."""
    cohort = {f"{stage}/{stage}.log" for stage in ("index", "validate", "split", "collect")}
    cohort |= {"quality/quality.log", "compare_models/t1-fa.log"}
    for model in MODELS:
        cohort |= {f"{stage}/t1-fa_{model}.log" for stage in ("train_model", "evaluate_model")}
        split = read_table(folder / "results/growing/cohort/split.tsv")
        tested = [row["participant_id"] for row in split if row["part"] == "test"]
        first = min(tested)  # all are translated by one job
        cohort.add(f"translate_volume/t1-fa_{model}/{first}/{first}_model-tensor_param-fa.log")
    return cohort


@pytest.mark.parametrize("subjects, shard, jobs", [(12, 2, 6), (9, 4, 3), (5, 1, 5)])
def test_a_shard_has_the_same_number_of_participants_when_they_are_planned_again(
    tmp_path, monkeypatch, subjects, shard, jobs
):
    """Behind a checkpoint that has run, Snakemake plans twice before it starts."""
    lay_out(tmp_path, subjects)
    write_config(tmp_path / "config.yaml", ["t1-fa"])
    monkeypatch.setenv("M2M_SLURM_SHARD", str(shard))
    config = str(tmp_path / "config.yaml")
    run = snakemake(tmp_path, "--profile", "slurm", "-n", configfile=config, timeout=600)
    assert run.returncode == 0, run.stdout[-3000:]
    assert run.stdout.count("Group job participant-") == jobs
    assert planned(run.stdout)["grid"] == run.stdout.count("rule grid:") == jobs


@pytest.fixture(scope="module")
def six(stand_in, tmp_path_factory):
    """Six participants, with all results up to the evaluation."""
    folder = tmp_path_factory.mktemp("six")
    dataset(folder / "raw", *SUBJECTS)
    config = yaml.safe_load((CHECKOUT / "tests/config.yaml").read_text())
    config |= {"dataset": "growing", "cohort": {"source": "bids", "bids_dir": "raw"}}
    config |= {"tasks": {"t1-fa": {"models": list(MODELS)}}, "downstream": {}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "printed.txt").write_text(evaluate(folder, "--verbose"))
    assert set(log_times(folder)) == own_stages(SUBJECTS) | after_a_change(folder)
    return folder


@pytest.fixture
def finished(six, tmp_path):
    """A copy of them, with the times of all files."""
    return shutil.copytree(six, tmp_path / "copy")


def test_ready_jobs_are_checked_only_when_a_job_ends(six):
    printed = (six / "printed.txt").read_text()
    assert 0 < printed.count("Ready jobs: ") <= printed.count("Finished jobid: ") + 1


def test_added_participants_run_their_own_stages_and_the_cohort_s_stages(finished):
    new = ["sub-07", "sub-08"]
    dataset(finished / "raw", *new)
    assert run(finished) == own_stages(new) | after_a_change(finished)
    assert not run(finished)


def test_a_deleted_map_is_made_again_by_a_job_that_writes_no_other(finished):
    root = finished / "results/growing/synthetic/t1-fa/t1"
    maps = sorted(root.glob("sub-*/dwi/*desc-synth_*_dwimap.nii.gz"))
    assert len(maps) > 1
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*_*.*")}
    maps[1].unlink()
    first = maps[0].name.partition("_")[0]
    assert run(finished, "translate") == {
        f"translate_volume/t1-fa_t1/{first}/{first}_model-tensor_param-fa.log",
        "evaluate_model/t1-fa_t1.log",
        "compare_models/t1-fa.log",
    }
    after = {path: path.stat().st_mtime_ns for path in root.rglob("*_*.*")}
    assert {path for path in after if after[path] != before[path]} == {maps[1]}
    assert not run(finished, "translate")


def test_a_stage_that_is_forced_makes_all_its_results_again(finished):
    root = finished / "results/growing"
    maps = [*root.glob("sub-*/dwi/*_desc-dti_status.json"), *root.glob("synthetic/t1-fa/t1/sub-*/dwi/*_status.json")]
    before = {path: path.stat().st_mtime_ns for path in maps}
    run(finished, "--forcerun", "dti", "translate_volume")
    assert len(maps) > len(SUBJECTS) and all(path.stat().st_mtime_ns != before[path] for path in maps)
    assert not run(finished)


def test_a_test_participant_s_grid_job_that_was_killed_before_its_slices_runs_again(finished):
    """Behind a checkpoint Snakemake does not check for incomplete files."""
    root = finished / "results/growing"
    split = read_table(root / "cohort/split.tsv")
    subject = next(row["participant_id"] for row in split if row["part"] == "test")
    for path in (root / "slices" / subject, root / "cohort/quality.tsv", root / "evaluate"):
        subprocess.run(["rm", "-r", path], check=True)
    assert f"grid/{subject}/{subject}.log" in run(finished)
    assert (root / f"slices/{subject}/{subject}_slices.json").exists()


def test_removing_a_participant_runs_the_cohort_s_stages_only(finished):
    shutil.rmtree(finished / "raw/sub-03")
    assert run(finished) == after_a_change(finished)
    units = read_table(finished / "results/growing/cohort/units.tsv")
    assert [row["unit"] for row in units] == [p for p in SUBJECTS if p != "sub-03"]
    assert not run(finished)
