"""Files of one translated T1: outputs, and what its profiles along bundles are compared with."""

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


class ProfileInputs(NamedTuple):
    """What the synthetic profiles are compared with.

    Attributes
    ----------
    atlas : Path or None
        Map in MNI152 mm, in the unit of the target; None: the model's own, if it holds one.
    measured : tuple of Path
        Measured map in the world space of the T1, and a second measurement of it; both can be missing.
    """

    atlas: Path | None = None
    measured: tuple[Path, ...] = ()

    @property
    def files(self) -> list[Path]:
        """All of them."""
        return [*self.measured, *filter(None, [self.atlas])]


class ProfileOutputs(NamedTuple):
    """Output files of the profiles along bundles.

    Attributes
    ----------
    profiles, means, streamlines : Path
        Tables, and the bundles' streamlines in the T1 as TRX, with a JSON sidecar each.
    figure : Path
    """

    profiles: Path
    means: Path
    streamlines: Path
    figure: Path

    @property
    def files(self) -> list[Path]:
        """All of them, with the sidecars."""
        return [*self, *(path.with_suffix(".json") for path in self[:3])]


def default_outputs(out: Path) -> Outputs:
    """Name the standard deviation and the QC figure after the map.

    FA_sd.nii.gz and FA.png of FA.nii.gz; by BIDS, the deviation of ``desc-synth`` is ``desc-synthsd``.
    """
    name = _stem(out)
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


def profile_outputs(out: Path) -> ProfileOutputs:
    """Name the files of the profiles after the map: FA_bundles.tsv and .png, FA_bundlemeans.tsv, FA_tractogram.trx.

    By BIDS, the streamlines of a map ``desc-synth…_dwimap`` are ``desc-bundles_tractogram``.
    """
    stem = _stem(out)
    tables, lines = (out.with_name(f"{stem}_{end}") for end in ("bundles.tsv", "tractogram.trx"))
    if (start := stem.find(f"_desc-{SYNTHETIC}_")) >= 0:
        lines = out.with_name(f"{stem[:start]}_desc-bundles_tractogram.trx")
    return ProfileOutputs(tables, out.with_name(f"{stem}_bundlemeans.tsv"), lines, tables.with_suffix(".png"))


def _stem(out: Path) -> str:
    return out.name.removesuffix(".gz").removesuffix(".nii")
