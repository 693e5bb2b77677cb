"""The paper's figures: PDF, SVG and PNG, each with the numbers behind it as TSV.

Every figure is always written; one without data contains a message instead. The figures of a study
are in its folder, those of a task in a folder of the task. `figure_records` lists all figures.
"""
