"""Read input files of many dialects as validated rows; report what is wrong with each row."""
