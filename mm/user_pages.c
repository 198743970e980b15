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
#include <linux/mm.h>
#include <linux/user_pages.h>

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

/**
 * put_user_pages_dirty() - mark pinned pages dirty and release them
 * @pages: pages that pin_user_pages*() returned
 * @npages: how many pages
 *
 * For callers that cannot sleep. The page lock is not taken, so a page of a
 * file may be truncated meanwhile; the caller makes sure that it is not, or
 * that it does not matter, as for anonymous memory. All others use
 * put_user_pages_dirty_lock().
 *
 * Idea: the put_user_pages series of 2019.
 *
 * Context: Process context, which may be atomic; does not sleep.
 */
void put_user_pages_dirty(struct page **pages, unsigned long npages)
{
	struct folio *last = NULL;
	unsigned long i;

	for (i = 0; i < npages; i++) {
		struct folio *folio = page_folio(pages[i]);

		if (folio == last)
			continue;
		last = folio;
		if (!folio_test_dirty(folio))
			folio_mark_dirty(folio);
	}
	unpin_user_pages(pages, npages);
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
 * put_user_page_ref() - give back a plain reference on a user page
 * @page: a page that get_user_pages*() returned
 *
 * For users that a mmu notifier tells when to let go of the page, CASE 3 of
 * Documentation/core-api/pin_user_pages.rst: they hold no pin, and file
 * systems need not know of them. The name tells such a reference from the
 * others.
 *
 * Idea: CASE 3 of pin_user_pages.rst, which leaves it at put_page().
 *
 * Context: Any context; does not sleep.
 */
void put_user_page_ref(struct page *page)
{
	put_page(page);
}
EXPORT_SYMBOL_GPL(put_user_page_ref);

#include "tests/user_pages_kunit.h"
