"""A profile into the files of its folder."""

import json

from slipstream.profiling.report.page import render
from slipstream.profiling.report.trace import trace
from slipstream.profiling.run.conclusion import Profile
from slipstream.profiling.run.folder import ProfileFolder


def write(profile: Profile, folder: ProfileFolder) -> None:
    """``profile.json``, ``trace.json`` and ``report.html``."""
    plain = json.dumps(profile.as_dict(), ensure_ascii=False, indent=2, allow_nan=False)
    folder.profile.write_text(plain + "\n", encoding="utf-8")
    looked = (profile.telemetry, profile.engine)
    folder.trace.write_text(trace(profile.timeline, profile.received_ns, *looked, profile.start_ns), encoding="utf-8")
    folder.report.write_text(render(profile), encoding="utf-8")


__all__ = ["write"]
