"""The paper's figures: PDF, SVG and PNG, each with the numbers behind it as TSV.

Every figure is always written; one with nothing to show says so in words. The figures of a study
lie in its folder, the others in a folder per task. `figure_records` says which there are.
"""
