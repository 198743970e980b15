# SPDX-License-Identifier: GPL-2.0
# The QEMU that qemu-patches/ is for: Debian's newest source package of this
# version, from whichever of these releases has it.

QEMU_VERSION := 10.0
QEMU_SUITES  := trixie trixie-security bookworm-backports

# What a hypervisor with assigned devices needs, what libvirt asks for (seccomp), what
# our patches touch, and what the test VMs themselves use (virtfs, plugins).
QEMU_CONFIG := --target-list=x86_64-softmmu --without-default-features --disable-install-blobs \
	--disable-download --enable-kvm --enable-tcg --enable-vhost-kernel --enable-vhost-net \
	--enable-vhost-user --enable-vhost-user-blk-server --enable-vhost-vdpa --enable-multiprocess --enable-numa \
	--enable-seccomp --enable-attr --enable-virtfs --enable-plugins --enable-tools \
	--firmwarepath=/usr/share/qemu:/usr/share/seabios:/usr/lib/ipxe/qemu
# Only for the progress display before a build of one's own has been counted.
QEMU_STEPS := 1715
