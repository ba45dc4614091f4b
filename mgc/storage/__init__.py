"""A URI to bytes and back: a folder or an S3 prefix, atomic writes, conditional reads."""
