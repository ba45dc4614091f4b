"""Decoding in a child process, bounded in seconds and memory."""
