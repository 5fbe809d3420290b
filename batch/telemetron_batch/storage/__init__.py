"""What is kept on disk: the journal, locks, files that appear whole or not at all, room for large columns."""
