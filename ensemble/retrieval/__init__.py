"""From source trees to a searchable collection: walk, chunk, embed, store, search."""
