"""Views of a track: one transform a file; choosing (`draw`) apart from applying (`chain`)."""
