import json
import re

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from m2m.diffusion import dwi, fsl_preprocess, mrtrix3, preprocess
from m2m.io.programs import ProgramError
from m2m.options import Mask, Preprocess

TILTED = np.diag([-2.5, 2.5, 3.0, 1.0])
TILTED[:3, :3] = Rotation.from_euler("xyz", [10, -15, 25], degrees=True).as_matrix() @ (TILTED[:3, :3])


@pytest.fixture
def scan(tmp_path):
    """A noisy series of 30 directions in two tissues, its files and its noise-free signal."""
    rng = np.random.default_rng(3)
    bvecs = rng.normal(size=(32, 3))
    bvecs /= np.linalg.norm(bvecs, axis=1)[:, None]
    bvecs[:2] = 0
    bvals = np.r_[0, 0, np.full(30, 1000.0)]
    tensors = np.array([np.diag([1.7, 0.3, 0.3]), np.diag([0.3, 1.2, 0.9])]) * 1e-3
    signal = 500 * np.exp(-bvals * np.einsum("ni,tij,nj->tn", bvecs, tensors, bvecs))
    truth = signal[(np.indices((16, 16, 10))[0] > 7).astype(int)]
    noisy = (truth + rng.normal(0, 25, truth.shape)).astype(np.float32)
    image = nib.Nifti1Image(noisy, TILTED)
    image.header["descrip"] = b"the name of a participant"
    nib.save(image, tmp_path / "raw.nii.gz")
    np.savetxt(tmp_path / "raw.bval", bvals[None], fmt="%g")
    np.savetxt(tmp_path / "raw.bvec", bvecs.T, fmt="%.8f")
    return tmp_path, truth


def run(folder, **options):
    """Run the stage on the folder's series."""
    preprocess.correct_unit(
        unit="sub-01",
        dwi_path=folder / "raw.nii.gz",
        bval=folder / "raw.bval",
        bvec=folder / "raw.bvec",
        out_dwi=folder / "out.nii.gz",
        out_bval=folder / "out.bval",
        out_bvec=folder / "out.bvec",
        status=folder / "status.json",
        section=Preprocess.model_validate(options),
        threads=1,
    )
    return json.loads((folder / "status.json").read_text())


def install(folder, monkeypatch, **scripts):
    """Put programs, shell scripts that first log their arguments, on PATH and into FSL."""
    (folder / "bin").mkdir()
    for name, script in scripts.items():
        path = folder / "bin" / name
        log = f'echo "{name}" "$@" >> {folder}/commands'
        path.write_text(f"#!/bin/sh\n{log}\n{script}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}/bin:/usr/bin:/bin")
    monkeypatch.setattr("fsl.utils.run.FSL_PREFIX", f"{folder}/bin")
    monkeypatch.setattr(mrtrix3, "version", lambda: "9.8.7")


def commands(folder):
    """The commands that ran, their scratch folder's name taken out."""
    text = re.sub(r"[^ =]*/m2m-preprocess-[^/]+/", "", (folder / "commands").read_text())
    return text.splitlines()


def converter(folder):
    """Script of an mrconvert that gives the raw series and, asked for them, its gradients."""
    gradients = f"-export*) cp {folder}/raw.bvec $4; cp {folder}/raw.bval $5;;"
    return f"cp {folder}/raw.nii.gz $2; case $3 in {gradients} esac"


def test_the_mrtrix3_backend_is_these_commands_in_this_order(scan, monkeypatch):
    folder, _ = scan
    copy = f"cp {folder}/raw.nii.gz $2"
    install(
        folder,
        monkeypatch,
        mrconvert=converter(folder),
        dwidenoise=copy,
        mrdegibbs=copy,
        dwifslpreproc=copy,
        dwibiascorrect=f"cp {folder}/raw.nii.gz $3",
    )
    status = run(folder, backend="mrtrix3", bias=True, phase_encoding="LR", readout_s=0.04)
    assert commands(folder) == [
        f"mrconvert {folder}/raw.nii.gz 0-raw.mif -fslgrad {folder}/raw.bvec {folder}/raw.bval -nthreads 1",
        "dwidenoise 0-raw.mif 1-denoised.mif -nthreads 1",
        "mrdegibbs 1-denoised.mif 2-degibbs.mif -nthreads 1",
        "dwifslpreproc 2-degibbs.mif 3-eddy.mif -rpe_none -pe_dir LR -readout_time 0.04"
        " -eddy_options  --slm=linear -scratch dwifslpreproc -nthreads 1",
        "dwibiascorrect ants 3-eddy.mif 4-unbiased.mif -scratch dwibiascorrect -nthreads 1",
        "mrconvert 4-unbiased.mif out.nii.gz -export_grad_fsl out.bvec out.bval -nthreads 1",
    ]
    assert [p["arguments"][0] for p in status["programs"]] == [line.split()[0] for line in commands(folder)]
    assert {(p["version"], p["exit_status"]) for p in status["programs"]} == {("9.8.7", 0)}


def test_steps_that_are_switched_off_do_not_run(scan, monkeypatch):
    folder, _ = scan
    copy = f"cp {folder}/raw.nii.gz $2"
    install(folder, monkeypatch, mrconvert=converter(folder), mrdegibbs=copy)
    run(folder, backend="mrtrix3", denoise=False, eddy=False)
    assert [line.split()[0] for line in commands(folder)] == ["mrconvert", "mrdegibbs", "mrconvert"]


def test_the_fsl_backend_is_bet_then_eddy_and_takes_the_rotated_directions(scan, monkeypatch):
    folder, _ = scan
    rotated = np.loadtxt(folder / "raw.bvec")[[1, 0, 2]]
    np.savetxt(folder / "rotated.bvec", rotated, fmt="%.8f")
    copies = f"cp ${{3#--index=}} {folder}/index; cp ${{4#--acqp=}} {folder}/acqp"
    out = f"cp {folder}/raw.nii.gz $o.nii.gz; cp {folder}/rotated.bvec $o.eddy_rotated_bvecs"
    install(
        folder,
        monkeypatch,
        bet=f'cp "$1" "$2_mask.nii.gz"; cp "$1" {folder}/b0.nii.gz',
        eddy=f"{copies}; o=${{7#--out=}}; {out}",
    )
    status = run(folder, backend="fsl", phase_encoding="AP", readout_s=0.06, bet_fraction=0.4)
    bet, eddy = commands(folder)
    assert bet.split()[3:] == ["-m", "-n", "-f", "0.4"]
    assert eddy.split() == [
        "eddy",
        f"--imain={folder}/raw.nii.gz",
        "--mask=mask.nii.gz",
        "--index=index.txt",
        "--acqp=acqparams.txt",
        f"--bvecs={folder}/raw.bvec",
        f"--bvals={folder}/raw.bval",
        "--out=eddy",
        "--slm=linear",
    ]
    assert (folder / "index").read_text().split() == ["1"] * 32
    assert (folder / "acqp").read_text().split() == ["0", "-1", "0", "0.06"]
    np.testing.assert_allclose(np.loadtxt(folder / "out.bvec"), rotated)
    raw = nib.load(folder / "raw.nii.gz").get_fdata()
    np.testing.assert_allclose(nib.load(folder / "b0.nii.gz").get_fdata(), raw[..., :2].mean(-1), rtol=1e-5)
    assert status["programs"][0]["arguments"][-1] == "--slm=linear"


def test_the_real_mrtrix3_backend_lowers_noise_and_keeps_directions(scan, needs_tool):
    for name in ("mrconvert", "dwidenoise", "mrdegibbs"):
        needs_tool(name)
    folder, truth = scan
    status = run(folder, backend="mrtrix3", degibbs=False, eddy=False)
    files = [(folder / f"{k}.nii.gz", folder / f"{k}.bval", folder / f"{k}.bvec") for k in ("raw", "out")]
    before, after = (dwi.load(*f) for f in files)
    np.testing.assert_allclose(after.volume.affine, before.volume.affine, atol=1e-4)
    np.testing.assert_allclose(after.bvecs, before.bvecs, atol=1e-5)
    np.testing.assert_allclose(after.bvals, before.bvals)
    error = [np.sqrt(np.mean((s.volume.data - truth) ** 2)) for s in (before, after)]
    assert error[1] < 0.5 * error[0]
    assert status["status"] == "ok"
    assert b"participant" not in (folder / "out.nii.gz").read_bytes()
    assert b"participant" not in nib.load(folder / "out.nii.gz").header.binaryblock


def test_dwifslpreproc_without_fsl_fails_with_its_own_message(scan, needs_tool, monkeypatch):
    needs_tool("dwifslpreproc")
    monkeypatch.delenv("FSLDIR", raising=False)
    folder, _ = scan
    with pytest.raises(ProgramError, match=r"dwifslpreproc ended.*FSLDIR is not set"):
        run(folder, backend="mrtrix3", denoise=False, degibbs=False)
    assert not (folder / "out.nii.gz").exists()


def test_a_missing_program_is_named(scan, monkeypatch):
    folder, _ = scan
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ProgramError, match="mrconvert is not on PATH"):
        run(folder, backend="mrtrix3")


def test_bad_gradients_are_a_record_not_a_crash(scan):
    folder, _ = scan
    (folder / "raw.bval").write_text("0 0 1000\n")
    status = run(folder, backend="mrtrix3")
    assert status["status"] == "failed"
    assert "raw.bvec" in status["finding"]["file"]
    assert (folder / "out.nii.gz").stat().st_size == 0


def test_without_a_backend_there_is_nothing_to_run(scan):
    with pytest.raises(ValueError, match=r"preprocess\.backend is none"):
        run(scan[0], backend="none")


@pytest.mark.parametrize(
    ("code", "affine", "row"),
    [
        ("AP", np.diag([-3.0, 3, 3, 1]), [0, -1, 0]),
        ("PA", np.diag([-3.0, 3, 3, 1]), [0, 1, 0]),
        ("RL", np.diag([-3.0, 3, 3, 1]), [1, 0, 0]),
        ("RL", np.diag([3.0, 3, 3, 1]), [1, 0, 0]),
        ("AP", np.diag([3.0, -3, 3, 1]), [0, 1, 0]),
        ("SI", np.array([[0, 0, 3.0, 0], [3, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 1]]), [0, -1, 0]),
        ("AP", TILTED, [0, -1, 0]),
    ],
)
def test_the_phase_encoding_axis_follows_the_image(code, affine, row):
    assert fsl_preprocess.acquisition_row(code, affine, 0.05) == [*row, 0.05]


def test_eddy_models_its_fields_where_directions_are_few():
    assert dwi.eddy_model(np.r_[0, np.full(32, 1000)]) == "linear"
    assert dwi.eddy_model(np.r_[0, np.full(64, 1000)]) == "none"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ()),
        ({"backend": "fsl"}, ("bet", "eddy")),
        ({"backend": "mrtrix3", "eddy": False}, ("mrconvert", "dwidenoise", "mrdegibbs")),
        (
            {"backend": "mrtrix3", "denoise": False, "degibbs": False, "bias": True},
            ("mrconvert", "dwifslpreproc", "eddy", "dwibiascorrect", "N4BiasFieldCorrection"),
        ),
        (
            {
                "backend": "mrtrix3",
                "denoise": False,
                "degibbs": False,
                "eddy": False,
                "bias": True,
                "bias_algorithm": "fsl",
            },
            ("mrconvert", "dwibiascorrect", "fast"),
        ),
    ],
)
def test_a_backend_lists_the_programs_that_it_calls(options, expected):
    assert Preprocess(**options).commands == expected


def test_only_the_mask_by_bet_needs_a_program():
    assert Mask(method="bet").commands == ("bet",)
    assert Mask().commands == Mask(method="supplied").commands == ()
