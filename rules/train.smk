"""Training: one rule serves every task and every model; encoder, label correction."""


rule train_encoder:
    """Features to compare images in (denoising autoencoder: Vincent et al. 2008, ICML 1096)."""
    input:
        slices=files.slice_table,
        split=files.split,
        record=files.split_record,
    output:
        weights=f"{files.encoder}/encoder.safetensors",
        record=f"{files.encoder}/encoder.json",
    log:
        log("train_encoder", "{target}"),
    benchmark:
        bench("train_encoder", "{target}")
    conda:
        M2M_ENV
    threads: CONFIG.encoder.threads
    resources:
        mem_mb=memory(4000),
        runtime=minutes(240),
    params:
        root=files.dataset_root,
        config=files.config,
        options=digest(CONFIG.encoder),
        version=VERSIONS["encoder"],
    shell:
        "m2m encoder --root {params.root:q} --config {params.config:q}"
        " --target {wildcards.target} > {log:q} 2>&1"


rule train_model:
    """Fit one model to the training part (macro2micro: Kim et al., arXiv:2412.11277)."""
    input:
        # The list stands for the slices: see m2m/cohort/collect.py.
        slices=tasks.of_fold("slices.tsv"),
        split=tasks.of_fold("split.tsv"),
        record=tasks.of_fold("split.json"),
        encoder=fitting.encoder,
        encoder_record=fitting.encoder_record,
        low=tasks.low_table,
        first=fitting.first_weights,
        labels=fitting.moved_labels,
    output:
        weights=f"{files.model}/model.safetensors",
        record=f"{files.model}/model.json",
        card=f"{files.model}/model_card.md",
        metrics=f"{files.model}/metrics.jsonl",
    log:
        log("train_model", "{task}_{model}"),
    benchmark:
        bench("train_model", "{task}_{model}")
    conda:
        M2M_ENV
    threads: fitting.training_need("threads", 1)
    resources:
        mem_mb=memory(8000),
        runtime=minutes(1440),
        gpu=fitting.training_need("devices", 0),
    params:
        root=files.dataset_root,
        config=files.config,
        task=digests.task,
        options=digests.model,
        simulated=files.simulated,
        version=VERSIONS["train"],
    shell:
        # At a job's time limit Slurm tells every process to end: training saves, and tee hears it out.
        "trap '' TERM; m2m train --root {params.root:q} --config {params.config:q}"
        " --task {wildcards.task} --model {wildcards.model} 2>&1 | tee {log:q}"


rule correct_labels:
    """Slices with labels moved by each person's joint field (Feng et al. 2024, IEEE TMI,
    doi:10.1109/TMI.2024.3445969), for the training of other models.
    """
    input:
        weights=f"{files.model}/model.safetensors",
        slices=tasks.of_fold("slices.tsv"),
        split=tasks.of_fold("split.tsv"),
        record=tasks.of_fold("split.json"),
    output:
        slices=directory(files.labels),
    log:
        log("correct_labels", "{task}_{model}"),
    benchmark:
        bench("correct_labels", "{task}_{model}")
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(2000),
        runtime=minutes(240),
    params:
        root=files.dataset_root,
        config=files.config,
        version=VERSIONS["correct-labels"],
    shell:
        "m2m correct-labels --root {params.root:q} --config {params.config:q}"
        " --task {wildcards.task} --model {wildcards.model} > {log:q} 2>&1"


rule measure_labels:
    """How far a label correction moved what its model learned from (Feng et al. 2024, IEEE TMI,
    doi:10.1109/TMI.2024.3445969), and how much of a simulated distortion that undid.
    """
    input:
        weights=f"{files.model}/model.safetensors",
        slices=tasks.of_fold("slices.tsv"),
        split=tasks.of_fold("split.tsv"),
        record=tasks.of_fold("split.json"),
    output:
        table=f"{files.evaluation}/{{model}}/labels.tsv",
    log:
        log("measure_labels", "{task}_{model}"),
    benchmark:
        bench("measure_labels", "{task}_{model}")
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(2000),
        runtime=minutes(60),
    params:
        root=files.dataset_root,
        config=files.config,
        truth=bool(files.simulated and CONFIG.cohort.phantom.distortion_mm),
        version=VERSIONS["labels"],
    shell:
        "m2m labels --root {params.root:q} --config {params.config:q}"
        " --task {wildcards.task} --model {wildcards.model} > {log:q} 2>&1"
