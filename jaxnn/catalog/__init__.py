"""Reading the directories of runs."""
