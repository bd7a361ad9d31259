"""The requests of a profile as timelines: stages, sums, shares, the slow tail, on one clock."""
