"""A model's process ends with the Triton that started it."""

import os
import threading
from time import sleep

_POLL_S = 0.5


def exit_with_parent() -> None:
    """Watch the parent, and end this process at once when it is gone.

    Triton's stub notices by itself, but does not get to its end while a thread waits for an answer of the dead parent,
    as one that sets a metric does.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            sleep(_POLL_S)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
