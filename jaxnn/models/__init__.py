"""Models: networks of many layers, under the names they go by, and the bridge to Flax."""
