"""Image modalities: file, channels, scaling, resampling, display and descriptions of each.

Each modality has one record here, and no other module depends on its name: behaviour that
depends on the kind of image depends on its `nature`. Inputs and outputs of networks are *scaled*
values, of magnitude about 1 (`m2m.diffusion.scales`). Standard library only, so that the workflow
parses fast.
"""

import importlib
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from m2m.io.bids import measure

if TYPE_CHECKING:
    from numpy.typing import NDArray

Nature = Literal["weighted", "scalar", "density", "tensor"]
# The map that is registered to the T1, so every dataset resamples it to the common grid.
REGISTERED = "fa"
# Diffusion models in words, by their BIDS label.
MODELS = {"tensor": "Diffusion tensor", "tracts": "Whole-brain streamlines"}


@dataclass(frozen=True)
class Display:
    """How a map is displayed.

    Attributes
    ----------
    title : str
        Title of the map in figures.
    cmap : str
        Colour map of the compared image; empty where directions give the colour.
    top, error_top : float
        Value displayed at full brightness, of the compared image and of its error.
    scale : str
        Quantity of the compared image.
    regional : str
        Quantity of regional means, with unit.
    scaled : str
        Quantity of errors of scaled values.
    """

    title: str
    cmap: str
    top: float
    error_top: float
    scale: str
    regional: str
    scaled: str


@dataclass(frozen=True)
class Modality:
    """An image that is a source or a target of translation.

    Attributes
    ----------
    title : str
        Name in captions.
    channels : tuple of str
        Names of its channels in the slices.
    kind : str
        File on the common grid: a key of `m2m.io.bids.KINDS`.
    nature : {"weighted", "scalar", "density", "tensor"}
        Determines resampling and scaling, and which figures, metrics and texts apply. A weighted
        image has no unit, a scalar map has one value per voxel, a density counts streamlines.
    description, units : str
        Description and unit in the JSON sidecar.
    source, target : bool
        Whether it can be the source, or the target, of a task.
    native : str
        Kind of the file in diffusion space that it is resampled from; empty for the T1.
    also_resampled : tuple of str
        Further modalities to resample to the common grid wherever this one is used.
    full_scale : float
        Value in the file that is scaled to 1; not used for tensors and T1.
    limits : (float, float)
        Range of scaled values; predictions are clipped to it.
    mirror : tuple of int
        Factor of each channel, along the axes of the grid, when the image is mirrored along the first.
    regional_factor : float
        Factor from the file's unit to that of regional means.
    truth : str
        Kind of the ground-truth map of a simulated participant, before noise and distortion.
    display : Display or None
        None for the T1, whose brightness is scaled in each volume.
    scaling : str
        How values are scaled, for the model card; {:g} stands for the percentiles of T1.
    described_as : str
        Name in the methods' list of images on the common grid.
    methods : str
        Further sentence of the methods.
    metric_definition : str
        Definition of the metrics of this modality, for the report page.
    """

    title: str
    channels: tuple[str, ...]
    kind: str
    nature: Nature
    description: str = ""
    units: str = ""
    source: bool = False
    target: bool = True
    native: str = ""
    also_resampled: tuple[str, ...] = ()
    full_scale: float = 1.0
    limits: tuple[float, float] = (-math.inf, math.inf)
    mirror: tuple[int, ...] = (1,)
    regional_factor: float = 1.0
    truth: str = ""
    display: Display | None = None
    scaling: str = ""
    described_as: str = ""
    methods: str = ""
    metric_definition: str = ""

    @property
    def synthetic(self) -> str:
        """Kind of the predicted file."""
        return f"synth-{self.kind}"

    def sidecar(self, **parameters: object) -> dict[str, Any]:
        """Description, unit and model, for the JSON sidecar of a map, as BIDS extension proposal 16 has them."""
        label = measure(self.kind).removeprefix("model-").partition("_")[0]
        model = {"Description": MODELS[label]} | ({"Parameters": parameters} if parameters else {})
        return {"Description": self.description, "Units": self.units, "Model": model}

    def scale(self, values: "NDArray") -> "NDArray":
        """Scale values of a file, shape (X, Y, Z), or (X, Y, Z, channels) for several channels."""
        return _scales()[self.nature].forward(values, self.full_scale)

    def unscale(self, scaled: "NDArray") -> "NDArray":
        """Inverse of `scale`."""
        return _scales()[self.nature].back(scaled, self.full_scale)

    @property
    def directed(self) -> bool:
        """Whether values depend on the axes that they are given along, as the elements of tensors do."""
        return self.nature == "tensor"

    def to_grid_axes(self, scaled: "NDArray", affine: "NDArray") -> "NDArray":
        """Rotate scaled values from world axes, as in files, to the axes of a grid, as in slices."""
        return _scales()[self.nature].to_grid(scaled, affine)

    def to_world_axes(self, scaled: "NDArray", affine: "NDArray") -> "NDArray":
        """Inverse of `to_grid_axes`."""
        return _scales()[self.nature].to_world(scaled, affine)

    def deviations_to_world_axes(self, sds: "NDArray", affine: "NDArray") -> "NDArray":
        """Rotate standard deviations of scaled values from the axes of a grid to world axes."""
        return _scales()[self.nature].deviations_to_world(sds, affine)


def _scales() -> dict[str, Any]:
    """Functions by nature; imported on call, since they need numpy and the workflow does not."""
    return importlib.import_module("m2m.diffusion.scales").SCALES


MODALITIES = {
    "t1": Modality(
        title="T1",
        channels=("t1",),
        kind="t1w",
        nature="weighted",
        source=True,
        target=False,
        scaling="percentiles {:g} and {:g} of T1 inside the brain become 0 and 1.",
        described_as="T1",
    ),
    "fa": Modality(
        title="FA",
        channels=("fa",),
        kind="fa",
        nature="scalar",
        source=True,
        native="dwi-fa",
        description="Fractional anisotropy, 0 to 1",
        units="1",
        limits=(0.0, 1.0),
        truth="truth-fa",
        display=Display("FA", "gray", 0.9, 0.3, "FA", "FA", "FA"),
        scaling="FA is not rescaled.",
        described_as="FA",
        metric_definition="Images are FA.",
    ),
    "md": Modality(
        title="MD",
        channels=("md",),
        kind="md",
        nature="scalar",
        native="dwi-md",
        description="Mean diffusivity, mm2/s",
        units="mm^2/s",
        regional_factor=1e3,
        # Free water at body temperature is 1. Noise and pulsation exceed it, so an upper bound
        # would bias predictions in CSF.
        full_scale=3e-3,
        limits=(0.0, math.inf),
        display=Display("MD", "gray", 0.5, 0.15, "MD, 1 being 3 µm²/ms", "MD (µm²/ms)", "MD, 1 being 3 µm²/ms"),
        scaling="MD becomes MD / 3e-3 mm2/s.",
        described_as="MD",
        methods="Mean diffusivity (MD), the mean of the tensor's eigenvalues, was divided by "
        "3·10⁻³ mm²/s, that of free water at body temperature, before training.",
        metric_definition="Images are MD divided by 3 µm²/ms, that of free water at body temperature; "
        "means of regions are in µm²/ms.",
    ),
    "tdi": Modality(
        title="tract density",
        channels=("tdi",),
        kind="tdi",
        nature="density",
        native="tractogram",
        full_scale=100.0,
        limits=(0.0, math.inf),
        description="Streamlines per voxel, divided by the seeding density (seeds per voxel volume)",
        units="1",
        display=Display(
            "density",
            "inferno",
            1.2,
            0.5,
            "tract density, log-scaled",
            "tract density",
            "tract density, log-scaled",
        ),
        scaling="tract density d becomes log(1 + d) / log(101).",
        described_as="tract density",
        metric_definition="SSIM, PSNR, mean absolute error and Pearson's r are of log-scaled tract density, "
        "log(1 + d) / log(101), so Pearson's r is the correlation of log density. Dice is the "
        "overlap of the brain voxels with a density above evaluation.density_threshold. Means of "
        "regions are of the density itself: streamlines per voxel, divided by the seeding density "
        "(seeds per voxel volume).",
    ),
    "dti": Modality(
        title="diffusion tensor",
        kind="tensor",
        nature="tensor",
        channels=tuple(f"dti-{i}" for i in ("xx", "xy", "xz", "yy", "yz", "zz")),
        description="Diffusion tensor: Dxx, Dxy, Dxz, Dyy, Dyz, Dzz, mm2/s",
        units="mm^2/s",
        # Bundles of streamlines are compared, and fields are fitted to their density.
        native="dwi-tensor",
        also_resampled=("tdi",),
        mirror=(1, -1, -1, 1, 1, 1),
        display=Display("colour FA", "", 0.7, 0.3, "FA", "FA", "the log tensor's elements"),
        scaling="a tensor D becomes log D - log 0.7e-3, along the axes of the grid.",
        described_as="tensors",
        metric_definition="SSIM, PSNR, mean absolute error and Pearson's r, and means of regions, are of "
        "the tensors' FA. The angle is between principal directions, in white matter with "
        "measured FA above 0.2; random directions give about 60°. A bundle is the set of "
        "streamlines that lie mostly in one region. Its length, volume and density from synthetic "
        "tensors are compared with those from the scan; a bundle missing in the synthesis has "
        "density r and volume 0.",
    ),
}


def sources() -> list[str]:
    """Names of the modalities that can be the source of a task."""
    return [name for name, modality in MODALITIES.items() if modality.source]


def targets() -> list[str]:
    """Names of the modalities that can be the target of a task."""
    return [name for name, modality in MODALITIES.items() if modality.target]


def in_slices(used: Collection[str]) -> list[str]:
    """Maps in the slices, with the T1: the registered map, and those that tasks use."""
    return [name for name, modality in MODALITIES.items() if modality.native and name in {REGISTERED, *used}]


def on_grid(used: Collection[str]) -> list[str]:
    """Maps to resample to the common grid: those of the slices, and those listed in `also_resampled`."""
    return in_slices({*used, *(other for name in used for other in MODALITIES[name].also_resampled)})


def resampled_modality(name: str) -> Modality:
    """A modality that is resampled from diffusion space to the common grid.

    Raises
    ------
    ValueError
        No such modality has this name.
    """
    known = [key for key, modality in MODALITIES.items() if modality.native]
    if name not in known:
        raise ValueError(f"{name!r} is not a map of the diffusion series; known: {', '.join(known)}")
    return MODALITIES[name]


def of_nature(nature: Nature) -> tuple[str, ...]:
    """Names of the targets of this nature."""
    return tuple(name for name in targets() if MODALITIES[name].nature == nature)


def natures(names: Iterable[str]) -> set[str]:
    """Natures of these modalities."""
    return {MODALITIES[name].nature for name in names}
