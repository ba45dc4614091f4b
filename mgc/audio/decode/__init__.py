"""From a file's bytes to mono samples, whatever the container and however broken."""
