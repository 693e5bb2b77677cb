"""Fine-tuning: a network starts from the weights of a trained model instead of random ones.

A layer is taken whole or not at all, if all its tensors have the same names and shapes. Taken are the weights of
the network; discriminators, optimisers, a label correction and the frozen synthesis of a super-resolution are those
of the new training.

A `prior` is taken with the weights, and not made again of the new training participants. Both are in the same units,
since a target is scaled by fixed numbers (`m2m.io.modalities`), and the network has learned what this one means. With
a few participants, their mean holds each one's own target: a network could copy it in training, and would miss it in
others.

References
----------
Ghafoorian et al. (2017), fine-tuning to another scanner with few participants, arXiv:1702.07841.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from m2m.io.errors import DataError
from m2m.io.modalities import MODALITIES
from m2m.models.building import CORRECTION, SYNTHESIS, build_network, prior_of
from m2m.models.prerequisites import Synthesis
from m2m.models.pretrained import starting_weights
from m2m.models.record import load_model
from m2m.networks.slice_inputs import TemplateMap
from m2m.options import Trained

OTHER_SHAPE, NOT_IN_START, NOT_IN_NETWORK = "other shape", "not in the start", "not in this network"
# With less of its weights, such as a head of two layers, the network would in fact start from random ones.
LEAST_SHARE = 0.1
# Layers that one message names.
NAMED = 8


class Start(NamedTuple):
    """What a training takes from a trained model.

    Attributes
    ----------
    tensors : dict of str to Tensor
        Weights and buffers of the layers that fit.
    prior : TemplateMap or None
        Its prior, if both networks have one.
    entry : dict
        Its entry in the record of the new model, ``started_from``.
    """

    tensors: dict[str, torch.Tensor]
    prior: TemplateMap | None
    entry: dict[str, Any]


def start_of(options: Trained, about: Mapping[str, Any], synthesis: Synthesis | None = None) -> Start | None:
    """Load the weights that a training starts from, and print which layers are not taken.

    Parameters
    ----------
    options : Trained
        Options of the model.
    about : mapping
        Its record so far: family, source, target, grid and low resolution.
    synthesis : Synthesis or None
        Model that a super-resolution keeps frozen.

    Returns
    -------
    Start or None
        None: the weights are random.

    Raises
    ------
    DataError
        The weights are missing, translate between other images or are of another family, or hardly any layer fits.
    """
    chosen = options.training.start_from
    if chosen is None:
        return None
    path = starting_weights(chosen, about["source"], about["target"], about["family"])
    tensors, record = load_model(path, path.with_name("model.json"))
    require_alike(record, about, path)
    start = fitted(_of_network(tensors), options, about["target"], synthesis)
    layers, not_taken = start.entry["n_taken"], start.entry["not_taken"]
    print(f"starting from {record['model']} ({record['weights']}): {layers} layers taken", *_notes(record, about))
    if not_taken:
        print(f"layers not taken: {listed(not_taken)}")
    if not start.tensors:
        raise DataError(
            "no layer, or hardly any, fits the network that is trained",
            file=path,
            value=listed(not_taken),
            remedy=f"give the model the options of that one, network: {record['options'].get('network')}, or "
            "remove training.start_from",
        )
    origin = {key: record[key] for key in ("task", "model", "weights", "spacing_mm", "simulated")}
    return start._replace(entry=origin | start.entry)


def _of_network(tensors: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Tensors of the network alone, in single precision where they were stored in half."""
    single = {name: t.astype(np.float32) if t.dtype == np.float16 else t for name, t in tensors.items()}
    return {name: t for name, t in single.items() if not name.startswith((CORRECTION, SYNTHESIS))}


def require_alike(record: Mapping[str, Any], about: Mapping[str, Any], path: Path) -> None:
    """Raise DataError unless a trained model does what the new one is for.

    Parameters
    ----------
    record, about : mapping
        Records of the trained and of the new model.
    path : Path
        Weights of the trained one.
    """
    for key in ("source", "target", "family", "low_res"):
        if record.get(key) != about.get(key):
            raise DataError(
                f"the weights that training.start_from names have another {key}",
                file=path,
                value=f"{record.get(key)}, not {about.get(key)}",
                remedy="start from a model of the same family, source and target, or remove training.start_from",
            )


def _notes(record: Mapping[str, Any], about: Mapping[str, Any]) -> Iterable[str]:
    """What differs between two models without being an error."""
    for key in ("spacing_mm", "t1_range_percent"):
        if record[key] != about[key]:
            yield f"(note: its {key} was {record[key]}, here it is {about[key]})"


def listed(not_taken: Mapping[str, str]) -> str:
    """Names of layers with reasons, the first `NAMED` of them."""
    names = [f"{layer} ({reason})" for layer, reason in not_taken.items()]
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def fitted(tensors: Mapping[str, NDArray], options: Trained, target: str, synthesis: Synthesis | None) -> Start:
    """Choose the layers that fit a network.

    Parameters
    ----------
    tensors : mapping of str to ndarray
        Of the trained network.
    options : Trained
        Of the new one.
    target : str
        Modality.
    synthesis : Synthesis or None

    Returns
    -------
    Start
        No tensors where the layers that fit have less than `LEAST_SHARE` of the weights.
    """
    modality = MODALITIES[target]
    prior = prior_of(tensors, modality.directed) if options.window.prior else None
    # Where there is none, one without memory gives the network its number of inputs.
    stand_in = TemplateMap(torch.empty(len(modality.channels), 1, 1, 1), torch.eye(4), modality.directed)
    with torch.device("meta"):
        network = build_network(options, len(modality.channels), prior or stand_in, synthesis)
    reasons = compared(network, {name: tensor.shape for name, tensor in tensors.items()})
    taken = {layer for layer, reason in reasons.items() if reason is None}
    sizes = {n: p.numel() for n, p in network.named_parameters() if not n.startswith(SYNTHESIS)}
    share = sum(size for name, size in sizes.items() if layer_of(name) in taken) / sum(sizes.values())
    kept = {n: torch.from_numpy(t) for n, t in tensors.items() if layer_of(n) in taken}
    entry = {"n_taken": len(taken), "not_taken": {layer: why for layer, why in reasons.items() if why}}
    return Start(kept if share >= LEAST_SHARE else {}, prior, entry)


def compared(network: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str | None]:
    """Compare the layers of a network with those of a trained one.

    Parameters
    ----------
    network : Module
    shapes : mapping of str to tuple
        Of the tensors of the trained one.

    Returns
    -------
    dict of str to str or None
        By layer: why it is not taken; None: it fits.
    """
    own = {n: tuple(t.shape) for n, t in network.state_dict().items() if not n.startswith(SYNTHESIS)}
    reasons: dict[str, str | None] = {layer_of(name): None for name in (*own, *shapes)}
    for name in {**own, **shapes}:
        if name not in shapes:
            reasons[layer_of(name)] = NOT_IN_START
        elif name not in own:
            reasons[layer_of(name)] = NOT_IN_NETWORK
        elif own[name] != tuple(shapes[name]):
            reasons[layer_of(name)] = OTHER_SHAPE
    return reasons


def layer_of(name: str) -> str:
    """Path of the module that a tensor belongs to: ``inputs.prior`` of ``inputs.prior.values``."""
    return name.rpartition(".")[0] or name
