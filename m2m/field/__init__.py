"""A continuous field, fitted to the slices of one participant: the stage `field`."""

from m2m.field.fit_field import main

__all__ = ["main"]
