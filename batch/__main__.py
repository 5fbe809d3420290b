"""`python -m batch` is `telemetron-batch`."""

from batch.cli import main

if __name__ == "__main__":
    main(prog_name="telemetron-batch")
