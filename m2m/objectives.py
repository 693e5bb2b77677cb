"""Objectives: one class per model family; what the generator and the discriminators minimise."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from m2m import losses, options
from m2m.networks.discriminators import ImageDiscriminator, PatchDiscriminator, brain_crops
from m2m.networks.octave import Translation


def _judge_frozen(discriminator: nn.Module, *inputs: Tensor) -> Tensor:
    """Logits that carry gradient to the inputs and none to the discriminator's parameters."""
    fixed = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    return functional_call(discriminator, fixed, inputs)


class Macro2MicroObjective(nn.Module):
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
    """

    def __init__(
        self,
        weights: options.Losses,
        discriminators: options.Discriminators,
        seed: int = 0,
        channels: int = 1,
    ):
        super().__init__()
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

    def discriminator_parameters(self) -> list[nn.Parameter]:
        """Parameters of the discriminators; empty where both adversarial weights are 0."""
        return list(self.parameters())

    def generator_terms(
        self, batch: Mapping[str, Tensor], translation: Translation
    ) -> dict[str, Tensor]:
        """Weighted terms of the generator's loss; their sum is minimised.

        Parameters
        ----------
        batch : mapping
        translation : Translation
            Of ``batch["source"]``, with gradients.

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
        if weights.low or weights.high:
            low, high = losses.split_frequencies(target, weights.low_sigma_px)
            if weights.low:
                terms["low"] = losses.masked_l1(translation.low, low, mask)
            if weights.high:
                terms["high"] = losses.masked_l1(translation.high, high, mask)
        if weights.ms_ssim:
            terms["ms_ssim"] = losses.ms_ssim_loss(image, target, mask)
        if self.image_discriminator:
            logits = _judge_frozen(self.image_discriminator, image, _centre(batch))
            terms["adversarial"] = losses.generator_adversarial(logits)
        if self.patch_discriminator:
            crops = self._crops(image, mask)
            logits = _judge_frozen(self.patch_discriminator, crops, self._crops(target, mask))
            terms["patch_adversarial"] = losses.generator_adversarial(logits)
        return {name: getattr(weights, name) * term for name, term in terms.items()}

    def discriminator_terms(
        self, batch: Mapping[str, Tensor], translation: Translation
    ) -> dict[str, Tensor]:
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
            condition = _centre(batch).repeat(2, 1, 1, 1)
            logits = self.image_discriminator(torch.cat([real, fake]), condition)
            terms["image_discriminator"] = losses.discriminator_adversarial(*logits.chunk(2))
        if self.patch_discriminator:
            crops = torch.cat([self._crops(real, mask), self._crops(fake, mask)], dim=1)
            logits = self.patch_discriminator(crops, self._crops(real, mask))  # (N, 2 n)
            terms["patch_discriminator"] = losses.discriminator_adversarial(*logits.chunk(2, 1))
        return terms

    def _crops(self, image: Tensor, mask: Tensor) -> Tensor:
        """Crops (N, n, C, size, size) inside the mask."""
        crops = self.crops
        return brain_crops(
            image, mask, crops.crops, crops.crop_fraction, crops.crop_size, self.generator
        )


def _centre(batch: Mapping[str, Tensor]) -> Tensor:
    """Slice of the source that the target belongs to, (N, 1, H, W)."""
    source = batch["source"]
    return source[:, source.shape[1] // 2, None]


OBJECTIVES = {"macro2micro": Macro2MicroObjective}
