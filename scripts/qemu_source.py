# SPDX-License-Identifier: GPL-2.0
"""Debian's source of QEMU, and qemu-patches/ applied to it. The environment says which:
QEMU_VERSION, QEMU_SUITES (see bases/)."""
import glob
import os
import re

from debian_apt import AptError, git_env, newest_first, output

REPO = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VERSION = os.environ.get('QEMU_VERSION', '10.0')
SUITES = os.environ.get('QEMU_SUITES', '').split()
PATCHES = REPO + '/qemu-patches'
TREE = f'{REPO}/build/qemu-{VERSION}'
WHO = {f'GIT_{role}_{key}': value for role in ('AUTHOR', 'COMMITTER') for key, value in
       (('NAME', 'The userpin developers'), ('EMAIL', 'userpin@example.org'),
        ('DATE', '2026-01-01T00:00:00Z'))}


def run_git(tree, *args):
    # Nobody's own settings may change the result.
    env = git_env(tree, GIT_CONFIG_GLOBAL='/dev/null', GIT_CONFIG_NOSYSTEM='1', **WHO)
    return output('git', '-c', 'safe.directory=*', '-c', 'core.autocrlf=false', '-c', 'gc.auto=0',
                  '-C', tree, *args, env=env)


def patches():
    return sorted(p for p in glob.glob(PATCHES + '/[0-9]*.patch') if not p.endswith('/0000-cover-letter.patch'))


def touched_by_patches():
    """Files of QEMU that they change or add."""
    files = set()
    for p in patches():
        with open(p, encoding='utf-8') as f:
            files.update(re.findall(r'^diff --git a/(\S+) b/', f.read(), re.M))
    return sorted(files)


def apply(tree):
    """As commits on top of what is in the git repository `tree`. None, or the name of the
    first that does not apply and what git said; those before it are in then."""
    for p in patches():
        # No fuzz, and no three-way merge
        run = run_git(tree, 'am', '-q', '--keep-cr', '--committer-date-is-author-date', p)
        if run.returncode:
            run_git(tree, 'am', '--abort')
            return os.path.basename(p), run.stdout.strip()
    return None


def based_on(version):
    """Whether build/ has this one already."""
    run = run_git(TREE, 'log', '-1', '--format=%s', 'base')
    return run.returncode == 0 and run.stdout.strip() == f'Debian {version}'


def originals(files, dst):
    """Copy those that are in build/, as they are without our patches."""
    known = set(run_git(TREE, 'ls-tree', '-r', '--name-only', 'base').stdout.splitlines())
    run = run_git(TREE, 'archive', '-o', dst + '.tar', 'base', *(f for f in files if f in known))
    if run.returncode or output('tar', '-x', '-f', dst + '.tar', '-C', dst).returncode:
        raise AptError(f'could not copy from {TREE}: {run.stdout.strip()}')


def versions(apt):
    """Those of our QEMU that the mirrors have, the newest first."""
    text = apt.cache('showsrc', '--only-source', 'qemu')
    found = re.findall(r'^Version: (.*)$', text, re.M)
    return newest_first(v for v in found if re.match(rf'(\d+:)?{re.escape(VERSION)}[.+~-]', v))


def unpack(apt, version, where):
    """Debian's source package, with Debian's patches, as Debian builds it: the path of
    the folder, which is made in `where`."""
    os.makedirs(where, exist_ok=True)
    run = apt.get('source', '--download-only', f'qemu={version}', cwd=where)
    if run.returncode:
        raise AptError(f'could not fetch the source of qemu {version}:', *run.stdout.strip().splitlines())
    dsc, = glob.glob(where + '/*.dsc')
    run = output('dpkg-source', '--no-check', '-x', dsc, where + '/tree')
    if run.returncode:
        raise AptError(f'could not unpack {os.path.basename(dsc)}:', *run.stdout.splitlines())
    return where + '/tree'
