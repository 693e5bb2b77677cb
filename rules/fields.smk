"""All Python of continuous fields: whose maps they are fitted to, and what is shown of them."""

# Of synthetic maps those of one task get a field, by its first model: of tensors where there are
# some, since directions colour a field.
FIELD_TASKS = [
    task
    for task in REPORTED
    if CONFIG.tasks[task].target == ("dti" if TENSORS else "tdi")
][:1]
SYNTHETIC_FIELDS = [
    SYNTHETIC.format(task=task, model=CONFIG.tasks[task].models[0])
    for task in FIELD_TASKS
]
# A field lies with the map that it is of: {of} is empty for a measured one.
FIELD = f"{ROOT}{{of}}"
FIELD_OF = "|".join(["", *(root.removeprefix(ROOT) for root in SYNTHETIC_FIELDS)])
FIELD_FIGURES = list(figure_records.of_scope("fields"))
FIELD_VIEWS = ["field-turntable", *(["field-tractogram"] if TENSORS else [])]


def every_field(*kinds):
    """Input function: these files of each test unit's fields."""

    def wanted(wildcards):
        if not TRACTS:
            raise WorkflowError("A field is of tract density, which no task needs.")
        return [
            path
            for root in (ROOT, *SYNTHETIC_FIELDS)
            for kind in kinds
            for path in paths(kind, units_of_part("test"), root)
        ]

    return wanted


def shown_people():
    """Test people whose fields are shown and compared."""
    return units_of_part("test")[: CONFIG.held_out.people]


def shown_fields(*kinds):
    """Input function: these files of the fields of the people that are shown."""

    def wanted(wildcards):
        return [
            path
            for root in (ROOT, *SYNTHETIC_FIELDS)
            for kind in kinds
            for path in paths(kind, shown_people(), root)
        ]

    return wanted


def compared_fields(wildcards):
    """What the measured fields of these people guess of slices that they were not given."""
    return paths("held-out", shown_people())


def shown_flags(wildcards):
    """`--of` for each root of maps, `--unit` for each person in the figure."""
    roots = [part for root in (ROOT, *SYNTHETIC_FIELDS) for part in ("--of", root)]
    return roots + [part for unit in shown_people() for part in ("--unit", unit)]


def compared_flags(wildcards, input):
    """`--table` for each table of the comparison."""
    return [part for path in input.tables for part in ("--table", path)]


def of_map(measured, synthetic):
    """Input function: one kind of file where the map is measured, another where it is not."""

    def path(wildcards):
        return one(
            synthetic if wildcards.of else measured, wildcards, ROOT + wildcards.of
        )

    return path


def field_mask(wildcards):
    """Where a map holds something: a synthetic one fills the T1's brain."""
    return one("brain" if wildcards.of else "target-mask", wildcards)


def field_status(wildcards):
    """Status of what made the density."""
    kind = "synth-tractography-status" if TENSORS else "synth-status"
    path = of_map("grid-status", kind)(wildcards)
    return path.format(measure=bids.measure(bids.KIND_OF["tdi"]))


def field_inputs():
    """Further inputs of a field: tensors, for its directions."""
    return {"tensor": of_map("tensor", "synth-tensor")} if TENSORS else {}


def field_outputs():
    """Further outputs of a field: tensors with its directions."""
    return {"tensor": at("field-tensor", FIELD)} if TENSORS else {}


def field_flags(wildcards, input, output):
    """Flags of `m2m field` for them."""
    return ["--tensor", input.tensor, "--out-tensor", output.tensor] if TENSORS else []
