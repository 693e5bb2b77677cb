"""T1 and diffusion maps on the common grid: masks, transforms, quality, and bad scans."""

import json

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy import ndimage
from scipy.spatial.transform import Rotation

from m2m.io.bids import unit_files
from m2m.io.errors import DataError
from m2m.io.files import read_json, write_json
from m2m.io.modalities import MODALITIES
from m2m.io.qc import RED, Panel, draw
from m2m.io.volume import Volume, load, resample, save
from m2m.options import Anat, Grid
from m2m.structural import anat, coregistration
from m2m.structural.register import Registration
from m2m.structural.template import load_template

OPTIONS = Anat()


def similarity(degrees, shift_mm, scale=1.0):
    transform = np.eye(4)
    transform[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() * scale
    transform[:3, 3] = shift_mm
    return transform


# World mm of the simulated head to MNI152 mm: rotated, shifted, smaller than the template.
TO_MNI = np.linalg.inv(similarity((-12, 4, 5), (8, 22, -15), 0.9))


@pytest.fixture(scope="module")
def head():
    """A simulated T1 with skull and scalp, stored along other axes, and its true brain mask."""
    affine = np.array([[0, 0, 3.0, -105], [-3, 0, 0, 130], [0, 3, 0, -130], [0, 0, 0, 1]])
    shape = (76, 78, 70)
    resampled = {name: resample(load_template(name, 2.0), affine, shape, TO_MNI).data for name in ("t1", "brain")}
    brain = resampled["brain"] > 0.5
    outside_mm = ndimage.distance_transform_edt(~brain) * 3
    scalp = (outside_mm > 8) & (outside_mm < 15)
    bias = 1 + 0.25 * np.linspace(-1, 1, shape[2])
    noise = np.random.default_rng(0).normal(0, 15, shape)
    data = np.abs((1000 * resampled["t1"] + 900 * scalp) * bias + noise)
    return Volume(data.astype(np.float32), affine), Volume(brain, affine)


@pytest.fixture(scope="module")
def anatomy(head):
    return anat.prepare(head[0], None, OPTIONS)


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_the_brain_is_found_inside_its_skull(head, anatomy):
    expected = (
        resample(
            Volume(head[1].data.astype(np.float32), head[1].affine), anatomy.brain.affine, anatomy.brain.shape
        ).data
        > 0.5
    )
    assert dice(anatomy.brain.data, expected) > 0.95
    assert anatomy.brain_volume_l == pytest.approx(head[1].data.sum() * 27e-6, rel=0.1)
    assert anatomy.mi_registered > anatomy.mi_start
    assert anatomy.excluded == []


def test_the_affine_to_the_template_is_right_to_half_a_voxel_on_average(anatomy):
    points = apply_affine(anatomy.brain.affine, np.argwhere(anatomy.brain.data))
    error = apply_affine(anatomy.grid_to_mni, points) - apply_affine(TO_MNI, points)
    assert np.linalg.norm(error, axis=1).mean() < 1.5


def test_white_matter_is_that_of_the_template(anatomy):
    expected = resample(load_template("wm", 2.0), anatomy.wm.affine, anatomy.wm.shape, TO_MNI).data
    assert dice(anatomy.wm.data, expected > 0.5) > 0.75
    assert not (anatomy.wm.data & ~anatomy.brain.data).any()


def test_the_grid_is_isotropic_and_centred_and_the_t1_brain_extracted(anatomy):
    assert anatomy.t1.shape == OPTIONS.shape
    np.testing.assert_allclose(anatomy.t1.spacing_mm, OPTIONS.spacing_mm)
    assert nib.aff2axcodes(anatomy.t1.affine) == ("R", "A", "S")
    inside = np.argwhere(anatomy.brain.data)
    centre = (inside.min(0) + inside.max(0)) / 2
    np.testing.assert_allclose(centre, (np.array(OPTIONS.shape) - 1) / 2, atol=1)
    assert (anatomy.t1.data[~anatomy.brain.data] == 0).all()
    assert (anatomy.t1.data[anatomy.brain.data] > 0).all()


@pytest.fixture(scope="module")
def masked(head):
    return anat.prepare(head[0], head[1], OPTIONS)


def test_a_supplied_mask_is_used_unchanged(head, masked):
    volume_l = masked.brain.data.sum() * OPTIONS.spacing_mm**3 / 1e6
    assert volume_l == pytest.approx(head[1].data.sum() * 27e-6, rel=0.05)
    assert masked.brain_volume_l == pytest.approx(head[1].data.sum() * 27e-6)


@pytest.fixture
def template_known(monkeypatch):
    """Replace the search for the template by the affine of the simulation."""
    monkeypatch.setattr(anat, "find_template", lambda *_: (np.linalg.inv(TO_MNI), 0.1, 0.9))


def test_the_order_of_axes_in_the_file_does_not_matter(head, masked, template_known):
    again = anat.prepare(*(_reversed(v) for v in head), OPTIONS)
    np.testing.assert_allclose(again.t1.affine, masked.t1.affine, atol=1e-9)
    np.testing.assert_allclose(again.t1.data, masked.t1.data, atol=1e-2)


def _reversed(volume):
    """The same image with its second axis stored backwards and a fourth axis of length one."""
    flip = np.eye(4)
    flip[1, 1], flip[1, 3] = -1, volume.shape[1] - 1
    return Volume(volume.data[:, ::-1, :, None], volume.affine @ flip)


def test_a_brain_larger_than_the_grid_is_bad_data_with_both_extents(head, template_known):
    small = Anat(shape=(40, 56, 40))
    with pytest.raises(DataError, match=r"brain spans .* mm, the common grid \[117\. 165\. 117\.]"):
        anat.prepare(*head, small)


def test_a_brain_of_implausible_volume_is_excluded_with_the_reason(head, template_known):
    found = anat.prepare(*head, Anat(brain_volume_l=(1.6, 2.3)))
    assert found.excluded == [f"brain volume {found.brain_volume_l:.2f} l is outside 1.6 to 2.3 l"]


@pytest.mark.parametrize(
    ("t1", "mask", "message"),
    [
        (np.zeros((20, 20, 20)), None, "no head"),
        (np.ones((20, 20, 20, 3)), None, "not a three-dimensional volume"),
        (np.ones((20, 20, 20)), np.zeros((20, 20, 20)), "brain mask is empty"),
        (np.ones((20, 20, 20)), np.ones((19, 20, 20)), "not on its T1's grid"),
    ],
)
def test_a_t1_without_a_brain_is_bad_data(t1, mask, message):
    affine = np.diag([5.0, 5, 5, 1])
    with pytest.raises(DataError, match=message):
        anat.prepare(Volume(t1, affine), None if mask is None else Volume(mask, affine), OPTIONS)


T1_TO_DWI = similarity((3, -4, 6), (5, -4, 3))


@pytest.fixture(scope="module")
def dwi(masked):
    """FA, V1 and mask of the same head, which moved between the scans; the lowest part is not covered.

    V1 points to the participant's right everywhere.
    """
    affine = np.diag([-2.5, 2.5, 3.0, 1])
    affine[:3, 3] = (95, -70, -60)
    shape = (76, 88, 46)
    to_t1 = np.linalg.inv(T1_TO_DWI)
    fa = 0.1 + 0.5 * resample(load_template("wm", 2.0), affine, shape, TO_MNI @ to_t1).data
    brain = Volume(masked.brain.data.astype(np.float32), masked.brain.affine)
    mask = resample(brain, affine, shape, to_t1).data > 0.5
    mask[:, :, :8] = False
    v1 = np.broadcast_to(T1_TO_DWI[:3, 0], (*shape, 3)).astype(np.float32)
    return Volume(fa * mask, affine), Volume(v1, affine), Volume(mask, affine)


@pytest.fixture(scope="module")
def resampled(masked, dwi):
    return coregistration.register_and_resample(masked.t1, masked.brain, dwi[0], dwi[2], "rigid")


def test_the_motion_between_t1_and_dwi_is_found_to_half_a_voxel(masked, resampled):
    points = apply_affine(masked.brain.affine, np.argwhere(masked.brain.data))
    found = apply_affine(resampled.registration.transform, points)
    assert np.linalg.norm(found - apply_affine(T1_TO_DWI, points), axis=1).max() < 1.5
    assert resampled.registration.kept == "registration"


def test_fa_agrees_with_the_t1s_white_matter_and_is_zero_outside_the_target(masked, resampled):
    fa, target = resampled.fa.data, resampled.target.data
    assert resampled.fa.shape == masked.t1.shape
    assert (fa[~target] == 0).all() and not (target & ~masked.brain.data).any()
    expected = 0.1 + 0.5 * resample(load_template("wm", 2.0), masked.t1.affine, fa.shape, TO_MNI).data
    assert np.corrcoef(fa[target], expected[target])[0, 1] > 0.97
    # Not mixed with the zeros outside the diffusion mask.
    assert fa[target].min() > 0.09


def test_quality_measures_are_those_of_the_simulated_pair(masked, resampled):
    numbers = coregistration.quality(masked.t1, masked.brain.data, masked.wm.data, resampled, Grid(min_coverage=0.5))
    assert numbers["excluded"] == []
    assert numbers["rotation_deg"] == pytest.approx(
        np.degrees(Rotation.from_matrix(T1_TO_DWI[:3, :3]).magnitude()), abs=0.7
    )
    centre = masked.brain_centre_mm
    shift = np.linalg.norm(apply_affine(T1_TO_DWI, centre) - centre)
    assert numbers["shift_mm"] == pytest.approx(shift, abs=1)
    assert 0.6 < numbers["coverage"] < 0.99
    assert numbers["fa_wm"] > numbers["fa_mean"] > 0.2
    json.dumps(numbers, allow_nan=False)


def test_poor_quality_is_excluded_with_each_reason(masked, resampled):
    strict = Grid(fa_mean=(0.6, 0.9), min_coverage=0.995, max_shift_mm=0.5)
    numbers = coregistration.quality(masked.t1, masked.brain.data, masked.wm.data, resampled, strict)
    assert [reason.split()[0] for reason in numbers["excluded"]] == ["mean", "DWI", "shift"]


def test_colour_fa_rotates_directions_to_the_t1(dwi, resampled):
    colour = coregistration.colour_fa(dwi[1], resampled)
    inside = ndimage.binary_erosion(resampled.target.data, iterations=2)
    fa = resampled.fa.data[inside]
    np.testing.assert_allclose(colour[inside, 0], fa, rtol=0.01)
    assert (colour[inside, 1:] < 0.1 * fa[:, None]).all()


def test_without_registration_the_headers_are_used(masked, dwi):
    still = coregistration.register_and_resample(masked.t1, masked.brain, dwi[0], dwi[2], "none")
    assert still.registration.kept == "headers"
    np.testing.assert_array_equal(still.registration.transform, np.eye(4))


@pytest.fixture
def shifting_warp(monkeypatch):
    """Replace SyN by a shift of two voxels after a given linear transform."""
    shift_mm = np.array([6.0, 0, 0])
    monkeypatch.setattr(coregistration, "warp", lambda *_: np.broadcast_to(shift_mm, (*OPTIONS.shape, 3)))

    def after(transform):
        fixed = Registration(transform, 0.1, 0.2, "registration")
        monkeypatch.setattr(coregistration, "align", lambda *_, **__: fixed)

    return after


def test_syn_is_not_kept_where_the_linear_registration_is_better(masked, dwi, shifting_warp):
    shifting_warp(T1_TO_DWI)
    found = coregistration.register_and_resample(masked.t1, masked.brain, dwi[0], dwi[2], "syn")
    assert found.displacement is None and not found.syn["kept"]
    assert found.syn["mi_syn"] < found.syn["mi_linear"]
    numbers = coregistration.quality(masked.t1, masked.brain.data, masked.wm.data, found, Grid())
    assert numbers["syn"] == found.syn


def test_syn_warps_fa_by_its_displacement_if_it_is_better(masked, dwi, shifting_warp):
    shift = similarity((0, 0, 0), (6, 0, 0))
    shifting_warp(T1_TO_DWI @ np.linalg.inv(shift))
    found = coregistration.register_and_resample(masked.t1, masked.brain, dwi[0], dwi[2], "syn")
    assert found.syn["kept"]
    shifting_warp(T1_TO_DWI)
    right = coregistration.register_and_resample(masked.t1, masked.brain, dwi[0], dwi[2], "rigid")
    both = found.target.data & right.target.data
    assert dice(found.target.data, right.target.data) > 0.99
    np.testing.assert_allclose(found.fa.data[both], right.fa.data[both], atol=1e-3)


def test_a_dwi_that_does_not_overlap_the_t1_is_bad_data(masked, dwi):
    far = dwi[0].affine.copy()
    far[:3, 3] += 600
    fa, mask = Volume(dwi[0].data, far), Volume(dwi[2].data, far)
    with pytest.raises(DataError, match="does not overlap the T1's brain"):
        coregistration.register_and_resample(masked.t1, masked.brain, fa, mask, "none")


def test_the_qc_figure_has_outlines_at_the_mask_s_edge_and_the_participant_s_left_at_its_left():
    box = np.zeros((20, 24, 20), bool)
    box[5:15, 6:18, 5:15] = True
    left = np.zeros(box.shape)
    left[:10] = 0.5
    figure = np.asarray(draw([Panel("x", left, [(box, RED)])], box, 3.0, (0.5,)).convert("RGB"))
    tile = figure[14:, : figure.shape[1] // 3].astype(int)
    red = (tile[..., 0] > 200) & (tile[..., 1] < 100)
    rows, columns = np.nonzero(red)
    assert rows.max() - rows.min() + 1 == pytest.approx(12 * 3 * 0.7, abs=2)
    assert columns.max() - columns.min() + 1 == pytest.approx(10 * 3 * 0.7, abs=2)
    grey = np.where(red, 0, tile[..., 2])
    half = grey.shape[1] // 2
    assert grey[:, : half - 3].sum() > 0 and grey[:, half + 3 :].sum() == 0


@pytest.fixture
def stage_files(masked, dwi, tmp_path):
    """Files of a unit, by kind; the inputs of the stage `grid` are written."""
    files = unit_files(tmp_path, "sub-01_ses-1")
    volumes = {
        "t1w": masked.t1,
        "brain": masked.brain,
        "wm": masked.wm,
        "dwi-fa": dwi[0],
        "dwi-v1": dwi[1],
        "b0": dwi[0],
        "dwi-mask": dwi[2],
    }
    for kind, volume in volumes.items():
        save(files[kind], volume)
    for name in ("anat", "dti"):
        write_json(files[f"{name}-status"], {"status": "ok", "excluded": []})
    return files


WITHOUT_REGISTRATION = Grid(registration="none", min_coverage=0.3)


def test_the_grid_stage_writes_maps_figure_and_status(stage_files, masked, dwi, tmp_path):
    options = WITHOUT_REGISTRATION.model_dump_json()
    coregistration.main(tmp_path, "sub-01", "ses-1", options=options, maps=["fa"])
    status = read_json(stage_files["grid-status"])
    assert status["unit"] == "sub-01_ses-1"
    assert status["status"] == "ok" and status["kept"] == "headers" and status["excluded"] == []
    fa, target = load(stage_files["fa"]), load(stage_files["target-mask"])
    still = coregistration.register_and_resample(masked.t1, masked.brain, dwi[0], dwi[2], "none")
    np.testing.assert_allclose(fa.affine, masked.t1.affine, atol=1e-4)
    np.testing.assert_allclose(fa.data, still.fa.data, atol=1e-3)
    assert set(np.unique(target.data)) == {0, 1} and fa.data[target.data == 0].max() == 0
    assert stage_files["qc"].read_bytes()[:4] == b"\x89PNG"
    assert stage_files["qc"].stat().st_size < 300_000


def test_a_failed_fit_is_reported_with_empty_files(stage_files):
    finding = {"problem": "has no b0", "file": "x_dwi.nii.gz", "value": "", "remedy": ""}
    write_json(stage_files["dti-status"], {"status": "failed", "stage": "dti", "finding": finding})
    coregistration.resample_unit("sub-01", stage_files, (), WITHOUT_REGISTRATION)
    problem = read_json(stage_files["grid-status"])["finding"]["problem"]
    assert problem == "stage dti failed: has no b0"
    for name in ("fa", "target-mask", "qc"):
        assert stage_files[name].stat().st_size == 0


def test_failed_tracking_gives_empty_maps(stage_files):
    finding = {"problem": "tckgen ended with exit status 1: [ERROR] no seeds", "file": "", "value": "", "remedy": ""}
    failed = {"status": "failed", "stage": "tractography", "finding": finding}
    write_json(stage_files["tractography-status"], failed)
    stage_files["tractogram"].write_text("")
    coregistration.resample_unit("sub-01", stage_files, [MODALITIES["tdi"]], WITHOUT_REGISTRATION)
    problem = read_json(stage_files["grid-status"])["finding"]["problem"]
    assert problem == "stage tractography failed: tckgen ended with exit status 1: [ERROR] no seeds"
    assert all(stage_files[kind].stat().st_size == 0 for kind in ("fa", "tdi", "count"))


def test_a_scalar_map_is_resampled_like_fa(dwi, resampled):
    found = coregistration.resample_scalar(dwi[0], dwi[2], resampled)
    np.testing.assert_array_equal(found.data, resampled.fa.data)


def test_a_map_that_is_not_of_the_series_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="'t1' is not a map of the diffusion series; known: fa"):
        coregistration.main(tmp_path, "sub-01", options="{}", maps=["t1"])


def test_an_unreadable_t1_is_named_in_the_status(tmp_path):
    (tmp_path / "t1.nii.gz").write_bytes(b"not an image")
    outputs = {name: tmp_path / f"{name}.nii.gz" for name in ("out_t1w", "out_brain", "out_wm")}
    anat.prepare_unit(
        unit="sub-01",
        t1w=tmp_path / "t1.nii.gz",
        status=tmp_path / "s.json",
        settings=Anat(),
        **outputs,
    )
    status = read_json(tmp_path / "s.json")
    assert status["status"] == "failed"
    assert status["finding"]["file"] == str(tmp_path / "t1.nii.gz")
    assert all(path.stat().st_size == 0 for path in outputs.values())


def test_the_brain_of_a_real_head_with_strong_coil_bias_has_a_plausible_volume(shared_data):
    # From a single start, the template would be fitted to the scalp of this head.
    t1 = load(shared_data / "bids" / "sub-IUB" / "anat" / "sub-IUB_T1w.nii.gz")
    found = anat.prepare(t1, None, OPTIONS)
    assert 1.25 < found.brain_volume_l < 1.5
    assert 0.25 < found.wm.data.sum() / found.brain.data.sum() < 0.40
