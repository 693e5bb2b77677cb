"""Files of a trained model: weights in safetensors, a record (``model.json``) and a model card.

Only numpy arrays are used, so that a model without a network needs no deep-learning library.

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
from m2m.io.files import file_digest, whole, write_json, write_text
from m2m.io.modalities import MODALITIES
from m2m.models.implementation import implementation
from m2m.models.record_schema import read_record
from m2m.options import section_of

METRIC = "brain_mae"
"""Validation metric: mean absolute error of scaled values inside the target mask, mean over
participants; lower is better."""

CARD = """# {model} ({task})

Predicts {target} from {source} of the brain. Trained with m2m {code_version}.

## Data

- Training: {n_train} participants. Validation: {n_validation} participants.
- {cohort}
- Grid: {spacing_mm} mm, {shape} voxels. Scales: {scales}
- Split {split_hash}, data {data_hash}.{start}

## Validation

{validation}
Each prediction has a map of standard deviations, in scaled units (method: {method}, fitted on
{n_fitted} participants{part}).{calibration}

## Intended use

Research on methods of image translation, together with the workflow, which compares the model with
the mean map of the training cohort and with rescaled {source} on participants outside the training.

## Limits

- **No clinical use**: no decision about a patient may be based on a predicted map.
- A predicted map shows what is likely given {source}. What {source} does not show (the
  microstructure of a single tract, an unusual lesion) cannot be in it.
- Participants, scanners and sequences unlike those of the training data are outside its scope.
- `m2m translate` refuses images whose contrast or field of view is not that of a T1 of a whole
  brain, and names what lies outside the range of these participants (validation_range in model.json).
  A lesion or a child's brain that stays within it is outside the model's scope, too.

## Licence

The licence of the training data determines who may use these weights; m2m itself is Apache-2.0.

## Model

Family {family}, {parameters} parameters, weights of step {best_step}. Configuration
{fingerprint}. All options are in model.json; the weights are in safetensors format (sha256
{weights}).
"""
STARTED = """
- Started from the weights {weights} of {model} ({task}), trained at {spacing_mm:g} mm: its training data are among
  those of this model, and its licence holds for these weights, too."""
CALIBRATED = (
    " Predictions and their deviations are on a line that was fitted to measured maps of {n_subjects} participants "
    "outside the training: {intercept:.4f} + {slope:.4f} times the network's{anisotropy}."
)
SIMULATED = (
    "**These participants are simulated**: the numbers show that the software works, and say nothing about real brains."
)
# Weights that are passed on are stored in half of the precision, and used in this one.
HALF, FULL = np.dtype(np.float16), np.dtype(np.float32)


class Fit(NamedTuple):
    """Result of training, for every family.

    Attributes
    ----------
    tensors : dict of str to ndarray
        The weights.
    validation : dict or None
        ``metric``, ``value`` and ``n_subjects``; None without validation subjects.
    uncertainty : dict
        Calibrated standard deviation of its predictions, from `m2m.train.validation`.
    best_step : int
        Training step of the weights; 0 for a fit in closed form.
    validation_range : dict
        Of `m2m.models.validation_range.ranges_of`; empty where the source is no T1.
    """

    tensors: dict[str, NDArray]
    validation: dict[str, Any] | None
    uncertainty: dict[str, Any]
    best_step: int = 0
    validation_range: Mapping[str, Mapping[str, float]] = {}


def save_weights(tensors: Mapping[str, NDArray], path: str | Path) -> None:
    """Write tensors as a safetensors file, in one step: never a partial file."""
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
    """Write the weights, ``model.json`` and the model card; none is ever a partial file.

    Parameters
    ----------
    fit : Fit
    record : mapping
        Content of ``model.json`` besides that of `fit`.
    weights_path, record_path, card_path : str or Path
    simulated : bool
        Whether the training participants are simulated; stated in the card and the record.
    """
    save_weights(fit.tensors, weights_path)
    record = {
        **record,
        "simulated": simulated,
        "best_step": fit.best_step,
        "validation": fit.validation,
        "uncertainty": fit.uncertainty,
        **({"validation_range": fit.validation_range} if fit.validation_range else {}),
        "parameters": sum(t.size for t in fit.tensors.values()),
        "weights": file_digest(weights_path),
    }
    write_json(record_path, record)
    write_text(card_path, model_card(record))


def model_card(record: Mapping[str, Any]) -> str:
    """Write the model card of a record, Markdown.

    Parameters
    ----------
    record : mapping
        Content of ``model.json``.

    Returns
    -------
    str
    """
    if record["validation"]:
        validation = "{metric} = {value:.4f}, mean over {n_subjects} participants.".format(**record["validation"])
    else:
        validation = "None: there was no validation participant; these are the weights of the last step."
    cohort = SIMULATED if record["simulated"] else "See the dataset's own description."
    if trained_on := record.get("trained_on"):
        cohort = (
            f"**{trained_on[0].upper()}{trained_on[1:]}.**" + " The participants are simulated." * record["simulated"]
        )
    source, target = (MODALITIES[record[key]] for key in ("source", "target"))
    facts = dict(record) | {
        "source": source.title,
        "target": target.title,
        "shape": " x ".join(str(n) for n in record["shape"]),
        "scales": f"{source.scaling.format(*record['t1_range_percent'])} {target.scaling}",
        "cohort": cohort,
        "start": STARTED.format(**record["started_from"]) if record.get("started_from") else "",
        "validation": validation,
        "method": record["uncertainty"]["method"],
        "part": "" if record["uncertainty"]["part"] == "pairs" else f" of the {record['uncertainty']['part']} part",
        "calibration": _calibrated(record["calibration"]) if record.get("calibration") else "",
        "n_fitted": record["uncertainty"]["n_subjects"],
    }
    return CARD.format(**facts)


def _calibrated(line: Mapping[str, float]) -> str:
    """Sentence of the line to measured maps."""
    factor = line.get("anisotropy")
    about = "" if factor is None else f" for mean log diffusivity, and {factor:.4f} times the network's for the rest"
    return CALIBRATED.format(**dict(line) | {"anisotropy": about})


def load_model(weights_path: str | Path, record_path: str | Path) -> tuple[dict[str, NDArray], dict[str, Any]]:
    """Read weights and record, which may come from elsewhere.

    Raises
    ------
    DataError
        The weights are not a safetensors file (a pickle is never opened), or hold NaN; or the record is missing,
        is not valid (`m2m.models.record_schema`) or belongs to other weights.
    """
    tensors = load_weights(weights_path)
    record = read_record(record_path)
    require_same_weights(weights_path, record["weights"], record_path)
    n_values = sum(tensor.size for tensor in tensors.values())
    if record["parameters"] != n_values:
        raise DataError(
            f"the record names another number of parameters than the {n_values} of its weights",
            file=record_path,
            value=record["parameters"],
            remedy="keep model.safetensors and model.json together, unchanged",
        )
    options = section_of(record)
    if not options.trained:  # those of a network are checked when it is built
        channels = len(MODALITIES[record["target"]].channels)
        try:
            implementation(options).require_tensors(tensors, channels)
        except ValueError as error:
            raise weights_error(str(error), weights_path) from error
    return tensors, record


def weights_error(problem: str, path: str | Path = "") -> DataError:
    """Make the error of weights that do not fit the record of their model."""
    remedy = "keep model.safetensors and model.json together, unchanged"
    return DataError(f"weights do not fit their record: {problem}", file=path, remedy=remedy)


def load_weights(path: str | Path) -> dict[str, NDArray]:
    """Read tensors of finite numbers from a safetensors file.

    Those of half precision are returned in single precision, in which a model computes.

    Raises
    ------
    DataError
        It is no such file.
    """
    try:
        if not Path(path).is_file():
            raise FileNotFoundError("there is no such file")
        tensors = load_file(path)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"is not a safetensors file: {error}",
            file=path,
            remedy="give the model.safetensors that `m2m train` wrote; pickled weights (.pt, .pth, "
            ".ckpt) can run code and are not opened",
        ) from error
    if wrong := sorted(name for name, tensor in tensors.items() if not np.isfinite(tensor).all()):
        raise DataError("weights are NaN or infinite", file=path, value=wrong[0], remedy="train the model again")
    return {name: tensor.astype(FULL) if tensor.dtype == HALF else tensor for name, tensor in tensors.items()}


def require_same_weights(path: str | Path, expected: str, record_path: str | Path) -> None:
    """Raise DataError unless weights have the hash that a record names.

    Parameters
    ----------
    path : path
        The weights.
    expected : str
        Hash in the record.
    record_path : path
        For the message.
    """
    found = file_digest(path)
    if expected != found:
        raise DataError(
            f"belongs to other weights than {record_path} (hash {expected})",
            file=path,
            value=found,
            remedy="keep model.safetensors and model.json together",
        )
