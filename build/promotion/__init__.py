"""Promotion: which adapter is in production, how it got there, and the way back.

`comparison` holds the statistics, `standing` what the aliases and tags say, `journal` the record of every move in
MLflow, `moves` the moving itself, `promote` and `rollback` what a user asks for, `bundles` the registered bundles.
"""
