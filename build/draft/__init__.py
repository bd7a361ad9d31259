"""Speculative drafts: made from the merged model, measured beside no draft at all, kept where they pay."""
