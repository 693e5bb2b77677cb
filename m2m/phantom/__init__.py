"""Participants simulated from the MNI152 anatomy: T1w and DWI, with their ground truth.

Standard library only here, so that the workflow can list participants without heavy imports.
"""


def labels(n_subjects: int) -> list[str]:
    """BIDS labels of the simulated participants, ``0001`` first."""
    return [f"{index:04d}" for index in range(1, n_subjects + 1)]
