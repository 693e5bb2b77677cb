"""The T1 and the common grid: template, coregistration of the DWI, slices, low resolution."""
