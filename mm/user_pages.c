// SPDX-License-Identifier: GPL-2.0
/*
 * Release of pinned user pages: put_user_page() and its family.
 *
 * Pages that pin_user_pages*() returned are released here, so that a look at
 * the call says what kind of reference ends: a bare put_page() on user memory
 * is a bug. See include/linux/user_pages.h for the names.
 */

#include <linux/export.h>
#include <linux/kernel.h>
#include <linux/llist.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/pin_writeback.h>
#include <linux/slab.h>
#include <linux/user_pages.h>
#include <linux/workqueue.h>

/**
 * put_user_page() - release a pinned page
 * @page: a page that pin_user_pages*() returned
 *
 * Idea: the put_user_pages series of 2019.
 *
 * Context: Any context; does not sleep.
 */
void put_user_page(struct page *page)
{
	unpin_user_page(page);
}
EXPORT_SYMBOL_GPL(put_user_page);

/**
 * put_user_pages() - release pinned pages
 * @pages: pages that pin_user_pages*() returned
 * @npages: how many pages
 *
 * Neighbours in the array that belong to one folio are released in one step.
 *
 * Idea: the put_user_pages series of 2019.
 *
 * Context: Any context; does not sleep.
 */
void put_user_pages(struct page **pages, unsigned long npages)
{
	unpin_user_pages(pages, npages);
}
EXPORT_SYMBOL_GPL(put_user_pages);

static bool try_mark_dirty(struct folio *folio)
{
	/* As in unpin_user_pages_dirty_lock(), where it says what races mean */
	if (folio_test_dirty(folio))
		return true;
	if (!folio_trylock(folio))
		return false;
	if (!pin_writeback_dirty(folio))
		folio_mark_dirty(folio);
	folio_unlock(folio);
	return true;
}

/**
 * struct late_put - a put that waits for the lock of a folio
 * @node: in late_puts
 * @folio: the folio
 * @npages: pins on it that are to be put
 */
struct late_put {
	struct llist_node node;
	struct folio *folio;
	unsigned long npages;
};

static LLIST_HEAD(late_puts);

/* Until the next look at folios that are still locked */
#define LATE_PUT_DELAY	(HZ / 50)

static void late_put_work(struct work_struct *work);
static DECLARE_DELAYED_WORK(late_put_worker, late_put_work);

/* A lock may be held for long: neither another put nor other work waits for it */
static void late_put_work(struct work_struct *work)
{
	struct late_put *late, *next;
	bool again = false;

	llist_for_each_entry_safe(late, next, llist_del_all(&late_puts), node) {
		cond_resched();
		if (!try_mark_dirty(late->folio)) {
			llist_add(&late->node, &late_puts);
			again = true;
			continue;
		}
		unpin_user_folio(late->folio, late->npages);
		kfree(late);
	}
	if (again)
		schedule_delayed_work(&late_put_worker, LATE_PUT_DELAY);
}

/* Let a thread try until it has the lock; false if there is no memory for that */
static bool put_late(struct folio *folio, unsigned long npages)
{
	struct late_put *late = kmalloc(sizeof(*late),
					GFP_ATOMIC | __GFP_NOWARN);

	if (!late)
		return false;
	late->folio = folio;
	late->npages = npages;
	llist_add(&late->node, &late_puts);
	schedule_delayed_work(&late_put_worker, 0);
	return true;
}

/**
 * put_user_pages_dirty() - mark pinned pages dirty and release them
 * @pages: pages that pin_user_pages*() returned
 * @npages: how many pages
 *
 * For callers that cannot sleep. File systems want a page to be locked while it
 * becomes dirty. If somebody else has the lock, a kernel thread puts the page
 * later, and it stays pinned until then. Without memory for that, the page is
 * marked all the same, as KVM always did: if the file is truncated just then,
 * the file system may complain or worse, but else the data would be lost. All
 * others use put_user_pages_dirty_lock().
 *
 * Idea: the put_user_pages series of 2019, with the deferral of
 * bio_check_pages_dirty().
 *
 * Context: Process context; does not sleep. Spinlocks may be held, but with
 * PREEMPT_RT neither raw ones nor preemption off.
 */
void put_user_pages_dirty(struct page **pages, unsigned long npages)
{
	unsigned long n;

	for (; npages; pages += n, npages -= n) {
		struct folio *folio = page_folio(pages[0]);

		n = 1;
		while (n < npages && page_folio(pages[n]) == folio)
			n++;
		if (!try_mark_dirty(folio)) {
			if (put_late(folio, n))
				continue;
			if (!pin_writeback_dirty_unlocked(folio))
				folio_mark_dirty(folio);
		}
		unpin_user_folio(folio, n);
	}
}
EXPORT_SYMBOL_GPL(put_user_pages_dirty);

/**
 * put_user_pages_dirty_lock() - mark pinned pages dirty and release them
 * @pages: pages that pin_user_pages*() returned
 * @npages: how many pages
 *
 * Takes the lock of each page that is not dirty yet.
 *
 * Idea: the put_user_pages series of 2019.
 *
 * Context: Process context. May sleep.
 */
void put_user_pages_dirty_lock(struct page **pages, unsigned long npages)
{
	might_sleep();
	unpin_user_pages_dirty_lock(pages, npages, true);
}
EXPORT_SYMBOL_GPL(put_user_pages_dirty_lock);

/**
 * put_user_page_range() - release pinned pages that lie together
 * @page: the first of them
 * @npages: how many pages, of contiguous page frames
 *
 * For holders that remember the first page and the length. Each page carries
 * one pin that pin_user_pages*() took. Those that belong to one folio are
 * released in one step.
 *
 * Context: Any context; does not sleep.
 */
void put_user_page_range(struct page *page, unsigned long npages)
{
	unpin_user_page_range_dirty_lock(page, npages, false);
}
EXPORT_SYMBOL_GPL(put_user_page_range);

/**
 * put_user_page_range_dirty_lock() - mark pinned pages that lie together dirty
 *	and release them
 * @page: the first of them
 * @npages: how many pages, of contiguous page frames
 *
 * As put_user_page_range(), and takes the lock of each folio that is not dirty
 * yet.
 *
 * Context: Process context. May sleep.
 */
void put_user_page_range_dirty_lock(struct page *page, unsigned long npages)
{
	might_sleep();
	unpin_user_page_range_dirty_lock(page, npages, true);
}
EXPORT_SYMBOL_GPL(put_user_page_range_dirty_lock);

#include "tests/user_pages_kunit.h"
