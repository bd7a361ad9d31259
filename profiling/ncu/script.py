"""A capture by hand, as bash for a machine with a GPU: what `capture` does, in commands to be read and changed."""

import json
import math
import shlex

from slipstream.loadtest.credentials import API_KEY
from slipstream.profiling.ncu.capture import REPORT, WRITES_WITHIN_S, Plan, options
from slipstream.profiling.ncu.load import question

_PORT = 8080
_TENSOR = r"""# the counters of tensor cores that this version has for this card
tensor=$(ncu --query-metrics | grep -o '^sm__ops_path_tensor_src_[a-z0-9_]*' | grep -v _sparsity_ \
  | sort -u | sed 's/.*/&.sum,&.sum.peak_sustained/' | paste -sd, -)
"""
# The key is in no command line, which every user of the machine may read.
_ASK = f"""ask() {{
  asked=0
  while running; do
    asked=$((asked + 1))
    status=$(curl --noproxy '*' --silent --output /dev/null --write-out '%{{http_code}}' \\
      --max-time "$((deadline - SECONDS + 1))" \\
      --header @<(printf %s "${{{API_KEY}:+Authorization: Bearer ${API_KEY}}}") \\
      --header 'Content-Type: application/json' \\
      --data "$(printf {shlex.quote(json.dumps(question("%s.%s")))} "$1" "$asked")" "$url/v1/chat/completions") || true
    case $status in
      200) ;;
      40?) echo "the server refuses the questions with $status" >&2; kill -INT "$ncu" 2> /dev/null || true; return ;;
      *) sleep 1 ;;
    esac
  done
}}"""


def script(plan: Plan, bundle: str | None) -> str:
    """It ends by itself: with the tool, or ``max_time_s`` after its start; Ctrl-C ends it early with what there is."""
    serve = ["slipstream", "serve", *(["--bundle", bundle] if bundle else []), "--port", str(_PORT)]
    return "\n".join(
        (
            "command -v curl > /dev/null || { echo 'install curl first' >&2; exit 2; }",
            f"rm -f {REPORT} report.csv  # of an earlier run, which would be read as this one's",
            _TENSOR.rstrip(),
            f"deadline=$((SECONDS + {math.ceil(plan.max_time_s)})) url=http://127.0.0.1:{_PORT}",
            "set -m  # a process group of its own: Ctrl-C is for this script, which ends the tool in its turn",
            f'ncu {shlex.join(options(plan, REPORT, ()))} ${{tensor:+--metrics "$tensor"}} \\',
            f"  {shlex.join(serve)} &",
            "ncu=$!",
            "set +m",
            'end() { kill -KILL -- "-$ncu" 2> /dev/null || true; }',
            "trap end EXIT",
            "trap 'deadline=0' INT  # which ends a sleep as well",
            'running() { kill -0 "$ncu" 2> /dev/null && [ "$SECONDS" -lt "$deadline" ]; }',
            _ASK,
            "until curl --noproxy '*' --silent --fail --output /dev/null --max-time 5 \"$url/health/ready\"; do",
            "  running || break",
            "  sleep 1 || true",
            "done",
            f"# {plan.streams} questions in flight until ncu has what it wants and ends the server",
            f'for stream in $(seq {plan.streams}); do ask "$stream" & done',
            "while running; do sleep 1 || true; done",
            'kill -INT "$ncu" 2> /dev/null || true  # it writes what it has',
            f"deadline=$((SECONDS + {math.ceil(WRITES_WITHIN_S)}))",
            "while running; do sleep 1 || true; done",
            "end",
            "wait",
            f"[ -f {REPORT} ] || {{ echo 'ncu measured nothing: it says above why' >&2; exit 2; }}",
            f"ncu --import {REPORT} --csv --page raw > report.csv",
            "slipstream profile ncu --from report.csv",
        )
    )


__all__ = ["script"]
