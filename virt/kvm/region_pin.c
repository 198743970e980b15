// SPDX-License-Identifier: GPL-2.0
/*
 * Regions of guest memory that are pinned for long.
 *
 * The pages of an encrypted guest must stay where they are, since what they
 * hold depends on their address. Its VMM registers the memory, and each VM has
 * an account of these pins in the ledger of its process (mm/pin_account.c), so
 * that they are charged once with what devices pin, and seen.
 *
 * Rules
 *
 *  1. Pages are pinned for reading: KVM does not write them, and memory that
 *     is mapped read-only may be registered. But the guest writes, so a
 *     writable shared mapping of a file whose file system must see each write
 *     is refused (PIN_ACCOUNT_WRITES).
 *  2. The holder belongs to the process that runs the VM. A VM that takes over
 *     from another takes its pins into the ledger of its own process, where
 *     they must be within the limit; if they are not, nothing has changed.
 *  3. Putting never fails, and needs no process: the last reference of a VM may
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

/* Pages that one step moves, so that no lock is held for long */
#define MOVE_STEP	1024UL

static struct pin_owner region_owner(void)
{
	return (struct pin_owner) {
		.task = current->group_leader,
		.lock_cap = capable(CAP_IPC_LOCK),
	};
}

/* The holder of the VM's process */
static int need_account(struct kvm_pinned_regions *regions)
{
	struct pin_account *acct;

	if (regions->acct)
		return 0;
	acct = pin_account_create(current->mm, regions->holder,
				  PIN_ACCOUNT_WRITES);
	if (IS_ERR(acct))
		return PTR_ERR(acct);
	regions->acct = acct;
	return 0;
}

/**
 * kvm_pinned_regions_init() - prepare for the regions of a VM
 * @regions: the regions; there will be none
 * @holder: name of their holder, one word; it stays where it is
 *
 * Context: Any context; does not sleep.
 */
void kvm_pinned_regions_init(struct kvm_pinned_regions *regions,
			     const char *holder)
{
	*regions = (struct kvm_pinned_regions) { .holder = holder };
	INIT_LIST_HEAD(&regions->list);
}
EXPORT_SYMBOL_GPL(kvm_pinned_regions_init);

/**
 * kvm_pinned_regions_destroy() - put all regions of a VM, and end their holder
 * @regions: the regions; may be used again afterwards
 *
 * Context: Process context, of any process. May sleep.
 */
void kvm_pinned_regions_destroy(struct kvm_pinned_regions *regions)
{
	struct kvm_pinned_region *region, *next;

	list_for_each_entry_safe(region, next, &regions->list, list) {
		kvm_put_region(regions, region);
		cond_resched();
	}
	if (regions->acct)
		pin_account_destroy(regions->acct);
	regions->acct = NULL;
}
EXPORT_SYMBOL_GPL(kvm_pinned_regions_destroy);

static struct kvm_pinned_region *alloc_region(unsigned long addr,
					      unsigned long size)
{
	struct kvm_pinned_region *region;
	unsigned long npages, last;

	/* The end is the last byte: the whole address space is a range, too */
	if (!size || check_add_overflow(addr, size - 1, &last))
		return ERR_PTR(-EINVAL);
	npages = (last >> PAGE_SHIFT) - (addr >> PAGE_SHIFT) + 1;
	if (npages > INT_MAX)
		return ERR_PTR(-EINVAL);

	region = kzalloc(sizeof(*region), GFP_KERNEL_ACCOUNT);
	if (!region)
		return ERR_PTR(-ENOMEM);
	/* kvmalloc() ends at 2 GiB, which is the array of 1 TiB */
	if (npages <= PAGE_SIZE / sizeof(*region->pages))
		region->pages = kmalloc_array(npages, sizeof(*region->pages),
					      GFP_KERNEL_ACCOUNT);
	else
		region->pages = __vmalloc_array(npages, sizeof(*region->pages),
						GFP_KERNEL_ACCOUNT);
	if (!region->pages) {
		kfree(region);
		return ERR_PTR(-ENOMEM);
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

/**
 * kvm_pin_region() - pin a range of guest memory for long
 * @regions: the regions of the VM
 * @addr: where the range starts in the VM's process, in bytes; any address
 * @size: bytes
 *
 * Called by the VM's own process. RLIMIT_MEMLOCK applies to what the range adds
 * to the ledger of that process. A refusal is counted and logged by the holder.
 *
 * Idea: sev_mem_enc_register_region(), which counted per VM and pinned shared
 * files as well.
 *
 * Context: Process context. May sleep; takes the mmap_lock of current->mm.
 * Return: the region, until kvm_put_region(); or, with nothing pinned,
 * -EINVAL: the range is empty, ends beyond the last address, or has more than
 * INT_MAX pages.
 * -ENOMEM: no memory; or as pin_user_pages_account(), which see for the others.
 */
struct kvm_pinned_region *kvm_pin_region(struct kvm_pinned_regions *regions,
					 unsigned long addr,
					 unsigned long size)
{
	struct pin_owner owner = region_owner();
	struct kvm_pinned_region *region;
	unsigned long done = 0;
	long ret;

	region = alloc_region(addr, size);
	if (IS_ERR(region))
		return region;
	ret = need_account(regions);
	if (ret)
		goto err_free;

	while (done < region->npages) {
		ret = pin_user_pages_account(regions->acct, &owner,
					     (addr & PAGE_MASK) +
					     (done << PAGE_SHIFT),
					     region->npages - done, 0,
					     region->pages + done);
		if (ret < 0)
			goto err_put;
		done += ret;
	}
	pin_account_settle(regions->acct);

	list_add_tail(&region->list, &regions->list);
	regions->npages += region->npages;
	return region;

err_put:
	put_user_pages_account(regions->acct, region->pages, done, false);
	pin_account_settle(regions->acct);
err_free:
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
	list_del(&region->list);
	regions->npages -= region->npages;
	put_user_pages_account(regions->acct, region->pages, region->npages,
			       false);
	pin_account_settle(regions->acct);
	free_region(region);
}
EXPORT_SYMBOL_GPL(kvm_put_region);

static void move_out(struct pin_account *acct, struct kvm_pinned_region *region,
		     unsigned long npages)
{
	unsigned long done, n;

	for (done = 0; done < npages; done += n) {
		n = min(npages - done, MOVE_STEP);
		pin_account_move_out_pages(acct, region->pages + done, n);
	}
}

/* All of a region, or nothing */
static int move_in(struct pin_account *acct, const struct pin_owner *owner,
		   struct kvm_pinned_region *region)
{
	unsigned long done, n;
	int ret;

	for (done = 0; done < region->npages; done += n) {
		n = min(region->npages - done, MOVE_STEP);
		ret = pin_account_move_in_pages(acct, owner,
						region->pages + done, n);
		if (ret) {
			move_out(acct, region, done);
			return ret;
		}
		cond_resched();
	}
	return 0;
}

/* The process is the same, so is the ledger: the holder itself moves */
static bool same_process(struct kvm_pinned_regions *from)
{
	return !from->acct || pin_account_is_for(from->acct, current->mm);
}

/**
 * kvm_move_regions_begin() - charge a VM for the regions of another
 * @to: the regions of the VM that takes over, whose process calls; none yet
 * @from: the regions of the other VM
 *
 * The first phase of a move. Until the second, which is kvm_move_regions_end(),
 * the pages are in both ledgers.
 *
 * Context: Process context. May sleep; takes the mmap_lock of current->mm.
 * Return: 0; or, with nothing changed,
 * -ENOMEM: RLIMIT_MEMLOCK of the calling process does not allow it, or no
 * memory.
 * -EBUSY: the limit of its cgroup does not allow it.
 * -EINTR: a fatal signal came.
 */
int kvm_move_regions_begin(struct kvm_pinned_regions *to,
			   struct kvm_pinned_regions *from)
{
	struct pin_owner owner = region_owner();
	struct kvm_pinned_region *region;
	int ret;

	kvm_pinned_regions_init(to, from->holder);
	if (same_process(from))
		return 0;

	ret = need_account(to);
	if (ret)
		return ret;
	list_for_each_entry(region, &from->list, list) {
		ret = move_in(to->acct, &owner, region);
		if (ret)
			goto err;
	}
	pin_account_settle(to->acct);
	return 0;

err:
	list_for_each_entry_continue_reverse(region, &from->list, list)
		move_out(to->acct, region, region->npages);
	kvm_pinned_regions_destroy(to);
	return ret;
}
EXPORT_SYMBOL_GPL(kvm_move_regions_begin);

/**
 * kvm_move_regions_end() - give a VM the regions of another
 * @to: the regions of the VM that takes over
 * @from: the regions of the other VM; none are left
 *
 * The second phase of a move, which cannot fail.
 *
 * Context: Process context. May sleep.
 */
void kvm_move_regions_end(struct kvm_pinned_regions *to,
			  struct kvm_pinned_regions *from)
{
	struct kvm_pinned_region *region;

	if (to->acct)
		list_for_each_entry(region, &from->list, list)
			move_out(from->acct, region, region->npages);
	else
		swap(to->acct, from->acct);
	list_splice_init(&from->list, &to->list);
	swap(to->npages, from->npages);
	kvm_pinned_regions_destroy(from);
}
EXPORT_SYMBOL_GPL(kvm_move_regions_end);

#include "tests/region_pin_kunit.h"
