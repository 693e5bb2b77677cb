"""The report: one page of the whole study, of words, pictures and tables that exist already."""

from m2m.report.page import main

__all__ = ["main"]
