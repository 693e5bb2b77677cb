"""Predict a phenotype from whole volumes with a small network, on the folds of all predictors.

The number of steps is fixed beforehand and nothing is chosen while it trains, so no fold needs a
part of its own to choose on. Volumes are as they lie on the common grid, centred on the brain and
in the person's own size and posture.
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
from m2m.cohort.participants import known_people
from m2m.downstream.maps import Head, Source, require_unseen, sources_of
from m2m.downstream.prediction import Kind
from m2m.downstream.targets import RefusedTarget, Target, read_target
from m2m.io.errors import DataError
from m2m.io.tables import read_table, write_table
from m2m.networks.volumes import VolumeNetwork
from m2m.options import Cnn, Downstream, Slices, Training
from m2m.options.configured import read_config
from m2m.options.downstream_options import images_of
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
    """Load the images of units, half precision, 0 where they say nothing.

    Returns
    -------
    Tensor, shape (units, images, X, Y, Z)
        Means over cubes of `coarsen` voxels a side; what is left over at the end is cut off.

    Raises
    ------
    DataError
        Units have grids of different shapes.
    """
    found = []
    for unit in units:
        head = Head(root, unit, fold_of[unit["participant_id"]], t1_range_percent)
        images = [head.image(name, source) for name, source in sources.items()]
        values = np.stack([values * inside for values, inside in images]).astype(np.float32)
        found.append(F.avg_pool3d(torch.from_numpy(values), coarsen).half())
        if found[-1].shape != found[0].shape:
            raise DataError(
                f"volumes of {found[-1].shape[1:]} voxels beside {found[0].shape[1:]}",
                file=unit["unit"], remedy="a network of volumes needs one anat.shape for all",
            )  # fmt: skip
    return torch.stack(found)


def train(
    fabric: Fabric, volumes: Tensor, y: Tensor, kind: Kind, outputs: int, options: Cnn, seed: int
) -> VolumeNetwork:
    """Train on volumes (units, images, X, Y, Z) and phenotypes (units,): z values, or classes."""
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
        said = network(batch)
        loss = loss_of(said if kind == "classification" else said[:, 0], y[drawn].to(fabric.device))
        require_finite(step, {"loss": loss.item()}, ())
        optimizer.zero_grad()
        fabric.backward(loss)
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * schedule(step, options.steps, 0.1)
        optimizer.step()
    return network.eval()


@torch.inference_mode()
def say(fabric: Fabric, network: VolumeNetwork, volumes: Tensor, kind: Kind) -> NDArray:
    """Numbers or probabilities, (units, outputs): the mean of each person and the mirrored one."""
    both = []
    for batch in volumes.split(16):
        batch = batch.to(fabric.device, torch.float32)
        for way in (batch, batch.flip(2)):
            said = network(way).float()
            both.append((said.softmax(1) if kind == "classification" else said).cpu().numpy())
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
        values[~known] = mean + sd * say(fabric, network, volumes[~rows], kind)
    return values


def prediction_rows(
    target: Target, people: Sequence[str], folds: NDArray, values: NDArray
) -> list[dict[str, object]]:
    """One row for each person and class; the mean over a person's sessions."""
    table = pd.DataFrame(values).groupby(np.array(people)).mean()
    fold_of = dict(zip(people, folds, strict=True))
    classes = target.classes or (None,)
    return [
        {"participant_id": person, "fold": fold_of[person], "class": name, "value": value}
        for person in target.people
        for name, value in zip(classes, table.loc[person], strict=True)
    ]


def read_predictions(path: Path, target: Target) -> NDArray[np.float64]:
    """Read what networks said, shape (people,) or (people, classes)."""
    rows = {(r["participant_id"], r["class"]): float(r["value"]) for r in read_table(path)}
    classes = target.classes or (None,)
    values = np.array([[rows[person, name] for name in classes] for person in target.people])
    return values if target.classes else values[:, 0]


def main(
    root: Root,
    phenotype: Annotated[str, typer.Option(help="Column of participants.tsv.")],
    seen: Annotated[str, typer.Option(help="Images that are looked at, joined by +.")],
    participants: Annotated[Path, typer.Option(help="participants.tsv")],
    config: NeededConfig,
) -> None:
    """Predict one phenotype from whole volumes, each fold by a network that did not see it."""
    written, cohort = read_config(config), root / "cohort"
    predict_phenotype(
        phenotype, seen, root, cohort / "units.tsv", root / "downstream" / "features.tsv",
        participants, cohort / "folds.tsv", cohort / "folds.json", sources_of(written, root),
        root / "downstream" / "cnn" / phenotype / f"{seen}.tsv", written.section("downstream"),
        written.section("slices"),
    )  # fmt: skip


def predict_phenotype(
    phenotype: str,
    seen: str,
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
    """Predict one phenotype from the images of an input, and write what was said of each person."""
    torch.set_num_threads(1)  # several of these run side by side
    fold_of = load_folds(folds, folds_record)
    images = {name: every[name] for name in images_of(seen)}
    require_unseen(images, fold_of)
    about = known_people(participants)
    described = {row["unit"]: row["participant_id"] for row in read_table(features)}
    names = sorted(set(described.values()))
    kind = chosen.targets[phenotype]
    try:
        target = read_target(phenotype, kind, names, about, chosen.min_people)
    except RefusedTarget as reason:
        write_table(table, [], COLUMNS)
        print(f"{phenotype}: not predicted, {reason}")
        return
    index = {person: i for i, person in enumerate(target.people)}
    wanted = [
        u for u in read_table(units) if u["unit"] in described and u["participant_id"] in index
    ]
    people = [unit["participant_id"] for unit in wanted]
    limits = slices.t1_range_percent
    volumes = load_volumes(wanted, fold_of, root, images, limits, chosen.cnn.coarsen)
    fabric = make_fabric(Training())
    y, own = target.y[[index[p] for p in people]], np.array([fold_of[p] for p in people])
    values = predict(fabric, volumes, y, own, kind, chosen.cnn, chosen.seed)
    write_table(table, prediction_rows(target, people, own, values), COLUMNS)
    print(f"{phenotype} of {len(target.people)} people from {seen}, {len(set(own))} networks")
