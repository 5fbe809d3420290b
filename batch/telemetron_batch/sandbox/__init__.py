"""The sandbox: an embedded stand-in for the Telemetron API, for trials and tests."""
