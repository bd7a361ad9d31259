"""OpenVINO on any x86-64 CPU: the embedded default target."""
