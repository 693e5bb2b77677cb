"""Augmentation of training slices: intensities and mirroring."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def augment_intensity(source: NDArray, gamma: float, scale: float) -> NDArray[np.float32]:
    """Apply ``scale * sign(x) |x|^gamma``; 0 stays 0.

    Parameters
    ----------
    source : ndarray
        Normalised intensities.
    gamma, scale : float

    Returns
    -------
    ndarray
        Of the same shape.
    """
    return (scale * np.sign(source) * np.abs(source) ** gamma).astype(np.float32)


def mirror(sample: Mapping[str, NDArray], plane: str, factors: Sequence[int] = (1,)) -> dict[str, NDArray]:
    """Mirror a sample left to right.

    Axial and coronal slices are mirrored along their columns. Sagittal slices are stacked from
    left to right, so the order of neighbouring slices is reversed.

    Parameters
    ----------
    sample : mapping
        Of `m2m.train.dataset.read_slice`.
    plane : str
        Orientation.
    factors : sequence of int
        For each channel of the target: -1 if mirroring changes its sign.

    Returns
    -------
    dict
        Of the same shapes.
    """
    signs = np.asarray(factors, np.float32)[:, None, None]
    position = sample["position"] * np.array([-1, 1, 1], np.float32)[:, None, None]
    sample = {**sample, "target": sample["target"] * signs, "position": position}
    if "correction_input" in sample:  # channels of the target, then the source
        sample["correction_input"] = sample["correction_input"] * np.concatenate([signs, np.ones_like(signs[:1])])
    if plane == "sagittal":
        return sample | {k: sample[k][::-1] for k in ("source", "correction_input") if k in sample}
    return {key: np.flip(image, -1) for key, image in sample.items()}
