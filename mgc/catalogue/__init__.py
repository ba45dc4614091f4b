"""From a listing and labels to a catalogue: one row a track, with its split."""
