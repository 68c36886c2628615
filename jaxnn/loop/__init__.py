"""A training run is a pure function, and its compiled forms."""
