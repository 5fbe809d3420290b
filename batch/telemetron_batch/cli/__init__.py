"""The command line: commands, help, output and questions on a terminal."""
