"""A trained model on disk: weights in safetensors, its record, its card.

Arrays only (numpy), so that a model without a network needs no deep-learning library.

References
----------
Mitchell et al. (2019), Model cards for model reporting, FAT*,
https://doi.org/10.1145/3287560.3287596.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from m2m.io.errors import DataError
from m2m.io.files import file_digest, read_json, whole, write_json, write_text
from m2m.io.modalities import MODALITIES

METRIC = "brain_mae"
"""Validation metric: mean absolute error of scaled values inside the target mask, mean over
people; lower wins."""

CARD = """# {model} ({task})

Predicts {target} from {source} of the brain. Made by m2m {code_version}.

## Data

- Training: {n_train} people. Validation: {n_validation} people.
- {cohort}
- Grid: {spacing_mm} mm, {shape} voxels. Scales: {scales}
- Split {split_hash}, data {data_hash}.

## Validation

{validation}
Each prediction has a map of standard deviations, in scaled units ({method}, fitted on {n_fitted}
people of the {part} part).

## Intended use

Research on methods of image translation: with the whole workflow, which compares the model with
the training cohort's mean map and with rescaled {source} on people it has not seen.

## Limits

- **No clinical use**: no decision about a person may rest on a predicted map.
- A predicted map shows what {source} makes likely. What {source} does not show (a tract's own
  microstructure, an unusual lesion) cannot be in it.
- People, scanners and sequences unlike those of the training data are outside its scope.
- `m2m translate` refuses what its contrast and field of view show to be no T1 of a whole brain. A
  child's brain or a lesion it cannot recognise: such people are outside its scope, too.

## Licence

That of the training data decides who may use these weights; m2m itself is Apache-2.0.

## Model

Family {family}, {parameters} parameters, weights of step {best_step}. Configuration
{fingerprint}. All options are in model.json; weights are safetensors (sha256 {weights}).
"""
SIMULATED = (
    "**These people are simulated**: figures show that the software works, and say nothing "
    "about real brains."
)


class Fit(NamedTuple):
    """What training yields, whatever the family.

    Attributes
    ----------
    tensors : dict of str to ndarray
        The weights.
    validation : dict or None
        ``metric``, ``value`` and ``n_subjects``; None where there is no validation subject.
    uncertainty : dict
        Which standard deviation goes with its predictions: of `m2m.train.judge.judge`.
    best_step : int
        The step whose weights these are; 0 where nothing is iterated.
    """

    tensors: dict[str, NDArray]
    validation: dict[str, Any] | None
    uncertainty: dict[str, Any]
    best_step: int = 0


def save_weights(tensors: Mapping[str, NDArray], path: str | Path) -> None:
    """Write tensors as safetensors, whole or not at all."""
    with whole(path) as temporary:
        save_file({name: np.ascontiguousarray(t) for name, t in tensors.items()}, temporary)


def save_model(
    fit: Fit,
    record: Mapping[str, Any],
    weights_path: str | Path,
    record_path: str | Path,
    card_path: str | Path,
    simulated: bool = False,
) -> None:
    """Write the weights, ``model.json`` and the model card, each whole or not at all.

    Parameters
    ----------
    fit : Fit
    record : mapping
        What ``model.json`` holds, beyond what `fit` says.
    weights_path, record_path, card_path : paths
    simulated : bool
        Whether the training people are simulated, for the card and the record.
    """
    save_weights(fit.tensors, weights_path)
    record = {
        **record,
        "simulated": simulated,
        "best_step": fit.best_step,
        "validation": fit.validation,
        "uncertainty": fit.uncertainty,
        "parameters": sum(t.size for t in fit.tensors.values()),
        "weights": file_digest(weights_path),
    }
    write_json(record_path, record)
    if fit.validation:
        validation = "{metric} = {value:.4f}, mean over {n_subjects} people.".format(
            **fit.validation
        )
    else:
        validation = "None: no validation subject was given; these are the last weights."
    source, target = (MODALITIES[record[key]] for key in ("source", "target"))
    facts = record | {
        "source": source.title,
        "target": target.title,
        "shape": " x ".join(str(n) for n in record["shape"]),
        "scales": f"{source.scaling.format(*record['t1_range_percent'])} {target.scaling}",
        "cohort": SIMULATED if simulated else "See the dataset's own description.",
        "validation": validation,
        "method": fit.uncertainty["method"],
        "part": fit.uncertainty["part"],
        "n_fitted": fit.uncertainty["n_subjects"],
    }
    write_text(card_path, CARD.format(**facts))


def load_model(
    weights_path: str | Path, record_path: str | Path
) -> tuple[dict[str, NDArray], dict[str, Any]]:
    """Read weights and record.

    Raises
    ------
    DataError
        The weights are no safetensors file (a pickle is never opened), or the record is missing or
        belongs to other weights.
    """
    try:
        tensors = load_file(weights_path)
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"is not a safetensors file: {error}",
            file=weights_path,
            remedy="give the model.safetensors that `m2m train` wrote; pickled weights (.pt, .pth, "
            ".ckpt) can run code and are not opened",
        ) from error
    if not Path(record_path).is_file():
        raise DataError(
            "the record of the weights is missing", file=record_path,
            remedy="keep model.json beside model.safetensors, or name it with --record",
        )  # fmt: skip
    record = read_json(record_path)
    found = file_digest(weights_path)
    if record["weights"] != found:
        raise DataError(
            f"belongs to other weights than {record_path} (hash {record['weights']})",
            file=weights_path, value=found, remedy="keep model.safetensors and model.json together",
        )  # fmt: skip
    return tensors, record
