"""The early public Macro2Micro of 2023: network and loss as published.

References
----------
Kim et al. (2024), Macro2Micro, arXiv:2412.11277, and its public code of 2023.
"""

import torch
from torch import nn

from m2m.models.families.macro2micro_model import Macro2MicroObjective, crops_of
from m2m.models.prerequisites import Synthesis
from m2m.networks.published import PublishedTranslator
from m2m.networks.slice_inputs import TemplateMap
from m2m.objectives.objective import StepContext, Terms
from m2m.options.families.macro2micro_2023 import Published2023

# All terms of its loss have weight 1; it had no structural similarity term and no uncertainty.
WEIGHTS = dict.fromkeys(
    ("l1", "l1_low_frequency", "l1_high_frequency", "perceptual", "adversarial", "patch_adversarial"), 1.0
)


def build_network(
    options: Published2023, channels: int, prior: TemplateMap | None, synthesis: Synthesis | None
) -> nn.Module:
    """Build the network of 2023.

    Parameters
    ----------
    options : Published2023
    channels : int
        Channels of the target.
    prior : TemplateMap or None
        Not used.
    synthesis : Synthesis or None
        Not used.

    Returns
    -------
    PublishedTranslator
    """
    return PublishedTranslator(channels)


def build_objective(options: Published2023, channels: int, encoder: nn.Module | None) -> "PublishedObjective":
    """Build the loss of 2023; its crops may lie outside the brain.

    Parameters
    ----------
    options : Published2023
    channels : int
        Channels of the target.
    encoder : Module or None
        Feature network of the perceptual term.

    Returns
    -------
    PublishedObjective
    """
    discriminators = options.discriminators
    return PublishedObjective(
        WEIGHTS,
        crops_of(discriminators)._replace(brain_focused=False),
        discriminators.width,
        every=discriminators.every,
        learning_rate=discriminators.learning_rate,
        low_frequency_sigma_px=options.low_frequency_sigma_px,
        seed=options.training.seed,
        channels=channels,
        encoder=encoder,
    )


class PublishedObjective(Macro2MicroObjective):
    """L1 of the image and of its bands, perceptual distance, and adversarial terms without gradient.

    As published, whole slices are compared, and **the adversarial terms are computed from the
    detached image: they have values, but no gradient**.
    """

    def generator_terms(self, context: StepContext) -> Terms:
        """As `Objective.generator_terms`, for whole slices."""
        terms = super().generator_terms(without_mask(context))
        without_effect = ("adversarial", "patch_adversarial")
        return {n: t.detach() if n in without_effect else t for n, t in terms.items()}

    def discriminator_terms(self, context: StepContext) -> Terms:
        """As `Objective.discriminator_terms`, for whole slices."""
        return super().discriminator_terms(without_mask(context))


def without_mask(context: StepContext) -> StepContext:
    """Replace the mask of a step by ones."""
    everywhere = torch.ones_like(context.batch["mask"])
    return context._replace(batch={**context.batch, "mask": everywhere})
