"""Benchmarks: the same work in this runtime and in its peers, compared before it is timed."""
