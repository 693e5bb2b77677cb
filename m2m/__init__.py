"""m2m: brain microstructure predicted from T1-weighted MRI, and how far to trust it."""

__version__ = "0.1.0"
