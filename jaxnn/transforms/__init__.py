"""Transforms: a network in, a network out, whose parts and parameters keep their names."""
