// SPDX-License-Identifier: GPL-2.0
/*
 * Regions of guest memory that are pinned for long.
 *
 * The pages of an encrypted guest must stay where they are, since what they
 * hold depends on their address. Its VMM registers the memory, and each VM has
 * an account of these pins in the ledger of its process (mm/pin_account.c), so
 * that they are held once with what devices pin, and seen.
 *
 * Rules
 *
 *  1. Pages are pinned for reading: KVM does not write them, and memory that
 *     is mapped read-only may be registered. But the guest writes, so a
 *     writable shared mapping of a file whose file system must see each write
 *     is refused (PIN_ACCOUNT_WRITES). If mprotect() makes one writable later,
 *     nobody knows.
 *  2. RLIMIT_MEMLOCK is compared with all pages of a VM's regions, as it was
 *     before there were ledgers. So they are part of no counter, and a page
 *     counts in each region that has it.
 *  3. A VM that takes over from another gets the regions as they are, pinned
 *     through the account of the process that had them first. So that takes no
 *     time, and cannot fail. They stay charged to the cgroup of that process,
 *     as its memory does.
 *  4. Putting never fails, and needs no process: the last reference of a VM may
 *     go when its process is gone.
 */

#include <linux/capability.h>
#include <linux/err.h>
#include <linux/export.h>
#include <linux/kvm_pin.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/user_pages.h>
#include <linux/vmalloc.h>

static struct pin_owner region_owner(void)
{
	return (struct pin_owner) {
		.task = current->group_leader,
		.lock_cap = capable(CAP_IPC_LOCK),
	};
}

/* The holder of the calling process, made if there is none */
static struct kvm_region_holder *need_holder(struct kvm_pinned_regions *regions)
{
	struct kvm_region_holder *holder;

	list_for_each_entry(holder, &regions->holders, list)
		if (pin_account_is_for(holder->acct, current->mm))
			return holder;

	holder = kzalloc(sizeof(*holder), GFP_KERNEL_ACCOUNT);
	if (!holder)
		return ERR_PTR(-ENOMEM);
	holder->acct = pin_account_get(current->mm, NULL, regions->name,
				       PIN_ACCOUNT_WRITES, NULL);
	if (IS_ERR(holder->acct)) {
		struct pin_account *err = holder->acct;

		kfree(holder);
		return ERR_CAST(err);
	}
	list_add_tail(&holder->list, &regions->holders);
	return holder;
}

static void free_holder(struct kvm_region_holder *holder)
{
	list_del(&holder->list);
	pin_account_put(holder->acct);
	kfree(holder);
}

/**
 * kvm_pinned_regions_init() - prepare for the regions of a VM
 * @regions: the regions; there will be none
 * @name: name of their holders, one word; it stays where it is
 *
 * Context: Any context; does not sleep.
 */
void kvm_pinned_regions_init(struct kvm_pinned_regions *regions,
			     const char *name)
{
	*regions = (struct kvm_pinned_regions) { .name = name };
	INIT_LIST_HEAD(&regions->holders);
	INIT_LIST_HEAD(&regions->list);
}
EXPORT_SYMBOL_GPL(kvm_pinned_regions_init);

/**
 * kvm_pinned_regions_destroy() - put all regions of a VM, and end their holders
 * @regions: the regions; may be used again afterwards
 *
 * Context: Process context, of any process. May sleep.
 */
void kvm_pinned_regions_destroy(struct kvm_pinned_regions *regions)
{
	struct kvm_region_holder *holder, *next_holder;
	struct kvm_pinned_region *region, *next;

	list_for_each_entry_safe(region, next, &regions->list, list) {
		kvm_put_region(regions, region);
		cond_resched();
	}
	list_for_each_entry_safe(holder, next_holder, &regions->holders, list)
		free_holder(holder);
}
EXPORT_SYMBOL_GPL(kvm_pinned_regions_destroy);

/* The pages that a range touches; 0 if it makes no sense */
static unsigned long pages_of(unsigned long addr, unsigned long size)
{
	unsigned long npages, last;

	/* The end is the last byte: the whole address space is a range, too */
	if (!size || check_add_overflow(addr, size - 1, &last))
		return 0;
	npages = (last >> PAGE_SHIFT) - (addr >> PAGE_SHIFT) + 1;
	return npages > INT_MAX ? 0 : npages;
}

static struct kvm_pinned_region *alloc_region(unsigned long addr,
					      unsigned long size,
					      unsigned long npages)
{
	struct kvm_pinned_region *region;

	region = kzalloc(sizeof(*region), GFP_KERNEL_ACCOUNT);
	if (!region)
		return NULL;
	/* kvmalloc() ends at 2 GiB, which is the array of 1 TiB */
	if (npages <= PAGE_SIZE / sizeof(*region->pages))
		region->pages = kmalloc_array(npages, sizeof(*region->pages),
					      GFP_KERNEL_ACCOUNT);
	else
		region->pages = __vmalloc_array(npages, sizeof(*region->pages),
						GFP_KERNEL_ACCOUNT);
	if (!region->pages) {
		kfree(region);
		return NULL;
	}
	region->addr = addr;
	region->size = size;
	region->npages = npages;
	return region;
}

static void free_region(struct kvm_pinned_region *region)
{
	kvfree(region->pages);
	kfree(region);
}

/* As before there were ledgers: the pages of all regions, however often */
static int check_limit(struct kvm_pinned_regions *regions,
		       struct kvm_region_holder *holder,
		       const struct pin_owner *owner, unsigned long addr,
		       unsigned long npages)
{
	unsigned long limit = rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT;

	if (owner->lock_cap || regions->npages + npages <= limit)
		return 0;
	pin_account_refused(holder->acct, owner, addr & PAGE_MASK, npages, 0,
			    -ENOMEM, PIN_REASON_MEMLOCK);
	return -ENOMEM;
}

/**
 * kvm_pin_region() - pin a range of guest memory for long
 * @regions: the regions of the VM
 * @addr: where the range starts in the VM's process, in bytes; any address
 * @size: bytes
 *
 * Called by the VM's own process. RLIMIT_MEMLOCK applies to the pages of all its
 * regions. A refusal is counted and logged by the holder.
 *
 * Idea: sev_mem_enc_register_region(), which pinned shared files as well.
 *
 * Context: Process context. May sleep; takes the mmap_lock of current->mm.
 * Return: the region, until kvm_put_region(); or, with nothing pinned,
 * -EINVAL: the range is empty, ends beyond the last address, or has more than
 * INT_MAX pages.
 * -ENOMEM: RLIMIT_MEMLOCK does not allow it, or no memory; or as
 * pin_user_pages_account(), which see for the others.
 */
struct kvm_pinned_region *kvm_pin_region(struct kvm_pinned_regions *regions,
					 unsigned long addr,
					 unsigned long size)
{
	struct pin_owner owner = region_owner();
	struct kvm_region_holder *holder;
	struct kvm_pinned_region *region;
	unsigned long npages = pages_of(addr, size), done = 0;
	long ret;

	if (!npages)
		return ERR_PTR(-EINVAL);
	holder = need_holder(regions);
	if (IS_ERR(holder))
		return ERR_CAST(holder);
	/* Before the array, which takes memory as well */
	ret = check_limit(regions, holder, &owner, addr, npages);
	if (ret)
		return ERR_PTR(ret);
	region = alloc_region(addr, size, npages);
	if (!region)
		return ERR_PTR(-ENOMEM);

	while (done < region->npages) {
		ret = pin_user_pages_account(holder->acct, &owner,
					     (addr & PAGE_MASK) +
					     (done << PAGE_SHIFT),
					     region->npages - done, 0,
					     region->pages + done);
		if (ret < 0)
			goto err_put;
		done += ret;
	}
	pin_account_settle(holder->acct);

	region->holder = holder;
	holder->regions++;
	list_add_tail(&region->list, &regions->list);
	regions->npages += region->npages;
	return region;

err_put:
	put_user_pages_account(holder->acct, region->pages, done, false);
	pin_account_settle(holder->acct);
	free_region(region);
	return ERR_PTR(ret);
}
EXPORT_SYMBOL_GPL(kvm_pin_region);

/**
 * kvm_find_pinned_region() - find a region
 * @regions: the regions of the VM
 * @addr: where it starts in the VM's process, in bytes, as it was pinned
 * @size: bytes, likewise
 *
 * Context: Any context; does not sleep.
 * Return: the region, the oldest if there are several; or NULL.
 */
struct kvm_pinned_region *
kvm_find_pinned_region(struct kvm_pinned_regions *regions, unsigned long addr,
		       unsigned long size)
{
	struct kvm_pinned_region *region;

	list_for_each_entry(region, &regions->list, list)
		if (region->addr == addr && region->size == size)
			return region;
	return NULL;
}
EXPORT_SYMBOL_GPL(kvm_find_pinned_region);

/**
 * kvm_put_region() - put the pages of a region, and forget it
 * @regions: the regions of the VM
 * @region: one of them
 *
 * The pages are not marked dirty: the guest writes through the MMU, which does
 * that when it unmaps them.
 *
 * Context: Process context, of any process. May sleep.
 */
void kvm_put_region(struct kvm_pinned_regions *regions,
		    struct kvm_pinned_region *region)
{
	struct kvm_region_holder *holder = region->holder;

	list_del(&region->list);
	regions->npages -= region->npages;
	put_user_pages_account(holder->acct, region->pages, region->npages,
			       false);
	pin_account_settle(holder->acct);
	free_region(region);
	/* That of the VM's own process stays, with what it says of refusals */
	if (!--holder->regions &&
	    !pin_account_is_for(holder->acct, current->mm))
		free_holder(holder);
}
EXPORT_SYMBOL_GPL(kvm_put_region);

/**
 * kvm_move_regions() - give a VM the regions of another
 * @to: the regions of the VM that takes over, whose process calls; it has none
 *	yet, and need not be prepared
 * @from: the regions of the other VM; none are left
 *
 * Takes the same time however many there are. Reports name the calling process
 * for them from now on.
 *
 * Context: Process context. May sleep.
 */
void kvm_move_regions(struct kvm_pinned_regions *to,
		      struct kvm_pinned_regions *from)
{
	struct kvm_region_holder *holder, *next;

	kvm_pinned_regions_init(to, from->name);
	list_for_each_entry_safe(holder, next, &from->holders, list) {
		if (!holder->regions)
			free_holder(holder);
		else
			pin_account_taken_over(holder->acct);
	}
	list_splice_init(&from->holders, &to->holders);
	list_splice_init(&from->list, &to->list);
	swap(to->npages, from->npages);
}
EXPORT_SYMBOL_GPL(kvm_move_regions);

#include "tests/region_pin_kunit.h"
