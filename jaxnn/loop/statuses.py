"""How a run stands, by number, as compiled programs and files hold it."""

RUNNING, STOPPED, DROPPED, DIVERGED, EMPTY = range(5)
STATUSES = ("running", "stopped", "dropped", "diverged", "empty")
"""How a run stands, by number: it is running, or has done all its steps; its patience ended, a
selection dropped it, or its loss was not finite. `empty` is a slot that only fills up a device."""
