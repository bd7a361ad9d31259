"""Russian questions in rough English: the way of Russian through an English embedder and English terms."""
