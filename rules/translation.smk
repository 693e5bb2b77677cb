"""Translation: two rules serve every task and every model."""


rule train_model:
    """Fit one model to the training part (macro2micro: Kim et al., arXiv:2412.11277)."""
    input:
        # The list stands for the slices: see m2m/cohort/collect.py.
        slices=SLICES,
        split=SPLIT,
        record=SPLIT_RECORD,
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
    threads: 8
    resources:
        mem_mb=memory(8000),
        runtime=1440,
        gpu=training_gpus,
    params:
        slices=slices_folder,
        # Not an output: Snakemake deletes outputs before a retry, and training resumes from here.
        training=f"{MODEL}/training",
        task=task_options,
        options=model_options,
        simulated=simulated_flag,
        version=VERSIONS["train"],
    shell:
        "m2m train --task {wildcards.task} --model {wildcards.model} --slices-dir {params.slices}"
        " --split {input.split} --split-record {input.record} --training-dir {params.training}"
        " --weights {output.weights} --record {output.record} --card {output.card}"
        " --metrics {output.metrics} {params.simulated} --task-options {params.task:q}"
        " --options {params.options:q} 2>&1 | tee {log}"


rule translate_volume:
    """A whole T1 volume translated, three orientations averaged (Kim et al., arXiv:2412.11277)."""
    input:
        t1w=at("t1w"),
        anat=at("anat-status"),
        weights=f"{MODEL}/model.safetensors",
    output:
        fa=at("synth-fa", SYNTHETIC),
        status=at("synth-status", SYNTHETIC),
    log:
        log("translate_volume", "{task}_{model}/{folder}/{unit}"),
    benchmark:
        bench("translate_volume", "{task}_{model}/{folder}/{unit}")
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(3000),
        runtime=30,
    params:
        # Made by the same job as the T1; planning costs by the file.
        brain=at("brain"),
        version=VERSIONS["translate"],
    shell:
        "m2m translate {input.t1w} --brain {params.brain} --anat-status {input.anat}"
        " --weights {input.weights} --unit {wildcards.unit}"
        " --out {output.fa} --status {output.status} > {log} 2>&1"
