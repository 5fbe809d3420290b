"""Turn validated rows into calls in stages; compare runs, and check the user's brakes before sending."""
