"""Continuous fields of tract density and views of them, made when asked for."""


rule fit_field:
    """A field fitted to slices of three orientations (hashed grids: Mueller et al. 2022, ACM TOG
    41:102; variance of each slice: Xu et al. 2023, IEEE TMI 42:1707).
    """
    input:
        **field_inputs(),
        tdi=of_map("tdi", "synth-tdi"),
        mask=field_mask,
        status=field_status,
    output:
        **field_outputs(),
        weights=at("field", FIELD),
        record=at("field-record", FIELD),
        map=at("field-tdi", FIELD),
        status=at("field-status", FIELD),
    log:
        log("fit_field{of}", "{folder}/{unit}"),
    benchmark:
        bench("fit_field{of}", "{folder}/{unit}")
    wildcard_constraints:
        of=FIELD_OF,
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
        weights=at("field", FIELD),
        status=at("field-status", FIELD),
    output:
        turntable=at("field-turntable", FIELD),
        stills=at("field-stills", FIELD),
        status=at("render-status", FIELD),
    log:
        log("render_field{of}", "{folder}/{unit}"),
    benchmark:
        bench("render_field{of}", "{folder}/{unit}")
    wildcard_constraints:
        of=FIELD_OF,
    conda:
        M2M_ENV
    threads: 2
    resources:
        mem_mb=memory(2000),
        runtime=minutes(60),
    params:
        # Made by the same job as the weights.
        record=at("field-record", FIELD),
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
            tensor=at("field-tensor", FIELD),
            mask=field_mask,
            status=at("field-status", FIELD),
        output:
            tractogram=at("field-tractogram", FIELD),
            picture=at("field-tractogram-picture", FIELD),
            status=at("field-tractography-status", FIELD),
        log:
            log("track_field{of}", "{folder}/{unit}"),
        benchmark:
            bench("track_field{of}", "{folder}/{unit}")
        wildcard_constraints:
            of=FIELD_OF,
        conda:
            TRACKER_ENV
        resources:
            mem_mb=memory(4000),
            runtime=minutes(TRACKER.minutes),
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
        shown_fields("field-stills", "render-status"),
        tables=compared_fields,
    output:
        figures=expand(
            f"{FIGURES}/{{name}}.{{extension}}",
            name=FIELD_FIGURES,
            extension=["pdf", "svg", "tsv"],
        ),
        pictures=report(
            expand(f"{FIGURES}/{{name}}.png", name=FIELD_FIGURES), category="Figures"
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
        shown=shown_flags,
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
        shown_fields("field-turntable", "render-status"),
        figures=expand(f"{FIGURES}/{{name}}.png", name=FIELD_FIGURES),
        record=SPLIT_RECORD,
    output:
        page=f"{ROOT}/fields.html",
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
        shown=shown_flags,
        folder=figures_input_folder,
        simulated=simulated_flag,
        config=configuration,
        options=options(CONFIG.report),
        version=VERSIONS["report-fields"],
    shell:
        "m2m report-fields {params.shown:q} --figures-dir {params.folder:q} --split-record {input.record:q}"
        " {params.simulated:q} --config-json {params.config:q} --out {output.page:q}"
        " --options {params.options:q} > {log:q} 2>&1"
