"""External programs that a configuration asks for, by the option that asks."""

from m2m.io.modalities import natures, on_grid
from m2m.options import Config
from m2m.options.imaging_options import MAPPERS
from m2m.options.preprocess_backends import PREPROCESS_BACKENDS
from m2m.options.trackers import TRACKERS


def tracts_needed(config: Config) -> bool:
    """Whether tasks need streamlines and their density."""
    return "density" in natures(on_grid(config.modalities))


def external_programs(config: Config) -> dict[str, tuple[str, ...]]:
    """Commands that must be on PATH, by the option whose value needs them; none where it needs none.

    Parameters
    ----------
    config : Config
    """
    needed = {"preprocess.backend": config.preprocess.commands, "dti.mask.method": config.dti.mask.commands}
    if tracts_needed(config):
        needed |= {"tractography.backend": config.tractography.commands, "grid.density": config.grid.commands}
    return needed


def suites() -> dict[str, str]:
    """Software suite of each external program that a backend may call."""
    records = (*PREPROCESS_BACKENDS.values(), *TRACKERS.values(), *MAPPERS.values())
    return {program: one.suite for one in records for program in one.programs}
