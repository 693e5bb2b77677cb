"""`m2m doctor`: what is wrong is found before the first run, with the value and what to do."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from cohort_tree import dataset, write_numbers
from typer.testing import CliRunner
from workflow import CHECKOUT

from m2m import cli
from m2m.cohort import cluster_checks, doctor
from m2m.cohort.cloud_checks import NEEDED, Cloud, cloud
from m2m.cohort.cluster_checks import Partition, cluster, fitting, minutes_of, parse_partitions
from m2m.io.files import write_text
from m2m.options import Config

SINFO = "cpu*|1-00:00:00|16|64000|(null)\naccel|2:00:00|32|128000|gpu:a100:4\n"


@pytest.fixture
def study(tmp_path):
    """A configuration of a dataset of four participants that needs MRtrix3; and its file, written as changed."""
    dataset(tmp_path / "ds", "sub-01", "sub-02", "sub-03", "sub-04")
    config = {
        "dataset": "study",
        "results": str(tmp_path / "results"),
        "cohort": {"source": "bids", "bids_dir": str(tmp_path / "ds")},
        "tractography": {"backend": "mrtrix3", "mrtrix3": {"sift2": True}},
        "models": {"mean": {"family": "mean"}},
        "tasks": {"t1-tdi": {"target": "tdi", "models": ["mean"]}},
    }

    def written(**changes):
        write_text(tmp_path / "study.yaml", yaml.safe_dump(config | changes))
        return tmp_path / "study.yaml"

    return written


def run(path, *flags):
    """Exit code, and lines by what they are about."""
    result = CliRunner().invoke(cli.app, ["doctor", str(path), *flags])
    assert not result.exception or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.output


def lines(output, state):
    """Lines of a state."""
    return [line.split(maxsplit=1)[1] for line in output.splitlines() if line.startswith(f"{state} ")]


def on_path(folder, monkeypatch, **programs):
    """A PATH of these shell scripts alone."""
    folder.mkdir()
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_a_sound_study_fails_nothing(study, tmp_path, monkeypatch):
    on_path(tmp_path / "bin", monkeypatch, **dict.fromkeys(("tckgen", "dwi2response", "dwi2fod", "tcksift2"), ""))
    code, output = run(study())
    assert (code, lines(output, "failure")) == (0, []), output
    assert "4 T1w and DWI" in output and re.search(r"^OK +tractography.backend +\S+/tckgen", output, re.M)
    assert not (tmp_path / "results").exists() and not list(tmp_path.glob(".*")), "nothing is left"


def test_missing_programs_are_named_with_the_option_that_needs_them(study, tmp_path, monkeypatch):
    on_path(tmp_path / "bin", monkeypatch, tckgen="")
    code, output = run(study(preprocess={"backend": "fsl"}))
    assert code == 1
    fsl, mrtrix = lines(output, "failure")
    assert "preprocess.backend" in fsl and "not on PATH: bet, eddy" in fsl and "install FSL" in fsl
    assert "not on PATH: dwi2response, dwi2fod, tcksift2 -> install MRtrix3" in mrtrix


def test_a_broken_dataset_is_described_by_codes_with_their_pages(study, tmp_path):
    root = tmp_path / "ds"
    write_numbers(root / "sub-01/dwi/sub-01_dwi.bval", [[0, 1000]])
    (root / "sub-02/anat/sub-02_T1w.nii.gz").write_bytes(b"")
    code, output = run(study(tractography={}))
    assert code == 1
    assert "training and testing need 3 participants" in lines(output, "failure")[-1]
    warned = lines(output, "warning")
    assert any("sub-01: bval is of other length" in one and "docs/findings.md#gradient-table" in one for one in warned)
    assert any("1 x file-unreadable, such as sub-02" in one for one in warned)
    code, output = run(study(cohort={"source": "bids", "bids_dir": str(tmp_path / "absent")}))
    assert code == 1 and "BIDS dataset is not a folder" in lines(output, "failure")[-1]


def test_a_wrong_configuration_and_files_that_are_not_there_are_named(study, tmp_path):
    code, output = run(study(dti={"fitt": "WLS"}))
    assert code == 1 and "dti.fitt" in lines(output, "failure")[0]
    assert run(tmp_path / "absent.yaml")[0] == 1
    _, output = run(study(report={"viewer_bundle": str(tmp_path / "index.js")}, tractography={}))
    assert any("report.viewer_bundle" in one and "there is no" in one for one in lines(output, "failure"))


def test_a_full_disk_fails_and_too_little_space_is_a_warning(tmp_path, monkeypatch):
    assert doctor.disk(tmp_path / "results/of a study", 1).state == "OK"
    assert doctor.disk(tmp_path, 1e18).state == "warning"
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: Usage)
    assert doctor.disk(tmp_path, 1).state == "failure"


class Usage:
    """A disk with a megabyte left."""

    free = 1e6


def test_a_disk_of_a_few_kilobytes_fails(tmp_path):
    command = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(tmp_path)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        (tmp_path / "rest").write_bytes(b"0" * 4096)
        check = doctor.disk(tmp_path / "results", 1)
        assert check.state == "failure" and "the disk or the quota is full; make room" in check.remedy
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_memory_is_compared_with_the_largest_job_and_with_the_cores():
    assert [doctor.memory(n, 4).state for n in (4e9, 12e9, 64e9)] == ["warning", "warning", "OK"]
    assert "--resources mem_mb=10800" in doctor.memory(12e9, 4).remedy
    rules = "\n".join(path.read_text() for path in (CHECKOUT / "rules").glob("*.smk"))
    asked = [int(n) for n in re.findall(r"mem_mb=memory\((\d+)\)", rules)]
    assert max(asked) == doctor.MOST_JOB_MB and doctor.STAGE_MB in asked


def test_the_estimate_grows_with_participants_and_grid():
    config = Config.model_validate({"dataset": "a", "models": {}, "tasks": {}, "anat": {"shape": [10, 10, 10]}})
    units = [{"state": "paired"}, {"state": "t1w-only"}]
    assert doctor.needed_bytes(config, units) == 2 * 1000 * 4 * doctor.GRID_VOLUMES + doctor.DWI_MAPS_BYTES


def test_defaults_are_those_of_the_profile():
    text = (CHECKOUT / "slurm/profile.v9+.yaml").read_text()
    for name, value in cluster_checks.DEFAULTS.items():
        assert re.findall(rf"""['"]M2M_SLURM_{name}['"], (\d+)\)""", text)[0] == str(value), name


@pytest.mark.parametrize(
    ("limit", "minutes"),
    [("1-02:00:00", 1560), ("4:00:00", 240), ("30:30", 30.5), ("2-00:00:00", 2880), ("infinite", float("inf"))],
)
def test_time_limits_of_slurm_are_read(limit, minutes):
    assert minutes_of(limit) == minutes


@pytest.mark.parametrize(
    ("settings", "states", "text"),
    [
        ({"GPU_PARTITION": "accel", "TRAIN_RUNTIME": "120"}, ["OK", "OK"], "accel: nodes of up to 32 cores"),
        ({"TRAIN_RUNTIME": "60"}, ["OK", "warning"], "no GPU"),
        ({"GPU_PARTITION": "accel"}, ["OK", "failure"], "set M2M_SLURM_TRAIN_RUNTIME=120 or less"),
        ({"PARTITION": "long", "GPU_PARTITION": "cpu"}, ["failure", "warning"], "no partition long: cpu, accel"),
        ({"CORES": "20"}, ["failure", "failure"], "set M2M_SLURM_CORES=16 M2M_SLURM_MEM_MB=8000"),
        ({"MEM_MB": "100000"}, ["failure", "failure"], "MEM_MB=64000, or larger jobs wait for ever"),
    ],
)
def test_partitions_are_compared_with_what_jobs_ask_for(settings, states, text):
    found = [*fitting(settings, parse_partitions(SINFO), 8000)]
    assert [check.state for check in found] == states
    assert text in "\n".join(map(str, found))
    assert parse_partitions(SINFO)[1] == Partition("accel", 120, 32, 128000, True)


def test_without_slurm_or_with_a_wrong_variable_the_cluster_fails(tmp_path, monkeypatch):
    on_path(tmp_path / "bin", monkeypatch, sbatch="", squeue="")
    assert [check.found for check in cluster({}, 8000)] == ["not on PATH: sinfo"]
    (check,) = cluster({"M2M_SLURM_CORES": "four"}, 8000)
    assert (check.state, check.found) == ("failure", "M2M_SLURM_CORES=four")
    on_path(tmp_path / "down", monkeypatch, sbatch="", squeue="", sinfo="echo 'slurm_load_partitions: no' >&2; exit 1")
    assert [check.found for check in cluster({}, 8000)] == ["slurm_load_partitions: no"]


def test_the_cluster_is_checked_when_asked_for(study, tmp_path, monkeypatch):
    scripts = dict.fromkeys(("tckgen", "dwi2response", "dwi2fod", "tcksift2", "sbatch", "squeue"), "")
    on_path(tmp_path / "bin", monkeypatch, **scripts, sinfo=f"printf '{SINFO}'".replace("\n", "\\n"))
    code, output = run(study(), "--slurm")
    assert code == 0 and "2 partitions" in output and "M2M_SLURM_GPU_PARTITION" in output, output


KUBERNETES = {"M2M_K8S_IMAGE": "m2m:1", "M2M_K8S_CLAIM": "shared", "M2M_K8S_MOUNT": "/shared"}
BATCH = {"M2M_BATCH_QUEUE": "cpu", "M2M_BATCH_DEFINITION": "m2m:3"}


def test_settings_of_a_cloud_are_needed_and_its_service_answers(tmp_path, monkeypatch):
    assert all(name in (CHECKOUT / "docs/cluster.md").read_text() for names in NEEDED.values() for name in names)
    folder = Path("/shared/study")
    (check,) = cloud(Cloud.KUBERNETES, KUBERNETES | {"M2M_K8S_CLAIM": "", "M2M_CLOUD_JOBS": "many"}, folder)
    assert (check.state, check.found) == ("failure", "M2M_K8S_CLAIM is not set, M2M_CLOUD_JOBS=many")
    on_path(tmp_path / "none", monkeypatch)
    assert [one.found for one in cloud(Cloud.AWS_BATCH, BATCH, folder)] == ["not on PATH: aws"]
    kubectl = 'case "$*" in *can-i*) echo yes;; *shared*) echo persistentvolumeclaim/shared;; *) exit 1;; esac'
    aws = 'case "$*" in *"--job-queues cpu "*) echo ENABLED;; *"--job-definition-name m2m "*) echo 3;; esac'
    on_path(tmp_path / "bin", monkeypatch, kubectl=kubectl, aws=aws)
    assert [one.state for one in cloud(Cloud.KUBERNETES, KUBERNETES, folder)] == ["OK", "OK"]
    outside, jobs, claim = cloud(Cloud.KUBERNETES, KUBERNETES | {"M2M_K8S_CLAIM": "other"}, Path("/elsewhere"))
    assert (outside.what, jobs.state, claim.state) == ("M2M_K8S_MOUNT", "OK", "failure")
    assert [one.found for one in cloud(Cloud.AWS_BATCH, BATCH, folder)] == ["ENABLED", "3"]
    queue, definition = cloud(Cloud.AWS_BATCH, BATCH | {"M2M_BATCH_QUEUE": "none"}, folder)
    assert (queue.state, queue.found, definition.state) == ("failure", "there is none", "OK")


def test_a_cloud_is_checked_when_asked_for(study, monkeypatch):
    for name in BATCH:
        monkeypatch.delenv(name, raising=False)
    code, output = run(study(), "--cloud", "aws-batch")
    assert code == 1 and "M2M_BATCH_QUEUE is not set" in output and "memory " not in output, output
    code, output = run(study(), "--cloud", "kubernetes", "--slurm")
    assert code == 2 and "alternatives" in output


def test_a_missing_library_is_named_with_the_extra_that_has_it(monkeypatch):
    monkeypatch.setattr(doctor, "version_of", lambda name: "" if name in ("torch", "numpy") else "1")
    core, train = [*doctor.environment(("", "train"))][1:]
    assert (core.found, train.found) == ("not installed: numpy", "not installed: torch")
    assert "install m2m again" in core.remedy and "'.[train]'" in train.remedy
