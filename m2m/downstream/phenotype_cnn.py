"""Predict a phenotype from whole volumes with a small network, on the same folds as all predictors.

The number of steps is fixed beforehand and nothing is selected during training, so no fold needs a
validation part. Volumes are on the common grid, centred on the brain, in the participant's own size
and orientation.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
import typer
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from m2m.cohort.folds import load_folds
from m2m.cohort.participants import known_participants
from m2m.downstream.maps import Source, UnitImages, require_unseen, sources_of, unit_row
from m2m.downstream.prediction import Kind
from m2m.downstream.targets import RefusedTarget, Target, read_target
from m2m.io.errors import DataError
from m2m.io.tables import read_table, write_table
from m2m.networks.volumes import VolumeNetwork
from m2m.options import Cnn, Downstream, Slices, Training
from m2m.options.configured import read_config
from m2m.options.downstream_options import images_of, inputs_of
from m2m.options.stage_flags import NeededConfig, Root
from m2m.train.launch import make_fabric
from m2m.train.stepping import make_reproducible, require_finite, schedule

COLUMNS = ("participant_id", "fold", "class", "value")


def load_volumes(
    units: Sequence[Mapping[str, str]],
    fold_of: Mapping[str, str],
    root: Path,
    sources: Mapping[str, Source],
    t1_range_percent: tuple[float, float],
    coarsen: int,
) -> Tensor:
    """Load the images of units, in half precision, 0 outside the valid voxels.

    Parameters
    ----------
    units : sequence of mapping
        Rows of units.tsv.
    fold_of : mapping of str to str
        Fold of each participant.
    root : Path
        Dataset of the results.
    sources : mapping of str to Source
        Source of each image.
    t1_range_percent : (float, float)
        Option of the section `slices`.
    coarsen : int
        Edge of the averaged cubes in voxels.

    Returns
    -------
    Tensor, shape (units, images, X, Y, Z)
        Means over cubes of `coarsen` voxels; incomplete cubes at the end are cut off.

    Raises
    ------
    DataError
        Units have grids of different shapes.
    """
    found = []
    for unit in units:
        images_of_unit = UnitImages(root, unit, fold_of[unit["participant_id"]], t1_range_percent)
        images = [images_of_unit.image(name, source) for name, source in sources.items()]
        values = np.stack([values * inside for values, inside in images]).astype(np.float32)
        found.append(F.avg_pool3d(torch.from_numpy(values), coarsen).half())
        if found[-1].shape != found[0].shape:
            raise DataError(
                f"volumes of {found[-1].shape[1:]} and of {found[0].shape[1:]} voxels",
                file=unit["unit"],
                remedy="a network of volumes needs the same anat.shape for all participants",
            )
    return torch.stack(found)


def train(
    fabric: Fabric, volumes: Tensor, y: Tensor, kind: Kind, outputs: int, options: Cnn, seed: int
) -> VolumeNetwork:
    """Train a network for a fixed number of steps.

    Parameters
    ----------
    fabric : Fabric
    volumes : Tensor, shape (units, images, X, Y, Z)
    y : Tensor, shape (units,)
        z values, or indices of classes.
    kind : {'regression', 'classification'}
    outputs : int
        1, or the number of classes.
    options : Cnn
    seed : int

    Returns
    -------
    VolumeNetwork
        In evaluation mode.
    """
    make_reproducible(seed, fabric.device)
    rng = np.random.default_rng(seed)
    network = VolumeNetwork(volumes.shape[1], options.widths, outputs, options.dropout)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=options.weight_decay)
    network, optimizer = fabric.setup(network, optimizer)
    loss_of = F.cross_entropy if kind == "classification" else F.mse_loss
    for step in range(options.steps):
        drawn = torch.from_numpy(rng.choice(len(y), min(options.batch_size, len(y)), replace=False))
        batch = volumes[drawn].to(fabric.device, torch.float32)
        if rng.random() < 0.5:
            batch = batch.flip(2)  # left to right
        predicted = network(batch)
        loss = loss_of(predicted if kind == "classification" else predicted[:, 0], y[drawn].to(fabric.device))
        require_finite(step, {"loss": loss.item()}, ())
        optimizer.zero_grad()
        fabric.backward(loss)
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * schedule(step, options.steps, 0.1)
        optimizer.step()
    return network.eval()


@torch.inference_mode()
def predict_volumes(fabric: Fabric, network: VolumeNetwork, volumes: Tensor, kind: Kind) -> NDArray:
    """Predict units from their volumes and the mirrored ones, and average both.

    Parameters
    ----------
    fabric : Fabric
    network : VolumeNetwork
    volumes : Tensor, shape (units, images, X, Y, Z)
    kind : {'regression', 'classification'}

    Returns
    -------
    ndarray, shape (units, outputs)
        Numbers or probabilities.
    """
    both = []
    for batch in volumes.split(16):
        batch = batch.to(fabric.device, torch.float32)
        for oriented in (batch, batch.flip(2)):
            predicted = network(oriented).float()
            both.append((predicted.softmax(1) if kind == "classification" else predicted).cpu().numpy())
    return np.concatenate([(a + b) / 2 for a, b in zip(both[::2], both[1::2], strict=True)])


def predict(
    fabric: Fabric,
    volumes: Tensor,
    y: NDArray,
    folds: NDArray,
    kind: Kind,
    options: Cnn,
    seed: int,
) -> NDArray[np.float64]:
    """Train on all folds but one, predict that one, for each.

    Parameters
    ----------
    fabric : Fabric
    volumes : Tensor, shape (units, images, X, Y, Z)
    y, folds : ndarray, shape (units,)
        Phenotype and fold.
    kind : {'regression', 'classification'}
    options : Cnn
    seed : int

    Returns
    -------
    ndarray, shape (units, 1) or (units, classes)
        Numbers in the phenotype's unit, or probabilities.
    """
    outputs = 1 if kind == "regression" else int(y.max()) + 1
    values = np.full((len(y), outputs), np.nan)
    for fold in np.unique(folds):
        known = folds != fold
        mean, sd = (y[known].mean(), y[known].std()) if kind == "regression" else (0, 1)
        scaled = (y[known] - mean) / sd
        wanted = torch.from_numpy(scaled.astype(np.float32 if kind == "regression" else np.int64))
        rows = torch.from_numpy(known)
        network = train(fabric, volumes[rows], wanted, kind, outputs, options, seed)
        values[~known] = mean + sd * predict_volumes(fabric, network, volumes[~rows], kind)
    return values


def prediction_rows(
    target: Target, subjects: Sequence[str], folds: NDArray, values: NDArray
) -> list[dict[str, object]]:
    """Compute one row for each participant and class: the mean over the participant's sessions.

    Parameters
    ----------
    target : Target
    subjects : sequence of str
        Participant of each unit.
    folds : ndarray, shape (units,)
    values : ndarray, shape (units, outputs)

    Returns
    -------
    list of dict
        `COLUMNS`.
    """
    table = pd.DataFrame(values).groupby(np.array(subjects)).mean()
    fold_of = dict(zip(subjects, folds, strict=True))
    classes = target.classes or (None,)
    return [
        {"participant_id": subject, "fold": fold_of[subject], "class": name, "value": value}
        for subject in target.subjects
        for name, value in zip(classes, table.loc[subject], strict=True)
    ]


def read_predictions(path: Path, target: Target) -> NDArray[np.float64]:
    """Read the predictions of networks, shape (participants,) or (participants, classes)."""
    rows = {(r["participant_id"], r["class"]): float(str(r["value"])) for r in read_table(path)}
    classes = target.classes or (None,)
    values = np.array([[rows[subject, name] for name in classes] for subject in target.subjects])
    return values if target.classes else values[:, 0]


def main(
    root: Root,
    phenotype: Annotated[str, typer.Option(help="Column of participants.tsv.")],
    inputs: Annotated[str, typer.Option(help="Input images, joined by +.")],
    participants: Annotated[Path, typer.Option(help="participants.tsv")],
    config: NeededConfig,
) -> None:
    """Predict one phenotype from whole volumes, each fold by a network that was trained on the others."""
    written, cohort = read_config(config), root / "cohort"
    sources, section = sources_of(written, root), written.section("downstream")
    for name, known in ((phenotype, [*section.targets]), (inputs, inputs_of(sources))):
        if name not in known:
            remedy = "add it to the section downstream, or name one of these"
            raise DataError(f"the configuration has no {name!r} in downstream", value=known, remedy=remedy)
    predict_phenotype(
        phenotype,
        inputs,
        root,
        cohort / "units.tsv",
        root / "downstream" / "features.tsv",
        participants,
        cohort / "folds.tsv",
        cohort / "folds.json",
        sources,
        root / "downstream" / "cnn" / phenotype / f"{inputs}.tsv",
        section,
        written.section("slices"),
    )


def predict_phenotype(
    phenotype: str,
    inputs: str,
    root: Path,
    units: Path,
    features: Path,
    participants: Path,
    folds: Path,
    folds_record: Path,
    every: Mapping[str, Source],
    table: Path,
    chosen: Downstream,
    slices: Slices,
) -> None:
    """Predict one phenotype from the images of an input, and write the prediction for each participant.

    Parameters
    ----------
    phenotype : str
        Column of participants.tsv.
    inputs : str
        Input: images joined by +.
    root : Path
        Dataset of the results.
    units, features, participants, folds, folds_record : Path
        units.tsv, features.tsv, participants.tsv, folds.tsv and folds.json.
    every : mapping of str to Source
        Source of each image.
    table : Path
        TSV to write.
    chosen : Downstream
    slices : Slices
    """
    torch.set_num_threads(1)  # several of these jobs run in parallel
    fold_of = load_folds(folds, folds_record)
    images = {name: every[name] for name in images_of(inputs)}
    require_unseen(images, fold_of)
    rows = read_table(features)
    phenotypes = known_participants(participants, rows)
    described = {str(row["unit"]): str(row["participant_id"]) for row in rows}
    names = sorted(set(described.values()))
    kind = chosen.targets[phenotype]
    try:
        target = read_target(phenotype, kind, names, phenotypes, chosen.min_subjects)
    except RefusedTarget as reason:
        write_table(table, [], COLUMNS)
        print(f"{phenotype}: not predicted, {reason}")
        return
    index = {subject: i for i, subject in enumerate(target.subjects)}
    wanted = [unit_row(u) for u in read_table(units) if u["unit"] in described and u["participant_id"] in index]
    subjects = [unit["participant_id"] for unit in wanted]
    limits = slices.t1_range_percent
    volumes = load_volumes(wanted, fold_of, root, images, limits, chosen.cnn.coarsen)
    fabric = make_fabric(Training())
    y, own = target.y[[index[p] for p in subjects]], np.array([fold_of[p] for p in subjects])
    values = predict(fabric, volumes, y, own, kind, chosen.cnn, chosen.seed)
    write_table(table, prediction_rows(target, subjects, own, values), COLUMNS)
    print(f"{phenotype} of {len(target.subjects)} participants from {inputs}, {len(set(own))} networks")
