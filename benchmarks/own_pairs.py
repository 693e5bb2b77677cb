"""Own pairs needed: a trained network fine-tuned to another scanner, beside the same network from random weights.

Participants of another scanner are simulated (other resolution, noise, b-value, contrast of the T1). With each number
of pairs the network is trained twice for the same number of steps, from trained and from random weights, and evaluated
on the same test participants. What is done is kept below --folder: a stopped run continues, and pairs may be added.

    python benchmarks/own_pairs.py                            # from the installed weights
    python benchmarks/own_pairs.py --weights MODEL.safetensors --figure docs/images/own-pairs
    python benchmarks/own_pairs.py --weights standard --pairs 0 2 5     # trains a network of the demo's scanner first
"""

import argparse
import shutil
from collections.abc import Iterable, Sequence
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
from m2m.evaluate.statistics import student_mean
from m2m.figures.style import DOUBLE_MM, PALETTE, SIMULATED, letter, letters, new_figure, paper_style, save
from m2m.io.bids import files_of
from m2m.io.files import digest, file_digest, read_json, write_json
from m2m.io.tables import read_table, write_table
from m2m.io.volume import Volume, load, resample_inside
from m2m.io.volume import save as save_volume
from m2m.models.pretrained import starting_weights
from m2m.models.record import load_model
from m2m.options import Anat, Family, Phantom, Task, Trained, section_of
from m2m.options.families.mean import MeanMap
from m2m.options.families.unet import UNet
from m2m.phantom.simulate import simulate_participant
from m2m.structural import anat, coregistration, slices
from m2m.train import fit_model
from m2m.translate.predict import Network, Subject, predict, unscaled

# The scanner of the demo, and another one; `GAMMA` is the exponent that its T1 has another contrast by.
STANDARD = Phantom(seed=101)
OTHER = Phantom(
    seed=202, t1_spacing_mm=1.6, t1_snr=20, dwi_spacing_mm=2.4, b_s_per_mm2=2000, n_directions=20, n_b0=1, snr=12
)
GAMMA = 1.6
SHAPES = {3.0: (64, 80, 64), 2.0: (96, 120, 96)}
TASK = Task(source="t1", target="fa")
ARMS = {"fine-tuned": "fine-tuned", "scratch": "from random weights", "mean": "mean map"}
METRICS = {"pearson": "r", "ssim": "SSIM", "mae": "MAE"}
REGIONS = {"brain": "brain", "wm": "white matter"}
# What an installed model has besides its network: a given map, and its average with this map deformed to the T1.
ALONE = {"prior_map": None, "atlas_share": 0.0}
COLUMNS = ["pairs", "arm", "participant", "region", *METRICS]


def pool(jobs: Iterable[Any], work: Any, workers: int) -> list[Any]:
    """Do jobs in so many processes, with one thread each."""
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as processes:
        return list(processes.map(work, jobs))


# -- participants ------------------------------------------------------------------------------------


def prepare(label: str, root: Path, scanner: Phantom, gamma: float, spacing_mm: float) -> str:
    """Simulate a participant, and run the stages up to its slices; the series is deleted then."""
    unit, raw = f"sub-{label}", root / "rawdata"
    at, t1w = files_of(unit, root), raw / f"sub-{label}_T1w.nii.gz"
    if (root / "slices" / unit / f"{unit}_slices.json").exists():
        return unit
    scratch = raw / unit
    scratch.mkdir(parents=True, exist_ok=True)
    dwi, bval, bvec, *truth = (
        scratch / f"{name}" for name in ("dwi.nii.gz", "bval", "bvec", "fa.nii.gz", "tensor.nii.gz", "bundles.nii.gz")
    )
    simulate_participant(label, t1w, dwi, bval, bvec, *truth, scanner)
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


def cohort(root: Path, labels: Sequence[str], scanner: Phantom, gamma: float, arguments: Any) -> list[str]:
    """Prepare participants; those whose scans fail a check of a stage are left out."""
    work = partial(prepare, root=root, scanner=scanner, gamma=gamma, spacing_mm=arguments.spacing_mm)
    units = pool(labels, work, arguments.workers)
    records = {unit: read_json(root / "slices" / unit / f"{unit}_slices.json") for unit in units}
    return [unit for unit, record in records.items() if record["status"] == "ok" and not record["excluded"]]


# -- models ------------------------------------------------------------------------------------------


def fit(root: Path, folder: Path, training: Sequence[str], options: Family) -> Path:
    """Train on participants of a dataset without validation, and return the weights."""
    weights, split, record = (folder / name for name in ("model.safetensors", "split.tsv", "split.json"))
    write_table(split, [{"participant_id": u, "part": "train"} for u in training], ["participant_id", "part"])
    write_json(record, {"hash": digest(read_table(split))})
    others = (folder / name for name in ("model.json", "model_card.md", "metrics.jsonl"))
    inputs = root / "slices", split, record
    outputs = folder / "training", weights, *others
    fit_model("t1-fa", folder.name, *inputs, *outputs, TASK, options, simulated=True)
    return weights


def trained_options(options: Trained, **training: Any) -> Trained:
    """Options of the network alone, with others of the training; its prior is that of the start, or of the pairs."""
    changed = options.training.model_copy(update={"threads": 1, "start_from": None, **training})
    return options.model_copy(update={"training": changed, **ALONE})


def standard_weights(arguments: Any) -> Path:
    """Train a network on participants of the demo's scanner."""
    root = arguments.folder / "standard"
    labels = [f"{i:04d}" for i in range(1, arguments.standard + 1)]
    units = cohort(root, labels, STANDARD, 1.0, arguments)
    options = UNet.model_validate({"network": {"context": 3, "prior": True}, "mirror": True})
    steps = arguments.standard_steps
    options = trained_options(options, steps=steps, batch_size=6, learning_rate=2e-3, checkpoint_every=100)
    weights = root / "unet" / "model.safetensors"
    return weights if weights.exists() else fit(root, weights.parent, units, options)


def arm_options(arm: str, weights: Path, arguments: Any) -> Family:
    """Options of one arm: those of the trained model, from its weights or from random ones."""
    if arm == "mean":
        return MeanMap()
    options = section_of(read_json(weights.with_name("model.json")))
    assert isinstance(options, Trained), "the weights are those of a network"
    fine = arm == "fine-tuned"
    return trained_options(
        options,
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        learning_rate=arguments.rate if fine else options.training.learning_rate,
        start_from=weights if fine else None,
        validation_subjects=4,  # only for the calibration of the uncertainty
    )


# -- evaluation --------------------------------------------------------------------------------------


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
    """Metrics of a model for each test participant and region."""
    rows = []
    for unit in units:
        at = files_of(unit, root)
        measured, target, wm = (load(at(kind)).data for kind in ("fa", "target-mask", "wm"))
        inside = target > 0
        regions = {"brain": inside, "wm": inside & (wm > 0)}
        values, _ = region_metrics(measured, by_model(weights, unit, root), inside, regions)
        for region in regions:
            rows.append({"participant": unit, "region": region, **{name: values[region][name] for name in METRICS}})
    return rows


def point(job: tuple[int, str], root: Path, weights: Path, units: dict[str, list[str]], arguments: Any) -> list[Any]:
    """Train and evaluate one arm with one number of pairs; with none, the trained network is as it is."""
    pairs, arm = job
    training = units["train"][:pairs]
    settings = [arguments.steps, arguments.batch_size, arguments.rate, arguments.spacing_mm, file_digest(weights)]
    title = digest([*settings, units["test"], training])
    done = arguments.folder / "points" / f"{pairs}-{arm}-{title}.json"
    if not done.exists():
        chosen = weights
        if pairs:
            options = arm_options(arm, weights, arguments)
            chosen = fit(root, arguments.folder / "models" / f"{arm}-{pairs}", training, options)
        rows = evaluated(chosen, units["test"], root)
        write_json(done, {"rows": [{"pairs": pairs, "arm": arm, **row} for row in rows]})
    return read_json(done)["rows"]


# -- table and figure --------------------------------------------------------------------------------


def interval(rows: Iterable[dict[str, Any]], metric: str) -> tuple[float, float, float]:
    """Mean over test participants, and the limits of its 95 % interval by Student's t."""
    found = student_mean([row[metric] for row in rows])
    return found.value, found.low, found.high


def select(rows: Iterable[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    """Rows that have these values."""
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown: a line for each number of pairs and arm; white matter in brackets."""
    lines = ["| own pairs | network | " + " | ".join(METRICS.values()) + " |", "|---|---|" + "---|" * len(METRICS)]
    for pairs, arm in dict.fromkeys((row["pairs"], row["arm"]) for row in rows):
        found = {region: select(rows, pairs=pairs, arm=arm, region=region) for region in REGIONS}
        means = {region: [np.mean([row[name] for row in own]) for name in METRICS] for region, own in found.items()}
        cells = (f"{brain:.3f} ({wm:.3f})" for brain, wm in zip(*means.values(), strict=True))
        title = "as it is" if pairs == 0 else ARMS[arm]
        lines.append(f"| {pairs} | {title} | " + " | ".join(cells) + " |")
    return lines


def draw(rows: list[dict[str, Any]], stem: Path, note: str) -> None:
    """Draw each metric by the number of own pairs, in the brain and in white matter."""
    pairs = sorted({row["pairs"] for row in rows})
    with paper_style():
        figure = new_figure(DOUBLE_MM, 96)
        panels = figure.subplots(len(REGIONS), len(METRICS), sharex=True)
        for axes, label, (region, metric) in zip(
            panels.flat, letters(), [(r, m) for r in REGIONS for m in METRICS], strict=False
        ):
            for colour, (arm, title) in zip(PALETTE, ARMS.items(), strict=False):
                shown = [n for n in pairs if select(rows, pairs=n, arm=arm)]
                places = [pairs.index(n) for n in shown]
                values = [interval(select(rows, pairs=n, arm=arm, region=region), metric) for n in shown]
                mean, low, high = zip(*values, strict=True)
                axes.plot(places, mean, color=colour, marker="o", markersize=3, label=title)
                axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
                if shown[0] == 0:
                    axes.axhline(mean[0], color=colour, linestyle=":", linewidth=0.8)
            axes.set_title(f"{METRICS[metric]}, {REGIONS[region]}")
            axes.set_xticks(range(len(pairs)), [str(n) for n in pairs])
            letter(axes, label)
        for axes in panels[-1]:
            axes.set_xlabel("own pairs of T1 and DWI")
        handles, labels = panels.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=len(labels))
        save(figure, rows, COLUMNS, stem, note)


def parsed() -> Any:
    """Arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="pretrained", help="pretrained (installed), standard, or a path")
    parser.add_argument("--pairs", type=int, nargs="+", default=[0, 2, 5, 10, 20, 50])
    parser.add_argument("--test", type=int, default=8, help="test participants")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--batch-size", type=int, default=6)
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate of fine-tuning")
    parser.add_argument("--spacing-mm", type=float, default=3.0, choices=sorted(SHAPES))
    parser.add_argument("--standard", type=int, default=12, help="participants, for --weights standard")
    parser.add_argument("--standard-steps", type=int, default=600)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("results/own-pairs"))
    parser.add_argument("--out", type=Path, help="Markdown")
    parser.add_argument("--figure", type=Path, help="path without extension; default: own-pairs in the folder")
    return parser.parse_args()


def main() -> None:
    """Simulate, train, evaluate; print and write the table and the figure."""
    arguments = parsed()
    if arguments.weights == "standard":
        weights = standard_weights(arguments)
    else:
        chosen = arguments.weights if arguments.weights == "pretrained" else Path(arguments.weights)
        weights = starting_weights(chosen, TASK.source, TASK.target, "")
    root, n_test, most = arguments.folder / "other", arguments.test, max(arguments.pairs)
    # The test participants come first, so that they are the same for every number of pairs.
    usable = cohort(root, [f"{i:04d}" for i in range(1, n_test + most + 1)], OTHER, GAMMA, arguments)
    units = {"test": [u for u in usable if int(u[4:]) <= n_test], "train": [u for u in usable if int(u[4:]) > n_test]}
    pairs = sorted({min(n, len(units["train"])) for n in arguments.pairs})
    jobs = [(n, arm) for n in pairs for arm in ARMS if n or arm == "fine-tuned"]
    work = partial(point, root=root, weights=weights, units=units, arguments=arguments)
    rows = [row for rows in pool(jobs, work, arguments.workers) for row in rows]
    record = read_json(weights.with_name("model.json"))
    text = "\n".join(
        [
            f"`python benchmarks/own_pairs.py`: FA of {len(units['test'])} simulated test participants of another "
            f"scanner ({describe(OTHER)}, T1 to the power {GAMMA:g}) on a grid of {arguments.spacing_mm:g} mm, by "
            f"{record['model']} ({record['family']}, {record['spacing_mm']:g} mm, {record['n_train']} "
            f"{'simulated ' * record['simulated']}participants), {arguments.steps} steps of {arguments.batch_size} "
            "slices in both arms, networks without a deformed map. Mean over participants; white matter in brackets.",
            "",
            *table(rows),
        ]
    )
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")
    note = f"{SIMULATED}. Test participants: {len(units['test'])}; bands: 95 % intervals over them"
    draw(rows, arguments.figure or arguments.folder / "own-pairs", note)


def describe(scanner: Phantom) -> str:
    """Resolution, noise and b-value of a scanner."""
    return (
        f"T1 {scanner.t1_spacing_mm:g} mm, SNR {scanner.t1_snr:g}; DWI {scanner.dwi_spacing_mm:g} mm, "
        f"SNR {scanner.snr:g}, b {scanner.b_s_per_mm2:g} s/mm2, {scanner.n_directions} directions"
    )


if __name__ == "__main__":
    main()
