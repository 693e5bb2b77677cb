"""A family's networks and objective, built from its options, and loaded from its weights."""

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from m2m.io.errors import DataError
from m2m.io.modalities import MODALITIES
from m2m.models.given import Synthesis
from m2m.models.implementation import implementation
from m2m.networks.correction import LabelCorrection
from m2m.networks.slice_inputs import TemplateMap
from m2m.objectives.moved_labels import MovedLabels
from m2m.objectives.objective import Objective
from m2m.options import Trained, section_of

# Before the names of a label correction's weights, in a file beside the translator's.
CORRECTION = "correction."
# Before those of the network that another one starts from, and holds frozen.
SYNTHESIS = "synthesis."
# Buffers of a TemplateMap, in its arguments' order.
PRIOR = ("values", "to_voxel")


def build_network(
    options: Trained,
    channels: int = 1,
    prior: TemplateMap | None = None,
    synthesis: Synthesis | None = None,
) -> nn.Module:
    """Build the translator of a family's options: one channel in per slice, `channels` out.

    Parameters
    ----------
    options : Trained
    channels : int
        Of the target.
    prior : TemplateMap or None
        Needed where the network sees one.
    synthesis : Synthesis or None
        Needed for a super-resolution, which sees what it sees.

    Raises
    ------
    ValueError
        The network sees a prior, and none is given.
    """
    return implementation(options).build_network(options, channels, prior, synthesis)


def build_objective(
    options: Trained, channels: int = 1, encoder: nn.Module | None = None
) -> Objective:
    """Build the objective of a family's options.

    Parameters
    ----------
    options : Trained
    channels : int
        Of the target.
    encoder : Module or None
        Of the perceptual term, for the families that have one.
    """
    return implementation(options).build_objective(options, channels, encoder)


def build_moved_labels(
    options: Trained, channels: int = 1, learnt: LabelCorrection | None = None
) -> MovedLabels | None:
    """Build what moves the targets before a model learns from them; None where they stay.

    Parameters
    ----------
    options : Trained
    channels : int
        Of the target.
    learnt : LabelCorrection or None
        Learnt before: it is frozen.
    """
    if learnt is not None:
        return MovedLabels(learnt, learned=False)
    if (chosen := options.correction) is None:
        return None
    correction = LabelCorrection(channels, chosen.widths, chosen.along, chosen.context)
    return MovedLabels(correction, smoothness=chosen.smoothness, start=chosen.start)


def load_network(tensors: Mapping[str, NDArray], record: Mapping[str, Any]) -> nn.Module:
    """Build the network of a model's record and give it its weights."""
    channels = len(MODALITIES[record["target"]].channels)
    options = section_of(record)
    synthesis = None
    if options.starts_from:
        prefix = len(SYNTHESIS)
        first = {n[prefix:]: t for n, t in tensors.items() if n.startswith(SYNTHESIS)}
        synthesis = Synthesis(load_network(first, record["first"]), None, record["low"]["ratio"])
    state = {
        name: torch.from_numpy(t) for name, t in tensors.items() if not name.startswith(CORRECTION)
    }
    found = [state[f"inputs.prior.{name}"] for name in PRIOR if f"inputs.prior.{name}" in state]
    network = build_network(options, channels, TemplateMap(*found) if found else None, synthesis)
    network.load_state_dict(state)
    return network.eval()


def load_correction(tensors: Mapping[str, NDArray], record: Mapping[str, Any]) -> LabelCorrection:
    """Build the label correction of a model's record and give it its weights.

    Raises
    ------
    DataError
        The model was trained on labels as they are.
    """
    if (chosen := section_of(record).correction) is None:
        raise DataError(
            f"model {record['model']} was trained on labels as they are",
            remedy="set its correct_labels: true and train it again",
        )
    channels = len(MODALITIES[record["target"]].channels)
    network = LabelCorrection(channels, chosen.widths, chosen.along, chosen.context)
    prefix = len(CORRECTION)
    network.load_state_dict(
        {n[prefix:]: torch.from_numpy(t) for n, t in tensors.items() if n.startswith(CORRECTION)}
    )
    return network.eval()


def load_synthesis(
    tensors: Mapping[str, NDArray], record: Mapping[str, Any], ratio: int
) -> Synthesis:
    """Load what a super-resolution of a ratio starts from."""
    corrects = section_of(record).correction is not None
    correction = load_correction(tensors, record) if corrects else None
    return Synthesis(load_network(tensors, record), correction, ratio)
