"""Tables and files: storage, schema, catalogue, labels, splits, shards, commits."""
