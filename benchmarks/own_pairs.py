"""Own pairs needed: a trained network fine-tuned to another scanner, beside the same network from random weights.

Participants of another scanner are simulated (other resolution, noise, b-value, contrast of the T1). With each number
of pairs the network is trained twice for the same number of steps, from trained and from random weights, and evaluated
on the same test participants. What is done is kept below --folder: a stopped run continues, and pairs may be added.

    python benchmarks/own_pairs.py                            # from the installed weights
    python benchmarks/own_pairs.py --weights MODEL.safetensors --figure docs/images/own-pairs
    python benchmarks/own_pairs.py --weights standard --pairs 0 2 5     # trains a network of the demo's scanner first
"""

import argparse
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from simulated_study import ALONE, REGIONS, SHAPES, TASK, cohort, evaluated, fit, pool, select

from m2m.evaluate.statistics import student_mean
from m2m.figures.style import DOUBLE_MM, PALETTE, SIMULATED, letter, letters, new_figure, paper_style, save
from m2m.io.files import digest, file_digest, read_json, write_json
from m2m.models.pretrained import starting_weights
from m2m.options import Family, Phantom, Trained, section_of
from m2m.options.families.mean import MeanMap
from m2m.options.families.unet import UNet

# The scanner of the demo, and another one; `GAMMA` is the exponent that its T1 has another contrast by.
STANDARD = Phantom(seed=101)
OTHER = Phantom(
    seed=202, t1_spacing_mm=1.6, t1_snr=20, dwi_spacing_mm=2.4, b_s_per_mm2=2000, n_directions=20, n_b0=1, snr=12
)
GAMMA = 1.6
ARMS = {"fine-tuned": "fine-tuned", "scratch": "from random weights", "mean": "mean map"}
METRICS = {"pearson": "r", "ssim": "SSIM", "mae": "MAE"}
COLUMNS = ["pairs", "arm", "participant", "region", *METRICS]


# -- models ------------------------------------------------------------------------------------------


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
    return weights if weights.exists() else fit(root, weights.parent, {"train": units}, options)


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
            chosen = fit(root, arguments.folder / "models" / f"{arm}-{pairs}", {"train": training}, options)
        rows = evaluated(chosen, units["test"], root)
        write_json(done, {"rows": [{"pairs": pairs, "arm": arm, **row} for row in rows]})
    return read_json(done)["rows"]


# -- table and figure --------------------------------------------------------------------------------


def interval(rows: Iterable[dict[str, Any]], metric: str) -> tuple[float, float, float]:
    """Mean over test participants, and the limits of its 95 % interval by Student's t."""
    found = student_mean([row[metric] for row in rows])
    return found.value, found.low, found.high


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
