"""FGDL's super-resolution, guided by its frozen synthesis."""

from torch import nn

from m2m.models.given import Synthesis
from m2m.networks.inputs import TemplateMap
from m2m.networks.superres import SuperResolution
from m2m.objectives.fgdl import FgdlSrObjective
from m2m.options.families.fgdl_sr import FgdlSr


def build_network(
    options: FgdlSr, channels: int, prior: TemplateMap | None, synthesis: Synthesis | None
) -> nn.Module:
    """Stages about the synthesis, which sees the prior, where there is one."""
    stage = options.network
    return SuperResolution(
        synthesis.network, synthesis.ratio, stage.width, stage.heads, stage.blocks, stage.expansion
    )


def build_objective(options: FgdlSr, channels: int, encoder: nn.Module | None) -> FgdlSrObjective:
    """Losses of FGDL, and what similarity maps are to tell."""
    return FgdlSrObjective(options.losses, options.discriminator, channels, encoder)
