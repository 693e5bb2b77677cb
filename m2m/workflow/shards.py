"""What jobs ask for, and who share one: each job on a cluster costs seconds."""

from collections.abc import Callable, MutableMapping
from typing import Any


def growing(amount: int) -> Callable[[Any, int], int]:
    """An amount as a function of the attempt: a job that ran out of it gets more."""

    def need(wildcards: Any, attempt: int) -> int:
        return amount * attempt

    return need


class Shards:
    """Name a job's group after its person's place; no group where people share no job.

    Snakemake's own shares of unconnected jobs grow each time a checkpoint has it plan anew, until
    jobs never end (its issues 1217 and 1628): a name for each shard leaves nothing to share out.

    Parameters
    ----------
    size : int
        People whose short stages share a job; 0 for none.
    parents : mutable mapping
        Where Snakemake notes the name with wildcards that a group's name was made from
        (`snakemake_patches.parent_groups`): `group-components` are given for that.
    """

    def __init__(self, size: int, parents: MutableMapping[str, str]):
        self.size, self.parents = size, parents

    def of(self, kind: str, place: Callable[[Any], int]) -> Callable[[Any], str] | None:
        """Group function of a rule whose person's place a function tells."""
        if not self.size:
            return None

        def group(wildcards: Any) -> str:
            name = f"{kind}-{place(wildcards) // self.size}"
            self.parents[name] = kind
            return name

        return group
