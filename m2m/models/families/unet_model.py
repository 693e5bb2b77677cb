"""A U-Net, trained by regression."""

from torch import nn

from m2m.models.given import Synthesis, slice_inputs
from m2m.networks.basic_unet import UNetTranslator
from m2m.networks.inputs import TemplateMap
from m2m.objectives.baselines import RegressionObjective
from m2m.options.families.unet import UNet


def build_network(
    options: UNet, channels: int, prior: TemplateMap | None, synthesis: Synthesis | None
) -> nn.Module:
    """MONAI's U-Net."""
    network = options.network
    return UNetTranslator(slice_inputs(network, prior), network.features, channels, network.dropout)


def build_objective(options: UNet, channels: int, encoder: nn.Module | None) -> RegressionObjective:
    """L1 and structural similarity."""
    return RegressionObjective(options.l1, options.ssim)
