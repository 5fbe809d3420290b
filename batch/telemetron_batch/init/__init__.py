"""The command `init`: looks at a file, asks, and writes a profile."""
