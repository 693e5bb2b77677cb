"""FGDL's synthesis: a U-shaped Restormer, judged by what it still lacks.

References
----------
Feng et al. (2024), fine-grained difference learning, IEEE TMI,
https://doi.org/10.1109/TMI.2024.3445969.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from m2m.models.given import Synthesis, slice_inputs
from m2m.networks.discriminators import DifferenceProjectionDiscriminator
from m2m.networks.restormer import RestormerTranslator
from m2m.networks.slice_inputs import TemplateMap
from m2m.networks.translation import Translation
from m2m.objectives import losses
from m2m.objectives.judging import Perception, judge_frozen
from m2m.objectives.objective import Objective, StepContext, Terms
from m2m.options.families.fgdl_cms import FgdlCms


def build_network(
    options: FgdlCms, channels: int, prior: TemplateMap | None, synthesis: Synthesis | None
) -> nn.Module:
    """A U-shaped Restormer."""
    network = options.network
    return RestormerTranslator(
        slice_inputs(network, prior), network.widths, network.heads, network.blocks,
        network.expansion, channels,
    )  # fmt: skip


def build_objective(options: FgdlCms, channels: int, encoder: nn.Module | None) -> "FgdlObjective":
    """Losses of FGDL."""
    judge = options.discriminator
    return FgdlObjective(
        options.losses.terms, judge.width, every=judge.every, start=judge.start,
        learning_rate=judge.learning_rate, channels=channels, encoder=encoder,
    )  # fmt: skip


class FgdlObjective(Objective):
    """L1, structural similarity, perceptual distance, and a discriminator that knows what lacks.

    The difference map is the target minus the synthesis; the discriminator sees it beside the true
    image and beside the synthetic one. The generator hears the discriminator, in every step, from
    the discriminator's first own step on. Everything is judged inside the target mask.

    Parameters
    ----------
    weights : mapping of str to float
        A term that is not named, or with weight 0, is not computed; without the terms that need it
        there is no discriminator.
    width : int
        Channels of the discriminator.
    every, start, learning_rate
        As of `Objective`.
    channels : int
        Of the target.
    encoder : Module or None
        Gives the features that images are compared in; without it there is no perceptual term.
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
        judges = {}
        if weights.keys() & {"adversarial", "features"}:
            judges["discriminator"] = DifferenceProjectionDiscriminator(width, channels)
        super().__init__(judges, every=every, start=start, learning_rate=learning_rate)
        self.weights = weights
        self.perceptual = Perception(encoder) if encoder and "perceptual" in weights else None

    def generator_terms(self, context: StepContext) -> Terms:
        """As `Objective.generator_terms`, by the names of the weights."""
        weights, mask, output = self.weights, context.batch["mask"], context.output
        target, image = context.batch["target"] * mask, output.image.float() * mask
        terms = {}
        if "image" in weights:
            terms["image"] = losses.masked_l1(image, target, mask)
        if "squared" in weights:
            terms["squared"] = losses.masked_squares(image, target, mask)
        if "ms_ssim" in weights:
            terms["ms_ssim"] = losses.ms_ssim_loss(image, target, mask)
        if self.perceptual:
            terms["perceptual"] = self.perceptual.distance(image, target, mask)
        if "discriminator" in self.discriminators and context.step >= self.start:
            judge = self.discriminators["discriminator"]
            difference = self._lacking(target, output, mask)
            fake = judge_frozen(judge, image, difference)
            with torch.no_grad():
                real = judge(target, difference)
            if "adversarial" in weights:
                terms["adversarial"] = losses.relativistic_adversarial(fake.logits, real.logits)
            if "features" in weights:
                terms["features"] = losses.feature_matching(fake.features, real.features)
        return {name: weights[name] * term for name, term in terms.items()}

    def discriminator_terms(self, context: StepContext) -> Terms:
        """As `Objective.discriminator_terms`."""
        mask, output = context.batch["mask"], context.output
        target, image = context.batch["target"] * mask, output.image.detach().float() * mask
        difference = self._lacking(target, output, mask)
        judge = self.discriminators["discriminator"]
        real, fake = (judge(seen, difference) for seen in (target, image))
        return {"discriminator": losses.relativistic_adversarial(real.logits, fake.logits)}

    def _lacking(self, target: Tensor, output: Translation, mask: Tensor) -> Tensor:
        """The difference map (N, C, H, W): what the synthesis lacks."""
        return (target - output.image.float() * mask).detach()
