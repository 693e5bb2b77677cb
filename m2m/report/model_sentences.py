"""Sentences about models and their training, made from the options, with keys of references.bib."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from m2m.options import Family, Task, Trained
from m2m.options.training_options import Augmentation, SliceWindow
from m2m.report.summary_text import join_names

CITATION = re.compile(r"\[(@[^]]+)\]")
FUSIONS = {
    "average": "averaged",
    "inverse-variance": "weighted by inverse variances",
    "field": "combined by a continuous field",
}
MEAN_MAP = "the mean map of the training participants"


def model_sentences(models: Mapping[str, Family]) -> Iterator[str]:
    """Describe each model: the first of each family fully, the others by their differences from it."""
    first: dict[str, str] = {}
    for name, section in models.items():
        family = _family_of(section)
        if family not in first:
            first[family] = name
            yield described(name, section)
            continue
        model = first[family]
        changes = dict(changed(models[model].model_dump(), section.model_dump()))
        differences = join_names([f"{key} {value}" for key, value in changes.items()]) if changes else ""
        new = keys_of(described(name, section)) - keys_of(described(model, models[model]))
        cited = f" [{'; '.join(f'@{key}' for key in sorted(new))}]" if new else ""
        if differences:
            yield f"`{name}` was `{model}` except for {differences}{cited}."
        else:
            yield f"`{name}` was the same as `{model}`{cited}."


def _family_of(section: Family) -> str:
    """Name of a family: the key by which sections are distinguished."""
    return section.family  # type: ignore[attr-defined]  # a Literal of each registered section


def described(name: str, section: Family) -> str:
    """Describe one model in full."""
    text = f"`{name}`: {section.sentence}."
    if not isinstance(section, Trained):
        return text
    text += _spaced(section.network_sentence(join_names)) + f" Its input was {network_inputs(section)}."
    text += _spaced(section.loss_sentence(join_names))
    if section.correct_labels:
        text += " A second network was trained with it to correct misaligned targets [@jaderberg2015]."
    if section.labels_from:
        text += f" Its targets were corrected by the label correction of {section.labels_from}."
    if section.training.augment != Augmentation():
        text += " Training slices were changed as another scanner or head would change them [@billot2023]."
    views = "views" if len(section.planes) > 1 or section.mirror else "slices"
    mirrored = " and their mirror images" if section.mirror else ""
    how = "stacked" if views == "slices" else FUSIONS[section.fusion]
    planes = join_names(section.planes)
    text += f" All {planes} slices{mirrored} were translated; the {views} were {how}."
    if section.atlas_share:
        text += (
            f" The map was averaged with {prior_of(section)}, deformed to the T1 [@avants2008], "
            f"which had the weight {section.atlas_share:g}."
        )
    return text


def _spaced(sentence: str) -> str:
    """The sentence with a leading space; empty stays empty."""
    return sentence and f" {sentence}"


def network_inputs(section: Trained) -> str:
    """Describe the inputs of a network."""
    return window_of(section.window, prior_of(section), section.stack)


def prior_of(section: Trained) -> str:
    """Name the map that is a network's prior."""
    return f"the map {section.prior_map.name} in template space" if section.prior_map else MEAN_MAP


def window_of(window: SliceWindow, prior: str = MEAN_MAP, stack: int | None = None) -> str:
    """Describe the inputs that a window of slices, or a stack of so many, and a map as prior give to a network."""
    parts = [f"{window.context} neighbouring slices" if window.context > 1 else "one slice"]
    if stack:
        parts = [f"a stack of {stack} slices"]
    if window.position:
        parts.append("the template coordinates of each pixel [@tancik2020]")
    if window.prior:
        parts.append(prior)
    deformed = ", read where the deformation of the template to the T1 [@avants2008] places each pixel"
    return join_names(parts) + deformed * window.deformed


def inputs_in_short(section: Family) -> str:
    """Inputs of a model, and whether it translates the mirrored image too, for the cell of a table."""
    if not isinstance(section, Trained):
        return "no network"
    window = section.window
    n, prior = section.stack or window.context, "mean map" if section.prior_map is None else "given map"
    parts = [f"{n} slices" if n > 1 else "1 slice"]
    parts += ["template coordinates"] * window.position + [prior] * window.prior + ["deformed"] * window.deformed
    return ", ".join(parts) + ("; mirrored" if section.mirror else "; not mirrored")


def inputs_sentence(inputs: Mapping[str, str]) -> str:
    """Say whether the networks of a task have the same inputs.

    Parameters
    ----------
    inputs : mapping of str to str
        By model: `inputs_in_short`.

    Returns
    -------
    str
        Empty with fewer than two networks.
    """
    networks = {model: text for model, text in inputs.items() if text != "no network"}
    if len(networks) < 2:
        return ""
    if len(set(networks.values())) == 1:
        return f"All networks have the same inputs: {next(iter(networks.values()))}."
    listed = "; ".join(f"{model} has {text.replace('; ', ', ')}" for model, text in networks.items())
    return f"The networks do not have the same inputs, which is part of each difference: {listed}."


def changed(before: Mapping[str, Any], after: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, str]]:
    """Find the options that differ.

    Parameters
    ----------
    before, after : mapping
        Options, nested by section.
    at : str
        Prefix of the names.

    Yields
    ------
    tuple of str
        Name (nested ones joined by dots) and new value.
    """
    for key in {**before, **after}:
        old, new = before.get(key), after.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from changed(old, new, f"{at}{key}.")
        elif old != new:
            # Tuples are joined by hyphens; None, True and False are written as none, on and off.
            constants = {None: "none", True: "on", False: "off"}
            if isinstance(new, tuple | list):
                text = "-".join(map(str, new))
            elif new is None or isinstance(new, bool):
                text = constants[new]
            elif isinstance(new, Path):  # the folders of a machine stay there
                text = new.name
            else:
                text = f"{new:g}" if isinstance(new, float) else str(new)
            yield f"{at}{key}", text


def keys_of(text: str) -> set[str]:
    """Keys of the references that a text cites."""
    return {key.strip().removeprefix("@") for group in CITATION.findall(text) for key in group.split(";")}


def task_sentences(tasks: Mapping[str, Task], titles: Mapping[str, str]) -> Iterator[str]:
    """Describe each task: source, target and models."""
    for name, task in tasks.items():
        models = join_names([f"`{model}`" for model in task.models])
        text = f"`{name}`: {titles[name]}, by {models}"
        if task.cascade:
            text += f"; a cascade of the models of {join_names([f'`{t}`' for t in task.cascade])}, "
            text += "without further training"
        if task.inputs is not None:
            text += f"; in this task the input of every network was {window_of(task.inputs)}"
        if task.losses:
            weights = join_names([f"{k} {weight:g}" for k, weight in task.losses.items()])
            text += f"; for this task the weights of the losses were {weights}"
        yield f"{text}."


def training_sentences(tasks: Mapping[str, Task], models: Mapping[str, Family]) -> Iterator[str]:
    """Describe the training of networks; networks of a task with the same training share a sentence."""
    alike: dict[tuple[str, str], list[str]] = {}
    for task, model in fits(tasks):
        section = models[model]
        if not isinstance(section, Trained):
            continue
        training = section.training
        steps = tasks[task].steps_of(model) or training.steps
        text = f"{steps} steps of {training.batch_size} slices, learning rate "
        if section.stack:
            text = f"{steps} steps, batches of {training.batch_size} x {section.stack} slices, learning rate "
        text += f"{training.learning_rate:g}, seed {training.seed}"
        if training.start_from:
            given = "the weights of another model"
            origin = "weights installed with m2m" if training.start_from == "pretrained" else given
            text += f"; fine-tuned [@ghafoorian2017] from {origin}, with its mean map where it has one"
        if training.flip:
            text += f"; half of the {'stacks' if section.stack else 'slices'} were mirrored at random"
        if training.jitter and tasks[task].source == "t1":
            text += f"; intensities were scaled at random within exp(±{training.jitter:g})"
        if training.central_share < 1:
            text += f"; only the central {training.central_share:.0%} of the slices of each orientation were used"
        alike.setdefault((task, text), []).append(f"`{model}`")
    for (task, text), names in alike.items():
        yield f"{join_names(names)} on `{task}`: {text}."


def fits(tasks: Mapping[str, Task]) -> Iterable[tuple[str, str]]:
    """Training task and model of each fit: a cascade has none, and some models are fitted in another task."""
    return dict.fromkeys(
        (task.training_task(name, model), model)
        for name, task in tasks.items()
        if not task.cascade
        for model in task.models
    )
