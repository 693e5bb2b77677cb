"""Corrected labels: the target of a batch, warped into alignment with its source."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from m2m.networks.correction import LabelCorrection, inverse, warp
from m2m.networks.translation import Translation
from m2m.objectives import losses
from m2m.objectives.objective import Terms


class CorrectedBatch(NamedTuple):
    """A batch after label correction.

    Attributes
    ----------
    batch : mapping of str to Tensor
        With the corrected target; its mask holds pixels inside the mask before and after warping.
    misalignment : Tensor, shape (N, 2, H, W), or None
        Estimated misalignment of the original target, pixels. None for orientations in which no
        misalignment is allowed: Adam would update its state by gradients of 0.
    """

    batch: Mapping[str, Tensor]
    misalignment: Tensor | None


class CorrectedLabels(nn.Module):
    """Warps the targets of a batch, once per step, before the terms of the loss are computed.

    Terms that use the corrected target give no gradient to the correction. It is trained together
    with the generator, by its own terms: the translation, warped by the estimated misalignment,
    should equal the original target. These terms warp the translation and not the target, because
    interpolation removes noise from a target. A warped target would therefore fit better even where
    it is not better aligned, and the translation would follow it.

    Parameters
    ----------
    correction : LabelCorrection
    learned : bool
        Whether the correction is trained; else it is frozen.
    smoothness : float
        Weight of the squared slopes of the misalignment.
    start : int
        First step, counted from 1, whose targets are corrected. The correction is trained from the
        first step on.
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

    def forward(self, batch: Mapping[str, Tensor], step: int) -> CorrectedBatch:
        """Correct the targets of a batch; `step` counts from 0."""
        mask = batch["mask"]
        target = batch["target"] * mask  # (N, C, H, W)
        if not self.correction.free[batch["plane"]].any():
            return CorrectedBatch({**batch, "target": target}, None)
        misalignment = self.correction(batch["correction_input"], batch["plane"])  # (N, 2, H, W)
        if self.learned and step + 1 < self.start:
            return CorrectedBatch({**batch, "target": target}, misalignment)
        displacement = inverse(misalignment.detach())
        warped = {"target": warp(target, displacement), "mask": mask * warp(mask, displacement)}
        return CorrectedBatch({**batch, **warped}, misalignment)

    def terms(self, batch: Mapping[str, Tensor], output: Translation, misalignment: Tensor | None) -> Terms:
        """Compute the terms that train the correction.

        Parameters
        ----------
        batch : mapping of str to Tensor
            Before correction.
        output : Translation
            Of this batch.
        misalignment : Tensor, shape (N, 2, H, W), or None
            As in `CorrectedBatch`.

        Returns
        -------
        dict of str to Tensor
            ``alignment`` and ``smoothness``; empty where nothing is trained.
        """
        if not self.learned or misalignment is None:
            return {}
        mask = batch["mask"]
        warped = warp(output.image.detach() * mask, misalignment)
        return {
            "alignment": losses.masked_l1(warped, batch["target"], mask),
            "smoothness": self.smoothness * losses.roughness(misalignment),
        }
