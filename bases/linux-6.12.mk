# SPDX-License-Identifier: GPL-2.0
# The kernel the overlay and the hooks are for. A second base is a second file
# like this one, chosen with `make BASE=...`.

# Debian package with the unpatched source, and the tarball it installs.
BASE_PACKAGE := linux-source-6.12
BASE_TARBALL := /usr/src/linux-source-6.12.tar.xz

# Hooks and their order.
BASE_SERIES := linux-patches/series

# Kbuild steps of a build from nothing; only for the progress display before
# a build of one's own has been counted.
BASE_STEPS_release := 2240
BASE_STEPS_debug := 2430
