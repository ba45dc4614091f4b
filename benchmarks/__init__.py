"""The figures of the README: `make bench`, or `python -m benchmarks [NAME …]`."""
