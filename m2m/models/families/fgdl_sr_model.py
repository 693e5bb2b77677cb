"""Super-resolution of FGDL, guided by a frozen synthesis.

References
----------
Feng et al. (2024), fine-grained difference learning, IEEE TMI,
https://doi.org/10.1109/TMI.2024.3445969.
"""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from m2m.models.families.fgdl_cms_model import FgdlObjective
from m2m.models.prerequisites import Synthesis
from m2m.networks.restormer import RestormerTranslator
from m2m.networks.slice_inputs import TemplateMap
from m2m.networks.superres import Restored, SuperResolution
from m2m.networks.translation import Translation
from m2m.objectives import losses
from m2m.objectives.objective import StepContext, Terms
from m2m.options.families.fgdl_sr import FgdlSr


def build_network(options: FgdlSr, channels: int, prior: TemplateMap | None, synthesis: Synthesis | None) -> nn.Module:
    """Build the super-resolution around the synthesis; a prior is an input of the synthesis only.

    Parameters
    ----------
    options : FgdlSr
    channels : int
        Not used: the target has one channel.
    prior : TemplateMap or None
        Not used.
    synthesis : Synthesis or None
        A trained `fgdl-cms` network.

    Returns
    -------
    SuperResolution

    Raises
    ------
    ValueError
        There is no synthesis, or it is of another family.
    """
    if synthesis is None or not isinstance(synthesis.network, RestormerTranslator):
        raise ValueError("fgdl-sr needs the network of a trained fgdl-cms model as its synthesis")
    stage = options.network
    return SuperResolution(synthesis.network, synthesis.factor, stage.width, stage.heads, stage.blocks, stage.expansion)


def build_objective(options: FgdlSr, channels: int, encoder: nn.Module | None) -> "FgdlSrObjective":
    """Build the losses of FGDL, with a term for the similarity maps.

    Parameters
    ----------
    options : FgdlSr
    channels : int
        Channels of the target.
    encoder : Module or None
        Feature network of the perceptual term.

    Returns
    -------
    FgdlSrObjective
    """
    discriminator = options.discriminator
    return FgdlSrObjective(
        options.losses.terms,
        discriminator.width,
        every=discriminator.every,
        start=discriminator.start,
        learning_rate=discriminator.learning_rate,
        channels=channels,
        encoder=encoder,
    )


class FgdlSrObjective(FgdlObjective):
    """Losses of FGDL's super-resolution; the difference map is the target minus the frozen synthesis.

    The target value of its similarity maps is 1 minus the absolute difference map.
    """

    def generator_terms(self, context: StepContext) -> Terms:
        """As `FgdlObjective.generator_terms`, and ``similarity``; the output is a `Restored`."""
        terms = super().generator_terms(context)
        if "similarity" in self.weights:
            mask = context.batch["mask"]
            similarity = _restored(context.output).similarity
            difference = self._difference_map(context.batch["target"] * mask, context.output, mask).abs()
            distances = []
            for level, predicted in enumerate(reversed(similarity)):
                pooled, inside = (_pool(image, 2**level, predicted) for image in (difference, mask))
                distances.append(losses.masked_squares(predicted, 1 - pooled, inside))
            total = sum(distances[1:], start=distances[0])
            terms["similarity"] = self.weights["similarity"] * total / len(distances)
        return terms

    def _difference_map(self, target: Tensor, output: Translation, mask: Tensor) -> Tensor:
        """Target minus frozen synthesis inside the mask, (N, 1, H, W), without gradient."""
        return (target - _restored(output).synthesis.float() * mask).detach()


def _restored(output: Translation) -> Restored:
    """Output of a step, which a super-resolution gives as `Restored`."""
    return cast(Restored, output)


def _pool(image: Tensor, factor: int, like: Tensor) -> Tensor:
    """Average an image (N, C, H, W) over blocks of pixels, to the size of the padded map `like`."""
    below, right = (factor * like.shape[i] - image.shape[i] for i in (2, 3))
    return F.avg_pool2d(F.pad(image, (0, right, 0, below)), factor)
