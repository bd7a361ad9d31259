"""What a run will send, drawn from the seed before the first request: arrivals, prompts, lengths, the plan of all."""
