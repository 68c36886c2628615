"""What is on the disk, written so that nothing is lost."""
