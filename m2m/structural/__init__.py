"""The T1: common grid, template, coregistration of the DWI, slices, low resolution."""
