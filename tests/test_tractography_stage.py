import numpy as np
import pytest
from dipy.tracking.streamline import length
from fibre_fields import (
    DIRECTION,
    OBLIQUE,
    SHAPE,
    affine_of,
    angles,
    dipy,
    gradients,
    mrtrix,
    straight,
)
from nibabel.streamlines import ArraySequence

from m2m.diffusion import density, mrtrix3
from m2m.diffusion.gradient_tables import fsl_axes
from m2m.diffusion.tractography import mrtrix_backend, tractogram_figure
from m2m.diffusion.tractography.shells import highest_shell
from m2m.diffusion.tractography.tracking import Anatomy, load_field, track, track_unit
from m2m.diffusion.tractography.tracks import where_to_seed
from m2m.io import volume
from m2m.io.errors import DataError
from m2m.io.files import read_json, write_json
from m2m.io.volume import Volume
from m2m.options import Dti

# -- further options of MRtrix3 ------------------------------------------------------------------


def test_sift2_gives_one_weight_per_streamline(needs_tool):
    needs_tool("tcksift2")
    found = track(straight(shape=(7, 7, 7), scan=True), mrtrix(sift2=True))
    assert found.weights.shape == (len(found.streamlines),)
    assert np.isfinite(found.weights).all()
    assert found.sift2_mu > 0
    assert found.calls[-1].arguments[0] == "tcksift2"


def test_act_ends_streamlines_by_the_five_tissue_image(needs_tool, tmp_path):
    needs_tool("dwi2fod")
    field = straight(affine_of(np.diag([-2.0, 2.0, 2.0])), shape=(12, 8, 8), scan=True)
    tissues = np.zeros((12, 8, 8, 5))
    tissues[:6, ..., 2] = 1
    tissues[6:, ..., 0] = 1
    volume.save(tmp_path / "5tt.nii.gz", Volume(tissues, field.affine))
    found = track(field, mrtrix(length_mm=(4.0, 250.0)), anatomy=Anatomy(five_tissue=tmp_path / "5tt.nii.gz"))
    assert found.act
    assert "-act" in found.calls[-1].arguments
    # Cortex begins at x = 20 - 2 * 5.5; there is no white matter at lower x.
    assert min(points[:, 0].min() for points in found.streamlines) > 20 - 2 * 5.5 - 3


def test_a_five_tissue_image_is_made_from_the_t1(monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr(mrtrix_backend.mrtrix3, "run", lambda *a, **k: made.append(a))
    mrtrix_backend._five_tissues(tmp_path / "t1.nii", tmp_path, 2, [])
    assert made == [
        (
            *("5ttgen", "fsl", tmp_path / "t1.nii", tmp_path / "5tt.mif"),
            *("-scratch", tmp_path / "5ttgen", "-nthreads", 2),
        )
    ]


@pytest.mark.parametrize(("n_shells", "fitted"), [(3, ["wm", "gm", "csf"]), (2, ["wm", "csf"])])
def test_multi_tissue_fods_have_no_more_tissues_than_the_shells_distinguish(monkeypatch, tmp_path, n_shells, fitted):
    commands = []

    def run(*arguments, seed=None):
        commands.append([str(argument) for argument in arguments])
        if arguments[0] == "dwi2response":
            np.savetxt(arguments[3], np.ones((n_shells, 4)))

    monkeypatch.setattr(mrtrix3, "run", run)
    field = straight(shape=(3, 3, 3), scan=True)
    fod = mrtrix_backend._fod(field, "dhollander", tmp_path, 1, [])
    pairs = [str(tmp_path / f"{t}.{end}") for t in fitted for end in ("txt", "mif")]
    assert commands[1][:3] == ["dwi2fod", "msmt_csd", str(tmp_path / "dwi.nii")]
    assert commands[1][3 : commands[1].index("-grad")] == pairs
    assert fod == tmp_path / "wm.mif"


def test_act_without_a_t1_is_a_finding():
    with pytest.raises(DataError, match="no T1"):
        track(straight(shape=(4, 4, 4), scan=True), mrtrix(five_tissue="5ttgen-fsl"))


# -- bad input -----------------------------------------------------------------------------------


def fa_with(value):
    fa = np.full(SHAPE, 0.5)
    fa[3, 3, 3] = value
    return fa


@pytest.mark.parametrize(
    ("fa", "mask", "problem"),
    [
        (fa_with(0.5), np.zeros(SHAPE, bool), "empty brain mask"),
        (fa_with(np.nan), np.ones(SHAPE, bool), "NaN or not within 0 and 1"),
        (fa_with(1.2), np.ones(SHAPE, bool), "NaN or not within 0 and 1"),
        (fa_with(-0.1), np.ones(SHAPE, bool), "NaN or not within 0 and 1"),
        (fa_with(0.5) / 10, np.ones(SHAPE, bool), "no voxel with FA above 0.2"),
    ],
)
def test_no_voxel_to_seed_is_a_finding(fa, mask, problem):
    with pytest.raises(DataError, match=problem) as caught:
        where_to_seed(fa, mask, 0.2)
    assert caught.value.remedy


@pytest.mark.parametrize("options", [dipy, mrtrix], ids=["dipy", "mrtrix3"])
def test_no_streamline_left_is_a_finding(needs_tool, options):
    if options is mrtrix:
        needs_tool("tckgen")
    with pytest.raises(DataError, match=r"no streamline of 200 to 300 mm .*longest \d"):
        track(straight(), options(length_mm=(200.0, 300.0)))


def test_too_few_directions_for_fibre_orientations_are_a_finding():
    field = straight(shape=(4, 4, 4), scan=True, n=5)
    with pytest.raises(DataError, match="too few directions in any one shell"):
        track(field, dipy("csd"))


def test_the_highest_shell_with_enough_directions_is_chosen():
    bvals, bvecs = gradients(40)
    bvals[2:20], bvals[20:40], bvals[40:] = 1000, 2000, 3000
    bvals[20:40] += np.arange(20) * 2
    np.testing.assert_array_equal(highest_shell(bvals, bvecs), (bvals > 1900) & (bvals < 2100))


def test_without_a_series_every_model_follows_the_tensors():
    assert track(straight(), dipy("csd", "eudx")).model == "tensor"


# -- the command ---------------------------------------------------------------------------------


def write_inputs(folder, scan=False, channels=6, mask_shape=SHAPE):
    field = straight(scan=scan)
    volume.save(folder / "tensor.nii.gz", Volume(field.tensor[..., :channels], OBLIQUE))
    mask = np.ones(mask_shape, bool)
    volume.save(folder / "mask.nii.gz", Volume(mask, OBLIQUE), dtype=np.uint8)
    write_json(folder / "before.json", {"unit": "sub-01", "stage": "dti", "status": "ok"})
    if scan:
        volume.save(folder / "dwi.nii.gz", field.series.volume)
        np.savetxt(folder / "dwi.bval", field.series.bvals[None])
        np.savetxt(folder / "dwi.bvec", (field.series.bvecs @ fsl_axes(OBLIQUE)).T)


def command(folder, options, scan=False, **kwargs):
    series = tuple(folder / f"dwi.{suffix}" for suffix in ("nii.gz", "bval", "bvec"))
    track_unit(
        unit="sub-01",
        tensor=folder / "tensor.nii.gz",
        mask=folder / "mask.nii.gz",
        tractogram=folder / "lines.tck",
        figure_path=folder / "out.png",
        status=folder / "out.json",
        section=options,
        fit=Dti(max_b_s_per_mm2=3000),
        scan=series if scan else None,
        require=[folder / "before.json"],
        **kwargs,
    )
    return read_json(folder / "out.json")


def test_the_command_writes_streamlines_status_and_maps_of_synthetic_tensors(tmp_path):
    write_inputs(tmp_path)
    maps = {name: tmp_path / f"{name}.nii.gz" for name in ("fa", "md", "v1", "tdi")}
    status = command(tmp_path, dipy(), **maps)
    streamlines = density.load_tractogram(tmp_path / "lines.tck")
    lengths = length(streamlines)
    assert status["status"] == "ok"
    assert status["n_seeds"] == np.prod(SHAPE)
    assert status["seeded_mm3"] == pytest.approx(np.prod(SHAPE) * 11.0)
    assert status["n_streamlines"] == len(streamlines)
    assert status["n_dropped_short"] == np.prod(SHAPE) - len(streamlines)
    assert status["n_dropped_long"] == 0
    assert status["mean_length_mm"] == pytest.approx(lengths.mean(), abs=1e-2)
    assert (status["backend"], status["model"], status["algorithm"]) == ("dipy", "tensor", "eudx")
    np.testing.assert_allclose(volume.load(maps["md"]).data, 0.7667e-3, rtol=1e-3)
    np.testing.assert_allclose(volume.load(maps["fa"]).data, 0.7992, atol=1e-3)
    np.testing.assert_allclose(abs(volume.load(maps["v1"]).data @ DIRECTION), 1, atol=1e-4)
    # One seed per voxel: density is the count.
    count = density.count_map(streamlines, OBLIQUE, SHAPE)
    np.testing.assert_allclose(volume.load(maps["tdi"]).data, count, rtol=1e-5)


def test_a_file_of_streamlines_replaces_that_of_the_other_format_and_says_how_they_were_tracked(tmp_path):
    write_inputs(tmp_path)
    (tmp_path / "lines.trx").write_text("of an earlier call with the other format")
    status = command(tmp_path, dipy(seed_fa=0.3))
    assert not (tmp_path / "lines.trx").exists()
    assert len(density.load_tractogram(tmp_path / "lines.trx")) == status["n_streamlines"]
    about = read_json(tmp_path / "lines.json")
    assert (about["Units"], about["Sources"]) == ("mm", ["tensor.nii.gz", "mask.nii.gz"])
    seeding = about["StreamlineSeeding"]
    assert seeding["Sources"] == [{"Type": "RandomPerElement", "Source": "tensor.nii.gz", "SeedsPerElement": 1}]
    assert seeding["AcceptanceCriteria"] == [{"Metric": "FA", "Source": "tensor.nii.gz", "Threshold": 0.3}]
    assert about["StreamlinePropagation"]["Algorithm"] == "eudx"
    assert about["StreamlineAcceptanceCriteria"] == {"LengthMm": [8.0, 250.0]}


def test_the_command_tracks_a_scan_and_records_the_programs(tmp_path, needs_tool):
    needs_tool("tckgen")
    write_inputs(tmp_path, scan=True)
    status = command(tmp_path, mrtrix("Tensor_Det"), scan=True)
    assert status["algorithm"] == "Tensor_Det"
    assert angles(density.load_tractogram(tmp_path / "lines.tck")).max() < 0.5
    (call,) = status["programs"]
    assert call["arguments"][:3] == ["tckgen", "dwi.nii", "tracks.tck"]
    assert call["exit_status"] == 0
    assert not any("/" in argument for argument in call["arguments"])


def finding_of(folder, options=None, **kwargs):
    status = command(folder, options or dipy(), **kwargs)
    assert status["status"] == "failed"
    assert (folder / "lines.tck").read_bytes() == (folder / "out.png").read_bytes() == b""
    return status["finding"]


@pytest.mark.parametrize(
    ("wrong", "problem", "file"),
    [
        ({"channels": 3}, "not an image of six tensor elements", "tensor.nii.gz"),
        ({"mask_shape": (4, 4, 4)}, "not on the tensors' grid", "mask.nii.gz"),
    ],
)
def test_images_that_do_not_fit_are_named(tmp_path, wrong, problem, file):
    write_inputs(tmp_path, **wrong)
    finding = finding_of(tmp_path)
    assert problem in finding["problem"]
    assert finding["file"] == str(tmp_path / file)


def test_the_failure_of_an_earlier_stage_is_reported(tmp_path):
    write_inputs(tmp_path)
    finding = {"problem": "bad", "file": "f", "value": "v", "remedy": "r"}
    before = {"unit": "sub-01", "stage": "dti", "status": "failed", "finding": finding}
    write_json(tmp_path / "before.json", before)
    assert finding_of(tmp_path)["problem"] == "stage dti failed: bad"


def test_a_series_on_another_grid_is_named(tmp_path):
    write_inputs(tmp_path, scan=True)
    series = volume.load(tmp_path / "dwi.nii.gz")
    volume.save(tmp_path / "dwi.nii.gz", Volume(series.data[1:], series.affine))
    finding = finding_of(tmp_path, scan=True)
    assert finding["file"] == str(tmp_path / "dwi.nii.gz")


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        (
            "echo 'cannot find single fibres' >&2; exit 3",
            r"exit status 3: cannot find single fibres",
        ),
        (None, "dwi2response is not on PATH"),
    ],
)
def test_a_program_that_fails_or_is_missing_is_the_participants_finding(tmp_path, monkeypatch, script, problem):
    write_inputs(tmp_path, scan=True)
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    if script:
        (folder / "dwi2response").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "dwi2response").chmod(0o755)
    mrtrix3.version.cache_clear()
    finding = finding_of(tmp_path, mrtrix(), scan=True)
    mrtrix3.version.cache_clear()
    assert problem in finding["problem"]
    assert finding["file"] == str(tmp_path / "dwi.nii.gz")


def test_weights_are_saved_with_the_streamlines(tmp_path, needs_tool):
    needs_tool("tcksift2")
    write_inputs(tmp_path, scan=True)
    status = command(tmp_path, mrtrix(sift2=True), scan=True, weights=tmp_path / "weights.txt")
    assert len(np.loadtxt(tmp_path / "weights.txt")) == status["n_streamlines"]
    assert status["sift2_mu"] > 0


def test_the_volumes_of_the_tensor_fit_are_used(tmp_path):
    write_inputs(tmp_path, scan=True)
    scan = tuple(tmp_path / f"dwi.{end}" for end in ("nii.gz", "bval", "bvec"))
    bvals = np.loadtxt(scan[1])
    bvals[2:22] = 700.0
    np.savetxt(scan[1], bvals[None])
    field = load_field(tmp_path / "tensor.nii.gz", tmp_path / "mask.nii.gz", scan, 50, 1500)
    np.testing.assert_array_equal(field.fitted, bvals <= 700)


# -- figure --------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_bundle_has_the_colour_of_its_direction(axis):
    rng = np.random.default_rng(0)
    starts = rng.uniform(-10, 10, size=(200, 3))
    step = np.eye(3)[axis]
    lines = ArraySequence(start + step * np.arange(60)[:, None] for start in starts)
    colours = np.asarray(tractogram_figure.draw(lines).convert("RGB"), float)[20:].sum(axis=(0, 1))
    assert colours[axis] > 20 * np.delete(colours, axis).max() or axis == colours.argmax()
    total = tractogram_figure.coloured_density(lines).sum(axis=(0, 1, 2))
    assert total[axis] == pytest.approx(200 * 59, rel=0.01)
    assert np.delete(total, axis).sum() == pytest.approx(0, abs=1e-6)
