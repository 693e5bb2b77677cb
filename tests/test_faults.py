"""What goes wrong on the way: nothing half-written is ever taken for a result."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
import zipfile

import nibabel as nib
import numpy as np
import pytest
import warm
import yaml
from typer.testing import CliRunner
from workflow import CHECKOUT, first_on_path, snakemake

from m2m import cli
from m2m.cohort.split import load_split, write_split
from m2m.diffusion import density
from m2m.io import volume
from m2m.io.errors import DataError, StorageError
from m2m.io.files import file_digest, read_json, whole, write_json, write_text
from m2m.io.unit_status import recorded
from m2m.models.record import load_weights, require_same_weights, save_weights
from m2m.options import Split

sys.path.insert(0, str(CHECKOUT / "benchmarks"))
from faults import NOTHING, Kill, Study, disturb, leftovers, results, verdict

AFFINE = np.diag([2.0, 2, 2, 1])


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 kB in memory, and the function that mounts it otherwise."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        return subprocess.run(command, capture_output=True, text=True)

    if (made := mount("size=64k")).returncode:
        pytest.skip(f"a file system cannot be mounted here: {made.stderr.strip()}")
    yield folder, lambda: mount("remount,ro")
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder):
    """Fill a small disk to its last byte."""
    with (
        (folder / "rest").open("wb", buffering=0) as stream,
        pytest.raises(OSError, match="No space"),
    ):
        while True:
            stream.write(b"0" * 4096)


def writers():
    """Functions that write 80 kB or more."""
    noise = np.random.default_rng(1).normal(size=(30, 32, 32)).astype(np.float32)
    lines = nib.streamlines.ArraySequence([noise.reshape(-1, 3)[:5000]] * 2)
    return {
        "a.tsv": lambda path: write_text(path, "0" * 80_000),
        "a.nii.gz": lambda path: volume.save(path, volume.Volume(noise, AFFINE)),
        "a.tck": lambda path: density.save_tractogram(path, lines),
        "a.trx": lambda path: density.save_tractogram(path, lines),
        "a.safetensors": lambda path: save_weights({"a": noise}, path),
    }


@pytest.mark.parametrize("name", ["a.tsv", "a.nii.gz", "a.tck", "a.trx", "a.safetensors"])
def test_a_full_disk_leaves_the_old_file_and_says_what_to_do(small_disk, name):
    folder, _ = small_disk
    path = folder / name
    path.write_text("old")
    with pytest.raises(StorageError, match=r"cannot write .*full; make room") as caught:
        writers()[name](path)
    assert str(path) in str(caught.value)
    assert {p.name for p in folder.iterdir()} == {name}
    assert path.read_text() == "old"


def test_a_full_disk_is_no_finding_about_a_participant(small_disk, tmp_path):
    folder, _ = small_disk
    status = tmp_path / "status.json"
    with pytest.raises(StorageError), recorded("dti", "sub-01", status, []):
        writers()["a.nii.gz"](folder / "fa.nii.gz")
    assert not status.exists()


def test_a_stage_that_meets_a_full_or_read_only_disk_ends_in_one_line(small_disk):
    folder, make_read_only = small_disk
    call = ("describe", "--root", str(folder / "results"), "--source", "raw")
    fill(folder)
    full = CliRunner().invoke(cli.app, call)
    (folder / "rest").unlink()
    assert make_read_only().returncode == 0
    read_only = CliRunner().invoke(cli.app, call)
    for result, reason in ((full, "is full; make room"), (read_only, "is read-only")):
        assert result.exit_code == 1
        assert reason in result.output and str(folder / "results") in result.output
        assert "Traceback" not in result.output


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.tck", "a.trx"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_disk_that_fails_under_a_reader_is_no_finding_about_a_participant(tmp_path, monkeypatch, name, number):
    read = readers(tmp_path)[name]
    status = tmp_path / "status.json"

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(nib, "load", fail)
    monkeypatch.setattr(nib.streamlines, "load", fail)
    monkeypatch.setattr(zipfile, "ZipFile", fail)
    with (
        pytest.raises(StorageError, match=f"cannot read .*{name}"),
        recorded("dti", "sub-01", status, []),
    ):
        read(tmp_path / name)
    assert not status.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_another_user_s_is_named(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(StorageError, match=f"cannot write {tmp_path}.*permissions"):
        write_text(tmp_path / "a.tsv", "text")


def test_what_a_killed_writer_left_goes_with_the_next_writing(tmp_path):
    path = tmp_path / "fa.nii.gz"
    dead = subprocess.Popen(["true"])
    dead.wait()
    mine, other = tmp_path / f".{os.getppid()}.fa.nii.gz", tmp_path / f".{dead.pid}.md.nii.gz"
    for left in (tmp_path / f".{dead.pid}.fa.nii.gz", mine, other):
        left.write_text("half")
    write_text(path, "map")
    # A living writer's file stays, and so does another result's.
    assert set(tmp_path.iterdir()) == {path, mine, other}


def test_a_result_s_bytes_are_on_the_disk_before_its_name_is(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, type(tmp_path).replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
    monkeypatch.setattr(type(tmp_path), "replace", lambda self, to: (calls.append("rename"), replace(self, to)))
    with whole(tmp_path / "a.tsv") as temporary:
        temporary.write_text("text")
    assert calls == ["fsync", "rename"]


def readers(folder):
    """Files of each kind that stages hand to each other, written, with their readers."""
    noise = np.random.default_rng(1).normal(size=(8, 9, 10)).astype(np.float32)
    lines = nib.streamlines.ArraySequence([noise.reshape(-1, 3)[:40] + 1] * 3)
    rows = [{"participant_id": f"sub-{i}", "part": "train"} for i in range(9)]
    volume.save(folder / "a.nii.gz", volume.Volume(noise, AFFINE))
    volume.save(folder / "a.nii", volume.Volume(noise, AFFINE))
    density.save_tractogram(folder / "a.tck", lines)
    density.save_tractogram(folder / "a.trx", lines)
    write_split(rows, [], folder / "a.tsv", folder / "split.json", Split())
    write_json(folder / "a.json", {"unit": "sub-01", "status": "ok"})
    with whole(folder / "a.npy") as temporary, temporary.open("wb") as stream:
        np.save(stream, noise)
    weights = folder / "a.safetensors"
    save_weights({"a": noise}, weights)
    written = file_digest(weights)

    def array_of(path):
        tensors = load_weights(path)
        require_same_weights(path, written, folder / "model.json")
        return tensors["a"]

    return {
        "a.nii.gz": lambda path: volume.load(path).data,
        "a.nii": lambda path: volume.load(path).data,
        "a.tck": lambda path: density.load_tractogram(path).get_data(),
        "a.trx": lambda path: density.load_tractogram(path).get_data(),
        "a.tsv": lambda path: load_split(path, folder / "split.json"),
        "a.json": read_json,
        "a.npy": lambda path: np.load(path, mmap_mode="r"),
        "a.safetensors": array_of,
    }


FILES = ["a.nii.gz", "a.nii", "a.tck", "a.trx", "a.tsv", "a.json", "a.npy", "a.safetensors"]


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused_or_all_that_it_was(tmp_path, name):
    read, path = readers(tmp_path)[name], tmp_path / name
    content, truth = path.read_bytes(), read(path)
    refused = 0
    for size in [0, 1, *(len(content) * part // 10 for part in range(1, 10)), len(content) - 1]:
        path.write_bytes(content[:size])
        try:
            found = read(path)
        except (DataError, ValueError, EOFError):
            refused += 1
        else:
            np.testing.assert_array_equal(found, truth)
    assert refused >= 11  # the last byte of a file may say nothing


def test_slices_cut_while_they_are_read_end_the_process_by_a_signal_and_without_a_word(tmp_path):
    np.save(tmp_path / "sub-01_axial.npy", np.ones((100, 1, 64, 64), np.float16))
    code = """if True:
        import os, pathlib
        from m2m.train.dataset import Subject
        record = {"box": [[0, 64], [0, 64], [0, 100]], "shape": [64, 64, 100]}
        slices = Subject("sub-01", "sub-01", pathlib.Path(), record).open("axial").inside
        os.truncate("sub-01_axial.npy", 4096)
        print(slices[-1].sum())
    """
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    reader = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=tmp_path, env=environment)
    assert reader.returncode == -signal.SIGBUS, reader.stderr
    assert not reader.stdout + reader.stderr


@pytest.fixture(scope="module")
def configuration(tmp_path_factory):
    """Three participants of tests/config.yaml, one task, a network and a baseline."""
    config = yaml.safe_load((CHECKOUT / "tests/config.yaml").read_text())
    config["cohort"]["phantom"]["n_subjects"] = 3
    config |= {"tasks": {"t1-fa": {"models": ["macro2micro", "mean"]}}, "downstream": {}}
    path = tmp_path_factory.mktemp("faults") / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def m2m(tmp_path_factory):
    """An `m2m` whose stages start at once, and are killed with their client."""
    with warm.program(tmp_path_factory.mktemp("warm") / "bin", warm.M2M, "m2m.cli:app", "m2m") as program:
        yield program


@pytest.fixture(scope="module")
def undisturbed(m2m, configuration, tmp_path_factory):
    """The study as it should be; while it ran, another call was refused."""
    study = Study(tmp_path_factory.mktemp("undisturbed"), configuration, ["translate"])
    with first_on_path(m2m):
        process = study.start()
        while not (study.folder / "results").exists():
            assert process.poll() is None, study.log.read_text()[-3000:]
            time.sleep(0.1)
        second = snakemake(study.folder, "translate", "--cores", "1", configfile=str(configuration))
        assert second.returncode != 0 and "cannot be locked" in second.stdout
        assert process.wait() == 0, study.log.read_text()[-3000:]
    return study


@pytest.mark.workflow
def test_a_study_that_is_killed_ends_as_if_it_had_not_been(m2m, undisturbed, configuration, tmp_path):
    truth = results(undisturbed.results)
    assert len(truth) > 100
    study = Study(tmp_path, configuration, ["translate"])
    with first_on_path(m2m):
        kills = disturb(study, truth, undisturbed.jobs_done(), 4, random.Random(2))
    assert sum(kill.stage != NOTHING for kill in kills) >= 3
    assert not [kill.broken for kill in kills if kill.broken]
    assert results(study.results) == truth
    assert not leftovers(study.results)


def test_a_kill_that_found_nothing_to_kill_counts_for_nothing():
    stages = {"dti": (), "train": ("a.tsv",), NOTHING: ()}
    kills = [Kill(1.0, stage, False, 5, 0, broken) for stage, broken in stages.items()]
    assert verdict(kills) == "1 of 2 kills left whole results only; 1 found nothing to kill."


@pytest.mark.workflow
def test_results_of_a_clock_that_jumped_back_are_made_again_and_are_the_same(m2m, undisturbed, configuration):
    truth = results(undisturbed.results)
    hour_ns = 3600 * 10**9
    for path in undisturbed.results.glob("sub-*/dwi/*"):
        then = path.stat().st_mtime_ns - hour_ns
        os.utime(path, ns=(then, then))
    done = undisturbed.jobs_done()
    with first_on_path(m2m):
        undisturbed.finish()
    assert undisturbed.jobs_done() > done
    assert results(undisturbed.results) == truth
    last = snakemake(undisturbed.folder, "translate", "-n", configfile=str(configuration))
    assert "Nothing to be done" in last.stdout
