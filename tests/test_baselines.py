"""The two baselines recover simulated maps and simulated lines."""

import numpy as np
import pytest
from nibabel.affines import apply_affine

from m2m.diffusion.tensors import nearest_rotation, rotate
from m2m.io.volume import Volume
from m2m.models.baselines import MeasuredMap, fit_line, fit_mean_map, predict_line, predict_mean_map
from m2m.structural.template import load_template

SPACING_MM = 8.0
SHAPE = (24, 28, 24)
AFFINE = np.array([[SPACING_MM, 0, 0, -92], [0, SPACING_MM, 0, -120], [0, 0, SPACING_MM, -80], [0, 0, 0, 1.0]])


def random_affine(seed):
    """An affine from the participant's world mm to the template: scaled, rotated, translated."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(np.eye(3) + 0.05 * rng.standard_normal((3, 3)))
    to_mni = np.eye(4)
    to_mni[:3, :3] = (rotation * np.sign(np.diag(rotation))) * rng.uniform(0.9, 1.1)
    to_mni[:3, 3] = rng.uniform(-6, 6, 3)
    return to_mni


def known_map(to_mni):
    """A smooth function of template coordinates, sampled on a participant's grid."""
    voxels = np.moveaxis(np.indices(SHAPE), 0, -1)
    x, y, z = np.moveaxis(apply_affine(to_mni @ AFFINE, voxels), -1, 0)
    return 0.4 + 0.15 * np.sin(x / 30) + 0.1 * np.cos(y / 40) + 0.05 * np.sin(z / 35)


def subject(seed):
    to_mni = random_affine(seed)
    return MeasuredMap(Volume(known_map(to_mni), AFFINE), np.ones(SHAPE, bool), to_mni)


def test_the_mean_of_equal_maps_in_template_space_predicts_that_map_for_a_new_participant():
    tensors = fit_mean_map((subject(seed) for seed in range(4)), SPACING_MM)
    to_mni = random_affine(99)
    found = predict_mean_map(tensors, AFFINE, SHAPE, to_mni).image
    inner = (slice(4, -4),) * 3
    assert np.abs(found - known_map(to_mni))[inner].max() < 0.01


def test_the_mean_of_identical_maps_on_the_template_grid_is_exact():
    template = load_template("brain", SPACING_MM)
    data = np.random.default_rng(0).random(template.shape).astype(np.float32)
    all_subjects = [MeasuredMap(Volume(data, template.affine), np.ones(template.shape, bool), np.eye(4))] * 3
    tensors = fit_mean_map(all_subjects, SPACING_MM)
    found = predict_mean_map(tensors, template.affine, template.shape, np.eye(4)).image
    assert np.allclose(found, data, atol=1e-6)


def test_each_participant_counts_where_the_target_was_measured():
    template = load_template("brain", SPACING_MM)
    left, right = (np.ones(template.shape, bool) for _ in range(2))
    left[10:], right[:8] = False, False
    subjects = [
        MeasuredMap(Volume(np.full(template.shape, value), template.affine), mask, np.eye(4))
        for value, mask in ((0.2, left), (0.6, right))
    ]
    mean = fit_mean_map(subjects, SPACING_MM)["mean"]
    assert np.allclose(mean[:8], 0.2) and np.allclose(mean[8:10], 0.4)
    assert np.allclose(mean[10:], 0.6)


def test_the_mean_map_has_the_standard_deviation_over_participants():
    template = load_template("brain", SPACING_MM)
    everywhere = np.ones(template.shape, bool)
    subjects = [
        MeasuredMap(Volume(np.full(template.shape, value), template.affine), everywhere, np.eye(4))
        for value in (0.1, 0.4, 0.7)
    ]
    tensors = fit_mean_map(subjects, SPACING_MM)
    assert np.allclose(tensors["sd"], np.std([0.1, 0.4, 0.7]), atol=1e-6)
    found = predict_mean_map(tensors, template.affine, template.shape, np.eye(4))
    assert np.allclose(found.sds["subjects"][5:9, 5:9, 5:9], np.std([0.1, 0.4, 0.7]), atol=1e-4)


def test_a_voxel_that_few_participants_cover_takes_its_nearest_neighbours_value():
    template = load_template("brain", SPACING_MM)
    inner = np.zeros(template.shape, bool)
    inner[6:12, 6:12, 6:12] = True
    everywhere = np.ones_like(inner)
    image = np.where(inner, 0.5, 0.9)
    subjects = [MeasuredMap(Volume(image, template.affine), m, np.eye(4)) for m in (inner, inner, everywhere)]
    mean = fit_mean_map(subjects, SPACING_MM)["mean"]
    assert np.allclose(mean, 0.5), "one of three covers the outside: fewer than half"


def test_no_participant_to_average_is_an_error():
    with pytest.raises(ValueError, match="half of the 0 participants"):
        fit_mean_map([], SPACING_MM)


def test_the_line_recovers_known_coefficients_for_any_split_into_participants():
    rng = np.random.default_rng(1)
    source = rng.random(3000)
    target = 0.1 + 0.4 * source + 0.01 * rng.standard_normal(3000)
    parts = np.split(source, [100, 1700]), np.split(target, [100, 1700])
    found = fit_line(zip(*parts, strict=True))
    slope, intercept = np.polyfit(source, target, 1)
    assert found["slope"] == pytest.approx(slope, abs=1e-9) == pytest.approx(0.4, abs=0.01)
    assert found["intercept"] == pytest.approx(intercept, abs=1e-9)
    grid = source[:8].reshape(2, 2, 2)
    assert np.allclose(predict_line(found, grid).image, intercept + slope * grid)


def test_a_source_that_does_not_vary_is_an_error():
    with pytest.raises(ValueError, match="does not vary over 5 voxels"):
        fit_line([(np.full(5, 0.5), np.arange(5.0))])


def test_the_mean_tensor_is_rotated_into_each_participant_s_axes():
    """All participants have the same tensor in template axes; it is predicted in a new one's axes."""
    known = np.array([1.6e-3, 2e-4, -1e-4, 4e-4, 1e-4, 3e-4])

    def tensors_of(to_mni):
        return rotate(known, nearest_rotation(np.linalg.inv(to_mni)[:3, :3]))

    def participant(seed):
        to_mni = random_affine(seed)
        field = np.broadcast_to(tensors_of(to_mni), (*SHAPE, 6)).astype(np.float32)
        return MeasuredMap(Volume(field, AFFINE), np.ones(SHAPE, bool), to_mni)

    fitted = fit_mean_map((participant(seed) for seed in range(3)), SPACING_MM)
    to_mni = random_affine(99)
    found = predict_mean_map(fitted, AFFINE, SHAPE, to_mni).image
    assert np.allclose(found[8, 10, 8], tensors_of(to_mni), rtol=1e-3)
    assert not np.allclose(found[8, 10, 8], known, rtol=0.01), "heads are rotated"


def test_each_channel_has_its_own_line(rng):
    source = rng.random(50)
    target = np.column_stack([2 * source + 1, -source])
    line = fit_line([(source, target)])
    assert np.allclose(predict_line(line, source.reshape(5, 10, 1)).image[2, 3, 0], target[23])
