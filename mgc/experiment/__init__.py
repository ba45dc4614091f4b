"""Experiments: many systems under many protocols, cell by cell, and the page of what they gave."""
