"""The early public Macro2Micro of 2023, network and loss, as published."""

from torch import nn

from m2m.models.given import Synthesis
from m2m.networks.inputs import TemplateMap
from m2m.networks.published import PublishedTranslator
from m2m.objectives.published import PublishedObjective
from m2m.options.families.macro2micro_2023 import Published2023


def build_network(
    options: Published2023, channels: int, prior: TemplateMap | None, synthesis: Synthesis | None
) -> nn.Module:
    """The network of 2023."""
    return PublishedTranslator(channels)


def build_objective(
    options: Published2023, channels: int, encoder: nn.Module | None
) -> PublishedObjective:
    """The loss of 2023."""
    judges, sigma_px = options.discriminators, options.low_sigma_px
    return PublishedObjective(judges, sigma_px, options.training.seed, channels, encoder)
