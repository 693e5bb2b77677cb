"""pix2pix: a U-Net with L1, and a patch discriminator that sees the source.

References
----------
Isola et al. (2017), pix2pix, arXiv:1611.07004.
"""

import torch
from torch import nn

from m2m.models.given import Synthesis, slice_inputs
from m2m.networks.basic_unet import PatchGan, UNetTranslator
from m2m.networks.slice_inputs import TemplateMap
from m2m.objectives import losses
from m2m.objectives.judging import centre, judge_frozen
from m2m.objectives.objective import Objective, StepContext, Terms
from m2m.options.families.pix2pix import Pix2Pix


def build_network(
    options: Pix2Pix, channels: int, prior: TemplateMap | None, synthesis: Synthesis | None
) -> nn.Module:
    """MONAI's U-Net."""
    network = options.network
    return UNetTranslator(slice_inputs(network, prior), network.features, channels, network.dropout)


def build_objective(
    options: Pix2Pix, channels: int, encoder: nn.Module | None
) -> "Pix2PixObjective":
    """L1 and the discriminator."""
    judge = options.discriminator
    return Pix2PixObjective(
        options.l1, judge.width, judge.layers, channels, every=judge.every,
        learning_rate=judge.learning_rate,
    )  # fmt: skip


class Pix2PixObjective(Objective):
    """L1, and a PatchGAN that sees the source beside the image.

    Parameters
    ----------
    l1 : float
        Weight of L1; the adversarial term has 1.
    width, layers : int
        Of the discriminator.
    channels : int
        Of the target.
    every, learning_rate
        As of `Objective`.
    """

    def __init__(
        self,
        l1: float,
        width: int,
        layers: int,
        channels: int = 1,
        *,
        every: int = 1,
        learning_rate: float = 0.0,
    ):
        judge = PatchGan(width, layers, channels + 1)
        super().__init__({"discriminator": judge}, every=every, learning_rate=learning_rate)
        self.l1 = l1

    def generator_terms(self, context: StepContext) -> Terms:
        """As `Objective.generator_terms`; as published, the judge is heard in every step."""
        batch, mask = context.batch, context.batch["mask"]
        target, image = batch["target"] * mask, context.output.image.float() * mask
        seen = torch.cat([image, centre(batch)], 1)
        logits = judge_frozen(self.discriminators["discriminator"], seen)
        return {
            "image": self.l1 * losses.masked_l1(image, target, mask),
            "adversarial": losses.generator_adversarial(logits),
        }

    def discriminator_terms(self, context: StepContext) -> Terms:
        """As `Objective.discriminator_terms`."""
        batch, mask, source = context.batch, context.batch["mask"], centre(context.batch)
        images = batch["target"] * mask, context.output.image.detach().float() * mask
        judge = self.discriminators["discriminator"]
        real, fake = (judge(torch.cat([image, source], 1)) for image in images)
        return {"discriminator": losses.discriminator_adversarial(real, fake)}
