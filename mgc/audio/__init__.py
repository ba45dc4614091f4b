"""From bytes to features: decode, segment, log-mel. Knows no URI, no Ray, no torch."""
