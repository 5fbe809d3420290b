"""The embedded stand-in for the Telemetron API, to try things out and to test against."""
