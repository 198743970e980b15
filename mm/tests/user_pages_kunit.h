/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tests of put_user_page() and its family, on memory that pin_user_pages*()
 * pinned. Included by mm/user_pages.c.
 */
#ifdef CONFIG_LONGTERM_PIN_KUNIT_TEST

#ifndef _MM_TESTS_USER_PAGES_KUNIT_H
#define _MM_TESTS_USER_PAGES_KUNIT_H

#include <linux/delay.h>
#include <linux/pagemap.h>

#include "../internal.h"
#include "pin_kunit.h"

#define PUT_TEST_PAGES	16

/**
 * struct put_test - pages of both kinds
 * @base: the process
 * @small: PUT_TEST_PAGES small pages; the same twice would be two pins
 * @huge: pages of one huge page
 */
struct put_test {
	struct pin_test base;
	struct page *small[PUT_TEST_PAGES];
	struct page *huge[PUT_TEST_PAGES];
};

static void put_test_pin(struct kunit *test, unsigned long addr,
			 struct page **pages)
{
	long ret;

	ret = pin_user_pages_fast(addr, PUT_TEST_PAGES, FOLL_WRITE, pages);
	KUNIT_ASSERT_EQ(test, ret, PUT_TEST_PAGES);
}

/* Clean, as after writeback: a write fault does not touch this flag */
static void put_test_clean(struct page **pages, unsigned long npages)
{
	unsigned long i;

	for (i = 0; i < npages; i++)
		folio_clear_dirty(page_folio(pages[i]));
}

static bool put_test_dirty(struct page **pages, unsigned long npages)
{
	unsigned long i;

	for (i = 0; i < npages; i++)
		if (!folio_test_dirty(page_folio(pages[i])))
			return false;
	return true;
}

static int put_test_pins(struct page **pages, unsigned long npages)
{
	unsigned long i;
	int pins = 0;

	for (i = 0; i < npages; i++)
		pins += pin_test_pins(pages[i]);
	return pins;
}

static int put_user_pages_test_init(struct kunit *test)
{
	struct put_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	unsigned long addr;

	KUNIT_ASSERT_NOT_NULL(test, t);
	test->priv = t;
	pin_test_begin(test, &t->base);
	addr = pin_test_map_small(test, PMD_SIZE);
	put_test_pin(test, addr, t->small);
	KUNIT_ASSERT_EQ(test, put_test_pins(t->small, PUT_TEST_PAGES),
			PUT_TEST_PAGES);
	put_test_clean(t->small, PUT_TEST_PAGES);
	return 0;
}

static void put_user_pages_test_exit(struct kunit *test)
{
	struct put_test *t = test->priv;

	if (t)
		pin_test_end(test, &t->base);
}

/* As many pages again, in one folio, which all their pins are on */
static void put_test_pin_huge(struct kunit *test)
{
	struct put_test *t = test->priv;

	put_test_pin(test, pin_test_map_huge(test, PMD_SIZE), t->huge);
	KUNIT_ASSERT_EQ(test, pin_test_pins(t->huge[0]), PUT_TEST_PAGES);
	put_test_clean(t->huge, 1);
}

/*
 * As many pages again, whose frames follow each other: a huge page that was
 * split into folios of this order, and is pinned then
 */
static unsigned long put_test_pin_run(struct kunit *test, unsigned int order,
				      struct page **pages)
{
	unsigned long addr = pin_test_map_huge(test, PMD_SIZE), at;
	struct page *page = pin_test_page(test, addr);
	int ret, i;

	/* A split drops pages of zeros */
	for (at = addr; at < addr + PMD_SIZE; at += PAGE_SIZE)
		KUNIT_ASSERT_EQ(test, put_user(1, (char __user *)at), 0);
	get_page(page);
	lock_page(page);
	ret = split_huge_page_to_list_to_order(page, NULL, order);
	unlock_page(page);
	put_page(page);
	KUNIT_ASSERT_EQ(test, ret, 0);

	put_test_pin(test, addr, pages);
	for (i = 0; i < PUT_TEST_PAGES; i++) {
		KUNIT_ASSERT_PTR_EQ(test, pages[i], nth_page(page, i));
		KUNIT_ASSERT_EQ(test, folio_order(page_folio(pages[i])), order);
		KUNIT_ASSERT_EQ(test, pin_test_pins(pages[i]), 1 << order);
	}
	put_test_clean(pages, PUT_TEST_PAGES);
	return addr;
}

static void put_user_page_drops_one_pin(struct kunit *test)
{
	struct put_test *t = test->priv;
	struct page *page = t->small[0];
	int refs = page_ref_count(page);

	put_user_page(page);
	KUNIT_EXPECT_EQ(test, pin_test_pins(page), 0);
	KUNIT_EXPECT_EQ(test, page_ref_count(page),
			refs - GUP_PIN_COUNTING_BIAS);
	KUNIT_EXPECT_EQ(test, put_test_pins(t->small, PUT_TEST_PAGES),
			PUT_TEST_PAGES - 1);
	KUNIT_EXPECT_FALSE(test, PageDirty(page));

	put_user_pages(t->small + 1, PUT_TEST_PAGES - 1);
}

static void put_user_page_drops_one_pin_of_huge_page(struct kunit *test)
{
	struct put_test *t = test->priv;
	int refs;

	put_test_pin_huge(test);
	refs = page_ref_count(t->huge[0]);
	put_user_page(t->huge[PUT_TEST_PAGES - 1]);
	KUNIT_EXPECT_EQ(test, pin_test_pins(t->huge[0]), PUT_TEST_PAGES - 1);
	KUNIT_EXPECT_EQ(test, page_ref_count(t->huge[0]), refs - 1);

	put_user_pages(t->huge, PUT_TEST_PAGES - 1);
	put_user_pages(t->small, PUT_TEST_PAGES);
}

static void put_user_pages_drops_one_pin_of_each(struct kunit *test)
{
	struct put_test *t = test->priv;
	struct page *pages[2 * PUT_TEST_PAGES];
	int i;

	put_test_pin_huge(test);
	/* No two neighbours from the same folio */
	for (i = 0; i < PUT_TEST_PAGES; i++) {
		pages[2 * i] = t->small[i];
		pages[2 * i + 1] = t->huge[i];
	}

	put_user_pages(pages, PUT_TEST_PAGES);
	KUNIT_EXPECT_EQ(test, put_test_pins(t->small, PUT_TEST_PAGES / 2), 0);
	KUNIT_EXPECT_EQ(test, put_test_pins(t->small, PUT_TEST_PAGES),
			PUT_TEST_PAGES / 2);
	KUNIT_EXPECT_EQ(test, pin_test_pins(t->huge[0]), PUT_TEST_PAGES / 2);

	put_user_pages(pages + PUT_TEST_PAGES, PUT_TEST_PAGES);
	KUNIT_EXPECT_EQ(test, put_test_pins(t->small, PUT_TEST_PAGES), 0);
	KUNIT_EXPECT_EQ(test, pin_test_pins(t->huge[0]), 0);
	KUNIT_EXPECT_FALSE(test, put_test_dirty(t->small, 1));
	KUNIT_EXPECT_FALSE(test, put_test_dirty(t->huge, 1));
}

static void put_of_no_pages_does_nothing(struct kunit *test)
{
	struct put_test *t = test->priv;

	put_user_pages(t->small, 0);
	put_user_pages_dirty(t->small, 0);
	put_user_pages_dirty_lock(t->small, 0);
	put_user_page_range(t->small[0], 0);
	put_user_page_range_dirty_lock(t->small[0], 0);
	KUNIT_EXPECT_EQ(test, put_test_pins(t->small, PUT_TEST_PAGES),
			PUT_TEST_PAGES);
	KUNIT_EXPECT_FALSE(test, put_test_dirty(t->small, 1));

	put_user_pages(t->small, PUT_TEST_PAGES);
}

static void put_user_pages_dirty_marks_each_page(struct kunit *test)
{
	struct put_test *t = test->priv;

	put_test_pin_huge(test);
	put_user_pages_dirty(t->small, PUT_TEST_PAGES - 1);
	KUNIT_EXPECT_TRUE(test, put_test_dirty(t->small, PUT_TEST_PAGES - 1));
	KUNIT_EXPECT_FALSE(test, PageDirty(t->small[PUT_TEST_PAGES - 1]));
	KUNIT_EXPECT_EQ(test, put_test_pins(t->small, PUT_TEST_PAGES), 1);

	put_user_pages_dirty(t->huge, PUT_TEST_PAGES);
	KUNIT_EXPECT_TRUE(test, put_test_dirty(t->huge, 1));
	KUNIT_EXPECT_EQ(test, pin_test_pins(t->huge[0]), 0);

	put_user_page(t->small[PUT_TEST_PAGES - 1]);
}

/* With CONFIG_DEBUG_ATOMIC_SLEEP, a sleep would be told */
static void all_but_dirty_lock_work_in_atomic_context(struct kunit *test)
{
	struct put_test *t = test->priv;
	struct page *page;

	page = pin_test_page(test, pin_test_map_small(test, PMD_SIZE));
	get_page(page);
	preempt_disable();
	put_user_pages_dirty(t->small, 4);
	put_user_pages(t->small + 4, 4);
	put_user_page(t->small[8]);
	put_user_page_range(t->small[9], 1);
	put_user_page_ref(page);
	preempt_enable();
	KUNIT_EXPECT_EQ(test, put_test_pins(t->small, 10), 0);

	put_user_pages(t->small + 10, PUT_TEST_PAGES - 10);
}

/* Clean pages must not become dirty while others have them locked */
static void put_user_pages_dirty_leaves_locked_page_to_thread(struct kunit *test)
{
	struct put_test *t = test->priv;
	struct page *pages[] = { t->small[0], t->small[1], t->small[2] };
	struct folio *small = page_folio(pages[1]), *huge;
	int i;

	put_test_pin_huge(test);
	huge = page_folio(t->huge[0]);
	folio_lock(small);
	folio_lock(huge);
	preempt_disable();
	put_user_pages_dirty(pages, ARRAY_SIZE(pages));
	put_user_pages_dirty(t->huge, PUT_TEST_PAGES);
	preempt_enable();
	KUNIT_EXPECT_TRUE(test, PageDirty(pages[0]) && PageDirty(pages[2]));
	KUNIT_EXPECT_EQ(test, pin_test_pins(pages[0]), 0);
	KUNIT_EXPECT_EQ(test, pin_test_pins(pages[2]), 0);
	msleep(50);
	KUNIT_EXPECT_FALSE(test, folio_test_dirty(small));
	KUNIT_EXPECT_FALSE(test, folio_test_dirty(huge));
	KUNIT_EXPECT_EQ(test, pin_test_pins(pages[1]), 1);
	KUNIT_EXPECT_EQ(test, pin_test_pins(t->huge[0]), PUT_TEST_PAGES);

	folio_unlock(huge);
	folio_unlock(small);
	for (i = 0; i < 1000 && (pin_test_pins(pages[1]) ||
				 pin_test_pins(t->huge[0])); i++)
		msleep(20);
	KUNIT_EXPECT_TRUE(test, folio_test_dirty(small));
	KUNIT_EXPECT_TRUE(test, folio_test_dirty(huge));
	KUNIT_EXPECT_EQ(test, pin_test_pins(pages[1]), 0);
	KUNIT_EXPECT_EQ(test, pin_test_pins(t->huge[0]), 0);

	put_user_pages(t->small + 3, PUT_TEST_PAGES - 3);
}

/* All that was put late is put, in whatever order */
static void late_puts_end(void)
{
	int i;

	for (i = 0; i < 1000 && !llist_empty(&late_puts); i++)
		flush_delayed_work(&late_put_worker);
	flush_delayed_work(&late_put_worker);
}

/* The file system of the first page may hang */
static void locked_page_holds_up_no_other_late_put(struct kunit *test)
{
	struct put_test *t = test->priv;
	int i;

	for (i = 0; i < 3; i++) {
		folio_lock(page_folio(t->small[i]));
		put_user_pages_dirty(t->small + i, 1);
	}
	folio_unlock(page_folio(t->small[1]));
	for (i = 0; i < 500 && pin_test_pins(t->small[1]); i++)
		msleep(20);
	KUNIT_EXPECT_EQ(test, pin_test_pins(t->small[1]), 0);
	KUNIT_EXPECT_EQ(test, pin_test_pins(t->small[0]), 1);
	KUNIT_EXPECT_EQ(test, pin_test_pins(t->small[2]), 1);

	folio_unlock(page_folio(t->small[0]));
	folio_unlock(page_folio(t->small[2]));
	late_puts_end();
	KUNIT_EXPECT_TRUE(test, put_test_dirty(t->small, 3));
	KUNIT_EXPECT_EQ(test, put_test_pins(t->small, 3), 0);

	put_user_pages(t->small + 3, PUT_TEST_PAGES - 3);
}

/**
 * struct put_test_work - work of others
 * @work: queued
 * @done: it has run
 */
struct put_test_work {
	struct work_struct work;
	struct completion done;
};

static void put_test_work(struct work_struct *work)
{
	complete(&container_of(work, struct put_test_work, work)->done);
}

/* More of them than the workqueue runs at once */
#define MANY_LATE_PUTS	(WQ_DFL_ACTIVE + 44)

static void many_late_puts_hold_up_no_other_work(struct kunit *test)
{
	struct put_test *t = test->priv;
	struct put_test_work other;
	struct page **pages;
	unsigned long addr;
	long ret;
	int i;

	pages = kunit_kcalloc(test, MANY_LATE_PUTS, sizeof(*pages), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, pages);
	addr = pin_test_map_small(test, MANY_LATE_PUTS * PAGE_SIZE);
	ret = pin_user_pages_fast(addr, MANY_LATE_PUTS, FOLL_WRITE, pages);
	KUNIT_ASSERT_EQ(test, ret, MANY_LATE_PUTS);
	put_test_clean(pages, MANY_LATE_PUTS);

	INIT_WORK_ONSTACK(&other.work, put_test_work);
	init_completion(&other.done);
	for (i = 0; i < MANY_LATE_PUTS; i++)
		folio_lock(page_folio(pages[i]));
	/* All on one CPU, as its work is */
	migrate_disable();
	put_user_pages_dirty(pages, MANY_LATE_PUTS);
	schedule_work(&other.work);
	migrate_enable();
	KUNIT_EXPECT_TRUE(test, wait_for_completion_timeout(&other.done,
							    20 * HZ));
	KUNIT_EXPECT_EQ(test, put_test_pins(pages, MANY_LATE_PUTS),
			MANY_LATE_PUTS);

	for (i = 0; i < MANY_LATE_PUTS; i++)
		folio_unlock(page_folio(pages[i]));
	late_puts_end();
	flush_work(&other.work);
	destroy_work_on_stack(&other.work);
	KUNIT_EXPECT_TRUE(test, put_test_dirty(pages, MANY_LATE_PUTS));
	KUNIT_EXPECT_EQ(test, put_test_pins(pages, MANY_LATE_PUTS), 0);

	put_user_pages(t->small, PUT_TEST_PAGES);
}

/* There is nobody to wait for the lock of a page that is dirty */
static void put_user_pages_dirty_does_not_lock_dirty_page(struct kunit *test)
{
	struct put_test *t = test->priv;
	struct folio *folio = page_folio(t->small[0]);

	folio_mark_dirty(folio);
	folio_lock(folio);
	put_user_pages_dirty(t->small, 1);
	KUNIT_EXPECT_EQ(test, pin_test_pins(t->small[0]), 0);
	folio_unlock(folio);

	put_user_pages(t->small + 1, PUT_TEST_PAGES - 1);
}

static void put_user_pages_dirty_needs_no_memory(struct kunit *test)
{
	struct put_test *t = test->priv;
	void *slab = pin_test_slab_faults(test);
	struct folio *folio = page_folio(t->small[0]);

	folio_lock(folio);
	pin_test_fail_all(slab, true);
	put_user_pages_dirty(t->small, 1);
	pin_test_fail_all(slab, false);
	KUNIT_EXPECT_TRUE(test, folio_test_dirty(folio));
	KUNIT_EXPECT_EQ(test, pin_test_pins(t->small[0]), 0);
	folio_unlock(folio);

	put_user_pages(t->small + 1, PUT_TEST_PAGES - 1);
}

static void put_user_pages_dirty_lock_marks_each_page(struct kunit *test)
{
	struct put_test *t = test->priv;

	put_test_pin_huge(test);
	put_user_pages_dirty_lock(t->small, PUT_TEST_PAGES - 1);
	KUNIT_EXPECT_TRUE(test, put_test_dirty(t->small, PUT_TEST_PAGES - 1));
	KUNIT_EXPECT_FALSE(test, PageDirty(t->small[PUT_TEST_PAGES - 1]));
	KUNIT_EXPECT_FALSE(test, PageLocked(t->small[0]));
	KUNIT_EXPECT_EQ(test, put_test_pins(t->small, PUT_TEST_PAGES), 1);

	put_user_pages_dirty_lock(t->huge, PUT_TEST_PAGES);
	KUNIT_EXPECT_TRUE(test, put_test_dirty(t->huge, 1));
	KUNIT_EXPECT_FALSE(test, PageLocked(t->huge[0]));
	KUNIT_EXPECT_EQ(test, pin_test_pins(t->huge[0]), 0);

	put_user_page(t->small[PUT_TEST_PAGES - 1]);
}

/* Small pages, one after the other */
static void put_user_page_range_drops_one_pin_of_each(struct kunit *test)
{
	struct put_test *t = test->priv;
	struct page *run[PUT_TEST_PAGES];

	put_test_pin_run(test, 0, run);
	put_user_page_range(run[3], 9);
	KUNIT_EXPECT_EQ(test, put_test_pins(run, 3), 3);
	KUNIT_EXPECT_EQ(test, put_test_pins(run + 3, 9), 0);
	KUNIT_EXPECT_EQ(test, put_test_pins(run + 12, 4), 4);
	KUNIT_EXPECT_FALSE(test, PageDirty(run[3]));

	put_user_page_range(run[0], 3);
	put_user_page_range(run[12], 4);
	KUNIT_EXPECT_EQ(test, put_test_pins(run, PUT_TEST_PAGES), 0);
	put_user_pages(t->small, PUT_TEST_PAGES);
}

/* Parts of folios at both ends, and a whole one between them */
static void put_user_page_range_drops_pins_of_parts(struct kunit *test)
{
	struct put_test *t = test->priv;
	struct page *run[PUT_TEST_PAGES];

	put_test_pin_run(test, 2, run);
	put_user_page_range(run[3], 7);
	KUNIT_EXPECT_EQ(test, pin_test_pins(run[0]), 3);
	KUNIT_EXPECT_EQ(test, pin_test_pins(run[4]), 0);
	KUNIT_EXPECT_EQ(test, pin_test_pins(run[8]), 2);
	KUNIT_EXPECT_EQ(test, pin_test_pins(run[12]), 4);
	KUNIT_EXPECT_FALSE(test, PageDirty(run[4]));

	put_user_page_range(run[0], 3);
	put_user_page_range(run[10], 6);
	KUNIT_EXPECT_EQ(test, put_test_pins(run, PUT_TEST_PAGES), 0);

	put_test_pin_huge(test);
	put_user_page_range(t->huge[5], 10);
	KUNIT_EXPECT_EQ(test, pin_test_pins(t->huge[0]), PUT_TEST_PAGES - 10);
	put_user_page_range(t->huge[0], PUT_TEST_PAGES - 10);
	KUNIT_EXPECT_EQ(test, pin_test_pins(t->huge[0]), 0);
	put_user_pages(t->small, PUT_TEST_PAGES);
}

static void put_user_page_range_dirty_lock_marks_each_folio(struct kunit *test)
{
	struct put_test *t = test->priv;
	struct page *run[PUT_TEST_PAGES];

	put_test_pin_run(test, 2, run);
	put_user_page_range_dirty_lock(run[3], 7);
	KUNIT_EXPECT_TRUE(test, put_test_dirty(run, 12));
	KUNIT_EXPECT_FALSE(test, folio_test_dirty(page_folio(run[12])));
	KUNIT_EXPECT_FALSE(test, folio_test_locked(page_folio(run[0])));
	KUNIT_EXPECT_EQ(test, pin_test_pins(run[0]), 3);
	KUNIT_EXPECT_EQ(test, pin_test_pins(run[4]), 0);
	KUNIT_EXPECT_EQ(test, pin_test_pins(run[8]), 2);
	KUNIT_EXPECT_EQ(test, pin_test_pins(run[12]), 4);

	put_user_page_range(run[0], 3);
	put_user_page_range(run[10], 6);
	put_user_pages(t->small, PUT_TEST_PAGES);
}

static void put_test_pages(void *data)
{
	struct page *page = data;

	put_user_pages_dirty_lock(&page, 1);
}

static void put_test_range(void *page)
{
	put_user_page_range_dirty_lock(page, 1);
}

static void put_test_waits_for_lock(struct kunit *test,
				    void (*put)(void *page))
{
	struct put_test *t = test->priv;
	struct page *page = t->small[0];
	struct pin_test_call call = { .work = put, .data = page };
	struct folio *folio = page_folio(page);

	pin_test_call_init(test, &call);
	folio_lock(folio);
	KUNIT_EXPECT_TRUE(test, pin_test_call_waits(&call));
	KUNIT_EXPECT_FALSE(test, folio_test_dirty(folio));
	KUNIT_EXPECT_EQ(test, pin_test_pins(page), 1);
	folio_unlock(folio);
	pin_test_call_wait(&call);
	KUNIT_EXPECT_TRUE(test, folio_test_dirty(folio));
	KUNIT_EXPECT_EQ(test, pin_test_pins(page), 0);

	put_user_pages(t->small + 1, PUT_TEST_PAGES - 1);
}

static void put_user_pages_dirty_lock_waits_for_lock(struct kunit *test)
{
	put_test_waits_for_lock(test, put_test_pages);
}

static void put_user_page_range_dirty_lock_waits_for_lock(struct kunit *test)
{
	put_test_waits_for_lock(test, put_test_range);
}

static void put_user_page_ref_leaves_pins_alone(struct kunit *test)
{
	struct put_test *t = test->priv;
	struct page *page = t->small[0];
	int refs = page_ref_count(page);

	get_page(page);
	put_user_page_ref(page);
	KUNIT_EXPECT_EQ(test, page_ref_count(page), refs);
	KUNIT_EXPECT_EQ(test, pin_test_pins(page), 1);

	put_test_pin_huge(test);
	refs = page_ref_count(t->huge[1]);
	get_page(t->huge[1]);
	put_user_page_ref(t->huge[1]);
	KUNIT_EXPECT_EQ(test, page_ref_count(t->huge[1]), refs);
	KUNIT_EXPECT_EQ(test, pin_test_pins(t->huge[1]), PUT_TEST_PAGES);

	put_user_pages(t->huge, PUT_TEST_PAGES);
	put_user_pages(t->small, PUT_TEST_PAGES);
}

/* A zone may end inside a pageblock */
static void gup_fast_looks_at_the_zone_of_each_page(struct kunit *test)
{
	struct put_test *t = test->priv;
	struct page *run[PUT_TEST_PAGES], *pages[PUT_TEST_PAGES];
	unsigned long addr = put_test_pin_run(test, 0, run);
	enum zone_type zone = page_zonenum(run[5]);
	long ret;

	put_user_pages(run, PUT_TEST_PAGES);
	set_page_zone(run[5], ZONE_MOVABLE);
	ret = pin_user_pages_fast_only(addr, 10, FOLL_WRITE, pages);
	set_page_zone(run[5], zone);
	KUNIT_EXPECT_EQ(test, ret, 5);
	if (ret > 0)
		put_user_pages(pages, ret);
	put_user_pages(t->small, PUT_TEST_PAGES);
}

static void last_put_frees_page_that_is_unmapped(struct kunit *test)
{
	struct put_test *t = test->priv;
	struct page *page = t->small[0];

	get_page(page);
	pin_test_mm_dies(test, &t->base);
	lru_add_drain_all();
	KUNIT_EXPECT_EQ(test, page_ref_count(page), GUP_PIN_COUNTING_BIAS + 1);
	put_user_pages(t->small, PUT_TEST_PAGES);
	KUNIT_EXPECT_EQ(test, page_ref_count(page), 1);
	put_user_page_ref(page);
}

static struct kunit_case put_user_pages_test_cases[] = {
	KUNIT_CASE(put_user_page_drops_one_pin),
	KUNIT_CASE(put_user_page_drops_one_pin_of_huge_page),
	KUNIT_CASE(put_user_pages_drops_one_pin_of_each),
	KUNIT_CASE(put_of_no_pages_does_nothing),
	KUNIT_CASE(put_user_pages_dirty_marks_each_page),
	KUNIT_CASE(all_but_dirty_lock_work_in_atomic_context),
	KUNIT_CASE(put_user_pages_dirty_leaves_locked_page_to_thread),
	KUNIT_CASE(locked_page_holds_up_no_other_late_put),
	KUNIT_CASE(many_late_puts_hold_up_no_other_work),
	KUNIT_CASE(put_user_pages_dirty_does_not_lock_dirty_page),
	KUNIT_CASE(put_user_pages_dirty_needs_no_memory),
	KUNIT_CASE(put_user_pages_dirty_lock_marks_each_page),
	KUNIT_CASE(put_user_pages_dirty_lock_waits_for_lock),
	KUNIT_CASE(put_user_page_range_drops_one_pin_of_each),
	KUNIT_CASE(put_user_page_range_drops_pins_of_parts),
	KUNIT_CASE(put_user_page_range_dirty_lock_marks_each_folio),
	KUNIT_CASE(put_user_page_range_dirty_lock_waits_for_lock),
	KUNIT_CASE(put_user_page_ref_leaves_pins_alone),
	KUNIT_CASE(gup_fast_looks_at_the_zone_of_each_page),
	KUNIT_CASE(last_put_frees_page_that_is_unmapped),
	{},
};

static struct kunit_suite put_user_pages_test_suite = {
	.name = "user_pages",
	.init = put_user_pages_test_init,
	.exit = put_user_pages_test_exit,
	.test_cases = put_user_pages_test_cases,
};

kunit_test_suite(put_user_pages_test_suite);

#endif /* _MM_TESTS_USER_PAGES_KUNIT_H */

#endif /* CONFIG_LONGTERM_PIN_KUNIT_TEST */
