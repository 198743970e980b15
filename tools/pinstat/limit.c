// SPDX-License-Identifier: GPL-2.0
/*
 * Limits: RLIMIT_MEMLOCK, and who sets it; hard_limit, which is memory.max as well;
 * the number of mappings. libvirt's limit is what its qemuDomainGetMemLockLimitBytes()
 * says. docs/operators.md has the formulas.
 */
#include <stdlib.h>
#include <string.h>

#include "columns.h"
#include "judge.h"
#include "pins.h"
#include "sysroot.h"

#define MIB	(1ull << 20)

static uint64_t max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t with_room(uint64_t bytes)
{
	/* Emulated devices' memory, ROMs, ... as much as libvirt allows for */
	return bytes ? add_counts(bytes, GIB) : 0;
}

/* --- Memory that counts ------------------------------------------------------------ */

struct ram {
	uint64_t all;
	uint64_t now;		/* of virtio-mem, what is asked for */
	uint64_t locked;	/* counted by mlock() */
	uint64_t small;		/* of small pages, where devices pin it: memory.max */
	uint64_t small_now;
};

static struct ram count_ram(const struct judgement *j, const struct vm *vm)
{
	struct ram ram = { 0 };
	size_t i;

	for (i = 0; i < vm->nr; i++) {
		const struct verdict *v = &j->verdicts[i];
		const struct backend *b = &vm->backends[i];
		bool dax = v->file.kind == FILE_DAX ||
			   v->file.kind == FILE_DEVDAX;
		unsigned int times;

		ram.all = add_counts(ram.all, b->size);
		ram.now = add_counts(ram.now, b->needed);
		/* mlock() leaves out huge pages and DAX */
		if (vm->locked && !on_huge_pages(v, b) && !dax)
			ram.locked = add_counts(ram.locked, b->size);
		if (on_huge_pages(v, b) || (dax && b->share))
			continue;
		times = 1 + held_twice(v, b);
		ram.small = add_counts(ram.small,
				       multiply_counts(b->size, times));
		ram.small_now = add_counts(ram.small_now,
					   multiply_counts(b->needed, times));
	}
	return ram;
}

/* IOMMU page tables that RAM is in, one set each */
static uint64_t containers(const struct vm *vm, const struct pinners *p)
{
	bool viommu = vm->viommu[0] || vm->viommu[1];
	uint64_t n = p->nvme + p->vdpa;

	if (p->vfio)
		n += viommu ? p->vfio : 1;
	if (p->iommufd)
		n += viommu ? p->iommufd : 1;
	return n;
}

/*
 * Page tables of small pages take 1/512 of what they map: QEMU's own, KVM's, and
 * the IOMMU's. VFIO remembers at most as much again; the ledger, 1/2000.
 */
static uint64_t with_tables(uint64_t small, uint64_t containers)
{
	uint64_t set = small / 512;

	return add_counts(add_counts(small, small / 2000),
			  multiply_counts(set, 2 + 2 * containers));
}

/* --- Who sets it --------------------------------------------------------------------- */

/* On POWER, KVM's hash table and the tables of each host bridge count; in KiB */
static uint64_t libvirt_ppc64(const struct vm *vm, bool vfio)
{
	uint64_t most = vm->max_memory >> 10, ram = vm->total >> 10, kib;

	kib = most / 128 + 4096ull * vm->phbs + 8192;
	if (vfio)
		kib = add_counts(kib, max(2048ull * 1024 * vm->phbs,
					  add_counts(ram, ram / 512 * vm->phbs + 8192)));
	return multiply_counts(kib, 1024);
}

/* What libvirt sets; 0: nothing */
static uint64_t libvirt_limit(const struct vm *vm, const struct host *host,
			      const char **by)
{
	const struct pinners *p = &vm->pinners[0];
	uint64_t vfio = (uint64_t)p->vfio + p->mdev + p->iommufd;
	uint64_t factor = p->vdpa;

	if (vm->hard_limited) {
		*by = vm->hard_limit ? "hard_limit" : NULL;
		return vm->hard_limit;
	}
	if (vm->locked) {
		*by = "locked";
		return MEMLOCK_NONE;
	}
	if (vm->ppc64 && vm->kvm) {
		*by = "libvirt";
		return libvirt_ppc64(vm, vfio || vm->unassigned || p->nvme ||
				     p->vdpa > vm->vdpa_disks);
	}
	/* libvirt counts them, though the guest does not get them */
	vfio += vm->unassigned;
	if (host->libvirt && host->libvirt < LIBVIRT_NVME)
		vfio += p->nvme;
	else
		factor += p->nvme;
	if (vfio)
		factor += vm->viommu[0] ? vfio : 1;
	if (!factor)
		return 0;
	*by = "libvirt";
	return with_room(multiply_counts(factor, vm->total));
}

/* --- What is needed ------------------------------------------------------------------ */

/* That so many devices of one kind map RAM into: a virtual IOMMU gives each its own */
static uint64_t address_spaces(unsigned int devices, bool viommu)
{
	return devices ? (viommu ? devices : 1) : 0;
}

/* @all: the RAM that is mapped */
static void count_memlock(struct memlock *m, const struct vm *vm,
			  const struct pinners *p, uint64_t all,
			  uint64_t locked)
{
	bool viommu = vm->viommu[0] || vm->viommu[1];
	uint64_t vfio = (uint64_t)p->vfio + p->mdev;
	uint64_t vmlck = p->nvme, others = p->vdpa, by_libvirt, by_user;
	/* SEV counts by itself, and compares that alone */
	uint64_t sev = vm->secret == SECRET_SEV, stock, ledger;

	if (vfio)
		vmlck += viommu ? vfio : 1;
	/*
	 * iommufd is part of VmLck if libvirt has opened it, else of the user's locked
	 * pages; and always of VmPin, which vhost-vdpa compares.
	 */
	by_libvirt = address_spaces(p->iommufd - p->by_user, viommu);
	by_user = address_spaces(p->by_user, viommu);
	vmlck += by_libvirt;
	if (others)
		others += by_libvirt;
	others += by_user;
	/* What is locked and pinned counts twice, on any kernel */
	stock = max(add_counts(multiply_counts(vmlck, all), locked),
		    multiply_counts(max(others, sev), all));
	/* A ledger has it once in each counter */
	ledger = max(add_counts(vmlck ? all : 0, locked),
		     others || sev ? all : 0);
	m->stock = with_room(stock);
	m->ledger = with_room(ledger);
}

/* The room may not be needed, but ROMs and video memory are pinned as RAM is */
static uint64_t least(uint64_t need, const struct vm *vm)
{
	return need ? add_counts(need - GIB, vm->extra) : 0;
}

static void advise_limit(struct judgement *j, const struct vm *vm,
			 const struct host *host)
{
	const struct memlock *m = &j->memlock;
	const struct pinners *p = &vm->pinners[1];
	uint64_t need = host->kernel ? m->ledger : m->stock, mib;

	if (vm->pid) {
		advise(&j->todo, xasprintf("prlimit --pid %ld --memlock=%llu",
					   vm->pid, (unsigned long long)need),
		       "Raise the limit of locked memory");
		return;
	}
	/* It is memory.max, too, and must do as both */
	mib = max(need, m->memory) / MIB + !!(max(need, m->memory) % MIB);
	advise(&j->todo, xasprintf("<memtune>\n"
				   "  <hard_limit unit='MiB'>%llu</hard_limit>\n"
				   "</memtune>", (unsigned long long)mib),
	       "%s. It is memory.max of the cgroup as well: RAM, QEMU and its page tables must fit into it",
	       vm->hard_limited ? "Raise the limit" :
	       p->vfio || p->mdev || p->iommufd || p->nvme || p->vdpa ?
	       "libvirt does not see devices of <qemu:commandline>: set a limit" :
	       vm->secret == SECRET_SEV ?
	       "libvirt sets no limit for SEV: set one" :
	       "libvirt sets a limit that is too low: set one");
}

/* Is it too low for what QEMU takes? */
static bool judge_hard_limit(struct judgement *j, const struct vm *vm,
			     uint64_t now)
{
	const struct memlock *m = &j->memlock;
	char *has, *need;

	/* QEMU itself: a quarter of a GiB at least */
	if (!vm->hard_limited || vm->pid || m->low ||
	    vm->hard_limit >= add_counts(now, 256 * MIB))
		return false;
	has = human_size(vm->hard_limit);
	need = human_size(m->memory);
	warn_of(j, "hard_limit is %s, and is memory.max of the cgroup as well: the kernel kills the VM when RAM, QEMU and its page tables need more, here up to %s.",
		has, need);
	free(has);
	free(need);
	return true;
}

/* --- The number of mappings ------------------------------------------------------------ */

#define DMA_ENTRIES	65535
/* For RAM, ROMs and the devices' own memory: as many as QEMU reckons with without KVM */
#define OTHER_ENTRIES	512

static uint64_t dma_entry_limit(void)
{
	char *text = sysroot_read(NULL, "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit");
	uint64_t n;

	if (text)
		text[strcspn(text, "\n")] = '\0';
	if (!text || !parse_number(text, &n))
		n = DMA_ENTRIES;
	free(text);
	return n;
}

/* As QEMU's virtio_mem_default_block_size() */
static uint64_t block_of(const struct verdict *v, const struct backend *b)
{
	uint64_t page = on_huge_pages(v, b) ? page_size(v, b) : 0;

	return b->block ?: (page ? max(page, MIB) : 2 * MIB);
}

/* Each block of virtio-mem is a mapping of its own, so that each can be unplugged */
static void judge_mappings(struct judgement *j, const struct vm *vm,
			   const struct pinners *p)
{
	uint64_t now = 0, most = 0, limit = dma_entry_limit();
	size_t i;

	for (i = 0; i < vm->nr; i++) {
		const struct backend *b = &vm->backends[i];
		uint64_t block = block_of(&j->verdicts[i], b);

		if (b->use != USE_VIRTIO_MEM)
			continue;
		now = add_counts(now, b->needed / block);
		most = add_counts(most, b->size / block);
	}
	limit -= limit > OTHER_ENTRIES ? OTHER_ENTRIES : limit;
	/* Behind a virtual IOMMU the guest says what is mapped */
	if (!(p->vfio || p->mdev) || vm->viommu[0] || vm->viommu[1] ||
	    most <= limit)
		return;
	if (now > limit)
		warn_of(j, "virtio-mem needs a mapping for each of its %llu blocks, and a VFIO container takes %llu beside RAM and devices (dma_entry_limit): not all can be plugged.",
			(unsigned long long)now, (unsigned long long)limit);
	else
		advise(&j->notes, NULL, "virtio-mem needs a mapping for each of up to %llu blocks, and a VFIO container takes %llu beside RAM and devices (dma_entry_limit).",
		       (unsigned long long)most, (unsigned long long)limit);
	advise(now > limit ? &j->todo : &j->notes,
	       xasprintf("options vfio_iommu_type1 dma_entry_limit=%llu",
			 (unsigned long long)add_counts(most, 4096)),
	       "Use larger blocks (<block> of <memory model='virtio-mem'>, block-size), or allow more mappings by a line in /etc/modprobe.d");
}

void judge_limit(struct judgement *j, const struct vm *vm,
		 const struct host *host)
{
	struct pinners p = pinners_sum(vm);
	struct ram ram = count_ram(j, vm);
	struct memlock *m = &j->memlock, now;
	bool small = false;

	count_memlock(m, vm, &p, ram.all, ram.locked);
	count_memlock(&now, vm, &p, ram.now, ram.locked < ram.now ?
		      ram.locked : ram.now);
	if (vm->libvirt) {
		m->set = libvirt_limit(vm, host, &m->set_by);
	} else if (host->limited) {
		m->set = host->limit;
		m->set_by = "process";
	}
	m->least = least(host->kernel ? now.ledger : now.stock, vm);
	/* On POWER, KVM's tables and the IOMMU's count in other ways */
	m->low = !vm->ppc64 && m->least > m->set &&
		 (vm->libvirt || host->limited);
	/* Of a hard_limit of 0 something else is said */
	if (vm->hard_limited && !vm->hard_limit)
		m->low = false;
	if (m->low)
		j->worst = OUTCOME_REFUSES;

	m->memory = add_counts(with_tables(ram.small, containers(vm, &p)), GIB);
	if (vm->hard_limited && !vm->hard_limit) {
		advise(&j->todo, NULL, "Remove <hard_limit>0</hard_limit>: libvirt sets memory.max to 0, and the kernel kills QEMU as it starts");
		j->worst = OUTCOME_REFUSES;
		return;
	}
	/* Else the VM need not use all of its RAM */
	if (j->pinned || vm->locked)
		small = judge_hard_limit(j, vm, with_tables(ram.small_now,
							    containers(vm, &p)));
	if (j->pinned)
		judge_mappings(j, vm, &p);
	if (m->low || small)
		advise_limit(j, vm, host);
}
