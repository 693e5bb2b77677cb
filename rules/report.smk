"""Tables, text of the methods, and self-contained report pages."""


rule page_of_fields:
    """One HTML page: views of fields from all sides, and their comparison with interpolation."""
    input:
        fields.shown("field-turntable", "render-status"),
        figures=expand(f"{files.figures}/{{name}}.png", name=field_inputs.FIGURES),
        record=files.split_record,
    output:
        page=f"{files.root}/fields.html",
    log:
        log("report", "fields"),
    benchmark:
        bench("report", "fields")
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(1000),
        runtime=minutes(30),
    params:
        root=files.dataset_root,
        shown=fields.shown_flags,
        config=files.config,
        options=digests.whole,
        version=VERSIONS["report-fields"],
    shell:
        "m2m report-fields --root {params.root:q} --config {params.config:q}"
        " {params.shown:q} > {log:q} 2>&1"


rule tables_of_task:
    """A task's means and differences as Markdown and LaTeX; the best are marked by the verdicts."""
    input:
        summary=f"{files.evaluation}/summary.tsv",
        comparison=f"{files.evaluation}/comparison.tsv",
    output:
        tables=expand(
            f"{files.evaluation}/{{name}}.{{extension}}",
            name=["summary", "comparison"],
            extension=["md", "tex"],
            allow_missing=True,
        ),
    log:
        log("tables", "{task}"),
    benchmark:
        bench("tables", "{task}")
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(1000),
        runtime=minutes(10),
    params:
        root=files.dataset_root,
        config=files.config,
        models=tasks.model_names,
        inputs=digests.models,
        published=digests.published,
        version=VERSIONS["tables"],
    shell:
        "m2m tables --root {params.root:q} --config {params.config:q}"
        " --task {wildcards.task} > {log:q} 2>&1"


for PAGE, TASKS in tasks.pages.items():

    rule:
        """Text of the methods, from the configuration of the run, with its references as BibTeX."""
        name:
            f"methods_of_{PAGE}"
        input:
            tasks.every_fit("models/{task}/{model}/model.json", TASKS),
            summaries=tasks.every_task("evaluate/{task}/summary.tsv", TASKS),
            quality=files.quality,
            flow=files.flow,
            record=files.split_record,
        output:
            text=f"{pages.figures(PAGE)}/methods.md",
            references=f"{pages.figures(PAGE)}/references.bib",
        log:
            log("methods", PAGE),
        benchmark:
            bench("methods", PAGE)
        conda:
            M2M_ENV
        resources:
            mem_mb=memory(1000),
            runtime=minutes(30),
        params:
            root=files.dataset_root,
            page=PAGE,
            config=files.config,
            tasks=digests.tasks(TASKS),
            options=digests.whole,
            version=VERSIONS["methods"],
        shell:
            "m2m methods --root {params.root:q} --config {params.config:q}"
            " --page {params.page:q} > {log:q} 2>&1"

    rule:
        """One HTML page that opens without a network."""
        name:
            f"page_of_{PAGE}"
        input:
            fitting.label_tables(TASKS),
            figures=pages.last_figure(PAGE),
            summaries=tasks.every_task("evaluate/{task}/summary.tsv", TASKS),
            status=f"{files.root}/cohort/cohort_status.tsv",
            quality=files.quality,
            flow=files.flow,
            description=f"{files.root}/dataset_description.json",
        output:
            page=pages.page(PAGE),
            summary=pages.summary(PAGE),
        log:
            log("report", PAGE),
        benchmark:
            bench("report", PAGE)
        conda:
            M2M_ENV
        resources:
            mem_mb=memory(2000),
            runtime=minutes(60),
        params:
            root=files.dataset_root,
            page=PAGE,
            config=files.config,
            tasks=digests.tasks(TASKS),
            options=[digests.whole, digests.report(PAGE)],
            simulated=files.simulated,
            version=VERSIONS["report"],
        shell:
            "m2m report --root {params.root:q} --config {params.config:q}"
            " --page {params.page:q} > {log:q} 2>&1"


if validation.wanted:

    rule methods_of_downstream:
        """Text of the methods of the biological validation, with its references as BibTeX."""
        input:
            validation.cross_fitted_records,
            validation.counts,
            folds=files.folds_record,
            features=f"{files.downstream}/features.tsv",
            scores=f"{files.downstream}/scores.tsv",
            record=f"{files.downstream}/downstream.json",
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
            " --page downstream > {log:q} 2>&1"

    rule page_of_downstream:
        """One HTML page of the biological validation."""
        input:
            tables=validation.tables,
            record=f"{files.downstream}/downstream.json",
            figures=expand(
                f"{files.root}/figures/downstream/{{name}}.png",
                name=validation.figures(),
            ),
            description=f"{files.root}/dataset_description.json",
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
