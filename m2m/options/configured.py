"""What a stage takes from the configuration: its own section, from a file or given by hand.

The workflow writes its whole configuration once, as a file, and hands every stage its path; a
stage validates what it uses and sees nothing else. Where a stage's section depends on more than
itself (a task has steps of its own, simulated people have regions of their own), one function here
says how: rules take the digest of what it gives as a parameter, stages the value.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from m2m.io import bids
from m2m.io.errors import DataError
from m2m.io.modalities import MODALITIES
from m2m.options import Config, Downstream, Dti, Evaluation, Model, Phantom, Report, Task
from m2m.options.downstream_options import NOISE_FREE, fold_task

# What a page beside the main one says, after the title, that it is of.
STUDY_TITLES = {
    "compare": ": comparison of models",
    "ablation": ": ablations",
    "fgdl": ": synthesis and super-resolution",
}


@dataclass(frozen=True)
class Written:
    """A configuration as the workflow wrote it: what is asked for is validated, nothing else.

    Attributes
    ----------
    content : mapping
        The whole of it, bases of models resolved, with the tasks of folds.
    """

    content: Mapping[str, Any]

    def section(self, name: str) -> Any:
        """A section by its name, such as ``dti``; raise KeyError where there is none."""
        return _validated(Config.model_fields[name].annotation, self.content[name])

    def task(self, name: str) -> Task:
        """Section of one task."""
        return Task.model_validate_json(json.dumps(self._named("tasks", name)))

    def tasks(self, study: str) -> dict[str, Task]:
        """Tasks of one study, in their order."""
        names = [n for n, task in self.content["tasks"].items() if task["study"] == study]
        return {name: self.task(name) for name in names}

    def every_model(self) -> list[tuple[str, str]]:
        """Every task with each of its models."""
        return [(task, model) for task in self.content["tasks"] for model in self.models(task)]

    def models(self, task: str) -> tuple[str, ...]:
        """Names of a task's models, the one under test first."""
        return self.task(task).models

    def model(self, name: str) -> Any:
        """Section of one model."""
        return _validated(Model, self._named("models", name))

    @property
    def simulated(self) -> bool:
        """Whether the people are simulated."""
        return self.content["cohort"]["source"] == "phantom"

    @property
    def phantom(self) -> Phantom | None:
        """How people are simulated; None where they are not."""
        if not self.simulated:
            return None
        return _validated(Phantom, self.content["cohort"]["phantom"])

    def _named(self, section: str, name: str) -> Any:
        known = self.content[section]
        if name not in known:
            raise DataError(f"the configuration has no {name} in {section}", value=sorted(known))
        return known[name]


def _validated(kind: Any, content: Any) -> Any:
    """What JSON says, read as JSON is: numbers stay numbers, lists become tuples."""
    return TypeAdapter(kind).validate_json(json.dumps(content))


def read_config(path: str | Path) -> Written:
    """Read the configuration that the workflow wrote."""
    return Written(json.loads(Path(path).read_text(encoding="utf-8")))


def section_of(name: str, config: Path | None, options: str | None, needed: bool = True) -> Any:
    """One section, from the file of the whole or from its JSON.

    Parameters
    ----------
    name : str
        Such as ``dti``.
    config : path or None
        What `read_config` reads.
    options : str or None
        JSON of the section.
    needed : bool
        Whether one of the two must be given; else the section's defaults stand for neither.

    Raises
    ------
    DataError
        Both are given, or neither where one is needed.
    """
    require_one(config, options, needed)
    if config is not None:
        return read_config(config).section(name)
    return TypeAdapter(Config.model_fields[name].annotation).validate_json(options or "{}")


def require_one(config: Path | None, options: str | None, needed: bool = True) -> None:
    """Raise DataError where a section is given twice, or not at all where it is needed."""
    if config is not None and options is not None:
        raise DataError("--config and --options say the same: give one of them")
    if needed and config is None and options is None:
        raise DataError("--config, a file, or --options, the JSON of the section, is needed")


# -- files that follow from the configuration ----------------------------------------------------


def split_of(root: str | Path, fold: int | None = None) -> tuple[Path, Path]:
    """Table and record of the split that networks are fitted by, of a fold where there is one."""
    folder = Path(root) / "cohort"
    folder = folder / f"fold-{fold}" if fold else folder
    return folder / "split.tsv", folder / "split.json"


def figures_folder(root: str | Path, study: str) -> str:
    """Folder of a study's figures."""
    return f"{root}/figures" if study == "report" else f"{root}/figures/{study}"


def cross_fitted_images(
    section: Downstream, task_of: Callable[[str], Task]
) -> dict[str, tuple[str, str]]:
    """Task and model of each synthetic image that is cross-fitted, by its name."""
    return {
        f"{task}.{model}": (task, model)
        for task in section.tasks
        for model in task_of(fold_task(task, 1)).models
    }


def measured_of(section: Downstream, task_of: Callable[[str], Task]) -> dict[str, str]:
    """The measured image of each synthetic one."""
    found = cross_fitted_images(section, task_of)
    return {name: task_of(task).target for name, (task, _) in found.items()}


def described_images(
    section: Downstream, task_of: Callable[[str], Task], root: str | Path, simulated: bool
) -> dict[str, dict[str, Any]]:
    """Modality, path and network of each image; {fold} where each fold has its own.

    Parameters
    ----------
    section : Downstream
    task_of : function
        Section of a task by its name.
    root : path
        The dataset of results.
    simulated : bool
        Whether FA without noise is known.
    """
    names = dict.fromkeys(["t1", *measured_of(section, task_of).values()])
    images: dict[str, dict[str, Any]] = {
        name: {"modality": name, "map": bids.unit_path(root, MODALITIES[name].kind)}
        for name in names
    }
    for name, (task, model) in cross_fitted_images(section, task_of).items():
        where, target = f"{fold_task(task, '{fold}')}/{model}", task_of(task).target
        kind = MODALITIES[target].synthetic
        images[name] = {
            "modality": target,
            "map": bids.unit_path(f"{root}/synthetic/{where}", kind),
            "record": f"{root}/models/{where}/model.json",
        }
    if simulated and "fa" in images:
        truth = bids.unit_path(f"{root}/truth", "truth-fa")
        images[NOISE_FREE] = {"modality": "fa", "map": truth, "resampled": True}
    return images


# -- sections that depend on more than themselves ------------------------------------------------


def fitted_model(model: Any, task: Task, name: str) -> Any:
    """A model's section in a task: with the task's own number of steps, and its losses."""
    return model.of_task(task.steps_of(name), task.losses)


def fitted_task(task: Task) -> dict[str, Any]:
    """What a task translates, without who tries it, for how long, and why."""
    return task.model_dump(mode="json", exclude={"models", "steps", "losses", "study"})


def simulated_person(phantom: Phantom) -> dict[str, Any]:
    """What a simulated person depends on: the section, but not how many there are."""
    return phantom.model_dump(mode="json", exclude={"n_subjects"})


def indexed_cohort(cohort: Any) -> dict[str, Any]:
    """What a listing of scans depends on: the section, but not how people are simulated."""
    return cohort.model_dump(mode="json", exclude={"phantom"})


def of_low_ratio(dti: Dti, ratio: int) -> Dti:
    """The tensor fit of a series whose k-space is cropped first."""
    return dti.model_copy(update={"low_ratio": ratio})


def compared_by(section: Evaluation, phantom: Phantom | None, root: str | Path) -> Evaluation:
    """The evaluation's section; a simulated cohort's regions and truth are its own.

    Parameters
    ----------
    section : Evaluation
    phantom : Phantom or None
        None where people are not simulated.
    root : path
        The dataset of results, where the truth of simulated people lies.
    """
    truth = f"{root}/truth"
    if phantom and phantom.distortion_mm:
        section = section.model_copy(update={"truth": Path(truth)})
    if phantom and section.rois.image is None:
        rois = section.rois.model_copy(
            update={
                "image": bids.unit_path(truth, "truth-bundles"),
                "labels": Path(f"{truth}/desc-bundles_dseg.tsv"),
            }
        )
        section = section.model_copy(update={"rois": rois})
    return section


def titled(report: Report, study: str) -> Report:
    """The report's section; pages beside the main one say what they are of."""
    title = f"{report.title}{STUDY_TITLES.get(study, '')}"
    return report.model_copy(update={"title": title})
