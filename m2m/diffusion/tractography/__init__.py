"""The stage `tractography`: whole-brain streamlines of a diffusion series or of tensors."""

from m2m.diffusion.tractography.tracking import files_of_series, main, track_unit

__all__ = ["files_of_series", "main", "track_unit"]
