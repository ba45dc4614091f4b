"""Genre and tags into files and back out."""
