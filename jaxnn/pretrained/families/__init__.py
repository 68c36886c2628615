"""Families of models, each with a reader of its configurations and a table of rules."""
