"""One process, no Ray: batches, losses, the loop."""
