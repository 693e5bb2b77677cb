"""The cohort: which scans there are, which are sound, who learns and who is tested, who is left.

`index` lists scans, `validate` (with `checks`, one scan at a time, and `participants`) decides
who is in, `split` divides people into parts, `quality` gathers what every stage found, and
`status` prints it.
"""
