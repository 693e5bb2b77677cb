"""Continuous fields of tract density and views of them, made when asked for."""


rule fit_field:
    """A field fitted to slices of three orientations (hashed grids: Mueller et al. 2022, ACM TOG
    41:102; variance of each slice: Xu et al. 2023, IEEE TMI 42:1707).
    """
    input:
        **fields.inputs(),
        tdi=fields.of_map("tdi", "synth-tdi"),
        mask=fields.mask,
        status=fields.status,
    output:
        **fields.outputs(),
        weights=at("field", fields.pattern),
        record=at("field-record", fields.pattern),
        map=at("field-tdi", fields.pattern),
        status=at("field-status", fields.pattern),
    log:
        log("fit_field{of}", "{folder}/{unit}"),
    benchmark:
        bench("fit_field{of}", "{folder}/{unit}")
    wildcard_constraints:
        of=fields.of,
    conda:
        M2M_ENV
    threads: 2
    resources:
        mem_mb=memory(2000),
        runtime=minutes(60),
    params:
        tensors=field_flags,
        options=options(CONFIG.field),
        version=VERSIONS["field"],
    shell:
        "m2m field --axial {input.tdi:q} --coronal {input.tdi:q} --sagittal {input.tdi:q}"
        " --mask {input.mask:q} {params.tensors:q} --require {input.status:q} --unit {wildcards.unit}"
        " --weights {output.weights:q} --record {output.record:q} --out {output.map:q}"
        " --status {output.status:q} --options {params.options:q} 2>&1 | tee {log:q}"


rule render_field:
    """Views by emission and absorption (Max 1995, IEEE TVCG 1:99; Mildenhall et al. 2020, ECCV 405)."""
    input:
        weights=at("field", fields.pattern),
        status=at("field-status", fields.pattern),
    output:
        turntable=at("field-turntable", fields.pattern),
        stills=at("field-stills", fields.pattern),
        status=at("render-status", fields.pattern),
    log:
        log("render_field{of}", "{folder}/{unit}"),
    benchmark:
        bench("render_field{of}", "{folder}/{unit}")
    wildcard_constraints:
        of=fields.of,
    conda:
        M2M_ENV
    threads: 2
    resources:
        mem_mb=memory(2000),
        runtime=minutes(60),
    params:
        # Made by the same job as the weights.
        record=at("field-record", fields.pattern),
        options=options(CONFIG.render),
        version=VERSIONS["render"],
    shell:
        "m2m render --weights {input.weights:q} --record {params.record:q} --require {input.status:q}"
        " --unit {wildcards.unit} --turntable {output.turntable:q} --stills {output.stills:q}"
        " --status {output.status:q} --options {params.options:q} 2>&1 | tee {log:q}"


if TENSORS:

    rule track_field:
        """Streamlines along a field's directions, tracked as the measured tensors are
        (Garyfallidis et al. 2014, Front Neuroinform 8:8).
        """
        input:
            tensor=at("field-tensor", fields.pattern),
            mask=fields.mask,
            status=at("field-status", fields.pattern),
        output:
            tractogram=at("field-tractogram", fields.pattern),
            picture=at("field-tractogram-picture", fields.pattern),
            status=at("field-tractography-status", fields.pattern),
        log:
            log("track_field{of}", "{folder}/{unit}"),
        benchmark:
            bench("track_field{of}", "{folder}/{unit}")
        wildcard_constraints:
            of=fields.of,
        conda:
            M2M_ENV if CONFIG.tractography.backend == "dipy" else "../envs/mrtrix3.yaml"
        resources:
            mem_mb=memory(4000),
            runtime=minutes(TRACKING_MINUTES),
        params:
            options=options(CONFIG.tractography),
            version=VERSIONS["tractography"],
        shell:
            "m2m tractography --unit {wildcards.unit} --tensor {input.tensor:q} --mask {input.mask:q}"
            " --require {input.status:q} --tractogram {output.tractogram:q} --picture {output.picture:q}"
            " --status {output.status:q} --options {params.options:q} > {log:q} 2>&1"


rule compare_field:
    """What a field, and interpolation, guess of slices of a measured map that they were not given."""
    input:
        map=at("tdi"),
        mask=at("target-mask"),
        status=at("grid-status"),
    output:
        table=at("held-out"),
        status=at("held-out-status"),
    log:
        log("compare_field", "{folder}/{unit}"),
    benchmark:
        bench("compare_field", "{folder}/{unit}")
    conda:
        M2M_ENV
    threads: 2
    resources:
        mem_mb=memory(2000),
        runtime=minutes(120),
    params:
        options=options(CONFIG.held_out),
        field=options(CONFIG.field),
        version=VERSIONS["compare-fields"],
    shell:
        "m2m compare-fields --map {input.map:q} --mask {input.mask:q} --require {input.status:q}"
        " --unit {wildcards.unit} --table {output.table:q} --status {output.status:q}"
        " --options {params.options:q} --field-options {params.field:q} > {log:q} 2>&1"


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
        shown=fields.shown_flags,
        tables=compared_flags,
        folder=output_folder,
        simulated=simulated_flag,
        options=options(CONFIG.render),
        version=VERSIONS["draw-fields"],
    shell:
        "m2m draw-fields {params.shown:q} {params.tables:q} --out-dir {params.folder:q}"
        " {params.simulated:q} --options {params.options:q} > {log:q} 2>&1"


rule page_of_fields:
    """One HTML page: fields from all sides, and what they are worth beside interpolation."""
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
        shown=fields.shown_flags,
        folder=figures_input_folder,
        simulated=simulated_flag,
        config=configuration,
        options=options(CONFIG.report),
        version=VERSIONS["report-fields"],
    shell:
        "m2m report-fields {params.shown:q} --figures-dir {params.folder:q} --split-record {input.record:q}"
        " {params.simulated:q} --config-json {params.config:q} --out {output.page:q}"
        " --options {params.options:q} > {log:q} 2>&1"
