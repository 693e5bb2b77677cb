"""Networks: tensors in, tensors out; no files, no device, no configuration."""
