"""Metrics with intervals, baselines, protocols, comparison, drift."""
