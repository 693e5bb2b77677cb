"""Resources of jobs, and groups of participants that share one job: each cluster job costs seconds."""

from collections.abc import Callable, MutableMapping
from typing import Any


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
