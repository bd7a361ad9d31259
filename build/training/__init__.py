"""Training the sample adapter: dataset from an indexed code base, LoRA, evaluation on held-back questions."""
