"""Pictures: figures of arrays and records, which know nothing of the runs that made them."""
