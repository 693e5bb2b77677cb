"""Jobs that an earlier call left on a cluster, as a squeue of the test's own tells of them."""

import pytest

from m2m.workflow.slurm import jobs_left, note_run


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """Function that puts a squeue with this answer on the PATH; it notes what it was asked."""

    def put(answer, status=0):
        program = tmp_path / "bin/squeue"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n{answer}\nexit {status}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent))

    return put


@pytest.fixture
def record(tmp_path):
    path = tmp_path / "results/logs/slurm_run"
    note_run(path, "first")
    note_run(path, "run-7")
    return path


def test_jobs_of_the_last_run_are_named_with_what_to_do(record, squeue, tmp_path):
    squeue("echo '12 RUNNING None rule_dti'; echo '13 PENDING Resources rule_split'")
    left = jobs_left(record)
    assert "--name=run-7" in (tmp_path / "asked").read_text()
    assert "\n  12 RUNNING" in left and "\n  13 PENDING Resources" in left
    assert "scancel --name=run-7" in left and str(record) in left


def test_a_long_list_is_cut_and_counted(record, squeue):
    squeue('i=0; while [ $i -lt 25 ]; do echo "$i RUNNING None rule_dti"; i=$((i+1)); done')
    left = jobs_left(record)
    assert "and 15 more" in left and "  9 RUNNING" in left and "  10 RUNNING" not in left


def test_nothing_is_said_where_no_job_is_left(record, squeue):
    squeue("true")
    assert jobs_left(record) == ""


def test_without_a_run_on_record_slurm_is_not_asked(tmp_path, squeue):
    squeue("echo '12 RUNNING None rule_dti'")
    assert jobs_left(tmp_path / "none") == ""
    assert not (tmp_path / "asked").exists()


def test_without_squeue_there_is_nobody_to_ask(record, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert jobs_left(record) == ""


def test_a_slurm_that_does_not_answer_is_no_leave_to_submit(record, squeue):
    squeue("echo 'Unable to contact slurm controller' >&2", status=1)
    assert "Unable to contact slurm controller" in jobs_left(record)
