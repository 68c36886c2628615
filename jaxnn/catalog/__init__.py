"""Reads run directories, without the code that trained the runs."""
