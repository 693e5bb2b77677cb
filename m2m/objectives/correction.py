"""Any objective on corrected labels: the target moved to where the source says it belongs."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from m2m import losses
from m2m.networks.correction import LabelCorrection, warp
from m2m.networks.octave import Translation
from m2m.objectives.base import Objective, Terms
from m2m.objectives.macro2micro import centre


class CorrectedLabels(Objective):
    """An objective whose targets are moved first, and the network that moves them.

    The network learns on the generator's side, from the objective's own terms: of a target that
    lies where the source says, a translation can be right. Its displacement is held smooth.

    Parameters
    ----------
    objective : Module
        Any other one.
    correction : LabelCorrection
    smoothness : float
        Weight of the displacement's roughness.
    """

    def __init__(self, objective: Objective, correction: LabelCorrection, smoothness: float):
        super().__init__()
        self.objective, self.correction, self.smoothness = objective, correction, smoothness
        self.every, self.start = objective.every, objective.start
        self.learning_rate = objective.learning_rate

    def discriminators(self) -> dict[str, nn.Module]:
        """Those of the objective."""
        return self.objective.discriminators()

    def helpers(self) -> dict[str, nn.Module]:
        """The correction, and those of the objective."""
        return {"correction": self.correction, **self.objective.helpers()}

    def generator_terms(
        self,
        batch: Mapping[str, Tensor],
        translation: Translation,
        generator: nn.Module | None = None,
        judged: bool = True,
    ) -> Terms:
        """Terms of the objective on corrected labels, and ``smoothness``, where it has a weight."""
        corrected, displacement = self._corrected(batch)
        terms = self.objective.generator_terms(corrected, translation, generator, judged)
        if self.smoothness:
            terms["smoothness"] = self.smoothness * losses.roughness(displacement)
        return terms

    def discriminator_terms(self, batch: Mapping[str, Tensor], translation: Translation) -> Terms:
        """Terms of the objective's discriminators on corrected labels, which are detached."""
        with torch.no_grad():
            corrected, _ = self._corrected(batch)
        return self.objective.discriminator_terms(corrected, translation)

    def _corrected(self, batch: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """The batch with its target moved, known where it was before and is after; the move."""
        mask = batch["mask"]
        target = batch["target"] * mask  # (N, C, H, W)
        displacement = self.correction(target, centre(batch))  # (N, 2, H, W)
        moved = {
            "target": warp(target, displacement),
            "mask": mask * warp(mask, displacement.detach()),
        }
        return {**batch, **moved}, displacement
