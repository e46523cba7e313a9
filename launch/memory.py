"""What the kernel says of memory: how much may still be taken here, and how often it ended a process for want of it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/")
#: What limits a container: files with the most that it may take and what it has taken, of cgroups 2 and 1.
GROUPS = (
    ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current"),
    ("sys/fs/cgroup/memory/memory.limit_in_bytes", "sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def available_bytes(root: Path = ROOT) -> int | None:
    """Return how many bytes may still be taken here, in a container perhaps fewer; None where that is not told."""
    room = []
    if (kib := _entry(root / "proc/meminfo", "MemAvailable:")) is not None:
        room.append(1024 * kib)
    for most, taken in GROUPS:
        try:
            room.append(max(0, int((root / most).read_text()) - int((root / taken).read_text())))
        except (OSError, ValueError):  # there is no such group, or it is without a limit
            continue
    return min(room, default=None)


def kills(root: Path = ROOT) -> int:
    """Return how many processes this system has killed for want of memory since it started; 0 where that is not told."""
    return _entry(root / "proc/vmstat", "oom_kill") or 0


def _entry(path: Path, name: str) -> int | None:
    try:
        for line in path.read_text().splitlines():
            words = line.split()
            if words[:1] == [name]:
                return int(words[1])
    except (OSError, ValueError, IndexError):
        pass
    return None
