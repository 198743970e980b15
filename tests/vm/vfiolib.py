# SPDX-License-Identifier: GPL-2.0
"""VFIO without QEMU, for tests in Python: a process that maps its own memory for an
assigned device. (tests/vm/src/vfio_lib.h is the same in C, with DMA.)

    with Container(edu(0)) as c:
        mem = anonymous(4 * MB)
        c.map(address(mem), 0, MB)
        c.unmap(0, MB)
    with Pinner() as p:         # another process does so, on command
        p.tell('open', edu(0))
        p.tell('memory', 'small', 4)
        p.tell('map', 0, 'small', 0, 256)
"""
import array
import ctypes
import fcntl
import mmap
import os
import socket
import struct
import subprocess
import sys

from qemulib import MB, PAGE, check

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


# --- a process that pins, on command ---------------------------------------------

def pinner(name):
    """Commands on stdin, a word for each on stdout: ok, or the errno. Memory is in MiB, as
    are addresses; what is mapped, in pages."""
    set_name(name.encode())
    containers, mems = [], {}
    for line in sys.stdin:
        word, *args = line.split()
        try:
            if word == 'open':
                containers.append(Container(args[0]))
            elif word == 'memory':
                kind, size = args[0], int(args[1]) * MB
                mems[kind] = shared_file(kind, size) if kind[0] == '/' else anonymous(size, huge=kind == 'huge')
            elif word == 'map':
                containers[int(args[0])].map(address(mems[args[1]]), int(args[2]) * MB, int(args[3]) * PAGE)
            elif word == 'unmap':
                containers[int(args[0])].unmap(int(args[1]) * MB, int(args[2]) * PAGE)
            elif word == 'pass':
                # Whoever has the socket of stdin keeps the container
                fds = array.array('i', [containers[0].fd, containers[0].group])
                with socket.socket(fileno=os.dup(0)) as sock:
                    sock.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
            elif word == 'execute':
                # Itself, with its containers open; their memory is no longer this process's
                for c in containers:
                    os.set_inheritable(c.fd, True)
                    os.set_inheritable(c.group, True)
                print('ok', flush=True)
                os.execv(sys.executable, [sys.executable, os.path.abspath(__file__), name])
            print('ok', flush=True)
        except OSError as e:
            print(e.errno, flush=True)


class Pinner:
    """prefix: a command that runs it."""

    def __init__(self, name='pinner', prefix=()):
        self.ours, theirs = socket.socketpair()
        self.proc = subprocess.Popen([*prefix, sys.executable, os.path.abspath(__file__), name],
                                     stdin=theirs, stdout=subprocess.PIPE, text=True)
        theirs.close()
        self.pid = self.proc.pid
        self.tell('hello')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.proc.kill()
        self.proc.wait()

    def tell(self, *words, want='ok'):
        self.ours.sendall((' '.join(map(str, words)) + '\n').encode())
        check(' '.join(map(str, words)), self.proc.stdout.readline().strip(), str(want))

    def end_but_keep(self):
        """It ends; the fds that keep its first container."""
        self.tell('pass')
        fds = array.array('i')
        for level, kind, data in self.ours.recvmsg(1, socket.CMSG_SPACE(8))[1]:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(data)
        self.ours.shutdown(socket.SHUT_WR)
        self.proc.wait()
        return fds


if __name__ == '__main__':
    pinner(sys.argv[1])
