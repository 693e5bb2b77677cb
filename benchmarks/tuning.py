"""Choose each network's learning rate on validation participants, with the same budget for all.

Every network of the report page `compare` is trained on the demo's training participants for a few
steps with each learning rate; the error on the validation participants decides. Slices of test
participants are never opened: `find_subjects` lists the other two parts only. Needs the slices of
`snakemake slices`.

    python benchmarks/tuning.py                    # prints and writes benchmarks/tuning.md
"""

import argparse
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from m2m.cohort.split import load_split, part_by_participant
from m2m.options import load_config
from m2m.train.checkpoint import Checkpoints
from m2m.train.dataset import find_subjects
from m2m.train.launch import make_fabric
from m2m.train.loop import fit_network

ROOT = Path(__file__).resolve().parents[1]


def trial(name: str, rate: float, steps: int) -> tuple[str, float, float, float, float]:
    """Train one network.

    Parameters
    ----------
    name : str
        Model of config.yaml.
    rate : float
        Learning rate.
    steps : int

    Returns
    -------
    tuple
        Name, learning rate, validation error, number of validation participants, CPU seconds.
    """
    torch.set_num_threads(1)
    config = load_config(ROOT / "config.yaml")
    task = next(task for task in config.tasks.values() if task.page == "compare")
    cohort = ROOT / config.results / config.dataset / "cohort"
    parts = part_by_participant(load_split(cohort / "split.tsv", cohort / "split.json"))
    folder = cohort.parent / "slices"
    subjects, _ = find_subjects(folder, parts, task.source, task.target)
    model = config.models[name]
    training = model.training.model_copy(update={"steps": steps, "learning_rate": rate, "validate_every": steps})
    model = model.model_copy(update={"training": training})
    start = time.process_time()
    with tempfile.TemporaryDirectory() as temporary:
        checkpoints = Checkpoints(temporary, {"name": name, "rate": rate})
        fabric = make_fabric(training)
        fabric.launch()
        fit = fit_network(fabric, subjects, task, model, checkpoints)
    seconds = time.process_time() - start
    return name, rate, fit.validation["value"], len(subjects["validation"]), seconds


def main() -> None:
    """Run every trial, two at a time, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 2e-3, 4e-3])
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    config = load_config(ROOT / "config.yaml")
    task = next(task for task in config.tasks.values() if task.page == "compare")
    names = [n for n in task.models if config.models[n].trained]
    trials = [(name, rate, arguments.steps) for name in names for rate in arguments.rates]
    with ProcessPoolExecutor(arguments.processes, get_context("spawn")) as pool:
        rows = list(pool.map(trial, *zip(*trials, strict=True)))
    lines = [
        f"`python benchmarks/tuning.py --steps {arguments.steps}`: mean absolute error of FA",
        f"inside the brain by learning rate, mean over {rows[0][3]:.0f} validation participants.",
        "Lower is better. Test participants were not used.",
        "",
        "| model | " + " | ".join(f"{rate:g}" for rate in arguments.rates) + " | CPU s, mean |",
        "|---|" + "---|" * (len(arguments.rates) + 1),
    ]
    for name in names:
        own = [row for row in rows if row[0] == name]
        best = min(row[2] for row in own)
        cells = [f"**{r[2]:.4f}**" if r[2] == best else f"{r[2]:.4f}" for r in own]
        seconds = sum(row[4] for row in own) / len(own)
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {seconds:.0f} |")
    text = "\n".join(lines) + "\n"
    print(text)
    (ROOT / "benchmarks" / "tuning.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
