"""The report of a run: one HTML file that needs no network, no script and no plotting library.

`charts` and `page` know nothing of load tests; what measures something else can use them for a report of its own.
"""
