"""Macro2Micro: octave encoder and decoder, judged by every term inside the brain."""

from torch import nn

from m2m.models.given import Synthesis, slice_inputs
from m2m.networks.inputs import TemplateMap
from m2m.networks.octave import OctaveTranslator
from m2m.objectives.macro2micro import Macro2MicroObjective
from m2m.options.families.macro2micro import Macro2Micro
from m2m.slices import PLANES


def build_network(
    options: Macro2Micro, channels: int, prior: TemplateMap | None, synthesis: Synthesis | None
) -> nn.Module:
    """Octave encoder and decoder."""
    network = options.network
    return OctaveTranslator(
        slice_inputs(network, prior), network.widths, network.alpha, channels, planes=len(PLANES),
        spread=options.losses.log_sd > 0, entry=network.entry,
    )  # fmt: skip


def build_objective(
    options: Macro2Micro, channels: int, encoder: nn.Module | None
) -> Macro2MicroObjective:
    """Losses of Macro2Micro."""
    judges = options.discriminators
    return Macro2MicroObjective(options.losses, judges, options.training.seed, channels, encoder)
