"""What benchmarks of training share: simulated participants up to their slices, a training, metrics."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from m2m.diffusion import dti
from m2m.evaluate.metrics import region_metrics
from m2m.io.bids import files_of
from m2m.io.files import digest, read_json, write_json
from m2m.io.tables import read_table, write_table
from m2m.io.volume import Volume, load, resample_inside
from m2m.io.volume import save as save_volume
from m2m.models.record import load_model
from m2m.options import Anat, Family, Phantom, Task, Template
from m2m.phantom import GROUP_MAPS, group_maps
from m2m.phantom.simulate import simulate_participant
from m2m.structural import anat, coregistration, slices
from m2m.train import fit_model
from m2m.translate.predict import Network, Subject, predict, unscaled

SHAPES = {3.0: (64, 80, 64), 2.0: (96, 120, 96)}
TASK = Task(source="t1", target="fa")
REGIONS = {"brain": "brain", "wm": "white matter"}
# What an installed model has besides its network: a given map, and its average with this map deformed to the T1.
ALONE = {"prior_map": None, "atlas_share": 0.0}


def pool(jobs: Iterable[Any], work: Any, workers: int) -> list[Any]:
    """Do jobs in so many processes, with one thread each."""
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as processes:
        return list(processes.map(work, jobs))


# -- participants ------------------------------------------------------------------------------------


def prepare(label: str, root: Path, scanner: Phantom | Template, gamma: float, spacing_mm: float) -> str:
    """Simulate a participant, and run the stages up to its slices; the series is deleted then.

    Parameters
    ----------
    label : str
    root : Path
        Dataset.
    scanner : Phantom or Template
    gamma : float
        The T1 is raised to this power.
    spacing_mm : float
        Of the grid, a key of `SHAPES`.

    Returns
    -------
    str
        The unit.
    """
    unit, raw = f"sub-{label}", root / "rawdata"
    at, t1w = files_of(unit, root), raw / f"sub-{label}_T1w.nii.gz"
    if (root / "slices" / unit / f"{unit}_slices.json").exists():
        return unit
    scratch = raw / unit
    scratch.mkdir(parents=True, exist_ok=True)
    dwi, bval, bvec, *truth = (
        scratch / name
        for name in ("dwi.nii.gz", "bval", "bvec", "fa.nii.gz", "tensor.nii.gz", "bundles.nii.gz", "shift.nii.gz")
    )
    *maps, shift = truth
    simulate_participant(label, t1w, dwi, bval, bvec, *maps, scanner, shift, root / "truth")
    image = load(t1w)
    highest = float(image.data.max())
    save_volume(t1w, Volume(highest * (image.data.clip(0) / highest) ** gamma, image.affine), dtype=np.int16)
    anat.main(root, unit, t1w, options=Anat(spacing_mm=spacing_mm, shape=SHAPES[spacing_mm]).model_dump_json())
    dti.main(root, unit, dwi, bval, bvec, options="{}")
    coregistration.main(root, unit, options="{}")
    slices.main(root, unit, options="{}")
    shutil.rmtree(scratch)
    for kind in ("dwi-tensor", "dwi-v1"):
        at(kind).unlink(missing_ok=True)
    return unit


def cohort(root: Path, labels: Sequence[str], scanner: Phantom | Template, gamma: float, arguments: Any) -> list[str]:
    """Prepare participants; those whose scans fail a check of a stage are left out."""
    if isinstance(scanner, Template) and not (root / "truth" / GROUP_MAPS["bundles"]).exists():
        config = root / "logs" / "config.json"
        write_json(config, {"cohort": {"source": "template", "template": scanner.model_dump(mode="json")}})
        group_maps.main(root, config)
    work = partial(prepare, root=root, scanner=scanner, gamma=gamma, spacing_mm=arguments.spacing_mm)
    units = pool(labels, work, arguments.workers)
    records = {unit: read_json(root / "slices" / unit / f"{unit}_slices.json") for unit in units}
    return [unit for unit, record in records.items() if record["status"] == "ok" and not record["excluded"]]


# -- models ------------------------------------------------------------------------------------------


def fit(root: Path, folder: Path, parts: Mapping[str, Sequence[str]], options: Family) -> Path:
    """Train on the participants of the part ``train`` of a dataset, and return the weights."""
    weights, split, record = (folder / name for name in ("model.safetensors", "split.tsv", "split.json"))
    rows = [{"participant_id": unit, "part": part} for part, units in parts.items() for unit in units]
    write_table(split, rows, ["participant_id", "part"])
    write_json(record, {"hash": digest(read_table(split))})
    others = (folder / name for name in ("model.json", "model_card.md", "metrics.jsonl"))
    inputs = root / "slices", split, record
    outputs = folder / "training", weights, *others
    fit_model("t1-fa", folder.name, *inputs, *outputs, TASK, options, simulated=True)
    return weights


def by_model(weights: Path, unit: str, root: Path) -> NDArray[np.float32]:
    """Predict FA of a participant, (X, Y, Z) on its grid; a model of another grid predicts on its own."""
    tensors, record = load_model(weights, weights.with_name("model.json"))
    record = dict(record) | {"options": {key: value for key, value in record["options"].items() if key not in ALONE}}
    at = files_of(unit, root)
    brain = load(at("brain"))
    if record["spacing_mm"] == round(float(np.linalg.norm(brain.affine[:3, 0])), 3):
        inside = Volume(brain.data > 0, brain.affine)
        subject = Subject(load(at("t1w")), inside, np.array(read_json(at("anat-status"))["grid_to_mni"]))
        return unscaled(predict(subject, tensors, record, Network()).image, inside.data, record).data
    t1 = load(root / "rawdata" / f"{unit}_T1w.nii.gz")
    own = anat.prepare(t1, None, Anat(spacing_mm=record["spacing_mm"], shape=record["shape"]))
    subject = Subject(own.t1, own.brain, own.grid_to_mni)
    image = unscaled(predict(subject, tensors, record, Network()).image, own.brain.data, record)
    return resample_inside(image, own.brain, brain.affine, brain.shape)[0].data


def evaluated(weights: Path, units: Sequence[str], root: Path) -> list[dict[str, Any]]:
    """Metrics of a model for each participant and region."""
    rows = []
    for unit in units:
        at = files_of(unit, root)
        measured, target, wm = (load(at(kind)).data for kind in ("fa", "target-mask", "wm"))
        inside = target > 0
        regions = {"brain": inside, "wm": inside & (wm > 0)}
        values, _ = region_metrics(measured, by_model(weights, unit, root), inside, regions)
        for region in regions:
            rows.append({"participant": unit, "region": region, **values[region]})
    return rows


# -- tables ------------------------------------------------------------------------------------------


def select(rows: Iterable[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    """Rows that have these values."""
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]
