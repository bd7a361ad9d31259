"""Profiling: which stage a slow answer waited in, what the machine did then, and how far from its limit it is."""
