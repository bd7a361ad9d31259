"""The bundle that a model inside Triton loads from, once its signature is what the settings demand."""

import os
from pathlib import Path

from slipstream import SlipstreamError
from slipstream.ensemble.bundle import Bundle
from slipstream.ensemble.triton import tensors
from slipstream.settings import Settings


def admitted_bundle(args: dict[str, str]) -> Bundle:
    """Open the bundle that a model's ``parameters`` name.

    A model can be loaded without `slipstream serve` before it: by a Triton that was started by hand, and by one that
    is started again long after the server checked.

    Raises:
        KeyUnusable, SignatureRefused: see `slipstream.ensemble.signing.trust.admit`.
    """
    from slipstream.ensemble.signing.trust import SEAL, admit

    bundle = Bundle.open(Path(tensors.parameters(args)["bundle"]))
    try:
        admit(bundle.path, Settings(), os.environ.get(SEAL, ""))
    except SlipstreamError as error:  # Triton tells the message and nothing else
        raise type(error)(f"{error.message}; try: {error.remedy}", error.remedy) from error
    return bundle


__all__ = ["admitted_bundle"]
