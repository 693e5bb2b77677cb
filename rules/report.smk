"""The paper's figures with their source data, and one self-contained page."""

for STUDY, TASKS in STUDIES.items():

    rule:
        """Every figure of a study's tasks as PDF and PNG, with its source data as TSV."""
        name:
            f"figures_of_{STUDY}"
        input:
            every_model("evaluation/{task}/{model}/metrics.tsv", TASKS),
            every_fit("models/{task}/{model}/metrics.jsonl", TASKS),
            every_task("evaluation/{task}/comparison.tsv", TASKS),
            units=UNITS,
            split=SPLIT,
            record=SPLIT_RECORD,
            quality=QUALITY,
            flow=FLOW,
        output:
            figures=expand(
                "{folder}/{name}.{extension}",
                folder=study_figures(STUDY),
                name=["flow", *figures_of(STUDY)],
                extension=["pdf", "tsv"],
            ),
            flow=report(f"{study_figures(STUDY)}/flow.png", category="Cohort"),
            tasks=report(
                expand(
                    "{folder}/{name}.png",
                    folder=study_figures(STUDY),
                    name=figures_of(STUDY),
                ),
                category="Figures",
            ),
        log:
            log("figures", STUDY),
        benchmark:
            bench("figures", STUDY)
        conda:
            M2M_ENV
        threads: 4
        resources:
            mem_mb=memory(2000),
            runtime=60,
        params:
            root=dataset_root,
            folder=figures_folder(STUDY),
            tasks=task_flags(STUDY),
            simulated=simulated_flag,
            options=options(CONFIG.report),
            version=VERSIONS["figures"],
        shell:
            "m2m figures --root {params.root} {params.tasks:q}"
            " --units {input.units} --split {input.split} --split-record {input.record}"
            " --quality {input.quality} --flow {input.flow} --out-dir {params.folder}"
            " {params.simulated} --threads {threads} --options {params.options:q} > {log} 2>&1"

    rule:
        """One HTML page that opens without a network."""
        name:
            f"page_of_{STUDY}"
        input:
            figures=f"{study_figures(STUDY)}/flow.png",
            summaries=every_task("evaluation/{task}/summary.tsv", TASKS),
            status=f"{ROOT}/cohort/cohort_status.tsv",
            quality=QUALITY,
            flow=FLOW,
            description=f"{ROOT}/dataset_description.json",
        output:
            page=page(STUDY),
        log:
            log("report", STUDY),
        benchmark:
            bench("report", STUDY)
        conda:
            M2M_ENV
        resources:
            mem_mb=memory(2000),
            runtime=60,
        params:
            root=dataset_root,
            folder=figures_folder(STUDY),
            tasks=task_flags(STUDY),
            simulated=simulated_flag,
            config=configuration,
            options=report_options(STUDY),
            version=VERSIONS["report"],
        shell:
            "m2m report --root {params.root} {params.tasks:q}"
            " --figures-dir {params.folder} {params.simulated} --config-json {params.config:q}"
            " --out {output.page} --options {params.options:q} > {log} 2>&1"
