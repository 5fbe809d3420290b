"""The command `init`: inspect a file, ask what is unclear, and write a profile."""
