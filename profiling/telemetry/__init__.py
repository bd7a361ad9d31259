"""Telemetry: what a machine, its GPUs and the processes of a server did, sampled beside a load or read for a scrape.

`records` says what is known of a moment, `sampler` writes moments to a file and reads them again; `machine`,
`processes` and `gpus` are the three sources. Any room may import it; it imports none.
"""
