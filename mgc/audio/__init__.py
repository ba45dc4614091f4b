"""From bytes to features. Knows no URI, no Ray, no torch."""
