"""FGDL's super-resolution, guided by its frozen synthesis.

References
----------
Feng et al. (2024), fine-grained difference learning, IEEE TMI,
https://doi.org/10.1109/TMI.2024.3445969.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from m2m.models.families.fgdl_cms_model import FgdlObjective
from m2m.models.given import Synthesis
from m2m.networks.slice_inputs import TemplateMap
from m2m.networks.superres import Restored, SuperResolution
from m2m.objectives import losses
from m2m.objectives.objective import StepContext, Terms
from m2m.options.families.fgdl_sr import FgdlSr


def build_network(
    options: FgdlSr, channels: int, prior: TemplateMap | None, synthesis: Synthesis | None
) -> nn.Module:
    """Stages about the synthesis, which sees the prior, where there is one."""
    stage = options.network
    return SuperResolution(
        synthesis.network, synthesis.ratio, stage.width, stage.heads, stage.blocks, stage.expansion
    )


def build_objective(options: FgdlSr, channels: int, encoder: nn.Module | None) -> "FgdlSrObjective":
    """Losses of FGDL, and what similarity maps are to tell."""
    judge = options.discriminator
    return FgdlSrObjective(
        options.losses.terms, judge.width, every=judge.every, start=judge.start,
        learning_rate=judge.learning_rate, channels=channels, encoder=encoder,
    )  # fmt: skip


class FgdlSrObjective(FgdlObjective):
    """The same of a super-resolution: what its frozen synthesis lacks is the difference map.

    Its similarity maps are asked to tell it: 1 where nothing lacks, less by the size of what does.
    """

    def generator_terms(self, context: StepContext) -> Terms:
        """As `FgdlObjective.generator_terms`, and ``similarity``; the output is a `Restored`."""
        terms = super().generator_terms(context)
        if "similarity" in self.weights:
            mask = context.batch["mask"]
            lacking = self._lacking(context.batch["target"] * mask, context.output, mask).abs()
            told = []
            for level, found in enumerate(reversed(context.output.similarity)):
                there, inside = (_pooled(image, 2**level, found) for image in (lacking, mask))
                told.append(losses.masked_squares(found, 1 - there, inside))
            terms["similarity"] = self.weights["similarity"] * sum(told) / len(told)
        return terms

    def _lacking(self, target: Tensor, output: Restored, mask: Tensor) -> Tensor:
        """Target minus synthesis, (N, 1, H, W)."""
        return (target - output.synthesis.float() * mask).detach()


def _pooled(image: Tensor, factor: int, like: Tensor) -> Tensor:
    """Average of an image (N, C, H, W) over blocks of pixels, each a pixel of a padded map."""
    below, right = (factor * like.shape[i] - image.shape[i] for i in (2, 3))
    return F.avg_pool2d(F.pad(image, (0, right, 0, below)), factor)
