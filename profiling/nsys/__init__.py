"""Nsight Systems: a window of a load is captured, exported to SQLite and read back by stage.

`tool` finds ``nsys`` on this machine and `session` runs its sessions; `serving` starts a server inside one and
`capture` drives the load. What was captured is read with SQL: `export` opens it, `stages`, `calls`, `gpu` and
`requests` ask it, `results` is what they find and `reading` calls them all; `again` reads what was captured before.
"""
