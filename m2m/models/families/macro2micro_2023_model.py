"""The early public Macro2Micro of 2023, network and loss, as published.

References
----------
Kim et al. (2024), Macro2Micro, arXiv:2412.11277, and its public code of 2023.
"""

import torch
from torch import nn

from m2m.models.families.macro2micro_model import Macro2MicroObjective, crops_of
from m2m.models.given import Synthesis
from m2m.networks.published import PublishedTranslator
from m2m.networks.slice_inputs import TemplateMap
from m2m.objectives.objective import StepContext, Terms
from m2m.options.families.macro2micro_2023 import Published2023

# All terms of its loss have weight 1; it had no structural similarity and no uncertainty.
WEIGHTS = dict.fromkeys(
    ("image", "low", "high", "perceptual", "adversarial", "patch_adversarial"), 1.0
)


def build_network(
    options: Published2023, channels: int, prior: TemplateMap | None, synthesis: Synthesis | None
) -> nn.Module:
    """The network of 2023."""
    return PublishedTranslator(channels)


def build_objective(
    options: Published2023, channels: int, encoder: nn.Module | None
) -> "PublishedObjective":
    """The loss of 2023; its crops lie anywhere."""
    judges = options.discriminators
    return PublishedObjective(
        WEIGHTS, crops_of(judges)._replace(brain_focused=False), judges.width, every=judges.every,
        learning_rate=judges.learning_rate, low_sigma_px=options.low_sigma_px,
        seed=options.training.seed, channels=channels, encoder=encoder,
    )  # fmt: skip


class PublishedObjective(Macro2MicroObjective):
    """L1 of the image and of its bands, perceptual distance, and two terms without effect.

    As published, whole slices are compared, and **the adversarial terms see the image detached:
    they have values, and no gradient**.
    """

    def generator_terms(self, context: StepContext) -> Terms:
        """As `Objective.generator_terms`, of whole slices."""
        terms = super().generator_terms(whole(context))
        without_effect = ("adversarial", "patch_adversarial")
        return {n: t.detach() if n in without_effect else t for n, t in terms.items()}

    def discriminator_terms(self, context: StepContext) -> Terms:
        """As `Objective.discriminator_terms`, of whole slices."""
        return super().discriminator_terms(whole(context))


def whole(context: StepContext) -> StepContext:
    """The same step with the mask everywhere."""
    everywhere = torch.ones_like(context.batch["mask"])
    return context._replace(batch={**context.batch, "mask": everywhere})
