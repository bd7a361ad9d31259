"""What the control groups of this process grant it: a container's memory and CPU are theirs, not the machine's.

Sources: https://docs.kernel.org/admin-guide/cgroup-v2.html and .../cgroup-v1/memory.html.
"""

from dataclasses import dataclass
from pathlib import Path

_UNLIMITED = 1 << 60
"""Version 1 says "no limit" with the largest number of whole pages."""


@dataclass(frozen=True, slots=True)
class Limits:
    """None means that nothing limits it; ``memory_used_bytes`` leaves out what the kernel can drop (file cache)."""

    memory_bytes: int | None = None
    memory_used_bytes: int | None = None
    cpus: float | None = None


def read_limits(mounted: Path = Path("/sys/fs/cgroup"), of: Path = Path("/proc/self/cgroup")) -> Limits:
    """The tightest limits on the way from this process's groups up to the root; none where they cannot be read."""
    groups = dict[str, str]()
    for line in _text(of).splitlines():
        _, controllers, path = line.split(":", 2)
        groups |= dict.fromkeys(controllers.split(","), path)
    if (mounted / "cgroup.controllers").exists():
        return _version_2(_ancestors(mounted, groups.get("", "/")))
    memory = _ancestors(mounted / "memory", groups.get("memory", "/"))
    cpu = _ancestors(mounted / "cpu", groups.get("cpu", "/"))
    return _version_1(memory, cpu)


def _ancestors(root: Path, path: str) -> list[Path]:
    """The folders of a group and of those above it. A container may see its group as the root, under another path."""
    folder = root / path.strip("/")
    if not folder.is_dir():
        return [root]
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]


def _version_2(folders: list[Path]) -> Limits:
    limited = [(limit, folder) for folder in folders if (limit := _number(folder / "memory.max")) is not None]
    memory, where = min(limited, default=(None, None))
    used = None
    if where is not None:
        used = max(0, (_number(where / "memory.current") or 0) - _stat(where, "inactive_file"))
    quotas = (_text(folder / "cpu.max").split() for folder in folders)
    return Limits(memory, used, _fewest([(_int(parts[0]), _int(parts[1])) for parts in quotas if len(parts) == 2]))


def _version_1(memory_folders: list[Path], cpu_folders: list[Path]) -> Limits:
    limited = [
        (limit, folder)
        for folder in memory_folders
        if (limit := _number(folder / "memory.limit_in_bytes")) is not None and limit < _UNLIMITED
    ]
    memory, where = min(limited, default=(None, None))
    used = None
    if where is not None:
        used = max(0, (_number(where / "memory.usage_in_bytes") or 0) - _stat(where, "total_inactive_file"))
    quotas = [(_number(path / "cpu.cfs_quota_us"), _number(path / "cpu.cfs_period_us")) for path in cpu_folders]
    return Limits(memory, used, _fewest(quotas))


def _fewest(quotas: list[tuple[int | None, int | None]]) -> float | None:
    return min((quota / period for quota, period in quotas if quota and period and quota > 0), default=None)


def _stat(folder: Path, name: str) -> int:
    rows = (line.split() for line in _text(folder / "memory.stat").splitlines())
    return next((int(row[1]) for row in rows if row[0] == name), 0)


def _number(path: Path) -> int | None:
    return _int(_text(path).strip())


def _int(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:  # `max`, or an empty file
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
