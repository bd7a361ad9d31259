"""DeepEval without its telemetry: nothing is sent and nothing is written."""

import os

from slipstream import EnvironmentFault

_QUIET = {
    "DEEPEVAL_TELEMETRY_OPT_OUT": "1",
    "DEEPEVAL_DISABLE_DOTENV": "1",  # it would read .env files of the working directory into this process
    "CONFIDENT_TRACING_ENABLED": "NO",
    "DEEPEVAL_EVAL_MODE": "llm",  # the others ask a service of theirs
}


class DeepEvalMissing(EnvironmentFault):
    """The golden set cannot be measured."""


def quieten_deepeval() -> None:
    """Import DeepEval so that it keeps to itself; to be called before anything else is imported from it.

    Raises:
        DeepEvalMissing: it is not installed.
    """
    os.environ.update(_QUIET)
    try:
        import deepeval  # noqa: F401
    except ImportError as error:
        raise DeepEvalMissing(
            f"the golden set is measured with DeepEval, which cannot be imported: {error}",
            "make run installs it; or pip install --no-deps -c constraints.txt deepeval",
        ) from error


__all__ = ["DeepEvalMissing", "quieten_deepeval"]
