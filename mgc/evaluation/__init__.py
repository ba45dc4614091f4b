"""Metrics with intervals, and the pages that show them."""
