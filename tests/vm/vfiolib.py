# SPDX-License-Identifier: GPL-2.0
"""VFIO without QEMU, for tests in Python: a process that maps its own memory for an
assigned device. (tests/vm/src/vfio_lib.h is the same in C, with DMA.)

    with Container(edu(0)) as c:
        mem = anonymous(4 * MB)
        c.map(address(mem), 0, MB)
        c.unmap(0, MB)
"""
import ctypes
import fcntl
import mmap
import os
import struct

# linux/vfio.h
CHECK_EXTENSION, SET_IOMMU, SET_CONTAINER, MAP_DMA, UNMAP_DMA = 0x3b65, 0x3b66, 0x3b68, 0x3b71, 0x3b72
TYPE1, READ_AND_WRITE = 1, 3
MAP_HUGETLB = 0x40000


class Container:
    """With one device, until its fds are closed. What is refused is an OSError."""

    def __init__(self, device):
        self.fd = os.open('/dev/vfio/vfio', os.O_RDWR)
        group = os.path.basename(os.readlink(f'/sys/bus/pci/devices/{device}/iommu_group'))
        self.group = os.open(f'/dev/vfio/{group}', os.O_RDWR)
        fcntl.ioctl(self.group, SET_CONTAINER, struct.pack('i', self.fd))
        fcntl.ioctl(self.fd, SET_IOMMU, TYPE1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.group)
        os.close(self.fd)

    def ioctl(self, cmd, arg):
        fcntl.ioctl(self.fd, cmd, arg)

    def map(self, addr, iova, size):
        self.ioctl(MAP_DMA, struct.pack('IIQQQ', 32, READ_AND_WRITE, addr, iova, size))

    def unmap(self, iova, size):
        self.ioctl(UNMAP_DMA, struct.pack('IIQQ', 24, 0, iova, size))


def anonymous(size, huge=False):
    """Private memory: of small pages, or from hugetlb."""
    mem = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | (MAP_HUGETLB if huge else 0))
    if not huge:
        mem.madvise(mmap.MADV_NOHUGEPAGE)
    return mem


def shared_file(path, size):
    with open(path, 'w+b') as f:
        f.truncate(size)
        return mmap.mmap(f.fileno(), size)


def address(mem):
    return ctypes.addressof(ctypes.c_char.from_buffer(mem))


def set_name(name):
    """Of this process, in bytes."""
    ctypes.CDLL(None).prctl(15, name, 0, 0, 0)
