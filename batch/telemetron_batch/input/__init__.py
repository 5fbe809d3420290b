"""What arrives: files in any spelling become rows, and what is wrong with a row is said here."""
