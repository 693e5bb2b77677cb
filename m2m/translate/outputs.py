"""Output files of one translated T1."""

from pathlib import Path
from typing import NamedTuple

from m2m.io.bids import ENTITIES, MAPS, bids_name
from m2m.io.modalities import MODALITIES
from m2m.io.overwriting import require_outside, sidecar_of
from m2m.io.quoting import dataset_of

# In the BIDS name of a map, and of its standard deviation.
SYNTHETIC, DEVIATION = "synth", "synthsd"


class Outputs(NamedTuple):
    """Output files of one T1.

    Attributes
    ----------
    image, sd, figure : Path
        Map, its standard deviation, and QC figure.
    """

    image: Path
    sd: Path
    figure: Path


def default_outputs(out: Path) -> Outputs:
    """Name the standard deviation and the QC figure after the map.

    FA_sd.nii.gz and FA.png of FA.nii.gz; by BIDS, the deviation of ``desc-synth`` is ``desc-synthsd``.
    """
    name = out.name.removesuffix(".gz").removesuffix(".nii")
    extension = out.name[len(name) :]
    deviation = name.replace(f"_desc-{SYNTHETIC}_", f"_desc-{DEVIATION}_")
    deviation = f"{name}_sd" if deviation == name else deviation
    return Outputs(out, out.with_name(f"{deviation}{extension}"), out.with_name(f"{name}.png"))


def map_named_after(t1: Path, target: str) -> Path:
    """Name the map of a T1 in the current folder.

    As in the workflow where the T1 has a BIDS name: sub-01_run-1_T1w.nii.gz gives
    sub-01_run-1_space-T1w_desc-synth_model-tensor_param-fa_dwimap.nii.gz. Of any other, T1.nii.gz
    gives T1_synthetic_FA.nii.gz.

    Parameters
    ----------
    t1 : Path
    target : str
        Modality.

    Returns
    -------
    Path
        Relative to the current folder.

    Raises
    ------
    DataError
        The current folder lies in the BIDS dataset of the T1.
    """
    kind, stem = MODALITIES[target].kind, sidecar_of(t1).stem
    *labels, suffix = stem.split("_")
    entities = {name: label for name, _, label in (part.partition("-") for part in labels)}
    usual = entities.keys() <= set(ENTITIES) and all(label.isascii() and label.isalnum() for label in entities.values())
    out = Path(f"{stem}_synthetic_{kind.upper()}.nii.gz")
    if suffix == "T1w" and "sub" in entities and usual:
        about = {"space": "T1w"} | entities | {"desc": SYNTHETIC, "model": MAPS[kind], "param": kind}
        out = Path(bids_name("dwimap", ".nii.gz", **about))
    dataset = dataset_of(t1)
    if dataset and (dataset / "dataset_description.json").is_file():
        require_outside(out, dataset)
    return out
