"""The test cluster takes over what a killed one left in /etc/slurm, and never a machine's own Slurm."""

import os

import pytest
import slurm_cluster


@pytest.fixture
def etc(tmp_path, monkeypatch):
    """A folder that stands for /etc/slurm."""
    folder = tmp_path / "etc"
    folder.mkdir()
    monkeypatch.setattr(slurm_cluster, "ETC", folder)
    return folder


def _refused(etc) -> bool:
    """Whether a cluster refuses the machine for its Slurm."""
    return any(str(etc / "slurm.conf") in each for each in slurm_cluster.missing(accounting=False))


@pytest.mark.parametrize("pid", [None, "no number", "own"])
def test_the_link_of_a_killed_cluster_is_taken_over(etc, tmp_path, pid):
    """Its folder is kept by pytest, its process id may be another program's by now."""
    folder = tmp_path / "killed"
    folder.mkdir()
    for name in ("slurm.conf", "slurmctld.out"):
        (folder / name).touch()
    if pid is not None:
        (folder / "slurmctld.pid").write_text(str(os.getpid()) if pid == "own" else pid)
    (etc / "slurm.conf").symlink_to(folder / "slurm.conf")
    assert not _refused(etc)


def test_a_link_to_nothing_is_taken_over(etc, tmp_path):
    """The folder of the killed cluster was removed."""
    (etc / "slurm.conf").symlink_to(tmp_path / "gone" / "slurm.conf")
    assert not _refused(etc)


def test_a_machine_with_its_own_slurm_is_left_alone(etc, tmp_path):
    """A file, and a link to a folder that no test cluster made."""
    (etc / "slurm.conf").touch()
    assert _refused(etc)
    (etc / "slurm.conf").unlink()
    own = tmp_path / "slurm-llnl"
    own.mkdir()
    (own / "slurm.conf").touch()
    (etc / "slurm.conf").symlink_to(own / "slurm.conf")
    assert _refused(etc)
