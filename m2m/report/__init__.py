"""The report: one HTML page of the whole study, made from existing figures and tables."""

from m2m.report.page import main

__all__ = ["main"]
