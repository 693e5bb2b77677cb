"""What a network is built from beside its own options."""

from typing import NamedTuple

from torch import nn

from m2m.networks.correction import LabelCorrection
from m2m.networks.slice_inputs import SliceInputs, TemplateMap
from m2m.options.training_options import SliceWindow


class Synthesis(NamedTuple):
    """What a super-resolution starts from, and holds frozen.

    Attributes
    ----------
    network : Module
    correction : LabelCorrection or None
        That it was trained with, if any.
    ratio : int
        Of the low resolution.
    """

    network: nn.Module
    correction: LabelCorrection | None
    ratio: int


def slice_inputs(window: SliceWindow, prior: TemplateMap | None) -> SliceInputs:
    """Channels of a network's first layer, from what it sees of a volume.

    Raises
    ------
    ValueError
        The network sees a prior, and none is given.
    """
    if window.prior and prior is None:
        raise ValueError("network.prior is on: give the training people's mean map")
    return SliceInputs(window.context, window.position, prior if window.prior else None)
