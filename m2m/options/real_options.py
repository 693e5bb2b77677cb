"""Section about real pairs: T1 and DWI of participants that no network was trained on."""

from typing import Self

from pydantic import Field, PositiveFloat, model_validator

from m2m.options.imaging_options import Anat
from m2m.options.section import DataPath, Name, Section
from m2m.options.task_options import Rois

# Maps that stand beside those of the weights, by the names of their rows.
ATLAS_AFFINE, ATLAS_SYN, T1, CONSTANT, SECOND = "atlas-affine", "atlas-syn", "t1", "constant", "second-measurement"
PERFECT = "map-without-error"
RESERVED = (ATLAS_AFFINE, ATLAS_SYN, T1, CONSTANT, SECOND, PERFECT)
# The list of pairs in their dataset, and the dataset inside it of second measurements.
PAIRS, SECOND_FOLDER = "pairs.tsv", "second_measurement"
PAIR_COLUMNS = ("unit", "participant_id", "folder", "dwi", "second_dwi", "excluded", "problem")
# Size of the common grid, which has room for any adult brain.
GRID_MM = (192.0, 240.0, 208.0)


class Real(Section):
    """Real pairs of T1 and DWI, on which weights are compared with an atlas."""

    bids_dir: DataPath | None = Field(None, description="BIDS folder of the pairs; null: none are compared")
    reference_map: DataPath | None = Field(
        None, description="Group average of FA near MNI152, which is carried to each T1; null: no atlas is compared"
    )
    weights: dict[Name, str] | None = Field(
        None,
        description="Models that predict FA from a T1, by the name of their row: path of a model.safetensors, or the "
        "name of installed weights; null: all installed weights of FA",
    )
    rois: Rois = Rois()
    spacing_mm: PositiveFloat = Field(2.0, description="Voxel size of the grid on which maps are compared")

    @property
    def anat(self) -> Anat:
        """The common grid of the pairs."""
        x, y, z = (round(size_mm / self.spacing_mm) for size_mm in GRID_MM)
        return Anat(spacing_mm=self.spacing_mm, shape=(x, y, z))

    @property
    def weight_files(self) -> list[str]:
        """Paths among the weights, which may be results of the workflow."""
        return [path for path in (self.weights or {}).values() if is_file(path)]

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        # File names have labels without hyphens.
        labels = [name.replace("-", "") for name in self.weights or {}]
        if taken := sorted({*labels} & {name.replace("-", "") for name in RESERVED}):
            raise ValueError(f"weights: {', '.join(taken)} is the name of another row")
        if len({*labels}) < len(labels):
            raise ValueError("weights: names differ by hyphens alone")
        return self


def is_file(weights: str) -> bool:
    """Whether weights are given as a path rather than by the name of installed ones."""
    return weights.endswith(".safetensors")
