"""What may be concluded from n requests: binomial verdicts, intervals of quantiles, bootstraps. Numbers in and out."""
