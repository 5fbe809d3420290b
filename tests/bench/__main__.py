"""Runs the benches: all of them, or those named."""

import sys
from importlib import import_module

BENCHES = (
    "bench_load",
    "bench_plan",
    "bench_send",
    "bench_rates",
    "bench_schedule",
    "bench_workers",
    "bench_night",
    "bench_reconcile",
    "bench_compare",
    "bench_instead",
    "bench_rough_night",
    "bench_online",
    "bench_retention",
    "bench_sources",
    "bench_frames",
)

if __name__ == "__main__":
    for name in sys.argv[1:] or BENCHES:
        import_module(f"tests.bench.{name}").main()
