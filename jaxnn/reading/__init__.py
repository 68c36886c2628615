"""Reading: a file or a data frame of any library becomes one table, a polars `DataFrame`."""

from jaxnn.reading._read_table import read_table

__all__ = ["read_table"]
