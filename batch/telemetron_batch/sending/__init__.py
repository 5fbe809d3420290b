"""Calls become answers: paced, retried, taken apart, and each attempt in the journal before it leaves."""
