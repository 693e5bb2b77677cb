"""All Python of what stands beside sources and targets: low resolutions, corrected labels."""


def sees_low(wildcards):
    """The low resolution that a task's model sees beside the source, or None."""
    task, model = CONFIG.tasks[wildcards.task], wildcards.model
    return None if task.low is None or model in task.low.beside else task.low


def low_table(wildcards):
    """The list of low-resolution slices, where the model learns from them."""
    low = sees_low(wildcards)
    return f"{LOW.format(low=low.kind)}/slices.tsv" if low else []


def low_image(wildcards):
    """A unit's low-resolution map, where the model sees it."""
    low = sees_low(wildcards)
    return one("low-fa", wildcards, LOW.format(low=low.kind)) if low else []


def low_ratio(wildcards):
    """Ratio of a kind of low resolution."""
    return CONFIG.lows[wildcards.low].ratio


def low_dti_options(wildcards):
    """The section dti, for a series whose k-space is cropped first."""
    ratio = low_ratio(wildcards)
    return options(CONFIG.dti.model_copy(update={"low_ratio": ratio}))


def lowered(of_series, of_map):
    """Input function: a file of the cropped series, or that of the map on the common grid."""

    def wanted(wildcards):
        if CONFIG.lows[wildcards.low].of == "map":
            return one(of_map, wildcards)
        return one(of_series, wildcards, LOW.format(low=wildcards.low))

    return wanted


def low_records(wildcards):
    """Records of the low-resolution slices that a study's models are fitted and chosen on."""
    root = LOW.format(low=wildcards.low)
    return [
        bids.slices_path(root, "slices.json", folder(unit), unit)
        for unit in units_of_part("train", "validation")
    ]


def corrects_labels(model):
    """Whether a model learns to move its targets."""
    return CONFIG.models[model].correction is not None


def moved_labels(wildcards):
    """Folder of the slices that a model learns from, where another one's correction moved them."""
    first = CONFIG.models[wildcards.model].labels_of
    return LABELS.format(task=wildcards.task, model=first) if first else []


def label_tables(tasks):
    """How far labels were moved: a table for every model of these tasks that moves them."""
    return [
        f"{ROOT}/evaluation/{task}/{model}/labels.tsv"
        for task in tasks
        if not CONFIG.tasks[task].chain
        for model in CONFIG.tasks[task].models
        if corrects_labels(model) and home(task, model) == task
    ]


def displacement_flag(wildcards):
    """`--truth` with the folder of what is known of simulated distortions, where there are any."""
    known = SIMULATED and CONFIG.cohort.phantom.distortion_mm
    return ["--truth", TRUTH] if known else []


def first_weights(wildcards):
    """Weights of the model that another one starts from, as a super-resolution does."""
    first = CONFIG.models[wildcards.model].starts_from
    if first is None:
        return []
    after = CONFIG.tasks[wildcards.task].low.after
    return f"{ROOT}/models/{after}/{first}/model.safetensors"


def phantom_options(wildcards):
    """The JSON of the section phantom and, where it distorts, the flag of that truth."""
    section = CONFIG.cohort.phantom
    text = options(section, exclude={"n_subjects"})
    if not section.distortion_mm:
        return text
    name = f"sub-{wildcards.participant}"
    path = bids.unit_path(TRUTH, "truth-displacement", name, name)
    return [text, "--truth-displacement", path]


def phantom_truth():
    """What a distorted phantom keeps of its truth, beyond what every phantom does."""
    if not CONFIG.cohort.phantom.distortion_mm:
        return {}
    name = "sub-{participant}"
    return {"displacement": bids.unit_path(TRUTH, "truth-displacement", name, name)}
