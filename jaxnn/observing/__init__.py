"""Recordings of a network during training."""
