"""Stands in for ``ncu``, which needs a GPU: takes its options, starts the program, writes a report, ends the program.

``FAKE_NCU`` says how it goes: ``fine``; ``forbidden``, ``nothing``: no report, and the real one's words; ``endless``:
until it is interrupted; ``stuck``: likewise, though it measured all; ``deaf``: whatever it is told, which it writes
beside the report. What it was called with is appended to
``FAKE_NCU_CALLS``. A report is what its import prints.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

REPORTS = Path(__file__).parent / "reports"
WORDS = {
    "forbidden": "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access the counters",
    "nothing": "==WARNING== No kernels were profiled.",
}
METRICS = """Device NVIDIA H200 (GH100)
--------------------------------- ------- ---- -----------------
Metric Name                       Metric Type  Metric Unit  Metric Description
--------------------------------- ------- ---- -----------------
dram__bytes                       Counter byte # of bytes accessed in DRAM
sm__ops_path_tensor_src_bf16_dst_fp32 Counter  # of math ops executed in Tensor path
sm__ops_path_tensor_src_bf16_dst_fp32_sparsity_off Counter  # of math ops executed in Tensor path
sm__ops_path_tensor_src_fp8_dst_fp32  Counter  # of math ops executed in Tensor path
"""


def main() -> int:
    arguments, mode = sys.argv[1:], os.environ.get("FAKE_NCU", "fine")
    with Path(os.environ["FAKE_NCU_CALLS"]).open("a", encoding="utf-8") as calls:
        calls.write(json.dumps(arguments) + "\n")
    if arguments == ["--query-metrics"]:
        print(METRICS, end="")
        return 0
    if arguments[0] == "--import":
        content = Path(arguments[1]).read_text(encoding="utf-8")
        print(content, end="")
        return 0 if content.startswith(("==PROF==", '"ID"')) else 1
    return profile(arguments, mode)


def profile(arguments: list[str], mode: str) -> int:
    place = 0
    while arguments[place].startswith("--"):
        place += 1 if arguments[place] in ("--nvtx", "--force-overwrite") else 2
    report, program = Path(arguments[arguments.index("--export") + 1]), arguments[place:]
    interrupted: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: interrupted.append(number))
    if mode in WORDS:
        print(WORDS[mode], flush=True)
    child = subprocess.Popen(program)
    print(f"==PROF== Connected to process {child.pid}", flush=True)
    launches = 0 if mode in ("endless", "deaf") else int(arguments[arguments.index("--launch-count") + 1])
    for number in range(launches):
        print(f'==PROF== Profiling "kernel" - {number}: 0%....50%....100% - 9 passes', flush=True)
    enough = Path(os.environ.get("FAKE_SERVER_ASKED", "/nonexistent"))
    while child.poll() is None and (mode == "deaf" or not interrupted):
        if interrupted:
            report.with_suffix(".interrupted").touch()
        if mode not in ("endless", "stuck", "deaf") and (not os.environ.get("FAKE_SERVER_ASKED") or enough.exists()):
            break
        time.sleep(0.02)
    if mode in ("fine", "endless", "stuck"):
        name = os.environ.get("FAKE_NCU_REPORT", "base-units.csv")
        report.write_text((REPORTS / name).read_text(encoding="utf-8"), encoding="utf-8")
    child.kill()
    return child.wait() and 0


if __name__ == "__main__":
    sys.exit(main())
