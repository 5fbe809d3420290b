"""Files, locks, leases, spill files, logs, clock and threads. Knows nothing about rows or calls."""
