"""Objectives: what a generator and its discriminators minimise."""
