# SPDX-License-Identifier: GPL-2.0
# The kernel the overlay and the hooks are for. A second base is a second file
# like this one, chosen with `make BASE=...`.

# Debian package with the unpatched source, and the tarball it installs.
BASE_PACKAGE := linux-source-6.12
BASE_TARBALL := /usr/src/linux-source-6.12.tar.xz

# The suites of Debian that may have it.
BASE_SUITES := bookworm-security bookworm-updates bookworm-backports \
	trixie trixie-updates trixie-security trixie-backports

# Versions that were tested, each with the SHA-256 of its .deb. A newer
# one to which the hooks do not apply is not used: the newest of these is.
BASE_TESTED := \
	6.12.118-1:b75bb2e78a5c7762254e2af7685085c788a67eb342cb4092ad2a05eaf9fc33b7 \
	6.12.117-1:9141325315c7f1eca682113d185a8c77c82814aa6e32f7e127e61d6106403835 \
	6.12.117-1~deb12u1:e849faf31ca3555757f3a8877cb01af92122f744f75d1f3102734651c4e14703

# Hooks and their order.
BASE_SERIES := linux-patches/series

# Kbuild steps of a build from nothing; only for the progress display before
# a build of one's own has been counted.
BASE_STEPS_release := 3020
BASE_STEPS_debug := 3200
BASE_STEPS_kcsan := 3700
