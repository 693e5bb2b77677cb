"""Participants that share a job: each job costs seconds of start, and planning costs by the job."""

import functools
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from types import SimpleNamespace
from typing import Any

from snakemake.exceptions import IncompleteCheckpointException
from snakemake.io import flag

from m2m.io import bids
from m2m.workflow import snakemake_patches
from m2m.workflow.cohort_tables import Cohort
from m2m.workflow.job_flags import Wanted, files

# Participants, in the order of units.tsv, of whom one job of a model translates those that are to be translated.
TRANSLATED_TOGETHER = 64


def growing(amount: int) -> Callable[[Any, int], int]:
    """Resource function: the amount grows with each attempt of a failed job."""

    def need(wildcards: Any, attempt: int) -> int:
        return amount * attempt

    return need


class Shards:
    """Group jobs by the position of their participants in the cohort; no groups where `size` is 0.

    Snakemake's own grouping of unconnected jobs grows each time a checkpoint makes it plan again,
    until jobs never end (its issues 1217 and 1628). With one group name per shard, Snakemake has
    nothing to group.

    Parameters
    ----------
    size : int
        Number of participants whose short stages share a job; 0: no sharing.
    parents : mutable mapping
        Snakemake's record of the name with wildcards that a group's name was made from
        (`snakemake_patches.parent_groups`): `group-components` refer to that name.
    """

    def __init__(self, size: int, parents: MutableMapping[str, str]):
        self.size, self.parents = size, parents

    def of(self, kind: str, place: Callable[[Any], int]) -> Callable[[Any], str] | None:
        """Group function of a rule.

        Parameters
        ----------
        kind : str
            First part of the group's name.
        place : callable
            From wildcards to the participant's position in the cohort.

        Returns
        -------
        callable or None
            From wildcards to the group's name; None where jobs are not shared.
        """
        if not self.size:
            return None

        def group(wildcards: Any) -> str:
            name = f"{kind}-{place(wildcards) // self.size}"
            self.parents[name] = kind
            return name

        return group


class Together:
    """Units that one job of a rule serves: those of a shard, which is a window of the cohort's table.

    A rule is written for one unit: its outputs hold {unit} and {folder}. Snakemake has no rule whose outputs are
    known after a checkpoint only, so `snakemake_patches.let_jobs_serve_shards` gives its jobs the outputs of all
    units of their shard. In a Snakemake of another version each job serves one unit.

    The stage is called once, with flags for each unit. It makes what is missing or out of date and keeps the rest
    (`io.unit_status.MADE_BY`), so Snakemake must not delete these outputs: they are flagged `update`. What the user
    forces is made again (`snakemake_patches.let_stages_make_forced_results_again`).

    Parameters
    ----------
    cohort : Cohort
    size : int
        Length of the window; 0 as 1.
    units : callable
        From wildcards to the units that a job of the rule is needed for, in the table's order.
    """

    def __init__(self, cohort: Cohort, size: int, units: Callable[[Any], Sequence[str]]):
        self.cohort, self.size, self.units = cohort, max(size, 1), units
        self._shards = functools.lru_cache(maxsize=256)(self._divide)

    def _divide(self, names: tuple[str, ...], values: tuple[str, ...], stamp: object) -> dict[str, list[str]]:
        """Units of the shard of each unit; `stamp` changes with the tables."""
        shards: dict[int, list[str]] = {}
        wildcards = SimpleNamespace(**dict(zip(names, values, strict=True)))
        for unit in self.units(wildcards):
            shards.setdefault(self.cohort.position(unit) // self.size, []).append(unit)
        return {unit: shard for shard in shards.values() for unit in shard}

    def shard_of(self, wildcards: Mapping[str, str]) -> list[str]:
        """Units of a shard, by any of them."""
        others = {key: value for key, value in wildcards.items() if key not in ("unit", "folder", "measure")}
        found = self._shards(tuple(others), tuple(others.values()), self.cohort.stamp())
        return found.get(wildcards["unit"], [wildcards["unit"]])

    def served(self, wildcards: Mapping[str, str]) -> list[dict[str, str]]:
        """Wildcards of each unit that a job serves; a job that is not named after its shard's first unit serves one."""
        shard = self.shard_of(wildcards) if snakemake_patches.applies() else []
        units = shard if shard[:1] == [wildcards["unit"]] else [wildcards["unit"]]
        return [dict(wildcards) | {"unit": unit, "folder": bids.unit_folder(unit)} for unit in units]

    # -- for snakemake_patches: before the cohort's tables are there, a job serves one unit ----------------

    def leader(self, wildcards: Mapping[str, str]) -> dict[str, str]:
        """Wildcards of the job that serves a unit: those of its shard's first unit."""
        try:
            unit = self.shard_of(wildcards)[0]
        except IncompleteCheckpointException:
            unit = wildcards["unit"]
        return dict(wildcards) | {"unit": unit, "folder": bids.unit_folder(unit)}

    def expanded(self, wildcards: Mapping[str, str]) -> list[dict[str, str]]:
        """As `served`."""
        try:
            return self.served(wildcards)
        except IncompleteCheckpointException:
            return [dict(wildcards)]

    # -- for rules ----------------------------------------------------------------------------------

    def output(self, pattern: str | list[str]) -> Any:
        """One or several outputs of each unit of a job."""
        kept = flag(pattern, "update") if snakemake_patches.applies() else pattern
        return flag(kept, snakemake_patches.SHARD, self)

    def inputs(self, wanted: Wanted) -> Callable[[Any], list[str]]:
        """Input function: files of each unit of a job, by a pattern or an input function of one unit."""

        def found(wildcards: Any) -> list[str]:
            return [path for one in self._served(wildcards) for path in files(wanted, one)]

        return found

    def _served(self, wildcards: Any) -> list[SimpleNamespace]:
        return [SimpleNamespace(**one) for one in self.served(dict(wildcards.items()))]

    def flags(self, *of_unit: Callable[[Any], list[str]]) -> Callable[[Any], list[str]]:
        """Parameter function: a ``+`` and the flags of each unit of a job (`m2m.cli` describes such a call)."""

        def arguments(wildcards: Any) -> list[str]:
            each = ([text for flags in of_unit for text in flags(one)] for one in self._served(wildcards))
            return [text for own in each for text in ("+", *own)]

        return arguments
