"""`slipstream profile run`: the load, its folder, and what is concluded from it."""
