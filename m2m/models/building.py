"""Build the networks and the objective of a family from its options, and load trained weights."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from torch import nn

from m2m.io.errors import DataError
from m2m.io.modalities import MODALITIES
from m2m.models.implementation import implementation
from m2m.models.prerequisites import Synthesis
from m2m.models.record import weights_error
from m2m.networks.correction import LabelCorrection
from m2m.networks.slice_inputs import TemplateMap
from m2m.objectives.corrected_labels import CorrectedLabels
from m2m.objectives.objective import Objective
from m2m.options import Trained, section_of

ModuleT = TypeVar("ModuleT", bound=nn.Module)
# Prefix of the weights of a label correction, in the file of the translator's weights.
CORRECTION = "correction."
# Prefix of the weights of a frozen synthesis, in the weights of a super-resolution.
SYNTHESIS = "synthesis."
# Buffers of a TemplateMap, in the order of its arguments.
PRIOR = ("values", "to_voxel")


def build_network(
    options: Trained,
    channels: int = 1,
    prior: TemplateMap | None = None,
    synthesis: Synthesis | None = None,
) -> nn.Module:
    """Build the translator of a family; each input slice has one channel.

    Parameters
    ----------
    options : Trained
    channels : int
        Channels of the target.
    prior : TemplateMap or None
        Required if the network has a prior among its inputs.
    synthesis : Synthesis or None
        Required by a super-resolution.

    Returns
    -------
    Module
        Maps slices, orientations and positions to a `Translation`, or to a `Restored`.

    Raises
    ------
    ValueError
        The network needs a prior or a synthesis, and none is given.
    """
    return implementation(options).build_network(options, channels, prior, synthesis)


def build_objective(options: Trained, channels: int = 1, encoder: nn.Module | None = None) -> Objective:
    """Build the objective of a family.

    Parameters
    ----------
    options : Trained
    channels : int
        Channels of the target.
    encoder : Module or None
        Feature network of the perceptual term, for families that have this term.

    Returns
    -------
    Objective
    """
    return implementation(options).build_objective(options, channels, encoder)


def build_corrected_labels(
    options: Trained, channels: int = 1, pretrained: LabelCorrection | None = None
) -> CorrectedLabels | None:
    """Build the label correction that warps targets before a model is trained on them.

    Parameters
    ----------
    options : Trained
    channels : int
        Channels of the target.
    pretrained : LabelCorrection or None
        A trained correction, which is used frozen.

    Returns
    -------
    CorrectedLabels or None
        None: targets are not corrected.
    """
    if pretrained is not None:
        return CorrectedLabels(pretrained, learned=False)
    if (chosen := options.correction) is None:
        return None
    correction = LabelCorrection(channels, chosen.widths, chosen.along, chosen.context)
    return CorrectedLabels(correction, smoothness=chosen.smoothness, start=chosen.start)


def fill(make: Callable[[], ModuleT], tensors: Mapping[str, NDArray]) -> ModuleT:
    """Build a network and load its weights, which may come from elsewhere.

    Parameters
    ----------
    make : callable
        Builds the network; it is called without memory for the weights first, to compare their sizes.
    tensors : mapping of str to ndarray

    Returns
    -------
    Module

    Raises
    ------
    DataError
        The weights are not those of this network.
    """
    try:
        with torch.device("meta"):
            expected = {name: tuple(tensor.shape) for name, tensor in make().state_dict().items()}
    except (ValueError, RuntimeError, TypeError, OverflowError) as error:
        raise weights_error(str(error)) from error
    for name in sorted(expected.keys() | tensors.keys()):
        found = tensors[name].shape if name in tensors else None
        if found != expected.get(name):
            raise weights_error(f"{name} has the shape {found}, the network's is {expected.get(name)}")
    network = make()
    network.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in tensors.items()})
    return network


def load_network(tensors: Mapping[str, NDArray], record: Mapping[str, Any]) -> nn.Module:
    """Build the network that a model's record describes, and load its weights.

    Raises
    ------
    DataError
        The weights do not fit the record: see `fill`.
    """
    channels = len(MODALITIES[record["target"]].channels)
    options = section_of(record)
    assert isinstance(options, Trained)  # other families have no network
    synthesis = None
    if options.starts_from:
        prefix = len(SYNTHESIS)
        first = {n[prefix:]: t for n, t in tensors.items() if n.startswith(SYNTHESIS)}
        synthesis = Synthesis(load_network(first, record["first"]), None, record["low_res"]["factor"])
    state = {name: tensor for name, tensor in tensors.items() if not name.startswith(CORRECTION)}
    prior = prior_of(state, MODALITIES[record["target"]].directed)
    return fill(lambda: build_network(options, channels, prior, synthesis), state).eval()


def prior_of(state: Mapping[str, NDArray], directed: bool) -> TemplateMap | None:
    """The prior among the weights of a network, of tensors if `directed`; None where there is none."""
    found = [state[f"inputs.prior.{name}"] for name in PRIOR if f"inputs.prior.{name}" in state]
    if not found:
        return None
    if len(found) < len(PRIOR) or found[0].ndim != 4 or found[1].shape != (4, 4):
        raise weights_error(f"the prior has the shapes {[tensor.shape for tensor in found]}")
    values, to_voxel = map(torch.from_numpy, found)
    return TemplateMap(values, to_voxel, directed)


def load_correction(tensors: Mapping[str, NDArray], record: Mapping[str, Any]) -> LabelCorrection:
    """Build the label correction that a model's record describes, and load its weights.

    Raises
    ------
    DataError
        The model was trained without label correction.
    """
    if (chosen := section_of(record).correction) is None:
        raise DataError(
            f"model {record['model']} was trained without label correction",
            remedy="set correct_labels: true for this model and train it again",
        )
    channels = len(MODALITIES[record["target"]].channels)
    prefix = len(CORRECTION)
    own = {name[prefix:]: tensor for name, tensor in tensors.items() if name.startswith(CORRECTION)}
    return fill(lambda: LabelCorrection(channels, chosen.widths, chosen.along, chosen.context), own).eval()


def load_synthesis(tensors: Mapping[str, NDArray], record: Mapping[str, Any], factor: int) -> Synthesis:
    """Load the synthesis of a super-resolution.

    Parameters
    ----------
    tensors : mapping of str to ndarray
        Weights of the synthesis, and of its label correction if it has one.
    record : mapping
        Its ``model.json``.
    factor : int
        Low-resolution voxel size over full-resolution voxel size.

    Returns
    -------
    Synthesis
    """
    has_correction = section_of(record).correction is not None
    correction = load_correction(tensors, record) if has_correction else None
    return Synthesis(load_network(tensors, record), correction, factor)
