"""Inputs of a network's construction besides its own options: a prior, and a synthesis."""

from typing import NamedTuple

from torch import nn

from m2m.networks.correction import LabelCorrection
from m2m.networks.slice_inputs import SliceInputs, TemplateMap
from m2m.options.training_options import SliceWindow


class Synthesis(NamedTuple):
    """A trained synthesis network, which a super-resolution keeps frozen.

    Attributes
    ----------
    network : Module
    correction : LabelCorrection or None
        Label correction that it was trained with, if any.
    factor : int
        Low-resolution voxel size over full-resolution voxel size.
    """

    network: nn.Module
    correction: LabelCorrection | None
    factor: int


def slice_inputs(window: SliceWindow, prior: TemplateMap | None) -> SliceInputs:
    """Input channels of a network.

    Raises
    ------
    ValueError
        The network needs a prior, and none is given.
    """
    if window.prior and prior is None:
        raise ValueError("network.prior is on: give the training participants' mean map")
    return SliceInputs(window.context, window.position, prior if window.prior else None)
