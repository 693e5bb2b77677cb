"""The paper's figures with their source data, the methods in words, and one self-contained page."""

for STUDY, TASKS in tasks.studies.items():

    rule:
        """Every figure of a study's tasks as PDF, SVG and PNG, with its source data as TSV."""
        name:
            f"figures_of_{STUDY}"
        input:
            tasks.every_model("evaluation/{task}/{model}/metrics.tsv", TASKS),
            tasks.every_fit("models/{task}/{model}/metrics.jsonl", TASKS),
            tasks.every_task("evaluation/{task}/comparison.tsv", TASKS),
            units=files.units,
            split=files.split,
            record=files.split_record,
            quality=files.quality,
            flow=files.flow,
        output:
            figures=expand(
                "{folder}/{name}.{extension}",
                folder=pages.figures(STUDY),
                name=["flow", *pages.figures_of(STUDY)],
                extension=["pdf", "svg", "tsv"],
            ),
            flow=report(f"{pages.figures(STUDY)}/flow.png", category="Cohort"),
            tasks=report(
                expand(
                    "{folder}/{name}.png",
                    folder=pages.figures(STUDY),
                    name=pages.figures_of(STUDY),
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
            root=files.dataset_root,
            study=STUDY,
            config=files.config,
            tasks=digests.tasks(TASKS),
            options=digest(CONFIG.report),
            simulated=files.simulated,
            version=VERSIONS["figures"],
        shell:
            "m2m figures --root {params.root:q} --config {params.config:q}"
            " --study {params.study:q} --threads {threads} > {log:q} 2>&1"

    rule:
        """The methods in words, from the configuration that ran, with what they cite as BibTeX."""
        name:
            f"methods_of_{STUDY}"
        input:
            tasks.every_fit("models/{task}/{model}/model.json", TASKS),
            summaries=tasks.every_task("evaluation/{task}/summary.tsv", TASKS),
            quality=files.quality,
            flow=files.flow,
            record=files.split_record,
        output:
            text=f"{pages.figures(STUDY)}/methods.md",
            references=f"{pages.figures(STUDY)}/references.bib",
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
            root=files.dataset_root,
            study=STUDY,
            config=files.config,
            tasks=digests.tasks(TASKS),
            options=digests.whole,
            version=VERSIONS["methods"],
        shell:
            "m2m methods --root {params.root:q} --config {params.config:q}"
            " --study {params.study:q} > {log:q} 2>&1"

    rule:
        """One HTML page that opens without a network."""
        name:
            f"page_of_{STUDY}"
        input:
            fitting.label_tables(TASKS),
            figures=f"{pages.figures(STUDY)}/flow.png",
            summaries=tasks.every_task("evaluation/{task}/summary.tsv", TASKS),
            status=f"{files.root}/cohort/cohort_status.tsv",
            quality=files.quality,
            flow=files.flow,
            description=f"{files.root}/dataset_description.json",
        output:
            page=pages.page(STUDY),
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
            root=files.dataset_root,
            study=STUDY,
            config=files.config,
            tasks=digests.tasks(TASKS),
            options=[digests.whole, digests.report(STUDY)],
            simulated=files.simulated,
            version=VERSIONS["report"],
        shell:
            "m2m report --root {params.root:q} --config {params.config:q}"
            " --study {params.study:q} > {log:q} 2>&1"


if tasks.cross_fitted:

    rule figures_of_downstream:
        """Figures of the biological validation, with their source data as TSV."""
        input:
            features=f"{files.downstream}/features.tsv",
            tables=expand(
                f"{files.downstream}/{{table}}.tsv", table=validation_inputs.TABLES
            ),
            record=f"{files.downstream}/downstream.json",
            participants=people.participants_table,
        output:
            figures=expand(
                f"{files.root}/figures/downstream/{{name}}.{{extension}}",
                name=validation_inputs.FIGURES,
                extension=["pdf", "svg", "tsv"],
            ),
            pictures=report(
                expand(
                    f"{files.root}/figures/downstream/{{name}}.png",
                    name=validation_inputs.FIGURES,
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
            root=files.dataset_root,
            config=files.config,
            measured=digest(validation.measured_of()),
            simulated=files.simulated,
            version=VERSIONS["draw-downstream"],
        shell:
            "m2m draw-downstream --root {params.root:q} --config {params.config:q}"
            " --participants {input.participants:q} > {log:q} 2>&1"

    rule methods_of_downstream:
        """The methods of the biological validation in words, with what they cite as BibTeX."""
        input:
            validation.cross_fitted_records,
            folds=files.folds_record,
            first=f"{files.fold.format(fold=1)}/split.json",
            scores=f"{files.downstream}/scores.tsv",
            record=f"{files.downstream}/downstream.json",
            quality=files.quality,
            flow=files.flow,
        output:
            text=f"{files.figures}/downstream/methods.md",
            references=f"{files.figures}/downstream/references.bib",
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
            root=files.dataset_root,
            config=files.config,
            tasks=digests.tasks(tasks.cross_fitted),
            options=digests.whole,
            version=VERSIONS["methods"],
        shell:
            "m2m methods --root {params.root:q} --config {params.config:q}"
            " --study downstream > {log:q} 2>&1"

    rule page_of_downstream:
        """One HTML page of the biological validation."""
        input:
            tables=expand(
                f"{files.downstream}/{{table}}.tsv", table=validation_inputs.TABLES
            ),
            record=f"{files.downstream}/downstream.json",
            figures=expand(
                f"{files.root}/figures/downstream/{{name}}.png",
                name=validation_inputs.FIGURES,
            ),
        output:
            page=f"{files.root}/downstream.html",
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
            root=files.dataset_root,
            config=files.config,
            options=digests.whole,
            version=VERSIONS["report-downstream"],
        shell:
            "m2m report-downstream --root {params.root:q} --config {params.config:q}"
            " > {log:q} 2>&1"
