/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tests of the ledger, one for each part of the rules on top of
 * mm/pin_ledger.c, which includes this. The pages are real; that they are
 * pinned is left to mm/tests/pin_account_kunit.h.
 */
#ifdef CONFIG_LONGTERM_PIN_KUNIT_TEST

#ifndef _MM_TESTS_PIN_LEDGER_KUNIT_H
#define _MM_TESTS_PIN_LEDGER_KUNIT_H

#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/memremap.h>
#include <linux/prandom.h>
#include <linux/sched/task.h>

#include "../internal.h"
#include "pin_kunit.h"

/*
 * Pages that follow each other: small ones over more than one chunk, one of
 * them reserved, then a large folio.
 */
#define AREA_PAGES	1024U
#define AREA_RESERVED	600
#define AREA_FOLIO	768
#define AREA_FOLIO_SIZE	256U

static_assert(AREA_FOLIO + AREA_FOLIO_SIZE == AREA_PAGES);
static_assert(AREA_RESERVED > PIN_CHUNK_PAGES && AREA_RESERVED < AREA_FOLIO);

/**
 * struct ledger_test - what each test starts with
 * @base: a process
 * @ledger: the ledger of its mm
 * @acct: the only account of that; its counters stay 0
 * @owner: this thread, without CAP_IPC_LOCK
 * @area: AREA_PAGES pages
 * @pfn: the first of them
 */
struct ledger_test {
	struct pin_test base;
	struct pin_ledger *ledger;
	struct pin_account acct;
	struct pin_owner owner;
	struct page *area;
	unsigned long pfn;
};

#define EXPECT_LEDGER(test_, ledger_, charge_, held_)			\
	do {								\
		struct pin_ledger *__ledger = (ledger_);		\
		struct kunit *__test = (test_);				\
									\
		KUNIT_EXPECT_EQ(__test, pin_test_charge(__ledger), charge_);	\
		KUNIT_EXPECT_EQ(__test, __ledger->held, held_);		\
	} while (0)

static struct pin_ledger *ledger_of(struct mm_struct *mm)
{
	return rcu_access_pointer(mm->pin_ledger);
}

static struct page *area_alloc(struct kunit *test)
{
	struct page *area = alloc_pages(GFP_KERNEL, ilog2(AREA_PAGES));
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, area);
	split_page(area, ilog2(AREA_PAGES));
	SetPageReserved(area + AREA_RESERVED);
	for (i = AREA_FOLIO + 1; i < AREA_PAGES; i++)
		set_page_count(area + i, 0);
	prep_compound_page(area + AREA_FOLIO, ilog2(AREA_FOLIO_SIZE));
	return area;
}

static void area_free(struct page *area)
{
	unsigned int i;

	ClearPageReserved(area + AREA_RESERVED);
	for (i = 0; i < AREA_FOLIO; i++)
		__free_page(area + i);
	folio_put(page_folio(area + AREA_FOLIO));
}

static int ledger_test_init(struct kunit *test)
{
	struct ledger_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, t);
	test->priv = t;
	t->owner.task = current;
	pin_test_limit(ULONG_MAX >> PAGE_SHIFT);
	pin_test_begin(test, &t->base);
	t->area = area_alloc(test);
	t->pfn = page_to_pfn(t->area);
	t->ledger = pin_ledger_get(t->base.mm);
	KUNIT_ASSERT_NOT_NULL(test, t->ledger);
	t->acct.ledger = t->ledger;
	list_add(&t->acct.in_ledger, &t->ledger->accounts);
	return 0;
}

static bool ledger_is_empty(struct pin_ledger *ledger)
{
	int i;

	for (i = 0; i < PIN_PLANE_NR; i++) {
		struct pin_plane *plane = &ledger->planes[i];

		if (plane->pins || !xa_empty(&plane->folios) ||
		    !xa_empty(&plane->chunks))
			return false;
	}
	return !ledger->device_pins && !ledger->gone_pins &&
	       xa_empty(&ledger->devices);
}

/* Whatever a test did, it has taken back */
static void ledger_test_exit(struct kunit *test)
{
	struct ledger_test *t = test->priv;

	if (!t)
		return;
	if (t->ledger) {
		struct mm_struct *mm = t->ledger->mm;

		EXPECT_LEDGER(test, t->ledger, 0, 0);
		KUNIT_EXPECT_TRUE(test, ledger_is_empty(t->ledger));
		list_del(&t->acct.in_ledger);
		mmgrab(mm);
		pin_ledger_count_node(t->ledger);
		pin_ledger_put(t->ledger);
		KUNIT_EXPECT_EQ(test, mm_locked_pages(mm), 0);
		mmdrop(mm);
	}
	if (t->area)
		area_free(t->area);
	pin_test_end(test, &t->base);
}

static long ledger_add(struct ledger_test *t, unsigned long pfn,
		       unsigned long npages)
{
	long ret;

	guard(mutex)(&t->ledger->lock);
	ret = pin_ledger_add(t->ledger, PIN_PLANE_LOCKED, pfn, npages);
	pin_ledger_count_node(t->ledger);
	return ret;
}

static void ledger_sub(struct ledger_test *t, unsigned long pfn,
		       unsigned long npages)
{
	guard(mutex)(&t->ledger->lock);
	while (npages) {
		struct pin_step step;
		unsigned long n;

		n = pin_ledger_sub(t->ledger, PIN_PLANE_LOCKED, pfn, npages,
				   0, &step);
		put_dev_pagemap(step.pgmap);
		pfn += n;
		npages -= n;
	}
	pin_ledger_publish(t->ledger);
}

static int ledger_commit_left(struct ledger_test *t, bool lock_cap,
			      unsigned long left)
{
	struct mm_struct *locked;
	struct misc_cg *full;
	int ret;

	t->owner.lock_cap = lock_cap;
	ret = pin_ledger_lock(t->ledger, &t->owner, &locked);
	if (ret)
		return ret;
	ret = pin_ledger_commit(&t->acct, &t->owner, 0, left, NULL, &full);
	pin_ledger_unlock(t->ledger, locked);
	return ret;
}

static int ledger_commit(struct ledger_test *t, bool lock_cap)
{
	return ledger_commit_left(t, lock_cap, 0);
}

static void ledger_settle(struct ledger_test *t)
{
	guard(mutex)(&t->ledger->lock);
	pin_ledger_settle(t->ledger, NULL);
}

static struct folio *ledger_test_folio(struct kunit *test, unsigned int order)
{
	struct folio *folio = folio_alloc(GFP_KERNEL | __GFP_NOWARN, order);

	if (!folio)
		kunit_skip(test, "no free memory for a folio of order %u",
			   order);
	return folio;
}

static void mm_has_one_ledger(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct mm_struct *other = pin_test_other_mm(test);
	struct pin_ledger *ledger;

	KUNIT_EXPECT_PTR_EQ(test, pin_ledger_get(t->base.mm), t->ledger);
	KUNIT_EXPECT_PTR_EQ(test, pin_ledger_find(t->base.mm), t->ledger);
	KUNIT_EXPECT_EQ(test, refcount_read(&t->ledger->refs), 3);
	pin_ledger_put(t->ledger);
	pin_ledger_put(t->ledger);
	KUNIT_EXPECT_EQ(test, refcount_read(&t->ledger->refs), 1);

	KUNIT_EXPECT_NULL(test, pin_ledger_find(other));
	ledger = pin_ledger_get(other);
	KUNIT_ASSERT_NOT_NULL(test, ledger);
	KUNIT_EXPECT_PTR_NE(test, ledger, t->ledger);
	KUNIT_EXPECT_PTR_EQ(test, ledger->mm, other);
	pin_ledger_put(ledger);
}

static void ledger_goes_with_last_reference(struct kunit *test)
{
	struct mm_struct *mm = pin_test_other_mm(test);
	int count = atomic_read(&mm->mm_count), i;
	struct pin_ledger *ledger;

	ledger = pin_ledger_get(mm);
	KUNIT_ASSERT_NOT_NULL(test, ledger);
	KUNIT_EXPECT_EQ(test, atomic_read(&mm->mm_count), count + 1);
	pin_ledger_find(mm);
	pin_ledger_put(ledger);
	KUNIT_EXPECT_PTR_EQ(test, ledger_of(mm), ledger);
	pin_ledger_put(ledger);
	KUNIT_EXPECT_NULL(test, ledger_of(mm));
	KUNIT_EXPECT_NULL(test, pin_ledger_find(mm));
	/* The reference on the mm_struct goes when no reader is left */
	for (i = 0; i < 1000 && atomic_read(&mm->mm_count) != count; i++)
		msleep(20);
	KUNIT_EXPECT_EQ(test, atomic_read(&mm->mm_count), count);
}

static void small_page_is_charged_once(struct kunit *test)
{
	struct ledger_test *t = test->priv;

	KUNIT_EXPECT_EQ(test, ledger_add(t, t->pfn, 1), 1);
	EXPECT_LEDGER(test, t->ledger, 1, 1);
	KUNIT_EXPECT_EQ(test, ledger_add(t, t->pfn, 1), 1);
	EXPECT_LEDGER(test, t->ledger, 1, 1);
	ledger_sub(t, t->pfn, 1);
	EXPECT_LEDGER(test, t->ledger, 1, 1);
	ledger_sub(t, t->pfn, 1);
	EXPECT_LEDGER(test, t->ledger, 0, 0);
}

static void no_pages_are_no_pins(struct kunit *test)
{
	struct ledger_test *t = test->priv;

	KUNIT_EXPECT_EQ(test, ledger_add(t, t->pfn, 0), 0);
	ledger_sub(t, t->pfn, 0);
	KUNIT_EXPECT_TRUE(test, ledger_is_empty(t->ledger));
}

static bool has_chunk(struct ledger_test *t, unsigned long pfn)
{
	return xa_load(&t->ledger->planes[PIN_PLANE_LOCKED].chunks,
		       pfn >> PIN_CHUNK_SHIFT);
}

static void run_may_cross_chunks(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	unsigned long border = t->pfn + PIN_CHUNK_PAGES;

	KUNIT_EXPECT_EQ(test, ledger_add(t, border - 12, 30), 30);
	KUNIT_EXPECT_EQ(test, ledger_add(t, border - 1, 2), 2);
	EXPECT_LEDGER(test, t->ledger, 30, 30);

	/* A chunk lives as long as any of its counters */
	ledger_sub(t, border - 12, 12);
	EXPECT_LEDGER(test, t->ledger, 19, 19);
	KUNIT_EXPECT_TRUE(test, has_chunk(t, border - 1));
	ledger_sub(t, border - 1, 1);
	EXPECT_LEDGER(test, t->ledger, 18, 18);
	KUNIT_EXPECT_FALSE(test, has_chunk(t, border - 1));
	KUNIT_EXPECT_TRUE(test, has_chunk(t, border));
	ledger_sub(t, border, 18);
	EXPECT_LEDGER(test, t->ledger, 1, 1);
	ledger_sub(t, border, 1);
	KUNIT_EXPECT_FALSE(test, has_chunk(t, border));
}

/**
 * struct test_device - device memory, at a place where there is no other
 * @pgmap: its pages
 * @res: the place
 * @acct: an account, by which the test's ledger is found
 */
struct test_device {
	struct dev_pagemap pgmap;
	struct resource *res;
	struct pin_account *acct;
};

#define DEVICE_PAGES	(2 * PIN_CHUNK_PAGES)

/* As device-dax, in folios of 2^@order pages; returns the first PFN */
static unsigned long device_plug(struct kunit *test, struct test_device *device,
				 unsigned int order)
{
#ifdef CONFIG_ZONE_DEVICE
	void *mem;

	memset(&device->pgmap, 0, sizeof(device->pgmap));
	device->pgmap.type = MEMORY_DEVICE_GENERIC;
	device->pgmap.vmemmap_shift = order;
	device->pgmap.nr_range = 1;
	device->pgmap.range.start = device->res->start;
	device->pgmap.range.end = device->res->end;
	mem = memremap_pages(&device->pgmap, NUMA_NO_NODE);
	KUNIT_ASSERT_FALSE(test, IS_ERR(mem));
	return PHYS_PFN(device->res->start);
#else
	return 0;
#endif
}

static void device_unplug(struct test_device *device)
{
#ifdef CONFIG_ZONE_DEVICE
	memunmap_pages(&device->pgmap);
#endif
}

static struct test_device *device_make(struct kunit *test)
{
#ifdef CONFIG_DEVICE_PRIVATE
	struct ledger_test *t = test->priv;
	struct test_device *device = kunit_kzalloc(test, sizeof(*device),
						   GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, device);
	device->res = request_free_mem_region(&iomem_resource,
					      DEVICE_PAGES << PAGE_SHIFT,
					      "pin_test");
	KUNIT_ASSERT_FALSE(test, IS_ERR(device->res));
	device->acct = pin_account_get(t->base.mm, NULL, "other",
				       PIN_COUNT_LOCKED, NULL);
	KUNIT_ASSERT_FALSE(test, IS_ERR(device->acct));
	return device;
#else
	kunit_skip(test, "no device memory in this kernel, see DEVICE_PRIVATE");
	return NULL;
#endif
}

static void device_free(struct test_device *device)
{
	pin_account_put(device->acct);
	release_mem_region(device->res->start, resource_size(device->res));
}

static void device_memory_is_counted_but_costs_nothing(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct test_device *device = device_make(test);
	unsigned int order;

	for (order = 0; order <= PIN_CHUNK_SHIFT; order += PIN_CHUNK_SHIFT) {
		unsigned long pfn = device_plug(test, device, order);

		KUNIT_EXPECT_TRUE(test, pin_account_counts(pfn + 1));
		KUNIT_EXPECT_EQ(test, ledger_add(t, pfn + 10, 30), 30);
		KUNIT_EXPECT_EQ(test, ledger_add(t, pfn, DEVICE_PAGES),
				DEVICE_PAGES);
		EXPECT_LEDGER(test, t->ledger, 0, 0);
		KUNIT_EXPECT_EQ(test, pin_test_charged(), t->base.charged);
		KUNIT_EXPECT_EQ(test, t->ledger->device_pins,
				DEVICE_PAGES + 30);
		ledger_sub(t, pfn, DEVICE_PAGES);
		KUNIT_EXPECT_EQ(test, t->ledger->device_pins, 30);
		ledger_sub(t, pfn + 10, 30);
		KUNIT_EXPECT_TRUE(test, ledger_is_empty(t->ledger));
		device_unplug(device);
	}
	device_free(device);
}

/* Pins keep no device: its struct pages may be gone before a ledger gets them */
static void device_that_has_gone_is_not_looked_at(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct test_device *device = device_make(test);
	unsigned long pfn = device_plug(test, device, 0);
	struct page *pages[] = { t->area, pfn_to_page(pfn) };

	device_unplug(device);
	KUNIT_EXPECT_FALSE(test, pfn_valid(pfn));
	mutex_lock(&t->ledger->lock);
	KUNIT_EXPECT_EQ(test, pin_ledger_add_small(t->ledger, PIN_PLANE_LOCKED,
						   pages, 2), 1);
	KUNIT_EXPECT_EQ(test, pin_ledger_add_small(t->ledger, PIN_PLANE_LOCKED,
						   pages + 1, 1), 0);
	KUNIT_EXPECT_EQ(test, pin_ledger_add(t->ledger, PIN_PLANE_LOCKED, pfn,
					     1), 0);
	mutex_unlock(&t->ledger->lock);
	EXPECT_LEDGER(test, t->ledger, 1, 1);
	ledger_sub(t, t->pfn, 1);
	device_free(device);
}

static void device_page_has_so_many_pins_and_no_more(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct test_device *device = device_make(test);
	unsigned long pfn = device_plug(test, device, 0);
	unsigned int i, half = PIN_PAGE_MAX / 2;

	for (i = 0; i < half; i++)
		ledger_add(t, pfn + 1, 1);
	device_unplug(device);
	device_plug(test, device, 0);
	/* Those on what was there before count */
	for (; i < PIN_PAGE_MAX; i++)
		KUNIT_ASSERT_EQ(test, ledger_add(t, pfn + 1, 1), 1);
	KUNIT_EXPECT_EQ(test, ledger_add(t, pfn + 1, 1), -EOVERFLOW);
	KUNIT_EXPECT_EQ(test, ledger_add(t, pfn, 3), -EOVERFLOW);
	/* So they fit in one counter */
	device_unplug(device);
	KUNIT_EXPECT_EQ(test, t->ledger->gone_pins, PIN_PAGE_MAX);
	for (i = 0; i < PIN_PAGE_MAX; i++)
		ledger_sub(t, pfn + 1, 1);
	KUNIT_EXPECT_TRUE(test, ledger_is_empty(t->ledger));
	device_free(device);
}

/* Takes pins off one step; returns whether they went with the device */
static bool device_sub(struct kunit *test, unsigned long pfn,
		       unsigned long npages)
{
	struct ledger_test *t = test->priv;
	struct pin_step step;

	guard(mutex)(&t->ledger->lock);
	KUNIT_EXPECT_EQ(test, pin_ledger_sub(t->ledger, PIN_PLANE_LOCKED, pfn,
					     npages, 0, &step), npages);
	KUNIT_EXPECT_EQ(test, step.counted, npages);
	put_dev_pagemap(step.pgmap);
	return step.gone;
}

/* The device is unbound while it is pinned, and bound again */
static void pins_go_with_the_device(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct test_device *device = device_make(test);
	unsigned int order;

	for (order = 0; order <= PIN_CHUNK_SHIFT; order += PIN_CHUNK_SHIFT) {
		unsigned long pfn = device_plug(test, device, order);
		unsigned long border = pfn + PIN_CHUNK_PAGES;

		ledger_add(t, border - 10, 30);
		ledger_add(t, border - 10, 1);
		device_unplug(device);
		KUNIT_EXPECT_FALSE(test, pfn_valid(pfn));
		KUNIT_EXPECT_EQ(test, t->ledger->device_pins, 31);
		KUNIT_EXPECT_EQ(test, t->ledger->gone_pins, 31);
		KUNIT_EXPECT_TRUE(test, device_sub(test, border + 15, 5));

		/* Other pages have come to that place, some are pinned now */
		device_plug(test, device, order);
		KUNIT_EXPECT_EQ(test, ledger_add(t, border, 2), 2);
		KUNIT_EXPECT_TRUE(test, device_sub(test, border, 2));
		KUNIT_EXPECT_FALSE(test, device_sub(test, border, 2));
		KUNIT_EXPECT_EQ(test, t->ledger->device_pins, 24);

		/* Both times */
		KUNIT_EXPECT_EQ(test, ledger_add(t, border - 10, 11), 11);
		device_unplug(device);
		KUNIT_EXPECT_EQ(test, t->ledger->gone_pins, 35);
		ledger_sub(t, border - 10, 11);
		ledger_sub(t, border - 10, 10);
		ledger_sub(t, border - 10, 1);
		ledger_sub(t, border + 2, 13);
		KUNIT_EXPECT_TRUE(test, ledger_is_empty(t->ledger));
	}
	device_free(device);
}

/* As if a device's page had been at @pfn, and had gone with a pin on it */
static void device_was_here(struct kunit *test, unsigned long pfn)
{
	struct ledger_test *t = test->priv;
	struct pin_device_chunk *chunk;

	chunk = device_chunk_get(t->ledger, pfn, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, chunk);
	chunk->used++;
	chunk->gone[pfn % PIN_CHUNK_PAGES]++;
	t->ledger->device_pins++;
	t->ledger->gone_pins++;
}

/* Memory of the host, as after daxctl reconfigure-device --mode=system-ram */
static void memory_that_comes_to_the_place_is_apart(struct kunit *test)
{
	struct ledger_test *t = test->priv;

	device_was_here(test, t->pfn);
	device_was_here(test, t->pfn + 1);

	KUNIT_EXPECT_TRUE(test, device_sub(test, t->pfn, 1));
	EXPECT_LEDGER(test, t->ledger, 0, 0);
	KUNIT_EXPECT_EQ(test, ledger_add(t, t->pfn, 5), 5);
	EXPECT_LEDGER(test, t->ledger, 5, 5);
	/* Who takes back what it has just added leaves the others */
	mutex_lock(&t->ledger->lock);
	KUNIT_EXPECT_EQ(test, pin_ledger_add(t->ledger, PIN_PLANE_HELD,
					     t->pfn + 1, 4), 4);
	pin_ledger_undo_all(t->ledger, PIN_PLANE_HELD, t->pfn + 1, 4);
	mutex_unlock(&t->ledger->lock);
	KUNIT_EXPECT_EQ(test, t->ledger->gone_pins, 1);
	EXPECT_LEDGER(test, t->ledger, 5, 5);
	/* A step ends where the other kind begins */
	KUNIT_EXPECT_FALSE(test, device_sub(test, t->pfn, 1));
	EXPECT_LEDGER(test, t->ledger, 4, 4);
	KUNIT_EXPECT_TRUE(test, device_sub(test, t->pfn + 1, 1));
	EXPECT_LEDGER(test, t->ledger, 4, 4);
	KUNIT_EXPECT_FALSE(test, device_sub(test, t->pfn + 1, 4));
	EXPECT_LEDGER(test, t->ledger, 0, 0);
}

/* A run whose second page has a pin that has gone leaves the one that has not */
static void step_ends_where_pins_have_gone(struct kunit *test)
{
	struct ledger_test *t = test->priv;

	device_was_here(test, t->pfn + 1);
	KUNIT_EXPECT_EQ(test, ledger_add(t, t->pfn, 2), 2);
	ledger_sub(t, t->pfn, 2);
	EXPECT_LEDGER(test, t->ledger, 1, 1);
	KUNIT_EXPECT_EQ(test, t->ledger->gone_pins, 0);
	ledger_sub(t, t->pfn + 1, 1);
}

/* Who has pinned no device memory has none that has gone */
static void pins_that_have_gone_are_of_who_had_them(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct pin_extent extent = { t->pfn, 1 };
	struct page *page = t->area;
	struct pin_step step;

	device_was_here(test, t->pfn);
	mutex_lock(&t->ledger->lock);
	KUNIT_EXPECT_EQ(test, pin_ledger_add(t->ledger, PIN_PLANE_PINNED,
					     t->pfn, 1), 1);
	/* Who may have some has them put by pin_ledger_sub() */
	KUNIT_EXPECT_EQ(test, pin_ledger_sub_small(t->ledger, PIN_PLANE_PINNED,
						   &extent, 1, 0, &page), 0);
	KUNIT_EXPECT_EQ(test, pin_ledger_sub_small(t->ledger, PIN_PLANE_PINNED,
						   &extent, 1, PIN_SUB_NOT_GONE,
						   &page), 1);
	KUNIT_EXPECT_EQ(test, pin_ledger_add_small(t->ledger, PIN_PLANE_PINNED,
						   &page, 1), 1);
	KUNIT_EXPECT_EQ(test, pin_ledger_sub(t->ledger, PIN_PLANE_PINNED,
					     t->pfn, 1, PIN_SUB_NOT_GONE,
					     &step), 1);
	mutex_unlock(&t->ledger->lock);
	KUNIT_EXPECT_EQ(test, step.counted, 1);
	KUNIT_EXPECT_FALSE(test, step.gone);
	KUNIT_EXPECT_EQ(test, t->ledger->gone_pins, 1);
	KUNIT_EXPECT_TRUE(test, device_sub(test, t->pfn, 1));
}

/* Others have put first, and have taken those that had gone */
static void swapped_pins_are_of_any_plane(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	unsigned long pfn = t->pfn + AREA_FOLIO;
	struct pin_step step;

	t->ledger->went = true;
	mutex_lock(&t->ledger->lock);
	pin_ledger_add(t->ledger, PIN_PLANE_LOCKED, pfn, 3);
	pin_ledger_add(t->ledger, PIN_PLANE_PINNED, pfn + 3, 4);
	pin_ledger_add(t->ledger, PIN_PLANE_HELD, pfn + 7,
		       AREA_FOLIO_SIZE - 7);
	KUNIT_EXPECT_EQ(test, pin_ledger_sub(t->ledger, PIN_PLANE_LOCKED, pfn,
					     AREA_FOLIO_SIZE, 0, &step),
			AREA_FOLIO_SIZE);
	mutex_unlock(&t->ledger->lock);
	KUNIT_EXPECT_EQ(test, step.counted, AREA_FOLIO_SIZE);
	KUNIT_EXPECT_TRUE(test, step.swapped);
	KUNIT_EXPECT_TRUE(test, ledger_is_empty(t->ledger));
}

/* They would be pins on what is in that place now */
static void pins_that_have_gone_do_not_move(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct test_device *device = device_make(test);
	unsigned long pfn = device_plug(test, device, 0);
	struct pin_account *to;
	struct pin_move move;

	to = pin_account_get(pin_test_other_mm(test), NULL, "other",
			     PIN_COUNT_LOCKED, NULL);
	KUNIT_ASSERT_FALSE(test, IS_ERR(to));
	ledger_add(t, pfn, 20);
	device_unplug(device);
	pin_move_begin(&move, device->acct, to, &t->owner);
	KUNIT_EXPECT_EQ(test, pin_move_in(&move, pfn, 20), -EFAULT);
	KUNIT_EXPECT_EQ(test, to->refused[PIN_REASON_FAULT], 1);
	device_plug(test, device, 0);
	KUNIT_EXPECT_EQ(test, pin_move_in(&move, pfn + 19, 1), -EFAULT);
	KUNIT_EXPECT_EQ(test, pin_move_in(&move, pfn + 20, 1), 0);
	pin_move_undo(&move, pfn + 20, 1);
	pin_move_end(&move);
	KUNIT_EXPECT_TRUE(test, ledger_is_empty(to->ledger));
	device_unplug(device);
	ledger_sub(t, pfn, 20);
	pin_account_put(to);
	device_free(device);
}

/*
 * Pins have no names. Where memory has come to the place of somebody's device, an
 * account puts that one's pins for its own; and finds its own device's all the same.
 */
static void pins_of_two_devices_are_found(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct test_device *device = device_make(test);
	unsigned long pfn = device_plug(test, device, 0);
	struct pin_account *acct = device->acct, *other;
	struct pin_move move;

	pin_move_begin(&move, &t->acct, acct, &t->owner);
	KUNIT_EXPECT_EQ(test, pin_move_in(&move, pfn, 1), 0);
	KUNIT_EXPECT_EQ(test, pin_move_in(&move, t->pfn, 1), 0);
	pin_move_end(&move);
	KUNIT_EXPECT_EQ(test, acct->pages, 2);

	device_was_here(test, t->pfn);
	put_user_pfns_account(acct, t->pfn, 1, false);
	KUNIT_EXPECT_EQ(test, t->ledger->gone_pins, 0);
	device_unplug(device);
	put_user_pfns_account(acct, pfn, 1, false);
	KUNIT_EXPECT_EQ(test, acct->pages, 0);
	KUNIT_EXPECT_EQ(test, acct->counted, 0);

	/* The other one, whose pin has been put, has the account's */
	other = pin_account_get(t->base.mm, NULL, "other", PIN_COUNT_LOCKED, NULL);
	KUNIT_ASSERT_FALSE(test, IS_ERR(other));
	other->pages = 1;
	other->had_devices = true;
	pin_move_begin(&move, other, acct, &t->owner);
	pin_move_out(&move, t->pfn, 1);
	pin_move_end(&move);
	KUNIT_EXPECT_EQ(test, other->pages, 0);
	KUNIT_EXPECT_EQ(test, other->counted, 0);
	KUNIT_EXPECT_TRUE(test, ledger_is_empty(t->ledger));
	pin_account_put(other);
	device_free(device);
}

static void frames_that_may_be_freed_or_unplugged_count(struct kunit *test)
{
	struct ledger_test *t = test->priv;

	KUNIT_EXPECT_TRUE(test, pin_account_counts(t->pfn + 1));
	KUNIT_EXPECT_TRUE(test, pin_account_counts(t->pfn + AREA_FOLIO + 1));
	KUNIT_EXPECT_FALSE(test, pin_account_counts(t->pfn + AREA_RESERVED));
	KUNIT_EXPECT_FALSE(test,
			   pin_account_counts(page_to_pfn(ZERO_PAGE(0))));
	KUNIT_EXPECT_FALSE(test, pin_account_counts(PIN_TEST_NO_PFN));
}

/* Takes a pin off the page at @pfn; returns whether there was one */
static bool ledger_sub_one(struct kunit *test, unsigned long pfn)
{
	struct ledger_test *t = test->priv;
	struct pin_step step;

	guard(mutex)(&t->ledger->lock);
	KUNIT_EXPECT_EQ(test, pin_ledger_sub(t->ledger, PIN_PLANE_LOCKED, pfn,
					     1, 0, &step), 1);
	KUNIT_EXPECT_LE(test, step.counted, 1);
	return step.counted;
}

/* Who remembers only PFNs may put it all the same: no warning */
static void reserved_page_has_no_pins(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	unsigned long pfn = t->pfn + AREA_RESERVED;

	KUNIT_EXPECT_EQ(test, ledger_add(t, pfn, 1), 0);
	KUNIT_EXPECT_FALSE(test, has_chunk(t, pfn));

	/* Without a chunk, and with one */
	KUNIT_EXPECT_FALSE(test, ledger_sub_one(test, pfn));
	ledger_add(t, pfn + 1, 1);
	KUNIT_EXPECT_FALSE(test, ledger_sub_one(test, pfn));
	KUNIT_EXPECT_TRUE(test, ledger_sub_one(test, pfn + 1));
}

static void frame_without_page_has_no_pins(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	unsigned long pfn = PIN_TEST_NO_PFN;

	KUNIT_ASSERT_FALSE(test, pfn_valid(pfn));
	KUNIT_EXPECT_EQ(test, ledger_add(t, pfn, 1000), 0);
	EXPECT_LEDGER(test, t->ledger, 0, 0);
	KUNIT_EXPECT_FALSE(test, ledger_sub_one(test, pfn));
	ledger_sub(t, pfn, 1000);
}

/* A step over them ends where others begin, and after a batch */
static void step_is_as_long_as_frames_do_not_count(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	unsigned long none = PIN_TEST_NO_PFN;
	unsigned long pfn = t->pfn + AREA_RESERVED;
	struct pin_step step;

	ledger_add(t, pfn, 2);
	mutex_lock(&t->ledger->lock);
	KUNIT_EXPECT_EQ(test, pin_ledger_sub(t->ledger, PIN_PLANE_LOCKED, pfn,
					     2, 0, &step), 1);
	KUNIT_EXPECT_EQ(test, step.counted, 0);
	KUNIT_EXPECT_EQ(test, pin_ledger_sub(t->ledger, PIN_PLANE_LOCKED, none,
					     7, 0, &step), 7);
	KUNIT_EXPECT_EQ(test, step.counted, 0);
	KUNIT_EXPECT_EQ(test, pin_ledger_sub(t->ledger, PIN_PLANE_LOCKED, none,
					     10 * PIN_BATCH_PAGES, 0, &step),
			PIN_BATCH_PAGES);
	mutex_unlock(&t->ledger->lock);
	ledger_sub(t, pfn + 1, 1);
}

static void zero_page_has_no_pins(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	unsigned long pfn = page_to_pfn(ZERO_PAGE(0));

	KUNIT_EXPECT_EQ(test, ledger_add(t, pfn, 1), 0);
	EXPECT_LEDGER(test, t->ledger, 0, 0);
	KUNIT_EXPECT_FALSE(test, ledger_sub_one(test, pfn));
}

/* Several holders, some of them on parts: min(pins, pages) after each step */
static void charge_of_folio_is_min_of_pins_and_size(struct kunit *test)
{
	static const struct {
		bool add;
		unsigned int first, npages, charge;
	} steps[] = {
		{ true, 0, 1, 1 },
		{ true, 100, 99, 100 },
		{ true, 100, 99, 199 },		/* overlaps: an upper bound */
		{ true, 0, 512, 512 },
		{ true, 511, 1, 512 },
		{ false, 100, 99, 512 },
		{ false, 0, 512, 101 },
		{ true, 0, 410, 511 },
		{ true, 511, 1, 512 },
		{ false, 511, 1, 511 },
		{ false, 0, 410, 101 },
		{ false, 511, 1, 100 },
		{ false, 0, 1, 99 },
		{ false, 100, 99, 0 },
	};
	struct ledger_test *t = test->priv;
	struct folio *folio = ledger_test_folio(test, 9);
	unsigned long pfn = folio_pfn(folio);
	int i;

	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		unsigned long first = pfn + steps[i].first;
		unsigned long npages = steps[i].npages;

		if (steps[i].add)
			KUNIT_EXPECT_EQ(test, ledger_add(t, first, npages),
					npages);
		else
			ledger_sub(t, first, npages);
		KUNIT_EXPECT_EQ_MSG(test, pin_test_charge(t->ledger),
				    steps[i].charge,
				    "after step %d", i);
		KUNIT_EXPECT_EQ_MSG(test, t->ledger->held,
				    steps[i].charge ? 512 : 0, "after step %d",
				    i);
	}
	folio_put(folio);
}

static void run_may_mix_small_and_large(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	unsigned long pfn = t->pfn + AREA_FOLIO;
	struct pin_step step;

	KUNIT_EXPECT_EQ(test, ledger_add(t, pfn - 30, 130), 130);
	EXPECT_LEDGER(test, t->ledger, 130, 30 + AREA_FOLIO_SIZE);

	/* A step of puts ends where the folio begins */
	mutex_lock(&t->ledger->lock);
	KUNIT_EXPECT_EQ(test, pin_ledger_sub(t->ledger, PIN_PLANE_LOCKED,
					     pfn - 30, 130, 0, &step), 30);
	KUNIT_EXPECT_EQ(test, step.counted, 30);
	EXPECT_LEDGER(test, t->ledger, 100, AREA_FOLIO_SIZE);
	KUNIT_EXPECT_EQ(test, pin_ledger_sub(t->ledger, PIN_PLANE_LOCKED, pfn,
					     100, 0, &step), 100);
	KUNIT_EXPECT_EQ(test, step.counted, 100);
	mutex_unlock(&t->ledger->lock);
}

static void neighbouring_folios_are_told_apart(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct folio *folio = ledger_test_folio(test, 9);
	unsigned long pfn = folio_pfn(folio);

	KUNIT_EXPECT_EQ(test, ledger_add(t, t->pfn + AREA_FOLIO,
					 AREA_FOLIO_SIZE), AREA_FOLIO_SIZE);
	KUNIT_EXPECT_EQ(test, ledger_add(t, pfn + 511, 1), 1);
	EXPECT_LEDGER(test, t->ledger, AREA_FOLIO_SIZE + 1,
		      AREA_FOLIO_SIZE + 512);
	ledger_sub(t, t->pfn + AREA_FOLIO, AREA_FOLIO_SIZE);
	EXPECT_LEDGER(test, t->ledger, 1, 512);
	ledger_sub(t, pfn + 511, 1);
	folio_put(folio);
}

static void vmstat_counts_the_charge(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	long before = t->base.charged;

	ledger_add(t, t->pfn, 100);
	ledger_add(t, t->pfn, 100);
	KUNIT_EXPECT_EQ(test, pin_test_charged(), before + 100);
	ledger_add(t, t->pfn + AREA_FOLIO, 7);
	KUNIT_EXPECT_EQ(test, pin_test_charged(), before + 107);
	ledger_sub(t, t->pfn, 100);
	KUNIT_EXPECT_EQ(test, pin_test_charged(), before + 107);
	ledger_sub(t, t->pfn + AREA_FOLIO, 7);
	ledger_sub(t, t->pfn, 100);
	KUNIT_EXPECT_EQ(test, pin_test_charged(), before);
}

/**
 * struct ledger_model - the rules, written down as simply as they are
 * @pins: on each page of the area; those of the folio on its head
 */
struct ledger_model {
	unsigned int pins[AREA_PAGES];
};

static void model_change(struct ledger_model *model, unsigned int first,
			 unsigned int npages, int by)
{
	unsigned int i;

	for (i = first; i < first + npages; i++)
		model->pins[min(i, AREA_FOLIO)] += by;
}

static bool model_agrees(struct ledger_model *model, struct pin_ledger *ledger)
{
	unsigned long charge = 0, held;
	unsigned int i;

	for (i = 0; i < AREA_FOLIO; i++)
		if (model->pins[i] && i != AREA_RESERVED)
			charge++;
	held = charge;
	charge += min(model->pins[AREA_FOLIO], AREA_FOLIO_SIZE);
	if (model->pins[AREA_FOLIO])
		held += AREA_FOLIO_SIZE;
	return pin_test_charge(ledger) == charge && ledger->held == held;
}

/* Random ranges, put in other pieces than they were pinned in */
static void any_sequence_agrees_with_model(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct { unsigned int first, npages; } ranges[32], *r;
	unsigned int nr = 0, i, n;
	struct ledger_model *model;
	struct rnd_state rnd;

	model = kunit_kzalloc(test, sizeof(*model), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, model);
	prandom_seed_state(&rnd, 1);

	for (i = 0; i < 2000 || nr; i++) {
		bool more = i < 2000 && nr < ARRAY_SIZE(ranges) &&
			    prandom_u32_state(&rnd) % 2;

		if (more || !nr) {
			r = &ranges[nr++];
			r->first = prandom_u32_state(&rnd) % AREA_PAGES;
			r->npages = 1 + prandom_u32_state(&rnd) %
				    (AREA_PAGES - r->first);
			n = r->npages;
			if (r->first <= AREA_RESERVED &&
			    r->first + r->npages > AREA_RESERVED)
				n--;
			KUNIT_ASSERT_EQ(test, ledger_add(t, t->pfn + r->first,
							 r->npages), n);
			model_change(model, r->first, r->npages, 1);
		} else {
			r = &ranges[prandom_u32_state(&rnd) % nr];
			n = 1 + prandom_u32_state(&rnd) % r->npages;
			ledger_sub(t, t->pfn + r->first, n);
			model_change(model, r->first, n, -1);
			r->first += n;
			r->npages -= n;
			if (!r->npages)
				*r = ranges[--nr];
		}
		if (!model_agrees(model, t->ledger)) {
			KUNIT_FAIL(test, "step %u: charge %lu, held %lu", i,
				   pin_test_charge(t->ledger), t->ledger->held);
			break;
		}
	}
}

static unsigned long model_charge(const struct ledger_model *models,
				  unsigned int planes, unsigned long *held)
{
	unsigned long charge = 0, folio = 0;
	unsigned int i, j;

	for (i = 0; i < AREA_FOLIO; i++) {
		for (j = 0; j < PIN_PLANE_NR; j++)
			if (planes & BIT(j) && models[j].pins[i])
				break;
		charge += j < PIN_PLANE_NR;
	}
	for (j = 0; j < PIN_PLANE_NR; j++)
		if (planes & BIT(j))
			folio += models[j].pins[AREA_FOLIO];
	*held = charge + (folio ? AREA_FOLIO_SIZE : 0);
	return charge + min(folio, AREA_FOLIO_SIZE);
}

/* For each counter, held and NR_LONGTERM_PINNED: a page counts once */
static bool models_agree(const struct ledger_model *models,
			 struct ledger_test *t)
{
	unsigned long held, all;
	int i;

	for (i = 0; i < PIN_COUNTER_NR; i++)
		if (pin_ledger_charge(t->ledger, i) !=
		    model_charge(models, pin_counter_planes(i), &held))
			return false;
	all = model_charge(models, BIT(PIN_PLANE_NR) - 1, &held);
	pin_ledger_count_node(t->ledger);
	return t->ledger->held == held &&
	       pin_test_charged() == t->base.charged + all;
}

/* Random ranges of random planes, on the same pages */
static void any_sequence_in_planes_agrees_with_model(struct kunit *test)
{
	struct { unsigned int plane, first, npages; } ranges[32], *r;
	struct ledger_test *t = test->priv;
	struct ledger_model *models;
	unsigned int nr = 0, i, n;
	struct rnd_state rnd;
	struct pin_step step;

	models = kunit_kcalloc(test, PIN_PLANE_NR, sizeof(*models), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, models);
	prandom_seed_state(&rnd, 1);

	for (i = 0; i < 3000 || nr; i++) {
		bool more = i < 3000 && nr < ARRAY_SIZE(ranges) &&
			    prandom_u32_state(&rnd) % 2;
		unsigned long pfn;

		if (more || !nr) {
			r = &ranges[nr++];
			r->plane = prandom_u32_state(&rnd) % PIN_PLANE_NR;
			/* From behind the reserved page on */
			r->first = AREA_RESERVED + 1;
			r->first += prandom_u32_state(&rnd) %
				    (AREA_PAGES - r->first);
			r->npages = 1 + prandom_u32_state(&rnd) %
				    (AREA_PAGES - r->first);
			mutex_lock(&t->ledger->lock);
			KUNIT_EXPECT_EQ(test,
					pin_ledger_add(t->ledger, r->plane,
						       t->pfn + r->first,
						       r->npages), r->npages);
			mutex_unlock(&t->ledger->lock);
			model_change(models + r->plane, r->first, r->npages, 1);
		} else {
			r = &ranges[prandom_u32_state(&rnd) % nr];
			n = 1 + prandom_u32_state(&rnd) % r->npages;
			model_change(models + r->plane, r->first, n, -1);
			r->npages -= n;
			pfn = t->pfn + r->first;
			r->first += n;
			mutex_lock(&t->ledger->lock);
			while (n) {
				unsigned long covered;

				covered = pin_ledger_sub(t->ledger, r->plane,
							 pfn, n, 0, &step);
				KUNIT_EXPECT_EQ(test, step.counted, covered);
				pfn += covered;
				n -= covered;
			}
			mutex_unlock(&t->ledger->lock);
			if (!r->npages)
				*r = ranges[--nr];
		}
		if (!models_agree(models, t)) {
			KUNIT_FAIL(test, "step %u: held %lu", i,
				   t->ledger->held);
			break;
		}
	}
}

/**
 * struct ledger_scatter - pins on pages that need not lie together
 * @plane: whose they are
 * @at: which pages of the area
 * @nr: how many pins
 */
struct ledger_scatter {
	unsigned int plane;
	unsigned int at[64];
	unsigned int nr;
};

/* As an account pins an array */
static void scatter_add(struct kunit *test, const struct ledger_scatter *s,
			struct page **pages)
{
	struct ledger_test *t = test->priv;
	unsigned int i;
	long n;

	for (i = 0; i < s->nr; i++)
		pages[i] = t->area + s->at[i];
	guard(mutex)(&t->ledger->lock);
	for (i = 0; i < s->nr; i += n) {
		n = pin_ledger_add_small(t->ledger, s->plane, pages + i,
					 s->nr - i);
		KUNIT_EXPECT_EQ(test, n > 0, s->at[i] < AREA_FOLIO);
		n = n ?: pin_ledger_add(t->ledger, s->plane,
					t->pfn + s->at[i], 1);
		KUNIT_EXPECT_GT(test, n, 0);
		if (n <= 0)
			break;
	}
}

/* As it puts extents, of one page each */
static void scatter_sub(struct kunit *test, const struct ledger_scatter *s,
			struct page **pages, struct pin_extent *extents)
{
	struct ledger_test *t = test->priv;
	struct pin_step step;
	unsigned int i, j, n;

	for (i = 0; i < s->nr; i++)
		extents[i] = (struct pin_extent){ t->pfn + s->at[i], 1 };
	guard(mutex)(&t->ledger->lock);
	for (i = 0; i < s->nr; i += n) {
		n = pin_ledger_sub_small(t->ledger, s->plane, extents + i,
					 s->nr - i, 0, pages);
		KUNIT_EXPECT_EQ(test, n > 0, s->at[i] < AREA_FOLIO);
		for (j = 0; j < n; j++)
			KUNIT_EXPECT_PTR_EQ(test, pages[j],
					    t->area + s->at[i + j]);
		if (n)
			continue;
		n = pin_ledger_sub(t->ledger, s->plane, extents[i].pfn, 1, 0,
				   &step);
		KUNIT_EXPECT_EQ(test, step.counted, 1);
	}
}

/*
 * Random pages, some of which lie together, some there twice; of one plane first,
 * then of several
 */
static void any_scattered_pages_agree_with_model(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	unsigned int nr = 0, i, j;
	struct ledger_scatter *all, *s;
	struct ledger_model *models;
	struct pin_extent *extents;
	struct page **pages;
	struct rnd_state rnd;

	models = kunit_kcalloc(test, PIN_PLANE_NR, sizeof(*models), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, models);
	all = kunit_kcalloc(test, 32, sizeof(*all), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, all);
	/* Too much for the stack */
	pages = kunit_kcalloc(test, ARRAY_SIZE(s->at), sizeof(*pages), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, pages);
	extents = kunit_kcalloc(test, ARRAY_SIZE(s->at), sizeof(*extents), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, extents);
	prandom_seed_state(&rnd, 1);

	for (i = 0; i < 2000 || nr; i++) {
		bool more = i < 2000 && nr < 32 && prandom_u32_state(&rnd) % 2;

		if (more || !nr) {
			s = &all[nr++];
			s->plane = i < 1000 ? PIN_PLANE_USER_PINNED :
				   prandom_u32_state(&rnd) % PIN_PLANE_NR;
			s->nr = 1 + prandom_u32_state(&rnd) %
				    ARRAY_SIZE(s->at);
			for (j = 0; j < s->nr; j++) {
				s->at[j] = j && prandom_u32_state(&rnd) % 2 ?
					   s->at[j - 1] + 1 :
					   prandom_u32_state(&rnd);
				s->at[j] %= AREA_PAGES;
				if (s->at[j] == AREA_RESERVED)
					s->at[j]++;
				model_change(models + s->plane, s->at[j], 1, 1);
			}
			scatter_add(test, s, pages);
		} else {
			s = &all[prandom_u32_state(&rnd) % nr];
			for (j = 0; j < s->nr; j++)
				model_change(models + s->plane, s->at[j], 1, -1);
			scatter_sub(test, s, pages, extents);
			*s = all[--nr];
		}
		if (!models_agree(models, t)) {
			KUNIT_FAIL(test, "step %u: held %lu", i,
				   t->ledger->held);
			break;
		}
	}
}

/* One chunk has pages of two zones, each of which has its node's counter */
static void scattered_step_ends_with_the_zone(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct pin_extent extents[] = { { t->pfn + 3, 1 }, { t->pfn + 9, 1 } };
	struct page *pages[] = { t->area + 3, t->area + 9 }, *put[2];
	enum zone_type zone = page_zonenum(t->area);

	/* Its neighbour; there are at least two */
	set_page_zone(t->area + 9, zone ^ 1);
	mutex_lock(&t->ledger->lock);
	KUNIT_EXPECT_EQ(test, pin_ledger_add_small(t->ledger, PIN_PLANE_LOCKED,
						   pages, 2), 1);
	KUNIT_EXPECT_EQ(test, pin_ledger_add_small(t->ledger, PIN_PLANE_LOCKED,
						   pages + 1, 1), 1);
	KUNIT_EXPECT_EQ(test, pin_ledger_sub_small(t->ledger, PIN_PLANE_LOCKED,
						   extents, 2, 0, put), 1);
	KUNIT_EXPECT_EQ(test, pin_ledger_sub_small(t->ledger, PIN_PLANE_LOCKED,
						   extents + 1, 1, 0, put), 1);
	KUNIT_EXPECT_PTR_EQ(test, put[0], pages[1]);
	mutex_unlock(&t->ledger->lock);
	set_page_zone(t->area + 9, zone);
	EXPECT_LEDGER(test, t->ledger, 0, 0);
}

/* The cap holds for a page that an array has twice */
static void scattered_page_has_so_many_pins_and_no_more(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct page *page = t->area + 5, *pages[] = { page, page, page };
	int i;

	for (i = 0; i < PIN_PAGE_MAX - 2; i++)
		KUNIT_ASSERT_EQ(test, ledger_add(t, t->pfn + 5, 1), 1);
	mutex_lock(&t->ledger->lock);
	KUNIT_EXPECT_EQ(test, pin_ledger_add_small(t->ledger, PIN_PLANE_LOCKED,
						   pages, 3), 2);
	KUNIT_EXPECT_EQ(test, pin_ledger_add_small(t->ledger, PIN_PLANE_LOCKED,
						   pages, 1), 0);
	KUNIT_EXPECT_EQ(test, pin_ledger_add(t->ledger, PIN_PLANE_LOCKED,
					     t->pfn + 5, 1), -EOVERFLOW);
	mutex_unlock(&t->ledger->lock);
	EXPECT_LEDGER(test, t->ledger, 1, 1);
	for (i = 0; i < PIN_PAGE_MAX; i++)
		ledger_sub(t, t->pfn + 5, 1);
}

/* A machine need not have node 0, which a new ledger has */
static void first_page_may_be_of_any_node(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	int nid = 0;

	while (nid < MAX_NUMNODES && NODE_DATA(nid))
		nid++;
	if (nid == MAX_NUMNODES)
		kunit_skip(test, "there is each node");
	t->ledger->nid = nid;
	KUNIT_EXPECT_EQ(test, ledger_add(t, t->pfn, 1), 1);
	EXPECT_LEDGER(test, t->ledger, 1, 1);
	ledger_sub(t, t->pfn, 1);
}

static void small_page_has_so_many_pins_and_no_more(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	unsigned long full = t->pfn + 5;
	long ret = 0;
	int i;

	for (i = 0; i < PIN_PAGE_MAX && ret >= 0; i++)
		ret = ledger_add(t, full, 1);
	KUNIT_EXPECT_EQ(test, ret, 1);
	KUNIT_EXPECT_EQ(test, ledger_add(t, full, 1), -EOVERFLOW);
	EXPECT_LEDGER(test, t->ledger, 1, 1);

	/* Others of the run are as before, too */
	KUNIT_EXPECT_EQ(test, ledger_add(t, full - 1, 1), 1);
	KUNIT_EXPECT_EQ(test, ledger_add(t, full - 3, 10), -EOVERFLOW);
	EXPECT_LEDGER(test, t->ledger, 2, 2);
	ledger_sub(t, full - 1, 1);
	EXPECT_LEDGER(test, t->ledger, 1, 1);

	ledger_sub(t, full, 1);
	KUNIT_EXPECT_EQ(test, ledger_add(t, full, 1), 1);
	for (i = 0; i < PIN_PAGE_MAX; i++)
		ledger_sub(t, full, 1);
}

static void folio_has_so_many_pins_and_no_more(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	unsigned long pfn = t->pfn + AREA_FOLIO;
	struct pin_plane *plane = &t->ledger->planes[PIN_PLANE_LOCKED];
	XA_STATE_ORDER(xas, &plane->folios, pfn, ilog2(AREA_FOLIO_SIZE));

	/* Two million calls are too many: start near the end */
	KUNIT_EXPECT_EQ(test, ledger_add(t, pfn, AREA_FOLIO_SIZE),
			AREA_FOLIO_SIZE);
	xas_lock(&xas);
	xas_store(&xas, xa_mk_value(PIN_FOLIO_MAX - 10));
	xas_unlock(&xas);

	KUNIT_EXPECT_EQ(test, ledger_add(t, pfn, 11), -EOVERFLOW);
	KUNIT_EXPECT_EQ(test, ledger_add(t, pfn, 10), 10);
	KUNIT_EXPECT_EQ(test, ledger_add(t, pfn, 1), -EOVERFLOW);
	EXPECT_LEDGER(test, t->ledger, AREA_FOLIO_SIZE, AREA_FOLIO_SIZE);

	/* Small pages before it are as before, too */
	KUNIT_EXPECT_EQ(test, ledger_add(t, pfn - 20, 30), -EOVERFLOW);
	EXPECT_LEDGER(test, t->ledger, AREA_FOLIO_SIZE, AREA_FOLIO_SIZE);
	ledger_sub(t, pfn, 1);
	KUNIT_EXPECT_EQ(test, ledger_add(t, pfn - 20, 21), 21);
	ledger_sub(t, pfn - 20, 21);

	xas_lock(&xas);
	xas_store(&xas, xa_mk_value(1));
	xas_unlock(&xas);
	t->ledger->planes[PIN_PLANE_LOCKED].charge -= AREA_FOLIO_SIZE - 1;
	plane->pins = 1;
	node_stat_mod_folio(page_folio(t->area + AREA_FOLIO),
			    NR_LONGTERM_PINNED, 1 - (long)AREA_FOLIO_SIZE);
	ledger_sub(t, pfn, 1);
}

/* References that others have take away from what is left for pins */
static void no_pins_on_page_with_too_many_references(struct kunit *test)
{
	static const unsigned int firsts[] = { 3, AREA_FOLIO };
	struct ledger_test *t = test->priv;
	int i;

	for (i = 0; i < ARRAY_SIZE(firsts); i++) {
		struct page *page = t->area + firsts[i];
		unsigned long pfn = t->pfn + firsts[i];

		page_ref_add(page, PIN_REFCOUNT_MAX - 1);
		KUNIT_EXPECT_EQ(test, ledger_add(t, pfn, 1), 1);
		page_ref_inc(page);
		KUNIT_EXPECT_EQ(test, ledger_add(t, pfn, 1), -EOVERFLOW);
		KUNIT_EXPECT_EQ(test, ledger_add(t, pfn - 2, 4), -EOVERFLOW);
		KUNIT_EXPECT_EQ(test, pin_test_charge(t->ledger), 1);
		/* What is there can go */
		ledger_sub(t, pfn, 1);
		EXPECT_LEDGER(test, t->ledger, 0, 0);
		page_ref_sub(page, PIN_REFCOUNT_MAX);
	}
}

#define GIGANTIC_PAGES	(SZ_1G >> PAGE_SHIFT)

static void gigantic_folio_is_charged_by_page(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	unsigned long addr = pin_test_map_gigantic(test);
	unsigned long pfn = page_to_pfn(pin_test_page(test, addr));

	KUNIT_EXPECT_EQ(test, ledger_add(t, pfn + 12345, 1), 1);
	EXPECT_LEDGER(test, t->ledger, 1, GIGANTIC_PAGES);
	KUNIT_EXPECT_EQ(test, pin_test_charged(), t->base.charged + 1);
	KUNIT_EXPECT_EQ(test, ledger_add(t, pfn, GIGANTIC_PAGES),
			GIGANTIC_PAGES);
	EXPECT_LEDGER(test, t->ledger, GIGANTIC_PAGES, GIGANTIC_PAGES);
	KUNIT_EXPECT_EQ(test, pin_test_charged(),
			t->base.charged + GIGANTIC_PAGES);
	ledger_sub(t, pfn + 12345, 1);
	EXPECT_LEDGER(test, t->ledger, GIGANTIC_PAGES, GIGANTIC_PAGES);
	ledger_sub(t, pfn + GIGANTIC_PAGES / 2, GIGANTIC_PAGES / 2);
	EXPECT_LEDGER(test, t->ledger, GIGANTIC_PAGES / 2, GIGANTIC_PAGES);
	ledger_sub(t, pfn, GIGANTIC_PAGES / 2);
	vm_munmap(addr, SZ_1G);
}

static void gigantic_folio_has_so_many_pins_and_no_more(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	unsigned long addr = pin_test_map_gigantic(test);
	unsigned long pfn = page_to_pfn(pin_test_page(test, addr)), i;

	for (i = 0; i < PIN_FOLIO_MAX / GIGANTIC_PAGES; i++)
		if (ledger_add(t, pfn, GIGANTIC_PAGES) != GIGANTIC_PAGES)
			break;
	KUNIT_EXPECT_EQ(test, i, PIN_FOLIO_MAX / GIGANTIC_PAGES);
	KUNIT_EXPECT_EQ(test, ledger_add(t, pfn, 1), -EOVERFLOW);
	KUNIT_EXPECT_EQ(test, ledger_add(t, pfn, GIGANTIC_PAGES), -EOVERFLOW);
	EXPECT_LEDGER(test, t->ledger, GIGANTIC_PAGES, GIGANTIC_PAGES);
	while (i--)
		ledger_sub(t, pfn, GIGANTIC_PAGES);
	EXPECT_LEDGER(test, t->ledger, 0, 0);
	vm_munmap(addr, SZ_1G);
}

/* Others see neither what is not compared yet nor what was refused */
static void charge_is_seen_when_it_is_allowed(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct mm_struct *mm = t->base.mm;

	pin_test_limit(10);
	ledger_add(t, t->pfn, 10);
	KUNIT_EXPECT_EQ(test, mm->pin_charge, 0);
	KUNIT_EXPECT_EQ(test, t->ledger->held_now, 0);
	KUNIT_EXPECT_EQ(test, ledger_commit(t, false), 0);
	KUNIT_EXPECT_EQ(test, mm->pin_charge, 10);
	KUNIT_EXPECT_EQ(test, t->ledger->held_now, 10);

	ledger_add(t, t->pfn + 10, 1);
	KUNIT_EXPECT_EQ(test, ledger_commit(t, false), -ENOMEM);
	KUNIT_EXPECT_EQ(test, mm->pin_charge, 10);
	KUNIT_EXPECT_EQ(test, t->ledger->held_now, 10);
	KUNIT_EXPECT_EQ(test, mm_locked_pages(mm), 10);
	KUNIT_EXPECT_EQ(test, mm->locked_vm, 0);

	ledger_sub(t, t->pfn, 11);
	KUNIT_EXPECT_EQ(test, mm->pin_charge, 0);
	KUNIT_EXPECT_EQ(test, t->ledger->held_now, 0);
	ledger_settle(t);
}

static void limit_holds_to_the_page(struct kunit *test)
{
	const unsigned int limits[] = { 100, PIN_BATCH_PAGES + 10 };
	struct ledger_test *t = test->priv;
	struct mm_struct *mm = t->base.mm;
	int i;

	/* Less than a batch, and more */
	for (i = 0; i < ARRAY_SIZE(limits); i++) {
		unsigned int limit = limits[i];

		pin_test_limit(limit);
		/* Part of a page is none */
		current->signal->rlim[RLIMIT_MEMLOCK].rlim_cur += PAGE_SIZE - 1;
		ledger_add(t, t->pfn, limit);
		KUNIT_EXPECT_EQ(test, ledger_commit(t, false), 0);
		KUNIT_EXPECT_EQ(test, mm->pin_charge, limit);

		ledger_add(t, t->pfn + limit, 1);
		KUNIT_EXPECT_EQ(test, ledger_commit(t, false), -ENOMEM);
		KUNIT_EXPECT_EQ(test, mm->pin_charge, limit);

		/* CAP_IPC_LOCK */
		KUNIT_EXPECT_EQ(test, ledger_commit(t, true), 0);
		KUNIT_EXPECT_EQ(test, mm->pin_charge, limit + 1);

		ledger_sub(t, t->pfn, limit + 1);
		ledger_settle(t);
	}
}

static void limit_counts_what_others_lock(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct mm_struct *mm = t->base.mm;

	mm->locked_vm = 60;
	pin_test_limit(100);
	ledger_add(t, t->pfn, 41);
	KUNIT_EXPECT_EQ(test, ledger_commit(t, false), -ENOMEM);
	ledger_sub(t, t->pfn + 40, 1);
	KUNIT_EXPECT_EQ(test, ledger_commit(t, false), 0);
	KUNIT_EXPECT_EQ(test, mm_locked_pages(mm), 100);
	ledger_sub(t, t->pfn, 40);
	ledger_settle(t);
	KUNIT_EXPECT_EQ(test, mm_locked_pages(mm), 60);
	mm->locked_vm = 0;
}

static void pins_of_privileged_holder_count_for_others(struct kunit *test)
{
	const unsigned int n = PIN_BATCH_PAGES;
	struct ledger_test *t = test->priv;

	pin_test_limit(n + 1);
	ledger_add(t, t->pfn, n);
	KUNIT_EXPECT_EQ(test, ledger_commit(t, true), 0);
	ledger_add(t, t->pfn + n, 1);
	KUNIT_EXPECT_EQ(test, ledger_commit(t, false), 0);
	ledger_add(t, t->pfn + n + 1, 1);
	KUNIT_EXPECT_EQ(test, ledger_commit(t, false), -ENOMEM);
	KUNIT_EXPECT_EQ(test, ledger_commit(t, true), 0);
	ledger_sub(t, t->pfn, n + 2);
	ledger_settle(t);
}

static void limit_is_that_of_owner(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct pin_owner init = { .task = &init_task };
	struct misc_cg *full;

	pin_test_limit(0);
	if (task_rlimit(&init_task, RLIMIT_MEMLOCK) < PAGE_SIZE)
		kunit_skip(test, "init_task may not lock anything");
	ledger_add(t, t->pfn, 1);
	mutex_lock(&t->ledger->lock);
	KUNIT_EXPECT_EQ(test, pin_ledger_commit(&t->acct, &t->owner, 0, 1,
						NULL, &full), -ENOMEM);
	KUNIT_EXPECT_EQ(test, pin_ledger_commit(&t->acct, &init, 0, 1, NULL,
						&full), 0);
	mutex_unlock(&t->ledger->lock);
	ledger_sub(t, t->pfn, 1);
	ledger_settle(t);
}

static void fatal_signal_ends_wait_for_limit(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct task_struct *task = pin_test_hold_mmap_lock(test, t->base.mm);
	int ret;

	ledger_add(t, t->pfn, 1);
	pin_test_limit(1);
	pin_test_killed(true);
	ret = ledger_commit(t, false);
	pin_test_killed(false);
	kthread_stop(task);
	KUNIT_EXPECT_EQ(test, ret, -EINTR);
	KUNIT_EXPECT_EQ(test, t->base.mm->pin_charge, 0);
	ledger_sub(t, t->pfn, 1);
}

/* A put asks for no limit, whatever is waited for in the mmap_lock */
static void put_does_not_wait_for_mmap_lock(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct task_struct *task;

	ledger_add(t, t->pfn, 10);
	KUNIT_EXPECT_EQ(test, ledger_commit(t, false), 0);
	task = pin_test_hold_mmap_lock(test, t->base.mm);
	ledger_sub(t, t->pfn, 10);
	ledger_settle(t);
	KUNIT_EXPECT_EQ(test, t->base.mm->pin_charge, 0);
	kthread_stop(task);
}

static void held_is_charged_to_cgroup(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct misc_cg *cg = pin_test_cgroups(test, 2);

	pin_test_join(&t->ledger->cgroup, cg);
	ledger_add(t, t->pfn, 3);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 0);
	KUNIT_EXPECT_EQ(test, ledger_commit(t, true), 0);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 3);
	/* Nothing is left to be charged */
	KUNIT_EXPECT_EQ(test, ledger_commit(t, true), 0);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 3);

	/* A page of a folio holds all of it, and the next page no more */
	ledger_add(t, t->pfn + AREA_FOLIO, 1);
	KUNIT_EXPECT_EQ(test, ledger_commit(t, true), 0);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 3 + AREA_FOLIO_SIZE);
	ledger_add(t, t->pfn + AREA_FOLIO, 2);
	KUNIT_EXPECT_EQ(test, ledger_commit(t, true), 0);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 3 + AREA_FOLIO_SIZE);
	KUNIT_EXPECT_EQ(test, pin_test_usage(&cg[1]), 3 + AREA_FOLIO_SIZE);

	ledger_sub(t, t->pfn + AREA_FOLIO, 1);
	ledger_settle(t);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 3 + AREA_FOLIO_SIZE);
	ledger_sub(t, t->pfn + AREA_FOLIO, 2);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 3 + AREA_FOLIO_SIZE);
	ledger_settle(t);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 3);
	ledger_sub(t, t->pfn, 3);
	ledger_settle(t);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 0);
	KUNIT_EXPECT_EQ(test, t->ledger->in_cgroup, 0);
}

static void cgroup_is_charged_a_step_of_the_request(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct misc_cg *cg = pin_test_cgroups(test, 1);

	pin_test_join(&t->ledger->cgroup, cg);
	ledger_add(t, t->pfn, 10);
	KUNIT_EXPECT_EQ(test, ledger_commit_left(t, true, 50), 0);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 50);
	/* What fits in the step needs no other */
	ledger_add(t, t->pfn + 10, 40);
	KUNIT_EXPECT_EQ(test, ledger_commit_left(t, true, 1000), 0);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 50);
	ledger_add(t, t->pfn + 50, 1);
	KUNIT_EXPECT_EQ(test, ledger_commit_left(t, true, 10 * PIN_CGROUP_STEP),
			0);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 50 + PIN_CGROUP_STEP);
	ledger_settle(t);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 51);

	/* Near a limit it takes what it needs */
	pin_test_cgroup_limit(cg, 60);
	ledger_add(t, t->pfn + 51, 9);
	KUNIT_EXPECT_EQ(test, ledger_commit_left(t, true, 50), 0);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 60);
	ledger_sub(t, t->pfn, 60);
	ledger_settle(t);
}

static void cgroup_refuses_to_the_page(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct misc_cg *cg = pin_test_cgroups(test, 2);

	pin_test_join(&t->ledger->cgroup, cg);
	pin_test_cgroup_limit(&cg[1], 100);
	ledger_add(t, t->pfn, 100);
	KUNIT_EXPECT_EQ(test, ledger_commit(t, true), 0);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 100);
	ledger_add(t, t->pfn + 100, 1);
	KUNIT_EXPECT_EQ(test, ledger_commit(t, true), -EBUSY);
	KUNIT_EXPECT_EQ(test, t->ledger->in_cgroup, 100);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 100);
	ledger_sub(t, t->pfn, 101);
	ledger_settle(t);
	KUNIT_EXPECT_EQ(test, pin_test_usage(&cg[1]), 0);
}

/* A kernel thread is in the root */
static void ledger_is_of_cgroup_of_its_maker(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct misc_cg *cg = get_current_misc_cg();

	KUNIT_EXPECT_PTR_EQ(test, t->ledger->cgroup, cg);
	put_misc_cg(cg);
}

/* What is held stays where it is; what comes is charged to the adopter */
static void adopted_ledger_brings_its_charge(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct misc_cg *cg = pin_test_cgroups(test, 1), *own;
	struct mm_struct *new = pin_test_other_mm(test);

	pin_test_join(&t->ledger->cgroup, cg);
	ledger_add(t, t->pfn, 10);
	KUNIT_EXPECT_EQ(test, ledger_commit(t, true), 0);
	pin_test_cgroup_limit(cg, 5);
	pin_test_mm_dies(test, &t->base);
	KUNIT_EXPECT_EQ(test, pin_ledger_adopt(&t->acct, &t->owner, new), 0);
	own = pin_ledger_cgroup(t->ledger);
	KUNIT_EXPECT_PTR_NE(test, own, cg);
	put_misc_cg(own);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 10);

	/* To one with room, to see it */
	own = pin_test_cgroups(test, 1);
	pin_test_join(&t->ledger->cgroup, own);
	ledger_add(t, t->pfn + 10, 7);
	KUNIT_EXPECT_EQ(test, ledger_commit(t, true), 0);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 10);
	KUNIT_EXPECT_EQ(test, pin_test_usage(own), 7);
	KUNIT_EXPECT_EQ(test, t->ledger->in_cgroup, 17);

	/* What goes is given back to the new one first, whichever pages it is */
	ledger_sub(t, t->pfn, 4);
	ledger_settle(t);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 10);
	KUNIT_EXPECT_EQ(test, pin_test_usage(own), 3);
	ledger_sub(t, t->pfn + 10, 7);
	ledger_settle(t);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 6);
	KUNIT_EXPECT_EQ(test, pin_test_usage(own), 0);
	KUNIT_EXPECT_FALSE(test, list_empty(&t->ledger->past));
	ledger_sub(t, t->pfn + 4, 6);
	ledger_settle(t);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 0);
	KUNIT_EXPECT_TRUE(test, list_empty(&t->ledger->past));
}

/* To another cgroup, and back: what the first one has from before is its own again */
static void cgroup_that_comes_back_is_the_current_one(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct misc_cg *own = pin_ledger_cgroup(t->ledger);
	struct misc_cg *between = pin_test_cgroups(test, 1);
	unsigned long before = pin_test_usage(own);
	struct pin_past_cgroup *spare[2];
	int i;

	for (i = 0; i < 2; i++) {
		spare[i] = kzalloc(sizeof(*spare[i]), GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, spare[i]);
	}
	ledger_add(t, t->pfn, 10);
	KUNIT_EXPECT_EQ(test, ledger_commit(t, true), 0);
	KUNIT_EXPECT_EQ(test, pin_test_usage(own), before + 10);

	/* As change_cgroup() does in a process of that cgroup */
	spare[0]->cgroup = pin_ledger_cgroup(t->ledger);
	spare[0]->npages = 10;
	list_add_tail(&spare[0]->list, &t->ledger->past);
	pin_test_join(&t->ledger->cgroup, between);
	ledger_add(t, t->pfn + 10, 5);
	KUNIT_EXPECT_EQ(test, ledger_commit(t, true), 0);
	KUNIT_EXPECT_EQ(test, pin_test_usage(between), 5);

	mutex_lock(&t->ledger->lock);
	change_cgroup(t->ledger, &spare[1]);
	mutex_unlock(&t->ledger->lock);
	KUNIT_EXPECT_PTR_EQ(test, t->ledger->cgroup, own);
	KUNIT_EXPECT_EQ(test, in_past(t->ledger), 5);
	ledger_sub(t, t->pfn + 10, 5);
	ledger_settle(t);
	KUNIT_EXPECT_EQ(test, pin_test_usage(own), before + 5);
	KUNIT_EXPECT_EQ(test, pin_test_usage(between), 5);
	ledger_sub(t, t->pfn, 10);
	ledger_settle(t);
	KUNIT_EXPECT_EQ(test, pin_test_usage(own), before);
	KUNIT_EXPECT_EQ(test, pin_test_usage(between), 0);
	KUNIT_EXPECT_TRUE(test, list_empty(&t->ledger->past));
	put_misc_cg(own);
	kfree(spare[1]);
}

static void ledger_works_when_mm_is_dead(struct kunit *test)
{
	struct ledger_test *t = test->priv;

	ledger_add(t, t->pfn, 10);
	KUNIT_EXPECT_EQ(test, ledger_commit(t, false), 0);
	pin_test_mm_dies(test, &t->base);
	ledger_sub(t, t->pfn, 4);
	ledger_settle(t);
	KUNIT_EXPECT_EQ(test, t->base.mm->pin_charge, 6);
	ledger_sub(t, t->pfn + 4, 6);
	ledger_settle(t);
}

static void adopt_moves_charge_of_dead_mm(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct mm_struct *old = t->base.mm;
	struct mm_struct *new = pin_test_other_mm(test);
	struct pin_ledger *ledger;

	ledger_add(t, t->pfn, 10);
	KUNIT_EXPECT_EQ(test, ledger_commit(t, false), 0);
	pin_test_mm_dies(test, &t->base);

	KUNIT_EXPECT_EQ(test, pin_ledger_adopt(&t->acct, &t->owner, new), 0);
	KUNIT_EXPECT_NULL(test, ledger_of(old));
	KUNIT_EXPECT_EQ(test, old->pin_charge, 0);
	KUNIT_EXPECT_EQ(test, new->pin_charge, 10);
	KUNIT_EXPECT_PTR_EQ(test, t->ledger->mm, new);
	ledger = pin_ledger_find(new);
	KUNIT_EXPECT_PTR_EQ(test, ledger, t->ledger);
	if (ledger)
		pin_ledger_put(ledger);
	EXPECT_LEDGER(test, t->ledger, 10, 10);

	/* Once is enough */
	KUNIT_EXPECT_EQ(test, pin_ledger_adopt(&t->acct, &t->owner, new), 0);
	KUNIT_EXPECT_EQ(test, new->pin_charge, 10);
	ledger_sub(t, t->pfn, 10);
	ledger_settle(t);
	KUNIT_EXPECT_EQ(test, new->pin_charge, 0);
}

/* Nothing has changed, and a ledger that was refused can be adopted later */
static void expect_not_adopted(struct kunit *test, struct mm_struct *new)
{
	struct ledger_test *t = test->priv;

	KUNIT_EXPECT_PTR_EQ(test, t->ledger->mm, t->base.mm);
	KUNIT_EXPECT_PTR_EQ(test, ledger_of(t->base.mm), t->ledger);
	KUNIT_EXPECT_EQ(test, t->base.mm->pin_charge, 10);
	KUNIT_EXPECT_EQ(test, new->pin_charge, 0);
}

static void adopt_test_prepare(struct kunit *test)
{
	struct ledger_test *t = test->priv;

	KUNIT_ASSERT_EQ(test, ledger_add(t, t->pfn, 10), 10);
	KUNIT_ASSERT_EQ(test, ledger_commit(t, true), 0);
	ledger_settle(t);
	t->owner.lock_cap = false;
}

static void adopt_test_end(struct ledger_test *t)
{
	ledger_sub(t, t->pfn, 10);
	ledger_settle(t);
}

static void adopt_is_for_dead_mm_only(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct mm_struct *new = pin_test_other_mm(test);

	adopt_test_prepare(test);
	KUNIT_EXPECT_EQ(test, pin_ledger_adopt(&t->acct, &t->owner, t->base.mm),
			0);
	expect_not_adopted(test, new);
	KUNIT_EXPECT_EQ(test, pin_ledger_adopt(&t->acct, &t->owner, new),
			-EBUSY);
	expect_not_adopted(test, new);
	KUNIT_EXPECT_NULL(test, ledger_of(new));
	adopt_test_end(t);
}

static void adopt_is_for_mm_without_ledger(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct mm_struct *new = pin_test_other_mm(test);
	struct pin_ledger *other;

	adopt_test_prepare(test);
	pin_test_mm_dies(test, &t->base);
	other = pin_ledger_get(new);
	KUNIT_ASSERT_NOT_NULL(test, other);
	KUNIT_EXPECT_EQ(test, pin_ledger_adopt(&t->acct, &t->owner, new),
			-EEXIST);
	expect_not_adopted(test, new);
	KUNIT_EXPECT_PTR_EQ(test, ledger_of(new), other);
	pin_ledger_put(other);
	KUNIT_EXPECT_EQ(test, pin_ledger_adopt(&t->acct, &t->owner, new), 0);
	adopt_test_end(t);
}

static void adopt_keeps_to_limit(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct mm_struct *new = pin_test_other_mm(test);

	adopt_test_prepare(test);
	pin_test_mm_dies(test, &t->base);
	pin_test_limit(9);
	KUNIT_EXPECT_EQ(test, pin_ledger_adopt(&t->acct, &t->owner, new),
			-ENOMEM);
	expect_not_adopted(test, new);
	KUNIT_EXPECT_NULL(test, ledger_of(new));
	pin_test_limit(10);
	KUNIT_EXPECT_EQ(test, pin_ledger_adopt(&t->acct, &t->owner, new), 0);
	adopt_test_end(t);
}

static void adopt_with_capability_has_no_limit(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct mm_struct *new = pin_test_other_mm(test);

	adopt_test_prepare(test);
	pin_test_mm_dies(test, &t->base);
	pin_test_limit(0);
	t->owner.lock_cap = true;
	KUNIT_EXPECT_EQ(test, pin_ledger_adopt(&t->acct, &t->owner, new), 0);
	KUNIT_EXPECT_EQ(test, new->pin_charge, 10);
	adopt_test_end(t);
}

static void fatal_signal_ends_wait_of_adopt(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct mm_struct *new = pin_test_other_mm(test);
	struct task_struct *task;
	int ret;

	adopt_test_prepare(test);
	pin_test_mm_dies(test, &t->base);
	task = pin_test_hold_mmap_lock(test, new);
	pin_test_killed(true);
	ret = pin_ledger_adopt(&t->acct, &t->owner, new);
	pin_test_killed(false);
	kthread_stop(task);
	KUNIT_EXPECT_EQ(test, ret, -EINTR);
	expect_not_adopted(test, new);
	KUNIT_EXPECT_NULL(test, ledger_of(new));
	adopt_test_end(t);
}

/**
 * struct adopt_call - a thread that adopts
 * @t: the ledger, and its new owner
 * @mm: the new mm
 * @ret: what pin_ledger_adopt() returned
 * @call: the thread
 */
struct adopt_call {
	struct ledger_test *t;
	struct mm_struct *mm;
	int ret;
	struct pin_test_call call;
};

static void adopt_work(void *data)
{
	struct adopt_call *adopt = data;

	adopt->ret = pin_ledger_adopt(&adopt->t->acct, &adopt->t->owner,
				      adopt->mm);
}

/* Until it waits for a lock */
static void adopt_test_start(struct kunit *test, struct adopt_call *adopt)
{
	adopt->call.work = adopt_work;
	adopt->call.data = adopt;
	pin_test_call_init(test, &adopt->call);
	KUNIT_EXPECT_TRUE(test, pin_test_call_waits(&adopt->call));
}

static int adopt_test_wait(struct adopt_call *adopt)
{
	pin_test_call_wait(&adopt->call);
	return adopt->ret;
}

static void expect_unlocked(struct kunit *test, struct mutex *lock)
{
	bool locked = mutex_trylock(lock);

	KUNIT_EXPECT_TRUE(test, locked);
	if (locked)
		mutex_unlock(lock);
}

static void adopt_waits_in_no_lock_of_others(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct adopt_call adopt = { t, pin_test_other_mm(test) };
	struct task_struct *task;

	adopt_test_prepare(test);
	pin_test_mm_dies(test, &t->base);
	task = pin_test_hold_mmap_lock(test, adopt.mm);
	adopt_test_start(test, &adopt);
	expect_unlocked(test, &pin_ledgers_lock);
	expect_unlocked(test, &t->ledger->lock);

	kthread_stop(task);
	KUNIT_EXPECT_EQ(test, adopt_test_wait(&adopt), 0);
	KUNIT_EXPECT_EQ(test, adopt.mm->pin_charge, 10);
	adopt_test_end(t);
}

/* Its new mm gets a ledger of its own while the thread waits for mmap_lock */
static void adopt_notices_ledger_that_was_faster(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct adopt_call adopt = { t, pin_test_other_mm(test) };
	struct pin_ledger *other;
	struct task_struct *task;

	adopt_test_prepare(test);
	pin_test_mm_dies(test, &t->base);
	task = pin_test_hold_mmap_lock(test, adopt.mm);
	adopt_test_start(test, &adopt);
	other = pin_ledger_get(adopt.mm);
	kthread_stop(task);

	KUNIT_EXPECT_EQ(test, adopt_test_wait(&adopt), -EEXIST);
	expect_not_adopted(test, adopt.mm);
	KUNIT_EXPECT_PTR_EQ(test, ledger_of(adopt.mm), other);
	if (other)
		pin_ledger_put(other);
	adopt_test_end(t);
}

static void ledger_is_not_made_without_memory(struct kunit *test)
{
	struct mm_struct *mm = pin_test_other_mm(test);
	int count = atomic_read(&mm->mm_count);
	void *faults = pin_test_slab_faults(test);
	struct pin_ledger *ledger;

	pin_test_fail_all(faults, true);
	ledger = pin_ledger_get(mm);
	pin_test_fail_all(faults, false);
	KUNIT_EXPECT_NULL(test, ledger);
	KUNIT_EXPECT_NULL(test, ledger_of(mm));
	KUNIT_EXPECT_EQ(test, atomic_read(&mm->mm_count), count);
}

static void nothing_is_added_without_memory(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	unsigned long folio = t->pfn + AREA_FOLIO;
	void *faults = pin_test_slab_faults(test);
	long small, large, mixed, known;

	pin_test_fail_all(faults, true);
	small = ledger_add(t, t->pfn, 10);
	large = ledger_add(t, folio, 10);
	pin_test_fail_all(faults, false);
	KUNIT_EXPECT_EQ(test, small, -ENOMEM);
	KUNIT_EXPECT_EQ(test, large, -ENOMEM);
	EXPECT_LEDGER(test, t->ledger, 0, 0);
	KUNIT_EXPECT_TRUE(test, ledger_is_empty(t->ledger));

	/* The small pages have counters already, the folio has no entry */
	ledger_add(t, folio - 1, 1);
	pin_test_fail_all(faults, true);
	mixed = ledger_add(t, folio - 20, 30);
	known = ledger_add(t, folio - 1, 1);
	pin_test_fail_all(faults, false);
	KUNIT_EXPECT_EQ(test, mixed, -ENOMEM);
	KUNIT_EXPECT_EQ(test, known, 1);
	EXPECT_LEDGER(test, t->ledger, 1, 1);
	ledger_sub(t, folio - 1, 1);
	ledger_sub(t, folio - 1, 1);
}

/* Nodes of the tree may stay: that is no entry, and no leak in the end */
static void store_that_fails_half_way_leaves_no_entry(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct mm_struct *mm = pin_test_other_mm(test);
	void *faults = pin_test_slab_faults(test);
	unsigned int bytes, nodes = 0;
	long ret = -ENOMEM;

	for (bytes = 0; ret < 0 && bytes < SZ_16K; bytes += 64) {
		struct pin_ledger *ledger = pin_ledger_get(mm);
		struct xarray *folios;

		KUNIT_ASSERT_NOT_NULL(test, ledger);
		folios = &ledger->planes[PIN_PLANE_LOCKED].folios;
		mutex_lock(&ledger->lock);
		pin_test_fail_after(faults, bytes);
		ret = pin_ledger_add(ledger, PIN_PLANE_LOCKED,
				     t->pfn + AREA_FOLIO, 1);
		pin_test_fail_all(faults, false);
		if (ret < 0) {
			KUNIT_EXPECT_EQ(test, ret, -ENOMEM);
			EXPECT_LEDGER(test, ledger, 0, 0);
			KUNIT_EXPECT_FALSE(test, has_entries(folios));
			nodes += !xa_empty(folios);
		} else {
			pin_ledger_undo_all(ledger, PIN_PLANE_LOCKED,
					    t->pfn + AREA_FOLIO, 1);
		}
		mutex_unlock(&ledger->lock);
		pin_ledger_put(ledger);
	}
	KUNIT_EXPECT_EQ(test, ret, 1);
	KUNIT_EXPECT_GT(test, nodes, 0);
}

static void any_failed_allocation_leaves_ledger_as_it_was(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct pin_test_sweep *sweep;
	unsigned long charge, held;
	bool more;
	long ret;

	pin_test_slab_faults(test);
	ledger_add(t, t->pfn, 1);
	charge = pin_test_charge(t->ledger);
	held = t->ledger->held;

	sweep = pin_test_sweep(test);
	do {
		pin_test_sweep_begin(sweep);
		ret = ledger_add(t, t->pfn, AREA_PAGES);
		more = pin_test_sweep_end(sweep, ret < 0);
		if (ret < 0 || sweep->refused) {
			KUNIT_EXPECT_EQ(test, ret, -ENOMEM);
		} else {
			KUNIT_EXPECT_EQ(test, ret, AREA_PAGES - 1);
			ledger_sub(t, t->pfn, AREA_PAGES);
		}
		EXPECT_LEDGER(test, t->ledger, charge, held);
	} while (more);
	KUNIT_EXPECT_GT(test, sweep->failures, 0);
	ledger_sub(t, t->pfn, 1);
}

static void put_needs_no_memory(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	void *faults = pin_test_slab_faults(test);

	ledger_add(t, t->pfn, AREA_PAGES);
	ledger_add(t, t->pfn, AREA_PAGES);
	KUNIT_EXPECT_EQ(test, ledger_commit(t, false), 0);

	/* In pieces: entries that are written anew, and ones that go */
	pin_test_fail_all(faults, true);
	ledger_sub(t, t->pfn, AREA_PAGES);
	ledger_sub(t, t->pfn, AREA_FOLIO + 1);
	ledger_sub(t, t->pfn + AREA_FOLIO + 1, AREA_FOLIO_SIZE - 1);
	ledger_settle(t);
	pin_test_fail_all(faults, false);
	EXPECT_LEDGER(test, t->ledger, 0, 0);
	KUNIT_EXPECT_EQ(test, t->base.mm->pin_charge, 0);
}

/**
 * struct urgent - a thread that goes before the test's, on the same CPU
 * @task: the thread; it runs once each time that it is woken
 * @turns: how often it has
 */
struct urgent {
	struct task_struct *task;
	unsigned int turns;
};

static int urgent_thread(void *data)
{
	struct urgent *u = data;

	for (;;) {
		set_current_state(TASK_INTERRUPTIBLE);
		if (kthread_should_stop())
			break;
		schedule();
		WRITE_ONCE(u->turns, u->turns + 1);
	}
	__set_current_state(TASK_RUNNING);
	return 0;
}

/* The thread becomes ready; does it run before @work is done? */
#define EXPECT_LETS_OTHERS_RUN(test_, urgent_, work)			\
	do {								\
		struct urgent *__u = (urgent_);				\
		unsigned int __before, __turns;				\
									\
		/* It sleeps now, for it goes before this thread */	\
		schedule();						\
		__before = READ_ONCE(__u->turns);			\
		wake_up_process(__u->task);				\
		work;							\
		__turns = READ_ONCE(__u->turns) - __before;		\
		KUNIT_EXPECT_EQ(test_, __turns, 1);			\
	} while (0)

/* Without preemption a run of 1G would keep its CPU for as long as it takes */
static void long_runs_let_others_run(struct kunit *test)
{
	const enum pin_plane_id which = PIN_PLANE_LOCKED;
	struct ledger_test *t = test->priv;
	const unsigned int cpu = raw_smp_processor_id();
	struct pin_ledger *ledger = t->ledger;
	struct urgent u = {};

	KUNIT_ASSERT_EQ(test, set_cpus_allowed_ptr(current, cpumask_of(cpu)), 0);
	u.task = kthread_create_on_cpu(urgent_thread, &u, cpu, "pin_test/%u");
	KUNIT_ASSERT_FALSE(test, IS_ERR(u.task));
	sched_set_fifo(u.task);
	wake_up_process(u.task);

	/* The second time the entries are there, so it does not wait for memory */
	KUNIT_EXPECT_EQ(test, pin_ledger_reserve(ledger, which, t->pfn, AREA_PAGES), 0);
	EXPECT_LETS_OTHERS_RUN(test, &u,
			       pin_ledger_reserve(ledger, which, t->pfn, AREA_PAGES));
	mutex_lock(&ledger->lock);
	EXPECT_LETS_OTHERS_RUN(test, &u,
			       pin_ledger_add(ledger, which, t->pfn, AREA_PAGES));
	EXPECT_LETS_OTHERS_RUN(test, &u,
			       pin_ledger_undo_all(ledger, which, t->pfn, AREA_PAGES));
	mutex_unlock(&ledger->lock);
	KUNIT_EXPECT_EQ(test, pin_ledger_reserve(ledger, which, t->pfn, AREA_PAGES), 0);
	mutex_lock(&ledger->lock);
	EXPECT_LETS_OTHERS_RUN(test, &u,
			       pin_ledger_unreserve(ledger, which, t->pfn, AREA_PAGES));
	mutex_unlock(&ledger->lock);

	device_was_here(test, t->pfn + AREA_PAGES - 1);
	mutex_lock(&ledger->lock);
	EXPECT_LETS_OTHERS_RUN(test, &u,
			       pin_ledger_any_gone(ledger, t->pfn, AREA_PAGES));
	mutex_unlock(&ledger->lock);
	KUNIT_EXPECT_TRUE(test, device_sub(test, t->pfn + AREA_PAGES - 1, 1));
	kthread_stop(u.task);
}

#ifdef CONFIG_KCSAN
/**
 * struct ledger_race - what one thread pins while the other does something else
 * @test: the test
 * @pfn: a page frame
 */
struct ledger_race {
	struct ledger_test *test;
	unsigned long pfn;
};

static void race_add_sub(void *data)
{
	struct ledger_race *race = data;
	struct page *page = pfn_to_page(race->pfn);
	struct pin_ledger *ledger = race->test->ledger;
	const enum pin_plane_id plane = PIN_PLANE_LOCKED;

	ledger_add(race->test, race->pfn, 1);
	ledger_sub(race->test, race->pfn, 1);
	mutex_lock(&ledger->lock);
	if (pin_ledger_add_small(ledger, plane, &page, 1) == 1)
		pin_ledger_undo_all(ledger, plane, race->pfn, 1);
	mutex_unlock(&ledger->lock);
}

static void race_lock_page(void *data)
{
	struct ledger_race *race = data;
	struct folio *folio = pfn_folio(race->pfn);

	folio_lock(folio);
	folio_unlock(folio);
}

static void pins_and_page_flags_do_not_race(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct ledger_race race = { .test = t, .pfn = t->pfn };

	pin_test_race(test, NULL, race_lock_page, race_add_sub, &race);
}

/* Another device goes, at a place where nothing is pinned */
static void race_forget(void *data)
{
	longterm_pins_forget(0, 1);
}

static void pins_and_devices_that_go_do_not_race(struct kunit *test)
{
	struct ledger_test *t = test->priv;
	struct test_device *device = device_make(test);
	struct ledger_race race = { .test = t };

	race.pfn = device_plug(test, device, 0);
	pin_test_race(test, NULL, race_add_sub, race_forget, &race);
	device_unplug(device);
	device_free(device);
}
#endif

static struct kunit_case pin_ledger_test_cases[] = {
	KUNIT_CASE(mm_has_one_ledger),
	KUNIT_CASE(ledger_goes_with_last_reference),
	KUNIT_CASE(small_page_is_charged_once),
	KUNIT_CASE(no_pages_are_no_pins),
	KUNIT_CASE(run_may_cross_chunks),
	KUNIT_CASE(frames_that_may_be_freed_or_unplugged_count),
	KUNIT_CASE(device_memory_is_counted_but_costs_nothing),
	KUNIT_CASE(device_that_has_gone_is_not_looked_at),
	KUNIT_CASE(device_page_has_so_many_pins_and_no_more),
	KUNIT_CASE(pins_go_with_the_device),
	KUNIT_CASE(memory_that_comes_to_the_place_is_apart),
	KUNIT_CASE(step_ends_where_pins_have_gone),
	KUNIT_CASE(pins_that_have_gone_are_of_who_had_them),
	KUNIT_CASE(swapped_pins_are_of_any_plane),
	KUNIT_CASE(pins_that_have_gone_do_not_move),
	KUNIT_CASE(pins_of_two_devices_are_found),
	KUNIT_CASE(reserved_page_has_no_pins),
	KUNIT_CASE(frame_without_page_has_no_pins),
	KUNIT_CASE(step_is_as_long_as_frames_do_not_count),
	KUNIT_CASE(zero_page_has_no_pins),
	KUNIT_CASE(charge_of_folio_is_min_of_pins_and_size),
	KUNIT_CASE(run_may_mix_small_and_large),
	KUNIT_CASE(neighbouring_folios_are_told_apart),
	KUNIT_CASE(vmstat_counts_the_charge),
	KUNIT_CASE(any_sequence_agrees_with_model),
	KUNIT_CASE(any_sequence_in_planes_agrees_with_model),
	KUNIT_CASE(any_scattered_pages_agree_with_model),
	KUNIT_CASE(scattered_step_ends_with_the_zone),
	KUNIT_CASE(scattered_page_has_so_many_pins_and_no_more),
	KUNIT_CASE(first_page_may_be_of_any_node),
	KUNIT_CASE(small_page_has_so_many_pins_and_no_more),
	KUNIT_CASE(folio_has_so_many_pins_and_no_more),
	KUNIT_CASE(no_pins_on_page_with_too_many_references),
	KUNIT_CASE(gigantic_folio_is_charged_by_page),
	KUNIT_CASE(gigantic_folio_has_so_many_pins_and_no_more),
	KUNIT_CASE(charge_is_seen_when_it_is_allowed),
	KUNIT_CASE(limit_holds_to_the_page),
	KUNIT_CASE(limit_counts_what_others_lock),
	KUNIT_CASE(pins_of_privileged_holder_count_for_others),
	KUNIT_CASE(limit_is_that_of_owner),
	KUNIT_CASE(fatal_signal_ends_wait_for_limit),
	KUNIT_CASE(put_does_not_wait_for_mmap_lock),
	KUNIT_CASE(held_is_charged_to_cgroup),
	KUNIT_CASE(cgroup_is_charged_a_step_of_the_request),
	KUNIT_CASE(cgroup_refuses_to_the_page),
	KUNIT_CASE(ledger_is_of_cgroup_of_its_maker),
	KUNIT_CASE(adopted_ledger_brings_its_charge),
	KUNIT_CASE(cgroup_that_comes_back_is_the_current_one),
	KUNIT_CASE(ledger_works_when_mm_is_dead),
	KUNIT_CASE(adopt_moves_charge_of_dead_mm),
	KUNIT_CASE(adopt_is_for_dead_mm_only),
	KUNIT_CASE(adopt_is_for_mm_without_ledger),
	KUNIT_CASE(adopt_keeps_to_limit),
	KUNIT_CASE(adopt_with_capability_has_no_limit),
	KUNIT_CASE(fatal_signal_ends_wait_of_adopt),
	KUNIT_CASE(adopt_waits_in_no_lock_of_others),
	KUNIT_CASE(adopt_notices_ledger_that_was_faster),
	KUNIT_CASE(ledger_is_not_made_without_memory),
	KUNIT_CASE(nothing_is_added_without_memory),
	KUNIT_CASE(store_that_fails_half_way_leaves_no_entry),
	KUNIT_CASE(any_failed_allocation_leaves_ledger_as_it_was),
	KUNIT_CASE(put_needs_no_memory),
	KUNIT_CASE(long_runs_let_others_run),
#ifdef CONFIG_KCSAN
	KUNIT_CASE(pins_and_page_flags_do_not_race),
	KUNIT_CASE(pins_and_devices_that_go_do_not_race),
#endif
	{},
};

static struct kunit_suite pin_ledger_test_suite = {
	.name = "pin_ledger",
	.init = ledger_test_init,
	.exit = ledger_test_exit,
	.test_cases = pin_ledger_test_cases,
};

kunit_test_suite(pin_ledger_test_suite);

#endif /* _MM_TESTS_PIN_LEDGER_KUNIT_H */

#endif /* CONFIG_LONGTERM_PIN_KUNIT_TEST */
