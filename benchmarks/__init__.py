"""Measurements: medians of paired runs in one go. `make bench`."""
