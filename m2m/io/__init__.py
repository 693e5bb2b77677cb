"""Input and output: errors, atomic writing of files, tables, images, paths, external programs."""
