import math

import numpy as np
import pytest
import torch
from monai.metrics.regression import compute_ssim_and_cs
from scipy import ndimage
from skimage.metrics import structural_similarity
from torch.nn.functional import avg_pool2d

from m2m.objectives import losses


def images(height: int = 64, width: int = 80, n: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    target = torch.rand(n, 1, height, width, generator=torch.Generator().manual_seed(0))
    noise = torch.rand(n, 1, height, width, generator=torch.Generator().manual_seed(1))
    return 0.7 * target + 0.3 * noise, target


def left_half(image: torch.Tensor) -> torch.Tensor:
    mask = torch.zeros_like(image)
    mask[..., : image.shape[-1] // 2] = 1
    return mask


def test_masked_l1_is_the_mean_inside_the_mask_and_ignores_the_outside():
    prediction, target = torch.full((2, 1, 4, 6), 0.5), torch.full((2, 1, 4, 6), 0.2)
    mask = left_half(target)
    prediction[mask == 0] = 77.0
    assert losses.masked_l1(prediction, target, mask).item() == pytest.approx(0.3)
    assert losses.masked_l1(prediction.expand(2, 3, 4, 6), target.expand(2, 3, 4, 6), mask).item() == pytest.approx(0.3)


def test_the_loss_of_an_empty_mask_is_not_a_number():
    prediction, target = images()
    assert losses.masked_l1(prediction, target, torch.zeros_like(target)).isnan()


def test_bands_sum_to_the_image_and_a_constant_is_all_low():
    _, image = images()
    low, high = losses.split_frequencies(image, 1.5)
    torch.testing.assert_close(low + high, image)
    assert high.std() > 0.1 > low.std()
    low, high = losses.split_frequencies(torch.full((1, 1, 32, 40), 0.4), 1.5)
    torch.testing.assert_close(low, torch.full((1, 1, 32, 40), 0.4))


@pytest.mark.parametrize("sigma, radius", [(3.5, 10), (1.5, 4), (1.0, 3)])
def test_low_band_equals_the_gaussian_of_scipy_with_the_kernel_of_the_paper(sigma, radius):
    _, image = images()
    low, _ = losses.split_frequencies(image, sigma)
    expected = ndimage.gaussian_filter(image.double().numpy(), sigma, mode="mirror", radius=radius, axes=(2, 3))
    np.testing.assert_allclose(low.numpy(), expected, atol=1e-6)


def test_a_slice_smaller_than_the_kernel_is_refused_with_both_sizes():
    with pytest.raises(ValueError, match=r"\(8, 40\).*radius 10"):
        losses.split_frequencies(torch.zeros(1, 1, 8, 40), 3.5)


def test_similarity_at_one_scale_equals_scikit_image_inside_the_mask():
    prediction, target = images(n=1)
    mask = left_half(target)
    prediction, target = prediction * mask, target * mask
    _, full = structural_similarity(
        target[0, 0].numpy(),
        prediction[0, 0].numpy(),
        data_range=1.0,
        full=True,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    # Away from the slice's border, where the two mirror differently.
    mask[..., :6, :] = mask[..., -6:, :] = mask[..., :6] = 0
    similarity = 1 - losses.ms_ssim_loss(prediction, target, mask, weights=(1.0,))
    expected = full[mask[0, 0].numpy() > 0].mean()
    assert 2 * similarity.item() - 1 == pytest.approx(expected, abs=1e-5)


def similarity_by_monai(prediction, target, weights, border):
    """Similarity of the pixels that are this far inside the image: MONAI's maps of each scale lack 5 at each side."""
    similarity = 1.0
    for scale, weight in enumerate(weights):
        if scale:
            prediction, target = avg_pool2d(prediction, 2), avg_pool2d(target, 2)
        whole, structure = compute_ssim_and_cs(prediction, target, 2, (11, 11), (1.5, 1.5))
        chosen = whole if scale == len(weights) - 1 else structure
        cut = border // 2**scale - 5
        height, width = chosen.shape[2:]
        similarity *= ((1 + chosen[..., cut : height - cut, cut : width - cut].mean().item()) / 2) ** weight
    return similarity


@pytest.mark.parametrize("weights", [(0.0, 1.0), (0.0, 0.0, 1.0), losses.MS_SSIM_WEIGHTS])
def test_coarser_scales_and_all_together_equal_monai(weights):
    coarsest = 2 ** (len(weights) - 1)
    prediction, target = images(16 * coarsest, 20 * coarsest, n=1)
    border = 5 * coarsest
    mask = torch.zeros_like(target)
    mask[..., border:-border, border:-border] = 1
    similarity = 1 - losses.ms_ssim_loss(prediction, target, mask, weights=weights).item()
    shares = [weight / sum(weights) for weight in weights]
    expected = similarity_by_monai(prediction, target, shares, border)
    assert similarity == pytest.approx(expected, abs=1e-5)
    others = similarity_by_monai(prediction, target, shares[::-1], border)
    assert similarity != pytest.approx(others, abs=1e-3)


def test_similarity_is_one_for_equal_images_and_scales_with_the_data_range():
    prediction, target = images()
    mask = torch.ones_like(target)
    assert losses.ms_ssim_loss(target, target, mask).item() == pytest.approx(0, abs=1e-6)
    unit = losses.ms_ssim_loss(prediction, target, mask).item()
    bytes_ = losses.ms_ssim_loss(255 * prediction, 255 * target, mask, data_range=255.0).item()
    assert bytes_ == pytest.approx(unit, rel=1e-3)
    wrong = losses.ms_ssim_loss(255 * prediction, 255 * target, mask).item()
    assert abs(wrong - unit) > 1e-3


@pytest.mark.parametrize("inverted", [False, True])
def test_similarity_has_finite_gradient_for_flat_and_for_inverted_predictions(inverted):
    _, target = images()
    prediction = (1 - target if inverted else torch.zeros_like(target)).requires_grad_()
    losses.ms_ssim_loss(prediction, target, torch.ones_like(target)).backward()
    assert prediction.grad.isfinite().all() and prediction.grad.abs().sum() > 0


def test_losses_are_computed_in_single_precision_under_autocast():
    prediction, target = images()
    mask = torch.ones_like(target)
    plain = losses.ms_ssim_loss(prediction, target, mask), losses.split_frequencies(target, 1.5)[0]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = (
            losses.ms_ssim_loss(prediction, target, mask),
            losses.split_frequencies(target, 1.5)[0],
        )
    for a, b in zip(plain, mixed, strict=True):
        assert torch.equal(a, b)


def test_a_blur_first_used_without_gradients_still_gives_them_later():
    losses._blur_matrix.cache_clear()
    with torch.inference_mode():
        losses.split_frequencies(torch.rand(1, 1, 24, 31), 1.5)
    image = torch.rand(1, 1, 24, 31, requires_grad=True)
    losses.split_frequencies(image, 1.5)[0].sum().backward()
    assert image.grad.sum().item() == pytest.approx(24 * 31, rel=1e-4)


def test_adversarial_losses_at_an_undecided_discriminator_are_log_two():
    undecided = torch.zeros(4, 1)
    assert losses.generator_adversarial(undecided).item() == pytest.approx(math.log(2))
    both = losses.discriminator_adversarial(undecided, undecided).item()
    assert both == pytest.approx(2 * math.log(2))


def test_adversarial_gradients_are_largest_for_misclassified_images():
    logits = torch.tensor([[-20.0], [20.0]], requires_grad=True)
    losses.generator_adversarial(logits).backward()
    assert logits.grad[0].item() == pytest.approx(-0.5, abs=1e-4)
    assert logits.grad[1].item() == pytest.approx(0, abs=1e-4)
    real, fake = (
        torch.tensor([[-3.0]], requires_grad=True),
        torch.tensor([[3.0]], requires_grad=True),
    )
    losses.discriminator_adversarial(real, fake).backward()
    assert real.grad.item() < -0.9 and fake.grad.item() > 0.9
