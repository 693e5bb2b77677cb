"""pix2pix: a U-Net, and a patch discriminator that sees the source."""

from torch import nn

from m2m.models.given import Synthesis, slice_inputs
from m2m.networks.basic_unet import UNetTranslator
from m2m.networks.inputs import TemplateMap
from m2m.objectives.baselines import Pix2PixObjective
from m2m.options.families.pix2pix import Pix2Pix


def build_network(
    options: Pix2Pix, channels: int, prior: TemplateMap | None, synthesis: Synthesis | None
) -> nn.Module:
    """MONAI's U-Net."""
    network = options.network
    return UNetTranslator(slice_inputs(network, prior), network.features, channels, network.dropout)


def build_objective(options: Pix2Pix, channels: int, encoder: nn.Module | None) -> Pix2PixObjective:
    """L1 and the discriminator."""
    return Pix2PixObjective(options.discriminator, options.l1, channels)
