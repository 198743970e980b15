# SPDX-License-Identifier: GPL-2.0
"""The unpatched source of the kernel that the hooks are for, and whether they apply.

It is the installed package's. Where Debian's newest is one that nobody has tested, and
the hooks do not apply to it, it is the newest of the tested versions (BASE_TESTED) that
the mirrors have. The environment says which base: BASE_*, see bases/.
"""
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

from debian_apt import Apt, AptError, need, newest_first, output

REPO = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BASE = os.environ.get('BASE', 'linux-6.12')
PACKAGE = os.environ.get('BASE_PACKAGE', '')
TARBALL = os.environ.get('BASE_TARBALL', '')
SUITES = os.environ.get('BASE_SUITES', '').split()
TESTED = dict(t.rsplit(':', 1) for t in os.environ.get('BASE_TESTED', '').split())
# One version instead of the one that is chosen: `make BASE_VERSION=...`
WANTED = os.environ.get('BASE_VERSION', '')
SERIES = REPO + '/' + os.environ.get('BASE_SERIES', 'linux-patches/series')
PATCHES = os.path.dirname(SERIES)
# Packages that were fetched, and the files of them that hooks change
CACHE = f'{REPO}/build/sources'


class SourceError(Exception):
    """What is wrong and what to do, as lines."""


def digest(path):
    h = hashlib.sha256()
    with open(path, 'rb') as f:
        while block := f.read(1 << 20):
            h.update(block)
    return h.hexdigest()


def series():
    with open(SERIES, encoding='utf-8') as f:
        return [w[0] for w in (line.split('#')[0].split() for line in f) if w]


def hook(name):
    path = f'{PATCHES}/{name}'
    if not os.path.exists(path):
        raise SourceError(f'{name} is listed in {os.path.relpath(SERIES, REPO)}, but there is no such file')
    return path


def touched_by_hooks():
    """Files of the kernel that the series changes."""
    files = set()
    for p in series():
        with open(hook(p), encoding='utf-8') as f:
            files.update(m[1] for m in re.finditer(r'^\+\+\+ [^/\s]+/(\S+)', f.read(), re.M))
    return sorted(files)


def rejects(files):
    """[(hook, what patch(1) said)] of those that do not apply, in order and without fuzz,
    to a folder with the files they change, which stays as it is."""
    bad = []
    with tempfile.TemporaryDirectory() as tmp:
        for f in touched_by_hooks():
            os.makedirs(os.path.dirname(f'{tmp}/{f}'), exist_ok=True)
            if os.path.isfile(f'{files}/{f}'):
                shutil.copy(f'{files}/{f}', f'{tmp}/{f}')
        for p in series():
            cmd = ['patch', '-d', tmp, '-p1', '--fuzz=0', '-f', '--no-backup-if-mismatch', '-i', hook(p)]
            run = output(*cmd, '--dry-run')
            if run.returncode:
                bad.append((p, run.stdout.strip()))
            else:
                output(*cmd)
    return bad


def no_fuzz(bad):
    """The hooks of rejects(), in words."""
    names = [p for p, _ in bad]
    return f'{", ".join(names)} {"does" if len(names) == 1 else "do"} not apply without fuzz'


def need_base():
    need(BASE_PACKAGE=PACKAGE, BASE_TARBALL=TARBALL, BASE_SUITES=SUITES, BASE_TESTED=TESTED)


class Source:
    """A version: the tarball that is installed, or a .deb; without a path it is fetched
    when it is needed."""
    def __init__(self, version, path=''):
        self.version, self.path = version, path

    def file(self):
        self.path = self.path or fetch(self.version).path
        return self.path

    def extract(self, dst, *patterns):
        """All of it, or the members that match: those are not missed when they are not there."""
        os.makedirs(dst)
        tar = ['tar', '-x', '-J', '-C', dst, '--strip-components=1', '--no-same-owner', '--wildcards',
               '--no-wildcards-match-slash', *patterns]
        kw = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT, 'text': True, 'check': False,
              'env': dict(os.environ, LC_ALL='C')}
        with open(self.file(), 'rb') as f:
            if not self.path.endswith('.deb'):
                run = subprocess.run(tar, stdin=f, **kw)
            else:
                with subprocess.Popen(['dpkg-deb', '--fsys-tarfile', self.path], stdout=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL) as deb, \
                        subprocess.Popen(['tar', '-x', '-O', '--wildcards', f'*/{PACKAGE}.tar.xz'],
                                         stdin=deb.stdout, stdout=subprocess.PIPE,
                                         stderr=subprocess.DEVNULL) as inner:
                    run = subprocess.run(tar, stdin=inner.stdout, **kw)
        said = [line for line in run.stdout.splitlines() if 'Not found in archive' not in line]
        if run.returncode and (said[:1] != ['tar: Exiting with failure status due to previous errors']):
            shutil.rmtree(dst, ignore_errors=True)
            raise SourceError(f'could not unpack {os.path.relpath(self.path, REPO)}:', *said[:5],
                              f'next: apt-get install --reinstall {PACKAGE}' if self.path == TARBALL else
                              'next: remove that file, and again')

    def originals(self):
        """A folder with the files that hooks change."""
        files = touched_by_hooks()
        dst = f'{CACHE}/{self.version}'
        have = os.stat(self.file())
        about = json.dumps([have.st_mtime_ns, have.st_size, files])
        if os.path.exists(dst + '/.about'):
            with open(dst + '/.about', encoding='utf-8') as f:
                if f.read() == about:
                    return dst
        os.makedirs(CACHE, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE, prefix='part.') as tmp:
            self.extract(tmp + '/x', *(f'*/{f}' for f in files))
            with open(tmp + '/x/.about', 'w', encoding='utf-8') as f:
                f.write(about)
            shutil.rmtree(dst, ignore_errors=True)
            os.rename(tmp + '/x', dst)
        return dst


def installed():
    run = output('dpkg-query', '-W', '-f', '${Version}', PACKAGE)
    if run.returncode or not os.path.exists(TARBALL):
        raise SourceError(f'{PACKAGE} is not installed', 'next: make deps')
    return Source(run.stdout.strip(), TARBALL)


def fetch(version, apt=None):
    """From the mirrors, or from an earlier time. What was tested must be the same file."""
    os.makedirs(CACHE, exist_ok=True)
    path = f'{CACHE}/{PACKAGE}_{version}_all.deb'
    want = TESTED.get(version)
    if os.path.exists(path):
        if want in (None, digest(path)):
            return Source(version, path)
        print(f'{os.path.relpath(path, REPO)} is not the file that was tested: fetching it again',
              file=sys.stderr)
        os.unlink(path)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix='part.') as tmp:
        apt = apt or Apt(CACHE + '/apt', 'deb', SUITES)
        deb = apt.download(PACKAGE, version, tmp)
        if want and digest(deb) != want:
            raise SourceError(f'{PACKAGE} {version} has the SHA-256 {digest(deb)}, and the one that was '
                              f'tested {want}: it is not used')
        os.rename(deb, path)
    return Source(version, path)


def chosen(built=''):
    """The source for build/, and one line on why it is not the one that is installed (or
    None). built: the version that the tree has already; it need not be fetched."""
    need_base()
    if WANTED and WANTED == built:
        return Source(built), None
    have = installed()
    if WANTED:
        return (have if have.version == WANTED else fetch(WANTED)), None
    if have.version in TESTED:
        return have, None
    bad = rejects(have.originals())
    if not bad:
        return have, None
    why = f'{PACKAGE} {have.version}, which is installed, is not tested, and {no_fuzz(bad)}'
    tried, first = [], None
    for version in newest_first(TESTED):
        try:
            source = Source(version) if version == built else fetch(version)
            # Of what is built already, the tree has the files, and says what does not apply
            bad = [] if version == built else rejects(source.originals())
        except (SourceError, AptError) as e:
            tried += [f'  {line}' for line in e.args[:4]]
            continue
        if not bad:
            return source, f'{why}: taking {version}, which is'
        first = first or source
    if first:
        # They apply to none: a hook is at fault, to be mended on the newest
        return first, f'{why}: taking {first.version}, which is'
    raise SourceError(f'{why}; no tested version can be had:', *tried,
                      f'versions that would do: {" ".join(newest_first(TESTED))}',
                      f'next: make tree with a mirror that has one of them, or with its .deb in '
                      f'{os.path.relpath(CACHE, REPO)}')
