"""The paper's figures, each with its source data."""


rule figures_of_fields:
    """Views of measured and synthetic fields, and fields beside interpolation, as in a paper."""
    input:
        fields.shown("field-stills", "render-status"),
        tables=fields.compared,
    output:
        figures=expand(
            f"{files.figures}/{{name}}.{{extension}}",
            name=field_inputs.FIGURES,
            extension=["pdf", "svg", "tsv"],
        ),
        pictures=report(
            expand(f"{files.figures}/{{name}}.png", name=field_inputs.FIGURES),
            category="Figures",
        ),
    log:
        log("figures", "fields"),
    benchmark:
        bench("figures", "fields")
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(1000),
        runtime=minutes(30),
    params:
        root=files.dataset_root,
        shown=fields.shown_flags,
        config=files.config,
        options=digest(CONFIG.render),
        simulated=files.simulated,
        version=VERSIONS["draw-fields"],
    shell:
        "m2m draw-fields --root {params.root:q} --config {params.config:q}"
        " {params.shown:q} > {log:q} 2>&1"


for STUDY, TASKS in tasks.studies.items():

    rule:
        """Every figure of a study's tasks as PDF, SVG and PNG, with its source data as TSV."""
        name:
            f"figures_of_{STUDY}"
        input:
            tasks.every_model("evaluate/{task}/{model}/metrics.tsv", TASKS),
            tasks.every_fit("models/{task}/{model}/metrics.jsonl", TASKS),
            tasks.every_task("evaluate/{task}/comparison.tsv", TASKS),
            pages.translation_seconds(STUDY),
            units=files.units,
            split=files.split,
            record=files.split_record,
            quality=files.quality,
            flow=files.flow,
        output:
            figures=expand(
                "{folder}/{name}.{extension}",
                folder=pages.figures(STUDY),
                name=[pages.last_of(STUDY), *pages.figures_of(STUDY)],
                extension=["pdf", "svg", "tsv"],
            ),
            last=report(pages.last_figure(STUDY), category="Cohort"),
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
