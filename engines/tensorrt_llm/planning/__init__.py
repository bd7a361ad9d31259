"""Before any work: cards, shapes and what fits and can be built of them."""
