"""Any objective on corrected labels: the target moved to where the source says it belongs."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from m2m import losses, options
from m2m.networks.correction import LabelCorrection, inverse, warp
from m2m.networks.octave import Translation
from m2m.objectives.base import Objective, Terms


class CorrectedLabels(Objective):
    """An objective whose targets are moved first, and the network that moves them.

    The network learns on the generator's side, from a term of its own: moved as it says, the
    translation is to look like the target. It is the translation that is moved there, since a
    target read between pixels loses noise, whether or not it lies better there, and the
    translation would follow it to wherever that is.

    Parameters
    ----------
    objective : Module
        Any other one. Its terms are of the corrected target, and do not teach where that lies.
    correction : LabelCorrection
    learned : options.Correction or None
        How it learns; None: it is frozen.
    """

    def __init__(
        self,
        objective: Objective,
        correction: LabelCorrection,
        learned: options.Correction | None,
    ):
        super().__init__()
        self.objective, self.correction, self.learned = objective, correction, learned
        self.beside = correction.context
        # Saved with the rest, so that a resumed training goes on where it was.
        self.register_buffer("step", torch.tensor(0))
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
        """Terms of the objective on corrected labels, and ``alignment`` and ``smoothness``."""
        self.step += 1
        corrected, misalignment = self._corrected(batch)
        terms = self.objective.generator_terms(corrected, translation, generator, judged)
        if self.learned and misalignment is not None:
            mask = batch["mask"]
            moved = warp(translation.image.detach() * mask, misalignment)
            terms["alignment"] = losses.masked_l1(moved, batch["target"], mask)
            terms["smoothness"] = self.learned.smoothness * losses.roughness(misalignment)
        return terms

    def discriminator_terms(self, batch: Mapping[str, Tensor], translation: Translation) -> Terms:
        """Terms of the objective's discriminators on corrected labels, which are detached."""
        with torch.no_grad():
            corrected, _ = self._corrected(batch)
        return self.objective.discriminator_terms(corrected, translation)

    def _corrected(self, batch: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor | None]:
        """The batch with its target moved, known where it was before and is after; how it lay.

        None where nothing may be off in this orientation: a gradient of 0 would count for Adam.
        """
        mask = batch["mask"]
        target = batch["target"] * mask  # (N, C, H, W)
        if not self.correction.free[batch["plane"]].any():
            return {**batch, "target": target}, None
        misalignment = self.correction(batch["beside"], batch["plane"])  # (N, 2, H, W)
        if self.learned and self.step < self.learned.start:
            return {**batch, "target": target}, misalignment
        displacement = inverse(misalignment.detach())
        moved = {"target": warp(target, displacement), "mask": mask * warp(mask, displacement)}
        return {**batch, **moved}, misalignment
