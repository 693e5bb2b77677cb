"""pix2pix: a U-Net trained with L1 and a patch discriminator, conditioned on the source.

References
----------
Isola et al. (2017), pix2pix, arXiv:1611.07004.
"""

import torch
from torch import nn

from m2m.models.prerequisites import Synthesis, slice_inputs
from m2m.networks.basic_unet import PatchGan, UNetTranslator
from m2m.networks.slice_inputs import TemplateMap
from m2m.objectives import losses
from m2m.objectives.objective import Objective, StepContext, Terms
from m2m.objectives.scoring import centre, score_frozen
from m2m.options.families.pix2pix import Pix2Pix


def build_network(options: Pix2Pix, channels: int, prior: TemplateMap | None, synthesis: Synthesis | None) -> nn.Module:
    """Build a U-Net of MONAI.

    Parameters
    ----------
    options : Pix2Pix
    channels : int
        Channels of the target.
    prior : TemplateMap or None
        Required if `network.prior` is on.
    synthesis : Synthesis or None
        Not used.

    Returns
    -------
    UNetTranslator
    """
    network = options.network
    return UNetTranslator(slice_inputs(network, prior), network.features, channels, network.dropout)


def build_objective(options: Pix2Pix, channels: int, encoder: nn.Module | None) -> "Pix2PixObjective":
    """Build L1 and the discriminator.

    Parameters
    ----------
    options : Pix2Pix
    channels : int
        Channels of the target.
    encoder : Module or None
        Not used.

    Returns
    -------
    Pix2PixObjective
    """
    discriminator = options.discriminator
    return Pix2PixObjective(
        options.l1,
        discriminator.width,
        discriminator.layers,
        channels,
        every=discriminator.every,
        learning_rate=discriminator.learning_rate,
    )


class Pix2PixObjective(Objective):
    """L1, and the adversarial term of a PatchGAN conditioned on the source.

    Parameters
    ----------
    l1 : float
        Weight of L1; the adversarial term has weight 1.
    width, layers : int
        Channels of the first layer, and strided layers, of the discriminator.
    channels : int
        Channels of the target.
    every : int
    learning_rate : float
        As for `Objective`.
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
        discriminator = PatchGan(width, layers, channels + 1)
        super().__init__({"discriminator": discriminator}, every=every, learning_rate=learning_rate)
        self.l1 = l1

    def generator_terms(self, context: StepContext) -> Terms:
        """As `Objective.generator_terms`; as published, the adversarial term is used in every step."""
        batch, mask = context.batch, context.batch["mask"]
        target, image = batch["target"] * mask, context.output.image.float() * mask
        pair = torch.cat([image, centre(batch)], 1)
        logits = score_frozen(self.discriminators["discriminator"], pair)
        return {
            "l1": self.l1 * losses.masked_l1(image, target, mask),
            "adversarial": losses.generator_adversarial(logits),
        }

    def discriminator_terms(self, context: StepContext) -> Terms:
        """As `Objective.discriminator_terms`."""
        batch, mask, source = context.batch, context.batch["mask"], centre(context.batch)
        images = batch["target"] * mask, context.output.image.detach().float() * mask
        discriminator = self.discriminators["discriminator"]
        real, fake = (discriminator(torch.cat([image, source], 1)) for image in images)
        return {"discriminator": losses.discriminator_adversarial(real, fake)}
