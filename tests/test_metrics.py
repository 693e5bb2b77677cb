"""Image metrics against scikit-image and known answers; intervals against simulated cohorts."""

import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from m2m.diffusion.tensors import from_matrix
from m2m.evaluate import metrics, multiscale, rates, statistics
from m2m.evaluate.identification import correlation_across_participants, identified
from m2m.evaluate.units import central_slices

SHAPE = (24, 26, 5)


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    reference = rng.random(SHAPE)
    return reference, np.clip(reference + rng.normal(0, 0.1, SHAPE), 0, 1)


@pytest.fixture
def mask():
    inside = np.zeros(SHAPE, bool)
    inside[4:20, 5:22, 1:4] = True
    return inside


def test_psnr_equals_scikit_image(images):
    reference, synthetic = images
    everywhere = np.ones(SHAPE, bool)
    expected = peak_signal_noise_ratio(reference, synthetic, data_range=1)
    assert metrics.psnr(reference, synthetic, everywhere) == pytest.approx(expected, rel=1e-9)


def test_ssim_away_from_the_border_equals_scikit_image_slice_by_slice(images):
    reference, synthetic = images
    inner = metrics.ssim_map(reference, synthetic)[5:-5, 5:-5]
    for k in range(SHAPE[2]):
        expected = structural_similarity(
            reference[..., k],
            synthetic[..., k],
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert inner[..., k].mean() == pytest.approx(expected, rel=1e-9)


def test_two_empty_slices_are_equal_and_an_empty_one_is_not_equal_to_a_full_one(images):
    reference, synthetic = (image.copy() for image in images)
    reference[..., 0] = synthetic[..., 0] = 0
    reference[..., 1] = 0
    similarity = metrics.ssim_map(reference, synthetic)
    assert (similarity[..., 0] == 1).all()
    assert similarity[..., 1].mean() < 0.1


def test_ssim_of_a_slice_smaller_than_its_window_names_both_sizes():
    with pytest.raises(ValueError, match="at least 11 x 11 voxels, got 8 x 26"):
        metrics.ssim_map(np.zeros((8, 26, 2)), np.zeros((8, 26, 2)))


@pytest.mark.parametrize(("side", "scales"), [(12, 1), (25, 2), (44, 3)])
def test_ms_ssim_equals_monai_s_with_as_many_scales_as_hold_a_window(side, scales):
    torch, monai = pytest.importorskip("torch"), pytest.importorskip("monai.metrics")
    rng = np.random.default_rng(3)
    reference = gaussian_filter(rng.random((side, side + 2, side + 1)), 2)
    synthetic = np.clip(reference + rng.normal(0, 0.05, reference.shape), 0, 1)
    weights = np.array(multiscale.WEIGHTS[:scales])
    oracle = monai.MultiScaleSSIMMetric(spatial_dims=3, data_range=1.0, weights=tuple(weights / weights.sum()))
    expected = oracle(*(torch.from_numpy(image)[None, None] for image in (synthetic, reference))).item()
    assert multiscale.ms_ssim(reference, synthetic) == pytest.approx(expected, abs=1e-4)
    assert expected < 0.999 and multiscale.ms_ssim(reference, reference) == pytest.approx(1)


def test_ms_ssim_of_a_volume_smaller_than_its_window_names_both_sizes():
    with pytest.raises(ValueError, match=r"at least 11 voxels along each axis, got \(12, 12, 8\)"):
        multiscale.ms_ssim(np.zeros((12, 12, 8)), np.zeros((12, 12, 8)))


def test_central_slices_are_whole_and_in_the_middle_of_the_brain():
    brain = np.zeros((6, 7, 20), bool)
    brain[2:4, 3, 5:15] = True
    central = central_slices(brain, 0.34)
    assert central.any((0, 1)).nonzero()[0].tolist() == [8, 9, 10, 11] and central.sum() == 4 * 42


def test_nothing_outside_the_target_mask_changes_a_metric(images, mask):
    reference, synthetic = images
    regions = {"slice": np.ones(SHAPE, bool), "brain": mask}
    before, similarity = metrics.region_metrics(reference, synthetic, mask, regions)
    profile = metrics.slice_profile(reference, synthetic, mask, similarity, 3.0)
    reference, synthetic = np.where(mask, reference, 0.7), np.where(mask, synthetic, 0.2)
    after, similarity = metrics.region_metrics(reference, synthetic, mask, regions)
    assert after == before
    assert metrics.slice_profile(reference, synthetic, mask, similarity, 3.0) == profile


def test_a_voxel_inside_the_mask_changes_every_metric(images, mask):
    reference, synthetic = images
    before, _ = metrics.region_metrics(reference, synthetic, mask, {"brain": mask})
    synthetic = synthetic.copy()
    synthetic[10, 10, 2] += 0.5
    after, _ = metrics.region_metrics(reference, synthetic, mask, {"brain": mask})
    assert all(after["brain"][m] != before["brain"][m] for m in ("psnr", "ssim", "mae", "pearson"))


def test_metrics_scale_with_the_data_range(images, mask):
    reference, synthetic = images
    unit, _ = metrics.region_metrics(reference, synthetic, mask, {"brain": mask})
    scaled, _ = metrics.region_metrics(255 * reference, 255 * synthetic, mask, {"brain": mask}, data_range=255)
    for metric in ("psnr", "ssim", "pearson"):
        assert scaled["brain"][metric] == pytest.approx(unit["brain"][metric], rel=1e-6)
    assert scaled["brain"]["mae"] == pytest.approx(255 * unit["brain"]["mae"], rel=1e-6)


def test_equal_images_are_perfect(images, mask):
    reference, _ = images
    values, _ = metrics.region_metrics(reference, reference.copy(), mask, {"brain": mask})
    assert values["brain"] == {
        "psnr": np.inf,
        "ssim": pytest.approx(1),
        "mae": 0,
        "pearson": pytest.approx(1),
        "n_voxels": mask.sum(),
    }


def test_an_empty_region_and_a_constant_map_have_no_value_rather_than_a_wrong_one(images, mask):
    reference, _ = images
    empty = np.zeros(SHAPE, bool)
    values, _ = metrics.region_metrics(reference, np.full(SHAPE, 0.5), mask, {"wm": empty, "brain": mask})
    assert all(np.isnan(values["wm"][m]) for m in ("psnr", "ssim", "mae", "pearson"))
    assert np.isnan(values["brain"]["pearson"])


def test_the_mean_error_is_a_shift_with_its_sign_and_zero_mean_noise_has_none(images, mask):
    reference, _ = images
    for shift in (0.1, -0.25):
        shifted = np.where(mask, reference + shift, 9.0)  # what lies outside does not count
        assert metrics.mean_error(reference, shifted, mask) == pytest.approx(shift)
        assert metrics.mean_error(shifted, reference, mask) == pytest.approx(-shift)
        assert metrics.mean_absolute_error(reference, shifted, mask) == pytest.approx(abs(shift))
    waves = np.where(np.indices(SHAPE).sum(0) % 2, 0.2, -0.2)
    even = np.zeros(SHAPE, bool)
    even[4:8, 4:8, 1:3] = True
    assert metrics.mean_error(reference, reference + waves, even) == pytest.approx(0, abs=1e-12)
    assert np.isnan(metrics.mean_error(reference, reference, np.zeros(SHAPE, bool)))


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
    reference = np.full(shape, 0.5)
    synthetic = reference.copy()
    synthetic[..., 6] += 0.1
    _, similarity = metrics.region_metrics(reference, synthetic, mask, {})
    rows = metrics.slice_profile(reference, synthetic, mask, similarity, 2.5)
    assert [row["offset_mm"] for row in rows] == [-5, -2.5, 0, 2.5, 5]
    assert [row["mae"] for row in rows] == pytest.approx([0, 0, 0, 0, 0.1])
    assert rows[-1]["psnr"] == pytest.approx(20)
    assert rows[-1]["ssim"] < rows[0]["ssim"] == 1


def test_roi_means_are_taken_inside_the_mask_and_small_regions_left_out():
    labels = np.zeros((6, 6, 6), int)
    labels[:3], labels[5, 5, 5] = 1, 7
    mask = np.ones(labels.shape, bool)
    mask[2] = False
    reference = np.where(mask, 0.4, 9.0)
    rois = metrics.roi_means(reference, reference / 2, labels, mask, {1: "genu"}, min_voxels=8)
    assert [roi.name for roi in rois] == ["genu"]
    assert rois[0].n_voxels == 2 * 36
    assert (rois[0].reference, rois[0].synthetic) == pytest.approx((0.4, 0.2))


def test_participants_are_identified_by_their_own_profile_and_not_by_what_all_share():
    rng = np.random.default_rng(1)
    shared = 10 * rng.random(30)
    own = rng.normal(size=(8, 30))
    assert (identified(shared + own, 2 * shared + 0.3 * own + 0.1) == 1).all()
    assert (identified(shared + own, shared + own[::-1]) == 0).all()


def test_profiles_that_are_equally_near_identify_by_chance():
    own = np.random.default_rng(1).normal(size=(8, 30))
    assert identified(own, np.tile(own[0], (8, 1))) == pytest.approx(1 / 8)
    # Participants 0 and 1 have one measured profile: each is identified in one of two draws.
    twins = own.copy()
    twins[1] = twins[0]
    assert identified(twins, 0.3 * twins) == pytest.approx([0.5, 0.5, 1, 1, 1, 1, 1, 1])


def test_correlation_across_participants_equals_numpy_region_by_region():
    rng = np.random.default_rng(2)
    reference, synthetic = rng.normal(size=(2, 9, 4))
    synthetic[:, 3] = 0.5
    r = correlation_across_participants(reference, synthetic)
    expected = [np.corrcoef(reference[:, i], synthetic[:, i])[0, 1] for i in range(3)]
    assert r[:3] == pytest.approx(expected)
    assert np.isnan(r[3])


def test_an_interval_of_a_mean_is_that_of_students_t():
    values = np.array([0.2, 0.4, np.nan, 0.9, 0.5])
    found = statistics.student_mean(values)
    known = stats.t.interval(0.95, 3, 0.5, stats.sem([0.2, 0.4, 0.9, 0.5]))
    assert (found.low, found.high) == pytest.approx(known)
    assert (found.value, found.n_subjects) == (pytest.approx(0.5), 4)


@pytest.mark.parametrize("n", [3, 5, 8, 20])
def test_intervals_cover_the_population_mean_95_times_in_100_with_few_subjects(n):
    """BCa bootstrap intervals covered it 73 times with 3 subjects, 88 times with 8."""
    samples = np.random.default_rng(n).normal(2, 1, (2000, n))
    estimates = [statistics.student_mean(values) for values in samples]
    assert np.mean([e.low <= 2 <= e.high for e in estimates]) == pytest.approx(0.95, abs=0.015)


def test_equal_models_are_called_different_in_5_of_100_cohorts():
    a, b = np.random.default_rng(3).normal(size=(2, 2000, 8))
    p = np.array([statistics.paired_p(*pair) for pair in zip(a, b, strict=True)])
    assert np.mean(p <= statistics.ALPHA) == pytest.approx(0.05, abs=0.015)
    excluded = [e.low > 0 or e.high < 0 for e in map(statistics.paired_difference, a, b)]
    assert (np.array(excluded) == (p <= 0.05)).all()  # interval and p agree


def test_fewer_than_three_subjects_have_a_mean_and_no_interval():
    assert statistics.student_mean([1.0, 2.0]) == statistics.Estimate(1.5, None, None, 2)
    assert statistics.student_mean([]).n_subjects == 0
    assert np.isnan(statistics.paired_p([1, 2], [2, 4])) and np.isnan(statistics.paired_p([1, 2, 3], [1, 2, 3]))


def test_a_paired_difference_is_sharper_than_the_subjects_are_alike():
    rng = np.random.default_rng(5)
    subject = rng.normal(0, 1, 20)
    a, b = subject + 0.1, subject + rng.normal(0, 0.02, 20)
    paired = statistics.paired_difference(a, b)
    alone = statistics.student_mean(a)
    assert paired.value == pytest.approx((a - b).mean())
    assert paired.high - paired.low < (alone.high - alone.low) / 10


def test_the_band_ignores_slices_that_a_participant_lacks():
    curves = np.array([[1.0, 2.0], [3.0, np.nan], [5.0, 4.0]])
    mean, low, high = statistics.band(curves)
    assert mean == pytest.approx([3, 3])
    assert (low[0], high[0]) == pytest.approx(stats.t.interval(0.95, 2, 3, 2 / np.sqrt(3)))
    assert np.isnan([low[1], high[1]]).all()  # two values
    assert np.isnan(statistics.band(curves[:2])[1]).all()


def test_the_jackknife_covers_a_correlation_with_few_participants():
    rng = np.random.default_rng(4)
    covered = []
    for _ in range(400):
        x, noise = rng.normal(size=(2, 8))
        y = 0.8 * x + 0.6 * noise
        found = statistics.jackknife_correlation(lambda index, x=x, y=y: np.corrcoef(x[index], y[index])[0, 1], 8)
        covered.append(found.low <= 0.8 <= found.high)
    assert 0.92 <= np.mean(covered) <= 0.98
    assert statistics.jackknife_correlation(lambda index: 0.5, 3).low is None


def test_8_of_8_may_be_a_rate_of_63_in_100():
    assert rates.rate([1] * 8) == statistics.Estimate(1, pytest.approx(0.6306, abs=1e-4), 1, 8)
    assert rates.rate([0] * 8).high == pytest.approx(1 - 0.6306, abs=1e-4)
    known = stats.binomtest(33, 40).proportion_ci(method="exact")
    assert (rates.rate([1] * 33 + [0] * 7).low, rates.rate([1] * 33 + [0] * 7).high) == pytest.approx(tuple(known))
    assert rates.rate([1, 1]).low is None


def test_two_rates_of_8_of_8_may_differ_by_37_in_100():
    found = rates.rate_difference([1] * 8, [1] * 8)
    assert (found.value, found.low, found.high) == pytest.approx((0, -0.3694, 0.3694), abs=1e-4)
    assert rates.mcnemar_p([1] * 8, [1] * 8) == 1
    # Seven of eight differ, all in one direction: 2 / 2^7.
    assert rates.mcnemar_p([1] * 8, [0] * 7 + [1]) == pytest.approx(2 / 2**7)
    # A model at chance, against a map the same for all that has the rate of chance in each participant.
    assert rates.mcnemar_p([1] + [0] * 39, [1 / 40] * 40) == 1


def test_equal_rates_are_seldom_called_different():
    a, b = np.random.default_rng(2).random((2, 1000, 20)) < 0.8
    p = np.array([rates.mcnemar_p(*pair) for pair in zip(a, b, strict=True)])
    covered = [e.low <= 0 <= e.high for e in map(rates.rate_difference, a, b)]
    assert np.mean(p <= 0.05) <= 0.05 and np.mean(covered) >= 0.95


def test_dice_of_known_sets():
    a, b = np.zeros((2, 10), bool)
    assert np.isnan(metrics.dice(a, b))
    a[:4], b[2:8] = True, True
    assert metrics.dice(a, b) == pytest.approx(2 * 2 / (4 + 6))
    assert metrics.dice(a, a) == 1
    assert metrics.dice(a, ~a) == 0


def test_the_angle_between_two_axes_is_their_rotation_whatever_their_signs():
    angle = np.radians(25)
    reference = np.zeros((4, 4, 4, 3))
    reference[..., 0] = 1
    rotated = np.zeros_like(reference)
    rotated[..., 0], rotated[..., 1] = -np.cos(angle), -np.sin(angle)
    region = np.ones(reference.shape[:3], bool)
    assert metrics.median_angle_deg(reference, rotated, region) == pytest.approx(25)
    assert metrics.median_angle_deg(reference, 0 * reference, region) == pytest.approx(90)
    assert np.isnan(metrics.median_angle_deg(reference, rotated, ~region))


def test_random_axes_are_sixty_degrees_apart_in_the_median():
    axes = np.random.default_rng(0).normal(size=(2, 20, 20, 20, 3))
    a, b = axes / np.linalg.norm(axes, axis=-1, keepdims=True)
    region = np.ones(a.shape[:3], bool)
    assert metrics.median_angle_deg(a, b, region) == pytest.approx(60, abs=1.5)


def test_the_log_distance_of_scaled_tensors_is_the_logarithm_of_the_factor():
    region = np.ones((2, 2, 2), bool)
    rng = np.random.default_rng(1)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    reference = np.tile(from_matrix(rotation @ np.diag([1.7, 0.5, 0.3]) @ rotation.T), (2, 2, 2, 1))
    reference *= 1e-3
    assert metrics.log_distance(reference, reference, region) == pytest.approx(0, abs=1e-9)
    # log(2 D) = log D + log 2 I, whose Frobenius norm is sqrt(3) log 2.
    distance = metrics.log_distance(reference, 2 * reference, region)
    assert distance == pytest.approx(np.sqrt(3) * np.log(2))
    assert metrics.log_distance(2 * reference, reference, region) == pytest.approx(distance)


def test_sharpness_is_the_factor_that_contrast_was_multiplied_by(images, mask):
    reference, _ = images
    assert metrics.sharpness_ratio(reference, reference, mask) == pytest.approx(1)
    assert metrics.sharpness_ratio(reference, 0.3 + 0.6 * reference, mask) == pytest.approx(0.6)
    assert np.isnan(metrics.sharpness_ratio(np.ones(SHAPE), reference, mask))
    assert np.isnan(metrics.sharpness_ratio(reference, reference, np.zeros(SHAPE, bool)))


def test_sharpness_does_not_depend_on_the_step_at_the_edge_of_the_mask(images, mask):
    reference, synthetic = images
    inside = metrics.sharpness_ratio(reference, synthetic, mask)
    masked = (np.where(mask, image, 9) for image in (reference, synthetic))
    assert metrics.sharpness_ratio(*masked, mask) == inside


def test_histograms_that_are_shifted_are_as_far_apart_as_the_shift(images, mask):
    reference, _ = images
    shuffled = reference.copy()
    shuffled[mask] = np.random.default_rng(3).permutation(reference[mask])
    assert metrics.histogram_distance(reference, shuffled, mask) == pytest.approx(0, abs=1e-12)
    assert metrics.histogram_distance(reference, shuffled - 0.07, mask) == pytest.approx(0.07)
    assert np.isnan(metrics.histogram_distance(reference, reference, np.zeros(SHAPE, bool)))


def test_holm_multiplies_by_the_tests_that_are_left_and_never_falls():
    # By hand: .01 x 4, .02 x 3, then .03 x 2 = .06, and .04 x 1 may not fall below that.
    corrected = statistics.holm([0.04, 0.01, 0.03, 0.02])
    assert corrected == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert statistics.holm([0.7, 0.6]) == pytest.approx([1, 1])


def test_an_undefined_test_is_not_counted_in_holms_family():
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
