"""What became of a run, by number, as compiled programs and files hold it."""

RUNNING, STOPPED, DROPPED, DIVERGED, EMPTY = range(5)
STATUSES = ("done", "stopped", "dropped", "diverged", "empty")
"""What became of a run, by number: it did all its steps, its patience ended, a selection dropped
it, or its loss was not finite. `empty` is a slot that only fills up a device."""
