"""The cohort: list and check scans, select participants, split them, and collect their status.

`index` lists scans, `validate` (with `checks`, one scan at a time, and `participants`) decides
which units take part, `split` divides participants into parts, `quality` collects the status and
quality measures of every stage, and `status` prints them.
"""
