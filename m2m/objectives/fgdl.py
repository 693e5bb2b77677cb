"""FGDL: synthesis judged by what it still lacks.

References
----------
Feng et al. (2024), fine-grained difference learning, IEEE TMI,
https://doi.org/10.1109/TMI.2024.3445969.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2m import losses
from m2m.networks.discriminators import DifferenceProjectionDiscriminator
from m2m.networks.octave import Translation
from m2m.networks.superres import Restored
from m2m.objectives.base import Objective, Terms
from m2m.objectives.macro2micro import Perception, judge_frozen
from m2m.options.families.fgdl_cms import FgdlLosses, ProjectionJudge


class FgdlObjective(Objective):
    """L1, structural similarity, perceptual distance, and a discriminator that knows what lacks.

    The difference map is the target minus the synthesis; the discriminator sees it beside the true
    image and beside the synthetic one. The generator hears the discriminator, in every step, from
    the discriminator's first own step on. Everything is judged inside the target mask.

    Parameters
    ----------
    weights : options.FgdlLosses
        A term with weight 0 is not computed; without the terms that need it there is no
        discriminator.
    judge : options.ProjectionJudge
    channels : int
        Of the target.
    encoder : Module or None
        As in `Macro2MicroObjective`.
    """

    def __init__(
        self,
        weights: FgdlLosses,
        judge: ProjectionJudge,
        channels: int = 1,
        encoder: nn.Module | None = None,
    ):
        super().__init__()
        self.every, self.start, self.learning_rate = judge.every, judge.start, judge.learning_rate
        self.weights = weights
        self.perceptual = Perception(encoder) if encoder and weights.perceptual else None
        self.discriminator = (
            DifferenceProjectionDiscriminator(judge.width, channels)
            if weights.adversarial or weights.features
            else None
        )
        # Saved with the rest, so that a resumed training hears what it would have heard.
        self.register_buffer("heard", torch.tensor(False))

    def generator_terms(
        self,
        batch: Mapping[str, Tensor],
        translation: Translation,
        generator: nn.Module | None = None,
        judged: bool = True,
    ) -> Terms:
        """Weighted terms, as of `Macro2MicroObjective.generator_terms`."""
        weights, mask = self.weights, batch["mask"]
        target, image = batch["target"] * mask, translation.image.float() * mask
        terms = {}
        if weights.image:
            terms["image"] = losses.masked_l1(image, target, mask)
        if weights.squared:
            terms["squared"] = losses.masked_squares(image, target, mask)
        if weights.ms_ssim:
            terms["ms_ssim"] = losses.ms_ssim_loss(image, target, mask)
        if self.perceptual:
            terms["perceptual"] = self.perceptual.distance(image, target, mask)
        if self.discriminator and self.heard:
            difference = self._lacking(target, translation, mask)
            fake = judge_frozen(self.discriminator, image, difference)
            with torch.no_grad():
                real = self.discriminator(target, difference)
            if weights.adversarial:
                terms["adversarial"] = losses.relativistic_adversarial(fake.logits, real.logits)
            if weights.features:
                terms["features"] = losses.feature_matching(fake.features, real.features)
        return {name: getattr(weights, name) * term for name, term in terms.items()}

    def discriminator_terms(self, batch: Mapping[str, Tensor], translation: Translation) -> Terms:
        """Term of the discriminator's loss; the translation is detached here."""
        mask = batch["mask"]
        target, image = batch["target"] * mask, translation.image.detach().float() * mask
        self.heard.fill_(True)
        difference = self._lacking(target, translation, mask)
        real, fake = (self.discriminator(seen, difference) for seen in (target, image))
        return {"discriminator": losses.relativistic_adversarial(real.logits, fake.logits)}

    def _lacking(self, target: Tensor, translation: Translation, mask: Tensor) -> Tensor:
        """The difference map (N, C, H, W): what the synthesis lacks."""
        return (target - translation.image.float() * mask).detach()


class FgdlSrObjective(FgdlObjective):
    """The same of a super-resolution: what its frozen synthesis lacks is the difference map.

    Its similarity maps are asked to tell it: 1 where nothing lacks, less by the size of what does.

    Parameters
    ----------
    weights : options.FgdlSrLosses
    judge, channels, encoder
        As of `FgdlObjective`.
    """

    def generator_terms(
        self,
        batch: Mapping[str, Tensor],
        translation: Restored,
        generator: nn.Module | None = None,
        judged: bool = True,
    ) -> Terms:
        """Weighted terms, as of `Macro2MicroObjective.generator_terms`."""
        terms = super().generator_terms(batch, translation, generator, judged)
        if self.weights.similarity:
            mask = batch["mask"]
            lacking = self._lacking(batch["target"] * mask, translation, mask).abs()
            told = []
            for level, found in enumerate(reversed(translation.similarity)):
                there, inside = (_pooled(image, 2**level, found) for image in (lacking, mask))
                told.append(losses.masked_squares(found, 1 - there, inside))
            terms["similarity"] = self.weights.similarity * sum(told) / len(told)
        return terms

    def _lacking(self, target: Tensor, translation: Restored, mask: Tensor) -> Tensor:
        """Target minus synthesis, (N, 1, H, W)."""
        return (target - translation.synthesis.float() * mask).detach()


def _pooled(image: Tensor, factor: int, like: Tensor) -> Tensor:
    """Average of an image (N, C, H, W) over blocks of pixels, each a pixel of a padded map."""
    below, right = (factor * like.shape[i] - image.shape[i] for i in (2, 3))
    return F.avg_pool2d(F.pad(image, (0, right, 0, below)), factor)
