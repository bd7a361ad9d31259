"""Load tests that give a verdict: schedules drawn before the run, exact samples, SLOs proven, refuted or left open."""
