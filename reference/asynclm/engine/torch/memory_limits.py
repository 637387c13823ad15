"""How much KV cache there may be, where the operator does not say: a share of what is free once weights are loaded."""

from __future__ import annotations

import os
from pathlib import Path

import torch

CPU_SHARE = 0.5
"""Main memory has other users, and a prefill's own tensors and swapped pages of files need some too."""

GPU_SHARE = 0.85
"""The rest is for what a forward pass allocates."""

UNKNOWN_BYTES = 4 << 30
"""What is taken to be free where the system does not tell."""


def kv_memory(device: torch.device, wanted_mib: int | None) -> int:
    """Bytes of KV cache that there may be on a device.

    Args:
        device: where caches live.
        wanted_mib: what the operator allows, or None for a share of what is free now.
    """
    if wanted_mib is not None:
        return wanted_mib << 20
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free * GPU_SHARE)
    return int(free_memory() * CPU_SHARE)


def free_memory(root: Path = Path("/")) -> int:
    """Bytes of main memory that this process can still get: the machine's, or less if its cgroup is limited.

    Args:
        root: where the system's files are.
    """
    groups = [_left_in_group(folder) for folder in _groups(root)]
    found = [size for size in (_available(root), *groups) if size is not None]
    return max(0, min(found)) if found else UNKNOWN_BYTES


def _available(root: Path) -> int | None:
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (ValueError, OSError, AttributeError):
        return None


def _groups(root: Path) -> list[Path]:
    """The folders of the process's memory cgroup and of those above it, in either version."""
    folders = [root / "sys/fs/cgroup", root / "sys/fs/cgroup/memory"]
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            base = folders[1] if controllers else folders[0]
            parts = [part for part in path.split("/") if part]
            folders += [base.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
    return folders


def _left_in_group(folder: Path) -> int | None:
    """What a cgroup's limit leaves; cached files in it can be given back."""
    for limit, used, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            most = int((folder / limit).read_text())
            current = int((folder / used).read_text())
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            return most - current + int(stat.get(cached, "0"))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return None
