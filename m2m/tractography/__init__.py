"""Whole-brain streamlines from a diffusion series or from tensors: the stage `tractography`."""

from m2m.tractography.stage import main

__all__ = ["main"]
