# SPDX-License-Identifier: GPL-2.0
"""apt with lists of its own: packages of other suites than this machine's, from
the mirrors this machine has. Needs no root, and leaves the machine's as it is."""
import functools
import os
import re
import subprocess
import sys
import threading
import time

KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'
QUIET_SECONDS = 30          # one line each, when not on a terminal
UPDATE_SECONDS = 120
DOWNLOAD_SECONDS = 1800


class AptError(Exception):
    """What apt said, as lines."""


def output(*cmd, timeout=None, **kw):
    """Its output and exit code; 124 when it took longer than that."""
    try:
        return subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              stdin=subprocess.DEVNULL, check=False, timeout=timeout, **kw)
    except subprocess.TimeoutExpired as e:
        said = (e.stdout or b'').decode(errors='replace')
        return subprocess.CompletedProcess(cmd, 124, f'{said}no answer for {timeout} s\n')


def git_env(tree, **more):
    """The environment for a git that works on the repository in the folder `tree`, and on
    no other: neither on one that a hook of git names, nor on one that holds the folder."""
    env = {name: value for name, value in os.environ.items() if not name.startswith('GIT_')}
    return dict(env, GIT_CEILING_DIRECTORIES=os.path.dirname(os.path.realpath(tree)), LC_ALL='C', **more)


def need(**variables):
    """What make has from bases/, and exports: without it, nothing would be looked for."""
    for name, value in variables.items():
        if not value:
            raise AptError(f'{name} is not in the environment', 'next: run it by make')


def release():
    """This machine's: its binary packages are made for the libraries that are here."""
    with open('/etc/os-release', encoding='utf-8') as f:
        has = dict(line.strip().split('=', 1) for line in f if '=' in line)
    return has.get('VERSION_CODENAME', 'stable').strip('"')


def newest_first(versions):
    """Debian's order of versions."""
    def compare(a, b):
        if a == b:
            return 0
        return -1 if output('dpkg', '--compare-versions', a, 'gt', b).returncode == 0 else 1
    return sorted(set(versions), key=functools.cmp_to_key(compare))


class Apt:
    """path: where it keeps its lists. kind: deb or deb-src."""
    def __init__(self, path, kind, suites):
        self.suites = suites
        for d in ('lists/partial', 'archives/partial'):
            os.makedirs(f'{path}/{d}', exist_ok=True)
        # A mirror that does not answer must not hold us up.
        # A release that the machine prefers need not be among these suites.
        self.conf = ['-o', 'APT::Default-Release=', '-o', f'Dir::Etc::SourceList={path}/sources.list',
                     '-o', 'Dir::Etc::SourceParts=/dev/null', '-o', f'Dir::State::lists={path}/lists',
                     '-o', f'Dir::Cache={path}', '-o', 'APT::Sandbox::User=',
                     '-o', 'Acquire::http::Timeout=10', '-o', 'Acquire::https::Timeout=10', '-qq']
        found = output('apt-get', 'indextargets', '--format', '$(ORIGIN);$(REPO_URI)').stdout
        # No cdrom: or the like. Others than the archive itself may say `Debian`, too.
        main = sorted({line.split(';')[1].rstrip('/') for line in found.splitlines()
                       if re.match('Debian;(https?|file):', line) and '-security' not in line},
                      key=lambda uri: (not uri.endswith('/debian'), uri))
        if not main:
            raise AptError('apt has no mirror of Debian', 'next: apt-get update, as root')
        opt = f'[signed-by={KEYRING}] ' if os.path.exists(KEYRING) else ''
        with open(f'{path}/sources.list', 'w', encoding='utf-8') as f:
            for suite in suites:
                uri = main[0]
                if suite.endswith('-security'):
                    uri = re.sub('/debian$', '/debian-security', uri)
                f.write(f'{kind} {opt}{uri} {suite} main\n')
        # A mirror need not have all of them.
        run = output('apt-get', *self.conf, '-o', 'APT::Update::Error-Mode=any',
                     '-o', 'Acquire::Retries=0', 'update',
                     timeout=UPDATE_SECONDS)
        self.said = run.stdout
        self.reached = run.returncode == 0

    def cache(self, *args):
        return output('apt-cache', *self.conf, *args).stdout

    def get(self, *args, **kw):
        return output('apt-get', *self.conf, *args, timeout=DOWNLOAD_SECONDS, **kw)

    def versions(self, package):
        """Of a binary package, the newest first."""
        found = [line.split('|')[1].strip() for line in self.cache('madison', package).splitlines()]
        return newest_first(found)

    def download(self, package, version, where):
        """The package's .deb into the folder `where`; returns its path. apt compares it
        with the hash in the mirror's signed lists."""
        stanza = self.cache('show', f'{package}={version}')
        size = re.search(r'^Size: (\d+)$', stanza, re.M)
        if not size:
            raise AptError(f'no {package} {version} in {", ".join(self.suites)}',
                           *self.said.strip().splitlines())
        with Progress(f'fetching {package} {version}', where, int(size[1])):
            run = self.get('download', f'{package}={version}', cwd=where)
        found = [f for f in os.listdir(where) if f.startswith(package + '_') and f.endswith('.deb')]
        if run.returncode or not found:
            raise AptError(f'could not fetch {package} {version}:', *run.stdout.strip().splitlines())
        return f'{where}/{found[0]}'


class Progress:
    """How much of a download is there, until the `with` ends."""
    def __init__(self, what, where, size):
        self.what, self.where, self.size = what, where, size
        self.start = time.monotonic()
        self.stop = threading.Event()
        self.tty = sys.stderr.isatty()

    def text(self):
        have = 0
        for d, _, names in os.walk(self.where):
            have += sum(os.path.getsize(f'{d}/{n}') for n in names if os.path.exists(f'{d}/{n}'))
        return f'{self.what}: {min(have, self.size) >> 20} of {self.size >> 20} MiB'

    def run(self):
        while not self.stop.wait(0.5 if self.tty else QUIET_SECONDS):
            print(('\r\033[K' if self.tty else '') + self.text(), end='' if self.tty else '\n',
                  file=sys.stderr, flush=True)

    def __enter__(self):
        if not self.tty:
            print(f'{self.what} ({self.size >> 20} MiB)', file=sys.stderr, flush=True)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def __exit__(self, *exc):
        self.stop.set()
        self.thread.join()
        if self.tty:
            print('\r\033[K', end='', file=sys.stderr, flush=True)
