"""A warm program does what the installed one does: files, folder, environment, output and exit status."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import warm
from warm import M2M


@pytest.fixture(scope="module")
def m2m(tmp_path_factory):
    with warm.program(tmp_path_factory.mktemp("warm") / "bin", M2M, "m2m.cli:app") as program:
        yield program


def call(program, *arguments, **options):
    done = subprocess.run([program, *arguments], capture_output=True, text=True, **options)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("arguments", [("--version",), ("trian",), ("split", "--help"), ("describe",)], ids=" ".join)
def test_each_call_after_the_first_ends_as_the_installed_program_does(m2m, arguments):
    expected = call(M2M, *arguments)
    assert [call(m2m, *arguments) for _ in range(3)] == [expected] * 3
    assert (m2m.parent / f"first-{arguments[0]}").exists()


def test_it_works_in_the_folder_and_with_the_environment_of_its_caller(m2m, tmp_path):
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        status, _, error = call(m2m, "describe", "--root", "results", "--source", "raw", cwd=folder)
        assert status == 0, error
        assert (folder / "results/dataset_description.json").exists()
    narrow, wide = (
        call(m2m, "describe", "--help", env=os.environ | {"COLUMNS": columns})[1] for columns in ("60", "120")
    )
    assert max(map(len, narrow.splitlines())) <= 60 < max(map(len, wide.splitlines()))


def test_a_call_that_is_killed_or_has_no_server_fails(tmp_path):
    with warm.program(tmp_path / "bin", M2M, "os:abort") as program:
        assert call(program, "--version")[0] == 0
        assert call(program, "--version")[0] == 128 + 6
    status, _, error = call(program, "--version")
    assert status == 1 and "ConnectionRefusedError" in error


def until(condition):
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("not so after half a minute")


def test_what_a_client_called_is_killed_with_it(tmp_path):
    others = {*psutil.Process().children()}
    with warm.program(tmp_path / "bin", M2M, "signal:pause") as program:
        (server,) = {*psutil.Process().children()} - others
        call(program, "--version")  # by the installed program
        client = subprocess.Popen([program, "--version"])
        until(lambda: len(server.children(recursive=True)) == 2)  # one waits for the other
        client.kill()
        assert client.wait() < 0
        until(lambda: not server.children(recursive=True))


def test_no_server_outlives_who_started_it(tmp_path):
    code = f"""if True:
        import os, pathlib, warm
        folder = pathlib.Path({str(tmp_path)!r}) / "bin"
        served = warm.program(folder, warm.M2M, "time:time")
        served.__enter__()
        os._exit(0)
    """
    tests = {"PYTHONPATH": str(Path(warm.__file__).parent)}
    assert subprocess.run([sys.executable, "-c", code], env=os.environ | tests).returncode == 0
    (tmp_path / "bin/first---version").touch()
    # It may answer, or break off, as it ends.
    until(lambda: "ConnectionRefusedError" in call(tmp_path / "bin/m2m", "--version")[2])
