"""Sentences about models and their training, true to the options, with keys of references.bib."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from m2m.options import Family, Task, Trained
from m2m.report.words import enumerate_words

CITATION = re.compile(r"\[(@[^]]+)\]")
FUSIONS = {
    "average": "averaged", "inverse-variance": "weighted by inverse variances",
    "field": "joined by a continuous field",
}  # fmt: skip


def model_sentences(models: Mapping[str, Family]) -> Iterator[str]:
    """Describe each model; of models of one family the first in full, others by what differs."""
    first: dict[str, str] = {}
    for name, section in models.items():
        if section.family not in first:
            first[section.family] = name
            yield described(name, section)
            continue
        model = first[section.family]
        changes = dict(changed(models[model].model_dump(), section.model_dump()))
        what = enumerate_words([f"{key} {value}" for key, value in changes.items()] or ["nothing"])
        new = keys_of(described(name, section)) - keys_of(described(model, models[model]))
        cited = f" [{'; '.join(f'@{key}' for key in sorted(new))}]" if new else ""
        yield f"`{name}` was `{model}` but for {what}{cited}."


def described(name: str, section: Family) -> str:
    """Describe one model in full."""
    text = f"`{name}`: {section.sentence}."
    if not section.trained:
        return text
    text += _spaced(section.network_sentence(enumerate_words)) + f" It saw {seen(section)}."
    text += _spaced(section.loss_sentence(enumerate_words))
    if section.correct_labels:
        text += " Beside it a network learned to move misaligned targets [@jaderberg2015]."
    if section.labels_from:
        text += f" Its targets were moved by what {section.labels_from} had learned of that."
    views = "views" if len(section.planes) > 1 or section.mirror else "slices"
    mirrored = ", as was the mirrored person" if section.mirror else ""
    how = "stacked" if views == "slices" else FUSIONS[section.fusion]
    planes = enumerate_words(section.planes)
    return f"{text} Every {planes} slice was translated{mirrored}; the {views} were {how}."


def _spaced(sentence: str) -> str:
    """A sentence behind another one, where there is one."""
    return sentence and f" {sentence}"


def seen(section: Trained) -> str:
    """Say what a network sees of a volume."""
    window = section.window
    parts = [f"{window.context} neighbouring slices" if window.context > 1 else "one slice"]
    if window.position:
        parts.append("each pixel's place in the template [@tancik2020]")
    if window.prior:
        parts.append("the training people's mean map there")
    return enumerate_words(parts)


def changed(before: Mapping[str, Any], after: Mapping[str, Any], at: str = "") -> Iterator[tuple]:
    """Yield name and new value of each option that differs, nested ones joined by dots."""
    for key in {**before, **after}:
        old, new = before.get(key), after.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from changed(old, new, f"{at}{key}.")
        elif old != new:
            # Tuples as a person writes them, and none of Python's words.
            words = {None: "none", True: "on", False: "off"}
            if isinstance(new, tuple | list):
                text = "-".join(map(str, new))
            elif new is None or isinstance(new, bool):
                text = words[new]
            else:
                text = f"{new:g}" if isinstance(new, float) else str(new)
            yield f"{at}{key}", text


def keys_of(text: str) -> set[str]:
    """Keys of references that a text cites."""
    return {
        key.strip().removeprefix("@")
        for group in CITATION.findall(text)
        for key in group.split(";")
    }


def task_sentences(tasks: Mapping[str, Task], titles: Mapping[str, str]) -> Iterator[str]:
    """Say of each task what is translated to what, and by which models."""
    for name, task in tasks.items():
        models = enumerate_words([f"`{model}`" for model in task.models])
        text = f"`{name}`: {titles[name]}, by {models}"
        if task.chain:
            text += f"; the models of {enumerate_words([f'`{t}`' for t in task.chain])} were run "
            text += "one after the other and nothing was trained for it"
        if task.losses:
            weights = enumerate_words([f"{k} {weight:g}" for k, weight in task.losses.items()])
            text += f"; here the weights of losses were {weights}"
        yield f"{text}."


def training_sentences(tasks: Mapping[str, Task], models: Mapping[str, Family]) -> Iterator[str]:
    """Say how networks were trained; those of a task that were trained alike stand together."""
    alike: dict[tuple[str, str], list[str]] = {}
    for task, model in fits(tasks):
        if not models[model].trained:
            continue
        training = models[model].training
        steps = tasks[task].steps_of(model) or training.steps
        text = f"{steps} steps of {training.batch_size} slices, learning rate "
        text += f"{training.learning_rate:g}, seed {training.seed}"
        if training.flip:
            text += "; half of the slices were mirrored"
        if training.jitter and tasks[task].source == "t1":
            text += f"; intensities were scaled within exp(±{training.jitter:g})"
        if training.central_share < 1:
            text += f"; of each orientation the middle {training.central_share:.0%} were shown"
        alike.setdefault((task, text), []).append(f"`{model}`")
    for (task, text), names in alike.items():
        yield f"{enumerate_words(names)} on `{task}`: {text}."


def fits(tasks: Mapping[str, Task]) -> Iterable[tuple[str, str]]:
    """Task and model of each fit: a chain has none, and some models are fitted in other tasks."""
    return dict.fromkeys(
        (task.home(name, model), model)
        for name, task in tasks.items()
        if not task.chain
        for model in task.models
    )
