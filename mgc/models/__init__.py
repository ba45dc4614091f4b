"""Networks (logits out) and the bundle they travel in."""
