"""What is read and written: errors, whole files, tables, images, paths, programs."""
