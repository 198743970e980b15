# SPDX-License-Identifier: GPL-2.0
"""QEMU in the VM, for tests: start it, talk to it, be its guest's CPU, and look
at what it has pinned.

    with Qemu(binary, *ram(256), *vfio(edu(0)), accel='qtest') as q:
        Edu(q).dma_works(0x100000)
        pins(q.pid).pages('vfio')

    with Qemu(binary, *ram(256), *vfio(NVME), *guest(read='nvme0n1')) as q:
        q.guest_read('nvme0n1', NVME_SHA256)
        q.wait()
"""
import base64
import fcntl
import fnmatch
import glob
import contextlib
import json
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATCHED = REPO + '/build/qemu-10.0/obj/qemu-system-x86_64'
STOCK = REPO + '/build/qemu-10.0-stock/obj/qemu-system-x86_64'
NVME, NVME_SHA256 = os.environ.get('USERPIN_NVME_DEV'), os.environ.get('USERPIN_NVME_SHA256')
# How often to look whether something has happened: minutes at least, more on a busy host
LOOKS = 12000
PAGE = 4096
MB = 1 << 20
# Runs a command as root, but within RLIMIT_MEMLOCK
NO_CAP = ['setpriv', '--bounding-set=-ipc_lock', '--inh-caps=-ipc_lock', '--']


class Failed(Exception):
    """What a test found wrong."""


class Skip(Exception):
    """Why a test cannot run."""


def check(what, got, want):
    if got != want:
        raise Failed(f'{what}: {got!r}, not {want!r}')


def wait_for(what, true, looks=LOOKS):
    """Until true() returns something, which is returned."""
    for _ in range(looks):
        if got := true():
            return got
        time.sleep(0.05)
    raise Failed(f'it has not happened: {what}')


@contextlib.contextmanager
def setting(path, value):
    """A file of the kernel's that has this value meanwhile."""
    with open(path, encoding='utf-8') as f:
        old = f.read().split()[0]
    with open(path, 'w', encoding='utf-8') as f:
        f.write(str(value))
    try:
        yield
    finally:
        with open(path, 'w', encoding='utf-8') as f:
            f.write(old)


@contextlib.contextmanager
def failing(call):
    """QEMUs that are started meanwhile have a call that fails: tests/vm/src/fail_call.c."""
    lib = os.path.join(os.path.dirname(os.environ['USERPIN_MODULES']), 'tests/fail_call.so')
    os.environ.update(LD_PRELOAD=lib, FAIL_CALL=call)
    try:
        yield
    finally:
        del os.environ['LD_PRELOAD'], os.environ['FAIL_CALL']


# --- TAP ------------------------------------------------------------------------

class Tap:
    """t = Tap(); @t.case('what holds') above each function; sys.exit(t.run()): those
    that the command line names, by shell patterns, or all."""

    def __init__(self):
        self.cases = []

    def case(self, name):
        """A Skip skips it, another exception fails it."""
        return self.each((name,))

    def each(self, *rows):
        """A case for each (name, argument...)."""
        def add(function):
            self.cases += [(name, function, args) for name, *args in rows]
            return function
        return add

    def run(self):
        cases = [c for c in self.cases
                 if len(sys.argv) == 1 or any(fnmatch.fnmatch(c[0], p) for p in sys.argv[1:])]
        print(f'1..{len(cases)}', flush=True)
        bad = 0
        for n, (name, function, args) in enumerate(cases, 1):
            start = time.monotonic()
            try:
                function(*args)
                verdict, why = 'ok', ''
            except Skip as e:
                verdict, why = 'ok', f' # SKIP {e}'
            except Exception as e:      # pylint: disable=broad-except
                verdict, bad = 'not ok', bad + 1
                lines = f'{type(e).__name__}: {e}'.strip().splitlines()
                why = f' # {lines[0].replace("#", "")}'
                if not isinstance(e, Failed):
                    lines += traceback.format_exc().splitlines()
                for line in lines:
                    print('#   ' + line)
            print(f'# {name}: {time.monotonic() - start:.1f} s')
            print(f'{verdict} {n} {name}{why}', flush=True)
        return 1 if bad else 0


# --- a QEMU ---------------------------------------------------------------------

class Lines:
    """Lines to and from a QEMU. gone() is the exception to raise when it has ended."""

    def __init__(self, sock, gone):
        self.sock, self.gone, self.rest = sock, gone, b''

    def fill(self):
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b''
        if not data:
            raise self.gone()
        self.rest += data

    def get(self):
        while b'\n' not in self.rest:
            self.fill()
        line, self.rest = self.rest.split(b'\n', 1)
        return line.decode(errors='replace').rstrip('\r')

    def put(self, text):
        try:
            self.sock.sendall(text.encode() + b'\n')
        except (BrokenPipeError, ConnectionResetError):
            raise self.gone() from None


class QemuGone(Failed):
    """QEMU did not start, or has ended: with .code (of signals: negative) and .stderr."""

    def __init__(self, code, stderr):
        super().__init__(f'QEMU ended with {code}: {stderr.strip() or "it said nothing"}')
        self.code, self.stderr = code, stderr


class QmpError(Failed):
    """A command was refused: .cls and .desc."""

    def __init__(self, command, error):
        super().__init__(f'{command}: {error["desc"]}')
        self.cls, self.desc = error['class'], error['desc']


class Qemu:
    """A QEMU that runs: a QMP monitor, a serial console, and with accel='qtest' the
    qtest protocol. QemuGone is what a refused start raises. Leaving `with` kills it;
    nothing else does: what it is to do is waited for. memlock: RLIMIT_MEMLOCK in bytes,
    or 'unlimited'; prefix: a command that runs it; fds: descriptors that it gets."""

    def __init__(self, binary, *args, accel='kvm', machine='q35', memlock=None, prefix=(), fds=()):
        if not os.access(binary, os.X_OK):
            raise Skip(f'{os.path.relpath(binary, REPO)} is not built')
        args = [str(a) for a in args]
        self.events, self.said, self.code = [], [], None
        self.err = tempfile.TemporaryFile()
        ours, theirs = [], []
        command = [binary, '-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot',
                   '-L', '/usr/share/seabios', '-L', '/usr/share/qemu', '-accel', accel]
        for name in ['qmp', 'serial'] + ['qtest'] * (accel == 'qtest'):
            a, b = socket.socketpair()
            ours.append(Lines(a, self.gone))
            theirs.append(b)
            command += ['-chardev', f'socket,id=userpin-{name},fd={b.fileno()}']
        command += ['-mon', 'chardev=userpin-qmp,mode=control', '-serial', 'chardev:userpin-serial',
                    '-machine', machine + ',memory-backend=ram' * any('id=ram,' in a for a in args)]
        if accel == 'qtest':
            command += ['-qtest', 'chardev:userpin-qtest', '-qtest-log', 'none']
        elif accel == 'kvm':
            command += ['-cpu', 'host']
        limits = [] if memlock is None else ['prlimit', f'--memlock={memlock}']
        self.command_line = [*limits, *prefix, *command, *args]
        self.qmp, self.serial = ours[:2]
        self.qtest = Qtest(ours[2]) if accel == 'qtest' else None
        self.proc = subprocess.Popen(self.command_line, stdin=subprocess.DEVNULL, stdout=self.err,
                                     stderr=self.err, pass_fds=[s.fileno() for s in theirs] + list(fds))
        for s in theirs:
            s.close()
        self.pid = self.proc.pid
        try:
            self.hello = self.talk()['QMP']
            self.command('qmp_capabilities')
        except BaseException:
            self.kill()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    @property
    def stderr(self):
        """What it has said so far, on stdout, too."""
        size = os.fstat(self.err.fileno()).st_size
        return os.pread(self.err.fileno(), size, 0).decode(errors='replace')

    def gone(self):
        return QemuGone(self.wait(), self.stderr)

    def wait(self):
        """Its exit code, when it has ended."""
        if self.code is None:
            self.code = self.proc.wait()
        return self.code

    def kill(self):
        if self.code is None:
            self.proc.kill()
        return self.wait()

    def quit(self):
        try:
            self.command('quit')
        except QemuGone:
            pass
        return self.wait()

    # QMP

    def talk(self):
        """Its next message. Events are kept."""
        message = json.loads(self.qmp.get())
        if 'event' in message:
            self.events.append(message)
        return message

    def command(self, name, **arguments):
        self.qmp.put(json.dumps({'execute': name, 'arguments': arguments}))
        while True:
            message = self.talk()
            if 'error' in message:
                raise QmpError(name, message['error'])
            if 'return' in message:
                return message['return']

    def event(self, name):
        """The oldest event of that name, which it forgets: its data."""
        while True:
            for e in self.events:
                if e['event'] == name:
                    self.events.remove(e)
                    return e.get('data', {})
            self.talk()

    def hmp(self, line):
        return self.command('human-monitor-command', **{'command-line': line}).replace('\r', '')

    def hva(self, addr=0):
        """Where this guest-physical address is in QEMU's memory."""
        said = self.hmp(f'gpa2hva {addr:#x}')
        if not (m := re.search(r' is (0x[0-9a-f]+)', said)):
            raise Failed(f'gpa2hva {addr:#x}: {said.strip()}')
        return int(m[1], 16)

    # The guest of guest()

    def console(self, pattern):
        """The match of the first line that fits; .said has all of them."""
        while True:
            try:
                line = self.serial.get()
            except QemuGone as e:
                raise Failed(f'the guest did not say {pattern}; its last words: '
                             f'{"; ".join(self.said[-3:])}; {e}') from None
            self.said.append(line)
            if m := re.search(pattern, line):
                return m

    def guest_read(self, disk, sha256, size=None, iommu=None):
        """It has read all of the disk, and it was this; iommu: there was one, or none."""
        m = self.console(rf'guest: {disk} (?:iommu (\S+)|(failed: .*))')
        if m[2]:
            raise Failed(f'{disk} {m[2]}')
        if iommu is not None:
            check(f'{disk} behind an IOMMU', m[1] != 'none', iommu)
        m = self.console(rf'guest: {disk} (\d+) bytes sha256 (\w+)')
        check(f'the checksum of {disk}', m[2], sha256)
        if size is not None:
            check(f'the size of {disk}', int(m[1]), size)

    def order(self, line):
        """For a guest with stay: read DISK, or off."""
        self.serial.put(line)


def ram(mb, backend='memfd', **props):
    """Guest RAM on memory-backend-BACKEND: ram(256, 'file', **{'mem-path': p}, share='on')."""
    more = ''.join(f',{k}={v}' for k, v in props.items())
    return ['-m', f'{mb}M', '-object', f'memory-backend-{backend},id=ram,size={mb}M{more}']


def vfio(*devices, iommufd=False, options=''):
    """These devices, assigned: by a container, or by iommufd. QEMU finds no object that
    has the name of the devices' property, once there are two devices."""
    args = ['-object', 'iommufd,id=iommufd0'] if iommufd else []
    for i, bdf in enumerate(devices):
        args += ['-device', f'vfio-pci,id=vfio{i},host={bdf}' + (',iommufd=iommufd0' if iommufd else '') +
                 (f',{options}' if options else '')]
    return args


def iommufd_by_process():
    """/dev/iommu as libvirt hands it over: it counts for the process that maps, not for
    its user."""
    fd = os.open('/dev/iommu', os.O_RDWR)
    # IOMMU_OPTION: set IOMMU_OPTION_RLIMIT_MODE to 1
    fcntl.ioctl(fd, 0x3b87, struct.pack('IIHHIQ', 24, 0, 0, 0, 0, 1))
    return fd


def viommu(options=''):
    """Before the devices; with machine='q35,kernel-irqchip=split'."""
    return ['-device', 'intel-iommu,caching-mode=on' + (f',{options}' if options else '')]


def guest(read='', stay=False, append='', verbose=False):
    """Our kernel as the guest's, and tests/vm/src/guest_init.c as its PID 1."""
    image = f'{os.path.dirname(os.environ["USERPIN_OBJ"])}/obj-release/arch/x86/boot/bzImage'
    words = ['console=ttyS0', 'panic=-1', 'loglevel=7' if verbose else 'loglevel=3']
    words += [f'read={read}'] * bool(read) + ['stay=1'] * stay + [append]
    return ['-kernel', image, '-initrd', REPO + '/build/tests/guest.cpio', '-append', ' '.join(words)]


def edu(n):
    """The PCI address of an edu device of the VM."""
    return os.environ['USERPIN_VFIO_DEVS'].split()[n]


class VhostUserBlk:
    """What the NVMe disk has in it, as a disk that another process serves: .args for a
    Qemu whose RAM must be shared. To be used with `with`."""

    def __init__(self, binary, path='/tmp/vhost-user-blk'):
        self.args = ['-chardev', f'socket,id=blk,path={path}', '-device', 'vhost-user-blk-pci,chardev=blk']
        if os.path.exists(path):
            os.unlink(path)
        self.proc = subprocess.Popen([
            os.path.dirname(binary) + '/storage-daemon/qemu-storage-daemon', '--blockdev',
            f'driver=file,node-name=disk,read-only=on,locking=off,filename={os.environ["USERPIN_NVME_IMAGE"]}',
            '--export', f'type=vhost-user-blk,id=disk,node-name=disk,addr.type=unix,addr.path={path}'])
        wait_for('a vhost-user socket', lambda: os.path.exists(path) or self.proc.poll() is not None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.proc.kill()
        self.proc.wait()


class Vdpa:
    """A simulated vDPA disk, or a network device; for one that does not use virtual
    addresses, guest RAM is pinned when the guest starts it, within RLIMIT_MEMLOCK even
    for root. Only SeaBIOS can start the disk, to look for a boot sector: QEMU 10.0.13 offers each guest queues of 1024,
    and the device has 256. To be used with `with`: its modules go with it."""
    MODULES = ['vhost/vhost_iotlb', 'vhost/vhost', 'vhost/vringh', 'vdpa/vdpa', 'vhost/vhost_vdpa',
               'vdpa/vdpa_sim/vdpa_sim']
    STARTED = re.compile(r'vhost_vdpa_add_status .* status: 0x4\n')

    def __init__(self, use_va=False, kind='blk'):
        self.modules = [*self.MODULES, f'vdpa/vdpa_sim/vdpa_sim_{kind}']
        for m in self.modules:
            # Pages may be scattered, one entry each
            options = ['max_iotlb_entries=1000000'] * m.endswith(('vhost_vdpa', 'vdpa_sim'))
            options += [f'use_va={int(use_va)}'] * m.endswith('vdpa_sim')
            subprocess.run(['insmod', f'{os.environ["USERPIN_OBJ"]}/drivers/{m}.ko', *options], check=True)
        subprocess.run(['vdpa', 'dev', 'add', 'name', 'userpin', 'mgmtdev', f'vdpasim_{kind}'], check=True)
        path = wait_for('/dev/vhost-vdpa-*', lambda: glob.glob('/dev/vhost-vdpa-*'))[0]
        self.path = path
        self.args = ['-device', f'vhost-vdpa-device-pci,vhostdev={path}', '-trace', 'vhost_vdpa_add_status']

    @staticmethod
    def started(q):
        """Until its guest's BIOS has started the disk, and QEMU mapped all memory. (To ask
        by `info virtio-status` crashes QEMU 10.0.)"""
        wait_for('the BIOS has started the disk', lambda: Vdpa.STARTED.search(q.stderr))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(['vdpa', 'dev', 'del', 'userpin'], check=True)
        for m in reversed(self.modules):
            subprocess.run(['rmmod', os.path.basename(m)], check=True)


# --- qtest ----------------------------------------------------------------------

class Qtest:
    """What a guest's CPU does to memory and ports. No such CPU runs."""

    def __init__(self, lines):
        self.lines = lines

    def cmd(self, *words):
        self.lines.put(' '.join(f'{w:#x}' if isinstance(w, int) else w for w in words))
        while True:
            answer, *rest = self.lines.get().split(' ')
            if answer == 'OK':
                return rest[0] if rest else ''
            if answer != 'IRQ':
                raise Failed(f'qtest {words[0]}: {answer} {" ".join(rest)}')

    def outl(self, port, value):
        self.cmd('outl', port, value)

    def inl(self, port):
        return int(self.cmd('inl', port), 16)

    def outw(self, port, value):
        self.cmd('outw', port, value)

    def inw(self, port):
        return int(self.cmd('inw', port), 16)

    def writel(self, addr, value):
        self.cmd('writel', addr, value)

    def readl(self, addr):
        return int(self.cmd('readl', addr), 16)

    def writeq(self, addr, value):
        self.cmd('writeq', addr, value)

    def readq(self, addr):
        return int(self.cmd('readq', addr), 16)

    def memwrite(self, addr, data):
        self.cmd('b64write', addr, len(data), base64.b64encode(data).decode())

    def memread(self, addr, size):
        return base64.b64decode(self.cmd('b64read', addr, size))

    # PCI, bus 0, function 0

    def config(self, slot, reg, value=None):
        self.outl(0xcf8, 0x80000000 | slot << 11 | reg & ~3)
        if value is None:
            return self.inl(0xcfc)
        return self.outl(0xcfc, value)

    def pci_find(self, vendor, device):
        for slot in range(32):
            if self.config(slot, 0) == device << 16 | vendor:
                return slot
        return None


class Edu:
    """An assigned edu device on bus 0, driven by qtest. QEMU's docs/specs/edu."""
    SRC, DST, COUNT, CMD = 0x80, 0x88, 0x90, 0x98
    RUN, TO_RAM = 1, 2
    # The buffer is 4 KiB, and QEMU 7.2 is off by one
    BUFFER, LEN = 0x40000, 2048
    seed = 0

    def __init__(self, q, bar=0xe0000000):
        self.t, self.bar = q.qtest, bar
        slot = self.t.pci_find(0x1234, 0x11e8)
        if slot is None:
            raise Failed('the guest has no edu device')
        self.t.config(slot, 0x10, bar)
        # Memory and bus master; zeros leave the status, above them, as it is
        self.t.config(slot, 0x04, 6)
        check('the edu device behind its BAR', self.t.readl(bar) & 0xff, 0xed)

    def idle(self):
        wait_for('the edu device has copied', lambda: not self.t.readq(self.bar + self.CMD) & self.RUN)

    def dma(self, src, dst, count, cmd):
        self.idle()
        for reg, value in ((self.SRC, src), (self.DST, dst), (self.COUNT, count), (self.CMD, cmd | self.RUN)):
            self.t.writeq(self.bar + reg, value)
        self.idle()

    def copy(self, to, start, size=LEN):
        """Within the guest's memory, as far as the device sees it."""
        for at in range(0, size, self.LEN):
            part = min(self.LEN, size - at)
            self.dma(start + at, self.BUFFER, part, 0)
            self.dma(self.BUFFER, to + at, part, self.TO_RAM)

    def dma_works(self, addr, to=None, size=LEN):
        """The device reads and writes the memory that the CPU sees: from addr to
        another address (the next page), and back. Both are overwritten."""
        to = addr + PAGE if to is None else to
        for a, b in ((addr, to), (to, addr)):
            Edu.seed += 1
            data = bytes((i * 7 + i // 251 + Edu.seed) & 0xff for i in range(size))
            self.t.memwrite(a, data)
            self.t.memwrite(b, bytes(size))
            self.copy(b, a, size)
            if self.t.memread(b, size) != data:
                raise Failed(f'DMA from {a:#x} to {b:#x}: other data than the CPU wrote')
            if self.t.memread(a, size) != data:
                raise Failed(f'DMA from {a:#x} to {b:#x}: the source has changed')


# --- what the kernel says of a process --------------------------------------------

class Pins:
    """/proc/<pid>/longterm_pins (docs/reports.md): holders is {name: {column: number}}."""

    def __init__(self, text):
        head, *lines = text.splitlines()
        columns = head.split()[1:]
        self.holders, last = {}, {}
        for line in lines:
            name, *values = line.split()
            if name == 'cgroup':                # its path may have blanks; the rest is about it
                break
            if len(values) < len(columns):
                last[name] = int(values[0]) if values[0].isdigit() else values[0]
            else:
                self.holders[name] = dict(zip(columns, map(int, values)))
        self.charge, self.held, self.limit = last['charge'], last['held'], last['limit']

    def pages(self, kind=''):
        """Of all holders whose name starts so."""
        return sum(h['pages'] for name, h in self.holders.items() if name.startswith(kind))

    def refused(self):
        """{reason: how often}, without zeros."""
        other = ('pages', 'peak', 'acquired', 'released')
        sums = {}
        for h in self.holders.values():
            for column, n in h.items():
                if n and column not in other:
                    sums[column] = sums.get(column, 0) + n
        return sums


def pins(pid):
    with open(f'/proc/{pid}/longterm_pins', encoding='utf-8') as f:
        return Pins(f.read())


def cpu_time(pid):
    """All that its threads have run, in nanoseconds: the clock of clock_getcpuclockid()."""
    return time.clock_gettime_ns(~pid << 3 | 2)


def status(pid, field):
    """A size of /proc/<pid>/status, in bytes: status(pid, 'VmLck')."""
    with open(f'/proc/{pid}/status', encoding='utf-8') as f:
        return int(re.search(rf'^{field}:\s+(\d+) kB', f.read(), re.M)[1]) * 1024


def pinned_vm(pid):
    """VmPin in pages: all that iommufd says of its pins."""
    return status(pid, 'VmPin') // PAGE


class Mapping:
    """A line of /proc/<pid>/maps and its fields of smaps (.kb['Rss'], .flags)."""
    HEAD = re.compile(r'([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) (\S+) (\d+) *(.*)')

    def __init__(self, m):
        self.start, self.end, self.offset = int(m[1], 16), int(m[2], 16), int(m[4], 16)
        self.perms, self.dev, self.inode, self.path = m[3], m[5], int(m[6]), m[7]
        self.shared = self.perms[3] == 's'
        self.kb, self.flags = {}, []

    def __repr__(self):
        return f'{self.start:#x}-{self.end:#x} {self.perms} {self.path or "anonymous"}'


def vm_map(pid, where):
    """The mapping at an address (None: there is none), or all whose path has this in it."""
    found = []
    with open(f'/proc/{pid}/smaps', encoding='utf-8') as f:
        for line in f:
            if m := Mapping.HEAD.match(line):
                now = Mapping(m)
                found.append(now)
            elif line.startswith('VmFlags:'):
                now.flags = line.split()[1:]
            elif line.endswith(' kB\n'):
                name, kb, _ = line.split()
                now.kb[name[:-1]] = int(kb)
    if isinstance(where, int):
        return next((m for m in found if m.start <= where < m.end), None)
    return [m for m in found if where in m.path]
