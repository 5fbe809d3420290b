"""Answers become one outcome for each row, and the files that tell of it."""
