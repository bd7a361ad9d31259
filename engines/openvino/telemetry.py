"""Keeps OpenVINO, NNCF and Optimum from phoning home."""

import os
import sys


def switch_off_telemetry() -> None:
    """Make ``openvino_telemetry`` unimportable; call before the first import of openvino, nncf or optimum.

    NNCF and OpenVINO's converter send events unless the user opted out by a file below ``~/intel``, which importing
    the package creates. Both fall back to a stub when the package is missing, so hiding it leaves no file and opens no
    connection. The variables keep Optimum and Transformers from asking their hub about a local checkpoint.
    """
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # None makes the import fail (import system)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
