"""A profile to look at: one HTML file, and a trace for Perfetto."""
