"""Acting on predictions: neighbours, near-duplicates, the review queue, genre and tags written into files."""
