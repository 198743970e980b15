/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Guest memory that KVM pins.
 *
 * KVM has three kinds of references on guest memory:
 *
 *   mapped	The MMU and the caches of PFNs map it; a mmu notifier tells them
 *		when to let go. A plain reference covers the moment in which the
 *		mapping is set up; put_user_page_ref() ends it.
 *   pinned	The CPU, the hardware or KVM accesses it behind the back of the
 *		page tables: nested VMCBs and VMCSs, the GHCB, APIC pages, and,
 *		only read, MSR bitmaps. A FOLL_PIN reference tells file systems;
 *		virt/kvm/page_pin.c.
 *   region	Memory that must not move for as long as the guest lives: SEV. A
 *		long-term pin in the ledger of the process; virt/kvm/region_pin.c.
 *
 * Each place that has one of them is in docs/kvm.md of the userpin project.
 */
#ifndef _LINUX_KVM_PIN_H
#define _LINUX_KVM_PIN_H

#include <linux/kvm_types.h>
#include <linux/list.h>

struct kvm;
struct kvm_memory_slot;
struct page;
struct pin_account;

kvm_pfn_t kvm_pin_gfn(struct kvm_memory_slot *slot, gfn_t gfn, bool write,
		      struct page **page);
void kvm_put_pinned(struct kvm *kvm, gfn_t gfn, kvm_pfn_t pfn,
		    struct page *page, bool dirty);
void kvm_put_pinned_atomic(kvm_pfn_t pfn, struct page *page, bool dirty);

/**
 * struct kvm_region_holder - the account of regions that a VM has
 * @list: in struct kvm_pinned_regions
 * @acct: the account
 * @regions: how many regions are pinned through it
 */
struct kvm_region_holder {
	struct list_head list;
	struct pin_account *acct;
	unsigned long regions;
};

/**
 * struct kvm_pinned_region - a range of guest memory that is pinned for long
 * @list: in struct kvm_pinned_regions
 * @holder: who has pinned it
 * @addr: where it starts in the VM's process, in bytes; any address
 * @size: bytes
 * @pages: the pages that the range touches, each with a pin
 * @npages: how many
 */
struct kvm_pinned_region {
	struct list_head list;
	struct kvm_region_holder *holder;
	unsigned long addr;
	unsigned long size;
	struct page **pages;
	unsigned long npages;
};

/**
 * struct kvm_pinned_regions - the regions of a VM, and their holders
 * @name: name of the holders, one word
 * @holders: that in the ledger of the VM's process, from the first region on, and
 *	those in the ledgers of processes that had the VM's regions before
 * @list: the regions
 * @npages: pages of all of them
 *
 * Whoever has it in his structure guards it with a lock that may sleep.
 */
struct kvm_pinned_regions {
	const char *name;
	struct list_head holders;
	struct list_head list;
	unsigned long npages;
};

void kvm_pinned_regions_init(struct kvm_pinned_regions *regions,
			     const char *name);
void kvm_pinned_regions_destroy(struct kvm_pinned_regions *regions);

struct kvm_pinned_region *kvm_pin_region(struct kvm_pinned_regions *regions,
					 unsigned long addr,
					 unsigned long size);
struct kvm_pinned_region *
kvm_find_pinned_region(struct kvm_pinned_regions *regions, unsigned long addr,
		       unsigned long size);
void kvm_put_region(struct kvm_pinned_regions *regions,
		    struct kvm_pinned_region *region);

void kvm_move_regions(struct kvm_pinned_regions *to,
		      struct kvm_pinned_regions *from);

#endif /* _LINUX_KVM_PIN_H */
