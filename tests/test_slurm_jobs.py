"""Jobs that an earlier call left on a cluster, as listed by a simulated squeue."""

import pytest

from m2m.workflow.slurm import jobs_left, note_run


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """Function that puts a squeue with this answer on the PATH; it records its arguments."""

    def put(answer, status=0):
        program = tmp_path / "bin/squeue"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\n{answer}\nexit {status}\n')
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
    message = jobs_left(record)
    assert "--name=run-7" in (tmp_path / "arguments").read_text()
    assert "\n  12 RUNNING" in message and "\n  13 PENDING Resources" in message
    assert "scancel --name=run-7" in message and str(record) in message


def test_a_long_list_is_cut_and_counted(record, squeue):
    squeue('i=0; while [ $i -lt 25 ]; do echo "$i RUNNING None rule_dti"; i=$((i+1)); done')
    message = jobs_left(record)
    assert "and 15 more" in message and "  9 RUNNING" in message and "  10 RUNNING" not in message


def test_the_message_is_empty_where_no_job_remains(record, squeue):
    squeue("true")
    assert jobs_left(record) == ""


def test_without_a_run_on_record_squeue_is_not_called(tmp_path, squeue):
    squeue("echo '12 RUNNING None rule_dti'")
    assert jobs_left(tmp_path / "none") == ""
    assert not (tmp_path / "arguments").exists()


def test_without_squeue_the_message_is_empty(record, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert jobs_left(record) == ""


def test_without_an_answer_of_slurm_the_message_warns(record, squeue):
    squeue("echo 'Unable to contact slurm controller' >&2", status=1)
    assert "Unable to contact slurm controller" in jobs_left(record)
