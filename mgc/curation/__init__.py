"""What people do with predictions: similar tracks, near-duplicates, the review queue, tags in files."""
