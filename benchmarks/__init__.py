"""Benchmarks: ``bench.py`` (``make bench``) and the main job, ``serialized_writes.py`` (``make demo``)."""
