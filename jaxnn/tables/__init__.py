"""Tables: from a file or a data frame of mixed columns to arrays, and from outputs to answers.

A table is a polars `DataFrame`, whatever it was read from. What training makes of its columns is
fitted on the training part, and is data that is saved with a run:

    table = jaxnn.read_table("wine.csv")                  # a file, pandas, polars, Arrow, a dict
    train, test = split_table(table, 0.2, stratify="quality")
    columns = fit_columns(train, labels="quality")        # means, fills, names of classes
    data = columns.encode(train)                          # {"inputs": ..., "labels": ...}
    predictions = columns.decode(outputs)                 # classes by name, numbers in their unit
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
