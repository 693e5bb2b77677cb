"""Section about real pairs: T1 and DWI of participants that no network was trained on."""

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, PositiveFloat, model_validator

from m2m.io.modalities import REGISTERED
from m2m.options.imaging_options import Anat
from m2m.options.section import DataPath, Name, Section
from m2m.options.task_options import Rois, Target

# Maps that stand beside those of the weights, by the names of their rows.
ATLAS_AFFINE, ATLAS_SYN, T1, CONSTANT, SECOND = "atlas-affine", "atlas-syn", "t1", "constant", "second-measurement"
PERFECT = "map-without-error"
RESERVED = (ATLAS_AFFINE, ATLAS_SYN, T1, CONSTANT, SECOND, PERFECT)
# The list of pairs in their dataset, and the dataset inside it of second measurements.
PAIRS, SECOND_FOLDER = "pairs.tsv", "second_measurement"
PAIR_COLUMNS = ("unit", "participant_id", "folder", "dwi", "second_dwi", "excluded", "problem")
# Size of the common grid, which has room for any adult brain.
GRID_MM = (192.0, 240.0, 208.0)


def _given(weights: object) -> object:
    """Drop rows that a further configuration file has set to null."""
    return {name: path for name, path in weights.items() if path is not None} if isinstance(weights, dict) else weights


Weights = Annotated[
    dict[Name, str] | None, BeforeValidator(_given, json_schema_input_type=dict[Name, str | None] | None)
]


class Real(Section):
    """Real pairs of T1 and DWI, on which weights are compared with an atlas."""

    bids_dir: DataPath | None = Field(None, description="BIDS folder of the pairs; null: none are compared")
    target: Target = Field("fa", description="Map that is compared: measured, and predicted from the T1")
    reference_map: DataPath | None = Field(
        None,
        description="Group average of FA near MNI152, which is carried to each T1; null: no atlas is compared. For "
        "another target the weights of a model of family atlas can stand among the weights",
    )
    weights: Weights = Field(
        None,
        description="Models that predict the target from a T1, by the name of their row: path of a model.safetensors, "
        "or the name of installed weights; null in the place of one: it is left out; null: all installed weights of "
        "the target",
    )
    rois: Rois = Rois()
    spacing_mm: PositiveFloat = Field(2.0, description="Voxel size of the grid on which maps are compared")

    @property
    def folder(self) -> str:
        """Folder of the pairs in the results."""
        return pairs_folder(self.target)

    @property
    def page(self) -> str:
        """Page whose folder its figure is in: the report's, or one of its own for another map than FA."""
        return "report" if self.target == REGISTERED else self.folder

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
        if self.reference_map and self.target != REGISTERED:
            raise ValueError("reference_map is a map of FA; omit it for another target")
        return self


def pairs_folder(target: str) -> str:
    """Folder of the pairs whose measured map is this target, in the results: ``real``, or ``real-md``."""
    return "real" if target == REGISTERED else f"real-{target}"


def is_file(weights: str) -> bool:
    """Whether weights are given as a path rather than by the name of installed ones."""
    return weights.endswith(".safetensors")
