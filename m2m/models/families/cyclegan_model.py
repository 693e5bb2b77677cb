"""CycleGAN: two U-Nets and two patch discriminators that never see a pair."""

from torch import nn

from m2m.models.given import Synthesis, slice_inputs
from m2m.networks.basic_unet import UNetTranslator
from m2m.networks.inputs import TemplateMap
from m2m.objectives.baselines import CycleGanObjective
from m2m.options.families.cyclegan import CycleGan


def build_network(
    options: CycleGan, channels: int, prior: TemplateMap | None, synthesis: Synthesis | None
) -> nn.Module:
    """MONAI's U-Net."""
    network = options.network
    return UNetTranslator(slice_inputs(network, prior), network.features, channels, network.dropout)


def build_objective(
    options: CycleGan, channels: int, encoder: nn.Module | None
) -> CycleGanObjective:
    """Cycles, identities, and the discriminators."""
    return CycleGanObjective(
        options.network, options.discriminator, options.cycle, options.identity
    )
