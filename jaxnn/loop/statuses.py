"""The status of a run, as an integer that compiled programs and files store."""

RUNNING, STOPPED, DROPPED, DIVERGED, EMPTY = range(5)
STATUSES = ("running", "stopped", "dropped", "diverged", "empty")
"""The names of the statuses, by number. `running` includes runs that have completed all steps.
A run is `stopped` when its patience ends, `dropped` by a selection, and `diverged` when its loss is
not finite. An `empty` slot is padding, so that every device has the same number of slots."""
