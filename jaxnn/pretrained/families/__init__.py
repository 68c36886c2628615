"""Families of models: how each reads its configuration, and its table of rules."""
