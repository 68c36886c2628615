"""Runs that live in a directory: trained, saved, resumed and loaded."""
