"""Bulk device assignments for Telemetron: a CSV in, paced bulk calls out, one outcome for every row."""

__version__ = "0.1.0"
