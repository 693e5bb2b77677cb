import json

import nibabel as nib
import numpy as np
import pytest
from dipy.core.gradients import gradient_table
from dipy.reconst.dti import TensorModel, design_matrix, fractional_anisotropy, wls_fit_tensor
from scipy.spatial.transform import Rotation

from m2m.diffusion import dti, dwi, mrtrix3
from m2m.diffusion.gradient_tables import fsl_axes
from m2m.diffusion.lowres import low_res_grid
from m2m.io import volume

ELEMENTS = ((0, 0, 0, 1, 1, 2), (0, 1, 2, 1, 2, 2))
TILT = Rotation.from_euler("xyz", [14, -23, 35], degrees=True).as_matrix()
EIGENVALUES = np.array([1.6, 0.5, 0.3]) * 1e-3


def scheme(n=32, seed=0):
    """b-values and unit directions: two b = 0, then b = 1000 s/mm2."""
    bvecs = np.random.default_rng(seed).normal(size=(n + 2, 3))
    bvecs /= np.linalg.norm(bvecs, axis=1)[:, None]
    bvecs[:2] = 0
    return np.r_[0, 0, np.full(n, 1000.0)], bvecs


def signals(tensors, bvals, bvecs, s0=400.0):
    """S0 exp(-b g'Dg) of tensors, shape (..., 3, 3)."""
    return s0 * np.exp(-bvals * np.einsum("ni,...ij,nj->...n", bvecs, tensors, bvecs))


def tensors_of(eigenvalues, rotations):
    """Tensors with these eigenvalues along the columns of rotations, shape (..., 3, 3)."""
    return np.einsum("...ik,k,...jk->...ij", rotations, eigenvalues, rotations)


def fit(data, bvals, bvecs, method="WLS"):
    return dti.fit_tensor(data, bvals, bvecs, np.ones(data.shape[:3], bool), method)


@pytest.fixture
def known():
    """Signals of 24 tensors in random directions, their gradients, tensors and axes."""
    bvals, bvecs = scheme()
    axes = Rotation.random(24, random_state=1).as_matrix().reshape(2, 3, 4, 3, 3)
    tensors = tensors_of(EIGENVALUES, axes)
    return signals(tensors, bvals, bvecs), bvals, bvecs, tensors, axes


@pytest.mark.parametrize("method", ["OLS", "WLS", "NLLS", "RESTORE"])
def test_a_known_tensor_is_found(known, method):
    data, bvals, bvecs, tensors, axes = known
    if method == "RESTORE":  # estimates noise, so there must be some
        data = data + np.random.default_rng(0).normal(0, 0.02, data.shape)
    maps = fit(data, bvals, bvecs, method)
    np.testing.assert_allclose(maps.ad, EIGENVALUES[0], rtol=1e-3)
    np.testing.assert_allclose(maps.rd, EIGENVALUES[1:].mean(), rtol=1e-3)
    np.testing.assert_allclose(maps.md, EIGENVALUES.mean(), rtol=1e-3)
    np.testing.assert_allclose(maps.tensor, tensors[..., *ELEMENTS], atol=1e-3 * EIGENVALUES[0])
    spread = np.sqrt(1.5 * ((EIGENVALUES - EIGENVALUES.mean()) ** 2).sum())
    np.testing.assert_allclose(maps.fa, spread / np.linalg.norm(EIGENVALUES), rtol=1e-3)
    assert np.abs((maps.v1 * axes[..., 0]).sum(-1)).min() > 1 - 1e-6


def test_isotropic_diffusion_has_no_anisotropy():
    bvals, bvecs = scheme()
    maps = fit(signals(np.full((2, 2, 2, 1, 1), 1) * np.eye(3) * 7e-4, bvals, bvecs), bvals, bvecs)
    assert maps.fa.max() < 1e-6
    np.testing.assert_allclose(maps.md, 7e-4, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-7, 1e6])
def test_the_image_s_scale_does_not_matter(known, scale):
    data, bvals, bvecs, *_ = known
    one, other = fit(data, bvals, bvecs), fit(data * scale, bvals, bvecs)
    np.testing.assert_allclose(other.fa, one.fa, rtol=1e-5)
    np.testing.assert_allclose(other.tensor, one.tensor, atol=1e-9)


def test_rotated_gradients_rotate_the_direction_and_do_not_change_the_anisotropy(known):
    data, bvals, bvecs, tensors, _ = known
    maps, other = fit(data, bvals, bvecs), fit(data, bvals, bvecs @ TILT.T)
    np.testing.assert_allclose(other.fa, maps.fa, atol=1e-6)
    assert np.abs((other.v1 * (maps.v1 @ TILT.T)).sum(-1)).min() > 1 - 1e-6
    expected = (TILT @ tensors @ TILT.T)[..., *ELEMENTS]
    np.testing.assert_allclose(other.tensor, expected, atol=1e-8)


def test_zero_signal_gives_zero_not_nan(known):
    data, bvals, bvecs, *_ = known
    whole = fit(data, bvals, bvecs)
    data[0, 0, 0] = 0
    data[0, 0, 1, :2] = 0
    data[0, 0, 2, 2:] = 0
    maps = fit(data, bvals, bvecs)
    for name in ("fa", "md", "ad", "rd", "v1", "tensor"):
        image = getattr(maps, name)
        assert np.isfinite(image).all()
        assert (image[0, 0, :3] == 0).all()
        np.testing.assert_allclose(image[1], getattr(whole, name)[1], atol=1e-6)
    assert maps.n_without_signal == 3


def test_a_missing_sample_is_counted_and_gives_plausible_maps(known):
    data, bvals, bvecs, *_ = known
    assert fit(data, bvals, bvecs).n_raised == 0
    data[0, 0, 0, 5] = 0
    data[0, 1, 0, 7] = -3
    maps = fit(data, bvals, bvecs)
    assert maps.n_raised == 2
    assert maps.n_without_signal == 0
    assert 0 < maps.fa[0, 0, 0] <= 1
    assert maps.md.max() < 3e-3


def test_outside_the_mask_is_zero(known):
    data, bvals, bvecs, *_ = known
    mask = np.zeros(data.shape[:3], bool)
    mask[1, 1, 1:3] = True
    maps = dti.fit_tensor(data, bvals, bvecs, mask)
    assert ((maps.fa > 0) == mask).all()
    assert ((maps.tensor != 0).any(-1) == mask).all()


def test_an_eigenvalue_that_is_not_positive_is_raised_and_counted():
    bvals, bvecs = scheme()
    tensors = np.stack([np.diag([1e-3, 5e-4, -2e-4]), np.diag(EIGENVALUES)])[:, None, None]
    maps = fit(signals(tensors, bvals, bvecs), bvals, bvecs)
    assert maps.n_nonpositive == 1
    assert maps.fa.max() <= 1
    np.testing.assert_allclose(maps.tensor[0, 0, 0, 5], maps.lowest, rtol=1e-4)
    assert 0 < maps.lowest < 1e-8
    np.testing.assert_allclose(maps.md[0, 0, 0], 0.5e-3, rtol=1e-4)


def test_restore_excludes_an_outlier(known):
    data, bvals, bvecs, *_ = known
    data = data + np.random.default_rng(0).normal(0, 2, data.shape)
    expected = fit(data, bvals, bvecs, "NLLS").fa
    data[..., 6] *= 0.2  # a slice dropped out
    error = {m: np.abs(fit(data, bvals, bvecs, m).fa - expected).mean() for m in ("WLS", "RESTORE")}
    assert error["RESTORE"] < 0.2 * error["WLS"]


def test_wls_weights_by_the_squared_prediction_of_ols(known):
    data, bvals, bvecs, *_ = known
    data = np.abs(data + np.random.default_rng(2).normal(0, 30, data.shape)) + 1
    g = bvecs * np.sqrt(bvals)[:, None]
    x, y, z = g.T
    design = np.column_stack([x * x, 2 * x * y, 2 * x * z, y * y, 2 * y * z, z * z, -np.ones(len(g))])
    maps = fit(data, bvals, bvecs)
    for where in [(0, 0, 0), (1, 2, 3)]:
        log = np.log(data[where])
        ols = np.linalg.lstsq(-design, log, rcond=None)[0]
        w = np.exp(-design @ ols)
        expected = np.linalg.lstsq(-design * w[:, None], log * w, rcond=None)[0]
        np.testing.assert_allclose(maps.tensor[where], expected[:6], atol=1e-9)


# -- against MRtrix3 ---------------------------------------------------------------------------


def mrtrix3_maps(folder, paths, mask, **options):
    """FA, MD and V1 of MRtrix3's fit, on the same voxels."""
    dwi_path, bval, bvec = paths
    volume.save(folder / "mask.nii.gz", mask, dtype=np.uint8)
    mrtrix3.dwi2tensor(dwi_path, folder / "dt.nii.gz", fslgrad=(bvec, bval), mask=folder / "mask.nii.gz", **options)
    files = {name: folder / f"{name}.nii.gz" for name in ("fa", "adc", "vector")}
    mrtrix3.tensor2metric(folder / "dt.nii.gz", **files)
    maps = {name: nib.load(path).get_fdata() for name, path in files.items()}
    return [maps[name][mask.data] for name in ("fa", "adc", "vector")]


def paths_of(stem):
    return [stem.with_name(stem.name + suffix) for suffix in (".nii.gz", ".bval", ".bvec")]


def test_maps_of_a_tensor_are_those_of_tensor2metric(shared_data):
    oracle = shared_data / "oracle_mrtrix"

    def load(name):
        return nib.load(oracle / f"tensor2metric_{name}.nii.gz").get_fdata()

    d = load("dt")
    tensors = d[..., [[0, 3, 4], [3, 1, 5], [4, 5, 2]]]
    bvals, bvecs = scheme(60)
    maps = fit(signals(tensors, bvals, bvecs), bvals, bvecs)
    np.testing.assert_allclose(maps.fa, load("fa"), atol=1e-5)
    np.testing.assert_allclose(maps.md, load("adc"), rtol=1e-5)
    np.testing.assert_allclose(maps.ad, load("eigval1"), rtol=1e-5)
    np.testing.assert_allclose(maps.tensor, d[..., [0, 3, 4, 1, 5, 2]], atol=1e-9)
    distinct = load("eigval1") > 1.1 * load("eigval2")
    assert np.abs((maps.v1 * load("eigvec1")).sum(-1))[distinct].min() > 1 - 1e-4


@pytest.mark.parametrize("stem", ["oracle_mrtrix/dwi", "bids/sub-VAN/dwi/sub-VAN_dwi"])
def test_ols_is_that_of_mrtrix3_also_on_an_oblique_grid(shared_data, needs_tool, tmp_path, stem):
    needs_tool("dwi2tensor")
    paths = paths_of(shared_data / stem)
    series = dwi.load(*paths)
    signal = (series.volume.data > 0).all(-1)
    if stem.startswith("oracle"):
        mask = signal & (volume.load(shared_data / "oracle_mrtrix/mask.nii.gz").data > 0)
    else:  # the middle slices
        mask = signal & (series.volume.data[..., 0] > 40000)
        mask[..., :18] = mask[..., 20:] = False
    assert mask.sum() > 100
    maps = dti.fit_tensor(series.volume.data, series.bvals, series.bvecs, mask, "OLS")
    fa, md, v1 = mrtrix3_maps(tmp_path, paths, volume.Volume(mask, series.volume.affine), ols=True, iterations=0)
    positive = maps.tensor[mask].any(-1) & (maps.fa[mask] < 0.99)
    np.testing.assert_allclose(maps.fa[mask][positive], fa[positive], atol=5e-6)
    np.testing.assert_allclose(maps.md[mask][positive], md[positive], rtol=1e-4)
    angle = np.degrees(np.arccos(np.minimum(np.abs((maps.v1[mask] * v1).sum(-1)), 1)))
    assert np.percentile(angle[positive & (fa > 0.1)], 99) < 0.05
    assert 0.1 < np.abs(v1[:, 0]).mean() < 0.9  # a frame error would show: no axis prevails


def test_two_reweighted_steps_are_those_of_mrtrix3(shared_data, needs_tool, tmp_path):
    needs_tool("dwi2tensor")
    paths = paths_of(shared_data / "oracle_mrtrix/dwi")
    series = dwi.load(*paths)
    inside = volume.load(shared_data / "oracle_mrtrix/mask.nii.gz").data > 0
    mask = inside & (series.volume.data > 0).all(-1)
    fa, *_ = mrtrix3_maps(tmp_path, paths, volume.Volume(mask, series.volume.affine), ols=True, iterations=2)
    gtab = gradient_table(series.bvals, bvecs=series.bvecs, b0_threshold=0)
    design = design_matrix(gtab)
    signal = series.volume.data[mask].astype(float)
    first, _ = wls_fit_tensor(design, signal, return_lower_triangular=True)
    second, _ = wls_fit_tensor(design, signal, weights=np.exp(2 * first @ design.T))
    once = dti.fit_tensor(series.volume.data, series.bvals, series.bvecs, mask).fa[mask]
    np.testing.assert_allclose(TensorModel(gtab).fit(signal).fa, once, atol=1e-6)
    twice = fractional_anisotropy(second[:, :3])
    np.testing.assert_allclose(twice, fa, atol=1e-5)


def test_the_default_fits_of_a_real_brain_agree(shared_data, needs_tool, tmp_path):
    needs_tool("dwi2tensor")
    paths = paths_of(shared_data / "bids/sub-DS114/dwi/sub-DS114_dwi")
    series = dwi.load(*paths)
    grid = series.volume
    brain = dwi.brain_mask(dwi.mean_b0(series).data, grid.data[..., series.bvals > 50].mean(-1), grid.affine, 3, 2)
    maps = dti.fit_tensor(grid.data, series.bvals, series.bvecs, brain)
    fa, md, _ = mrtrix3_maps(tmp_path, paths, volume.Volume(brain, grid.affine))
    assert np.corrcoef(maps.fa[brain], fa)[0, 1] > 0.995
    assert np.median(np.abs(maps.fa[brain] - fa)) < 0.002
    assert np.median(np.abs(maps.md[brain] - md)) < 1e-6


# -- the stage ---------------------------------------------------------------------------------

NAMES = ("fa", "md", "ad", "rd", "v1", "tensor", "mask", "b0")


@pytest.fixture
def subject(tmp_path):
    """Function that writes a ball of one tensor, given in world axes, on a grid; runs the stage."""

    def run(affine, tensor=None, supplied=None, bvals=None, preprocess=None, **options):
        standard, world = scheme()
        bvals = standard if bvals is None else bvals
        tensor = tensors_of(EIGENVALUES, TILT) if tensor is None else tensor
        x = np.indices((24, 26, 22)) - np.array([12, 13, 11])[:, None, None, None]
        ball = ((x / np.array([9, 10, 8])[:, None, None, None]) ** 2).sum(0) < 1
        data = np.where(ball[..., None], signals(tensor, standard, world), 0)
        data = (data + np.random.default_rng(0).uniform(0, 1, data.shape)).astype(np.float32)
        image = nib.Nifti1Image(data, affine)
        image.header["descrip"] = b"the name of a participant"
        nib.save(image, tmp_path / "dwi.nii.gz")
        np.savetxt(tmp_path / "dwi.bval", bvals[None], fmt="%g")
        np.savetxt(tmp_path / "dwi.bvec", (world @ fsl_axes(affine)).T)
        dti.fit_unit(
            unit="sub-01",
            dwi_path=tmp_path / "dwi.nii.gz",
            bval=tmp_path / "dwi.bval",
            bvec=tmp_path / "dwi.bvec",
            **{name: tmp_path / f"{name}.nii.gz" for name in NAMES},
            status=tmp_path / "status.json",
            section=dti.sections.Dti.model_validate(options),
            supplied_mask=supplied,
            preprocess_status=preprocess,
        )
        status = json.loads((tmp_path / "status.json").read_text())
        return status, ball, tmp_path

    return run


AFFINES = {
    "radiological": np.diag([-3.0, 3, 3, 1]),
    "neurological": np.diag([2.0, 2, 3, 1]),
    "oblique": np.block([[TILT @ np.diag([-2.0, 2, 2.5]), np.ones((3, 1))], [0, 0, 0, 1]]),
    "sagittal": np.array([[0, 0, 3.0, 0], [-3, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 1]]),
}


@pytest.mark.parametrize("storage", AFFINES)
def test_the_direction_in_the_world_does_not_depend_on_how_a_scan_is_stored(subject, storage):
    status, ball, folder = subject(AFFINES[storage], mask={"median_radius": 1})
    maps = {name: nib.load(folder / f"{name}.nii.gz") for name in NAMES}
    data = {name: np.asanyarray(image.dataobj) for name, image in maps.items()}
    for image in maps.values():
        np.testing.assert_allclose(image.affine, AFFINES[storage], atol=1e-6)
    mask = data["mask"] > 0
    assert 2 * (mask & ball).sum() / (mask.sum() + ball.sum()) > 0.9
    inside = mask & ball
    assert np.abs(data["v1"][inside] @ TILT[:, 0]).min() > 0.999
    expected = tensors_of(EIGENVALUES, TILT)[ELEMENTS]
    assert np.abs(data["tensor"][inside] - expected).max() < 2e-5
    assert status["status"] == "ok"
    assert 0.55 < np.median(data["fa"][inside]) < 0.75


def test_the_status_describes_the_fit(subject):
    status, _, folder = subject(AFFINES["radiological"])
    fa, mask = (nib.load(folder / f"{n}.nii.gz").get_fdata() for n in ("fa", "mask"))
    assert status["n_volumes"] == 34
    assert status["n_b0"] == 2
    assert (status["n_directions"], status["b_max_s_per_mm2"]) == (32, 1000)
    assert status["mask_volume_l"] == pytest.approx(mask.sum() * 27e-6, abs=1e-4)
    assert status["fa_mean"] == pytest.approx(fa[mask > 0].mean(), abs=1e-4)
    assert status["md_median_mm2_per_s"] == pytest.approx(EIGENVALUES.mean(), rel=0.02)
    assert status["n_without_signal"] == 0


def test_sidecars_have_axes_units_and_sources_and_header_text_is_not_copied(subject):
    _, _, folder = subject(AFFINES["radiological"], fit="OLS")
    sidecars = {n: json.loads((folder / f"{n}.json").read_text()) for n in NAMES}
    assert sidecars["v1"]["OrientationEncoding"]["Reference"] == "xyz"
    assert sidecars["tensor"]["OrientationEncoding"]["TensorRank"] == 2
    assert sidecars["md"]["Units"] == "mm^2/s"
    for name in ("fa", "md", "ad", "rd", "v1", "tensor"):
        assert sidecars[name]["Model"]["Parameters"]["FitMethod"] == "ols"
    for name in NAMES:
        assert len(sidecars[name]["Sources"]) == 3
        assert b"participant" not in nib.load(folder / f"{name}.nii.gz").header.binaryblock


def test_a_supplied_mask_is_used_unchanged(subject, tmp_path):
    given = np.zeros((24, 26, 22), bool)
    given[8:16, 8:16, 8:14] = True
    volume.save(tmp_path / "given.nii.gz", volume.Volume(given, AFFINES["oblique"]), dtype=np.uint8)
    _, _, folder = subject(AFFINES["oblique"], supplied=tmp_path / "given.nii.gz", mask={"method": "supplied"})
    assert (nib.load(folder / "mask.nii.gz").get_fdata().astype(bool) == given).all()
    assert ((nib.load(folder / "fa.nii.gz").get_fdata() > 0) == given).all()


@pytest.mark.parametrize(
    ("case", "problem"),
    [
        ("other grid", "grid"),
        ("none given", "has no brain mask"),
        ("empty", "no brain"),
        ("no b0", "no b = 0"),
        ("preprocess failed", "stage preprocess failed"),
    ],
)
def test_bad_data_are_a_record_and_empty_files(subject, tmp_path, case, problem):
    shifted = AFFINES["radiological"] + np.array([0, 0, 0, 1.0])[None] * [[1], [0], [0], [0]]
    affine = shifted if case == "other grid" else AFFINES["radiological"]
    volume.save(tmp_path / "given.nii.gz", volume.Volume(np.zeros((24, 26, 22)), affine))
    arguments = {}
    if case in ("other grid", "none given", "empty"):
        arguments["mask"] = {"method": "supplied"}
        arguments["supplied"] = None if case == "none given" else tmp_path / "given.nii.gz"
    if case == "no b0":
        arguments["bvals"] = np.full(34, 1000.0)
    if case == "preprocess failed":
        finding = {"problem": "is torn", "file": "x", "value": "", "remedy": ""}
        record = {"status": "failed", "stage": "preprocess", "finding": finding}
        arguments["preprocess"] = path = tmp_path / "preprocess.json"
        path.write_text(json.dumps(record))
    status, _, folder = subject(AFFINES["radiological"], **arguments)
    assert status["status"] == "failed"
    assert problem in status["finding"]["problem"]
    assert status["finding"]["file"]
    assert all((folder / f"{name}.nii.gz").stat().st_size == 0 for name in NAMES)


def test_a_series_whose_k_space_is_cropped_is_fitted_on_its_coarse_grid(subject):
    status, ball, folder = subject(AFFINES["radiological"], mask={"median_radius": 1}, low_res_factor=2)
    fa, mask = (nib.load(folder / f"{name}.nii.gz") for name in ("fa", "mask"))
    affine, shape = low_res_grid(AFFINES["radiological"], ball.shape, 2)
    assert fa.shape == mask.shape == shape == tuple(n // 2 for n in ball.shape)
    np.testing.assert_allclose(fa.affine, affine, atol=1e-5)
    blocks = ball.reshape(shape[0], 2, shape[1], 2, shape[2], 2).all((1, 3, 5))
    assert 0.5 < np.median(fa.get_fdata()[blocks]) < 0.75
    assert status["status"] == "ok" and status["n_mask"] == (mask.get_fdata() > 0).sum()
