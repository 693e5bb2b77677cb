"""Simulated brains: signal against DIPY, anatomy against published ranges."""

from dataclasses import replace

import numpy as np
import pytest
from dipy.core.gradients import gradient_table
from dipy.reconst.dti import TensorModel
from dipy.sims import voxel

from m2m.diffusion import tensors
from m2m.options import Phantom
from m2m.phantom import anatomy, brain, individuals, shape, signal, simulate
from m2m.phantom.anatomy import CSF, GREY, WHITE
from m2m.phantom.bundles import BUNDLES, NAMES, locate, strands

OPTIONS = Phantom()


@pytest.fixture(scope="module")
def template() -> anatomy.Template:
    return anatomy.load_template()


@pytest.fixture(scope="module")
def subject(template) -> brain.Brain:
    return brain.make_brain(individuals.draw(OPTIONS, "0003"), template, OPTIONS)


@pytest.fixture(scope="module")
def scheme() -> tuple[np.ndarray, np.ndarray]:
    return signal.gradient_scheme(2, 32, 1000.0)


@pytest.fixture(scope="module")
def scan(subject, scheme):
    """The default scan: ground truth, and DIPY's WLS fit of the noisy signal (volume order, T1 axes)."""
    bvals, directions = scheme
    to_t1 = subject.individual.pose.dwi_to_t1
    affine, grid = simulate.grid(3.0, flip_x=True)
    directions = directions @ to_t1[:3, :3].T
    truth = brain.simulate_diffusion(subject, to_t1 @ affine, grid, bvals, directions)
    noisy = signal.add_rician_noise(truth.signal, 1 / 30, np.random.default_rng(1))
    gtab = gradient_table(bvals, bvecs=directions)
    _, fractions, points = brain.voxel_tissue(subject, to_t1 @ affine, grid)
    return truth, TensorModel(gtab, fit_method="WLS").fit(noisy), fractions, subject.to_mni(points)


# The signal


def test_signal_equals_dipys_multi_tensor(scheme):
    bvals, directions = scheme
    rng = np.random.default_rng(0)
    axes = rng.standard_normal((5, 3, 3))
    axes /= np.linalg.norm(axes, axis=-1, keepdims=True)
    fractions = rng.dirichlet([1, 1, 1], size=5)
    along, across = signal.eigenvalues(rng.uniform(0.1, 0.9, (5, 3)), 0.75e-3)
    ours = signal.multi_tensor(bvals, directions, fractions, axes, along, across)
    gtab = gradient_table(bvals, bvecs=directions)
    for n in range(5):
        evals = np.stack([along[n], across[n], across[n]], axis=1)
        theirs, _ = voxel.multi_tensor(gtab, evals, S0=1.0, angles=axes[n], fractions=100 * fractions[n], snr=None)
        np.testing.assert_allclose(ours[n], theirs, rtol=1e-5)


def test_eigenvalues_have_the_anisotropy_and_mean_asked_for():
    fa = np.array([0.0, 0.3, 0.6, 0.9])
    along, across = signal.eigenvalues(fa, 0.7e-3)
    np.testing.assert_allclose((along + 2 * across) / 3, 0.7e-3)
    tensor = np.zeros((4, 6))
    tensor[:, 0], tensor[:, 3], tensor[:, 5] = across, along, across
    np.testing.assert_allclose(tensors.measures(tensor).fa, fa, atol=1e-6)


def test_fit_recovers_a_single_tensor_and_isotropic_voxels_have_no_anisotropy(scheme):
    bvals, directions = scheme
    axis = np.array([[[0.6, 0.0, 0.8]]])
    one = np.ones((1, 1))
    along, across = signal.eigenvalues(0.8 * one, 0.75e-3)
    fitted = signal.fit_tensor(signal.multi_tensor(bvals, directions, one, axis, along, across), bvals, directions)
    truth = across * np.eye(3) + (along - across) * np.outer(axis, axis)
    np.testing.assert_allclose(fitted[0], truth[tensors.ROWS, tensors.COLUMNS], atol=2e-9)
    ball = signal.multi_tensor(bvals, directions, one, axis, 3e-3 * one, 3e-3 * one)
    assert tensors.measures(signal.fit_tensor(ball, bvals, directions)).fa[0] < 1e-3


def test_directions_are_unit_vectors_spread_over_the_half_sphere(scheme):
    bvals, directions = scheme
    assert (np.count_nonzero(bvals == 0), np.count_nonzero(bvals == 1000)) == (2, 32)
    np.testing.assert_allclose(np.linalg.norm(directions[2:], axis=1), 1, atol=1e-12)
    cosines = np.abs(directions[2:] @ directions[2:].T) - np.eye(32)
    assert np.degrees(np.arccos(cosines.max())) > 18  # random directions: about 2
    np.testing.assert_array_equal(signal.gradient_scheme(2, 32, 1000.0)[1], directions)


def test_noise_is_rician():
    rng = np.random.default_rng(0)
    air = signal.add_rician_noise(np.zeros(100_000), 0.1, rng)
    assert air.mean() == pytest.approx(0.1 * np.sqrt(np.pi / 2), rel=0.01)
    bright = signal.add_rician_noise(np.ones(100_000), 0.1, rng)
    assert bright.std() == pytest.approx(0.1, rel=0.02)
    assert bright.mean() == pytest.approx(1 + 0.1**2 / 2, rel=1e-3)


@pytest.mark.parametrize("flip_x", [False, True])
def test_vectors_follow_fsls_convention(flip_x):
    affine, _ = simulate.grid(3.0, flip_x=flip_x)
    # Stored rightwards (positive determinant) FSL flips x; stored leftwards the image does.
    written = signal.fsl_bvecs(np.array([[0.6, 0.0, 0.8]]), affine)
    np.testing.assert_allclose(written[:, 0], [-0.6, 0.0, 0.8])


# Shapes


@pytest.mark.parametrize("label", ["0001", "0002", "0003"])
def test_shapes_never_fold(template, label):
    jacobian = brain.participant_shape(individuals.draw(OPTIONS, label), template, OPTIONS).jacobian()
    assert np.linalg.det(np.moveaxis(jacobian, (0, 1), (-2, -1))).min() > 0.05


def test_a_shape_is_inverted_by_the_backward_flow():
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    velocity = shape.random_velocity(np.random.default_rng(0), (40, 40, 40), 4.0, 6.0)
    forward, backward = shape.flow(velocity, affine), shape.flow(-velocity, affine)
    points = np.random.default_rng(1).uniform(40, 116, (500, 3))
    deformed = forward.pull(points)
    assert np.linalg.norm(deformed - points, axis=1).mean() > 3
    assert np.linalg.norm(backward.pull(deformed) - points, axis=1).mean() < 0.15


def test_deformation_has_the_size_asked_for():
    fields = [shape.random_velocity(np.random.default_rng(i), (40, 40, 40), 4.0, 6.0) for i in range(8)]
    sizes = [np.sqrt((field**2).sum(axis=0).mean()) for field in fields]
    assert np.mean(sizes) == pytest.approx(6, rel=0.15)


@pytest.mark.parametrize("factor", [0.7, 1.6])
def test_ventricles_grow_by_the_factor_asked_for(template, factor):
    still = OPTIONS.model_copy(update={"deformation_mm": 0.0})
    individual = replace(individuals.draw(still, "0001"), ventricles=factor)
    deformed = brain.participant_shape(individual, template, still)
    points = brain.grid_points(template.affine, template.ventricles.shape)[::7]
    fluid = template.ventricles[None].astype(np.float32)
    before, after = (anatomy.sample(fluid, template.affine, p).sum() for p in (points, deformed.pull(points)))
    assert after / before == pytest.approx(factor, rel=0.1)


# Bundles


def test_every_bundle_exists_on_both_sides_or_crosses_the_midline():
    sided = {n.rsplit("_", 1)[0] for n in NAMES if n.endswith(("_left", "_right"))}
    assert len(NAMES) == len(set(NAMES)) == 3 + 2 * len(sided)
    for name in sided:
        left, right = (BUNDLES[NAMES.index(f"{name}_{side}")] for side in ("left", "right"))
        assert strands(left)[0][:, 0].mean() < -1
        np.testing.assert_allclose(strands(left)[0] * [-1, 1, 1], strands(right)[0], atol=1e-9)


def test_bundles_run_through_white_matter(template):
    for bundle in BUNDLES:
        points, _ = strands(bundle)
        white = anatomy.sample(template.tissue[WHITE, None], template.affine, points).mean()
        assert white > 0.6, f"{bundle.name}: {white:.2f}"


@pytest.mark.parametrize(
    ("name", "point", "axis"),
    [
        ("corpus_callosum_splenium", (0, -38, 13), 0),
        ("corpus_callosum_body", (0, -5, 26), 0),
        ("corticospinal_tract_left", (-23.5, -17, 10), 2),
        ("cingulum_right", (9, -8, 38), 1),
        ("superior_longitudinal_fasciculus_left", (-33, -20, 37), 1),
        ("inferior_longitudinal_fasciculus_right", (44, -32, -16), 1),
        ("middle_cerebellar_peduncle_left", (-1, -20, -32), 0),
    ],
)
def test_bundles_run_in_their_anatomical_direction(name, point, axis):
    inside, weight, direction = locate(BUNDLES[NAMES.index(name)], np.array([point], dtype=float))
    assert len(inside) == 1 and weight[0] > 0.5
    assert np.abs(direction[0]).argmax() == axis and np.abs(direction[0, axis]) > 0.85


# A brain


def test_fitted_fa_and_md_are_in_the_published_ranges(scan, template):
    truth, fit, fractions, mni = scan
    md = fit.md * 1e3
    assert fit.fa[truth.labels == 1 + NAMES.index("corpus_callosum_splenium")].mean() > 0.6
    white = fractions[:, WHITE] > 0.5
    assert 0.35 < np.median(fit.fa[white]) < 0.55
    assert 0.6 < np.median(md[white]) < 0.9
    cortex = (fractions[:, GREY] > 0.8) & (np.linalg.norm(mni - [0, -18, 10], axis=1) > 50)
    assert np.median(fit.fa[cortex]) < 0.2
    ventricles = template.ventricles[None].astype(np.float32)
    fluid = anatomy.sample(ventricles, template.affine, mni)[:, 0] * fractions[:, CSF] > 0.9
    assert fluid.sum() > 20
    assert 2.5 < np.median(md[fluid]) < 3.2


def test_the_fit_agrees_with_the_ground_truth(scan):
    truth, fit, fractions, _ = scan
    white = fractions[:, WHITE] > 0.8
    assert np.corrcoef(fit.fa[white], truth.fa[white])[0, 1] > 0.95
    assert np.abs(fit.fa[white] - truth.fa[white]).mean() < 0.05


def test_every_bundle_has_a_region_with_the_fibres_inside(scan):
    truth, *_ = scan
    sizes = np.bincount(truth.labels, minlength=len(NAMES) + 1)[1:]
    assert dict(zip(NAMES, sizes, strict=True)) == {
        name: size for name, size in zip(NAMES, sizes, strict=True) if size >= 8
    }


def test_tensors_rotate_with_the_head(scan, subject, scheme):
    truth, *_ = scan
    bvals, directions = scheme
    rotation = subject.individual.pose.dwi_to_t1[:3, :3]
    in_dwi = signal.fit_tensor(truth.signal, bvals, directions)  # DWI axes
    full = np.empty((len(in_dwi), 3, 3))
    full[:, tensors.ROWS, tensors.COLUMNS] = full[:, tensors.COLUMNS, tensors.ROWS] = in_dwi
    rotated = (rotation @ full @ rotation.T)[:, tensors.ROWS, tensors.COLUMNS]
    np.testing.assert_allclose(rotated, truth.tensor, atol=2e-9)
    assert np.abs(in_dwi - truth.tensor).max() > 1e-6


def test_fibres_follow_the_anatomy_when_the_head_is_rotated(template):
    """Rotated by 40 degrees about z, the callosum's fibres at the midline rotate alike."""
    still = OPTIONS.model_copy(update={"deformation_mm": 0.0})
    individual = replace(individuals.draw(still, "0001"), ventricles=1.0)
    motion = individuals.rigid([0, 0, 40], [5, 0, 0])
    subject = brain.make_brain(replace(individual, to_brain=np.linalg.inv(motion)), template, still)
    splenium = np.array([0.0, -38.0, 13.0])
    point = (motion[:3, :3] @ splenium + motion[:3, 3])[None]
    np.testing.assert_allclose(subject.to_mni(point)[0], splenium, atol=1e-3)
    axis = subject.axes_to_t1(point, np.array([[[1.0, 0, 0]]], dtype=np.float32))[0, 0]
    np.testing.assert_allclose(axis, motion[:3, :3] @ [1, 0, 0], atol=1e-3)


def test_myelin_raises_t1_in_white_matter_and_not_in_grey_matter(subject):
    affine, grid = simulate.grid(6.0)
    tissue = subject.tissue(brain.grid_points(affine, grid)).reshape(*grid, 3)
    individual = subject.individual
    images = [
        brain.simulate_t1(
            replace(subject, individual=replace(individual, myelin=individual.myelin + more)),
            affine,
            grid,
            np.random.default_rng(0),
            1e9,
        )
        for more in (0.0, 0.1)
    ]
    white, grey = tissue[..., WHITE] > 0.99, tissue[..., WHITE] < 0.001
    gain = images[1][white] / images[0][white] - 1
    assert gain.mean() == pytest.approx(0.1 * brain.T1_PER_MYELIN, rel=0.1)
    np.testing.assert_allclose(images[1][grey], images[0][grey], atol=1e-6)
    contrast = images[0][white].mean() / images[0][tissue[..., GREY] > 0.99].mean()
    assert 1.2 < contrast < 1.6
