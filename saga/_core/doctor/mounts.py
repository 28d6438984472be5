"""Find the file system that a path lies on, from the words of the kernel; pure."""

from __future__ import annotations

from dataclasses import dataclass

_FIELDS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """Be a mounted file system; `kind` is such as ext4 or nfs4, "" where nothing is known."""

    kind: str = ""
    is_read_only: bool = False


def mount_of(path: str, mounts: str) -> Mount:
    """Return the mount that an absolute path lies on: of the lines of /proc/mounts the longest that fits, the last."""
    best, found = "", Mount()
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < _FIELDS:
            continue
        at = fields[1].replace("\\040", " ").rstrip("/")
        if (path == at or path.startswith(f"{at}/")) and len(at) >= len(best):
            best, found = at, Mount(kind=fields[2], is_read_only="ro" in fields[3].split(","))
    return found
