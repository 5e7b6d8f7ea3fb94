"""Benchmarks: time and memory beside a reference, in one run, printed as ratios."""
