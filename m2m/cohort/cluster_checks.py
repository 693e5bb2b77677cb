"""Check a Slurm cluster and the settings of the profile `slurm` (docs/cluster.md) before jobs wait for ever."""

import shutil
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from m2m.io.programs import finished

# What slurm/profile.v9+.yaml has where a variable is not set.
DEFAULTS = {"CORES": 4, "TRAIN_RUNTIME": 1440, "JOBS": 100, "SHARD": 8, "POLL": 20}
NUMBERS = (*DEFAULTS, "MEM_MB")


class Check(NamedTuple):
    """A line: what was checked, what was found, and what to do.

    Attributes
    ----------
    state : {"OK", "warning", "failure"}
    what, found, remedy : str
    """

    state: Literal["OK", "warning", "failure"]
    what: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.state:<8} {self.what:<21} {self.found}" + (f" -> {self.remedy}" if self.remedy else "")


class Partition(NamedTuple):
    """A partition as `sinfo` lists it, one of its kinds of nodes.

    Attributes
    ----------
    name : str
        With a star where it is the cluster's default.
    minutes : float
        Time limit.
    cores, memory_mb : int
        Of a node.
    gpus : bool
    """

    name: str
    minutes: float
    cores: int
    memory_mb: int
    gpus: bool


def minutes_of(limit: str) -> float:
    """Minutes of a time limit of Slurm: ``2-00:00:00``, ``4:00:00``, ``30:00``, ``infinite``."""
    if not limit[:1].isdigit():
        return float("inf")
    days, _, clock = limit.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    hours, minutes, seconds = [0] * (3 - len(parts)) + parts
    return int(days or 0) * 1440 + hours * 60 + minutes + seconds / 60


def parse_partitions(text: str) -> list[Partition]:
    """Partitions from ``sinfo --noheader --format=%P|%l|%c|%m|%G``."""
    rows = [line.split("|") for line in text.splitlines() if line.count("|") == 4]
    return [
        Partition(name, minutes_of(limit), int(cores.rstrip("+")), int(mb.rstrip("+")), "gpu" in generic)
        for name, limit, cores, mb, generic in rows
    ]


def cluster(variables: Mapping[str, str], job_mb: int) -> Iterator[Check]:
    """Programs of Slurm, variables of the profile, and whether its partitions can run the jobs.

    Parameters
    ----------
    variables : mapping
        Of the environment.
    job_mb : int
        Memory that the largest job asks for.
    """
    names = (*NUMBERS, "PARTITION", "GPU_PARTITION", "STATUS")
    settings = {name: variables.get(f"M2M_SLURM_{name}", "") for name in names}
    texts = [name for name in NUMBERS if settings[name] and not settings[name].isdigit()]
    wrong = [f"M2M_SLURM_{name}={settings[name]}" for name in texts]
    if wrong:
        yield Check("failure", "Slurm's settings", ", ".join(wrong), "set whole numbers (docs/cluster.md)")
        return
    needed = ("sbatch", "sinfo", settings["STATUS"] or "squeue")
    if missing := [command for command in needed if shutil.which(command) is None]:
        yield Check("failure", "Slurm", f"not on PATH: {', '.join(missing)}", "call from a login node of the cluster")
        return
    status, answer = finished(("sinfo", "--noheader", "--format=%P|%l|%c|%m|%G"))
    if status or not (found := parse_partitions(answer)):
        last = (answer.strip().splitlines() or ["sinfo lists no partition"])[-1]
        yield Check("failure", "Slurm", last, "ask the cluster's administrators, or call again when Slurm responds")
        return
    yield Check("OK", "Slurm", f"{len({one.name for one in found})} partitions")
    yield from fitting(settings, found, job_mb)


def fitting(settings: Mapping[str, str], found: list[Partition], job_mb: int) -> Iterator[Check]:
    """Whether the two partitions exist and their largest nodes can run the jobs.

    Parameters
    ----------
    settings : mapping
        Variables of the profile without their prefix; empty where not set.
    found : list of Partition
    job_mb : int
        Memory that the largest job asks for.
    """
    numbers = {name: int(settings.get(name) or DEFAULTS.get(name, 0)) for name in NUMBERS}
    most_mb = numbers["MEM_MB"] or job_mb
    cpu = settings.get("PARTITION", "")
    for kind, name in (("PARTITION", cpu), ("GPU_PARTITION", settings.get("GPU_PARTITION") or cpu)):
        what, gpus = f"M2M_SLURM_{kind}", kind == "GPU_PARTITION"
        own = [one for one in found if (one.name.rstrip("*") == name if name else one.name.endswith("*"))]
        if not own:
            known = ", ".join(dict.fromkeys(one.name.rstrip("*") for one in found))
            problem = f"there is no partition {name}" if name else "not set, and the cluster has no default partition"
            yield Check("failure", what, f"{problem}: {known}", "set it to one of these")
            continue
        cores, mb, minutes = (max(getattr(one, key) for one in own) for key in ("cores", "memory_mb", "minutes"))
        nodes = f"{own[0].name}: nodes of up to {cores} cores and {mb} MB, {minutes:g} minutes"
        if cores < numbers["CORES"] or mb < most_mb:
            asked = f"jobs ask for up to {numbers['CORES']} cores and {most_mb} MB"
            remedy = f"set M2M_SLURM_CORES={min(cores, numbers['CORES'])} M2M_SLURM_MEM_MB={min(mb, most_mb)}"
            yield Check("failure", what, f"{nodes}; {asked}", f"{remedy}, or larger jobs wait for ever")
        elif gpus and minutes < numbers["TRAIN_RUNTIME"]:
            asked = f"training asks for {numbers['TRAIN_RUNTIME']} minutes"
            yield Check("failure", what, f"{nodes}; {asked}", f"set M2M_SLURM_TRAIN_RUNTIME={minutes:g} or less")
        elif gpus and not any(one.gpus for one in own):
            yield Check("warning", what, f"{nodes}, no GPU", "name a partition with GPUs where networks are trained")
        else:
            yield Check("OK", what, nodes)
