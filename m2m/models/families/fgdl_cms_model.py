"""FGDL's synthesis: a U-shaped Restormer, judged by what it still lacks."""

from torch import nn

from m2m.models.given import Synthesis, slice_inputs
from m2m.networks.inputs import TemplateMap
from m2m.networks.restormer import RestormerTranslator
from m2m.objectives.fgdl import FgdlObjective
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


def build_objective(options: FgdlCms, channels: int, encoder: nn.Module | None) -> FgdlObjective:
    """Losses of FGDL."""
    return FgdlObjective(options.losses, options.discriminator, channels, encoder)
