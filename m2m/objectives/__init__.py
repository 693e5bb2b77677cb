"""Objectives: what the generator and the discriminators of each family minimise."""

from torch import nn

from m2m import options
from m2m.networks.correction import LabelCorrection
from m2m.objectives.base import Objective
from m2m.objectives.correction import CorrectedLabels
from m2m.objectives.fgdl import FgdlObjective, FgdlSrObjective
from m2m.objectives.macro2micro import Macro2MicroObjective
from m2m.objectives.published import PublishedObjective


def build_objective(
    model: options.NetworkModel,
    channels: int = 1,
    encoder: nn.Module | None = None,
    correction: LabelCorrection | None = None,
) -> Objective:
    """Build the objective of a model's options, on corrected labels where they ask for it.

    Parameters
    ----------
    model : one of the families with a network
    channels : int
        Of the target.
    encoder : Module or None
        Of the perceptual term, for the families that have one.
    correction : LabelCorrection or None
        Learnt before: it is frozen.
    """
    objective = _own_objective(model, channels, encoder)
    if correction is not None:
        return CorrectedLabels(objective, correction.requires_grad_(False), None)
    if (chosen := model.correct_labels) is None:
        return objective
    correction = LabelCorrection(channels, chosen.widths, chosen.along, chosen.context)
    return CorrectedLabels(objective, correction, chosen)


def _own_objective(
    model: options.NetworkModel, channels: int, encoder: nn.Module | None
) -> Objective:
    """Objective of a family."""
    # MONAI takes seconds to load, and the first four do without.
    seed = model.training.seed
    match model:
        case options.Macro2Micro():
            judges = model.discriminators
            return Macro2MicroObjective(model.losses, judges, seed, channels, encoder)
        case options.Published2023():
            judges, sigma_px = model.discriminators, model.low_sigma_px
            return PublishedObjective(judges, sigma_px, seed, channels, encoder)
        case options.FgdlCms():
            return FgdlObjective(model.losses, model.discriminator, channels, encoder)
        case options.FgdlSr():
            return FgdlSrObjective(model.losses, model.discriminator, channels, encoder)
    from m2m.objectives.baselines import CycleGanObjective, Pix2PixObjective, RegressionObjective

    match model:
        case options.Pix2Pix():
            return Pix2PixObjective(model.discriminator, model.l1, channels)
        case options.CycleGan():
            judge = model.discriminator
            return CycleGanObjective(model.network, judge, model.cycle, model.identity)
    return RegressionObjective(model.l1, model.ssim)
