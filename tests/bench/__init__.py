"""Measurements: figures and ratios for people; nothing here asserts."""
