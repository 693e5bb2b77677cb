from pathlib import Path

import pytest

from m2m.diffusion import mrtrix3
from m2m.io.programs import ProgramError

A, B, T = Path("a.mif"), Path("b.mif"), Path("scratch")
C, D, G, M = Path("c.mif"), Path("d.mif"), Path("gradients.b"), Path("mask.mif")
TRACKING = {
    "seeds": C,
    "mask": M,
    "cutoff": 0.1,
    "angle_deg": 45.0,
    "step_mm": 1.0,
    "length_mm": (20.0, 200.0),
    "seed": 7,
}
ENDS = (
    *("-mask", M, "-cutoff", 0.1, "-angle", 45.0, "-step", 1.0),
    *("-minlength", 20.0, "-maxlength", 200.0),
)


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
    monkeypatch.setattr(
        mrtrix3,
        "run",
        lambda *arguments, seed=None: commands.append(list(arguments) + ([] if seed is None else [{"seed": seed}])),
    )
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
            lambda: mrtrix3.dwifslpreproc(A, B, phase_encoding="PA", readout_s=0.07, slm="linear", scratch=T),
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
        (
            lambda: mrtrix3.dwi2response(A, [B, C, D], algorithm="dhollander", grad=G, mask=M, scratch=T, threads=2),
            [
                *("dwi2response", "dhollander", A, B, C, D, "-grad", G, "-mask", M),
                *("-scratch", T, "-nthreads", 2),
            ],
        ),
        (
            lambda: mrtrix3.dwi2fod(A, [(B, C), (D, T)], algorithm="msmt_csd", grad=G, mask=M),
            ["dwi2fod", "msmt_csd", A, B, C, D, T, "-grad", G, "-mask", M],
        ),
        (
            lambda: mrtrix3.tckgen(A, B, algorithm="iFOD2", n_seeds=2, per_voxel=True, **TRACKING),
            [
                *("tckgen", A, B, "-algorithm", "iFOD2", "-seed_random_per_voxel", C, 2),
                *("-select", 0, *ENDS, "-nthreads", 0, {"seed": 7}),
            ],
        ),
        (
            lambda: mrtrix3.tckgen(A, B, algorithm="FACT", n_seeds=30, per_voxel=False, act=T, grad=G, **TRACKING),
            [
                *("tckgen", A, B, "-algorithm", "FACT", "-seed_image", C, "-seeds", 3000),
                *("-select", 30, *ENDS, "-grad", G, "-act", T, "-nthreads", 0, {"seed": 7}),
            ],
        ),
        (
            lambda: mrtrix3.tckmap(A, B, template=C, upsample=3, threads=1),
            ["tckmap", A, B, "-template", C, "-upsample", 3, "-nthreads", 1],
        ),
        (
            lambda: mrtrix3.tcksift2(A, B, C, mu=D, act=T),
            ["tcksift2", A, B, C, "-out_mu", D, "-act", T, "-nthreads", 0],
        ),
        (
            lambda: mrtrix3.five_tissues(A, B, scratch=T),
            ["5ttgen", "fsl", A, B, "-scratch", T],
        ),
    ],
)
def test_each_command_is_this_list(recorded, call, expected):
    call()
    assert recorded == [expected]


def test_arguments_are_passed_unchanged(program):
    program("echoes", 'for a in "$@"; do echo "<$a>"; done')
    awkward = "a b; rm $(x) 'q' \"r\" *"
    call = mrtrix3.run("echoes", awkward, Path("p q"), 0.5)
    assert call.log.splitlines() == [f"<{awkward}>", "<p q>", "<0.5>"]
    assert call.arguments == ("echoes", awkward, "p q", "0.5")
    assert call.exit_status == 0


def test_only_a_given_seed_is_passed_to_the_program(program, monkeypatch):
    monkeypatch.delenv("MRTRIX_RNG_SEED", raising=False)
    program("draws", 'echo "<$MRTRIX_RNG_SEED>"')
    assert mrtrix3.run("draws", seed=3).log == "<3>"
    assert mrtrix3.run("draws").log == "<>"


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


def test_the_version_is_recorded(program):
    program("mrconvert", 'echo "== mrconvert 9.8.7 =="')
    mrtrix3.version.cache_clear()
    try:
        assert mrtrix3.run("mrconvert").version == "9.8.7"
    finally:
        mrtrix3.version.cache_clear()


def test_the_installed_programs_refuse_a_missing_image(needs_tool):
    needs_tool("mrconvert")
    with pytest.raises(ProgramError, match=r"exit status 1: .*nothing\.mif"):
        mrtrix3.mrconvert(Path("nothing.mif"), B)
    assert mrtrix3.version()[0].isdigit()
