"""All Python of tasks, models and studies: what is translated by what, and what follows from it."""


def links(task):
    """Tasks whose models a task runs one after the other: itself, or the links of its chain."""
    return CONFIG.tasks[task].chain or (task,)


def slice_record(unit):
    """Slice record of one unit."""
    return f"{ROOT}/slices/{folder(unit)}/{unit}_slices.json"


def slice_records(wildcards):
    """Slice records of everybody with both scans."""
    return [slice_record(unit) for unit in units("paired")]


def slices_of(names):
    """Slice records of units, and the further maps that were cut with them."""
    # With the further maps named, a task that is added to the study has its slices cut again:
    # Snakemake does not notice an output that a rule did not have before.
    further = [path for kind in GRID_MAPS[1:] for path in paths(kind, names)]
    return [slice_record(unit) for unit in names] + further


def slices_to_fit(wildcards):
    """Slice records that a study's models are fitted and chosen on."""
    return slices_of(units_of_part("train", "validation"))


def slices_of_other_folds(wildcards):
    """Slice records that a fold's networks are fitted and chosen on."""
    return slices_of(units_of_fold(wildcards.fold, inside=False))


def home(task, model):
    """Task that a task's model is fitted in."""
    return CONFIG.tasks[task].home(task, model)


def units_to_translate(task):
    """Units that no network was fitted on: the test part, and people who have the source only."""
    if CONFIG.tasks[task].fold:
        return units_of_fold(CONFIG.tasks[task].fold)
    section = CONFIG.tasks[task]
    t1_only = units("t1w-only") if section.source == "t1" and not section.low else []
    return units_of_part("test") + t1_only


def of_fold(name):
    """Input function: a table about the cohort that a task is trained with, of its fold if any."""

    def wanted(wildcards):
        fold = CONFIG.tasks[wildcards.task].fold
        folder = FOLD.format(fold=fold) if fold else f"{ROOT}/cohort"
        return f"{folder}/{name}"

    return wanted


def synthetic_kind(task):
    """Kind of what a task predicts."""
    return f"synth-{bids.KIND_OF[CONFIG.tasks[task].target]}"


def synthetic(task, model, names):
    """Synthetic volumes of one model."""
    root = SYNTHETIC.format(task=task, model=model)
    return paths(synthetic_kind(task), names, root)


def every_translation(wildcards):
    """Synthetic volumes of every task and model of the report."""
    return [
        path
        for task in REPORTED
        for model in CONFIG.tasks[task].models
        for path in synthetic(task, model, units_to_translate(task))
    ]


def source_image(wildcards):
    """What a task translates: T1, FA, or what the first link of its chain made of it."""
    if CONFIG.tasks[wildcards.task].chain:
        first = links(wildcards.task)[0]
        return synthetic(first, wildcards.model, [wildcards.unit])
    return one(bids.KIND_OF[CONFIG.tasks[wildcards.task].source], wildcards)


def translation_status(wildcards, task=None):
    """Status of a unit's translation by the wildcards' model, of the task or of another."""
    task = task or wildcards.task
    root = SYNTHETIC.format(task=task, model=wildcards.model)
    measure = bids.measure(synthetic_kind(task))
    return one("synth-status", wildcards, root).format(measure=measure)


def source_status(wildcards):
    """`--require` with the status of what made the source; the T1's is that of anat."""
    if CONFIG.tasks[wildcards.task].chain:
        first = links(wildcards.task)[0]
        return ["--require", translation_status(wildcards, first)]
    if low := low_image(wildcards):
        # Behind the status, so that the command of other tasks stays what it was.
        return ["--low", low]
    fa = CONFIG.tasks[wildcards.task].source == "fa"
    return ["--require", one("grid-status", wildcards)] if fa else []


def model_weights(wildcards):
    """Weights of the model that gives a task's target."""
    last = home(links(wildcards.task)[-1], wildcards.model)
    return f"{ROOT}/models/{last}/{wildcards.model}/model.safetensors"


def model_records(wildcards):
    """Records of every model that a task runs: none of them may have seen a test person."""
    return [
        f"{ROOT}/models/{home(link, wildcards.model)}/{wildcards.model}/model.json"
        for link in links(wildcards.task)
    ]


def training_need(key, otherwise):
    """What a model's training asks for, by a key of its section; the baselines ask for little."""

    def need(wildcards):
        training = getattr(CONFIG.models[wildcards.model], "training", None)
        return getattr(training, key) if training else otherwise

    return need


def encoder(wildcards):
    """The workflow's own encoder, where a model compares images in its features."""
    perceptual = getattr(CONFIG.models[wildcards.model], "perceptual", None)
    if perceptual is None or perceptual.network != "self":
        return []
    return f"{ENCODER.format(target=target_of(wildcards))}/encoder.safetensors"


def encoder_record(wildcards):
    """The record beside it, which is written last."""
    weights = encoder(wildcards)
    return weights and weights.replace(".safetensors", ".json")


def target_of(wildcards):
    """What a task predicts."""
    return CONFIG.tasks[wildcards.task].target


def fitting_flags(wildcards, input):
    """Flags of `m2m train` for what only some models need."""
    flags = ["--encoder", input.encoder] if input.encoder else []
    if low := sees_low(wildcards):
        flags += ["--low-dir", f"{LOW.format(low=low.kind)}/slices"]
    if input.first:
        flags += ["--first", input.first]
    if input.labels:
        flags += ["--labels-dir", input.labels]
    return flags


def test_truth(wildcards):
    """True maps of the test units."""
    return paths(bids.KIND_OF[target_of(wildcards)], units_of_part("test"))


def test_synthesis(wildcards):
    """Statuses of what one task and model made for the test units: its stages write them last."""
    task, names = wildcards.task, units_of_part("test")
    root = SYNTHETIC.format(task=task, model=wildcards.model)
    measure = bids.measure(synthetic_kind(task))
    made = [path.format(measure=measure) for path in paths("synth-status", names, root)]
    tracked = paths("synth-tractography-status", names, root)
    return made + (tracked if task in TENSOR_TASKS else [])


def streamlines_flag(wildcards):
    """Whether streamlines are compared."""
    tensors = wildcards.task in TENSOR_TASKS
    return "--streamlines" if tensors else "--no-streamlines"


def every_model(pattern, tasks=CONFIG.tasks):
    """One file for every task and model, below the dataset's folder."""
    return [
        f"{ROOT}/{pattern.format(task=task, model=model)}"
        for task in tasks
        for model in CONFIG.tasks[task].models
    ]


def every_fit(pattern, tasks=REPORTED):
    """One file for every model that is fitted: some tasks run models of other ones."""
    fitted = {
        (home(task, model), model): None
        for task in tasks
        if not CONFIG.tasks[task].chain
        for model in CONFIG.tasks[task].models
    }
    return [
        f"{ROOT}/{pattern.format(task=task, model=model)}" for task, model in fitted
    ]


def synthetic_flags():
    """`--synthetic` for each dataset of synthetic maps."""
    folders = every_model("synthetic/{task}/{model}")
    return [part for folder in folders for part in ("--synthetic", folder)]


def every_task(pattern, tasks=REPORTED):
    """One file for every task, below the dataset's folder."""
    return [f"{ROOT}/{pattern.format(task=task)}" for task in tasks]


def models_of(pattern):
    """Input function: one file for every model of the wildcard's task."""

    def wanted(wildcards):
        models = CONFIG.tasks[wildcards.task].models
        return [
            f"{ROOT}/{pattern.format(task=wildcards.task, model=m)}" for m in models
        ]

    return wanted


def task_model_flags(wildcards):
    """`--models` for each model of the wildcard's task, the first one being under test."""
    models = CONFIG.tasks[wildcards.task].models
    return [part for model in models for part in ("--models", model)]


def table_flags(wildcards, output):
    """`--out` for each table of a paper."""
    return [part for path in output.tables for part in ("--out", path)]


def task_flags(names):
    """`--tasks` with the JSON of each task."""
    tasks = {name: CONFIG.tasks[name].model_dump(mode="json") for name in names}
    return ["--tasks", json.dumps(tasks)]


def page(study):
    """The page of a study."""
    return f"{ROOT}/{study}.html"


def paper(study):
    """What a paper takes from a study: its figures, of which the last is named, tables and methods."""
    tables = every_task("evaluation/{task}/summary.tex", STUDIES.get(study, []))
    return [last_figure(study), f"{study_figures(study)}/methods.md", *tables]


def study_page(study):
    """Input function: page and paper of a study, or what is missing in the configuration."""

    def wanted(wildcards):
        if study not in STUDIES:
            raise WorkflowError(f"No task has study: {study}; config.yaml has some.")
        return [page(study), *paper(study)]

    return wanted


def study_figures(study):
    """Folder of a study's figures."""
    return FIGURES if study == "report" else f"{FIGURES}/{study}"


def figures_folder(study):
    """Parameter function: folder of a study's figures."""

    def folder_of_figures(wildcards):
        return study_figures(study)

    return folder_of_figures


def report_options(study):
    """The JSON of the section report; pages beside the main one say what they are of."""
    kind = {
        "compare": ": comparison of models",
        "ablation": ": ablations",
        "fgdl": ": synthesis and super-resolution",
    }.get(study, "")
    section = CONFIG.report
    return options(section.model_copy(update={"title": f"{section.title}{kind}"}))


def sees_any_low(study):
    """Whether a task of a study sees a low resolution."""
    return any(CONFIG.tasks[task].low for task in STUDIES.get(study, []))


def figures_of(study):
    """Names of a study's figures below its folder, but for the last one."""
    targets = {task: CONFIG.tasks[task].target for task in STUDIES[study]}
    found = figure_records.paths_of_study(targets, sees_any_low(study))
    return [name for name in found if name != last_of(study)]


def last_of(study):
    """Name of the figure that is drawn last: then all figures are there."""
    return list(figure_records.of_study(sees_any_low(study)))[-1]


def last_figure(study):
    """The figure of a study that is drawn last."""
    return f"{study_figures(study)}/{last_of(study)}.png"


def translation_seconds(study):
    """Input function: seconds of some test people's translations, where a figure shows them.

    A benchmark is a product of its rule like any output, so it may be asked for.
    """

    def wanted(wildcards):
        return [
            bench(
                "translate_volume",
                f"{home(task, model)}_{model}/{folder(unit)}/{unit}_{bids.measure(synthetic_kind(task))}",
            )
            for task in STUDIES[study]
            if figure_records.is_timed(CONFIG.tasks[task].target)
            for model in CONFIG.tasks[task].models
            for unit in units_of_part("test")[: figure_records.TIMED]
        ]

    return wanted


def record_flags(wildcards, input):
    """`--model-record` for every model that a task runs."""
    return [part for path in input.record for part in ("--model-record", path)]


def roi_options(wildcards):
    """The evaluation's section; a simulated cohort's regions and truth are its own."""
    section = CONFIG.evaluation
    if SIMULATED and CONFIG.cohort.phantom.distortion_mm:
        section = section.model_copy(update={"truth": Path(TRUTH)})
    if SIMULATED and section.rois.image is None:
        rois = section.rois.model_copy(
            update={
                "image": bids.unit_path(TRUTH, "truth-bundles"),
                "labels": Path(f"{TRUTH}/desc-bundles_dseg.tsv"),
            }
        )
        section = section.model_copy(update={"rois": rois})
    return options(section)


def mean_model(wildcards):
    """The training people's mean map among a task's models, where the model is another one."""
    models = CONFIG.tasks[wildcards.task].models
    found = [name for name in models if CONFIG.models[name].family == "mean"][:1]
    return found if found != [wildcards.model] else []


def mean_maps(wildcards):
    """Volumes of the mean map for the test units."""
    return [
        path
        for model in mean_model(wildcards)
        for path in synthetic(wildcards.task, model, units_of_part("test"))
    ]


def mean_flag(wildcards):
    """`--mean-model` with the name of the mean map, where a task has one."""
    return [part for model in mean_model(wildcards) for part in ("--mean-model", model)]
