"""The paper's figures with their source data, the methods in words, and one self-contained page."""

for STUDY, TASKS in STUDIES.items():

    rule:
        """Every figure of a study's tasks as PDF, SVG and PNG, with its source data as TSV."""
        name:
            f"figures_of_{STUDY}"
        input:
            every_model("evaluation/{task}/{model}/metrics.tsv", TASKS),
            every_fit("models/{task}/{model}/metrics.jsonl", TASKS),
            every_task("evaluation/{task}/comparison.tsv", TASKS),
            translation_seconds(STUDY),
            units=UNITS,
            split=SPLIT,
            record=SPLIT_RECORD,
            quality=QUALITY,
            flow=FLOW,
        output:
            figures=expand(
                "{folder}/{name}.{extension}",
                folder=study_figures(STUDY),
                name=[last_of(STUDY), *figures_of(STUDY)],
                extension=["pdf", "svg", "tsv"],
            ),
            last=report(last_figure(STUDY), category="Cohort"),
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
            runtime=minutes(60),
        params:
            root=dataset_root,
            folder=figures_folder(STUDY),
            tasks=task_flags(TASKS),
            simulated=simulated_flag,
            options=options(CONFIG.report),
            version=VERSIONS["figures"],
        shell:
            "m2m figures --root {params.root:q} {params.tasks:q}"
            " --units {input.units:q} --split {input.split:q} --split-record {input.record:q}"
            " --quality {input.quality:q} --flow {input.flow:q} --out-dir {params.folder:q}"
            " {params.simulated:q} --threads {threads} --options {params.options:q} > {log:q} 2>&1"

    rule:
        """The methods in words, from the configuration that ran, with what they cite as BibTeX."""
        name:
            f"methods_of_{STUDY}"
        input:
            every_fit("models/{task}/{model}/model.json", TASKS),
            summaries=every_task("evaluation/{task}/summary.tsv", TASKS),
            quality=QUALITY,
            flow=FLOW,
            record=SPLIT_RECORD,
        output:
            text=f"{study_figures(STUDY)}/methods.md",
            references=f"{study_figures(STUDY)}/references.bib",
        log:
            log("methods", STUDY),
        benchmark:
            bench("methods", STUDY)
        conda:
            M2M_ENV
        resources:
            mem_mb=memory(1000),
            runtime=minutes(30),
        params:
            root=dataset_root,
            tasks=task_flags(TASKS),
            config=configuration,
            version=VERSIONS["methods"],
        shell:
            "m2m methods --root {params.root:q} {params.tasks:q} --config-json {params.config:q}"
            " --out {output.text:q} --references {output.references:q} > {log:q} 2>&1"

    rule:
        """One HTML page that opens without a network."""
        name:
            f"page_of_{STUDY}"
        input:
            label_tables(TASKS),
            figures=last_figure(STUDY),
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
            runtime=minutes(60),
        params:
            root=dataset_root,
            folder=figures_folder(STUDY),
            tasks=task_flags(TASKS),
            simulated=simulated_flag,
            config=configuration,
            options=report_options(STUDY),
            version=VERSIONS["report"],
        shell:
            "m2m report --root {params.root:q} {params.tasks:q}"
            " --figures-dir {params.folder:q} {params.simulated:q} --config-json {params.config:q}"
            " --out {output.page:q} --options {params.options:q} > {log:q} 2>&1"


if CROSS_FITTED:

    rule figures_of_downstream:
        """Figures of the biological validation, with their source data as TSV."""
        input:
            features=f"{DOWNSTREAM}/features.tsv",
            tables=expand(f"{DOWNSTREAM}/{{table}}.tsv", table=DOWNSTREAM_TABLES),
            record=f"{DOWNSTREAM}/downstream.json",
            participants=participants_table,
        output:
            figures=expand(
                f"{ROOT}/figures/downstream/{{name}}.{{extension}}",
                name=DOWNSTREAM_FIGURES,
                extension=["pdf", "svg", "tsv"],
            ),
            pictures=report(
                expand(
                    f"{ROOT}/figures/downstream/{{name}}.png", name=DOWNSTREAM_FIGURES
                ),
                category="Biological validation",
            ),
        log:
            log("figures", "downstream"),
        benchmark:
            bench("figures", "downstream")
        conda:
            M2M_ENV
        resources:
            mem_mb=memory(2000),
            runtime=minutes(60),
        params:
            folder=record_folder,
            out=output_folder,
            measured=json.dumps(measured_of()),
            simulated=simulated_flag,
            version=VERSIONS["draw-downstream"],
        shell:
            "m2m draw-downstream --folder {params.folder:q} --participants {input.participants:q}"
            " --measured {params.measured:q} --out-dir {params.out:q} {params.simulated:q} > {log:q} 2>&1"

    rule methods_of_downstream:
        """The methods of the biological validation in words, with what they cite as BibTeX."""
        input:
            cross_fitted_records,
            folds=FOLDS_RECORD,
            first=f"{FOLD.format(fold=1)}/split.json",
            scores=f"{DOWNSTREAM}/scores.tsv",
            record=f"{DOWNSTREAM}/downstream.json",
            quality=QUALITY,
            flow=FLOW,
        output:
            text=f"{FIGURES}/downstream/methods.md",
            references=f"{FIGURES}/downstream/references.bib",
        log:
            log("methods", "downstream"),
        benchmark:
            bench("methods", "downstream")
        conda:
            M2M_ENV
        resources:
            mem_mb=memory(1000),
            runtime=minutes(30),
        params:
            root=dataset_root,
            tasks=task_flags(CROSS_FITTED),
            config=configuration,
            version=VERSIONS["methods"],
        shell:
            "m2m methods --root {params.root:q} {params.tasks:q} --config-json {params.config:q}"
            " --out {output.text:q} --references {output.references:q} > {log:q} 2>&1"

    rule page_of_downstream:
        """One HTML page of the biological validation."""
        input:
            tables=expand(f"{DOWNSTREAM}/{{table}}.tsv", table=DOWNSTREAM_TABLES),
            record=f"{DOWNSTREAM}/downstream.json",
            figures=expand(
                f"{ROOT}/figures/downstream/{{name}}.png", name=DOWNSTREAM_FIGURES
            ),
        output:
            page=f"{ROOT}/downstream.html",
        log:
            log("report", "downstream"),
        benchmark:
            bench("report", "downstream")
        conda:
            M2M_ENV
        resources:
            mem_mb=memory(2000),
            runtime=minutes(60),
        params:
            folder=record_folder,
            figures=figures_input_folder,
            measured=json.dumps(measured_of()),
            simulated=simulated_flag,
            config=configuration,
            options=options(CONFIG.report),
            version=VERSIONS["report-downstream"],
        shell:
            "m2m report-downstream --folder {params.folder:q} --figures-dir {params.figures:q}"
            " --measured {params.measured:q} {params.simulated:q} --config-json {params.config:q}"
            " --out {output.page:q} --options {params.options:q} > {log:q} 2>&1"
