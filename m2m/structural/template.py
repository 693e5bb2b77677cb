"""The MNI152 anatomy that nilearn ships: T1, grey and white matter, brain mask.

References
----------
Fonov et al. (2009), NeuroImage 47 Suppl 1:S102, https://doi.org/10.1016/S1053-8119(09)70884-5
(ICBM 2009a nonlinear symmetric).
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np

from m2m.io.volume import Volume, blur_to, load, resample

Tissue = Literal["t1", "gm", "wm", "brain"]


@cache
def load_template(tissue: Tissue, spacing_mm: float = 1.0) -> Volume:
    """Load a map of the template; it is cached, so do not modify it.

    Parameters
    ----------
    tissue : {"t1", "gm", "wm", "brain"}
    spacing_mm : float
        1 is the original; coarser maps are blurred to the spacing first.

    Returns
    -------
    Volume
        Float32, RAS+, MNI152 mm. `t1` in 0..1 and 0 outside the brain; `gm` and `wm` are
        probabilities; `brain` is 1 inside (the intracranial space, cerebrospinal fluid included).
    """
    if spacing_mm != 1:
        fine = load_template(tissue, 2.0 if spacing_mm >= 4 else 1.0)
        x, y, z = (int(n) for n in np.ceil(np.array(fine.shape) * fine.spacing_mm / spacing_mm))
        affine = fine.affine.copy()
        affine[:3, :3] *= spacing_mm / fine.spacing_mm
        coarse = resample(blur_to(fine, spacing_mm), affine, (x, y, z))
        data = (coarse.data >= 0.5).astype(np.float32) if tissue == "brain" else coarse.data
        return Volume(data, affine)
    volume = load(_file("t1" if tissue == "brain" else tissue))
    data = volume.data > 0 if tissue == "brain" else volume.data / 255
    return Volume(data.astype(np.float32), volume.affine)


def _file(tissue: str) -> Path:
    """The file of nilearn, which is not imported: that takes seconds."""
    spec = find_spec("nilearn")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("nilearn, which ships the MNI152 template, is not installed")
    folder = Path(spec.origin).parent / "datasets" / "data"
    return folder / f"mni_icbm152_{tissue}_tal_nlin_sym_09a_converted.nii.gz"
