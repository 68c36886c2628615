"""Tables: encodes mixed columns as arrays for training, and decodes outputs into predictions.

A table is a polars `DataFrame`, whatever source it was read from. The encoding of its columns is
fitted on the training rows and saved with a run:

    table = jaxnn.read_table("wine.csv")                  # a file, pandas, polars, Arrow, a dict
    train, test = split_table(table, 0.2, stratify="quality")
    columns = fit_columns(train, labels="quality")        # means, fill values, class names
    data = columns.encode(train)                          # {"inputs": ..., "labels": ...}
    predictions = columns.decode(outputs)                 # class names, or numbers in their units
"""

from jaxnn.tables._columns import Columns, Examples
from jaxnn.tables._fit_columns import fit_columns
from jaxnn.tables._split_table import fold_table, split_table
from jaxnn.tables.categories import Category
from jaxnn.tables.kinds import Date, Ignored, Real

__all__ = [
    "Category",
    "Columns",
    "Date",
    "Examples",
    "Ignored",
    "Real",
    "fit_columns",
    "fold_table",
    "split_table",
]
