"""mgc: genre, tags, confidence and embeddings for a whole music catalogue, on a Ray cluster."""

__version__ = "0.1.0"
