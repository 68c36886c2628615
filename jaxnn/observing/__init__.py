"""What is recorded of a network while it trains."""
