"""Macro2Micro, corrected: every term has a gradient to the whole generator, and masks are used.

References
----------
Kim et al. (2024), Macro2Micro, arXiv:2412.11277.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from m2m.models.prerequisites import Synthesis, slice_inputs
from m2m.networks.discriminators import ImageDiscriminator, PatchDiscriminator, brain_crops
from m2m.networks.octave import OctaveTranslator
from m2m.networks.slice_inputs import TemplateMap
from m2m.objectives import losses
from m2m.objectives.objective import Objective, StepContext, Terms
from m2m.objectives.scoring import PerceptualDistance, centre, score_frozen
from m2m.options import Discriminators
from m2m.options.families.macro2micro import Macro2Micro
from m2m.structural.slices import PLANES


def build_network(
    options: Macro2Micro, channels: int, prior: TemplateMap | None, synthesis: Synthesis | None
) -> nn.Module:
    """Build the octave encoder and decoder.

    Parameters
    ----------
    options : Macro2Micro
    channels : int
        Channels of the target.
    prior : TemplateMap or None
        Required if `network.prior` is on.
    synthesis : Synthesis or None
        Not used.

    Returns
    -------
    OctaveTranslator
    """
    network = options.network
    return OctaveTranslator(
        slice_inputs(network, prior),
        network.widths,
        network.alpha,
        channels,
        planes=len(PLANES),
        spread=options.losses.log_sd > 0,
        entry=network.entry,
        residual=network.residual,
    )


def build_objective(options: Macro2Micro, channels: int, encoder: nn.Module | None) -> "Macro2MicroObjective":
    """Build the losses of Macro2Micro.

    Parameters
    ----------
    options : Macro2Micro
    channels : int
        Channels of the target.
    encoder : Module or None
        Feature network of the perceptual term.

    Returns
    -------
    Macro2MicroObjective
    """
    discriminators = options.discriminators
    return Macro2MicroObjective(
        options.losses.terms,
        crops_of(discriminators),
        discriminators.width,
        every=discriminators.every,
        learning_rate=discriminators.learning_rate,
        low_frequency_sigma_px=options.losses.low_frequency_sigma_px,
        seed=options.training.seed,
        channels=channels,
        encoder=encoder,
    )


def crops_of(options: Discriminators) -> "Crops":
    """Settings of the crops, from the options of the discriminators."""
    return Crops(options.crops, options.crop_fraction, options.crop_size, options.brain_focused)


class Crops(NamedTuple):
    """Settings of the crops of a patch discriminator.

    Attributes
    ----------
    n : int
        Crops per image.
    fraction : (float, float)
        Range of the side of a crop over the longer side of the image.
    size : int
        Side of the resized crops, pixels.
    brain_focused : bool
        Whether their centres lie inside the target mask.
    """

    n: int
    fraction: tuple[float, float]
    size: int
    brain_focused: bool


class Macro2MicroObjective(Objective):
    """Losses of Macro2Micro by name, and the discriminators that two of them need.

    All terms are computed inside the target mask. Outside, the measured map is 0 by construction
    and the translation is masked before use, so its values there do not matter.

    Parameters
    ----------
    weights : mapping of str to float
        Weight of each term. A term that is missing or has weight 0 is not computed, and its
        discriminator does not exist.
    crops : Crops
    width : int
        Channels of the discriminators.
    every : int
        As for `Objective`. Adversarial terms are used in one of `every` steps, with `every` times
        their weight.
    learning_rate : float
        As for `Objective`.
    low_frequency_sigma_px : float
        Standard deviation of the Gaussian of the low band, pixels.
    seed : int
        Of the crops. The state of the random number generator is part of the state dictionary, so
        that a resumed training draws the same crops.
    channels : int
        Channels of the target.
    encoder : Module or None
        Feature network of the perceptual term, not trained; None: no perceptual term.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        crops: Crops,
        width: int,
        *,
        every: int = 1,
        learning_rate: float = 0.0,
        low_frequency_sigma_px: float = 1.5,
        seed: int = 0,
        channels: int = 1,
        encoder: nn.Module | None = None,
    ):
        weights = {name: weight for name, weight in weights.items() if weight}
        discriminators: dict[str, nn.Module] = {}
        if "adversarial" in weights:
            discriminators["image_discriminator"] = ImageDiscriminator(width, channels)
        if "patch_adversarial" in weights:
            discriminators["patch_discriminator"] = PatchDiscriminator(width, crops.size, channels)
        super().__init__(discriminators, every=every, learning_rate=learning_rate)
        self.perceptual = PerceptualDistance(encoder) if encoder and "perceptual" in weights else None
        self.weights, self.crops, self.low_frequency_sigma_px = weights, crops, low_frequency_sigma_px
        self.generator = torch.Generator().manual_seed(seed)

    def get_extra_state(self) -> Tensor:
        """Get the state of the random number generator."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Set the state of the random number generator."""
        self.generator.set_state(state.cpu())

    def generator_terms(self, context: StepContext) -> Terms:
        """As `Objective.generator_terms`, named as the weights."""
        weights, mask, output = self.weights, context.batch["mask"], context.output
        target, image = context.batch["target"] * mask, output.image.float() * mask
        terms = {}
        if "l1" in weights:
            terms["l1"] = losses.masked_l1(image, target, mask)
        if "mse" in weights:
            terms["mse"] = losses.masked_squares(image, target, mask)
        if "l1_low_frequency" in weights or "l1_high_frequency" in weights:
            low, high = losses.split_frequencies(target, self.low_frequency_sigma_px)
            assert output.low is not None and output.high is not None  # the network has bands
            if "l1_low_frequency" in weights:
                terms["l1_low_frequency"] = losses.masked_l1(output.low, low, mask)
            if "l1_high_frequency" in weights:
                terms["l1_high_frequency"] = losses.masked_l1(output.high, high, mask)
        if "ms_ssim" in weights:
            terms["ms_ssim"] = losses.ms_ssim_loss(image, target, mask)
        if self.perceptual:
            terms["perceptual"] = self.perceptual.distance(image, target, mask)
        if "log_sd" in weights and output.log_sd is not None:
            error = (target - image).detach()
            terms["log_sd"] = losses.gaussian_nll(error, output.log_sd, mask)
        if context.adversarial:
            terms |= self._adversarial_terms(context.batch, image, target)
        return {name: weights[name] * term for name, term in terms.items()}

    def _adversarial_terms(self, batch: Mapping[str, Tensor], image: Tensor, target: Tensor) -> Terms:
        """Adversarial terms of an image (N, C, H, W)."""
        mask, terms = batch["mask"], {}
        if "image_discriminator" in self.discriminators:
            logits = score_frozen(self.discriminators["image_discriminator"], image, centre(batch))
            terms["adversarial"] = self.every * losses.generator_adversarial(logits)
        if "patch_discriminator" in self.discriminators:
            crops = self._crops(image, mask)
            logits = score_frozen(self.discriminators["patch_discriminator"], crops, self._crops(target, mask))
            terms["patch_adversarial"] = self.every * losses.generator_adversarial(logits)
        return terms

    def discriminator_terms(self, context: StepContext) -> Terms:
        """As `Objective.discriminator_terms`, named as the discriminators."""
        batch, mask = context.batch, context.batch["mask"]
        real, fake = batch["target"] * mask, context.output.image.detach().float() * mask
        terms = {}
        if "image_discriminator" in self.discriminators:
            condition = centre(batch).repeat(2, 1, 1, 1)
            logits = self.discriminators["image_discriminator"](torch.cat([real, fake]), condition)
            terms["image_discriminator"] = losses.discriminator_adversarial(*logits.chunk(2))
        if "patch_discriminator" in self.discriminators:
            crops = torch.cat([self._crops(real, mask), self._crops(fake, mask)], dim=1)
            logits = self.discriminators["patch_discriminator"](crops, self._crops(real, mask))  # (N, 2 n)
            terms["patch_discriminator"] = losses.discriminator_adversarial(*logits.chunk(2, 1))
        return terms

    def _crops(self, image: Tensor, mask: Tensor) -> Tensor:
        """Draw crops (N, n, C, size, size), centred inside the mask if `brain_focused`."""
        crops = self.crops
        mask = mask if crops.brain_focused else torch.zeros_like(mask)
        return brain_crops(image, mask, crops.n, crops.fraction, crops.size, self.generator)
