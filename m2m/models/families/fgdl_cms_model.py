"""Synthesis of FGDL: a U-shaped Restormer and a discriminator that uses the difference map.

References
----------
Feng et al. (2024), fine-grained difference learning, IEEE TMI,
https://doi.org/10.1109/TMI.2024.3445969.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from m2m.models.prerequisites import Synthesis, slice_inputs
from m2m.networks.discriminators import DifferenceProjectionDiscriminator
from m2m.networks.restormer import RestormerTranslator
from m2m.networks.slice_inputs import TemplateMap
from m2m.networks.translation import Translation
from m2m.objectives import losses
from m2m.objectives.objective import Objective, StepContext, Terms
from m2m.objectives.scoring import PerceptualDistance, score_frozen
from m2m.options.families.fgdl_cms import FgdlCms


def build_network(options: FgdlCms, channels: int, prior: TemplateMap | None, synthesis: Synthesis | None) -> nn.Module:
    """Build a U-shaped Restormer.

    Parameters
    ----------
    options : FgdlCms
    channels : int
        Channels of the target.
    prior : TemplateMap or None
        Required if `network.prior` is on.
    synthesis : Synthesis or None
        Not used.

    Returns
    -------
    RestormerTranslator
    """
    network = options.network
    return RestormerTranslator(
        slice_inputs(network, prior), network.widths, network.heads, network.blocks, network.expansion, channels
    )


def build_objective(options: FgdlCms, channels: int, encoder: nn.Module | None) -> "FgdlObjective":
    """Build the losses of FGDL.

    Parameters
    ----------
    options : FgdlCms
    channels : int
        Channels of the target.
    encoder : Module or None
        Feature network of the perceptual term.

    Returns
    -------
    FgdlObjective
    """
    discriminator = options.discriminator
    return FgdlObjective(
        options.losses.terms,
        discriminator.width,
        every=discriminator.every,
        start=discriminator.start,
        learning_rate=discriminator.learning_rate,
        channels=channels,
        encoder=encoder,
    )


class FgdlObjective(Objective):
    """Losses of FGDL: L1, structural similarity, perceptual distance, and adversarial terms.

    The difference map is the target minus the synthesis. It is an input of the discriminator, both
    with the measured and with the synthetic image. The adversarial terms of the generator are used
    in every step from `start` on. All terms are computed inside the target mask.

    Parameters
    ----------
    weights : mapping of str to float
        Weight of each term. A term that is missing or has weight 0 is not computed. There is a
        discriminator only if a term needs it.
    width : int
        Channels of the discriminator at half resolution.
    every, start : int
    learning_rate : float
        As for `Objective`.
    channels : int
        Channels of the target.
    encoder : Module or None
        Feature network of the perceptual term; None: no perceptual term.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        width: int,
        *,
        every: int = 1,
        start: int = 0,
        learning_rate: float = 0.0,
        channels: int = 1,
        encoder: nn.Module | None = None,
    ):
        weights = {name: weight for name, weight in weights.items() if weight}
        discriminators = {}
        if weights.keys() & {"adversarial", "features"}:
            discriminators["discriminator"] = DifferenceProjectionDiscriminator(width, channels)
        super().__init__(discriminators, every=every, start=start, learning_rate=learning_rate)
        self.weights = weights
        self.perceptual = PerceptualDistance(encoder) if encoder and "perceptual" in weights else None

    def generator_terms(self, context: StepContext) -> Terms:
        """As `Objective.generator_terms`, named as the weights."""
        weights, mask, output = self.weights, context.batch["mask"], context.output
        target, image = context.batch["target"] * mask, output.image.float() * mask
        terms = {}
        if "l1" in weights:
            terms["l1"] = losses.masked_l1(image, target, mask)
        if "mse" in weights:
            terms["mse"] = losses.masked_squares(image, target, mask)
        if "ms_ssim" in weights:
            terms["ms_ssim"] = losses.ms_ssim_loss(image, target, mask)
        if self.perceptual:
            terms["perceptual"] = self.perceptual.distance(image, target, mask)
        if "discriminator" in self.discriminators and context.step >= self.start:
            discriminator = self.discriminators["discriminator"]
            difference = self._difference_map(target, output, mask)
            fake = score_frozen(discriminator, image, difference)
            with torch.no_grad():
                real = discriminator(target, difference)
            if "adversarial" in weights:
                terms["adversarial"] = losses.relativistic_adversarial(fake.logits, real.logits)
            if "features" in weights:
                terms["features"] = losses.feature_matching(fake.features, real.features)
        return {name: weights[name] * term for name, term in terms.items()}

    def discriminator_terms(self, context: StepContext) -> Terms:
        """As `Objective.discriminator_terms`."""
        mask, output = context.batch["mask"], context.output
        target, image = context.batch["target"] * mask, output.image.detach().float() * mask
        difference = self._difference_map(target, output, mask)
        discriminator = self.discriminators["discriminator"]
        real, fake = (discriminator(x, difference) for x in (target, image))
        return {"discriminator": losses.relativistic_adversarial(real.logits, fake.logits)}

    def _difference_map(self, target: Tensor, output: Translation, mask: Tensor) -> Tensor:
        """Target minus synthesis inside the mask, (N, C, H, W), without gradient."""
        return (target - output.image.float() * mask).detach()
