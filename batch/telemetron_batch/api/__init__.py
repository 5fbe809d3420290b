"""The Telemetron API: send one request, read and classify its answer."""
