"""Running: a training run as a pure function, and its drivers on the host."""
