"""jaxnn: neural networks as pure functions, and training runs as one compiled program."""
