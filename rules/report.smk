"""The paper's figures with their source data, and one self-contained page."""


rule figures:
    """Every figure of every task as PDF and PNG, with its source data as TSV."""
    input:
        every_model("evaluation/{task}/{model}/metrics.tsv"),
        every_fit("models/{task}/{model}/metrics.jsonl"),
        every_task("evaluation/{task}/comparison.tsv"),
        units=UNITS,
        split=SPLIT,
        record=SPLIT_RECORD,
        quality=QUALITY,
        flow=FLOW,
    output:
        expand(
            "{folder}/{name}.{extension}",
            folder=FIGURES,
            name=["flow", *TASK_FIGURES],
            extension=["pdf", "tsv"],
        ),
        flow=report(f"{FIGURES}/flow.png", category="Cohort"),
        tasks=report(
            expand("{folder}/{name}.png", folder=FIGURES, name=TASK_FIGURES),
            category="Figures",
        ),
    log:
        log("figures", "figures"),
    benchmark:
        bench("figures", "figures")
    conda:
        M2M_ENV
    threads: 4
    resources:
        mem_mb=memory(2000),
        runtime=60,
    params:
        root=dataset_root,
        folder=figures_folder,
        tasks=task_flags,
        simulated=simulated_flag,
        options=options(CONFIG.report),
        version=VERSIONS["figures"],
    shell:
        "m2m figures --root {params.root} {params.tasks:q}"
        " --units {input.units} --split {input.split} --split-record {input.record}"
        " --quality {input.quality} --flow {input.flow} --out-dir {params.folder}"
        " {params.simulated} --threads {threads} --options {params.options:q} > {log} 2>&1"


rule report:
    """One HTML page that opens without a network."""
    input:
        rules.figures.output,
        every_task("evaluation/{task}/summary.tsv"),
        status=f"{ROOT}/cohort/cohort_status.tsv",
        quality=QUALITY,
        flow=FLOW,
        description=f"{ROOT}/dataset_description.json",
    output:
        page=REPORT,
    log:
        log("report", "report"),
    benchmark:
        bench("report", "report")
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(2000),
        runtime=60,
    params:
        root=dataset_root,
        folder=figures_folder,
        tasks=task_flags,
        simulated=simulated_flag,
        config=configuration,
        options=options(CONFIG.report),
        version=VERSIONS["report"],
    shell:
        "m2m report --root {params.root} {params.tasks:q}"
        " --figures-dir {params.folder} {params.simulated} --config-json {params.config:q}"
        " --out {output.page} --options {params.options:q} > {log} 2>&1"
