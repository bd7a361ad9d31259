"""Engine targets: how a checkpoint becomes an engine, how the engine runs, which host it needs."""
