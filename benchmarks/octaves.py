"""Octave convolutions: quality against computing, for several shares of channels at low frequency (alpha).

The hypothesis of Kim et al. (arXiv:2412.11277), after Chen et al. (2019, doi:10.1109/ICCV.2019.00353), is that octaves
give more for the same computing. Each network has widths with which a slice takes as many multiplications as by the
network of config.yaml without octaves, and is trained for the same number of steps (equal multiplications), and for as
many as take the same CPU seconds (equal seconds). Participants are made of real parts, or simulated with --phantom.
What is done is kept below --folder: a stopped run continues, and alphas, budgets and seeds may be added.

    python benchmarks/octaves.py                                    # equal multiplications and equal seconds, 3 mm
    python benchmarks/octaves.py --best-of results/octaves/octaves.tsv --spacing-mm 2    # the two best and alpha 0
    python benchmarks/octaves.py --best-of results/octaves/octaves.tsv --phantom
"""

import argparse
import statistics
import time
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from simulated_study import SHAPES, cohort, evaluated, fit, pool, select
from torch.utils.flop_counter import FlopCounterMode
from training import batch_of

from m2m.evaluate.statistics import student_mean
from m2m.figures.style import DOUBLE_MM, PALETTE, SIMULATED, letter, letters, new_figure, paper_style, save
from m2m.io.files import digest, read_json, write_json
from m2m.io.tables import read_table
from m2m.models.building import build_network
from m2m.networks.slice_inputs import TemplateMap
from m2m.options import Phantom, Template, load_config
from m2m.options.families.macro2micro import Macro2Micro
from m2m.train.adversarial import Loop
from m2m.train.launch import make_fabric

ROOT = Path(__file__).resolve().parents[1]
SIDE = 256  # pixels of the slice that multiplications are counted of
TIMED = 64  # pixels of the slices that steps are timed on
MULTIPLE = 4  # widths are multiples of it
ARMS = {"multiplications": "equal multiplications", "seconds": "equal seconds"}
METRICS = {"pearson": "r", "ssim": "SSIM", "psnr": "PSNR, dB"}
COLUMNS = ["arm", "budget", "alpha", "steps", "seed", "part", "participant", *METRICS]


class Run(NamedTuple):
    """One training of an arm: budget in steps of alpha 0, and the steps that it has."""

    arm: str
    budget: int
    alpha: float
    steps: int


def blank_prior() -> TemplateMap:
    """A prior of the template's size; its values do not matter."""
    return TemplateMap(torch.zeros(1, 66, 78, 63), torch.eye(4))


def gmac(model: Macro2Micro) -> float:
    """Billions of multiplications of one slice of `SIDE` x `SIDE` pixels."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network = build_network(model, 1, blank_prior())
        source, position = torch.zeros(1, model.window.context, SIDE, SIDE), torch.zeros(1, 3, SIDE, SIDE)
        network(source, torch.zeros(1, dtype=torch.long), position)
    return counter.get_total_flops() / 2e9


def shaped(model: Macro2Micro, alpha: float, widths: Sequence[int]) -> Macro2Micro:
    """The model with another alpha and other widths."""
    network = model.network.model_copy(update={"alpha": alpha, "widths": tuple(widths)})
    return model.model_copy(update={"network": network})


def equal_in_multiplications(model: Macro2Micro, alpha: float) -> Macro2Micro:
    """The model with this alpha, and widths times the factor, by bisection, of the multiplications of alpha 0."""
    flat = shaped(model, 0, model.network.widths)
    if not alpha:
        return flat

    def widened(factor: float) -> Macro2Micro:
        return shaped(
            model, alpha, [max(MULTIPLE, MULTIPLE * round(factor * w / MULTIPLE)) for w in model.network.widths]
        )

    wanted, low, high = gmac(flat), 1.0, 4.0
    for _ in range(8):
        middle = (low + high) / 2
        low, high = (middle, high) if gmac(widened(middle)) < wanted else (low, middle)
    return min(widened(low), widened(high), key=lambda found: abs(gmac(found) - wanted))


def step_seconds(models: dict[float, Macro2Micro], rounds: int) -> dict[float, float]:
    """CPU seconds of a step of training on one thread, slices given: median of rounds after one, in turn for all."""
    torch.set_num_threads(1)
    loops = {alpha: Loop(make_fabric(m.training), m, prior=blank_prior()) for alpha, m in models.items()}
    times: dict[float, list[float]] = {alpha: [] for alpha in models}
    for _ in range(rounds + 1):
        for alpha, loop in loops.items():
            training, window = models[alpha].training, models[alpha].window
            batch = batch_of(training.batch_size, TIMED, window.context, loop.fabric.device)
            cycle = loop.objective.every  # one cycle holds one step of the discriminators
            start = time.process_time()
            for step in range(cycle):
                loop.update(step, batch)
            times[alpha].append((time.process_time() - start) / cycle)
    return {alpha: statistics.median(found[1:]) for alpha, found in times.items()}


def timed(models: dict[float, Macro2Micro], arguments: Any) -> dict[float, float]:
    """Seconds of a step, measured in the first call: later ones must have the same numbers of steps."""
    about = [model.model_dump(mode="json") for model in models.values()]
    done = arguments.folder / f"step-seconds-{digest([about, arguments.rounds])}.json"
    if not done.exists():
        found = step_seconds(models, arguments.rounds)
        write_json(done, {str(alpha): seconds for alpha, seconds in found.items()})
    return {float(alpha): seconds for alpha, seconds in read_json(done).items()}


def runs_of(budgets: Iterable[int], seconds: dict[float, float]) -> list[Run]:
    """Runs of both arms; that of alpha 0 is the same in both."""
    return [
        Run(arm, budget, alpha, budget if arm == "multiplications" else round(budget * seconds[0] / own))
        for budget, arm, (alpha, own) in product(budgets, ARMS, seconds.items())
    ]


def point(
    job: tuple[float, int, int], root: Path, models: dict[float, Macro2Micro], units: dict[str, list[str]], folder: Path
) -> list[dict[str, Any]]:
    """Train with an alpha, a number of steps and a seed, and evaluate on validation and test participants."""
    alpha, steps, seed = job
    every = {"validate_every": steps, "checkpoint_every": 100, "validation_subjects": len(units["validation"])}
    training = models[alpha].training.model_copy(update={"steps": steps, "seed": seed, "threads": 1, **every})
    options = models[alpha].model_copy(update={"training": training, "mirror": False})  # half the time to translate
    settings = digest([options.model_dump(mode="json"), units])[:12]
    name = f"alpha-{1000 * alpha:.0f}-steps-{steps}-seed-{seed}-{settings}"  # thousandths: names have no points
    done = folder / "points" / f"{name}.json"
    if not done.exists():
        parts = {part: units[part] for part in ("train", "validation")}
        weights = fit(root, folder / "models" / name, parts, options)
        rows = [
            {"alpha": alpha, "steps": steps, "seed": seed, "part": part, **row}
            for part in ("validation", "test")
            for row in select(evaluated(weights, units[part], root), region="brain")
        ]
        write_json(done, {"rows": rows})
    return read_json(done)["rows"]


def best_of(path: Path, n: int = 2) -> list[float]:
    """Alphas above 0 with the highest r on validation participants at equal seconds, largest budget."""
    rows = select(read_table(path), arm="seconds", part="validation")
    most = max(int(row["budget"]) for row in rows)
    values: dict[float, list[float]] = {}
    for row in rows:
        if int(row["budget"]) == most and float(row["alpha"]):
            values.setdefault(float(row["alpha"]), []).append(float(row["pearson"]))
    return sorted(sorted(values, key=lambda alpha: -statistics.mean(values[alpha]))[:n])


# -- table and figure --------------------------------------------------------------------------------


def over_seeds(rows: Iterable[dict[str, Any]], metric: str) -> dict[str, float]:
    """Mean over seeds, by participant."""
    values: dict[str, list[float]] = {}
    for row in rows:
        values.setdefault(row["participant"], []).append(row[metric])
    return {participant: statistics.mean(found) for participant, found in values.items()}


def table(rows: list[dict[str, Any]], models: dict[float, Macro2Micro], seconds: dict[float, float]) -> list[str]:
    """Markdown: a line for each arm, budget and alpha; differences are paired over test participants."""
    heads = ["training", "alpha", "widths", "GMAC a slice", "ms a step", "steps", *METRICS.values(), "validation r"]
    lines = [" | ".join(["", *heads, "r less that of alpha 0", ""]).strip(), "|---" * (len(heads) + 1) + "|"]
    for arm, budget, alpha in dict.fromkeys((row["arm"], row["budget"], row["alpha"]) for row in rows):
        own = select(rows, arm=arm, budget=budget, alpha=alpha)
        flat = over_seeds(select(rows, arm=arm, budget=budget, alpha=0, part="test"), "pearson")
        test = {metric: over_seeds(select(own, part="test"), metric) for metric in METRICS}
        found = student_mean([test["pearson"][unit] - flat[unit] for unit in flat])
        interval = "" if found.low is None else f" [{found.low:+.3f}, {found.high:+.3f}]"
        cells = [
            f"{ARMS[arm]}, {budget}",
            f"{alpha:g}",
            "-".join(str(width) for width in models[alpha].network.widths),
            f"{gmac(models[alpha]):.2f}",
            f"{1e3 * seconds[alpha]:.0f}",
            str(own[0]["steps"]),
            *(f"{statistics.mean(of.values()):.{2 if metric == 'psnr' else 3}f}" for metric, of in test.items()),
            f"{statistics.mean(over_seeds(select(own, part='validation'), 'pearson').values()):.3f}",
            f"{found.value:+.3f}{interval}" if alpha else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def draw(rows: list[dict[str, Any]], seconds: dict[float, float], stem: Path, note: str) -> None:
    """Draw each metric of the test participants by alpha: a line for each budget, a point for each seed."""
    alphas, budgets, test = list(seconds), sorted({row["budget"] for row in rows}), select(rows, part="test")
    with paper_style():
        figure = new_figure(DOUBLE_MM, 96)
        panels = figure.subplots(len(ARMS), len(METRICS), sharex=True, sharey="col")
        for axes, label, (arm, metric) in zip(panels.flat, letters(), product(ARMS, METRICS), strict=False):
            for colour, budget in zip(PALETTE, budgets, strict=False):
                means = []
                for place, alpha in enumerate(alphas):
                    own = select(test, arm=arm, budget=budget, alpha=alpha)
                    seeds = sorted({row["seed"] for row in own})
                    values = [np.mean([row[metric] for row in select(own, seed=seed)]) for seed in seeds]
                    axes.plot([place] * len(values), values, ".", color=colour, markersize=3, alpha=0.6)
                    means.append(np.mean(values))
                title = f"{budget} steps of alpha 0, {budget * seconds[0]:.0f} CPU s"
                axes.plot(range(len(alphas)), means, color=colour, label=title)
            axes.set_title(f"{METRICS[metric]}, {ARMS[arm]}")
            axes.set_xticks(range(len(alphas)), [f"{alpha:g}" for alpha in alphas])
            letter(axes, label)
        for axes in panels[-1]:
            axes.set_xlabel("alpha, share of channels at low frequency")
        handles, labels = panels.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=len(labels))
        save(figure, rows, COLUMNS, stem, note)


def parsed() -> Any:
    """Arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--alphas", type=float, nargs="+", default=[0, 0.125, 0.25, 0.5, 0.75])
    parser.add_argument("--best-of", type=Path, help="table of an earlier call: its two best alphas and 0")
    parser.add_argument("--budgets", type=int, nargs="+", default=[100, 300], help="steps of alpha 0")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--train", type=int, default=14, help="training participants")
    parser.add_argument("--validation", type=int, default=3)
    parser.add_argument("--test", type=int, default=6)
    parser.add_argument("--spacing-mm", type=float, default=3.0, choices=sorted(SHAPES))
    parser.add_argument("--phantom", action="store_true", help="participants simulated of the MNI152 anatomy")
    parser.add_argument("--parts", type=Path, default=ROOT / "config.pretrained.yaml", help="has cohort.template")
    parser.add_argument("--config", type=Path, default=ROOT / "config.yaml", help="has the model")
    parser.add_argument("--model", default="m2m", help="of the family macro2micro; its widths are those of alpha 0")
    parser.add_argument("--rounds", type=int, default=7, help="of timing")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("results/octaves"))
    parser.add_argument("--out", type=Path, help="Markdown")
    parser.add_argument("--figure", type=Path, help="path without extension; default: octaves in the folder")
    return parser.parse_args()


def participants(arguments: Any) -> tuple[Path, dict[str, list[str]]]:
    """Dataset and units by part; test participants come first, so that they are the same for any number of others."""
    scanner: Phantom | Template | None = Phantom(seed=303)
    if not arguments.phantom:
        scanner = load_config(arguments.parts).cohort.template
        assert scanner, "the configuration of the parts has cohort.template"
        scanner = scanner.model_copy(update={"seed": 303})
    root = arguments.folder / f"{'phantom' if arguments.phantom else 'template'}-{arguments.spacing_mm:g}mm"
    ends = np.cumsum([0, arguments.test, arguments.validation, arguments.train])
    usable = cohort(root, [f"{i:04d}" for i in range(1, ends[-1] + 1)], scanner, 1.0, arguments)
    parts = zip(("test", "validation", "train"), ends[:-1], ends[1:], strict=True)
    return root, {part: [u for u in usable if first < int(u[4:]) <= last] for part, first, last in parts}


def main() -> None:
    """Simulate, time, train, evaluate; print and write the table and the figure."""
    arguments = parsed()
    base = load_config(arguments.config).models[arguments.model]
    assert isinstance(base, Macro2Micro), "the model is of the family macro2micro"
    alphas = [0.0, *(best_of(arguments.best_of) if arguments.best_of else sorted({*arguments.alphas} - {0}))]
    models = {alpha: equal_in_multiplications(base, alpha) for alpha in alphas}
    seconds = timed(models, arguments)
    root, units = participants(arguments)
    runs = runs_of(sorted(arguments.budgets), seconds)
    jobs = [(a, s, seed) for seed in arguments.seeds for a, s in dict.fromkeys((r.alpha, r.steps) for r in runs)]
    work = partial(point, root=root, models=models, units=units, folder=arguments.folder)
    found = dict(zip(jobs, pool(jobs, work, arguments.workers), strict=True))
    rows = [
        {"arm": run.arm, "budget": run.budget, **row}
        for run, seed in product(runs, arguments.seeds)
        for row in found[run.alpha, run.steps, seed]
    ]
    counts = {part: len(of) for part, of in units.items()}
    kind = "simulated of the MNI152 anatomy" if arguments.phantom else "made of real parts"
    about = (
        f"{counts['train']} training, {counts['validation']} validation and {counts['test']} test participants {kind}, "
        f"{arguments.spacing_mm:g} mm; {len(arguments.seeds)} seeds"
    )
    text = "\n".join(
        [
            f"`python benchmarks/octaves.py`: FA in the brain, {about}. Mean over seeds and test participants, without "
            "mirrored images; budgets are steps of alpha 0; differences with 95 % intervals over test participants. "
            f"Multiplications are for slices of {SIDE} x {SIDE}, CPU times of a whole step of training, "
            f"{base.training.batch_size} slices of {TIMED} x {TIMED}, on one thread (PyTorch {torch.__version__}), "
            f"medians of {arguments.rounds} rounds.",
            "",
            *table(rows, models, seconds),
        ]
    )
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")
    draw(rows, seconds, arguments.figure or arguments.folder / "octaves", f"{SIMULATED}. {about}")


if __name__ == "__main__":
    main()
