"""What every family of models has, and what the rest of m2m asks of one.

A family is two files: its section of the configuration (`m2m/options/families/`) and its networks
and objective, or its fit (`m2m/models/families/`). Nothing else knows families by name: it asks the
section what stands here. What is a ``ClassVar``, property or method is of the family and no option:
it is in no configuration, record or fingerprint.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from m2m.options.model_parts import FEATURES, Perceptual, TermWeights
from m2m.options.section import Name, Section
from m2m.options.training_options import Correction, LabelCorrection, SliceWindow, Training

Listed = Callable[[Iterable[str]], str]


class Family(Section):
    """A way of predicting the target.

    Attributes
    ----------
    implementation : str
        Module of its networks and objective, or of its fit; see `m2m.models`.
    sentence : str
        What it is, for a study's methods, as far as no option changes it, with its citations.
    packages : mapping of str to str
        What does its work beside what every model needs: a reader's name, and the distribution's.
    trained : bool
        Whether it is a network that is trained in steps, hence a `Trained`; or fitted at once.
    sees_low : bool
        Whether it sees a low resolution of the target beside the source.
    one_channel : bool
        Whether it cannot predict several channels.
    reference : bool
        Whether it says what is usual in people, so that others are compared with it.
    """

    implementation: ClassVar[str]
    sentence: ClassVar[str]
    packages: ClassVar[Mapping[str, str]] = {}
    trained: ClassVar[bool] = False
    sees_low: ClassVar[bool] = False
    one_channel: ClassVar[bool] = False
    reference: ClassVar[bool] = False

    @property
    def features(self) -> Perceptual:
        """The network whose features it compares images in while it is trained."""
        return Perceptual()

    @property
    def weights(self) -> TermWeights | None:
        """Weights of the terms of its loss, where the family lets them be chosen."""
        return None

    @property
    def correction(self) -> Correction | None:
        """Label correction that it learns beside its own network."""
        return None

    @property
    def labels_of(self) -> str | None:
        """Name of the model whose label correction moved the targets that it learns from."""
        return None

    @property
    def starts_from(self) -> str | None:
        """Name of the model, of the task ``low.after``, whose weights it starts from."""
        return None

    def of_task(self, steps: int | None, losses: Mapping[str, float]) -> Self:
        """The section with a task's own number of steps, and its weights of losses."""
        return self

    def check_low(self, task: str, ratio: int, after: str, models: Mapping[str, "Family"]) -> None:
        """Raise ValueError where it cannot be a model of a task with a low resolution.

        Parameters
        ----------
        task : str
            Its name.
        ratio : int
            Of the low resolution.
        after : str
            Task without it, ``low.after``.
        models : mapping of str to Family
            Models of that task.
        """


class Trained(Family):
    """What every network has, whatever its objective."""

    trained: ClassVar[bool] = True

    training: Training = Training()
    planes: tuple[Literal["axial", "coronal", "sagittal"], ...] = ("axial", "coronal", "sagittal")
    mirror: bool = Field(
        False, description="Translate the mirrored person too, and average: twice the time"
    )

    fusion: Literal["average", "inverse-variance", "field"] = Field(
        "average",
        exclude_if=lambda value: value == "average",
        description="How the views of orientations, and of the mirrored person, become one volume",
    )

    # Left out where there is none: a key more would change every model's fingerprint.
    correct_labels: LabelCorrection = Field(
        None,
        exclude_if=lambda value: value is None,
        description="Learn, beside the network, to move misaligned targets; true: by its defaults",
    )

    labels_from: Name | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="Learn from labels that this model's correction moved, person by person",
    )

    @model_validator(mode="after")
    def _labels_are_moved_once(self) -> Self:
        if self.labels_from and self.correct_labels:
            raise ValueError("labels_from and correct_labels are two ways: switch one off")
        return self

    @property
    def window(self) -> SliceWindow:
        """What the network sees of a volume."""
        return SliceWindow(context=1)

    @property
    def correction(self) -> Correction | None:
        """As `Family.correction`."""
        return self.correct_labels

    @property
    def labels_of(self) -> str | None:
        """As `Family.labels_of`."""
        return self.labels_from

    def of_task(self, steps: int | None, losses: Mapping[str, float]) -> Self:
        """As `Family.of_task`."""
        model = self
        if steps is not None:
            training = model.training.model_copy(update={"steps": steps})
            model = model.model_copy(update={"training": training})
        if losses and model.weights is not None:
            model = model.model_copy(update={"losses": model.weights.model_copy(update=losses)})
        return model

    def network_sentence(self, listed: Listed) -> str:
        """Say what options make of the network, for a study's methods; empty: nothing to say.

        Parameters
        ----------
        listed : callable
            Joins words as a sentence does.
        """
        return ""

    def loss_sentence(self, listed: Listed) -> str:
        """Say what the loss was, for a study's methods; empty where no option changes it."""
        terms = list(self.loss_terms())
        return f"Its loss was {listed(terms)}." if terms else ""

    def loss_terms(self) -> Iterator[str]:
        """Name each term that has a weight, where the family lets it be chosen."""
        if self.weights is None:
            return
        words, features = type(self.weights).words, self.features.network
        for key, weight in self.weights.model_dump().items():
            if key not in words or not weight or (key == "perceptual" and features == "none"):
                continue
            where = FEATURES[features] if key == "perceptual" else ""
            yield f"{words[key]}{where} (weight {weight:g})"


class Windowed(Trained):
    """A network whose section, `network`, says what it sees of a volume."""

    @property
    def window(self) -> SliceWindow:
        """As `Trained.window`."""
        return self.network


class Weighted(Windowed):
    """A network whose loss has terms by weight, `losses`, and a network to compare images in."""

    @property
    def features(self) -> Perceptual:
        """As `Family.features`."""
        return self.perceptual

    @property
    def weights(self) -> TermWeights:
        """As `Family.weights`."""
        return self.losses
