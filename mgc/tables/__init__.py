"""What runs write and readers open: schemas, the run log and its index, diff, lease, publish, compact, shards."""
