"""The files of a run that people read."""
