"""The script of the speed on a GPU, with a stand-in for Python: what it calls, what it writes, when it stops."""

import os
import subprocess

import pytest
from checkout import ROOT

STAND_IN = """#!/usr/bin/env bash
if [[ $1 == -c ]]; then echo "$GPUS"; exit; fi
echo "$*" >> "$CALLS"
if [[ -n $FAILING && "$*" == *"$FAILING"* ]]; then exit 7; fi
echo "| table of $1 |" > "${@: -1}"
"""


@pytest.fixture
def call(tmp_path):
    """Run the script on a machine with so many GPUs; what ended it, its calls and what it wrote."""
    python, calls, out = tmp_path / "python", tmp_path / "calls", tmp_path / "gpu.md"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    calls.touch()

    def run(gpus, failing="", **further):
        given = {"PYTHON": str(python), "CALLS": str(calls), "GPUS": str(gpus), "FAILING": failing, **further}
        script = ROOT / "benchmarks" / "gpu.sh"
        done = subprocess.run([script, out], env=os.environ | given, capture_output=True, text=True, check=False)
        return done, calls.read_text().splitlines(), out.read_text() if out.exists() else None

    return run


def test_without_a_gpu_nothing_is_measured_and_the_script_says_so(call):
    done, calls, text = call(0)
    assert done.returncode == 3 and "finds no GPU here; nothing was measured" in done.stderr
    assert calls == [] and text is None


@pytest.mark.parametrize(("gpus", "parts"), [(1, 4), (2, 5)])
def test_all_tables_are_in_one_file_and_two_gpus_train_together(call, gpus, parts):
    done, calls, text = call(gpus)
    assert done.returncode == 0 and len(calls) == text.count("| table of ") == text.count("## ") == parts
    assert any("--compile" in one for one in calls) and "--devices cuda" in calls[0]
    assert any("torch.distributed.run" in one for one in calls) == (gpus == 2)


def test_a_part_that_fails_is_named_and_the_others_are_kept(call):
    done, calls, text = call(1, failing="--compile")
    assert done.returncode == 1 and len(calls) == 4 and text.count("| table of ") == 3
    assert "## Training, compiled\n\nNo result: exit code 7" in text


def test_a_trial_on_the_cpu_is_small_and_named_so(call):
    done, calls, text = call(0, TINY="1")
    assert done.returncode == 0 and len(calls) == 5 and "small sizes on the CPU" in text.splitlines()[0]
    assert not any("cuda" in one or "--size 256" in one for one in calls)
