"""Calibrate a model on measured pairs: the line from its maps to measured ones, and the deviation of its errors.

Simulated participants do not have the scale and the errors of measured ones. The line has two numbers and the deviation
one for all voxels, so a few pairs are enough; on other scanners the line may be another. Tensors have a line for their
mean log diffusivity and a factor for the rest, which keep their directions.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from scipy import stats

from m2m.diffusion import tensors
from m2m.evaluate.real_pair import compared_units
from m2m.io.bids import files_of
from m2m.io.errors import DataError
from m2m.io.files import read_json, whole, write_json, write_text
from m2m.io.masks import in_mask
from m2m.io.modalities import MODALITIES
from m2m.io.volume import Volume, load
from m2m.models.onnx_engine import GRAPH, graph_beside
from m2m.models.pretrained import weights_of
from m2m.models.record import load_model, model_card
from m2m.models.uncertainty import Prediction, calibrate, mean_deviations, on_line
from m2m.models.validation_range import joined, ranges_of
from m2m.options.real_options import pairs_folder
from m2m.options.stage_flags import Root
from m2m.translate.displacements import displacement_of
from m2m.translate.native import require_model_of_t1
from m2m.translate.predict import Network, Record, Subject, Tensors, unbounded

# How often each of six elements stands in the matrix.
ELEMENTS = np.array([1, 2, 2, 1, 2, 1])


class Measured(NamedTuple):
    """Voxels of a participant in which the target was measured.

    Attributes
    ----------
    target : ndarray, shape (n,), or (n, 6) of tensors
        Scaled; tensors along the axes of the grid.
    prediction : Prediction
        In the same voxels, as the model was trained to.
    mean_sds : dict of str to float
        Of `m2m.models.uncertainty.mean_deviations`, in the brain.
    """

    target: NDArray[np.float32]
    prediction: Prediction
    mean_sds: dict[str, float]


def measured_voxels(root: Path, unit: str, weights: Tensors, record: Record, network: Network) -> Measured:
    """Translate a participant of the pairs, and take the voxels that were measured.

    Parameters
    ----------
    root : Path
        Dataset of the pairs, by `m2m translate-pairs`.
    unit : str
    weights, record : mapping
        Of `m2m.models.record.load_model`.
    network : Network
        How the network is run.

    Returns
    -------
    Measured

    Raises
    ------
    DataError
        The grid of the pairs is not that of the model.
    """
    at, modality = files_of(unit, root), MODALITIES[record["target"]]
    t1, brain, target, measured = (load(at(kind)) for kind in ("t1w", "brain", "target-mask", modality.kind))
    if not np.allclose(t1.spacing_mm, record["spacing_mm"], rtol=1e-3):
        raise DataError(
            f"the model was trained at {record['spacing_mm']} mm",
            file=at("t1w"),
            value=f"{t1.spacing_mm.round(3)} mm",
            remedy="set real.spacing_mm to that of the model and run `m2m translate-pairs` again",
        )
    inside = Volume(in_mask(brain.data), brain.affine)
    to_mni = np.array(read_json(at("anat-status"))["grid_to_mni"])
    deformation = displacement_of(t1, inside, to_mni, record, at("deformation"))
    prediction = unbounded(Subject(t1, inside, to_mni, displacement=deformation), weights, record, network)
    where = in_mask(target.data) & inside.data
    if modality.directed:
        where &= np.any(measured.data != 0, axis=-1)
    sds = {name: sd[where] for name, sd in prediction.sds.items()}
    mean_sds = mean_deviations(prediction, inside.data)
    scaled = modality.to_grid_axes(modality.scale(measured.data[where]), t1.affine)
    return Measured(scaled, Prediction(prediction.image[where], sds), mean_sds)


def fit_calibration(pairs: Sequence[Measured], contrast: float) -> dict[str, float]:
    """Line from maps to measured ones, which keeps the mean of all voxels.

    The slope of least squares has the smallest error, and shrinks contrast by the correlation of both maps; a slope
    equal to the ratio of their standard deviations keeps contrast, which similarity of structure asks for.

    Parameters
    ----------
    pairs : sequence of Measured
    contrast : float
        0: the slope of least squares; 1: that of equal standard deviations; between them a weighted mean.

    Returns
    -------
    dict
        ``intercept``, ``slope`` and, of tensors, ``anisotropy``, as of `m2m.models.uncertainty.on_line`.
    """
    x = np.concatenate([one.prediction.image for one in pairs]).astype(np.float64)
    y = np.concatenate([one.target for one in pairs]).astype(np.float64)
    if x.ndim == 1:
        return _line(x, y, contrast)
    (mean_x, rest_x), (mean_y, rest_y) = tensors.isotropic_and_rest(x), tensors.isotropic_and_rest(y)
    # Sums over all nine elements of the matrices, which no rotation changes.
    squares_x, squares_y, products = (
        (a * b) @ ELEMENTS for a, b in ((rest_x, rest_x), (rest_y, rest_y), (rest_x, rest_y))
    )
    anisotropy = _slope(products.sum() / squares_x.sum(), np.sqrt(squares_y.sum() / squares_x.sum()), contrast)
    return _line(mean_x, mean_y, contrast) | {"anisotropy": anisotropy}


def _line(x: NDArray, y: NDArray, contrast: float) -> dict[str, float]:
    """Intercept and slope from x to y."""
    slope = _slope(stats.linregress(x, y).slope, y.std() / x.std(), contrast)
    return {"intercept": float(y.mean() - slope * x.mean()), "slope": slope}


def _slope(least_squares: float, equal_deviations: float, contrast: float) -> float:
    """Weighted mean of both slopes, of the sign of the first."""
    return float((1 - contrast) * least_squares + contrast * np.sign(least_squares) * equal_deviations)


def fit_to_pairs(
    root: Path,
    weights: Tensors,
    record: Record,
    network: Network,
    contrast: float = 0.0,
    leave_out: Collection[str] = (),
) -> dict[str, Any]:
    """Fit line and deviation to all pairs.

    Parameters
    ----------
    root : Path
        Dataset of the pairs.
    weights, record : mapping
        Of `m2m.models.record.load_model`.
    network : Network
        How the network is run.
    contrast : float
        As of `fit_calibration`.
    leave_out : collection of str
        Units that are not used.

    Returns
    -------
    dict
        ``calibration``, ``uncertainty`` and ``validation_range`` for the record: on real T1s a model is less sure
        than on simulated ones, so the ranges of its mean deviations reach to those of the pairs.

    Raises
    ------
    DataError
        As of `measured_voxels`; the maps do not rise with what was measured; one that is left out is no pair; or
        none is left.
    """
    units = [str(row["unit"]) for row in compared_units(root)]
    if unknown := sorted({*leave_out} - {*units}):
        raise DataError("left out, but no pair", file=root, value=", ".join(unknown), remedy=f"name {', '.join(units)}")
    units = [unit for unit in units if unit not in leave_out]
    if not units:
        raise DataError("no pair is left to calibrate on", file=root, remedy="leave fewer out")
    found = [measured_voxels(root, unit, weights, record, network) for unit in units]
    line = fit_calibration(found, contrast)
    if (slope := min(value for key, value in line.items() if key != "intercept")) <= 0:
        raise DataError(
            "the model's maps do not rise with the measured ones",
            file=root,
            value=f"slope {slope:.3g}",
            remedy="look at the figure of `m2m draw-pairs`: T1 and DWI may be of different participants",
        )
    calibration = {key: round(value, 5) for key, value in line.items()} | {"n_subjects": len(found)}
    limits = MODALITIES[record["target"]].limits
    uncertainty = calibrate(_errors(found, calibration, limits)) | {"part": "pairs", "n_subjects": len(found)}
    ranges = joined(record.get("validation_range", {}), ranges_of(one.mean_sds for one in found))
    return {"calibration": calibration, "uncertainty": uncertainty, "validation_range": ranges}


def _errors(
    pairs: list[Measured], calibration: Mapping[str, float], limits: tuple[float, float]
) -> Iterator[tuple[NDArray, dict[str, NDArray]]]:
    """Errors of the calibrated maps and the candidates for their deviation, of each participant."""
    for one in pairs:
        image, sds = on_line(one.prediction, calibration)
        yield (image.clip(*limits) - one.target).ravel(), {name: sd.ravel() for name, sd in sds.items()}


def main(
    root: Root,
    out: Annotated[Path, typer.Option(help="Folder of the calibrated model, written.")],
    weights: Annotated[
        str | None, typer.Option(help="model.safetensors, or the name of installed weights. Default: installed ones.")
    ] = None,
    contrast: Annotated[
        float, typer.Option(min=0, max=1, help="0: the line of least squares; 1: that which keeps contrast.")
    ] = 0.0,
    leave_out: Annotated[list[str] | None, typer.Option(help="Pair that is not used, such as sub-01; repeat.")] = None,
) -> None:
    """Calibrate a model on the real pairs of `m2m translate-pairs`: scale of its maps, and their deviation.

    The network is not changed. Another calibration takes the place of an earlier one.
    """
    path = weights_of(weights)
    trained, record = load_model(path, path.with_name("model.json"))
    require_model_of_t1(record)
    pairs = root / pairs_folder(record["target"])
    about = dict(record) | fit_to_pairs(pairs, trained, record, Network(weights=path), contrast, leave_out or ())
    (out / GRAPH).unlink(missing_ok=True)  # of an earlier model
    for file in filter(None, (path, graph_beside(path))):
        with whole(out / file.name) as temporary:
            temporary.write_bytes(file.read_bytes())
    write_json(out / "model.json", about)
    write_text(out / "model_card.md", model_card(about))
    print(", ".join(f"{key} {value:g}" for key, value in about["calibration"].items()))
