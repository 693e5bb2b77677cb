"""The loss of the early public Macro2Micro (2023), as published.

References
----------
Kim et al. (2024), Macro2Micro, arXiv:2412.11277, and its public code of 2023.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from m2m import options
from m2m.networks.octave import Translation
from m2m.objectives.base import Terms
from m2m.objectives.macro2micro import Macro2MicroObjective

# All terms of its loss have weight 1; it had no structural similarity and no uncertainty.
WEIGHTS = options.Losses(adversarial=1.0, patch_adversarial=1.0, ms_ssim=0.0, log_sd=0.0)


class PublishedObjective(Macro2MicroObjective):
    """L1 of the image and of its bands, perceptual distance, and two terms without effect.

    As published, whole slices are compared, crops lie anywhere, and **the adversarial terms see
    the image detached: they have values, and no gradient**.

    Parameters
    ----------
    discriminators : options.Discriminators
    low_sigma_px : float
        Of the low band's Gaussian.
    seed, channels, encoder
        As in `Macro2MicroObjective`.
    """

    def __init__(
        self,
        discriminators: options.Discriminators,
        low_sigma_px: float,
        seed: int = 0,
        channels: int = 1,
        encoder: nn.Module | None = None,
    ):
        super().__init__(
            WEIGHTS.model_copy(update={"low_sigma_px": low_sigma_px}),
            discriminators.model_copy(update={"brain_focused": False}), seed, channels, encoder,
        )  # fmt: skip

    def generator_terms(
        self,
        batch: Mapping[str, Tensor],
        translation: Translation,
        generator: nn.Module | None = None,
        judged: bool = True,
    ) -> Terms:
        """Terms of the generator's loss, as `Macro2MicroObjective.generator_terms`."""
        whole = {**batch, "mask": torch.ones_like(batch["mask"])}
        terms = super().generator_terms(whole, translation, generator, judged)
        without_effect = ("adversarial", "patch_adversarial")
        return {n: t.detach() if n in without_effect else t for n, t in terms.items()}

    def discriminator_terms(self, batch: Mapping[str, Tensor], translation: Translation) -> Terms:
        """Terms of the discriminators' loss, of whole slices."""
        whole = {**batch, "mask": torch.ones_like(batch["mask"])}
        return super().discriminator_terms(whole, translation)
