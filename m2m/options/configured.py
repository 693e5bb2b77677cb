"""The part of the configuration that a stage uses: its own section, from a file or as JSON.

The workflow writes its whole configuration once, as a file, and gives every stage its path. A
stage validates and reads only what it uses. Where a stage's section depends on other sections
(e.g. a task can set the steps of its models, simulated participants have their own regions), one function here
combines them: the rule takes the digest of its result as a parameter, the stage takes the result.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from m2m.io import bids
from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.io.modalities import MODALITIES
from m2m.options import Cohort, Config, Downstream, Dti, Evaluation, Model, Phantom, Published, Report, Task, Template
from m2m.options.cohort_options import Split
from m2m.options.downstream_options import ATLAS, FA, GIVEN, NOISE_FREE, T1, fold_task

# Suffix of the title of each further report page.
PAGE_TITLES = {
    "compare": ": comparison of models",
    "ablation": ": ablations",
    "fgdl": ": synthesis and super-resolution",
}


@dataclass(frozen=True)
class Written:
    """A configuration as the workflow wrote it; sections are validated when they are read.

    Attributes
    ----------
    content : mapping
        The whole configuration, with bases of models resolved and the tasks of folds added.
    """

    content: Mapping[str, Any]

    def section(self, name: str) -> Any:
        """Section of this name, such as ``dti``; raises KeyError where there is none."""
        return _validated(Config.model_fields[name].annotation, self.content[name])

    def task(self, name: str) -> Task:
        """Section of one task."""
        return Task.model_validate_json(json.dumps(self._named("tasks", name)))

    def tasks(self, page: str) -> dict[str, Task]:
        """Tasks of one report page, in their order."""
        names = [n for n, task in self.content["tasks"].items() if task["page"] == page]
        return {name: self.task(name) for name in names}

    def every_model(self) -> list[tuple[str, str]]:
        """Every task with each of its models."""
        return [(task, model) for task in self.content["tasks"] for model in self.models(task)]

    @property
    def low_resolutions(self) -> list[str]:
        """Kinds of the low resolutions that tasks use: names of their datasets."""
        found = (self.task(name).low_res for name in self.content["tasks"])
        return list(dict.fromkeys(one.kind for one in found if one))

    def models(self, task: str) -> tuple[str, ...]:
        """Names of a task's models; the first one is compared with the others."""
        return self.task(task).models

    def model(self, name: str) -> Any:
        """Section of one model."""
        return _validated(Model, self._named("models", name))

    @property
    def published(self) -> Published | None:
        """Section of a published table; None without one."""
        return self.section("published") if "published" in self.content else None

    @property
    def simulated(self) -> bool:
        """Whether the participants are simulated."""
        return self.simulation is not None

    @property
    def simulation(self) -> Phantom | Template | None:
        """Section of the simulation; None where participants are not simulated."""
        cohort: Cohort = self.section("cohort")
        return cohort.simulation

    def _named(self, section: str, name: str) -> Any:
        known = self.content[section]
        if name not in known:
            raise DataError(f"the configuration has no {name} in {section}", value=sorted(known))
        return known[name]


def _validated(kind: Any, content: Any) -> Any:
    """Validate JSON content: numbers stay numbers, lists become tuples."""
    return TypeAdapter(kind).validate_json(json.dumps(content))


def read_config(path: str | Path) -> Written:
    """Read the configuration that the workflow wrote.

    Raises
    ------
    DataError
        The file is missing or is not such a configuration.
    """
    remedy = "the workflow writes it when it starts, as <root>/logs/config.json: give that file"
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"is not a configuration: {error}", value=str(path), remedy=remedy) from None
    if not isinstance(content, dict) or not set(content) <= set(Config.model_fields):
        raise DataError("is not the workflow's configuration", value=str(path), remedy=remedy)
    for section in ("tasks", "models"):
        for name in content.get(section, ()):
            bids.require_name(name, section.removesuffix("s"))
    return Written(content)


def section_of(name: str, config: Path | None, options: str | None, needed: bool = True) -> Any:
    """Read one section, from the file of the whole configuration or from its JSON.

    Parameters
    ----------
    name : str
        Name of the section, such as ``dti``.
    config : path or None
        File that `read_config` reads.
    options : str or None
        JSON of the section.
    needed : bool
        Whether one of the two must be given; otherwise the section has its defaults.

    Returns
    -------
    Section

    Raises
    ------
    DataError
        Both are given, or neither where one is needed.
    """
    require_one(config, options, needed)
    if config is not None:
        return read_config(config).section(name)
    kind: Any = Config.model_fields[name].annotation
    return TypeAdapter(kind).validate_json(options or "{}")


def require_one(config: Path | None, options: str | None, needed: bool = True) -> None:
    """Check that a section is given once.

    Parameters
    ----------
    config : Path or None
        File of the configuration.
    options : str or None
        JSON of the section.
    needed : bool
        Whether one of the two must be given.

    Raises
    ------
    DataError
        Both are given, or neither where one is needed.
    """
    if config is not None and options is not None:
        raise DataError("--config and --options are alternatives: give one of them")
    if needed and config is None and options is None:
        raise DataError("--config, a file, or --options, the JSON of the section, is needed")


# -- files that follow from the configuration ----------------------------------------------------


def split_of(root: str | Path, fold: int | None = None) -> tuple[Path, Path]:
    """Table and record of the split that networks are trained by, of a fold where given."""
    folder = Path(root) / "cohort"
    folder = folder / f"fold-{fold}" if fold else folder
    return folder / "split.tsv", folder / "split.json"


def figures_folder(root: str | Path, page: str) -> str:
    """Folder of the figures of a report page."""
    return f"{root}/figures" if page == "report" else f"{root}/figures/{page}"


def cross_fitted_images(section: Downstream, task_of: Callable[[str], Task]) -> dict[str, tuple[str, str]]:
    """Task and model of each cross-fitted synthetic image, by the image's name."""
    return {f"{task}.{model}": (task, model) for task in section.tasks for model in task_of(fold_task(task, 1)).models}


def measured_of(section: Downstream, task_of: Callable[[str], Task], given: Mapping[str, str]) -> dict[str, str | None]:
    """The measured image of each image that is made from the T1; None where there is none.

    Parameters
    ----------
    section : Downstream
    task_of : function
        From a task's name to its section.
    given : mapping of str to str
        Target of each of the given weights, by the name of their maps.

    Returns
    -------
    dict of str to (str or None)
        Cross-fitted images, then those by given weights, then the atlas.
    """
    fitted = {name: task_of(task).target for name, (task, _) in cross_fitted_images(section, task_of).items()}
    others = {**given, **({ATLAS: FA} if section.atlas else {})}
    return {**fitted, **{name: target if target in fitted.values() else None for name, target in others.items()}}


def described_images(
    section: Downstream,
    task_of: Callable[[str], Task],
    root: str | Path,
    simulated: bool,
    given: Mapping[str, str],
) -> dict[str, dict[str, Any]]:
    """Modality, path and network of each image; {fold} where each fold has its own file.

    Parameters
    ----------
    section : Downstream
    task_of : function
        From a task's name to its section.
    root : path
        The dataset of results.
    simulated : bool
        Whether ground-truth FA without noise exists.
    given : mapping of str to str
        Target of each of the given weights, by the name of their maps.

    Returns
    -------
    dict of str to dict
        Fields of `m2m.downstream.maps.Source`, by image.
    """
    names = dict.fromkeys([T1, *filter(None, measured_of(section, task_of, given).values())])
    images: dict[str, dict[str, Any]] = {
        name: {"modality": name, "map": bids.unit_path(root, MODALITIES[name].kind)} for name in names
    }
    for name, (task, model) in cross_fitted_images(section, task_of).items():
        where, target = f"{fold_task(task, '{fold}')}/{model}", task_of(task).target
        kind = MODALITIES[target].synthetic
        images[name] = {
            "modality": target,
            "map": bids.unit_path(f"{root}/synthetic/{where}", kind),
            "record": f"{root}/models/{where}/model.json",
        }
    for name, target in given.items():
        path = bids.unit_path(f"{root}/synthetic/{GIVEN}/{name}", MODALITIES[target].synthetic)
        images[name] = {"modality": target, "map": path, "given": True}
    if section.atlas:
        images[ATLAS] = {"modality": FA, "map": str(section.atlas), "template": True}
    if simulated and "fa" in images:
        truth = bids.unit_path(f"{root}/truth", "truth-fa")
        images[NOISE_FREE] = {"modality": "fa", "map": truth, "resampled": True}
    return images


# -- sections that depend on other sections ------------------------------------------------------


def fitted_model(model: Any, task: Task, name: str) -> Any:
    """A model's section in a task: with the steps, losses and inputs that the task sets.

    Parameters
    ----------
    model : Family
        The model's section.
    task : Task
    name : str
        The model's name.

    Returns
    -------
    Family
    """
    return model.of_task(task.steps_of(name), task.losses, task.inputs)


def fitted_task(task: Task) -> dict[str, Any]:
    """A task's section without models, steps, losses, inputs and page."""
    return task.model_dump(mode="json", exclude={"models", "steps", "losses", "inputs", "page"})


def simulated_participant(simulation: Phantom | Template) -> dict[str, Any]:
    """Options that a simulated participant depends on: all but the number of participants."""
    return simulation.model_dump(mode="json", exclude={"n_subjects"})


def dividing(split: Split, downstream: Downstream) -> dict[str, Any]:
    """Options that the folds depend on, beside their number."""
    return split.model_dump(mode="json") | ({"by": "site"} if downstream.folds_by == "site" else {})


def indexed_cohort(cohort: Any) -> dict[str, Any]:
    """Options that the list of scans depends on: all but those of the simulation."""
    return cohort.model_dump(mode="json", exclude={"phantom", "template"})


def selecting(dti: Dti) -> dict[str, Any]:
    """Options of the tensor fit that the choice of series depends on: limits on b-values."""
    return dti.model_dump(mode="json", include={"b0_threshold_s_per_mm2", "max_b_s_per_mm2", "b_tolerance_s_per_mm2"})


def of_low_res_factor(dti: Dti, factor: int) -> Dti:
    """Section of the tensor fit of a series whose k-space is cropped first."""
    return dti.model_copy(update={"low_res_factor": factor})


def compared_by(section: Evaluation, simulation: Phantom | Template | None, root: str | Path) -> Evaluation:
    """Section of the evaluation, with the regions and ground truth of simulated participants.

    Parameters
    ----------
    section : Evaluation
    simulation : Phantom, Template or None
        None where participants are not simulated.
    root : path
        The dataset of results, which contains the ground truth of simulated participants.

    Returns
    -------
    Evaluation
    """
    truth = f"{root}/truth"
    if simulation and simulation.distortion_mm:
        section = section.model_copy(update={"truth": Path(truth)})
    if simulation and section.rois.image is None:
        rois = section.rois.model_copy(
            update={
                "image": bids.unit_path(truth, "truth-bundles"),
                "labels": Path(f"{truth}/desc-bundles_dseg.tsv"),
            }
        )
        section = section.model_copy(update={"rois": rois})
    return section


def titled(report: Report, page: str) -> Report:
    """Section of the report, with the title of one report page."""
    title = f"{report.title}{PAGE_TITLES.get(page, '')}"
    return report.model_copy(update={"title": title})
