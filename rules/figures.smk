"""The paper's figures, each with its source data."""


rule figures_of_fields:
    """Views of measured and synthetic fields, and fields compared with interpolation, for a paper."""
    input:
        fields.shown("field-stills", "render-status"),
        tables=fields.compared,
    output:
        figures=expand(
            f"{files.figures}/{{name}}.{{extension}}",
            name=field_inputs.FIGURES,
            extension=["pdf", "svg", "tsv"],
        ),
        png=report(
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


rule figures_of_pairs:
    """Real pairs: T1, measured and synthetic map, the atlas and their differences."""
    input:
        pairs=f"{real.root}/pairs.tsv",
    output:
        figures=expand(
            f"{real.figures}/{{name}}.{{extension}}",
            name=real_inputs.FIGURES,
            extension=["pdf", "svg", "tsv"],
        ),
        png=report(
            expand(f"{real.figures}/{{name}}.png", name=real_inputs.FIGURES),
            category="Figures",
        ),
    log:
        log("figures", "pairs"),
    benchmark:
        bench("figures", "pairs")
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(2000),
        runtime=minutes(30),
    params:
        root=files.dataset_root,
        config=files.config,
        options=ordered_digest(CONFIG.real),
        version=VERSIONS["draw-pairs"],
    shell:
        "m2m draw-pairs --root {params.root:q} --config {params.config:q}"
        " > {log:q} 2>&1"


for PAGE, TASKS in tasks.pages.items():

    rule:
        """Every figure of a page's tasks as PDF, SVG and PNG, with its source data as TSV."""
        name:
            f"figures_of_{PAGE}"
        input:
            tasks.every_model("evaluate/{task}/{model}/metrics.tsv", TASKS),
            tasks.every_fit("models/{task}/{model}/metrics.jsonl", TASKS),
            tasks.every_task("evaluate/{task}/comparison.tsv", TASKS),
            pages.visits(PAGE),
            units=files.units,
            split=files.split,
            record=files.split_record,
            quality=files.quality,
            flow=files.flow,
        output:
            figures=expand(
                "{folder}/{name}.{extension}",
                folder=pages.figures(PAGE),
                name=[pages.last_of(PAGE), *pages.figures_of(PAGE)],
                extension=["pdf", "svg", "tsv"],
            ),
            last=report(pages.last_figure(PAGE), category="Cohort"),
            tasks=report(
                expand(
                    "{folder}/{name}.png",
                    folder=pages.figures(PAGE),
                    name=pages.figures_of(PAGE),
                ),
                category="Figures",
            ),
        log:
            log("figures", PAGE),
        benchmark:
            bench("figures", PAGE)
        conda:
            M2M_ENV
        threads: 4
        resources:
            mem_mb=memory(2000),
            runtime=minutes(60),
        params:
            root=files.dataset_root,
            page=PAGE,
            config=files.config,
            tasks=digests.tasks(TASKS),
            simulated=files.simulated,
            version=VERSIONS["figures"],
        shell:
            "m2m figures --root {params.root:q} --config {params.config:q}"
            " --page {params.page:q} --threads {threads} > {log:q} 2>&1"


if validation.wanted:

    rule figures_of_downstream:
        """Figures of the biological validation, with their source data as TSV."""
        input:
            features=f"{files.downstream}/features.tsv",
            tables=validation.tables,
            record=f"{files.downstream}/downstream.json",
            participants=subjects.participants_table,
        output:
            figures=expand(
                f"{files.root}/figures/downstream/{{name}}.{{extension}}",
                name=validation.figures(),
                extension=["pdf", "svg", "tsv"],
            ),
            png=report(
                expand(
                    f"{files.root}/figures/downstream/{{name}}.png",
                    name=validation.figures(),
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
            measured=ordered_digest(validation.measured_of()),
            simulated=files.simulated,
            sessions=subjects.session_tables,
            version=VERSIONS["draw-downstream"],
        shell:
            "m2m draw-downstream --root {params.root:q} --config {params.config:q}"
            " --participants {input.participants:q} > {log:q} 2>&1"
