"""Kill -9 at random moments of a run: the state on disk after each kill, and the final results.

The workflow runs undisturbed; then again in another folder, where at random moments a running stage is
killed, or all processes at once, as in a power failure, and the workflow is called again. After each
kill, every result on disk must be complete: equal to that of the undisturbed run. At the end all must
be present. What differs between any two runs is left out: logs, benchmarks, training states, training
times, and the figure of the run times of jobs.

    python benchmarks/faults.py --kills 20 --out benchmarks/faults.md          # tests/config.yaml
    python benchmarks/faults.py --config config.yaml --kills 20 --keep studies # the demo
"""

import argparse
import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
NOT_RESULTS = {"logs", "benchmarks", "training"}
# Seconds of a translation are in its status; training times are in its log and, as minutes with one decimal, on the
# report page; run times of translations are a figure of their own, which is on the report page too.
TIMES = {
    ".json": re.compile(rb'"seconds": [\d.e-]+|"run": {[^}]*}'),
    ".jsonl": re.compile(rb'"seconds": [\d.e-]+'),
    ".html": re.compile(rb'>\s*\d+\.\d\s*</td>|src="[^"]*" alt="Quality against time|<p id="run-times">[^<]*'),
}
FIGURE_OF_TIMES = "speed"
LEFTOVER = re.compile(r"\.\d+\..+")
POLL_S = 0.05
NOTHING = "nothing: it had ended"


@dataclass(frozen=True)
class Kill:
    """One kill: time, stage, and the state on disk afterwards."""

    seconds: float
    stage: str
    everything: bool
    whole: int
    leftovers: int
    broken: tuple[str, ...]

    def row(self) -> str:
        """A row of the table."""
        what = f"{self.stage}, and Snakemake" if self.everything else self.stage
        outcome = f"not whole: {', '.join(self.broken)}" if self.broken else "all whole"
        return f"| {self.seconds:.1f} | {what} | {self.whole} | {self.leftovers} | {outcome} |"


def verdict(kills: Sequence[Kill]) -> str:
    """Count the kills after which all results were complete, among those that found a process to kill."""
    real = [kill for kill in kills if kill.stage != NOTHING]
    good = sum(not kill.broken for kill in real)
    return f"{good} of {len(real)} kills left whole results only; {len(kills) - len(real)} found nothing to kill."


def results(root: Path) -> dict[str, str]:
    """Hash each result below a folder, by its relative path; temporary files are not results."""
    found = {}
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if name not in NOT_RESULTS]
        for name in files:
            path = Path(folder, name)
            if not LEFTOVER.fullmatch(name) and path.stem != FIGURE_OF_TIMES:
                content = path.read_bytes()
                if path.suffix in TIMES:
                    content = TIMES[path.suffix].sub(b"", content)
                found[str(path.relative_to(root))] = hashlib.sha256(content).hexdigest()
    return found


def leftovers(root: Path) -> list[Path]:
    """List temporary files of killed writers."""
    return [path for path in root.rglob(".*") if LEFTOVER.fullmatch(path.name)]


class Study:
    """A run of the workflow in a folder of its own.

    Parameters
    ----------
    folder : Path
        Folder of the results.
    config : Path
    targets : sequence of str
        Targets of the workflow; its default target where empty.
    """

    def __init__(self, folder: Path, config: Path, targets: Sequence[str] = ()):
        self.folder, self.log = folder, folder / "snakemake.log"
        base = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
        self.base = [*base, "--configfile", str(config), "--directory", str(folder)]
        self.targets = list(targets)
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def results(self) -> Path:
        """Folder of the results of its dataset."""
        (root,) = (path for path in (self.folder / "results").iterdir() if path.is_dir())
        return root

    def start(self) -> psutil.Popen:
        """Start the workflow in its own process group; it resumes where it stopped."""
        with self.log.open("a") as log:
            return psutil.Popen(
                [*self.base, *self.targets, "--cores", "2"],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )

    def unlock(self) -> None:
        """Remove the lock of a killed Snakemake."""
        subprocess.run([*self.base, "--unlock"], check=True, capture_output=True, cwd=self.folder)

    def finish(self) -> None:
        """Run to the end; exit if that fails."""
        self.require_success(self.start())

    def require_success(self, snakemake: psutil.Popen) -> None:
        """Wait for a run; where it failed, exit with its log."""
        if snakemake.wait():
            sys.exit(self.log.read_text()[-20_000:])

    def jobs_done(self) -> int:
        """Number of jobs that succeeded in all runs so far."""
        return self.log.read_text().count("Finished jobid") if self.log.exists() else 0


def stages(process: psutil.Process) -> dict[psutil.Process, str]:
    """List the running stages started by a Snakemake process, with their names."""
    found = {}
    for child in _below(process):
        with suppress(psutil.Error):
            command = child.cmdline()
            names = [Path(part).name for part in command[:3]]  # Python, its options, the program
            if "m2m" in names[1:] and (stage := command[names.index("m2m") + 1 :]):
                found[child] = stage[0]
    return found


def _below(process: psutil.Process) -> list[psutil.Process]:
    """List all descendants of a process; none where it has ended."""
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def moments(n_jobs: int, n_kills: int, rng: random.Random) -> Iterator[tuple[int, float]]:
    """Draw when to kill: the number of finished jobs, and the seconds after that, in order.

    Parameters
    ----------
    n_jobs : int
        Jobs of a whole run.
    n_kills : int
    rng : random.Random

    Yields
    ------
    (int, float)
    """
    after = sorted(rng.sample(range(n_jobs - 1), n_kills))
    yield from ((n, rng.uniform(0, 5)) for n in after)


def kill_one(study: Study, done: int, wait: float, rng: random.Random) -> tuple[str, bool]:
    """Run until a number of jobs is done and for some seconds more; kill a stage, or all processes.

    Parameters
    ----------
    study : Study
    done : int
        Jobs to wait for.
    wait : float
        Seconds to wait after that.
    rng : random.Random

    Returns
    -------
    stage : str
        Name of the killed stage.
    everything : bool
        Whether all processes were killed.
    """
    snakemake = study.start()
    while study.jobs_done() < done and snakemake.poll() is None:
        time.sleep(POLL_S)
    until = time.monotonic() + wait
    while snakemake.poll() is None:
        running = stages(snakemake)
        if running and time.monotonic() > until:
            break
        time.sleep(POLL_S)
    else:
        study.require_success(snakemake)
        return NOTHING, False
    victim = rng.choice(sorted(running, key=running.__getitem__))
    everything = rng.random() < 0.5
    if everything:
        below = _below(snakemake)
        with suppress(ProcessLookupError):
            os.killpg(snakemake.pid, signal.SIGKILL)
        for process in below:
            _kill(process)
        snakemake.wait()
        study.unlock()
    else:
        _kill(victim)
        snakemake.wait()
    return running[victim], everything


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill()


def disturb(study: Study, expected: dict[str, str], n_jobs: int, n_kills: int, rng: random.Random) -> list[Kill]:
    """Kill a number of times; then run to the end.

    Parameters
    ----------
    study : Study
    expected : dict
        Hashes of the results of the undisturbed run.
    n_jobs : int
        Jobs of a whole run.
    n_kills : int
    rng : random.Random

    Returns
    -------
    list of Kill
    """
    kills, start = [], time.monotonic()
    for done, wait in moments(n_jobs, n_kills, rng):
        stage, everything = kill_one(study, done, wait, rng)
        seconds, found = time.monotonic() - start, results(study.results)
        broken = tuple(name for name, value in found.items() if expected.get(name) != value)
        left = len(leftovers(study.results))
        kills.append(Kill(seconds, stage, everything, len(found) - len(broken), left, broken))
        print(kills[-1].row(), flush=True)
    study.finish()
    return kills


def main() -> None:
    """Run the workflow twice, once with kills; print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", help="targets of the workflow; its default target if none is named")
    parser.add_argument("--config", type=Path, default=ROOT / "tests/config.yaml")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--keep", type=Path, help="folder in which both runs are kept")
    wanted = parser.parse_args()
    with nullcontext(wanted.keep) if wanted.keep else tempfile.TemporaryDirectory() as name:
        folders = (Path(name, part).resolve() for part in ("undisturbed", "disturbed"))
        first, second = (Study(f, wanted.config.resolve(), wanted.targets) for f in folders)
        first.finish()
        expected, n_jobs = results(first.results), first.jobs_done()
        kills = disturb(second, expected, n_jobs, wanted.kills, random.Random(wanted.seed))
        end, left = results(second.results), leftovers(second.results)
    same = sum(end.get(name) == value for name, value in expected.items())
    further = sorted(end.keys() - expected.keys())
    lines = [
        f"`python benchmarks/faults.py --kills {wanted.kills} --seed {wanted.seed}` on "
        f"{wanted.config.name}: {n_jobs} jobs, {len(expected)} results.",
        "",
        "| s | killed | results on disk | leftovers | they are |",
        "|---|---|---|---|---|",
        *(kill.row() for kill in kills),
        "",
        f"{verdict(kills)} At the end {same} of {len(expected)} results equal the undisturbed run's; "
        f"{len(further)} more, {len(left)} leftovers.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    for name, value in expected.items():
        if end.get(name) != value:
            print(f"differs: {name}")
    if wanted.out:
        wanted.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
