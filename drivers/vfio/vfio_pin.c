// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pinned user memory of a VFIO container
 *
 * A container maps memory of one process, seldom of several, for devices that
 * an IOMMU translates for; and pins single pages for devices that do without,
 * such as mediated ones. All pins are taken through accounts, see
 * include/linux/user_pages.h: one for each pair of a container and a mm. The
 * ledger behind them charges memory once, however many devices, containers and
 * mediated devices pin it. So there is no counting here.
 *
 * Rules
 *
 *  1. An account begins with the first mapping that its mm makes. It does not
 *     wait for a first pin, which may come from a kernel thread. It ends with
 *     the container, or when it has no mapping, no process runs with its mm,
 *     and another mm maps: what it says of refusals is asked for after the
 *     mapping has failed. Without mappings it does not keep its mm from the
 *     adoption of another account.
 *  2. Pages are pinned before they are mapped, and put after they are unmapped
 *     from all IOMMUs and the IOTLBs are flushed. What an IOMMU fails to unmap
 *     is never put.
 *  3. Pages are pinned in batches as extents. Pages that lie together are
 *     mapped together, also when they come from two calls, so that the IOMMU
 *     can use its largest leaves. PFNs are compared; nothing is concluded from
 *     the folio, which the process may have mapped in any order.
 *  4. A mapping remembers its PFNs, as runs of pages. A run takes 8 bytes: at
 *     worst, with no two pages together, as much as the IOMMU's page table. To
 *     look up the PFN of each 4K page in that took most of the time that it
 *     takes to unmap.
 *  5. Putting and unmapping never fail for want of memory of ours: what they need is
 *     allocated before anything is mapped. An IOMMU's driver may lack it, see rule 2.
 *  6. VM_PFNMAP memory has no pages to pin: its PFNs are mapped as they are,
 *     a leaf of the process's page table at a time. A batch has either pinned
 *     pages or these, and so has a block of runs: nothing of it is put or moved.
 *
 * Callers hold the lock of the container throughout. Locks taken: mmap_lock,
 * and those of the account.
 */

#include <linux/export.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/scatterlist.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "vfio_pin.h"

/* Extents in a batch: of small pages, each call pins PIN_EXTENTS_MIN of them */
#define VFIO_PIN_EXTENTS	(2 * PIN_EXTENTS_MIN)

/*
 * A batch ends where its IOVA is a multiple of this. Larger leaves are not made
 * then, and a fatal signal waits for no more than this to be mapped.
 */
#define VFIO_PIN_CHUNK		SZ_1G

/* Leaves to look up in a VM_PFNMAP mapping before mmap_lock is let go */
#define VFIO_PFNMAP_MAX		512

/* A run is a PFN and, in so many bits, how many pages follow the first one */
#define VFIO_RUN_BITS		24

/**
 * struct vfio_run_block - what a mapping has pinned, in the order of its IOVAs
 * @next: in the list of the mapping's vfio_pinner
 * @nr: how many runs, at least 1 in that list
 * @max: room for so many
 * @pfnmap: they are of VM_PFNMAP mappings, and not pinned
 * @runs: the runs; no two of them lie together
 */
struct vfio_run_block {
	struct list_head next;
	unsigned short nr;
	unsigned short max;
	bool pfnmap;
	u64 runs[];
};

/* The largest block is an allocation of 4 KiB, with no waste */
#define VFIO_RUN_BLOCK_MAX						\
	((SZ_4K - sizeof(struct vfio_run_block)) / sizeof(u64))

/**
 * struct vfio_pin_account - the account of a container for a mm
 * @next: in the container's list
 * @acct: the account
 * @users: how many vfio_dmas refer to it; it may stay when there are none
 *
 * Protected by the lock of the container.
 */
struct vfio_pin_account {
	struct list_head next;
	struct pin_account *acct;
	unsigned int users;
};

static void account_free(struct vfio_pin_account *account)
{
	list_del(&account->next);
	pin_account_put(account->acct);
	kfree(account);
}

/* Processes may come and go while the container stays */
static void free_dead_accounts(struct list_head *accounts)
{
	struct vfio_pin_account *account, *next;

	list_for_each_entry_safe(account, next, accounts, next) {
		if (!account->users && pin_account_is_dead(account->acct))
			account_free(account);
	}
}

static struct vfio_pin_account *account_find(struct list_head *accounts,
					     struct mm_struct *mm)
{
	struct vfio_pin_account *account;

	list_for_each_entry(account, accounts, next)
		if (pin_account_is_for(account->acct, mm))
			return account;
	return NULL;
}

/* Returns whether there was one, which was all that kept a ledger for @mm */
static bool free_idle_account(struct list_head *accounts, struct mm_struct *mm)
{
	struct vfio_pin_account *account = account_find(accounts, mm);

	if (!account || account->users || !pin_account_is_idle(account->acct))
		return false;
	account_free(account);
	return true;
}

static struct vfio_pin_account *account_get(struct list_head *accounts,
					    struct mm_struct *mm)
{
	struct vfio_pin_account *account = account_find(accounts, mm);
	struct pin_account *acct;

	if (account) {
		account->users++;
		return account;
	}

	free_dead_accounts(accounts);

	account = kzalloc(sizeof(*account), GFP_KERNEL_ACCOUNT);
	if (!account)
		return ERR_PTR(-ENOMEM);

	acct = pin_account_get(mm, NULL, "vfio",
			       PIN_ACCOUNT_PFNMAP | PIN_ACCOUNT_FOREIGN |
			       PIN_COUNT_LOCKED, NULL);
	if (IS_ERR(acct)) {
		kfree(account);
		return ERR_CAST(acct);
	}
	account->acct = acct;
	account->users = 1;
	list_add_tail(&account->next, accounts);
	return account;
}

/**
 * vfio_pin_release() - free the accounts of a container
 * @accounts: the container's accounts; it has no mapping any more
 *
 * Context: Process context. May sleep; nobody else has the container.
 */
void vfio_pin_release(struct list_head *accounts)
{
	struct vfio_pin_account *account, *next;

	list_for_each_entry_safe(account, next, accounts, next)
		account_free(account);
}
EXPORT_SYMBOL_GPL(vfio_pin_release);

/**
 * vfio_pinner_init() - let the current process pay for a new mapping
 * @pinner: what to set up
 * @accounts: the container's accounts, of struct vfio_pin_account
 *
 * The group leader stands for the process, so that all its mappings have the
 * same task.
 *
 * Context: Process context. May sleep; the container's lock is held.
 * Return: 0; or
 * -ENODEV: the current task has no mm.
 * -ENOMEM: no memory for the account.
 */
int vfio_pinner_init(struct vfio_pinner *pinner, struct list_head *accounts)
{
	struct vfio_pin_account *account;
	struct mm_struct *mm = current->mm;

	if (!mm)
		return -ENODEV;

	account = account_get(accounts, mm);
	if (IS_ERR(account))
		return PTR_ERR(account);

	pinner->account = account;
	INIT_LIST_HEAD(&pinner->runs);
	mmgrab(mm);
	pinner->mm = mm;
	pinner->owner.task = get_task_struct(current->group_leader);
	pinner->owner.lock_cap = capable(CAP_IPC_LOCK);
	return 0;
}
EXPORT_SYMBOL_GPL(vfio_pinner_init);

/**
 * vfio_pinner_fini() - end what vfio_pinner_init() began
 * @pinner: all its pins have been put
 *
 * Context: Process context. May sleep; the container's lock is held.
 */
void vfio_pinner_fini(struct vfio_pinner *pinner)
{
	WARN_ON(!list_empty(&pinner->runs));
	pinner->account->users--;
	put_task_struct(pinner->owner.task);
	mmdrop(pinner->mm);
}
EXPORT_SYMBOL_GPL(vfio_pinner_fini);

/**
 * vfio_pin_settle() - give back what the accounts have taken beyond need
 * @accounts: the container's accounts
 *
 * The cgroup is charged in steps while pages are pinned, and not given back with each
 * put. To be called at the end of each request.
 *
 * Context: Process context. May sleep; the container's lock is held.
 */
void vfio_pin_settle(struct list_head *accounts)
{
	struct vfio_pin_account *account;

	list_for_each_entry(account, accounts, next)
		pin_account_settle(account->acct);
}
EXPORT_SYMBOL_GPL(vfio_pin_settle);

static u64 run_pack(unsigned long pfn, unsigned long npages)
{
	/* What is mapped at once is no longer than a run can say */
	BUILD_BUG_ON(VFIO_PIN_CHUNK >> PAGE_SHIFT > BIT(VFIO_RUN_BITS));
	return (u64)pfn << VFIO_RUN_BITS | (npages - 1);
}

static unsigned long run_pfn(u64 run)
{
	return run >> VFIO_RUN_BITS;
}

static unsigned long run_npages(u64 run)
{
	return (run & (BIT(VFIO_RUN_BITS) - 1)) + 1;
}

/* NULL if the mapping has pinned nothing yet */
static struct vfio_run_block *last_block(struct vfio_pinner *pinner)
{
	if (list_empty(&pinner->runs))
		return NULL;
	return list_last_entry(&pinner->runs, struct vfio_run_block, next);
}

/* Make the last run longer; false if @extent does not follow it */
static bool run_extend(struct vfio_pinner *pinner,
		       const struct pin_extent *extent, bool pfnmap)
{
	struct vfio_run_block *block = last_block(pinner);
	unsigned long npages;
	u64 *run;

	if (!block || block->pfnmap != pfnmap)
		return false;
	run = &block->runs[block->nr - 1];
	npages = run_npages(*run);
	if (run_pfn(*run) + npages != extent->pfn ||
	    npages + extent->npages > BIT(VFIO_RUN_BITS))
		return false;
	*run = run_pack(run_pfn(*run), npages + extent->npages);
	return true;
}

/* Undo or end a move of all runs; or of those before number @i of block @end */
static void move_runs(struct pin_move *move, struct vfio_pinner *pinner,
		      void (*one)(struct pin_move *, unsigned long, unsigned long),
		      struct vfio_run_block *end, unsigned int i)
{
	struct vfio_run_block *block;
	unsigned int j;

	list_for_each_entry(block, &pinner->runs, next) {
		for (j = 0; j < (block == end ? i : block->nr); j++) {
			if (block->pfnmap)
				break;
			one(move, run_pfn(block->runs[j]),
			    run_npages(block->runs[j]));
		}
		if (block == end)
			break;
	}
}

static int move_in(struct pin_move *move, struct vfio_pinner *pinner)
{
	struct vfio_run_block *block;
	unsigned int i;
	int ret;

	list_for_each_entry(block, &pinner->runs, next) {
		for (i = 0; i < block->nr; i++) {
			if (block->pfnmap)
				break;
			if (fatal_signal_pending(current)) {
				ret = -EINTR;
				goto undo;
			}
			ret = pin_move_in(move, run_pfn(block->runs[i]),
					  run_npages(block->runs[i]));
			if (ret)
				goto undo;
			cond_resched();
		}
	}
	return 0;

undo:
	move_runs(move, pinner, pin_move_undo, block, i);
	return ret;
}

/*
 * First charge all to the new account, which may fail, then free the old one. @known:
 * there has been an account for the new owner, which may have something to tell
 */
static int move_account(struct vfio_pinner *pinner,
			const struct pin_owner *owner,
			struct list_head *accounts, bool known)
{
	struct vfio_pin_account *account;
	struct pin_move move;
	int ret;

	account = account_get(accounts, current->mm);
	if (IS_ERR(account))
		return PTR_ERR(account);

	pin_move_begin(&move, pinner->account->acct, account->acct, owner);
	ret = move_in(&move, pinner);
	if (ret) {
		pin_move_end(&move);
		account->users--;
		/*
		 * After exec() it may be tried again, and a mm with a ledger of its
		 * own can adopt none. Else it stays, and tells of the refusal.
		 */
		if (!known && READ_ONCE(pinner->owner.task->mm) != pinner->mm)
			account_free(account);
		return ret;
	}
	move_runs(&move, pinner, pin_move_out, NULL, 0);
	pin_move_end(&move);
	pinner->account->users--;
	pinner->account = account;
	return 0;
}

/**
 * vfio_pinner_change_owner() - let the current process pay for a mapping
 * @pinner: of the mapping; its new vaddr belongs to the current process
 * @accounts: the container's accounts
 *
 * After exec() no process runs with the old mm, and the new one adopts the account
 * with its ledger: that takes no time, and later mappings find it done. Else the old
 * process lives on, or the new one has pins already or is not allowed them all, and
 * the mapping's own pages are moved. No pages may be pinned but those that are
 * mapped for an IOMMU.
 *
 * Context: Process context. May sleep; the container's lock is held.
 * Return: 0; or, with nothing changed, an error:
 * -ENODEV: the current task has no mm.
 * -ENOMEM: the new owner's limit does not allow it, or no memory.
 * -EBUSY: the limit of the new owner's cgroup does not allow it.
 * -EINTR: a fatal signal came.
 * -EOVERFLOW: a page has as many pins as can be counted.
 * -EFAULT: pages are of a device that was taken away.
 */
int vfio_pinner_change_owner(struct vfio_pinner *pinner,
			     struct list_head *accounts)
{
	struct pin_owner owner = { .task = current->group_leader };
	struct mm_struct *mm = current->mm;
	int ret = 0;

	if (mm == pinner->mm)
		return 0;
	if (!mm)
		return -ENODEV;

	owner.lock_cap = capable(CAP_IPC_LOCK);
	if (!pin_account_is_for(pinner->account->acct, mm)) {
		bool known = account_find(accounts, mm);

		ret = pin_account_adopt(pinner->account->acct, &owner, mm);
		/* Of a first try, when the old process was there yet */
		if (ret == -EEXIST && free_idle_account(accounts, mm))
			ret = pin_account_adopt(pinner->account->acct, &owner,
						mm);
		/* With -ENOMEM, this mapping alone may still be allowed */
		if (ret == -EBUSY || ret == -EEXIST || ret == -ENOMEM)
			ret = move_account(pinner, &owner, accounts, known);
		if (ret)
			return ret;
	}

	get_task_struct(owner.task);
	put_task_struct(pinner->owner.task);
	pinner->owner = owner;
	mmgrab(mm);
	mmdrop(pinner->mm);
	pinner->mm = mm;
	return 0;
}
EXPORT_SYMBOL_GPL(vfio_pinner_change_owner);

/* The frame after @pfn where memory may begin: that of the next page table */
static unsigned long next_frame(unsigned long pfn)
{
#ifdef CONFIG_SPARSEMEM
	if (!pfn_in_present_section(pfn))
		return SECTION_ALIGN_UP(pfn + 1);
#endif
	return pfn + (PMD_SIZE >> PAGE_SHIFT);
}

/*
 * Frames that are counted may not be mapped without a pin. Each page table's worth
 * is looked at, where there is memory at all: a leaf is of one device.
 */
static bool any_counts(unsigned long pfn, unsigned long npages)
{
	unsigned long at;

	for (at = pfn; at < pfn + npages; at = next_frame(at))
		if (pin_account_counts(at))
			return true;
	return pin_account_counts(pfn + npages - 1);
}

/* Returns how many pages, at most @npages, the leaf maps from @addr on */
static long follow_pfn(struct vm_area_struct *vma, unsigned long addr,
		       unsigned long npages, bool write, unsigned long *pfn)
{
	struct follow_pfnmap_args args = { .vma = vma, .address = addr };
	int ret;

	ret = follow_pfnmap_start(&args);
	if (ret) {
		bool unlocked = false;

		ret = fixup_user_fault(vma->vm_mm, addr, FAULT_FLAG_REMOTE |
				       (write ? FAULT_FLAG_WRITE : 0),
				       &unlocked);
		if (unlocked)	/* the vma may be gone */
			return -EAGAIN;
		if (ret)
			return ret;
		ret = follow_pfnmap_start(&args);
		if (ret)
			return ret;
	}

	npages = min(npages, ((addr | ~args.addr_mask) - addr + 1) >> PAGE_SHIFT);
	if ((write && !args.writable) || any_counts(args.pfn, npages))
		ret = -EFAULT;
	else
		*pfn = args.pfn;

	follow_pfnmap_end(&args);
	return ret ?: npages;
}

/*
 * If there is a VM_PFNMAP mapping at @vaddr, find out the first PFN there, and how
 * many follow it. Else return @err: pinning failed with that, or was not tried (0).
 */
static long follow_pfns(struct vfio_pinner *pinner, unsigned long vaddr,
			unsigned long npages, int prot, int err,
			unsigned long *first)
{
	unsigned long addr, pfn, n = 0;
	struct mm_struct *mm = pinner->mm;
	unsigned int looks = 0;
	bool refused = false;
	long ret = err;

	if (mmap_read_lock_killable(mm))
		return -EINTR;
	addr = untagged_addr_remote(mm, vaddr);
	while (n < npages && looks < VFIO_PFNMAP_MAX) {
		struct vm_area_struct *vma;

		if (fatal_signal_pending(current)) {
			ret = -EINTR;
			break;
		}
		vma = vma_lookup(mm, addr + (n << PAGE_SHIFT));
		if (!vma || !(vma->vm_flags & VM_PFNMAP)) {
			ret = err;
			break;
		}
		ret = follow_pfn(vma, addr + (n << PAGE_SHIFT), npages - n,
				 prot & IOMMU_WRITE, &pfn);
		if (ret == -EAGAIN)
			continue;
		refused = ret < 0 && ret != -EINTR;
		if (ret < 0 || (n && pfn != *first + n))
			break;
		if (!n)
			*first = pfn;
		n += ret;
		looks++;
	}
	mmap_read_unlock(mm);

	if (n)
		return n;
	if (refused)
		pin_account_refused(pinner->account->acct, &pinner->owner,
				    vaddr, npages,
				    prot & IOMMU_WRITE ? FOLL_WRITE : 0, ret,
				    PIN_REASON_PFNMAP);
	return ret;
}

/*
 * The memory of a mapping, until mmput(), if its account is for that. Another mm may
 * have adopted the account after exec(), with a mapping beside this one, when the
 * account's pins would be of that mm. The old one may be there yet: somebody reads it.
 */
static bool get_memory(struct vfio_pinner *pinner)
{
	return pin_account_is_for(pinner->account->acct, pinner->mm) &&
	       mmget_not_zero(pinner->mm);
}

/**
 * vfio_pinner_pin() - pin pages into an array
 * @pinner: who pins
 * @vaddr: address of the first page, in @pinner's mm
 * @npages: how many pages
 * @prot: with IOMMU_WRITE, pin for writing
 * @pfn: set to the PFN of the first page
 * @pages: where the pinned pages go
 *
 * Where the memory is VM_PFNMAP, nothing is pinned and @pages is not touched:
 * @pfn is valid, and it stands for one page without a struct page, or for a
 * reserved one. To be undone with vfio_pinner_put() in any case.
 *
 * Context: Process context. May sleep; the container's lock is held.
 * Return: how many pages, which may be fewer than @npages; or
 * -ENODEV: no process runs with the memory any more.
 * Else as pin_user_pages_account().
 */
long vfio_pinner_pin(struct vfio_pinner *pinner, unsigned long vaddr,
		     unsigned long npages, int prot, unsigned long *pfn,
		     struct page **pages)
{
	unsigned int flags = prot & IOMMU_WRITE ? FOLL_WRITE : 0;
	long ret;

	if (!get_memory(pinner))
		return -ENODEV;

	ret = pin_user_pages_account(pinner->account->acct, &pinner->owner,
				     vaddr, npages, flags, pages);
	if (ret > 0)
		*pfn = page_to_pfn(pages[0]);
	else
		ret = follow_pfns(pinner, vaddr, 1, prot, ret, pfn);

	mmput(pinner->mm);
	return ret;
}
EXPORT_SYMBOL_GPL(vfio_pinner_pin);

/**
 * vfio_pinner_put() - put pages that lie together
 * @pinner: who pinned them
 * @pfn: the first page frame
 * @npages: how many pages
 * @prot: as they were pinned; with IOMMU_WRITE, they become dirty
 *
 * Passes over PFNs without a struct page and reserved pages.
 *
 * Context: Process context. May sleep; the container's lock is held.
 */
void vfio_pinner_put(struct vfio_pinner *pinner, unsigned long pfn,
		     unsigned long npages, int prot)
{
	put_user_pfns_account(pinner->account->acct, pfn, npages,
			      prot & IOMMU_WRITE);
}
EXPORT_SYMBOL_GPL(vfio_pinner_put);

static void put_begin(struct pin_put *put, struct vfio_pinner *pinner, int prot)
{
	pin_put_begin(put, pinner->account->acct, prot & IOMMU_WRITE);
}

/**
 * vfio_pin_batch_init() - set up an empty batch
 * @batch: the batch
 * @npages: the most pages that a mapping has which goes through it
 * @merge: pages that lie together may be mapped together
 *
 * Without @merge the batch takes page by page. Without memory it is short.
 *
 * Context: Process context. May sleep.
 */
void vfio_pin_batch_init(struct vfio_pin_batch *batch, unsigned long npages,
			 bool merge)
{
	unsigned long max = min(npages, VFIO_PIN_EXTENTS);
	size_t extents_size = max * sizeof(*batch->extents);
	void *mem;

	*batch = (struct vfio_pin_batch){
		.max = merge ? VFIO_PIN_FEW : 1,
		.extents = batch->few,
		.spare = LIST_HEAD_INIT(batch->spare),
	};
	if (!merge || npages <= VFIO_PIN_FEW)
		return;

	mem = kvmalloc(extents_size + max * sizeof(*batch->sgl), GFP_KERNEL);
	if (!mem)
		return;

	BUILD_BUG_ON(sizeof(*batch->extents) % __alignof__(*batch->sgl));
	batch->max = max;
	batch->extents = mem;
	batch->sgl = mem + extents_size;
}
EXPORT_SYMBOL_GPL(vfio_pin_batch_init);

/* Append @n extents that lie behind the others in the array already */
static void batch_append(struct vfio_pin_batch *batch, unsigned int n)
{
	struct pin_extent *new = batch->extents + batch->nr;

	if (n && batch->nr && new[-1].pfn + new[-1].npages == new->pfn) {
		new[-1].npages += new->npages;
		n--;
		memmove(new, new + 1, n * sizeof(*new));
	}
	batch->nr += n;
}

/* As pin_user_extents_account(), which needs more room than small batches have */
static long batch_pin_few(struct vfio_pin_batch *batch, unsigned long vaddr,
			  unsigned long npages, unsigned int flags)
{
	struct vfio_pinner *pinner = batch->pinner;
	struct page *pages[VFIO_PIN_FEW];
	long ret, i;

	npages = min3(npages, VFIO_PIN_FEW, batch->max - batch->nr);
	ret = pin_user_pages_account(pinner->account->acct, &pinner->owner,
				     vaddr, npages, flags, pages);
	for (i = 0; i < ret; i++) {
		batch->extents[batch->nr] = (struct pin_extent){
			.pfn = page_to_pfn(pages[i]),
			.npages = 1,
		};
		batch_append(batch, 1);
	}
	return ret;
}

/*
 * Returns how many pages were pinned, or are of a VM_PFNMAP mapping; 0 if those are
 * of the other kind than the batch has already
 */
static long batch_pin(struct vfio_pin_batch *batch, unsigned long vaddr,
		      unsigned long npages)
{
	struct vfio_pinner *pinner = batch->pinner;
	struct pin_extent *new = batch->extents + batch->nr;
	unsigned int flags = batch->prot & IOMMU_WRITE ? FOLL_WRITE : 0, n = 0;
	long ret;

	/* What was VM_PFNMAP before may go on, and GUP would fail */
	if (batch->pfnmap) {
		ret = follow_pfns(pinner, vaddr, npages, batch->prot, 0,
				  &new->pfn);
		if (ret < 0 || (!ret && batch->nr))
			return ret;
		if (ret)
			goto pfnmap;
		batch->pfnmap = false;
	}

	if (npages <= VFIO_PIN_FEW || batch->max <= VFIO_PIN_FEW)
		ret = batch_pin_few(batch, vaddr, npages, flags);
	else
		ret = pin_user_extents_account(pinner->account->acct,
					       &pinner->owner, vaddr, npages,
					       flags, new,
					       batch->max - batch->nr, &n);
	if (WARN_ON_ONCE(!ret))
		return -EFAULT;
	if (ret < 0) {
		ret = follow_pfns(pinner, vaddr, npages, batch->prot, ret,
				  &new->pfn);
		if (ret < 0)
			return ret;
		if (batch->nr)
			return 0;
		goto pfnmap;
	}
	batch_append(batch, n);
	return ret;

pfnmap:
	batch->pfnmap = true;
	new->npages = ret;
	batch_append(batch, 1);
	return ret;
}

/* Whether the batch can take what one call for @npages pins at most */
static bool batch_has_room(struct vfio_pin_batch *batch, unsigned long npages)
{
	unsigned int room = batch->max - batch->nr;

	return batch->max > VFIO_PIN_FEW ? room >= min(npages, PIN_EXTENTS_MIN) :
					   room > 0;
}

/*
 * Have room to remember what is ready, in blocks that become twice as large each
 * time: most mappings have few runs
 */
static int batch_reserve(struct vfio_pin_batch *batch)
{
	struct vfio_run_block *block = last_block(batch->pinner);
	unsigned int max = block ? block->max : 0;
	unsigned int room = 0;

	if (block && block->pfnmap == batch->pfnmap)
		room = block->max - block->nr;
	list_for_each_entry(block, &batch->spare, next) {
		max = block->max;
		room += max;
	}
	while (room < batch->ready) {
		max = min(max(2 * max, batch->ready - room), VFIO_RUN_BLOCK_MAX);
		block = kmalloc(struct_size(block, runs, max),
				GFP_KERNEL_ACCOUNT);
		if (!block)
			return -ENOMEM;
		block->nr = 0;
		block->max = max;
		list_add_tail(&block->next, &batch->spare);
		room += max;
	}
	return 0;
}

/* batch_reserve() has made room */
static void run_add(struct vfio_pin_batch *batch,
		    const struct pin_extent *extent)
{
	struct vfio_pinner *pinner = batch->pinner;
	struct vfio_run_block *block = last_block(pinner);

	if (!block || block->nr == block->max ||
	    block->pfnmap != batch->pfnmap) {
		block = list_first_entry(&batch->spare, struct vfio_run_block,
					 next);
		block->pfnmap = batch->pfnmap;
		list_move_tail(&block->next, &pinner->runs);
	}
	block->runs[block->nr++] = run_pack(extent->pfn, extent->npages);
}

/**
 * vfio_pin_batch_fill() - pin the next pages of a mapping
 * @batch: the batch; may hold pages that an earlier call left for this one
 * @pinner: who pins
 * @iova: where the next pages are to be mapped, those in @batch first
 * @vaddr: their address in @pinner's mm
 * @npages: how many are left to be mapped, those in @batch included
 * @prot: IOMMU_READ and IOMMU_WRITE
 *
 * The last extent stays in the batch for the next call if it may go on there.
 *
 * Idea: pinning in batches and unpinning in ranges, as iommufd does; leftovers
 * of a batch, as type1 always had them.
 *
 * Context: Process context. May sleep; the container's lock is held.
 * Return: how many pages vfio_pin_batch_map() is to map now, at least 1; or
 * -ENODEV: no process runs with the memory any more.
 * -EINTR: a fatal signal came.
 * -ENOMEM: no memory to remember the pages.
 * Else as pin_user_extents_account(). After an error the batch is good for
 * nothing but vfio_pin_batch_fini().
 */
long vfio_pin_batch_fill(struct vfio_pin_batch *batch,
			 struct vfio_pinner *pinner, dma_addr_t iova,
			 unsigned long vaddr, unsigned long npages, int prot)
{
	unsigned long want, pinned;
	long ret = 0;

	batch->pinner = pinner;
	batch->prot = prot;

	if (!get_memory(pinner))
		return -ENODEV;

	want = (VFIO_PIN_CHUNK - (iova & (VFIO_PIN_CHUNK - 1))) >> PAGE_SHIFT;
	want = min(npages, want);
	if (batch->max == 1)
		want = 1;
	pinned = batch->nr ? batch->extents[0].npages : 0;

	while (pinned < want && batch_has_room(batch, want - pinned)) {
		ret = batch_pin(batch, vaddr + (pinned << PAGE_SHIFT),
				want - pinned);
		if (ret <= 0)
			break;
		pinned += ret;
		cond_resched();
	}
	mmput(pinner->mm);
	if (ret < 0)
		return ret;

	batch->ready = batch->nr;
	if (pinned < want && ret)
		pinned -= batch->extents[--batch->ready].npages;

	ret = batch_reserve(batch);
	return ret ?: pinned;
}
EXPORT_SYMBOL_GPL(vfio_pin_batch_fill);

/**
 * vfio_pin_unmap() - unmap a range, and flush the IOTLB
 * @domain: the IOMMU's page table
 * @iova: the range, of mappings as a whole
 * @size: its bytes
 *
 * Context: Process context. May sleep.
 * Return: whether all of it is unmapped. If not, what it maps may not be put.
 */
bool vfio_pin_unmap(struct iommu_domain *domain, dma_addr_t iova, size_t size)
{
	size_t done = 0, unmapped;

	do {
		unmapped = iommu_unmap(domain, iova + done, size - done);
		done += unmapped;
	} while (unmapped && done < size);
	return !WARN(done != size,
		     "vfio: an IOMMU unmaps %zu of %zu bytes, so their pages stay pinned\n",
		     done, size);
}
EXPORT_SYMBOL_GPL(vfio_pin_unmap);

static int map_extents(struct vfio_pin_batch *batch,
		       struct iommu_domain *domain, dma_addr_t iova)
{
	size_t mapped = 0;
	unsigned int i;

	for (i = 0; i < batch->ready; i++) {
		struct pin_extent *extent = &batch->extents[i];
		size_t size = extent->npages << PAGE_SHIFT;
		int ret;

		ret = iommu_map(domain, iova + mapped, PFN_PHYS(extent->pfn),
				size, batch->prot | IOMMU_CACHE,
				GFP_KERNEL_ACCOUNT);
		if (ret) {
			if (mapped && !vfio_pin_unmap(domain, iova, mapped))
				batch->stuck = true;
			return ret;
		}
		mapped += size;
	}
	return 0;
}

/* As map_extents(), with one flush for all, where the IOMMU needs flushes */
static int map_sg(struct vfio_pin_batch *batch, struct iommu_domain *domain,
		  dma_addr_t iova)
{
	ssize_t ret;
	unsigned int i;

	/* An extent is never longer than its sg can say */
	BUILD_BUG_ON(VFIO_PIN_CHUNK > UINT_MAX);

	sg_init_table(batch->sgl, batch->ready);
	for (i = 0; i < batch->ready; i++)
		sg_set_page(&batch->sgl[i], pfn_to_page(batch->extents[i].pfn),
			    batch->extents[i].npages << PAGE_SHIFT, 0);
	ret = iommu_map_sg(domain, iova, batch->sgl, batch->ready,
			   batch->prot | IOMMU_CACHE, GFP_KERNEL_ACCOUNT);
	return ret < 0 ? ret : 0;
}

/**
 * vfio_pin_batch_map() - map the pages that are ready
 * @batch: the batch
 * @domain: the IOMMU's page table; call again for each further one
 * @iova: as given to vfio_pin_batch_fill()
 *
 * Context: Process context. May sleep; the container's lock is held.
 * Return: 0; or what iommu_map() said. Then nothing is mapped, but for what the IOMMU
 * did not unmap again, which stays pinned.
 */
int vfio_pin_batch_map(struct vfio_pin_batch *batch,
		       struct iommu_domain *domain, dma_addr_t iova)
{
	int ret;

	if (batch->ready > 1 && batch->sgl && !batch->pfnmap)
		ret = map_sg(batch, domain, iova);
	else
		ret = map_extents(batch, domain, iova);
	cond_resched();
	return ret;
}
EXPORT_SYMBOL_GPL(vfio_pin_batch_map);

/**
 * vfio_pin_batch_unmap() - undo vfio_pin_batch_map()
 * @batch: the batch; good for nothing but vfio_pin_batch_fini() then
 * @domain: as given to vfio_pin_batch_map()
 * @iova: as given to vfio_pin_batch_map()
 *
 * Context: Process context. May sleep; the container's lock is held.
 */
void vfio_pin_batch_unmap(struct vfio_pin_batch *batch,
			  struct iommu_domain *domain, dma_addr_t iova)
{
	unsigned long npages = 0;
	unsigned int i;

	for (i = 0; i < batch->ready; i++)
		npages += batch->extents[i].npages;
	if (!vfio_pin_unmap(domain, iova, npages << PAGE_SHIFT))
		batch->stuck = true;
	cond_resched();
}
EXPORT_SYMBOL_GPL(vfio_pin_batch_unmap);

/**
 * vfio_pin_batch_mapped() - let a mapping remember the pages that were ready
 * @batch: the batch; from now on they are the mapping's
 *
 * Context: Process context; the container's lock is held.
 */
void vfio_pin_batch_mapped(struct vfio_pin_batch *batch)
{
	struct pin_extent *extent = batch->extents;
	struct pin_extent *end = extent + batch->ready;

	if (run_extend(batch->pinner, extent, batch->pfnmap))
		extent++;
	for (; extent < end; extent++)
		run_add(batch, extent);

	batch->nr -= batch->ready;
	if (batch->nr)
		batch->extents[0] = *end;
	batch->ready = 0;
}
EXPORT_SYMBOL_GPL(vfio_pin_batch_mapped);

/**
 * vfio_pin_batch_fini() - put what a batch still holds, and free it
 * @batch: the batch
 *
 * Pages that an IOMMU still maps stay pinned.
 *
 * Context: Process context. May sleep; the container's lock is held.
 */
void vfio_pin_batch_fini(struct vfio_pin_batch *batch)
{
	struct vfio_run_block *block, *next;
	struct pin_put put;
	unsigned int i = batch->stuck ? batch->ready : 0;

	if (i < batch->nr && !batch->pfnmap) {
		put_begin(&put, batch->pinner, batch->prot);
		for (; i < batch->nr; i++)
			pin_put_add(&put, batch->extents[i].pfn,
				    batch->extents[i].npages);
		pin_put_end(&put);
	}
	list_for_each_entry_safe(block, next, &batch->spare, next)
		kfree(block);
	if (batch->extents != batch->few)
		kvfree(batch->extents);
}
EXPORT_SYMBOL_GPL(vfio_pin_batch_fini);

/**
 * vfio_pinner_map() - map what a mapping has pinned for one more IOMMU
 * @pinner: of the mapping
 * @domain: the IOMMU's page table
 * @iova: of the mapping
 * @prot: as it was pinned
 *
 * Context: Process context. May sleep; the container's lock is held.
 * Return: 0; or what iommu_map() said. Then nothing is mapped, but for what the IOMMU
 * did not unmap again.
 */
int vfio_pinner_map(struct vfio_pinner *pinner, struct iommu_domain *domain,
		    dma_addr_t iova, int prot)
{
	struct vfio_run_block *block;
	size_t mapped = 0;
	unsigned int i;

	list_for_each_entry(block, &pinner->runs, next) {
		for (i = 0; i < block->nr; i++) {
			size_t size = run_npages(block->runs[i]) << PAGE_SHIFT;
			int ret;

			ret = iommu_map(domain, iova + mapped,
					PFN_PHYS(run_pfn(block->runs[i])), size,
					prot | IOMMU_CACHE, GFP_KERNEL_ACCOUNT);
			if (ret) {
				if (mapped)
					vfio_pin_unmap(domain, iova, mapped);
				return ret;
			}
			mapped += size;
			cond_resched();
		}
	}
	return 0;
}
EXPORT_SYMBOL_GPL(vfio_pinner_map);

/**
 * vfio_pinner_unmap() - unmap all that a mapping has pinned, and put it
 * @pinner: of the mapping
 * @iova: of the mapping
 * @prot: as it was pinned
 * @unmap: calls vfio_pin_unmap() for each IOMMU that maps it; false if one of
 *	them does not unmap all of the range
 * @data: for @unmap
 *
 * What one block remembers is unmapped, everywhere, and then put. A call of the
 * IOMMU's driver suffices for it: no leaf is longer than a run. What an IOMMU does
 * not unmap stays pinned for ever, or the device would reach memory of others.
 *
 * Idea: iommufd, which unmaps a batch in one call.
 *
 * Context: Process context. May sleep; the container's lock is held.
 */
void vfio_pinner_unmap(struct vfio_pinner *pinner, dma_addr_t iova, int prot,
		       bool (*unmap)(void *data, dma_addr_t iova, size_t size),
		       void *data)
{
	struct vfio_run_block *block, *next;
	struct pin_put put;
	unsigned int i;

	list_for_each_entry_safe(block, next, &pinner->runs, next) {
		unsigned long npages = 0;

		for (i = 0; i < block->nr; i++)
			npages += run_npages(block->runs[i]);
		if (unmap(data, iova, npages << PAGE_SHIFT) && !block->pfnmap) {
			put_begin(&put, pinner, prot);
			for (i = 0; i < block->nr; i++)
				pin_put_add(&put, run_pfn(block->runs[i]),
					    run_npages(block->runs[i]));
			pin_put_end(&put);
		}
		iova += npages << PAGE_SHIFT;
		list_del(&block->next);
		kfree(block);
		cond_resched();
	}
}
EXPORT_SYMBOL_GPL(vfio_pinner_unmap);

#include "tests/vfio_pin_kunit.h"

MODULE_DESCRIPTION("Pinned user memory of VFIO containers");
MODULE_LICENSE("GPL");
