"""A comparison told: in words, on a terminal, as a report."""
