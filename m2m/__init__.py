"""m2m: brain microstructure predicted from T1 scans, and how far to trust it."""

__version__ = "0.1.0"
