"""From a diffusion series to tensors, streamlines and their density."""
