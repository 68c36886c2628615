"""Files of a run: checkpoints, the journal and recordings, written atomically."""
