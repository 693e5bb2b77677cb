"""Biological validation: phenotypes predicted from measured and synthetic maps."""

if validation.given:

    rule translate_given:
        """Translation by weights from elsewhere, the same for all participants."""
        input:
            source=given.inputs(at("t1w")),
            brain=given.inputs(at("brain")),
            anat=given.inputs(at("anat-status")),
            weights=validation.weights,
            deformation=given.inputs(validation.deformation_of_given),
        output:
            map=given.output(at("synth", files.given)),
            sd=given.output(at("synthsd", files.given)),
            status=given.output(at("synth-status", files.given)),
        log:
            log("translate_given", "{weights}/{folder}/{unit}_{measure}"),
        benchmark:
            bench("translate_given", "{weights}/{folder}/{unit}_{measure}")
        wildcard_constraints:
            weights="|".join(validation.given),
        conda:
            M2M_ENV
        resources:
            # A model that deforms the template by other options than the study's does so here.
            mem_mb=memory(4000),
            runtime=minutes(360),
        params:
            root=files.dataset_root,
            subjects=given.flags(subject_flags),
            config=files.config,
            folder=GIVEN,
            version=VERSIONS["translate"],
        shell:
            "M2M_MADE_BY={params.version:q} m2m synthesise --root {params.root:q} --config {params.config:q}"
            " --task {params.folder:q} --model {wildcards.weights:q} {params.subjects:q} > {log:q} 2>&1"


if validation.wanted:

    rule features:
        """Regional means and histograms of measured maps, and of synthetic maps by networks trained
        without the participant (cross-fitting: Chernozhukov et al. 2018, Econom J 21:C1) or elsewhere.
        """
        input:
            validation.described_maps,
            records=validation.cross_fitted_records,
            units=files.units,
            folds=files.folds,
            folds_record=files.folds_record,
            quality=validation.selection,
            atlas=validation.atlas,
        output:
            table=f"{files.downstream}/features.tsv",
        log:
            log("features", "features"),
        benchmark:
            bench("features", "features")
        conda:
            M2M_ENV
        resources:
            mem_mb=memory(2000),
            runtime=minutes(240),
        params:
            root=files.dataset_root,
            config=files.config,
            images=ordered_digest(validation.images()),
            options=digests.evaluation,
            slices=digest(CONFIG.slices),
            version=VERSIONS["features"],
        shell:
            "m2m features --root {params.root:q} --config {params.config:q} > {log:q} 2>&1"

    rule predict_phenotype_cnn:
        """A small 3D network (Peng et al. 2021, Med Image Anal 68:101871) on the same folds."""
        input:
            validation.described_maps,
            features=f"{files.downstream}/features.tsv",
            records=validation.cross_fitted_records,
            units=files.units,
            folds=files.folds,
            folds_record=files.folds_record,
            participants=subjects.participants_table,
        output:
            table=f"{files.downstream}/cnn/{{phenotype}}/{{seen}}.tsv",
        log:
            log("predict_phenotype_cnn", "{phenotype}_{seen}"),
        benchmark:
            bench("predict_phenotype_cnn", "{phenotype}_{seen}")
        conda:
            M2M_ENV
        resources:
            mem_mb=memory(6000),
            runtime=minutes(720),
            gpu=1,
        params:
            root=files.dataset_root,
            config=files.config,
            images=ordered_digest(validation.images()),
            options=digest(CONFIG.downstream),
            slices=digest(CONFIG.slices),
            sessions=subjects.session_tables,
            version=VERSIONS["predict-phenotype-cnn"],
        shell:
            "m2m predict-phenotype-cnn --root {params.root:q} --config {params.config:q}"
            " --phenotype {wildcards.phenotype:q} --inputs {wildcards.seen:q}"
            " --participants {input.participants:q} > {log:q} 2>&1"

    rule predict_phenotypes:
        """Nested cross-validation (Varma and Simon 2006, BMC Bioinformatics 7:91) by participant and
        family; permutation tests (Ojala and Garriga 2010, J Mach Learn Res 11:1833).
        """
        input:
            features=f"{files.downstream}/features.tsv",
            cnn=validation.cnn_tables,
            folds_record=files.folds_record,
            participants=subjects.participants_table,
        output:
            record=f"{files.downstream}/downstream.json",
            tables=validation.tables,
        log:
            log("predict_phenotypes", "predict_phenotypes"),
        benchmark:
            bench("predict_phenotypes", "predict_phenotypes")
        conda:
            M2M_ENV
        resources:
            mem_mb=memory(4000),
            runtime=minutes(720),
        params:
            root=files.dataset_root,
            config=files.config,
            cnn=validation.cnn_flag,
            measured=ordered_digest(validation.measured_of()),
            options=digest(CONFIG.downstream),
            sessions=subjects.session_tables,
            version=VERSIONS["downstream"],
        shell:
            "m2m downstream --root {params.root:q} --config {params.config:q}"
            " --participants {input.participants:q} {params.cnn:q} > {log:q} 2>&1"
