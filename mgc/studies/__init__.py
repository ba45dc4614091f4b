"""Studies: many systems under many protocols, and the page of what they gave."""
