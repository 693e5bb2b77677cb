"""Augmentation of training slices: intensities, simulated differences between scans, mirroring.

References
----------
Billot et al. (2023), Med Image Anal 86:102789 (randomised contrast, bias, resolution and shape).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from m2m.options.training_options import Augmentation
from m2m.structural.displacement import MIRRORED

# Knots of the random curve of intensities, scaled.
KNOTS = np.array([-0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5])
# Random numbers along each axis of a slice from which a smooth field is interpolated.
FIELD_KNOTS = 4
# Images of a sample that lie on the pixels of the slice and follow a displacement; the template does not.
DISPLACED = {"source", "target", "mask", "brain", "low_res"}
NONE = Augmentation()


class Draw(NamedTuple):
    """Random numbers of a training slice, or of a stack of slices.

    Attributes
    ----------
    gamma, scale : float
        Of the intensities of a T1.
    mirrored : bool
        Whether left and right are exchanged.
    rng : Generator
        Of the simulated differences between scans.
    """

    gamma: float
    scale: float
    mirrored: bool
    rng: np.random.Generator


def augmented(
    stack: Sequence[dict[str, NDArray]],
    plane: str,
    draw: Draw,
    options: Augmentation,
    weighted: bool,
    factors: Sequence[int],
) -> Sequence[dict[str, NDArray]]:
    """Augment a slice, or a stack of consecutive slices, which are all changed alike.

    T1 intensities, normalised to about 0..1, get a gamma and a scale. FA is quantitative: its values are not changed.

    Parameters
    ----------
    stack : sequence of dict
        Of `m2m.train.dataset.read_slice`.
    plane : str
        Orientation.
    draw : Draw
    options : Augmentation
        Simulated differences between scans.
    weighted : bool
        Whether the source is a weighted image, whose intensities have no unit.
    factors : sequence of int
        As in `mirror`.

    Returns
    -------
    sequence of dict
        Of the same shapes; mirrored sagittal slices are in the opposite order.
    """
    if options != NONE:
        joined = {name: np.concatenate([sample[name] for sample in stack]) for name in stack[0]}
        changed = simulate_scan(joined, options, draw.rng, weighted)
        parts = {name: np.split(images, len(stack)) for name, images in changed.items()}
        stack = [{name: images[i] for name, images in parts.items()} for i in range(len(stack))]
    if weighted:
        stack = [s | {"source": augment_intensity(s["source"], draw.gamma, draw.scale)} for s in stack]
    if draw.mirrored:
        stack = [mirror(sample, plane, factors) for sample in stack]
        stack = stack[::-1] if plane == "sagittal" else stack
    return stack


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


def simulate_scan(
    sample: Mapping[str, NDArray], options: Augmentation, rng: np.random.Generator, weighted: bool
) -> dict[str, NDArray]:
    """Change a sample as another scan of another head would differ from it.

    Parameters
    ----------
    sample : mapping
        Of `m2m.train.dataset.read_slice`.
    options : Augmentation
    rng : Generator
    weighted : bool
        Whether the source is a weighted image, whose intensities have no unit and may be changed.

    Returns
    -------
    dict
        Of the same shapes. Outside the brain the source stays 0; positions do not follow the displacement, as an
        affine transform to the template does not follow a participant's anatomy.
    """
    changed = dict(sample)
    if options.deform_px:
        changed |= _displaced(sample, options.deform_px, rng)
    if weighted and options.changes_intensities:
        changed["source"] = _other_scanner(changed["source"], options, rng)
    return changed


def _displaced(sample: Mapping[str, NDArray], sd_px: float, rng: np.random.Generator) -> dict[str, NDArray]:
    """Images of a sample displaced by one smooth random field; masks by the nearest pixel."""
    shape = sample["source"].shape[-2:]
    pixels = np.indices(shape, np.float32)
    pixels += sd_px * np.stack([smooth_field(rng, shape), smooth_field(rng, shape)])
    displaced = {}
    for name in DISPLACED & sample.keys():
        order = 0 if name in ("mask", "brain") else 1
        channels = (ndimage.map_coordinates(channel, pixels, order=order) for channel in sample[name])
        displaced[name] = np.stack([*channels]).astype(np.float32)
    return displaced


def _other_scanner(source: NDArray, options: Augmentation, rng: np.random.Generator) -> NDArray[np.float32]:
    """Slices (N, H, W) with another tone curve, resolution, receive field and noise."""
    outside, shape = source == 0, source.shape[-2:]
    steps = np.diff(KNOTS) * np.exp(options.tone * rng.standard_normal(len(KNOTS) - 1))
    curve = np.concatenate([[0.0], np.cumsum(steps)])
    curve = (curve - curve[1]) / (curve[-2] - curve[1])  # 0 stays 0, and 1 stays 1
    image = np.interp(source, KNOTS, curve)
    sigma = np.zeros(3)
    sigma[rng.integers(3)] = options.blur_px * rng.random()
    image = ndimage.gaussian_filter(image, sigma)
    image = image * np.exp(options.bias * smooth_field(rng, shape))
    image = image + options.noise * rng.random() * rng.standard_normal(image.shape)
    return np.where(outside, 0, image).astype(np.float32)


def smooth_field(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Draw a smooth field of a standard deviation of about 1, by cubic interpolation of few random numbers.

    Parameters
    ----------
    rng : Generator
    shape : (int, int)

    Returns
    -------
    ndarray, of this shape
    """
    knots = rng.standard_normal((FIELD_KNOTS, FIELD_KNOTS))
    at = np.meshgrid(*(np.linspace(0, FIELD_KNOTS - 1, n) for n in shape), indexing="ij")
    return ndimage.map_coordinates(knots, at, order=3, mode="nearest")


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
    position = sample["position"] * MIRRORED[: len(sample["position"]), None, None]
    sample = {**sample, "target": sample["target"] * signs, "position": position}
    if "correction_input" in sample:  # channels of the target, then the source
        sample["correction_input"] = sample["correction_input"] * np.concatenate([signs, np.ones_like(signs[:1])])
    if plane == "sagittal":
        return sample | {k: sample[k][::-1] for k in ("source", "correction_input") if k in sample}
    return {key: np.flip(image, -1) for key, image in sample.items()}
