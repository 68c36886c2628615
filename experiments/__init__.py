"""Experiments: one file each, read from top to bottom; fork one to make your own."""
