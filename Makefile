# SPDX-License-Identifier: GPL-2.0
# userpin: see README.md. `make help` lists what there is.

BASE ?= linux-6.12
include bases/$(BASE).mk
include bases/qemu-10.0.mk
include bases/mainline.mk
export BASE BASE_PACKAGE BASE_TARBALL BASE_SUITES BASE_TESTED BASE_VERSION BASE_SERIES V QEMU_VERSION QEMU_SUITES QEMU_CONFIG QEMU_STEPS
export MAINLINE_PACKAGE MAINLINE_SUITES

TREE    := build/$(BASE)
STOCK   := $(TREE)-stock
TESTBIN := build/tests
JOBS    ?= $(shell nproc)
FLAVOURS := release debug kcsan

# The output directories lie directly in the source tree, so that kbuild calls
# the sources `..`: then the compiler sees no path of this machine, and objects
# come from ccache in any clone. Nothing may differ by time, user or host.
export CCACHE_BASEDIR := $(CURDIR)
export CCACHE_NOHASHDIR := 1
# Not CCACHE_DEPEND, which saves a quarter of the time: it does not see .incbin, and
# takes an object with other contents from the cache: a key, or a whole kernel
KBUILD := $(MAKE) --no-print-directory -j$(JOBS) CC="ccache gcc" HOSTCC="ccache gcc" V=0 \
	KBUILD_BUILD_TIMESTAMP=2026-01-01 KBUILD_BUILD_USER=userpin \
	KBUILD_BUILD_HOST=userpin KBUILD_BUILD_VERSION=1

STEP := scripts/step
# Two makes in one clone: the second waits.
LOCK := mkdir -p build && { flock -n build/.lock true || \
	echo "waiting for another make in this clone" >&2; } && flock build/.lock

ifneq ($(words $(CURDIR)),1)
$(error The kernel cannot be built below a path with spaces: move this clone)
endif

# Parallel is what the kernel's own make is.
.NOTPARALLEL:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

PHONY += help
help: ## what there is
	@echo 'make run          build, boot, and show pinned memory on one screen (JSON=1: as JSON)'
	@echo 'make test         everything: build, lint, all tests in VMs'
	@echo 'make test-long    the tests that take long or run on the debug kernel, and only these'
	@echo 'make test-busy    make test on a busy machine (T=name N=10: these tests, ten times)'
	@echo
	@echo 'make tree         build/$(BASE): unpacked package + overlay + hooks'
	@echo 'make kernel       the test kernels (FLAVOUR=release or debug for one)'
	@echo 'make programs     test programs, test modules, upstream'"'"'s selftests'
	@echo 'make pinstat      tools/pinstat, in build/pinstat'
	@echo 'make deb          packages of pinstat and of a host'"'"'s settings (userpin-host), in build/deb'
	@echo 'make deb-kernel   packages of the patched kernel with Debian'"'"'s configuration, in build/deb (an hour;'
	@echo '                  FLAVOUR=cloud-amd64: for VMs, a third of it; DEBUG=1: with debug info)'
	@echo 'make deb-qemu     Debian packages of the patched QEMU, with all its features (slow)'
	@echo 'make apt-repo     build/repo: a repository for apt of what is in build/deb (KEY=key of gpg that signs it)'
	@echo 'make fuzz-pinstat its parsers by libFuzzer (SECS=seconds)'
	@echo 'make check        fast: lint and KUnit'
	@echo 'make check-vm     tests in VMs (T=name: those that match; FLAVOUR=..., LONG=1, LIST=1: list them)'
	@echo 'make shell        a shell in a VM with devices, DAX, disks set up (FLAVOUR=debug, MACHINE=name)'
	@echo 'make lint         style, hooks, sparse, W=1'
	@echo 'make refresh      edits in build/$(BASE) back into the hooks'
	@echo 'make check-series compile after each hook, build QEMU after each patch (slow)'
	@echo 'make check-bases  do the hooks, and QEMU'"'"'s patches, apply to the newest sources of Debian?'
	@echo 'make check-arches build for other architectures and configurations (A=NAME: one; slow)'
	@echo 'make check-hooks  take each hook out: does its test fail? (slow)'
	@echo 'make export       build/export: a branch for git send-email'
	@echo 'make bench        instructions that mapping memory takes: here, on stock, on mainline'
	@echo 'make stock        the unpatched kernel, to compare with'
	@echo 'make mainline     the newest kernel that Debian has, unpatched, likewise'
	@echo 'make qemu         QEMU with qemu-patches/ in build/qemu-$(QEMU_VERSION)/obj'
	@echo 'make qemu-stock   QEMU without them'
	@echo 'make libvirt-11.3 libvirtd of Debian for the VM, unpacked in build/ (also libvirt-9.0)'
	@echo 'make vfio-selftests VFIO'"'"'s selftests, of the newest kernel that Debian has, in build/vfio-selftests'
	@echo 'make prometheus   Debian'"'"'s Prometheus, promtool and node exporter, unpacked in build/'
	@echo 'make qemu-refresh commits in build/qemu-$(QEMU_VERSION) back into qemu-patches/'
	@echo 'make deps         install the Debian packages all this needs'
	@echo 'make clean        remove build/'
	@echo
	@echo 'V=1 shows the whole output; it is in build/log/ in any case.'

# --- what everything needs -------------------------------------------------
PHONY += deps
deps:
	@scripts/deps

PHONY += tree
tree: deps
	@$(LOCK) scripts/tree update $(if $(FORCE),--force)

PHONY += refresh
refresh: deps
	@$(LOCK) scripts/tree refresh

# --- kernels ---------------------------------------------------------------
CONFIG_release := tests/vm/kernel.config
CONFIG_debug   := tests/vm/kernel.config tests/vm/debug.config
CONFIG_kcsan   := tests/vm/kernel.config tests/vm/kcsan.config
# What only s390 has
KFLAGS_debug   := CFLAGS_gup.o='-include $(CURDIR)/tests/vm/inaccessible.h'

# scripts/tree rewrites it only when a Kconfig file changed.
$(TREE)/.userpin-kconfig: tree
	@:

define flavour
$(TREE)/obj-$(1)/.config: $(TREE)/.userpin-kconfig $(CONFIG_$(1)) scripts/mkconfig
	@echo "configuring $(1)"
	@$(LOCK) scripts/mkconfig $(TREE) $(TREE)/obj-$(1) $(CONFIG_$(1))

PHONY += kernel-$(1)
kernel-$(1): $(TREE)/obj-$(1)/.config
	@$(LOCK) $(STEP) kernel-$(1)$$$$([ -e $(TREE)/obj-$(1)/vmlinux ] && echo -update) \
		--what "kernel ($(1))" --expect $$$$([ -e $(TREE)/obj-$(1)/vmlinux ] && echo 0 || echo $(BASE_STEPS_$(1))) -- \
		$(KBUILD) -C $(TREE) O=obj-$(1) $(KFLAGS_$(1)) bzImage modules headers
endef
$(foreach f,$(FLAVOURS),$(eval $(call flavour,$(f))))

PHONY += kernel
kernel: $(if $(FLAVOUR),kernel-$(FLAVOUR),$(FLAVOURS:%=kernel-%))

# Unpatched, same configuration but for our symbols.
PHONY += stock
stock: deps
	@$(LOCK) scripts/tree stock
	@$(LOCK) scripts/mkconfig --without LONGTERM_PIN,PIN_WRITEBACK $(STOCK) $(STOCK)/obj-$(or $(FLAVOUR),release) \
		$(CONFIG_$(or $(FLAVOUR),release))
	@$(LOCK) $(STEP) stock-$(or $(FLAVOUR),release) --what "stock kernel" --expect $(BASE_STEPS_release) -- \
		$(KBUILD) -C $(STOCK) O=obj-$(or $(FLAVOUR),release) bzImage modules

# The same configuration for a newer kernel.
PHONY += mainline
mainline: deps
	@$(LOCK) scripts/mainline-tree
	@$(LOCK) scripts/mkconfig --without LONGTERM_PIN,PIN_WRITEBACK build/mainline build/mainline/obj-release \
		$(CONFIG_release) tests/vm/mainline.config
	@$(LOCK) $(STEP) mainline --what "$(MAINLINE_PACKAGE)" --expect $(MAINLINE_STEPS) -- \
		$(KBUILD) -C build/mainline O=obj-release bzImage modules

# UPDATE=1: what is measured becomes what is committed. WALL=3: rounds by the clock.
# ONLY=vfio,iommufd: these groups of rows.
PHONY += bench
bench: programs stock qemu
	@$(LOCK) scripts/mainline-tree || [ $$? = 4 ]
	@[ ! -e build/mainline/Makefile ] || $(MAKE) --no-print-directory mainline
	@scripts/bench $(if $(UPDATE),--update) $(if $(ONLY),--only $(ONLY)) --wall $(or $(WALL),0)

# --- QEMU ------------------------------------------------------------------
QEMU := build/qemu-$(QEMU_VERSION)

PHONY += qemu-tree
qemu-tree: deps
	@$(LOCK) scripts/qemu-tree update $(if $(FORCE),--force)

PHONY += qemu-refresh
qemu-refresh:
	@$(LOCK) scripts/qemu-tree refresh

PHONY += qemu
qemu: qemu-tree
	@$(LOCK) scripts/qemu-build $(QEMU) qemu "QEMU" $$(scripts/qemu-qtest --list)

# Unpatched, same configuration.
PHONY += qemu-stock
qemu-stock: deps
	@$(LOCK) scripts/qemu-tree stock
	@$(LOCK) scripts/qemu-build $(QEMU)-stock qemu-stock "stock QEMU"

# Debian's libvirtd, for the VM. Where no mirror has it, its tests are skipped.
PHONY += libvirt-9.0 libvirt-11.3
libvirt-9.0 libvirt-11.3: deps
	@scripts/libvirt-tree $(@:libvirt-%=%) || [ $$? = 4 ]

# The same for Debian's Prometheus.
PHONY += prometheus
prometheus: deps
	@scripts/prometheus || [ $$? = 4 ]

# --- what runs in the VM ---------------------------------------------------
HDR := $(TREE)/obj-release/usr
SELFTESTBIN := $(CURDIR)/build/selftests
SELFTESTS   := $(TREE)/tools/testing/selftests
# What to build in each folder of upstream's; kvm's all, as tests/vm/kvm-selftests lists them.
KSELFTEST_mm    := $(addprefix $(SELFTESTBIN)/mm/,cow gup_longterm gup_test hmm-tests)
KSELFTEST_iommu := $(addprefix $(SELFTESTBIN)/iommu/,iommufd iommufd_fail_nth)
KSELFTEST_kvm   := all
kselftest = $(MAKE) --no-print-directory -j$(JOBS) CC="ccache gcc" ARCH=x86_64 \
	USERCFLAGS="-include $(CURDIR)/tests/vm/selftests.h" \
	KHDR_INCLUDES="-isystem $(CURDIR)/$(HDR)/include" \
	-C $(SELFTESTS)/$(1) OUTPUT=$(SELFTESTBIN)/$(1) TMPOUT=$(SELFTESTBIN)/$(1)/.tmp

# VFIO's, which 6.12 does not have. Where no mirror has the newer kernel's source, their
# test is skipped.
VFIO_HDR := $(CURDIR)/build/mainline/obj-headers/usr/include
PHONY += vfio-selftests
vfio-selftests: deps
	@$(LOCK) scripts/mainline-tree || [ $$? = 4 ]
	@[ ! -e build/mainline/Makefile ] || { mkdir -p build/vfio-selftests && \
		$(LOCK) $(STEP) mainline-headers --what "headers of $(MAINLINE_PACKAGE)" -- \
		$(KBUILD) -C build/mainline O=obj-headers headers && \
		$(LOCK) $(STEP) vfio-selftests --what "VFIO's selftests of $(MAINLINE_PACKAGE)" -- \
		$(MAKE) --no-print-directory -j$(JOBS) CC="ccache gcc" ARCH=x86_64 KHDR_INCLUDES="-isystem $(VFIO_HDR)" \
		USERCFLAGS="-include $(CURDIR)/tests/vm/vfio-selftests.h" \
		-C build/mainline/tools/testing/selftests/vfio OUTPUT=$(CURDIR)/build/vfio-selftests; }

PHONY += programs
programs: kernel-release pinstat
	@mkdir -p $(TESTBIN) build/selftests
	@[ build/selftests -nt tests/vm/selftests.h ] || { rm -rf build/selftests/*; touch build/selftests; }
	@$(foreach d,mm iommu kvm,mkdir -p build/selftests/$(d) && $(LOCK) $(STEP) selftests-$(d) \
		--what "upstream's selftests ($(d))" -- $(call kselftest,$(d)) $(KSELFTEST_$(d)) &&) :
	@cd $(SELFTESTS)/kvm && cp -pu --parents */*.sh $(SELFTESTBIN)/kvm
	@$(call kselftest,kvm) -s emit_tests | sed 's/.*://' >build/selftests/kvm/tests
	@$(LOCK) $(STEP) programs --what "test programs" -- $(MAKE) --no-print-directory -j$(JOBS) \
		-C tests/vm/src O=$(CURDIR)/$(TESTBIN) TREE=$(CURDIR)/$(TREE) HDR=$(CURDIR)/$(HDR) \
		KVM=$(SELFTESTBIN)/kvm

# pinstat, and its parsers under the sanitizers
PINSTAT := $(CURDIR)/build/pinstat
PHONY += pinstat
pinstat: deps
	@$(LOCK) $(STEP) pinstat --what "pinstat" -- $(MAKE) --no-print-directory -j$(JOBS) CC="ccache gcc" \
		-C tools/pinstat O=$(PINSTAT) all $(PINSTAT)/fuzz

# Packages, and a repository of them
PHONY += deb
deb: deps
	@$(LOCK) scripts/deb

PHONY += deb-qemu
deb-qemu: deps
	@$(LOCK) scripts/deb-qemu

PHONY += apt-repo
apt-repo: deps
	@$(LOCK) scripts/apt-repo '$(KEY)'

# With Debian's configuration. DEBUG=1: with debug info, and BTF.
PHONY += deb-kernel
deb-kernel: tree
	@$(LOCK) scripts/deb-kernel $(if $(DEBUG),--debug) $(or $(FLAVOUR),amd64) $(KBUILD)

# By libFuzzer, for SECS seconds
PHONY += fuzz-pinstat
fuzz-pinstat: deps
	@tests/pinstat/fuzz $(or $(SECS),60)

# Test modules, one build per flavour (they see its configuration).
PHONY += $(FLAVOURS:%=modules-%)
$(FLAVOURS:%=modules-%): modules-%: kernel-%
	@[ ! -d tests/vm/modules ] || { mkdir -p build/modules-$* && \
		cp -pu tests/vm/modules/* build/modules-$*/ && \
		$(LOCK) $(STEP) modules-$* --what "test modules ($*)" -- \
		$(KBUILD) -C $(TREE) O=obj-$* M=$(CURDIR)/build/modules-$* modules; }

PHONY += modules
modules: $(FLAVOURS:%=modules-%)

# --- VMs -------------------------------------------------------------------
VM := tests/vm/run

VMFLAGS := $(if $(FLAVOUR),--flavour $(FLAVOUR)) $(if $(LONG),--long) $(if $(filter 1,$(V)),--verbose)

# What the chosen tests need: no other kernels.
PHONY += build-vm
build-vm: deps
	@kernels=$$($(VM) --kernels $(VMFLAGS) $(T)) && for k in $$kernels; do \
		$(MAKE) --no-print-directory $$(case $$k in stock) echo stock FLAVOUR=release;; \
		stock-debug) echo stock FLAVOUR=debug;; qemu*|libvirt*|prometheus|vfio-selftests) echo $$k;; *) echo kernel-$$k modules-$$k;; esac) || exit; \
	done && $(MAKE) --no-print-directory programs

PHONY += check-vm
ifdef LIST
check-vm: deps
	@$(VM) --list $(VMFLAGS) $(T)
else
check-vm: build-vm
	@$(VM) $(VMFLAGS) $(T)
endif

PHONY += check-kunit
check-kunit: kernel-release qemu
	@$(VM) --flavour release kunit

PHONY += check
check: lint check-kunit

PHONY += shell
shell: kernel-$(or $(FLAVOUR),release) programs modules-$(or $(FLAVOUR),release) qemu
	@$(VM) --shell --flavour $(or $(FLAVOUR),release) --machine $(or $(MACHINE),full)

DEMO := pindemo $(if $(JSON),--json)
PHONY += run
run:
	@$(MAKE) --no-print-directory kernel-release programs modules-release qemu $(if $(JSON),,libvirt-11.3) >&2
	@if [ -e $(STOCK)/obj-release/arch/x86/boot/bzImage ]; then \
		$(VM) --flavour stock --machine full --command 'pindemo --measure' >build/stock-measured && \
		$(VM) --flavour release --machine full \
			--command '$(DEMO) --stock /mnt/userpin/build/stock-measured'; \
	else \
		$(VM) --flavour release --machine full --command '$(DEMO)'; \
	fi
	@$(if $(JSON),:,$(VM) --flavour release --machine qemu --command 'qemu_demo && unshare -m libvirt_demo')

# Builds what it needs itself, so that a build that fails is counted, too.
PHONY += test
test:
	@scripts/test

PHONY += test-long
test-long:
	@scripts/test --long

PHONY += test-busy
test-busy: $(if $(T),build-vm,tree)
	@scripts/busy $(or $(N),1) $(if $(T),$(VM) $(VMFLAGS) $(T),scripts/test)

# --- the patches -----------------------------------------------------------
PHONY += lint
lint: kernel-release qemu-tree
	@scripts/lint

PHONY += check-bases
check-bases: deps
	@$(LOCK) scripts/check-bases

PHONY += check-hooks
check-hooks: tree
	@scripts/check-hooks $(HOOKS)

PHONY += check-series
check-series: kernel-release qemu-tree
	@$(LOCK) scripts/check-series
	@$(LOCK) scripts/check-qemu-series

PHONY += check-arches
check-arches: tree
	@$(LOCK) scripts/check-arches $(A)

PHONY += export
export: tree
	@scripts/export

PHONY += clean
clean:
	rm -rf build

.PHONY: $(PHONY)
