"""Translation: two rules serve every task and every model; streamlines of synthetic tensors."""


rule train_encoder:
    """Features to compare images in (denoising autoencoder: Vincent et al. 2008, ICML 1096)."""
    input:
        slices=SLICES,
        split=SPLIT,
        record=SPLIT_RECORD,
    output:
        weights=f"{ENCODER}/encoder.safetensors",
        record=f"{ENCODER}/encoder.json",
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
        slices=slices_folder,
        options=options(CONFIG.encoder),
        version=VERSIONS["encoder"],
    shell:
        "m2m encoder --target {wildcards.target} --slices-dir {params.slices:q}"
        " --split {input.split:q} --split-record {input.record:q} --weights {output.weights:q}"
        " --record {output.record:q} --options {params.options:q} > {log:q} 2>&1"


rule train_model:
    """Fit one model to the training part (macro2micro: Kim et al., arXiv:2412.11277)."""
    input:
        # The list stands for the slices: see m2m/cohort/collect.py.
        slices=of_fold("slices.tsv"),
        split=of_fold("split.tsv"),
        record=of_fold("split.json"),
        encoder=encoder,
        encoder_record=encoder_record,
        low=low_table,
        first=first_weights,
        labels=moved_labels,
    output:
        weights=f"{MODEL}/model.safetensors",
        record=f"{MODEL}/model.json",
        card=f"{MODEL}/model_card.md",
        metrics=f"{MODEL}/metrics.jsonl",
    log:
        log("train_model", "{task}_{model}"),
    benchmark:
        bench("train_model", "{task}_{model}")
    conda:
        M2M_ENV
    threads: training_need("threads", 1)
    resources:
        mem_mb=memory(8000),
        runtime=minutes(1440),
        gpu=training_need("devices", 0),
    params:
        slices=slices_folder,
        # Not an output: Snakemake deletes outputs before a retry, and training resumes from here.
        training=f"{MODEL}/training",
        task=task_options,
        options=model_options,
        encoder=fitting_flags,
        simulated=simulated_flag,
        version=VERSIONS["train"],
    shell:
        # At a job's time limit Slurm tells every process to end: training saves, and tee hears it out.
        "trap '' TERM; m2m train --task {wildcards.task} --model {wildcards.model} --slices-dir {params.slices:q}"
        " --split {input.split:q} --split-record {input.record:q} --training-dir {params.training:q}"
        " --weights {output.weights:q} --record {output.record:q} --card {output.card:q}"
        " --metrics {output.metrics:q} {params.simulated:q} {params.encoder:q} --task-options {params.task:q}"
        " --options {params.options:q} 2>&1 | tee {log:q}"


rule correct_labels:
    """Slices with labels moved by each person's joint field (Feng et al. 2024, IEEE TMI,
    doi:10.1109/TMI.2024.3445969), for the training of other models.
    """
    input:
        weights=f"{MODEL}/model.safetensors",
        slices=of_fold("slices.tsv"),
        split=of_fold("split.tsv"),
        record=of_fold("split.json"),
    output:
        slices=directory(LABELS),
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
        slices=slices_folder,
        version=VERSIONS["correct-labels"],
    shell:
        "m2m correct-labels --weights {input.weights:q} --slices-dir {params.slices:q} --split {input.split:q}"
        " --split-record {input.record:q} --out {output.slices:q} > {log:q} 2>&1"


rule translate_volume:
    """A whole volume translated, three orientations averaged or joined otherwise (Kim et al., arXiv:2412.11277)."""
    input:
        source=source_image,
        anat=at("anat-status"),
        weights=model_weights,
        low=low_image,
    output:
        map=at("synth", SYNTHETIC),
        sd=at("synthsd", SYNTHETIC),
        status=at("synth-status", SYNTHETIC),
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
        # Made by the same job as the T1; planning costs by the file.
        brain=at("brain"),
        require=source_status,
        version=VERSIONS["translate"],
    shell:
        "m2m translate {input.source:q} --brain {params.brain:q} --anat-status {input.anat:q}"
        " {params.require:q} --weights {input.weights:q} --unit {wildcards.unit}"
        " --task {wildcards.task} --out {output.map:q} --out-sd {output.sd:q} --status {output.status:q} > {log:q} 2>&1"


if TENSOR_TASKS:

    rule track_synthetic:
        """FA, MD, V1 and streamlines of synthetic tensors, tracked as the measured ones are
        (Garyfallidis et al. 2014, Front Neuroinform 8:8).
        """
        input:
            tensor=at("synth-tensor", SYNTHETIC),
            brain=at("brain"),
        output:
            fa=at("synth-fa", SYNTHETIC),
            md=at("synth-md", SYNTHETIC),
            v1=at("synth-v1", SYNTHETIC),
            tdi=at("synth-tdi", SYNTHETIC),
            tractogram=at("synth-tractogram", SYNTHETIC),
            picture=at("tractography-picture", SYNTHETIC),
            status=at("synth-tractography-status", SYNTHETIC),
        log:
            log("track_synthetic", "{task}_{model}/{folder}/{unit}"),
        benchmark:
            bench("track_synthetic", "{task}_{model}/{folder}/{unit}")
        wildcard_constraints:
            task="|".join(TENSOR_TASKS),
        conda:
            TRACKER_ENV
        resources:
            mem_mb=memory(4000),
            runtime=minutes(TRACKER.minutes),
        params:
            # Made by the same job as the tensor.
            translated=translation_status,
            options=options(CONFIG.tractography),
            version=VERSIONS["tractography"],
        shell:
            "m2m tractography --unit {wildcards.unit} --tensor {input.tensor:q} --mask {input.brain:q}"
            " --require {params.translated:q} --fa {output.fa:q} --md {output.md:q} --v1 {output.v1:q}"
            " --tdi {output.tdi:q} --tractogram {output.tractogram:q} --picture {output.picture:q}"
            " --status {output.status:q} --options {params.options:q} > {log:q} 2>&1"

    # Both could make the FA of a task that predicts tensors.
    ruleorder: track_synthetic > translate_volume
