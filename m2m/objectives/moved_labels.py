"""Corrected labels: the target of a batch moved to where the source says it belongs."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from m2m.networks.correction import LabelCorrection, inverse, warp
from m2m.networks.translation import Translation
from m2m.objectives import losses
from m2m.objectives.objective import Terms


class Moved(NamedTuple):
    """A batch whose target was moved.

    Attributes
    ----------
    batch : mapping of str to Tensor
        With the target at its new place, known where it was before and is after.
    misalignment : Tensor, shape (N, 2, H, W), or None
        How it lay; None where nothing may be off in this orientation: a gradient of 0 would count
        for Adam.
    """

    batch: Mapping[str, Tensor]
    misalignment: Tensor | None


class MovedLabels(nn.Module):
    """Moves the targets of a batch, once a step, before any term is computed.

    Terms on what it gives do not teach where labels lie: the correction learns, on the generator's
    side, from terms of its own. Moved as it says, the translation is to look like the target. It
    is the translation that is moved there, since a target read between pixels loses noise, whether
    or not it lies better there, and the translation would follow it to wherever that is.

    Parameters
    ----------
    correction : LabelCorrection
    learned : bool
        False: it is frozen.
    smoothness : float
        Weight of the misalignment's squared slopes.
    start : int
        Number of the first step, counted from 1, whose targets are moved; the correction learns
        before, too.
    """

    def __init__(
        self,
        correction: LabelCorrection,
        learned: bool = True,
        smoothness: float = 1.0,
        start: int = 0,
    ):
        super().__init__()
        self.correction = correction.requires_grad_(learned)
        self.learned, self.smoothness, self.start = learned, smoothness, start

    def forward(self, batch: Mapping[str, Tensor], step: int) -> Moved:
        """Move the targets of a batch, of a step counted from 0."""
        mask = batch["mask"]
        target = batch["target"] * mask  # (N, C, H, W)
        if not self.correction.free[batch["plane"]].any():
            return Moved({**batch, "target": target}, None)
        misalignment = self.correction(batch["beside"], batch["plane"])  # (N, 2, H, W)
        if self.learned and step + 1 < self.start:
            return Moved({**batch, "target": target}, misalignment)
        displacement = inverse(misalignment.detach())
        moved = {"target": warp(target, displacement), "mask": mask * warp(mask, displacement)}
        return Moved({**batch, **moved}, misalignment)

    def terms(
        self, batch: Mapping[str, Tensor], output: Translation, misalignment: Tensor | None
    ) -> Terms:
        """What teaches the correction: ``alignment`` and ``smoothness``.

        Parameters
        ----------
        batch : mapping of str to Tensor
            As it was before.
        output : Translation
        misalignment : Tensor or None
            Of `Moved`.
        """
        if not self.learned or misalignment is None:
            return {}
        mask = batch["mask"]
        moved = warp(output.image.detach() * mask, misalignment)
        return {
            "alignment": losses.masked_l1(moved, batch["target"], mask),
            "smoothness": self.smoothness * losses.roughness(misalignment),
        }
