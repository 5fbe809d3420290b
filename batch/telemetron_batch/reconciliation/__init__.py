"""Turn the answers of a run into one outcome for each row."""
