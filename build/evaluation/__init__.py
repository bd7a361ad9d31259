"""What a build measures of the engine it made: likelihood of text it never saw, golden answers, speed, memory."""
