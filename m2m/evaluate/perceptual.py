"""LPIPS, where the package and its weights are available; nothing is downloaded.

References
----------
Zhang et al. (2018), CVPR, arXiv:1801.03924.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2m.structural.slices import extract

Perceptual = Callable[[NDArray, NDArray, NDArray], float]
# Slices with less mask than this share of the largest slice's are left out.
MIN_SHARE = 0.05


def perceptual_distance(weights: Path | None) -> Perceptual | None:
    """Make the function that compares two images, or print why it cannot be made.

    Parameters
    ----------
    weights : Path or None
        Safetensors file with the state of ``lpips.LPIPS(net="alex")``, trunk and linear layers.

    Returns
    -------
    callable or None
        Takes two images of data range 1 and a mask, shape (X, Y, Z); returns the mean distance of
        their axial slices.
    """
    try:
        import lpips
    except ModuleNotFoundError as error:
        print(f"LPIPS not computed: {error}")
        return None
    if weights is None:
        print("LPIPS not computed: evaluation.lpips_weights is not set")
        return None
    from safetensors.torch import load_model

    network = lpips.LPIPS(pretrained=False, net="alex", pnet_rand=True, verbose=False)
    load_model(network.requires_grad_(False), weights)

    def distance(reference: NDArray, synthetic: NDArray, mask: NDArray) -> float:
        per_slice = [
            float(network(*(lpips.im2tensor(image, factor=0.5) for image in pair)))
            for pair in _slice_images(reference, synthetic, mask)
        ]
        return float(np.mean(per_slice)) if per_slice else float("nan")

    return distance


def _slice_images(reference: NDArray, synthetic: NDArray, mask: NDArray) -> list[tuple[NDArray, NDArray]]:
    """Pairs of axial slices, 0 outside the mask, as images of three equal channels."""
    inside = extract(mask, "axial")
    counts = inside.sum((1, 2))
    chosen = (counts > 0) & (counts >= MIN_SHARE * counts.max())
    pair = [
        np.repeat((extract(image, "axial") * inside)[chosen][..., None], 3, axis=-1) for image in (reference, synthetic)
    ]
    return list(zip(*pair, strict=True))
