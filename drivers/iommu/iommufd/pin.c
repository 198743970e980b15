// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pinned user memory of an iommufd
 *
 * An iopt_pages is a range of user memory that is mapped by IOMMU_IOAS_MAP. Its
 * pages are pinned while an IOMMU domain maps them or a driver accesses them, in
 * pages.c. All pins are taken through accounts, see include/linux/user_pages.h:
 * the ledger behind them counts memory once, however many IOASes, iommufds and
 * containers pin it, and keeps it within the limits before it is mapped. So there
 * is no counting here.
 *
 * Rules
 *
 *  1. An iommufd has an account for each mm that maps memory, and in that for each
 *     set of counters: it may be used by two processes, or by one that changes
 *     its user or its capabilities.
 *  2. An account begins with the first mapping, and ends with the iommufd; or when
 *     nothing is mapped through it, no process runs with its mm, and another one is
 *     made. What it says of refusals is asked for after the mapping has failed.
 *  3. User space reads the same counters as ever: VmPin in any case. And the
 *     locked memory of the user, or VmLck by IOMMU_OPTION_RLIMIT_MODE, or none of
 *     both with CAP_IPC_LOCK. RLIMIT_MEMLOCK applies to the user's or to VmLck.
 *  4. iommufd maps no VM_PFNMAP memory. VMMs ask for it all the same, with the BARs
 *     of devices, and go on without. So that is an error, but no refusal.
 */

#include <linux/err.h>
#include <linux/iommu.h>
#include <linux/iommufd.h>
#include <linux/mm.h>
#include <linux/scatterlist.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "io_pagetable.h"
#include "iommufd_private.h"

/**
 * struct iommufd_pin_account - an account of an iommufd
 * @next: in the list of @pins
 * @pins: the accounts of the iommufd
 * @acct: the account
 * @flags: PIN_ACCOUNT_* and PIN_COUNT_*
 * @user: whose counter is one of them, kept by @acct; or NULL
 * @users: how many iopt_pages refer to it; it may stay when there are none
 *
 * Protected by the lock of @pins.
 */
struct iommufd_pin_account {
	struct list_head next;
	struct iommufd_pins *pins;
	struct pin_account *acct;
	unsigned int flags;
	struct user_struct *user;
	unsigned int users;
};

/**
 * iommufd_pins_init() - prepare the accounts of a new iommufd
 * @pins: the accounts
 *
 * Context: Process context.
 */
void iommufd_pins_init(struct iommufd_pins *pins)
{
	mutex_init(&pins->lock);
	INIT_LIST_HEAD(&pins->accounts);
}

static void account_free(struct iommufd_pin_account *account)
{
	list_del(&account->next);
	pin_account_put(account->acct);
	kfree(account);
}

/**
 * iommufd_pins_destroy() - free the accounts of an iommufd
 * @pins: the accounts; no iopt_pages is left
 *
 * Context: Process context. May sleep.
 */
void iommufd_pins_destroy(struct iommufd_pins *pins)
{
	struct iommufd_pin_account *account, *next;

	list_for_each_entry_safe(account, next, &pins->accounts, next) {
		WARN_ON(account->users);
		account_free(account);
	}
	mutex_destroy(&pins->lock);
}

/* Processes may come and go while the iommufd stays */
static void free_dead_accounts(struct iommufd_pins *pins)
{
	struct iommufd_pin_account *account, *next;

	list_for_each_entry_safe(account, next, &pins->accounts, next) {
		if (!account->users && pin_account_is_dead(account->acct))
			account_free(account);
	}
}

static unsigned int account_flags(struct iopt_pages *pages)
{
	unsigned int flags = PIN_ACCOUNT_PFNMAP | PIN_ACCOUNT_WAITS |
			     PIN_ACCOUNT_EFAULT | PIN_COUNT_PINNED;

	switch (pages->account_mode) {
	case IOPT_PAGES_ACCOUNT_USER:
		return flags | PIN_COUNT_USER;
	case IOPT_PAGES_ACCOUNT_MM:
		return flags | PIN_COUNT_LOCKED;
	default:
		return flags;
	}
}

static struct iommufd_pin_account *
account_create(struct iommufd_ctx *ictx, struct mm_struct *mm,
	       unsigned int flags, struct user_struct *user)
{
	struct iommufd_pin_account *account;

	account = kzalloc(sizeof(*account), GFP_KERNEL_ACCOUNT);
	if (!account)
		return ERR_PTR(-ENOMEM);
	account->acct = pin_account_get(mm, ictx, "iommufd", flags, user);
	if (IS_ERR(account->acct)) {
		int err = PTR_ERR(account->acct);

		kfree(account);
		return ERR_PTR(err);
	}
	account->pins = &ictx->pins;
	account->flags = flags;
	account->user = user;
	list_add_tail(&account->next, &ictx->pins.accounts);
	return account;
}

/**
 * iopt_pages_init_pins() - find out who pays for a range
 * @pages: the range, new; its account_mode is known
 * @ictx: the iommufd
 *
 * Context: Process context. May sleep.
 * Return: 0; or -ENOMEM.
 */
int iopt_pages_init_pins(struct iopt_pages *pages, struct iommufd_ctx *ictx)
{
	unsigned int flags = account_flags(pages);
	struct iommufd_pin_account *account;
	struct user_struct *user;

	user = flags & PIN_COUNT_USER ? pages->source_user : NULL;
	guard(mutex)(&ictx->pins.lock);
	list_for_each_entry(account, &ictx->pins.accounts, next) {
		if (account->flags == flags && account->user == user &&
		    pin_account_is_for(account->acct, pages->source_mm))
			goto found;
	}

	free_dead_accounts(&ictx->pins);
	account = account_create(ictx, pages->source_mm, flags, user);
	if (IS_ERR(account))
		return PTR_ERR(account);
found:
	account->users++;
	pages->account = account;
	return 0;
}

/**
 * iopt_pages_fini_pins() - end what iopt_pages_init_pins() began
 * @pages: the range; all its pins have been put. It may have failed to begin
 *
 * Context: Process context. May sleep.
 */
void iopt_pages_fini_pins(struct iopt_pages *pages)
{
	struct iommufd_pin_account *account = pages->account;

	if (!account)
		return;
	guard(mutex)(&account->pins->lock);
	account->users--;
}

static struct pin_owner owner_of(struct iopt_pages *pages)
{
	return (struct pin_owner){
		.task = pages->source_task,
		.lock_cap = pages->account_mode == IOPT_PAGES_ACCOUNT_NONE,
	};
}

static unsigned long address_of(struct iopt_pages *pages, unsigned long index)
{
	return (unsigned long)pages->uptr + index * PAGE_SIZE;
}

static unsigned int gup_flags_of(struct iopt_pages *pages)
{
	return FOLL_LONGTERM | (pages->writable ? FOLL_WRITE : 0);
}

/* A process that has ended is told as ever */
static long pin_error(long err)
{
	return err == -ESRCH ? -EFAULT : err;
}

/**
 * iopt_pages_pin_extents() - pin pages of a range, into contiguous extents
 * @pages: the range
 * @index: the first page
 * @npages: how many pages
 * @extents: receives what was pinned, in the order of the pages
 * @max_extents: room there, at least 1
 * @nr_extents: set to how many extents were filled in
 *
 * Context: Process context. May sleep; pages->mutex is held.
 * Return: pages pinned, more than 0, but perhaps fewer than @npages; or the error
 * of pin_user_extents_account().
 */
long iopt_pages_pin_extents(struct iopt_pages *pages, unsigned long index,
			    unsigned long npages, struct pin_extent *extents,
			    unsigned int max_extents, unsigned int *nr_extents)
{
	struct pin_owner owner = owner_of(pages);

	if (max_extents < PIN_EXTENTS_MIN)
		npages = min_t(unsigned long, npages, max_extents);
	/* An extent has to fit into an entry of a pfn_batch */
	npages = min_t(unsigned long, npages, U32_MAX);
	return pin_error(pin_user_extents_account(pages->account->acct, &owner,
						  address_of(pages, index),
						  npages, gup_flags_of(pages),
						  extents, max_extents,
						  nr_extents));
}

/**
 * iopt_pages_pin_array() - pin pages of a range, into an array
 * @pages: the range
 * @index: the first page
 * @npages: how many pages
 * @out_pages: receives the pages, room for @npages
 *
 * Context: Process context. May sleep; pages->mutex is held.
 * Return: 0; or, with nothing pinned, the error of pin_user_pages_account().
 */
int iopt_pages_pin_array(struct iopt_pages *pages, unsigned long index,
			 unsigned long npages, struct page **out_pages)
{
	struct pin_owner owner = owner_of(pages);
	unsigned long done = 0;
	long ret;

	while (done < npages) {
		ret = iommufd_should_fail() ? -EFAULT :
		      pin_user_pages_account(pages->account->acct, &owner,
					     address_of(pages, index + done),
					     npages - done, gup_flags_of(pages),
					     out_pages + done);
		if (ret <= 0) {
			iopt_pages_put_array(pages, out_pages, done);
			return pin_error(ret);
		}
		done += ret;
	}
	return 0;
}

/**
 * iopt_pages_pin_for_copy() - pin one page of a range while it is read or written
 * @pages: the range
 * @index: the page
 * @extent: receives it
 *
 * The CPU copies and then puts the page: that is not held, and counted nowhere.
 *
 * Context: Process context. May sleep; pages->mutex is held.
 * Return: 1; or the error of pin_user_pages_remote().
 */
long iopt_pages_pin_for_copy(struct iopt_pages *pages, unsigned long index,
			     struct pin_extent *extent)
{
	struct mm_struct *mm = pages->source_mm;
	struct page *page;
	int locked = 1;
	long ret;

	if (!mmget_not_zero(mm))
		return -EFAULT;
	mmap_read_lock(mm);
	ret = pin_user_pages_remote(mm, address_of(pages, index), 1,
				    gup_flags_of(pages), &page, &locked);
	if (locked)
		mmap_read_unlock(mm);
	mmput(mm);
	if (ret == 1)
		*extent = (struct pin_extent){ page_to_pfn(page), 1 };
	return ret ?: -EFAULT;
}

/**
 * iopt_pages_put_begin() - begin to put pages of a range
 * @pages: the range
 * @put: for iopt_pages_put(), and pin_put_end() afterwards
 * @make_dirty: they may have been written
 *
 * Context: Process context; pages->mutex is held.
 */
void iopt_pages_put_begin(struct iopt_pages *pages, struct pin_put *put,
			  bool make_dirty)
{
	pin_put_begin(put, pages->account->acct, make_dirty);
}

/**
 * iopt_pages_put() - put contiguous pages of a range, perhaps later
 * @put: what iopt_pages_put_begin() began
 * @pfn: the first page frame
 * @npages: how many pages
 * @for_copy: iopt_pages_pin_for_copy() has pinned them
 *
 * Context: Process context. May sleep; pages->mutex is held.
 */
void iopt_pages_put(struct pin_put *put, unsigned long pfn,
		    unsigned long npages, bool for_copy)
{
	if (!for_copy)
		pin_put_add(put, pfn, npages);
	else if (put->make_dirty)
		put_user_page_range_dirty_lock(pfn_to_page(pfn), npages);
	else
		put_user_page_range(pfn_to_page(pfn), npages);
}

/**
 * iopt_pages_put_array() - undo iopt_pages_pin_array()
 * @pages: the range
 * @page_list: what was pinned
 * @npages: how many pages
 *
 * Context: Process context. May sleep; pages->mutex is held.
 */
void iopt_pages_put_array(struct iopt_pages *pages, struct page **page_list,
			  unsigned long npages)
{
	put_user_pages_account(pages->account->acct, page_list, npages, false);
	iopt_pages_settle(pages);
}

/**
 * iopt_pages_settle() - end an operation in which pages have been put
 * @pages: the range
 *
 * Context: Process context. May sleep; pages->mutex is held.
 */
void iopt_pages_settle(struct iopt_pages *pages)
{
	pin_account_settle(pages->account->acct);
}

/* How many runs an IOMMU maps by one call, at most; on the stack */
#define IOPT_MAP_RUNS	16

/**
 * struct iopt_runs - runs of pages that are to be mapped yet
 * @pfns: the first page frame of each
 * @npfns: its pages
 * @offset: bytes of the first run that are mapped or left out
 * @left: bytes in all
 */
struct iopt_runs {
	const unsigned long *pfns;
	const u32 *npfns;
	unsigned long offset;
	unsigned long left;
};

/* Take the next runs; returns how many entries of @sgl they fill */
static unsigned int take_runs(struct iopt_runs *runs, struct scatterlist *sgl)
{
	unsigned int n;

	for (n = 0; n < IOPT_MAP_RUNS && runs->left; n++) {
		unsigned long run = ((unsigned long)*runs->npfns << PAGE_SHIFT) -
				    runs->offset;
		/* An entry has no more than 32 bits for it */
		unsigned int len = min3(run, runs->left, (unsigned long)SZ_2G);

		sg_set_page(&sgl[n],
			    pfn_to_page(*runs->pfns + PFN_DOWN(runs->offset)),
			    len, offset_in_page(runs->offset));
		runs->left -= len;
		runs->offset += len;
		if (len == run) {
			runs->pfns++;
			runs->npfns++;
			runs->offset = 0;
		}
	}
	return n;
}

/**
 * iopt_map_runs() - map runs of pages in an IOMMU, with few flushes
 * @domain: the IOMMU's page table
 * @iova: where they go, in bytes
 * @size: how much to map, in bytes; the runs have that
 * @pfns: the first page frame of each run
 * @npfns: its pages
 * @offset: bytes of the first page that are left out
 * @prot: IOMMU_*
 *
 * An IOMMU that caches what is not mapped, as that of a guest does, is flushed
 * after each call to map. That takes longer than to map a page.
 *
 * Context: Process context. May sleep.
 * Return: 0; or, with nothing mapped, what the IOMMU said.
 */
int iopt_map_runs(struct iommu_domain *domain, unsigned long iova,
		  unsigned long size, const unsigned long *pfns,
		  const u32 *npfns, unsigned int offset, int prot)
{
	struct iopt_runs runs = { pfns, npfns, offset, size };
	struct scatterlist sgl[IOPT_MAP_RUNS];
	unsigned long mapped = 0;
	ssize_t ret;

	sg_init_table(sgl, IOPT_MAP_RUNS);
	while (mapped < size) {
		unsigned int n = take_runs(&runs, sgl);

		ret = iommu_map_sg(domain, iova + mapped, sgl, n, prot,
				   GFP_KERNEL_ACCOUNT);
		if (ret < 0)
			goto err_unmap;
		mapped = size - runs.left;
	}
	return 0;

err_unmap:
	if (mapped)
		WARN_ON(iommu_unmap(domain, iova, mapped) != mapped);
	return ret;
}
