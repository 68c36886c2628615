"""Where a number that is not finite comes from."""
