"""What the samples of a run come to: metrics, checks of the run itself, verdicts, and all of it for other programs."""
