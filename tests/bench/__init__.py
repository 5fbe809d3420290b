"""Measurements: figures and ratios for people; nothing here asserts."""

import os

os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # as the program sets it
