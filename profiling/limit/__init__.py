"""How fast a bundle could be on this machine: what a token makes it read and compute, and what the machine can do.

A leaf: every room may import it, and it reads files only.
"""
