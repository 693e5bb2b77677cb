"""Macro2Micro made sound: every term reaches the generator, all of it inside the brain."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from m2m import losses, options
from m2m.networks.discriminators import ImageDiscriminator, PatchDiscriminator, brain_crops
from m2m.networks.octave import Translation
from m2m.objectives.base import Objective, Terms


def judge_frozen(discriminator: nn.Module, *inputs: Tensor) -> Tensor:
    """Logits that carry gradient to the inputs and none to the discriminator's parameters."""
    fixed = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    return functional_call(discriminator, fixed, inputs)


class Perception:
    """A network that images are compared in; no part of what learns, or of its saved state."""

    def __init__(self, encoder: nn.Module):
        self.encoder = encoder.requires_grad_(False).eval()

    def distance(self, image: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Distance of features (`losses.feature_distance`) of two images (N, C, H, W)."""
        self.encoder = self.encoder.to(image.device)
        return losses.feature_distance(self.encoder(image), self.encoder(target), mask)


class Macro2MicroObjective(Objective):
    """Losses of Macro2Micro, each by name, and the discriminators that two of them need.

    Everything is judged inside the target mask: outside, the true map is 0 by construction and
    the translation is multiplied by a mask when it is used, so it is free there.

    A batch is a dictionary: ``source`` (N, context, H, W), ``target`` (N, C, H, W) and its
    ``mask`` (N, 1, H, W).

    Parameters
    ----------
    weights : options.Losses
        Weight of each term; a term with weight 0 is not computed, and its discriminator does
        not exist.
    discriminators : options.Discriminators
        Width and crops.
    seed : int
        Of the crops. The generator of random numbers is part of the state dictionary, so that a
        resumed training draws the same crops.
    channels : int
        Of the target.
    encoder : Module or None
        Gives the features that images are compared in; without it there is no perceptual term.
        It does not learn.
    """

    def __init__(
        self,
        weights: options.Losses,
        discriminators: options.Discriminators,
        seed: int = 0,
        channels: int = 1,
        encoder: nn.Module | None = None,
    ):
        super().__init__()
        self.every, self.learning_rate = discriminators.every, discriminators.learning_rate
        self.perceptual = Perception(encoder) if encoder and weights.perceptual else None
        self.weights = weights
        self.crops = discriminators
        self.generator = torch.Generator().manual_seed(seed)
        width = discriminators.width
        self.image_discriminator = (
            ImageDiscriminator(width, channels) if weights.adversarial else None
        )
        self.patch_discriminator = (
            PatchDiscriminator(width, discriminators.crop_size, channels)
            if weights.patch_adversarial
            else None
        )

    def get_extra_state(self) -> Tensor:
        """State of the generator of random numbers."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Continue the stream of random numbers."""
        self.generator.set_state(state.cpu())

    def generator_terms(
        self,
        batch: Mapping[str, Tensor],
        translation: Translation,
        generator: nn.Module | None = None,
        judged: bool = True,
    ) -> Terms:
        """Weighted terms of the generator's loss; their sum is minimised.

        Parameters
        ----------
        batch : mapping
        translation : Translation
            Of ``batch["source"]``, with gradients.
        generator : Module
            Not needed here.
        judged : bool
            Whether the discriminators take part. Where they do so in one of `every` steps, their
            terms weigh `every` times as much.

        Returns
        -------
        dict
            Scalars by the names of `options.Losses`. They carry no gradient to discriminators.
        """
        weights, mask = self.weights, batch["mask"]
        target, image = batch["target"] * mask, translation.image.float() * mask
        terms = {}
        if weights.image:
            terms["image"] = losses.masked_l1(image, target, mask)
        if weights.squared:
            terms["squared"] = losses.masked_squares(image, target, mask)
        if weights.low or weights.high:
            low, high = losses.split_frequencies(target, weights.low_sigma_px)
            if weights.low:
                terms["low"] = losses.masked_l1(translation.low, low, mask)
            if weights.high:
                terms["high"] = losses.masked_l1(translation.high, high, mask)
        if weights.ms_ssim:
            terms["ms_ssim"] = losses.ms_ssim_loss(image, target, mask)
        if self.perceptual:
            terms["perceptual"] = self.perceptual.distance(image, target, mask)
        if weights.log_sd and translation.log_sd is not None:
            error = (target - image).detach()
            terms["log_sd"] = losses.gaussian_nll(error, translation.log_sd, mask)
        if judged and self.image_discriminator:
            logits = judge_frozen(self.image_discriminator, image, centre(batch))
            terms["adversarial"] = self.every * losses.generator_adversarial(logits)
        if judged and self.patch_discriminator:
            crops = self._crops(image, mask)
            logits = judge_frozen(self.patch_discriminator, crops, self._crops(target, mask))
            terms["patch_adversarial"] = self.every * losses.generator_adversarial(logits)
        return {name: getattr(weights, name) * term for name, term in terms.items()}

    def discriminator_terms(self, batch: Mapping[str, Tensor], translation: Translation) -> Terms:
        """Terms of the discriminators' loss; the translation is detached here.

        Parameters
        ----------
        batch : mapping
        translation : Translation
            Of ``batch["source"]``.

        Returns
        -------
        dict
            Scalars ``image_discriminator`` and ``patch_discriminator``, where they exist.
        """
        mask = batch["mask"]
        real, fake = batch["target"] * mask, translation.image.detach().float() * mask
        terms = {}
        if self.image_discriminator:
            condition = centre(batch).repeat(2, 1, 1, 1)
            logits = self.image_discriminator(torch.cat([real, fake]), condition)
            terms["image_discriminator"] = losses.discriminator_adversarial(*logits.chunk(2))
        if self.patch_discriminator:
            crops = torch.cat([self._crops(real, mask), self._crops(fake, mask)], dim=1)
            logits = self.patch_discriminator(crops, self._crops(real, mask))  # (N, 2 n)
            terms["patch_discriminator"] = losses.discriminator_adversarial(*logits.chunk(2, 1))
        return terms

    def _crops(self, image: Tensor, mask: Tensor) -> Tensor:
        """Crops (N, n, C, size, size) inside the mask, or anywhere."""
        crops = self.crops
        mask = mask if crops.brain_focused else torch.zeros_like(mask)
        return brain_crops(
            image, mask, crops.crops, crops.crop_fraction, crops.crop_size, self.generator
        )


def centre(batch: Mapping[str, Tensor]) -> Tensor:
    """Slice of the source that the target belongs to, (N, 1, H, W).

    Behind an odd number of slices there may be a low resolution of the target.
    """
    source = batch["source"]
    return source[:, (source.shape[1] - 1) // 2, None]
