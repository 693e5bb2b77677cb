"""The stage `tractography`: whole-brain streamlines of a diffusion series or of tensors."""

from m2m.diffusion.tractography.tracking import main, track_unit

__all__ = ["main", "track_unit"]
