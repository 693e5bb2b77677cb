"""Image metrics against scikit-image and known answers; intervals against simulated cohorts."""

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from m2m.diffusion.tensors import from_matrix
from m2m.evaluate import metrics, statistics

SHAPE = (24, 26, 5)


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    true = rng.random(SHAPE)
    return true, np.clip(true + rng.normal(0, 0.1, SHAPE), 0, 1)


@pytest.fixture
def mask():
    inside = np.zeros(SHAPE, bool)
    inside[4:20, 5:22, 1:4] = True
    return inside


def test_psnr_equals_scikit_image(images):
    true, synthetic = images
    everywhere = np.ones(SHAPE, bool)
    expected = peak_signal_noise_ratio(true, synthetic, data_range=1)
    assert metrics.psnr(true, synthetic, everywhere) == pytest.approx(expected, rel=1e-9)


def test_ssim_away_from_the_border_equals_scikit_image_slice_by_slice(images):
    true, synthetic = images
    inner = metrics.ssim_map(true, synthetic)[5:-5, 5:-5]
    for k in range(SHAPE[2]):
        expected = structural_similarity(
            true[..., k], synthetic[..., k], data_range=1, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False,
        )  # fmt: skip
        assert inner[..., k].mean() == pytest.approx(expected, rel=1e-9)


def test_two_empty_slices_are_equal_and_an_empty_one_is_not_equal_to_a_full_one(images):
    true, synthetic = (image.copy() for image in images)
    true[..., 0] = synthetic[..., 0] = 0
    true[..., 1] = 0
    similarity = metrics.ssim_map(true, synthetic)
    assert (similarity[..., 0] == 1).all()
    assert similarity[..., 1].mean() < 0.1


def test_ssim_of_a_slice_smaller_than_its_window_names_both_sizes():
    with pytest.raises(ValueError, match="at least 11 x 11 voxels, got 8 x 26"):
        metrics.ssim_map(np.zeros((8, 26, 2)), np.zeros((8, 26, 2)))


def test_nothing_outside_the_target_mask_changes_a_metric(images, mask):
    true, synthetic = images
    regions = {"slice": np.ones(SHAPE, bool), "brain": mask}
    before, similarity = metrics.region_metrics(true, synthetic, mask, regions)
    profile = metrics.slice_profile(true, synthetic, mask, similarity, 3.0)
    true, synthetic = np.where(mask, true, 0.7), np.where(mask, synthetic, 0.2)
    after, similarity = metrics.region_metrics(true, synthetic, mask, regions)
    assert after == before
    assert metrics.slice_profile(true, synthetic, mask, similarity, 3.0) == profile


def test_a_voxel_inside_the_mask_changes_every_metric(images, mask):
    true, synthetic = images
    before, _ = metrics.region_metrics(true, synthetic, mask, {"brain": mask})
    synthetic = synthetic.copy()
    synthetic[10, 10, 2] += 0.5
    after, _ = metrics.region_metrics(true, synthetic, mask, {"brain": mask})
    assert all(after["brain"][m] != before["brain"][m] for m in ("psnr", "ssim", "mae", "pearson"))


def test_metrics_scale_with_the_data_range(images, mask):
    true, synthetic = images
    unit, _ = metrics.region_metrics(true, synthetic, mask, {"brain": mask})
    scaled, _ = metrics.region_metrics(
        255 * true, 255 * synthetic, mask, {"brain": mask}, data_range=255
    )
    for metric in ("psnr", "ssim", "pearson"):
        assert scaled["brain"][metric] == pytest.approx(unit["brain"][metric], rel=1e-6)
    assert scaled["brain"]["mae"] == pytest.approx(255 * unit["brain"]["mae"], rel=1e-6)


def test_equal_images_are_perfect(images, mask):
    true, _ = images
    values, _ = metrics.region_metrics(true, true.copy(), mask, {"brain": mask})
    assert values["brain"] == {
        "psnr": np.inf, "ssim": pytest.approx(1), "mae": 0, "pearson": pytest.approx(1),
        "n_voxels": mask.sum(),
    }  # fmt: skip


def test_an_empty_region_and_a_constant_map_have_no_value_rather_than_a_wrong_one(images, mask):
    true, _ = images
    empty = np.zeros(SHAPE, bool)
    values, _ = metrics.region_metrics(
        true, np.full(SHAPE, 0.5), mask, {"wm": empty, "brain": mask}
    )
    assert all(np.isnan(values["wm"][m]) for m in ("psnr", "ssim", "mae", "pearson"))
    assert np.isnan(values["brain"]["pearson"])


def test_the_mean_error_is_a_shift_with_its_sign_and_noise_around_the_truth_has_none(images, mask):
    true, _ = images
    for shift in (0.1, -0.25):
        shifted = np.where(mask, true + shift, 9.0)  # what lies outside does not count
        assert metrics.mean_error(true, shifted, mask) == pytest.approx(shift)
        assert metrics.mean_error(shifted, true, mask) == pytest.approx(-shift)
        assert metrics.mean_absolute_error(true, shifted, mask) == pytest.approx(abs(shift))
    waves = np.where(np.indices(SHAPE).sum(0) % 2, 0.2, -0.2)
    even = np.zeros(SHAPE, bool)
    even[4:8, 4:8, 1:3] = True
    assert metrics.mean_error(true, true + waves, even) == pytest.approx(0, abs=1e-12)
    assert np.isnan(metrics.mean_error(true, true, np.zeros(SHAPE, bool)))


def test_concordance_of_known_series():
    x = np.array([1.0, 2.0, 3.0, 4.0])
    assert metrics.concordance(x, x) == pytest.approx(1)
    assert metrics.concordance(x, -x + 5) == pytest.approx(-1)
    # A shift d leaves Pearson's r at 1 and gives 2 var / (2 var + d^2).
    assert metrics.concordance(x, x + 1) == pytest.approx(2 * 1.25 / (2 * 1.25 + 1))
    assert metrics.concordance(x, 2 * x) == pytest.approx(2 * 2.5 / (1.25 + 5 + 2.5**2))
    assert np.isnan(metrics.concordance([1.0], [1.0]))


def test_the_profile_counts_millimetres_from_the_slice_at_the_brains_centre():
    shape = (16, 16, 9)
    mask = np.zeros(shape, bool)
    mask[:, :, 2:7] = True
    true = np.full(shape, 0.5)
    synthetic = true.copy()
    synthetic[..., 6] += 0.1
    _, similarity = metrics.region_metrics(true, synthetic, mask, {})
    rows = metrics.slice_profile(true, synthetic, mask, similarity, 2.5)
    assert [row["offset_mm"] for row in rows] == [-5, -2.5, 0, 2.5, 5]
    assert [row["mae"] for row in rows] == pytest.approx([0, 0, 0, 0, 0.1])
    assert rows[-1]["psnr"] == pytest.approx(20)
    assert rows[-1]["ssim"] < rows[0]["ssim"] == 1


def test_roi_means_are_taken_inside_the_mask_and_small_regions_left_out():
    labels = np.zeros((6, 6, 6), int)
    labels[:3], labels[5, 5, 5] = 1, 7
    mask = np.ones(labels.shape, bool)
    mask[2] = False
    true = np.where(mask, 0.4, 9.0)
    rois = metrics.roi_means(true, true / 2, labels, mask, {1: "genu"}, min_voxels=8)
    assert [roi.name for roi in rois] == ["genu"]
    assert rois[0].n_voxels == 2 * 36
    assert (rois[0].true, rois[0].synthetic) == pytest.approx((0.4, 0.2))


def test_people_are_identified_by_their_own_profile_and_not_by_what_all_share():
    rng = np.random.default_rng(1)
    shared = 10 * rng.random(30)
    own = rng.normal(size=(8, 30))
    assert metrics.identified(shared + own, 2 * shared + 0.3 * own + 0.1).all()
    assert not metrics.identified(shared + own, shared + own[::-1]).any()
    assert not metrics.identified(shared + own, np.tile(shared, (8, 1))).any()


def test_correlation_across_people_equals_numpy_region_by_region():
    rng = np.random.default_rng(2)
    true, synthetic = rng.normal(size=(2, 9, 4))
    synthetic[:, 3] = 0.5
    r = metrics.correlation_across_people(true, synthetic)
    expected = [np.corrcoef(true[:, i], synthetic[:, i])[0, 1] for i in range(3)]
    assert r[:3] == pytest.approx(expected)
    assert np.isnan(r[3])


def test_bootstrap_intervals_cover_the_true_mean_about_95_times_in_100():
    rng = np.random.default_rng(3)
    estimates = [statistics.bootstrap_mean(rng.normal(2, 1, 30), 400, seed=1) for _ in range(200)]
    covered = np.mean([e.low <= 2 <= e.high for e in estimates])
    assert 0.89 <= covered <= 0.99


def test_bootstrap_is_seeded_and_leaves_undefined_values_out():
    values = np.array([0.2, 0.4, np.nan, 0.9, 0.5])
    first, second = (statistics.bootstrap_mean(values, 300, seed=4) for _ in range(2))
    assert first == second != statistics.bootstrap_mean(values, 300, seed=5)
    assert (first.value, first.n_subjects) == (pytest.approx(0.5), 4)


def test_fewer_than_three_subjects_have_a_mean_and_no_interval():
    assert statistics.bootstrap_mean([1.0, 2.0], 100, 1) == statistics.Estimate(1.5, None, None, 2)
    assert statistics.bootstrap_mean([], 100, 1).n_subjects == 0


def test_a_paired_difference_is_sharper_than_the_subjects_are_alike():
    rng = np.random.default_rng(5)
    subject = rng.normal(0, 1, 20)
    a, b = subject + 0.1, subject + rng.normal(0, 0.02, 20)
    paired = statistics.paired_difference(a, b, 500, 1)
    alone = statistics.bootstrap_mean(a, 500, 1)
    assert paired.value == pytest.approx((a - b).mean())
    assert paired.high - paired.low < (alone.high - alone.low) / 10


def test_the_band_ignores_slices_that_somebody_lacks():
    curves = np.array([[1.0, 2.0], [3.0, np.nan], [5.0, 4.0]])
    mean, low, high = statistics.band(curves, 200, 1)
    assert mean == pytest.approx([3, 3])
    assert (low <= mean).all() and (mean <= high).all()
    assert np.isnan(statistics.band(curves[:2], 200, 1)[1]).all()


def test_dice_of_known_sets():
    a, b = np.zeros((2, 10), bool)
    assert np.isnan(metrics.dice(a, b))
    a[:4], b[2:8] = True, True
    assert metrics.dice(a, b) == pytest.approx(2 * 2 / (4 + 6))
    assert metrics.dice(a, a) == 1
    assert metrics.dice(a, ~a) == 0


def test_the_angle_of_two_axes_is_the_turn_between_them_whatever_their_signs():
    turn = np.radians(25)
    true = np.zeros((4, 4, 4, 3))
    true[..., 0] = 1
    turned = np.zeros_like(true)
    turned[..., 0], turned[..., 1] = -np.cos(turn), -np.sin(turn)
    region = np.ones(true.shape[:3], bool)
    assert metrics.median_angle_deg(true, turned, region) == pytest.approx(25)
    assert metrics.median_angle_deg(true, 0 * true, region) == pytest.approx(90)
    assert np.isnan(metrics.median_angle_deg(true, turned, ~region))


def test_random_axes_are_sixty_degrees_apart_in_the_median():
    axes = np.random.default_rng(0).normal(size=(2, 20, 20, 20, 3))
    a, b = axes / np.linalg.norm(axes, axis=-1, keepdims=True)
    region = np.ones(a.shape[:3], bool)
    assert metrics.median_angle_deg(a, b, region) == pytest.approx(60, abs=1.5)


def test_the_log_distance_of_scaled_tensors_is_the_logarithm_of_the_factor():
    region = np.ones((2, 2, 2), bool)
    rng = np.random.default_rng(1)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    true = np.tile(from_matrix(rotation @ np.diag([1.7, 0.5, 0.3]) @ rotation.T), (2, 2, 2, 1))
    true *= 1e-3
    assert metrics.log_distance(true, true, region) == pytest.approx(0, abs=1e-9)
    # log(2 D) = log D + log 2 I, whose Frobenius norm is sqrt(3) log 2.
    distance = metrics.log_distance(true, 2 * true, region)
    assert distance == pytest.approx(np.sqrt(3) * np.log(2))
    assert metrics.log_distance(2 * true, true, region) == pytest.approx(distance)


def test_sharpness_is_the_factor_that_contrast_was_multiplied_by(images, mask):
    true, _ = images
    assert metrics.sharpness_ratio(true, true, mask) == pytest.approx(1)
    assert metrics.sharpness_ratio(true, 0.3 + 0.6 * true, mask) == pytest.approx(0.6)
    assert np.isnan(metrics.sharpness_ratio(np.ones(SHAPE), true, mask))
    assert np.isnan(metrics.sharpness_ratio(true, true, np.zeros(SHAPE, bool)))


def test_sharpness_does_not_see_the_step_at_the_edge_of_the_mask(images, mask):
    true, synthetic = images
    inside = metrics.sharpness_ratio(true, synthetic, mask)
    masked = (np.where(mask, image, 9) for image in (true, synthetic))
    assert metrics.sharpness_ratio(*masked, mask) == inside


def test_histograms_that_are_shifted_are_as_far_apart_as_the_shift(images, mask):
    true, _ = images
    shuffled = true.copy()
    shuffled[mask] = np.random.default_rng(3).permutation(true[mask])
    assert metrics.histogram_distance(true, shuffled, mask) == pytest.approx(0, abs=1e-12)
    assert metrics.histogram_distance(true, shuffled - 0.07, mask) == pytest.approx(0.07)
    assert np.isnan(metrics.histogram_distance(true, true, np.zeros(SHAPE, bool)))


def test_holm_multiplies_by_the_tests_that_are_left_and_never_falls():
    # By hand: .01 x 4, .02 x 3, then .03 x 2 = .06, and .04 x 1 may not fall below that.
    corrected = statistics.holm([0.04, 0.01, 0.03, 0.02])
    assert corrected == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert statistics.holm([0.7, 0.6]) == pytest.approx([1, 1])


def test_a_test_that_says_nothing_does_not_count_in_holms_family():
    corrected = statistics.holm([0.01, np.nan, 0.04])
    assert corrected[[0, 2]] == pytest.approx([0.02, 0.04])
    assert np.isnan(corrected[1])
    assert statistics.holm([]).size == 0


def test_nineteen_of_twenty_normal_differences_lie_within_the_limits_of_agreement():
    differences = np.random.default_rng(4).normal(0.3, 0.1, 20000)
    bias, low, high = statistics.limits_of_agreement(differences)
    assert (bias, low, high) == pytest.approx((0.3, 0.3 - 0.196, 0.3 + 0.196), abs=5e-3)
    assert np.mean((differences > low) & (differences < high)) == pytest.approx(0.95, abs=0.01)
    assert np.isnan(statistics.limits_of_agreement([0.2])[1:]).all()
