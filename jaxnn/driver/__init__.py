"""The loop on the host that dispatches chunks of steps."""
