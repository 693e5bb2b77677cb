"""Translation: two rules serve every task and every model; streamlines of synthetic tensors."""


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


rule translate_volume:
    """A whole volume translated, three orientations averaged or joined otherwise (Kim et al., arXiv:2412.11277)."""
    input:
        source=tasks.source_image,
        anat=at("anat-status"),
        weights=tasks.model_weights,
        low=tasks.low_image,
    output:
        map=at("synth", files.synthetic),
        sd=at("synthsd", files.synthetic),
        status=at("synth-status", files.synthetic),
    log:
        log("translate_volume", "{task}_{model}/{folder}/{unit}_{measure}"),
    benchmark:
        bench("translate_volume", "{task}_{model}/{folder}/{unit}_{measure}")
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(3000),
        runtime=minutes(30),
    params:
        root=files.dataset_root,
        subject=subject_flags,
        config=files.config,
        version=VERSIONS["translate"],
    shell:
        "m2m synthesise --root {params.root:q} {params.subject:q}"
        " --config {params.config:q} --task {wildcards.task} --model {wildcards.model}"
        " > {log:q} 2>&1"


if tasks.tensor:

    rule track_synthetic:
        """FA, MD, V1 and streamlines of synthetic tensors, tracked as the measured ones are
        (Garyfallidis et al. 2014, Front Neuroinform 8:8).
        """
        input:
            tensor=at("synth-tensor", files.synthetic),
            brain=at("brain"),
        output:
            fa=at("synth-fa", files.synthetic),
            md=at("synth-md", files.synthetic),
            v1=at("synth-v1", files.synthetic),
            tdi=at("synth-tdi", files.synthetic),
            tractogram=at("synth-tractogram", files.synthetic),
            picture=at("tractography-picture", files.synthetic),
            status=at("synth-tractography-status", files.synthetic),
        log:
            log("track_synthetic", "{task}_{model}/{folder}/{unit}"),
        benchmark:
            bench("track_synthetic", "{task}_{model}/{folder}/{unit}")
        wildcard_constraints:
            task="|".join(tasks.tensor),
        conda:
            M2M_ENV if CONFIG.tractography.backend == "dipy" else "../envs/mrtrix3.yaml"
        resources:
            mem_mb=memory(4000),
            runtime=minutes(TRACKING_MINUTES),
        params:
            root=files.dataset_root,
            subject=subject_flags,
            maps=tasks.maps_flag,
            config=files.config,
            options=digest(CONFIG.tractography),
            version=VERSIONS["tractography"],
        shell:
            "m2m tractography --root {params.root:q} {params.subject:q}"
            " --config {params.config:q} {params.maps:q} > {log:q} 2>&1"

    # Both could make the FA of a task that predicts tensors.
    ruleorder: track_synthetic > translate_volume
