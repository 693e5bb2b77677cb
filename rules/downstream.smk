"""All Python of the biological validation: which images, made by whom, predict which phenotypes."""

DOWNSTREAM_TABLES = (
    "predictions",
    "scores",
    "comparison",
    "calibration",
    "effects",
    "recovery",
    "transfer",
    "agreement",
    "embedding",
)
DOWNSTREAM_FIGURES = list(figure_records.of_scope("downstream"))


def cross_fitted_images():
    """Task and model of each synthetic image, by its name."""
    return {
        f"{task}.{model}": (task, model)
        for task in CONFIG.downstream.tasks
        for model in CONFIG.tasks[fold_task(task, 1)].models
    }


def measured_of():
    """The measured image of each synthetic one."""
    found = cross_fitted_images()
    return {name: CONFIG.tasks[task].target for name, (task, _) in found.items()}


def described_images():
    """Modality, path and network of each image; {fold} where each fold has its own."""
    names = dict.fromkeys(["t1", *measured_of().values()])
    images = {name: {"modality": name, "map": at(bids.KIND_OF[name])} for name in names}
    for name, (task, model) in cross_fitted_images().items():
        where = {"task": fold_task(task, "{fold}"), "model": model}
        target = CONFIG.tasks[task].target
        images[name] = {
            "modality": target,
            "map": at(f"synth-{bids.KIND_OF[target]}", SYNTHETIC.format(**where)),
            "record": f"{MODEL.format(**where)}/model.json",
        }
    if SIMULATED and "fa" in images:
        truth = bids.unit_path(TRUTH, "truth-fa")
        images[NOISE_FREE] = {"modality": "fa", "map": truth, "resampled": True}
    return images


def described_flag(wildcards):
    """The JSON of `described_images`; from a function, so that {folder} is no wildcard."""
    return json.dumps(described_images())


def cross_fitted_maps(wildcards):
    """Synthetic maps of everybody, each by the networks of the person's fold."""
    return [
        path
        for task in CROSS_FITTED
        for model in CONFIG.tasks[task].models
        for path in synthetic(task, model, units_to_translate(task))
    ]


def described_maps(wildcards):
    """Every map that is described; a person's synthetic ones are of the person's own fold."""
    names = units("paired")
    kinds = [
        bids.KIND_OF[name] for name in ("t1", *dict.fromkeys(measured_of().values()))
    ]
    truth = paths("truth-fa", names, TRUTH) if NOISE_FREE in described_images() else []
    measured = [path for kind in kinds for path in paths(kind, names)]
    return measured + truth + cross_fitted_maps(wildcards)


def cross_fitted_records(wildcards):
    """Records of all cross-fitted networks."""
    return every_model("models/{task}/{model}/model.json", CROSS_FITTED)


def cnn_tables(wildcards):
    """What networks say that see volumes, in a cohort that is large enough for them."""
    if len(units("paired")) < CONFIG.downstream.cnn.min_people:
        return []
    return [
        f"{DOWNSTREAM}/cnn/{phenotype}/{name}.tsv"
        for phenotype in CONFIG.downstream.targets
        for name in inputs_of(described_images())
    ]


def cnn_flags(wildcards, input):
    """`--cnn` for every table of a network that sees volumes."""
    return [part for path in input.cnn for part in ("--cnn", path)]


def output_folder(wildcards, output):
    """Folder of a job's first output."""
    return os.path.dirname(output[0])


def record_folder(wildcards, input):
    """Folder of the tables beside a record."""
    return os.path.dirname(input.record)


def figures_input_folder(wildcards, input):
    """Folder of the figures of a page."""
    return os.path.dirname(input.figures[0])


def downstream_page(wildcards):
    """What `snakemake downstream` makes, or what is missing in the configuration."""
    if not CROSS_FITTED or not CONFIG.downstream.targets:
        raise WorkflowError(
            "The configuration has no downstream.tasks or no downstream.targets: name the tasks "
            "whose maps are to be tested, and columns of participants.tsv."
        )
    if not participants_table(wildcards):
        raise WorkflowError(
            f"{RAWDATA} has no participants.tsv: there is nothing to predict."
        )
    return [f"{ROOT}/downstream.html", f"{FIGURES}/downstream/methods.md"]
