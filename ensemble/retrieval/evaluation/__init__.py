"""How good the search is: suites of corpora and queries, baselines, scores. Nothing that a server runs imports it."""
