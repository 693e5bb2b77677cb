"""What an image is: its file, channels and scale, how it is carried, shown and told of.

One record for each image, and nothing else knows their names: what depends on the kind of image
goes by its `nature`. A network sees and predicts *scaled* values, of about the size of 1
(`m2m.diffusion.scales`). Standard library only, so that the workflow parses fast.
"""

import importlib
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from numpy.typing import NDArray

Nature = Literal["weighted", "scalar", "density", "tensor"]
# What is registered to the T1, so that every study brings it to the common grid.
REGISTERED = "fa"


@dataclass(frozen=True)
class Display:
    """How a map is shown.

    Attributes
    ----------
    title : str
        Of its picture.
    cmap : str
        Colours of the compared image; empty where directions give the colour.
    top, error_top : float
        Of the compared image and of its error: shown in full.
    scale : str
        What the compared image is.
    regional : str
        What regional means are of.
    scaled : str
        What errors of scaled values are of.
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
    """An image that is translated from, or to.

    Attributes
    ----------
    title : str
        For captions.
    channels : tuple of str
        Names of its channels in the slices.
    kind : str
        Its file on the common grid: a key of `m2m.io.bids.KINDS`.
    nature : {"weighted", "scalar", "density", "tensor"}
        Decides how it is carried and scaled, and which figures, metrics and texts it has: a
        weighted image has no unit, a scalar map has one value in each voxel, a density counts
        streamlines.
    description : str
        For the sidecar.
    source, target : bool
        Whether tasks may start from it, or predict it.
    native : str
        Kind of the file in the diffusion series' space that it is carried from; empty for the T1.
    beside : tuple of str
        Modalities that a study with it brings to the common grid, too.
    one : float
        Value in the file that is scaled to 1; of tensors and of T1 it is not used.
    limits : (float, float)
        Of scaled values: a prediction is clipped to them.
    mirror : tuple of int
        Factor of each channel when the person is mirrored left to right.
    natural : float
        Regional means in natural units are those of the file times this.
    truth : str
        Kind of a simulated person's map before noise and distortion, which it is compared with.
    display : Display or None
        None for the T1, whose brightness is each volume's own.
    scaling : str
        How values are scaled, for a model's card; {:g} stands for the percentiles of T1.
    in_words : str
        What was brought to the common grid, in the methods' list.
    methods : str
        A sentence of the methods, where nature does not say all.
    measured : str
        What metrics are of, for the page.
    """

    title: str
    channels: tuple[str, ...]
    kind: str
    nature: Nature
    description: str = ""
    source: bool = False
    target: bool = True
    native: str = ""
    beside: tuple[str, ...] = ()
    one: float = 1.0
    limits: tuple[float, float] = (-math.inf, math.inf)
    mirror: tuple[int, ...] = (1,)
    natural: float = 1.0
    truth: str = ""
    display: Display | None = None
    scaling: str = ""
    in_words: str = ""
    methods: str = ""
    measured: str = ""

    @property
    def synthetic(self) -> str:
        """Kind of its predicted file."""
        return f"synth-{self.kind}"

    def scale(self, values: "NDArray") -> "NDArray":
        """Scale values of a file, shape (X, Y, Z), or (X, Y, Z, channels) of several channels."""
        return _scales()[self.nature].forward(values, self.one)

    def unscale(self, scaled: "NDArray") -> "NDArray":
        """Inverse of `scale`."""
        return _scales()[self.nature].back(scaled, self.one)


def _scales() -> dict[str, Any]:
    """The functions, which need numpy; here, where the workflow looks, it is not loaded."""
    return importlib.import_module("m2m.diffusion.scales").SCALES


MODALITIES = {
    "t1": Modality(
        title="T1", channels=("t1",), kind="t1w", nature="weighted", source=True, target=False,
        scaling="percentiles {:g} and {:g} of T1 inside the brain become 0 and 1.",
        in_words="T1",
    ),
    "fa": Modality(
        title="FA", channels=("fa",), kind="fa", nature="scalar", source=True, native="dwi-fa",
        description="Fractional anisotropy, 0 to 1", limits=(0.0, 1.0), truth="truth-fa",
        display=Display("FA", "gray", 0.9, 0.3, "FA", "FA", "FA"),
        scaling="FA as it is.",
        in_words="FA",
        measured="Images are FA.",
    ),
    "md": Modality(
        title="MD", channels=("md",), kind="md", nature="scalar", native="dwi-md",
        description="Mean diffusivity, mm2/s", natural=1e3,
        # Free water at body temperature is 1; noise and pulsation exceed it, so that a bound above
        # would bias what is predicted of CSF.
        one=3e-3, limits=(0.0, math.inf),
        display=Display(
            "MD", "gray", 0.5, 0.15, "MD, 1 being 3 µm²/ms", "MD (µm²/ms)", "MD, 1 being 3 µm²/ms"
        ),
        scaling="MD becomes MD / 3e-3 mm2/s.",
        in_words="MD",
        methods="Mean diffusivity (MD), the mean of the tensor's eigenvalues, entered networks in "
        "parts of 3·10⁻³ mm²/s, that of free water at body temperature.",
        measured="Images are MD in parts of 3 µm²/ms, that of free water at body temperature; "
        "means of regions are in µm²/ms.",
    ),
    "tdi": Modality(
        title="tract density", channels=("tdi",), kind="tdi", nature="density",
        native="tractogram", one=100.0, limits=(0.0, math.inf),
        description="Streamlines per voxel, for each one seeded per volume of a voxel",
        display=Display(
            "density", "inferno", 1.2, 0.5, "tract density, log-scaled", "tract density",
            "tract density, log-scaled",
        ),
        scaling="tract density d becomes log(1 + d) / log(101).",
        in_words="tract density",
        measured="SSIM, PSNR, mean absolute error and Pearson's r are of log-scaled tract density, "
        "log(1 + d) / log(101), so Pearson's r is the correlation of log density. Dice is the "
        "overlap of the brain's voxels denser than evaluation.density_threshold. Means of regions "
        "are of the density itself: streamlines per voxel, for each one seeded per volume of a "
        "voxel.",
    ),
    "dti": Modality(
        title="diffusion tensor", kind="tensor", nature="tensor",
        channels=tuple(f"dti-{i}" for i in ("xx", "xy", "xz", "yy", "yz", "zz")),
        description="Diffusion tensor: Dxx, Dxy, Dxz, Dyy, Dyz, Dzz, mm2/s",
        # Streamlines are compared by bundle, and fields are of their density.
        native="dwi-tensor", beside=("tdi",), mirror=(1, -1, -1, 1, 1, 1),
        display=Display("colour FA", "", 0.7, 0.3, "FA", "FA", "the log tensor's elements"),
        scaling="a tensor D becomes log D - log 0.7e-3.",
        in_words="tensors",
        measured="SSIM, PSNR, mean absolute error and Pearson's r, and means of regions, are of "
        "the FA that the tensors have. The angle is between principal directions, in white matter "
        "with true FA above 0.2: by chance 60°. Bundles are streamlines that lie for the most part "
        "in one region: lengths, volumes and densities of those drawn from the synthetic tensors "
        "against those of the scan; a bundle that the synthesis lacks has density r and volume 0.",
    ),
}  # fmt: skip


def sources() -> list[str]:
    """Names of the images that tasks may start from."""
    return [name for name, modality in MODALITIES.items() if modality.source]


def targets() -> list[str]:
    """Names of the images that tasks may predict."""
    return [name for name, modality in MODALITIES.items() if modality.target]


def in_slices(used: Collection[str]) -> list[str]:
    """Maps that a study's slices hold beside the T1: what is registered, and what tasks use."""
    return [
        name
        for name, modality in MODALITIES.items()
        if modality.native and name in {REGISTERED, *used}
    ]


def on_grid(used: Collection[str]) -> list[str]:
    """Maps that a study brings to the common grid: those of the slices, and what stands beside."""
    return in_slices({*used, *(other for name in used for other in MODALITIES[name].beside)})


def carried_modality(name: str) -> Modality:
    """A modality that is carried from the diffusion series' space to the common grid.

    Raises
    ------
    ValueError
        There is none of this name.
    """
    known = [key for key, modality in MODALITIES.items() if modality.native]
    if name not in known:
        raise ValueError(f"{name!r} is no map of the diffusion series: {', '.join(known)}")
    return MODALITIES[name]


def of_nature(nature: Nature) -> tuple[str, ...]:
    """Names of the targets of this nature."""
    return tuple(name for name in targets() if MODALITIES[name].nature == nature)


def natures(names: Iterable[str]) -> set[str]:
    """What kinds of image these are."""
    return {MODALITIES[name].nature for name in names}
