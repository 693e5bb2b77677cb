"""Training: one rule for all tasks and models; encoder, label correction."""


rule train_encoder:
    """Encoder of the perceptual loss (denoising autoencoder: Vincent et al. 2008, ICML 1096)."""
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
        # This table stands for all slices, and deformations: see m2m/cohort/collect.py.
        slices=tasks.table_to_fit,
        split=tasks.of_fold("split.tsv"),
        record=tasks.of_fold("split.json"),
        encoder=fitting.encoder,
        encoder_record=fitting.encoder_record,
        low_res=tasks.low_res_table,
        first=fitting.first_weights,
        labels=fitting.corrected_labels,
        given=fitting.given_files,
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
        # At a job's time limit Slurm terminates every process: training saves a checkpoint, and tee goes on until then.
        "trap '' TERM; m2m train --root {params.root:q} --config {params.config:q}"
        " --task {wildcards.task} --model {wildcards.model} 2>&1 | tee {log:q}"


rule apply_label_correction:
    """Slices with labels warped by each participant's displacement field (Feng et al. 2024, IEEE TMI,
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
        log("apply_label_correction", "{task}_{model}"),
    benchmark:
        bench("apply_label_correction", "{task}_{model}")
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(2000),
        runtime=minutes(240),
    params:
        root=files.dataset_root,
        config=files.config,
        version=VERSIONS["apply-label-correction"],
    shell:
        "m2m apply-label-correction --root {params.root:q} --config {params.config:q}"
        " --task {wildcards.task} --model {wildcards.model} > {log:q} 2>&1"


rule measure_label_correction:
    """Shift of training labels by a label correction (Feng et al. 2024, IEEE TMI,
    doi:10.1109/TMI.2024.3445969), and the fraction of a simulated distortion that it corrects.
    """
    input:
        weights=f"{files.model}/model.safetensors",
        slices=tasks.of_fold("slices.tsv"),
        split=tasks.of_fold("split.tsv"),
        record=tasks.of_fold("split.json"),
    output:
        table=f"{files.evaluation}/{{model}}/labels.tsv",
    log:
        log("measure_label_correction", "{task}_{model}"),
    benchmark:
        bench("measure_label_correction", "{task}_{model}")
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(2000),
        runtime=minutes(60),
    params:
        root=files.dataset_root,
        config=files.config,
        truth=bool(files.simulated and CONFIG.cohort.phantom.distortion_mm),
        version=VERSIONS["measure-label-correction"],
    shell:
        "m2m measure-label-correction --root {params.root:q} --config {params.config:q}"
        " --task {wildcards.task} --model {wildcards.model} > {log:q} 2>&1"
