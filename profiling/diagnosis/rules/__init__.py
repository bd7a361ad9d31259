"""One cause each: `check` says what it found in a case, or None."""
