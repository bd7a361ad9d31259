"""The reports that are kept here; ``reports/README.md`` says what they are."""

from pathlib import Path

REPORTS = Path(__file__).parent / "reports"


def report(name: str) -> str:
    return (REPORTS / name).read_text(encoding="utf-8")
