"""Progress of a run while it trains."""
