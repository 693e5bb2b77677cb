from pathlib import Path

import pytest

from m2m import mrtrix3
from m2m.mrtrix3 import ProgramError

A, B, T = Path("a.mif"), Path("b.mif"), Path("scratch")


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Function that puts a program, a shell script, first on PATH."""

    def install(name, script):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")

    return install


@pytest.fixture
def recorded(monkeypatch):
    """The arguments of each command, which is not run."""
    commands = []
    monkeypatch.setattr(mrtrix3, "run", lambda *arguments: commands.append(list(arguments)))
    return commands


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (
            lambda: mrtrix3.mrconvert(A, B, fslgrad=(Path("v"), Path("b")), threads=2),
            ["mrconvert", A, B, "-fslgrad", Path("v"), Path("b"), "-nthreads", 2],
        ),
        (
            lambda: mrtrix3.mrconvert(A, B, export_fslgrad=(Path("v"), Path("b"))),
            ["mrconvert", A, B, "-export_grad_fsl", Path("v"), Path("b")],
        ),
        (lambda: mrtrix3.dwidenoise(A, B), ["dwidenoise", A, B]),
        (lambda: mrtrix3.mrdegibbs(A, B, threads=3), ["mrdegibbs", A, B, "-nthreads", 3]),
        (
            lambda: mrtrix3.dwifslpreproc(
                A, B, phase_encoding="PA", readout_s=0.07, slm="linear", scratch=T
            ),
            [
                "dwifslpreproc",
                A,
                B,
                "-rpe_none",
                "-pe_dir",
                "PA",
                "-readout_time",
                0.07,
                "-eddy_options",
                " --slm=linear",
                "-scratch",
                T,
            ],
        ),
        (
            lambda: mrtrix3.dwibiascorrect(A, B, algorithm="ants", scratch=T),
            ["dwibiascorrect", "ants", A, B, "-scratch", T],
        ),
        (
            lambda: mrtrix3.dwi2tensor(A, B, ols=True, iterations=0, mask=T),
            ["dwi2tensor", A, B, "-ols", "-iter", 0, "-mask", T],
        ),
        (
            lambda: mrtrix3.tensor2metric(A, fa=B, vector=T),
            ["tensor2metric", A, "-fa", B, "-modulate", "none", "-vector", T],
        ),
    ],
)
def test_each_command_is_this_list(recorded, call, expected):
    call()
    assert recorded == [expected]


def test_arguments_reach_the_program_as_they_are(program):
    program("echoes", 'for a in "$@"; do echo "<$a>"; done')
    awkward = "a b; rm $(x) 'q' \"r\" *"
    call = mrtrix3.run("echoes", awkward, Path("p q"), 0.5)
    assert call.log.splitlines() == [f"<{awkward}>", "<p q>", "<0.5>"]
    assert call.arguments == ("echoes", awkward, "p q", "0.5")
    assert call.exit_status == 0


def test_a_missing_program_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ProgramError, match="dwidenoise is not on PATH; install MRtrix3"):
        mrtrix3.dwidenoise(A, B)


def test_a_failing_program_is_reported_with_its_last_line_and_its_log(program):
    program("mrdegibbs", "echo started; echo 'mrdegibbs: [ 40%] working' >&2\necho no >&2; exit 7")
    with pytest.raises(ProgramError, match="mrdegibbs ended with exit status 7: no") as caught:
        mrtrix3.mrdegibbs(A, B)
    assert "started\nno" in str(caught.value)
    assert "40%" not in str(caught.value)


def test_the_version_is_kept(program):
    program("mrconvert", 'echo "== mrconvert 9.8.7 =="')
    mrtrix3.version.cache_clear()
    try:
        assert mrtrix3.run("mrconvert").version == "9.8.7"
    finally:
        mrtrix3.version.cache_clear()


def test_the_installed_programs_refuse_an_image_that_is_not_there(needs_tool):
    needs_tool("mrconvert")
    with pytest.raises(ProgramError, match=r"exit status 1: .*nothing\.mif"):
        mrtrix3.mrconvert(Path("nothing.mif"), B)
    assert mrtrix3.version()[0].isdigit()
