"""Whole-brain streamlines from a diffusion series or from tensors: the stage `tractography`."""

from m2m.diffusion.tractography.tracking import main, track_unit

__all__ = ["main", "track_unit"]
