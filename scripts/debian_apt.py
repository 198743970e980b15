# SPDX-License-Identifier: GPL-2.0
"""apt with lists of its own: packages of other suites than this machine's, from
the mirrors this machine has. Needs no root, and leaves the machine's as it is."""
import os
import re
import subprocess

KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'


class AptError(Exception):
    """What apt said, as lines."""


def output(*cmd, **kw):
    return subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          stdin=subprocess.DEVNULL, check=False, **kw)


class Apt:
    """path: where it keeps its lists. kind: deb or deb-src."""
    def __init__(self, path, kind, suites):
        self.suites = suites
        for d in ('lists/partial', 'archives/partial'):
            os.makedirs(f'{path}/{d}', exist_ok=True)
        self.conf = ['-o', f'Dir::Etc::SourceList={path}/sources.list',
                     '-o', 'Dir::Etc::SourceParts=/dev/null', '-o', f'Dir::State::lists={path}/lists',
                     '-o', f'Dir::Cache={path}', '-o', 'APT::Sandbox::User=', '-qq']
        found = output('apt-get', 'indextargets', '--format', '$(ORIGIN);$(REPO_URI)').stdout
        main = sorted({line.split(';')[1].rstrip('/') for line in found.splitlines()
                       if line.startswith('Debian;') and '-security' not in line})
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
        self.said = output('apt-get', *self.conf, 'update').stdout

    def cache(self, *args):
        return output('apt-cache', *self.conf, *args).stdout

    def get(self, *args, **kw):
        return output('apt-get', *self.conf, *args, **kw)
