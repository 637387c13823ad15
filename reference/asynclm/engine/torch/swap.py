"""Where swapped KV caches lie: pinned main memory beside a GPU; a file on CPU, where main memory is the device.

The file loses its name as soon as it is made, so nothing is left on the disk however the process ends. It is one for
all caches, since a thousand waiting sessions would use up the file descriptors of a process.
"""

from __future__ import annotations

import errno
import itertools
import os
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NewType, Protocol

import torch

SwapHandle = NewType("SwapHandle", int)

MINIMUM_FREE_BYTES = 256 << 20
"""What swapping leaves free on a disk, for everybody else."""

_GRAIN = 1 << 16
"""Extents are of whole multiples of this many bytes, so that freed ones fit others."""


class SwapFullError(RuntimeError):
    """There is no room to swap to; the cache is where it was, and the caller may drop it instead."""


class SwapStore(Protocol):
    """Holds KV caches away from the device. Used by one thread, but for `nbytes`."""

    @property
    def nbytes(self) -> int:
        """Bytes held; may be read from any thread."""
        ...

    def put(self, rows: torch.Tensor) -> SwapHandle:
        """Takes a copy; the caller may free its own at once.

        Raises:
            SwapFullError: there is no room.
        """
        ...

    def get(self, handle: SwapHandle) -> torch.Tensor:
        """A copy on the device, of the shape and dtype that was put; the handle stays valid until it is freed.

        Raises:
            MemoryError: the device has no room.
            OSError: the disk cannot be read.
        """
        ...

    def free(self, handle: SwapHandle) -> None:
        """Forgets what was put; unknown handles are ignored."""
        ...

    def close(self) -> None:
        """Frees everything."""
        ...


def open_swap(device: torch.device, folder: Path | None = None) -> SwapStore:
    """The store for a device.

    Args:
        device: where caches live when they are not swapped.
        folder: where to swap to on CPU; None for `swap_folder()`.

    Raises:
        OSError: the folder cannot be written.
    """
    return HostSwap(device) if device.type == "cuda" else FileSwap(folder or swap_folder())


def swap_folder() -> Path:
    """`$TMPDIR`; or else `/var/tmp` where there is one, as `/tmp` may be kept in memory; else the system's choice."""
    durable = Path("/var/tmp")
    if "TMPDIR" not in os.environ and os.access(durable, os.W_OK | os.X_OK):
        return durable
    return Path(tempfile.gettempdir())


@dataclass(frozen=True, slots=True)
class _Stored:
    start: int
    size: int
    shape: torch.Size
    dtype: torch.dtype


class FileSwap:
    """A `SwapStore` in one file without a name."""

    def __init__(
        self, folder: Path, *, free_bytes: Callable[[int], int] | None = None, minimum_free: int = MINIMUM_FREE_BYTES
    ) -> None:
        """Opens it.

        Args:
            folder: where; it must exist.
            free_bytes: what is free on the disk of a file descriptor; None to ask the system.
            minimum_free: bytes to leave free there.

        Raises:
            OSError: the folder is missing or cannot be written.
        """
        descriptor, name = tempfile.mkstemp(dir=folder, prefix="asynclm-swap-")
        os.unlink(name)
        self._descriptor = descriptor
        self._close = weakref.finalize(self, os.close, descriptor)
        self._free_bytes = free_bytes or _free_bytes
        self._minimum_free = minimum_free
        self._stored: dict[SwapHandle, _Stored] = {}
        self._numbers = itertools.count()
        self._extents = Extents()
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._nbytes

    def put(self, rows: torch.Tensor) -> SwapHandle:
        """See `SwapStore.put`."""
        data = _bytes(rows.contiguous())
        extent = _extent(rows.nbytes)
        end_before = self._extents.end
        start = self._extents.take(extent)
        try:
            if self._extents.end > end_before:
                self._grow(self._extents.end - end_before)
            _write(self._descriptor, data, start)
        except OSError as error:
            self._give_back(start, extent)
            raise SwapFullError(f"{extent >> 10} KiB do not fit: {error.strerror}") from None
        handle = SwapHandle(next(self._numbers))
        self._stored[handle] = _Stored(start, rows.nbytes, rows.shape, rows.dtype)
        self._nbytes += rows.nbytes
        return handle

    def get(self, handle: SwapHandle) -> torch.Tensor:
        """See `SwapStore.get`."""
        stored = self._stored[handle]
        try:
            rows = torch.empty(stored.shape, dtype=stored.dtype)
        except RuntimeError as error:  # torch's allocators raise nothing more specific on CPU
            raise MemoryError(f"KV cache of {stored.size} bytes: {error!s:.200}") from None
        _read(self._descriptor, _bytes(rows), stored.start)
        return rows

    def free(self, handle: SwapHandle) -> None:
        """See `SwapStore.free`."""
        stored = self._stored.pop(handle, None)
        if stored is not None:
            self._nbytes -= stored.size
            self._give_back(stored.start, _extent(stored.size))

    def close(self) -> None:
        """See `SwapStore.close`."""
        self._stored.clear()
        self._nbytes = 0
        self._close()

    def _grow(self, by: int) -> None:
        if self._free_bytes(self._descriptor) < by + self._minimum_free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _give_back(self, start: int, size: int) -> None:
        end_before = self._extents.end
        self._extents.give_back(start, size)
        if self._extents.end < end_before:
            os.ftruncate(self._descriptor, self._extents.end)


class Extents:
    """Places in a file, first fit; neighbours that are free become one.

    Attributes:
        end: where the last one in use ends; nothing beyond is needed.
    """

    def __init__(self) -> None:
        self.end = 0
        self._holes: list[tuple[int, int]] = []  # (start, end), in order, none touching another

    def take(self, size: int) -> int:
        """The start of a free place of this size."""
        for place, (start, end) in enumerate(self._holes):
            if end - start >= size:
                self._holes[place : place + 1] = [(start + size, end)] if end - start > size else []
                return start
        start = self.end
        self.end += size
        return start

    def give_back(self, start: int, size: int) -> None:
        """Frees a place that was taken."""
        holes: list[tuple[int, int]] = []
        for hole in sorted([*self._holes, (start, start + size)]):
            if holes and holes[-1][1] == hole[0]:
                holes[-1] = (holes[-1][0], hole[1])
            else:
                holes.append(hole)
        if holes[-1][1] == self.end:
            self.end = holes.pop()[0]
        self._holes = holes


class HostSwap:
    """A `SwapStore` in pinned main memory, copied to and from on a stream of its own beside the computation."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._stored: dict[SwapHandle, torch.Tensor] = {}
        self._numbers = itertools.count()
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._nbytes

    def put(self, rows: torch.Tensor) -> SwapHandle:
        """See `SwapStore.put`."""
        try:
            stored = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
        except RuntimeError as error:
            raise SwapFullError(f"{rows.nbytes >> 10} KiB do not fit: {error!s:.200}") from None
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            stored.copy_(rows, non_blocking=True)
        rows.record_stream(self._stream)  # its memory is used anew only when the copy is done
        handle = SwapHandle(next(self._numbers))
        self._stored[handle] = stored
        self._nbytes += stored.nbytes
        return handle

    def get(self, handle: SwapHandle) -> torch.Tensor:
        """See `SwapStore.get`."""
        stored = self._stored[handle]
        try:
            with torch.cuda.stream(self._stream):
                rows = stored.to(self._device, non_blocking=True)
        except torch.cuda.OutOfMemoryError as error:
            raise MemoryError(f"KV cache of {stored.nbytes} bytes: {error!s:.200}") from None
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._stream)
        rows.record_stream(current)
        return rows

    def free(self, handle: SwapHandle) -> None:
        """See `SwapStore.free`; torch keeps the pinned memory until copies from it are done."""
        stored = self._stored.pop(handle, None)
        if stored is not None:
            self._nbytes -= stored.nbytes

    def close(self) -> None:
        """See `SwapStore.close`."""
        self._stored.clear()
        self._nbytes = 0


def _bytes(rows: torch.Tensor) -> memoryview:
    return rows.view(-1).view(torch.uint8).numpy().data


def _extent(size: int) -> int:
    return max(1, -(-size // _GRAIN)) * _GRAIN


def _free_bytes(descriptor: int) -> int:
    disk = os.fstatvfs(descriptor)
    return disk.f_bavail * disk.f_frsize


def _write(descriptor: int, data: memoryview, start: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, start)
        data, start = data[written:], start + written


def _read(descriptor: int, data: memoryview, start: int) -> None:
    while data:
        read = os.preadv(descriptor, [data], start)
        if read == 0:
            raise OSError(errno.EIO, "the swap file is shorter than what was written to it")
        data, start = data[read:], start + read
