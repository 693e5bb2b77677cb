"""Macro2Micro made sound: every term reaches the generator, all of it inside the brain.

References
----------
Kim et al. (2024), Macro2Micro, arXiv:2412.11277.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from m2m.models.given import Synthesis, slice_inputs
from m2m.networks.discriminators import ImageDiscriminator, PatchDiscriminator, brain_crops
from m2m.networks.octave import OctaveTranslator
from m2m.networks.slice_inputs import TemplateMap
from m2m.objectives import losses
from m2m.objectives.judging import Perception, centre, judge_frozen
from m2m.objectives.objective import Objective, StepContext, Terms
from m2m.options import Discriminators
from m2m.options.families.macro2micro import Macro2Micro
from m2m.structural.slices import PLANES


def build_network(
    options: Macro2Micro, channels: int, prior: TemplateMap | None, synthesis: Synthesis | None
) -> nn.Module:
    """Octave encoder and decoder."""
    network = options.network
    return OctaveTranslator(
        slice_inputs(network, prior), network.widths, network.alpha, channels, planes=len(PLANES),
        spread=options.losses.log_sd > 0, entry=network.entry,
    )  # fmt: skip


def build_objective(
    options: Macro2Micro, channels: int, encoder: nn.Module | None
) -> "Macro2MicroObjective":
    """Losses of Macro2Micro."""
    judges = options.discriminators
    return Macro2MicroObjective(
        options.losses.terms, crops_of(judges), judges.width, every=judges.every,
        learning_rate=judges.learning_rate, low_sigma_px=options.losses.low_sigma_px,
        seed=options.training.seed, channels=channels, encoder=encoder,
    )  # fmt: skip


def crops_of(judges: Discriminators) -> "Crops":
    """How crops are drawn, from the discriminators' options."""
    return Crops(judges.crops, judges.crop_fraction, judges.crop_size, judges.brain_focused)


class Crops(NamedTuple):
    """How a patch discriminator's crops are drawn.

    Attributes
    ----------
    n : int
        Of each image.
    fraction : (float, float)
        Range of a crop's side over the image's longer side.
    size : int
        Pixels of the side that crops are resized to.
    brain_focused : bool
        Whether their centres lie inside the target mask.
    """

    n: int
    fraction: tuple[float, float]
    size: int
    brain_focused: bool


class Macro2MicroObjective(Objective):
    """Losses of Macro2Micro, each by name, and the discriminators that two of them need.

    Everything is judged inside the target mask: outside, the true map is 0 by construction and
    the translation is multiplied by a mask when it is used, so it is free there.

    Parameters
    ----------
    weights : mapping of str to float
        Weight of each term; a term that is not named, or with weight 0, is not computed, and its
        discriminator does not exist.
    crops : Crops
    width : int
        Channels of the discriminators.
    every, learning_rate
        As of `Objective`. Where discriminators take part in one of `every` steps, their terms
        weigh `every` times as much.
    low_sigma_px : float
        Gaussian that makes the low band.
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
        weights: Mapping[str, float],
        crops: Crops,
        width: int,
        *,
        every: int = 1,
        learning_rate: float = 0.0,
        low_sigma_px: float = 1.5,
        seed: int = 0,
        channels: int = 1,
        encoder: nn.Module | None = None,
    ):
        weights = {name: weight for name, weight in weights.items() if weight}
        judges = {}
        if "adversarial" in weights:
            judges["image_discriminator"] = ImageDiscriminator(width, channels)
        if "patch_adversarial" in weights:
            judges["patch_discriminator"] = PatchDiscriminator(width, crops.size, channels)
        super().__init__(judges, every=every, learning_rate=learning_rate)
        self.perceptual = Perception(encoder) if encoder and "perceptual" in weights else None
        self.weights, self.crops, self.low_sigma_px = weights, crops, low_sigma_px
        self.generator = torch.Generator().manual_seed(seed)

    def get_extra_state(self) -> Tensor:
        """State of the generator of random numbers."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Continue the stream of random numbers."""
        self.generator.set_state(state.cpu())

    def generator_terms(self, context: StepContext) -> Terms:
        """As `Objective.generator_terms`, by the names of the weights."""
        weights, mask, output = self.weights, context.batch["mask"], context.output
        target, image = context.batch["target"] * mask, output.image.float() * mask
        terms = {}
        if "image" in weights:
            terms["image"] = losses.masked_l1(image, target, mask)
        if "squared" in weights:
            terms["squared"] = losses.masked_squares(image, target, mask)
        if "low" in weights or "high" in weights:
            low, high = losses.split_frequencies(target, self.low_sigma_px)
            if "low" in weights:
                terms["low"] = losses.masked_l1(output.low, low, mask)
            if "high" in weights:
                terms["high"] = losses.masked_l1(output.high, high, mask)
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

    def _adversarial_terms(
        self, batch: Mapping[str, Tensor], image: Tensor, target: Tensor
    ) -> Terms:
        """What the discriminators say of an image (N, C, H, W)."""
        judges, mask, terms = self.discriminators, batch["mask"], {}
        if "image_discriminator" in judges:
            logits = judge_frozen(judges["image_discriminator"], image, centre(batch))
            terms["adversarial"] = self.every * losses.generator_adversarial(logits)
        if "patch_discriminator" in judges:
            crops = self._crops(image, mask)
            logits = judge_frozen(judges["patch_discriminator"], crops, self._crops(target, mask))
            terms["patch_adversarial"] = self.every * losses.generator_adversarial(logits)
        return terms

    def discriminator_terms(self, context: StepContext) -> Terms:
        """As `Objective.discriminator_terms`, by the names of the discriminators."""
        batch, judges, mask = context.batch, self.discriminators, context.batch["mask"]
        real, fake = batch["target"] * mask, context.output.image.detach().float() * mask
        terms = {}
        if "image_discriminator" in judges:
            condition = centre(batch).repeat(2, 1, 1, 1)
            logits = judges["image_discriminator"](torch.cat([real, fake]), condition)
            terms["image_discriminator"] = losses.discriminator_adversarial(*logits.chunk(2))
        if "patch_discriminator" in judges:
            crops = torch.cat([self._crops(real, mask), self._crops(fake, mask)], dim=1)
            logits = judges["patch_discriminator"](crops, self._crops(real, mask))  # (N, 2 n)
            terms["patch_discriminator"] = losses.discriminator_adversarial(*logits.chunk(2, 1))
        return terms

    def _crops(self, image: Tensor, mask: Tensor) -> Tensor:
        """Crops (N, n, C, size, size) inside the mask, or anywhere."""
        crops = self.crops
        mask = mask if crops.brain_focused else torch.zeros_like(mask)
        return brain_crops(image, mask, crops.n, crops.fraction, crops.size, self.generator)
