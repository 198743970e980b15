# SPDX-License-Identifier: GPL-2.0
"""Real libvirtd in the VM, for tests: Debian's, which scripts/libvirt-tree unpacks, on a
root of its own that lies over the machine's. The domains are those of docs/libvirt/, with
what a test VM has in place of a host's: less memory, its devices, and our guest.

    with Libvirt('11.3') as lv:
        d = lv.domain('hostdev-shared', devices=[NVME], mb=256)
        with d.running():
            d.guest_read('nvme0n1', NVME_SHA256)
            pins(d.pid).pages('vfio')

To be run by `unshare -m`: its mounts are seen by nobody else, and go with it.
"""
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET

from qemulib import MB, NVME, PAGE, PATCHED, REPO, Failed, Skip, Tap, check, edu, pins, wait_for

BASE = '/run/userpin-libvirt'
ROOT = BASE + '/root'
EXT4 = os.environ['USERPIN_EXT4']
CGROUP = os.environ['USERPIN_CGROUP']
DOMAINS = REPO + '/docs/libvirt'
# How often to look where a look is a program, which takes a second
FEW = 500
# QEMU's own memory that a device sees, beside the guest's RAM: ROMs
ROMS = 2 * MB
LOG = '/var/log/libvirt/libvirtd.log'
QEMU_NS = 'http://libvirt.org/schemas/domain/qemu/1.0'
ET.register_namespace('qemu', QEMU_NS)

# $1: the tree, $2: the emulator, $3: what is to be /var/lib/libvirt
MOUNTS = r'''
mkdir -p $1 $3 /run/userpin-libvirt
mount -t tmpfs -o mode=755 libvirt /run/userpin-libvirt
cd /run/userpin-libvirt
mkdir up work root
mount -t overlay -o lowerdir=$1:/,upperdir=up,workdir=work libvirt root
cd root
for d in dev sys mnt tmp; do
	mount --rbind /$d $d
done
mount -t proc proc proc
mount -t tmpfs -o mode=755 run run
# A host's own domains are none of ours
for d in etc/libvirt etc/qemu var/cache/libvirt var/log/libvirt; do
	mkdir -p $d
	mount -t tmpfs -o mode=755 libvirt $d
done
mkdir -p run/libvirt run/userpin etc/libvirt/qemu var/log/libvirt/qemu var/lib/libvirt
mount --bind $3 var/lib/libvirt
grep -q ^libvirt-qemu: etc/passwd || echo libvirt-qemu:x:64055:64055::/var/lib/libvirt:/bin/false >>etc/passwd
grep -q ^libvirt-qemu: etc/group || echo libvirt-qemu:x:64055: >>etc/group
# libvirt looks there for better drivers than vfio-pci
mkdir -p usr/lib/modules/$(uname -r)
: >usr/lib/modules/$(uname -r)/modules.alias
# Nor are its drivers, which another version may not be able to load
for d in usr/lib/*/libvirt/*; do
	if [ -d $1/$d ]; then
		mount --bind $1/$d $d
	elif [ -d $d ]; then
		mount -t tmpfs libvirt $d
	fi
done
cp --remove-destination $2 usr/bin/qemu-system-x86_64
chmod 755 usr/bin/qemu-system-x86_64
chmod 666 /dev/kvm
'''

# The profiles of libvirtd and its helper, so that libvirt makes one for each VM; $1: its root
APPARMOR = r'''
mountpoint -q /sys/kernel/security || mount -t securityfs securityfs /sys/kernel/security
mountpoint -q $1/sys/kernel/security || mount --bind /sys/kernel/security $1/sys/kernel/security
mkdir -p $1/etc/apparmor.d/local/abstractions $1/etc/apparmor.d/abstractions/libvirt-qemu.d
mount -t tmpfs libvirt $1/etc/apparmor.d/abstractions/libvirt-qemu.d
for f in usr.sbin.libvirtd usr.lib.libvirt.virt-aa-helper abstractions/libvirt-qemu; do
	: >$1/etc/apparmor.d/local/$f
done
chroot $1 apparmor_parser -K -r /etc/apparmor.d/usr.sbin.libvirtd /etc/apparmor.d/usr.lib.libvirt.virt-aa-helper
'''

# libvirtd enters the mount namespaces of its QEMUs, and is at their root then: that must
# be $1, so chroot would not do. The rest is the command.
ENTER = r'''
cd $1
shift
pivot_root . .
umount -l .
exec "$@"
'''


def script(text, *args):
    run = subprocess.run(['sh', '-ec', text, 'sh', *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         text=True, check=False)
    if run.returncode:
        raise Failed(f'setting up libvirt: {run.stdout.strip()}')


def read(path):
    with open(path, encoding='utf-8', errors='replace') as f:
        return f.read()


def write(path, text):
    with open(path, 'w', encoding='utf-8') as f:
        f.write(text)


def readable(path):
    """A copy that QEMU's user can read: a clone need not be open to all."""
    copy = '/run/userpin/' + os.path.basename(path)
    if not os.path.exists(ROOT + copy):
        shutil.copyfile(path, ROOT + copy)
        os.chmod(ROOT + copy, 0o644)
    return copy


class Refused(Failed):
    """virsh said no: .said is its error."""

    def __init__(self, command, said):
        super().__init__(f'virsh {" ".join(command)}: {said}')
        self.said = said


class Libvirt:
    """A libvirtd that runs. binary: its QEMU; security_driver: none, apparmor."""

    def __init__(self, version, binary=PATCHED, security_driver='none'):
        self.version, self.daemon = version, None
        tree = f'{REPO}/build/libvirt-{version}'
        if not os.path.exists(tree):
            raise Skip(f'build/libvirt-{version} is not there: this Debian has no libvirt {version}, '
                       f'or no mirror answered (make libvirt-{version})')
        if not os.access(binary, os.X_OK):
            raise Skip(f'{os.path.relpath(binary, REPO)} is not built')
        self.last, self.count = None, 0
        script(MOUNTS, tree, binary, EXT4 + '/libvirt')
        # Nothing else: defaults are what users have
        write(ROOT + '/etc/libvirt/qemu.conf', '\n'.join([
            'stdio_handler = "file"', f'security_driver = "{security_driver}"', 'remember_owner = 0',
            f'hugetlbfs_mount = "{os.environ["USERPIN_HUGE2M"]}"']) + '\n')
        if security_driver == 'apparmor':
            script(APPARMOR, ROOT)
        write(ROOT + '/etc/libvirt/libvirtd.conf',
              f'auth_unix_rw = "none"\nunix_sock_group = "root"\nlog_outputs = "3:file:{LOG}"\n')

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.end()
        self.stop()
        # QEMUs are in cgroups of libvirt's, which the harness does not know
        with contextlib.suppress(FileNotFoundError):
            write(CGROUP + '/machine/cgroup.kill', '1')
        subprocess.run(['umount', '-R', '-l', BASE], check=False)
        shutil.rmtree(EXT4 + '/libvirt', ignore_errors=True)

    def start(self, prefix=()):
        """prefix: a command that runs it."""
        self.daemon = subprocess.Popen(['unshare', '-m', 'sh', '-ec', ENTER, 'sh', ROOT, *prefix, 'libvirtd', '--pid-file',
                                        '/run/libvirt/libvirtd.pid'], stdin=subprocess.DEVNULL)
        wait_for('libvirtd listens', lambda: os.path.exists(ROOT + '/run/libvirt/libvirt-sock') or
                 self.daemon.poll() is not None)
        if self.daemon.poll() is not None:
            raise Failed(f'libvirtd ended with {self.daemon.returncode}: {self.log()}')

    def stop(self):
        """It; VMs go on."""
        self.daemon.send_signal(signal.SIGTERM)
        self.daemon.wait()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(ROOT + '/run/libvirt/libvirt-sock')

    @contextlib.contextmanager
    def stopped(self):
        """Meanwhile there is none, or another that was started."""
        self.stop()
        try:
            yield
        finally:
            if self.daemon.poll() is None:
                self.stop()
            self.start()

    def log(self):
        return read(ROOT + LOG) if os.path.exists(ROOT + LOG) else ''

    def virsh(self, *command):
        """What it says. Refused is what it says when it fails."""
        run = subprocess.run(['chroot', ROOT, 'virsh', '-q', *command], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        if run.returncode:
            raise Refused(command, re.sub(r'^error: ', '', run.stderr.strip(), flags=re.M))
        return run.stdout.strip()

    def domain(self, kind, **options):
        """One of docs/libvirt/, defined. The one before ends: it may have its devices."""
        self.end()
        self.count += 1
        self.last = Domain(self, kind, **options)
        return self.last

    def end(self):
        if self.last:
            self.last.end()
        self.last = None


class Domain:
    """docs/libvirt/KIND.xml on this machine, defined. devices: the PCI addresses of its
    hostdevs, in order; mb: its RAM; guest: the command line of our guest; edit: a function
    that changes its XML."""

    def __init__(self, lv, kind, devices=(), mb=256, guest='', edit=None, name=None):
        self.lv, self.name, self.mb = lv, name or kind, mb
        self.socket = f'/tmp/{self.name}.serial'
        # Restored, it goes on where it was
        self.serial_log = f'/var/log/libvirt/qemu/{self.name}.serial{lv.count}'
        self.xml = ET.parse(f'{DOMAINS}/{kind}.xml').getroot()
        self.adapt(devices, guest)
        if edit:
            edit(self.xml)
        self.define()
        self.line = None

    def adapt(self, devices, guest):
        xml = self.xml
        xml.find('name').text = self.name
        for tag in ('memory', 'cpu/numa/cell'):
            for e in xml.findall(tag):
                e.set('unit', 'MiB')
                if tag == 'memory':
                    e.text = str(self.mb)
                else:
                    e.set('memory', str(self.mb))
                    e.set('cpus', '0')
        for e in xml.findall('maxMemory'):
            e.set('unit', 'MiB')
            e.text = str(self.mb * 4)
        xml.find('vcpu').text = '1'
        xml.find('os').attrib.pop('firmware', None)
        image = f'{os.path.dirname(os.environ["USERPIN_OBJ"])}/obj-release/arch/x86/boot/bzImage'
        for tag, text in (('kernel', readable(image)), ('initrd', readable(REPO + '/build/tests/guest.cpio')),
                          ('cmdline', f'console=ttyS0 panic=-1 loglevel=3 {guest}')):
            ET.SubElement(xml.find('os'), tag).text = text
        # Our guest ends by a reboot
        after = ET.Element('on_reboot')
        after.text = 'destroy'
        xml.insert(list(xml).index(xml.find('devices')), after)
        parts = xml.find('devices')
        for e in list(parts):
            if e.tag == 'serial' or e.tag in ('disk', 'interface') and e.get('type') in ('file', 'network'):
                parts.remove(e)
        hostdevs = [e for e in parts.findall('hostdev') if e.get('type') == 'pci']
        check(f'devices of {self.name}', len(devices), len(hostdevs))
        for n, (e, bdf) in enumerate(zip(hostdevs, devices)):
            self.place(e, bdf, 5 + n)
        serial = ET.SubElement(parts, 'serial', type='unix')
        ET.SubElement(serial, 'source', mode='bind', path=self.socket)
        ET.SubElement(serial, 'log', file=self.serial_log, append='on')

    @staticmethod
    def place(hostdev, bdf, slot=None):
        """This device; on the guest's first bus, where conventional ones, too, are behind
        no bridge that they would share."""
        domain, bus, slot_function = bdf.split(':')
        host_slot, function = slot_function.split('.')
        e = hostdev.find('source/address')
        for key, value in zip(('domain', 'bus', 'slot', 'function'), (domain, bus, host_slot, function)):
            e.set(key, '0x' + value)
        if slot is not None:
            ET.SubElement(hostdev, 'address', type='pci', domain='0', bus='0', slot=str(slot), function='0')

    def define(self):
        self.virsh_file('define')

    def virsh_file(self, command, xml=None, *args):
        """A command with a file of XML; before its name, the domain's."""
        path = f'/tmp/{self.name}-{command}.xml'
        write(path, ET.tostring(self.xml if xml is None else xml, encoding='unicode'))
        return self.lv.virsh(command, *([] if xml is None else [self.name]), path, *args)

    def device(self, kind, bdf=None):
        """docs/libvirt/KIND.xml, to be attached."""
        e = ET.parse(f'{DOMAINS}/{kind}.xml').getroot()
        if bdf:
            self.place(e, bdf)
        return e

    def attach(self, xml):
        return self.virsh_file('attach-device', xml)

    def detach(self, xml):
        return self.virsh_file('detach-device', xml)

    def start(self, *args):
        said = self.lv.virsh('start', self.name, *args)
        self.connect()
        return said

    def connect(self):
        """To the console of a QEMU that has just been started. What it says is in its log,
        but it says no more when nobody takes it."""
        self.disconnect()
        self.line = socket.socket(socket.AF_UNIX)
        self.line.connect(self.socket)

        def drain(line):
            with contextlib.suppress(OSError):
                while line.recv(4096):
                    pass
        threading.Thread(target=drain, args=[self.line], daemon=True).start()

    def disconnect(self):
        if self.line:
            with contextlib.suppress(OSError):
                self.line.shutdown(socket.SHUT_RDWR)
            self.line.close()
            self.line = None

    def end(self):
        """Whatever it does."""
        self.disconnect()
        for command in (['destroy', self.name], ['managedsave-remove', self.name], ['undefine', self.name]):
            with contextlib.suppress(Refused):
                self.lv.virsh(*command)

    @contextlib.contextmanager
    def running(self, *args):
        """args: of virsh start."""
        try:
            self.start(*args)
            yield self
        finally:
            with contextlib.suppress(Refused):
                self.lv.virsh('destroy', self.name)
            self.disconnect()

    @property
    def pid(self):
        return int(read(f'{ROOT}/run/libvirt/qemu/{self.name}.pid'))

    @property
    def qemu_log(self):
        """libvirt's log of its QEMU; all of its starts are in it."""
        return read(f'{ROOT}/var/log/libvirt/qemu/{self.name}.log')

    @property
    def memlock(self):
        """RLIMIT_MEMLOCK of its QEMU in bytes; None: unlimited."""
        limit = re.search(r'Max locked memory +(\S+) +\S+ +bytes', read(f'/proc/{self.pid}/limits'))[1]
        return None if limit == 'unlimited' else int(limit)

    @property
    def cgroup(self):
        """Its folder, as the kernel says."""
        return CGROUP + read(f'/proc/{self.pid}/cgroup').strip().split('::', 1)[1]

    def state(self):
        return self.lv.virsh('domstate', self.name)

    # Its guest

    @property
    def said(self):
        return read(ROOT + self.serial_log) if os.path.exists(ROOT + self.serial_log) else ''

    def console(self, pattern):
        """The match of the last line of its console that fits, once there is one."""
        def found():
            matches = list(re.finditer(pattern, self.said))
            if matches:
                return matches[-1]
            if bad := re.search(r'guest: .*(?:failed|cannot).*\n', self.said):
                raise Failed(bad[0].strip())
            if not os.path.exists(f'/proc/{self.pid}'):
                raise Failed(f'QEMU has ended: {self.qemu_log[-300:]}')
            return None
        return wait_for(f'the guest says {pattern}', found)

    def order(self, line):
        self.console('guest: ready')
        self.line.sendall(line.encode() + b'\n')

    def reads_again(self, disk, sha256):
        """What it has read before it reads once more."""
        before = self.said.count(sha256)
        self.order(f'read {disk}')
        wait_for('the guest reads once more', lambda: self.said.count(sha256) == before + 1)

    def guest_read(self, disk, sha256, iommu=None):
        """It has read all of the disk by DMA, and it was this."""
        m = self.console(rf'guest: {disk} (\d+) bytes sha256 (\w+)\s*\n')
        check(f'the checksum of {disk}', m[2], sha256)
        if iommu is not None:
            kind = self.console(rf'guest: {disk} iommu (\S+)\s*\n')[1]
            check(f'{disk} behind an IOMMU', kind != 'none', iommu)


def driver(bdf):
    """Of a PCI device; None: it has none."""
    path = f'/sys/bus/pci/devices/{bdf}/driver'
    return os.path.basename(os.readlink(path)) if os.path.exists(path) else None


def give_back(bdf, to):
    """The device to a driver of the host, so that libvirt has something to take it from."""
    base = f'/sys/bus/pci/devices/{bdf}'
    if driver(bdf) != to:
        if driver(bdf):
            write(f'{base}/driver/unbind', bdf)
        write(f'{base}/driver_override', to or '\n')
        if to:
            write('/sys/bus/pci/drivers_probe', bdf)
    check(f'the driver of {bdf}', driver(bdf), to)


def limit(mb, times=1):
    """libvirt's: so many times the RAM, and 1 GiB."""
    return (mb * times + 1024) * MB


def machine_option(text):
    """An edit of a domain: -machine TEXT."""
    def edit(xml):
        line = ET.SubElement(xml, f'{{{QEMU_NS}}}commandline')
        for arg in ('-machine', text):
            ET.SubElement(line, f'{{{QEMU_NS}}}arg', value=arg)
    return edit


@contextlib.contextmanager
def syslog():
    """Whoever takes the system's log: a list, to which it adds what is logged."""
    lines = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind('/dev/log')

        def take():
            # It holds few lines: those who log wait
            while line := sock.recv(65536):
                lines.append(line.decode(errors='replace'))
        taker = threading.Thread(target=take, daemon=True)
        taker.start()
        try:
            yield lines
        finally:
            sock.shutdown(socket.SHUT_RDWR)
            taker.join()
            os.unlink('/dev/log')


class Mdev:
    """A mediated device of this module of ours: its UUID, with `with`."""
    UUID = 'c2177883-f1bb-47f0-914d-32a22e3a8804'

    def __init__(self, module):
        self.module = module
        self.type = f'/sys/class/{module}/{module}/mdev_supported_types/{module}-pin'

    def __enter__(self):
        # Another test may have loaded it
        subprocess.run(['insmod', f'{os.environ["USERPIN_OBJ"]}/drivers/vfio/mdev/mdev.ko'],
                       stderr=subprocess.DEVNULL, check=False)
        subprocess.run(['insmod', f'{os.environ["USERPIN_MODULES"]}/{self.module}.ko'], check=True)
        write(self.type + '/create', self.UUID)
        return self.UUID

    def __exit__(self, *_):
        write(f'/sys/bus/mdev/devices/{self.UUID}/remove', '1')
        subprocess.run(['rmmod', self.module], check=True)


class Cases(Tap):
    """The first argument of each case is a Libvirt of the version that the command line
    begins with, which has these options."""

    def __init__(self, **options):
        super().__init__()
        self.options = options

    def main(self):
        version = sys.argv.pop(1)
        drivers = {bdf: driver(bdf) for bdf in (NVME, edu(0), edu(1), edu(2))}
        try:
            with Libvirt(version, **self.options) as lv:
                self.cases = [(name, function, (lv, *args)) for name, function, args in self.cases]
                return self.run()
        except Skip as e:
            print(f'1..0 # SKIP {e}')
            return 0
        finally:
            for bdf, name in drivers.items():
                with contextlib.suppress(OSError, Failed):
                    give_back(bdf, name)


def has(what, text, part):
    if part not in text:
        raise Failed(f'{what}: no {part!r} in {text.strip()!r}')


def charged(d, mb):
    """The charge of its QEMU is its RAM, once, and pinstat says so."""
    def same():
        # Firmware moves its ROMs meanwhile
        charge = pins(d.pid).charge * PAGE
        said = subprocess.run(['pinstat', '-b', '-n', '-o', 'VM,CHARGE', '-p', str(d.pid)],
                              stdout=subprocess.PIPE, text=True, check=False).stdout.split()
        return charge if said == [d.name, str(charge)] else None
    charge = wait_for('pinstat says the same as the kernel', same, looks=FEW)
    if not mb * MB <= charge <= mb * MB + ROMS:
        raise Failed(f'{d.name}: {charge} bytes are charged, for {mb} MiB of RAM')


def refused(what, function, *args):
    """What virsh says to it."""
    try:
        function(*args)
    except Refused as e:
        return e.said
    raise Failed(f'{what} was not refused')


def longterm_pinned():
    """Of the whole VM, whose CPUs count apart until they are asked."""
    read('/proc/sys/vm/stat_refresh')
    return int(re.search(r'^nr_longterm_pinned (\d+)', read('/proc/vmstat'), re.M)[1])


def nothing_left():
    """Nobody else pins here."""
    wait_for('no page is pinned any more', lambda: not longterm_pinned())


def status_words(pid, field):
    for line in read(f'/proc/{pid}/status').splitlines():
        if line.startswith(field + ':'):
            return line.split()[1:]
    raise Failed(f'no {field} of {pid}')
