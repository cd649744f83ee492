"""A file system of its own in a file, to be filled up or cut off from its device: needs root and loop devices."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
from pathlib import Path

_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
_WITHOUT_LOG_FLUSH = 2


def can_be_made() -> bool:
    """Whether this user and machine have what a disk needs."""
    return os.geteuid() == 0 and Path("/usr/sbin/mkfs.ext4").exists() and Path("/dev/loop-control").exists()


class Disk:
    """An ext4 file system in a file."""

    def __init__(self, directory: Path, size: int = 1 << 30) -> None:
        self._image, self.mount_point = directory / "disk.img", directory / "disk"
        self.mount_point.mkdir()
        with self._image.open("wb") as image:
            image.truncate(size)
        # No blocks kept back for root, which the tests are: full is to be full.
        subprocess.run(["/usr/sbin/mkfs.ext4", "-q", "-m", "0", self._image], check=True)

    def mount(self) -> None:
        """Make it visible below ``mount_point``."""
        subprocess.run(["mount", "-o", "loop", self._image, self.mount_point], check=True)

    def unmount(self) -> None:
        """Take it away; nobody may use it any more."""
        subprocess.run(["umount", self.mount_point], check=True)

    def detach(self) -> None:
        """Take it away for good, now or as soon as nobody uses it any more."""
        subprocess.run(["umount", "--lazy", self.mount_point], check=True)

    def cut(self) -> None:
        """Let nothing more reach the device, not even the journal that is in memory."""
        root = os.open(self.mount_point, os.O_RDONLY)
        fcntl.ioctl(root, _SHUTDOWN, struct.pack("I", _WITHOUT_LOG_FLUSH))
        os.close(root)

    def fill(self) -> None:
        """Leave no room at all."""
        with (self.mount_point / "filling").open("wb", buffering=0) as filling, contextlib.suppress(OSError):
            end, size = 0, 1 << 30
            while size:
                try:
                    os.posix_fallocate(filling.fileno(), end, size)
                    end += size
                except OSError:
                    size //= 2

    def clear(self) -> None:
        """Give the room back."""
        (self.mount_point / "filling").unlink()
