"""Keeping a collection at what a git repository holds: its revisions named, followed, and asked for."""
