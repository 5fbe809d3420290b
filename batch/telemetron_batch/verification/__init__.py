"""Verification: compare what customers hold with what a run did."""
