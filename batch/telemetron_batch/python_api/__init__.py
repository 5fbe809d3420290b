"""The Python interface: `telemetron_batch.plan`, `run`, `resume`, `report` and `verify`."""
