"""Training the embedder's adapter: code and the sentences that document it, pulled together."""
