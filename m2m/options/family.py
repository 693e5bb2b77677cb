"""Base classes of all families of models: the interface that the rest of m2m uses.

A family is two files: its section of the configuration (`m2m/options/families/`) and its networks
and objective, or its fit (`m2m/models/families/`). No other module depends on a family's name; all
use the interface defined here. A ``ClassVar``, property or method belongs to the family and is not
an option: it is not part of a configuration, record or fingerprint.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from m2m.options.model_parts import FEATURES, Perceptual, TermWeights
from m2m.options.section import DataPath, Name, Section
from m2m.options.training_options import Correction, LabelCorrection, SliceWindow, Training

Listed = Callable[[Iterable[str]], str]


def _paths_in(options: Any) -> Iterator[Path]:
    """Paths among the values of options, at any depth."""
    if isinstance(options, Path):
        yield options
    elif isinstance(options, Mapping):
        for value in options.values():
            yield from _paths_in(value)


class Family(Section):
    """A way of predicting the target.

    Attributes
    ----------
    implementation : str
        Module of its networks and objective, or of its fit; see `m2m.models`.
    sentence : str
        Description for the methods, with citations, as far as it does not depend on options.
    packages : mapping of str to str
        Further packages that it uses: name in texts, and name of the distribution.
    trained : bool
        Whether it is a network that is trained in steps, i.e. a `Trained`, or fitted in one go.
    uses_low_res : bool
        Whether a low-resolution map of the target is a further input.
    uses_deformation : bool
        Whether it needs the deformation of the template to each participant, by the stage `m2m deform`.
    one_channel : bool
        Whether it can predict one channel only.
    reference : bool
        Whether it predicts the population's mean, as a reference for the other models.
    """

    implementation: ClassVar[str]
    sentence: ClassVar[str]
    packages: ClassVar[Mapping[str, str]] = {}
    trained: ClassVar[bool] = False
    uses_low_res: ClassVar[bool] = False
    uses_deformation: ClassVar[bool] = False
    one_channel: ClassVar[bool] = False
    reference: ClassVar[bool] = False

    @property
    def given_files(self) -> list[Path]:
        """Files that its options name, and that training reads."""
        return list(_paths_in(self.model_dump()))

    @property
    def features(self) -> Perceptual:
        """Network of the perceptual loss in training."""
        return Perceptual()

    @property
    def weights(self) -> TermWeights | None:
        """Weights of the loss terms, where they are options of the family."""
        return None

    @property
    def correction(self) -> Correction | None:
        """Label correction that is trained together with the network."""
        return None

    @property
    def labels_of(self) -> str | None:
        """Name of the model whose label correction was applied to its training targets."""
        return None

    @property
    def given_map(self) -> Path | None:
        """Map in template space that its options name, and that its weights hold."""
        return None

    @property
    def starts_from(self) -> str | None:
        """Name of the model of ``low_res.synthesis_task`` whose weights initialise it."""
        return None

    def of_task(self, steps: int | None, losses: Mapping[str, float], inputs: SliceWindow | None) -> Self:
        """The section with the steps, the weights of losses and the inputs that a task sets."""
        return self

    def takes(self, inputs: SliceWindow) -> bool:
        """Whether it can have these inputs; a model without a network needs none."""
        return True

    def check_target(self, task: str, nature: str) -> None:
        """Check that it can predict a target of this nature (`m2m.io.modalities.Nature`).

        Parameters
        ----------
        task : str
            Name of the task.
        nature : str
            Of its target.

        Raises
        ------
        ValueError
            It cannot.
        """

    def check_low_res(self, task: str, factor: int, after: str, models: Mapping[str, "Family"]) -> None:
        """Check that it can be a model of a task with a low resolution.

        Parameters
        ----------
        task : str
            Name of the task.
        factor : int
            Downsampling factor of the low resolution.
        after : str
            Task without low resolution, ``low_res.synthesis_task``.
        models : mapping of str to Family
            Models of the task `after`.

        Raises
        ------
        ValueError
            It cannot.
        """


class Trained(Family):
    """Options of all families whose networks are trained."""

    trained: ClassVar[bool] = True

    training: Training = Training()
    planes: tuple[Literal["axial", "coronal", "sagittal"], ...] = Field(
        ("axial", "coronal", "sagittal"), description="Slice orientations for training and translation"
    )
    mirror: bool = Field(
        False,
        description="Test-time augmentation: also translate the image mirrored left to right, and average; "
        "this doubles the time",
    )

    fusion: Literal["average", "inverse-variance", "field"] = Field(
        "average",
        exclude_if=lambda value: value == "average",
        description="How the predictions of all orientations, and of the mirrored image, are combined into one volume",
    )

    atlas_share: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0,
        exclude_if=lambda value: value == 0,
        description="Weight of the training participants' mean map, deformed to the T1 as by the family atlas, in its "
        "average with the network's map; it needs network.prior, whose map it is",
    )

    prior_map: DataPath | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="Map in MNI152NLin2009aSym space, NIfTI, in the unit of the target, that is the network's prior in "
        "place of the training participants' mean map; it needs network.prior. Other MNI152 spaces, as FSL's, are "
        "some mm off: real/atlas.nii.gz of `snakemake real` is a group's FA registered to this one",
    )

    prior_spacing_mm: PositiveFloat | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="Voxel size of the network's prior, which its weights hold; null: that of the common grid. A "
        "coarser prior of tensors makes smaller weights; it needs network.prior",
    )

    # Omitted where there is none: a further key would change the fingerprint of every model.
    correct_labels: LabelCorrection = Field(
        None,
        exclude_if=lambda value: value is None,
        description="Label correction: learn, together with the network, to align misaligned targets to the source; "
        "true: with the default options",
    )

    labels_from: Name | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="Name of a model of the same task; train on targets corrected by its label correction, "
        "participant by participant",
    )

    @model_validator(mode="after")
    def _check_correction_once(self) -> Self:
        if self.labels_from and self.correct_labels:
            raise ValueError("labels_from and correct_labels are alternatives: switch one off")
        if self.correct_labels and self.training.augment.deform_px:
            raise ValueError("correct_labels needs training.augment.deform_px: 0")
        return self

    @model_validator(mode="after")
    def _check_prior(self) -> Self:
        if self.atlas_share and not self.window.prior:
            raise ValueError("atlas_share needs network.prior: true, whose map is deformed")
        if self.prior_map and not self.window.prior:
            raise ValueError("prior_map needs network.prior: true, which it is given to")
        if self.prior_spacing_mm and not self.window.prior:
            raise ValueError("prior_spacing_mm needs network.prior: true, whose voxels these are")
        if self.prior_map and self.training.start_from:
            raise ValueError("prior_map and training.start_from are alternatives: a network keeps its prior")
        return self

    @model_validator(mode="after")
    def _check_deformed(self) -> Self:
        if self.window.deformed and not (self.window.prior or self.window.position):
            raise ValueError("network.deformed needs network.prior or network.position, whose places it deforms")
        if self.window.deformed and self.training.augment.deform_px:
            raise ValueError("network.deformed needs training.augment.deform_px: 0, which places do not follow")
        return self

    @property
    def uses_deformation(self) -> bool:  # type: ignore[override]
        """As `Family.uses_deformation`: for the network's inputs, or an average with the deformed mean map."""
        return self.window.deformed or self.atlas_share > 0

    @property
    def window(self) -> SliceWindow:
        """Inputs of the network: slices, coordinates, prior."""
        return SliceWindow(context=1)

    @property
    def correction(self) -> Correction | None:
        """As `Family.correction`."""
        return self.correct_labels

    @property
    def labels_of(self) -> str | None:
        """As `Family.labels_of`."""
        return self.labels_from

    @property
    def given_map(self) -> Path | None:
        """As `Family.given_map`: the network's prior."""
        return self.prior_map

    @property
    def stack(self) -> int | None:
        """Consecutive slices that its network takes together, as a part of the volume; None: it takes each alone."""
        return None

    def takes(self, inputs: SliceWindow) -> bool:
        """As `Family.takes`: its inputs are fixed."""
        return inputs == self.window

    def of_task(self, steps: int | None, losses: Mapping[str, float], inputs: SliceWindow | None) -> Self:
        """As `Family.of_task`."""
        model = self
        if steps is not None:
            training = model.training.model_copy(update={"steps": steps})
            model = model.model_copy(update={"training": training})
        if losses and model.weights is not None:
            model = model.model_copy(update={"losses": model.weights.model_copy(update=losses)})
        return model

    def check_target(self, task: str, nature: str) -> None:
        """As `Family.check_target`: what deforms the target or its mean map does not rotate tensors."""
        if nature == "tensor" and (self.atlas_share or self.training.augment.deform_px):
            raise ValueError(
                f"tasks.{task}: atlas_share and training.augment.deform_px are for maps of one number per voxel; "
                "omit them for tensors"
            )
        if nature != "scalar" and self.prior_map:
            raise ValueError(
                f"tasks.{task}: prior_map is a scalar map, such as FA; omit it for a target that is a {nature}"
            )

    def network_sentence(self, listed: Listed) -> str:
        """Describe the options of the network, for the methods; may be empty.

        Parameters
        ----------
        listed : callable
            Joins terms as in a sentence.

        Returns
        -------
        str
        """
        return ""

    def loss_sentence(self, listed: Listed) -> str:
        """Describe the loss, for the methods; empty where no option changes it."""
        terms = list(self.loss_terms())
        return f"Its loss was {listed(terms)}." if terms else ""

    def loss_terms(self) -> Iterator[str]:
        """Yield a description of each loss term with a positive weight."""
        if self.weights is None:
            return
        names, features = type(self.weights).term_names, self.features.network
        for key, weight in self.weights.model_dump().items():
            if key not in names or not weight or (key == "perceptual" and features == "none"):
                continue
            where = FEATURES[features] if key == "perceptual" else ""
            yield f"{names[key]}{where} (weight {weight:g})"


class Windowed(Trained):
    """A family whose section `network` defines the inputs of the network."""

    if TYPE_CHECKING:  # an option of each family, with its own type
        network: SliceWindow

    @property
    def window(self) -> SliceWindow:
        """As `Trained.window`."""
        return self.network

    def takes(self, inputs: SliceWindow) -> bool:
        """As `Family.takes`: its section `network` has any inputs; a deformed or given prior must stay one."""
        stays = inputs.prior or not (self.atlas_share or self.prior_map)
        return stays and inputs.deformed == self.window.deformed

    def of_task(self, steps: int | None, losses: Mapping[str, float], inputs: SliceWindow | None) -> Self:
        """As `Family.of_task`."""
        model = super().of_task(steps, losses, inputs)
        if inputs is None:
            return model
        # The section's own class has further options of the network.
        return model.model_copy(update={"network": model.network.model_copy(update=dict(inputs))})


class Weighted(Windowed):
    """A family with weighted loss terms, `losses`, and a perceptual loss."""

    if TYPE_CHECKING:  # options of each family, with their own types
        perceptual: Perceptual
        losses: TermWeights

    @property
    def features(self) -> Perceptual:
        """As `Family.features`."""
        return self.perceptual

    @property
    def weights(self) -> TermWeights:
        """As `Family.weights`."""
        return self.losses
