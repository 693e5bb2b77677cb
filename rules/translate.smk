"""Translation of whole volumes, a shard of participants in a job; streamlines of synthetic tensors."""


rule translate_volume:
    """Translation of whole volumes; three orientations are averaged or fused (Kim et al., arXiv:2412.11277)."""
    input:
        source=translated.inputs(tasks.source_image),
        anat=translated.inputs(at("anat-status")),
        weights=tasks.model_weights,
        low_res=translated.inputs(tasks.low_res_image),
        deformation=translated.inputs(tasks.deformation),
    output:
        map=translated.output(at("synth", files.synthetic)),
        sd=translated.output(at("synthsd", files.synthetic)),
        status=translated.output(at("synth-status", files.synthetic)),
    log:
        log("translate_volume", "{task}_{model}/{folder}/{unit}_{measure}"),
    benchmark:
        bench("translate_volume", "{task}_{model}/{folder}/{unit}_{measure}")
    wildcard_constraints:
        task="|".join(tasks.but_tensor) or NOTHING,
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(3000),
        runtime=minutes(120),
    params:
        root=files.dataset_root,
        subjects=translated.flags(subject_flags),
        config=files.config,
        version=VERSIONS["translate"],
    shell:
        "M2M_MADE_BY={params.version:q} m2m synthesise --root {params.root:q} --config {params.config:q}"
        " --task {wildcards.task} --model {wildcards.model} {params.subjects:q} > {log:q} 2>&1"


if tasks.tensor:

    rule translate_tensor:
        """As translate_volume, then FA, MD, V1 and streamlines of the synthetic tensors, tracked as the
        measured ones are (Garyfallidis et al. 2014, Front Neuroinform 8:8).
        """
        input:
            source=translated.inputs(tasks.source_image),
            anat=translated.inputs(at("anat-status")),
            weights=tasks.model_weights,
            low_res=translated.inputs(tasks.low_res_image),
            deformation=translated.inputs(tasks.deformation),
        output:
            map=translated.output(at("synth-tensor", files.synthetic)),
            sd=translated.output(at("synthsd-tensor", files.synthetic)),
            translation=translated.output(
                at("synth-status", files.synthetic).replace(
                    "{measure}", bids.measure("synth-tensor")
                )
            ),
            fa=translated.output(at("synth-fa", files.synthetic)),
            md=translated.output(at("synth-md", files.synthetic)),
            v1=translated.output(at("synth-v1", files.synthetic)),
            tdi=translated.output(at("synth-tdi", files.synthetic)),
            tractogram=translated.output(at("synth-tractogram", files.synthetic)),
            figure=translated.output(at("tractography-figure", files.synthetic)),
            status=translated.output(at("synth-tractography-status", files.synthetic)),
        log:
            log("translate_tensor", "{task}_{model}/{folder}/{unit}"),
        benchmark:
            bench("translate_tensor", "{task}_{model}/{folder}/{unit}")
        wildcard_constraints:
            task="|".join(tasks.tensor),
        conda:
            TRACKER_ENV
        resources:
            mem_mb=memory(4000),
            runtime=minutes(120 + TRACKER.minutes),
        params:
            root=files.dataset_root,
            subjects=translated.flags(subject_flags),
            maps=tasks.maps_flag,
            config=files.config,
            version=VERSIONS["translate"],
            tracking=digest([digest(CONFIG.tractography), VERSIONS["tractography"]]),
        shell:
            "M2M_MADE_BY={params.version:q} m2m synthesise --root {params.root:q} --config {params.config:q}"
            " --task {wildcards.task} --model {wildcards.model} {params.subjects:q} > {log:q} 2>&1 && "
            "M2M_MADE_BY={params.tracking:q} m2m tractography --root {params.root:q} --config {params.config:q}"
            " {params.maps:q} {params.subjects:q} >> {log:q} 2>&1"


if CONFIG.install.task and CONFIG.install.model:

    rule calibrate_model:
        """Scale of a model's maps and deviation of their errors, fitted to real pairs."""
        input:
            weights=real.installed_model,
            pairs=f"{real.root}/pairs.tsv",
        output:
            weights=f"{real.calibrated}/model.safetensors",
            record=f"{real.calibrated}/model.json",
            card=f"{real.calibrated}/model_card.md",
        log:
            log("calibrate_model", "pairs"),
        benchmark:
            bench("calibrate_model", "pairs")
        conda:
            M2M_ENV
        resources:
            mem_mb=memory(3000),
            runtime=minutes(60),
        params:
            root=files.dataset_root,
            folder=output_folder,
            contrast=CONFIG.install.contrast,
            left_out=[f"--leave-out={unit}" for unit in CONFIG.install.leave_out],
            version=VERSIONS["calibrate"],
        shell:
            "m2m calibrate --root {params.root:q} --weights {input.weights:q} --out {params.folder:q}"
            " --contrast {params.contrast:q} {params.left_out:q}"
            " > {log:q} 2>&1"

    rule pack_weights:
        """A calibrated model as the weights that are installed with m2m, in half precision."""
        input:
            weights=f"{real.calibrated}/model.safetensors",
            summary=f"{files.evaluation.format(task=CONFIG.install.task)}/summary.tsv",
        output:
            weights=f"{real.packed}/model.safetensors",
            record=f"{real.packed}/model.json",
            card=f"{real.packed}/model_card.md",
            licence=f"{real.packed}/LICENSE",
        log:
            log("pack_weights", "weights"),
        benchmark:
            bench("pack_weights", "weights")
        conda:
            M2M_ENV
        resources:
            mem_mb=memory(2000),
            runtime=minutes(10),
        params:
            folder=output_folder,
            trained_on=CONFIG.install.trained_on,
            licence=CONFIG.install.licence,
            version=VERSIONS["export"],
        shell:
            "m2m export --format weights --weights {input.weights:q} --summary {input.summary:q}"
            " --out {params.folder:q} --trained-on {params.trained_on:q} --licence {params.licence:q}"
            " > {log:q} 2>&1"


rule translate_pairs:
    """Real pairs: tensors (Basser et al. 1994), deformation (Avants et al. 2008, Med Image Anal 12:26) of an FA template."""
    input:
        real.files_read,
    output:
        pairs=f"{real.root}/pairs.tsv",
    log:
        log("translate_pairs", "pairs"),
    benchmark:
        bench("translate_pairs", "pairs")
    conda:
        TRACKER_ENV if real.tracked else M2M_ENV
    resources:
        mem_mb=memory(4000),
        runtime=minutes(720),
    params:
        root=files.dataset_root,
        config=files.config,
        options=digest(CONFIG.real),
        dti=digest(CONFIG.dti),
        tractography=digest(CONFIG.tractography if real.tracked else None),
        grid=digest(CONFIG.grid),
        deformation=digest(CONFIG.deformation),
        version=VERSIONS["translate-pairs"],
    shell:
        "m2m translate-pairs --root {params.root:q} --config {params.config:q}"
        " > {log:q} 2>&1"
