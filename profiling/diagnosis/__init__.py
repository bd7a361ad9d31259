"""Rules that name the likely cause of slow answers, each with its evidence and a remedy."""
