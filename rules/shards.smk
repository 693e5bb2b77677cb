"""People whose short stages share one job of a cluster: each job there costs seconds."""

@functools.cache
def _places(path, modified):
    return {row["unit"]: i for i, row in enumerate(_table(path, modified))}


def place_of_unit(wildcards):
    """Place of a unit in the cohort's table."""
    return _places(UNITS, os.stat(UNITS).st_mtime_ns)[wildcards.unit]


@functools.cache
def _places_of_labels():
    return {
        label: i for i, label in enumerate(labels(CONFIG.cohort.phantom.n_subjects))
    }


def place_of_participant(wildcards):
    """Place of a simulated person among all."""
    return _places_of_labels()[wildcards.participant]


def shard(kind, place):
    """Name a job's group after its person's place; no group where people share no job.

    Snakemake's own shares of unconnected jobs grow each time a checkpoint has it plan anew, until
    jobs never end (its issues 1217 and 1628): a name for each shard leaves nothing to share out.
    """
    if not CONFIG.shard:
        return None

    def group(wildcards):
        name = f"{kind}-{place(wildcards) // CONFIG.shard}"
        # As Snakemake notes for a name with wildcards: `group-components` are given for the kind.
        workflow.parent_groupids[name] = kind
        return name

    return group
