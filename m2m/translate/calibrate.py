"""Calibrate a model on measured pairs: the line from its maps to measured ones, and the deviation of its errors.

Simulated participants do not have the scale and the errors of measured ones. The line has two numbers and the deviation
one for all voxels, so a few pairs are enough; on other scanners the line may be another.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from scipy import stats

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
from m2m.options.stage_flags import Root
from m2m.translate.displacements import displacement_of
from m2m.translate.native import require_model_of_t1
from m2m.translate.predict import Network, Record, Subject, Tensors, unbounded


class Measured(NamedTuple):
    """Voxels of a participant in which the target was measured.

    Attributes
    ----------
    target : ndarray, shape (n,)
        Scaled.
    prediction : Prediction
        In the same voxels, as the model was trained to.
    mean_sds : dict of str to float
        Of `m2m.models.uncertainty.mean_deviations`, in the brain.
    """

    target: NDArray[np.float32]
    prediction: Prediction
    mean_sds: dict[str, float]


def measured_voxels(root: Path, unit: str, tensors: Tensors, record: Record, network: Network) -> Measured:
    """Translate a participant of the pairs, and take the voxels that were measured.

    Parameters
    ----------
    root : Path
        Dataset of the pairs, by `m2m translate-pairs`.
    unit : str
    tensors, record : mapping
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
    at = files_of(unit, root)
    t1, brain, target, fa = (load(at(kind)) for kind in ("t1w", "brain", "target-mask", "fa"))
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
    prediction = unbounded(Subject(t1, inside, to_mni, displacement=deformation), tensors, record, network)
    where = in_mask(target.data) & inside.data
    sds = {name: sd[where] for name, sd in prediction.sds.items()}
    mean_sds = mean_deviations(prediction, inside.data)
    return Measured(MODALITIES["fa"].scale(fa.data[where]), Prediction(prediction.image[where], sds), mean_sds)


def fit_calibration(pairs: Sequence[Measured], contrast: float) -> tuple[float, float]:
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
    intercept, slope : float
    """
    x = np.concatenate([one.prediction.image for one in pairs]).astype(np.float64)
    y = np.concatenate([one.target for one in pairs]).astype(np.float64)
    least_squares = stats.linregress(x, y)
    slope = (1 - contrast) * least_squares.slope + contrast * np.sign(least_squares.slope) * y.std() / x.std()
    return float(y.mean() - slope * x.mean()), float(slope)


def fit_to_pairs(
    root: Path, tensors: Tensors, record: Record, network: Network, contrast: float = 0.0
) -> dict[str, Any]:
    """Fit line and deviation to all pairs.

    Parameters
    ----------
    root : Path
        Dataset of the pairs.
    tensors, record : mapping
        Of `m2m.models.record.load_model`.
    network : Network
        How the network is run.
    contrast : float
        As of `fit_calibration`.

    Returns
    -------
    dict
        ``calibration``, ``uncertainty`` and ``validation_range`` for the record: on real T1s a model is less sure
        than on simulated ones, so the ranges of its mean deviations reach to those of the pairs.

    Raises
    ------
    DataError
        As of `measured_voxels`; or the maps do not rise with what was measured.
    """
    found = [measured_voxels(root, str(row["unit"]), tensors, record, network) for row in compared_units(root)]
    intercept, slope = fit_calibration(found, contrast)
    if slope <= 0:
        raise DataError(
            "the model's maps do not rise with the measured ones",
            file=root,
            value=f"slope {slope:.3g}",
            remedy="look at the figure of `m2m draw-pairs`: T1 and DWI may be of different participants",
        )
    calibration = {"intercept": round(intercept, 5), "slope": round(slope, 5), "n_subjects": len(found)}
    uncertainty = calibrate(_errors(found, calibration)) | {"part": "pairs", "n_subjects": len(found)}
    ranges = joined(record.get("validation_range", {}), ranges_of(one.mean_sds for one in found))
    return {"calibration": calibration, "uncertainty": uncertainty, "validation_range": ranges}


def _errors(pairs: list[Measured], calibration: Mapping[str, float]) -> Iterator[tuple[NDArray, dict[str, NDArray]]]:
    """Errors of the calibrated maps and the candidates for their deviation, for each participant."""
    for one in pairs:
        image, sds = on_line(one.prediction, calibration)
        yield image.clip(*MODALITIES["fa"].limits) - one.target, sds


def main(
    root: Root,
    out: Annotated[Path, typer.Option(help="Folder of the calibrated model, written.")],
    weights: Annotated[
        str | None, typer.Option(help="model.safetensors, or the name of installed weights. Default: installed ones.")
    ] = None,
    contrast: Annotated[
        float, typer.Option(min=0, max=1, help="0: the line of least squares; 1: that which keeps contrast.")
    ] = 0.0,
) -> None:
    """Calibrate a model of FA on the real pairs of `m2m translate-pairs`: scale of its maps, and their deviation.

    The network is not changed. Another calibration takes the place of an earlier one.
    """
    path = weights_of(weights)
    tensors, record = load_model(path, path.with_name("model.json"))
    require_model_of_t1(record)
    if record["target"] != "fa":
        raise DataError("the model does not predict FA", file=path, value=record["target"], remedy="give one that does")
    about = dict(record) | fit_to_pairs(root / "real", tensors, record, Network(weights=path), contrast)
    (out / GRAPH).unlink(missing_ok=True)  # of an earlier model
    for file in filter(None, (path, graph_beside(path))):
        with whole(out / file.name) as temporary:
            temporary.write_bytes(file.read_bytes())
    write_json(out / "model.json", about)
    write_text(out / "model_card.md", model_card(about))
    print("{intercept:.4f} + {slope:.4f} times the map, from {n_subjects} participants".format(**about["calibration"]))
