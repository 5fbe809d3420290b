"""Input rows as columns."""
