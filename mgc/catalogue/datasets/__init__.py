"""Public data sets in their own layouts, as labels, groups and splits of a catalogue."""
