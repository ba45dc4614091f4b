"""One process, no Ray: from features to probabilities."""
