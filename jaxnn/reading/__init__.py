"""Reads tables from files and data frames of any library into a polars `DataFrame`."""

from jaxnn.reading._read_table import read_table

__all__ = ["read_table"]
