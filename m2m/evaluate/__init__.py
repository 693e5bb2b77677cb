"""Evaluation of synthetic maps against the measured ones: per subject (`main`), then per model (`compare`)."""

from m2m.evaluate.comparison import compare
from m2m.evaluate.subjects import main

__all__ = ["compare", "main"]
