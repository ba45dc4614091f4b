"""Studies of the literature: an experiment runs many systems under many protocols and writes one page."""
