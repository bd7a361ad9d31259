"""Slipstream beside another server under the same load: ``python -m slipstream.loadtest.peers``."""
