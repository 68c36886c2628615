"""Benchmarks: what jaxnn costs, measured against the same work written by hand."""
