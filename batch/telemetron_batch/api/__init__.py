"""One request to Telemetron, and what its answer means."""
