/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the ledger alone costs, and put_user_pages() beside unpin_user_pages(),
 * which it calls, on small pages that lie together, on scattered ones, and on huge pages. In a
 * VM in which a nanosecond is an instruction the figures repeat; scripts/bench
 * reads them. Included by mm/pin_account.c.
 */
#ifdef CONFIG_LONGTERM_PIN_KUNIT_TEST

#ifndef _MM_TESTS_PIN_BENCH_KUNIT_H
#define _MM_TESTS_PIN_BENCH_KUNIT_H

#include <linux/ktime.h>

#include "pin_kunit.h"

#define BENCH_PAGES		(SZ_16M >> PAGE_SHIFT)
#define BENCH_REPETITIONS	3

/**
 * struct bench_test - pages of one kind
 * @base: the process
 * @ledger: of its mm
 * @kind: as scripts/bench calls it
 * @npages: in @pages, which are pinned once while a test runs
 */
struct bench_test {
	struct pin_test base;
	struct pin_ledger *ledger;
	const char *kind;
	unsigned long npages;
	struct page *pages[BENCH_PAGES];
};

static int bench_test_init(struct kunit *test)
{
	struct bench_test *t = kvzalloc(sizeof(*t), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, t);
	test->priv = t;
	pin_test_limit(ULONG_MAX >> PAGE_SHIFT);
	pin_test_begin(test, &t->base);
	t->ledger = pin_ledger_get(t->base.mm);
	KUNIT_ASSERT_NOT_NULL(test, t->ledger);
	return 0;
}

static void bench_test_exit(struct kunit *test)
{
	struct bench_test *t = test->priv;

	if (!t)
		return;
	if (t->ledger) {
		KUNIT_EXPECT_EQ(test, pin_test_charge(t->ledger), 0);
		KUNIT_EXPECT_EQ(test, t->ledger->held, 0);
		pin_ledger_put(t->ledger);
	}
	put_user_pages(t->pages, t->npages);
	pin_test_end(test, &t->base);
	kvfree(t);
}

static void bench_pin(struct kunit *test, unsigned long addr)
{
	struct bench_test *t = test->priv;
	long ret = 1;

	/* One table at a time; what is pinned anew may move before */
	for (; t->npages < BENCH_PAGES && ret > 0; t->npages += ret) {
		ret = pin_user_pages_fast(addr + (t->npages << PAGE_SHIFT),
					  BENCH_PAGES - t->npages,
					  FOLL_WRITE | FOLL_LONGTERM,
					  t->pages + t->npages);
		KUNIT_ASSERT_GT(test, ret, 0);
	}
}

static void bench_memory(struct kunit *test, const char *kind)
{
	struct bench_test *t = test->priv;
	unsigned long i, kept = 0;

	t->kind = kind;
	bench_pin(test, !strcmp(kind, "thp") ?
		  pin_test_map_huge(test, SZ_16M) :
		  pin_test_map_small(test, SZ_16M));
	if (strcmp(kind, "scattered"))
		return;
	/* Each second page is kept, so that no two lie together */
	for (i = 0; i < BENCH_PAGES; i++) {
		if (page_to_pfn(t->pages[i]) % 2)
			put_user_page(t->pages[i]);
		else
			t->pages[kept++] = t->pages[i];
	}
	t->npages = kept;
	KUNIT_ASSERT_GT(test, kept, BENCH_PAGES / 4);
}

/* What, which repetition, nanoseconds, pages */
static void bench_row(struct kunit *test, const char *what, int repetition,
		      ktime_t start)
{
	s64 ns = ktime_to_ns(ktime_sub(ktime_get(), start));
	struct bench_test *t = test->priv;

	kunit_info(test, "%s-%s %d %lld %lu", t->kind, what, repetition, ns,
		   t->npages);
}

/* Pages that follow each other physically, at most to the end of a table */
static unsigned long bench_run(struct bench_test *t, unsigned long i)
{
	unsigned long n = 1;

	while (i + n < t->npages && n < PTRS_PER_PTE &&
	       page_to_pfn(t->pages[i + n]) == page_to_pfn(t->pages[i]) + n)
		n++;
	return n;
}

static void bench_ledger(struct kunit *test, int repetition)
{
	unsigned long i, j, n, all = 0;
	struct bench_test *t = test->priv;
	struct pin_step step;
	unsigned long *runs, nr = 0;
	ktime_t start;
	long ret = 0;

	/* To find the runs is the holder's */
	runs = kunit_kmalloc_array(test, t->npages, sizeof(*runs), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, runs);
	for (i = 0; i < t->npages; i += runs[nr++])
		runs[nr] = bench_run(t, i);
	if (nr > t->npages / 8)
		kunit_skip(test, "the allocator gave pages that do not lie together");

	mutex_lock(&t->ledger->lock);
	start = ktime_get();
	for (i = j = 0; j < nr && ret >= 0; i += runs[j++])
		ret = pin_ledger_add(t->ledger, PIN_PLANE_LOCKED,
				     page_to_pfn(t->pages[i]), runs[j]);
	bench_row(test, "ledger-add", repetition, start);
	KUNIT_EXPECT_GE(test, ret, 0);
	KUNIT_EXPECT_EQ(test, pin_test_charge(t->ledger), t->npages);

	start = ktime_get();
	for (i = j = 0; j < nr; i += runs[j++])
		for (n = 0; n < runs[j]; all += step.counted)
			n += pin_ledger_sub(t->ledger, PIN_PLANE_LOCKED,
					    page_to_pfn(t->pages[i]) + n,
					    runs[j] - n, 0, &step);
	bench_row(test, "ledger-sub", repetition, start);
	pin_ledger_count_node(t->ledger);
	mutex_unlock(&t->ledger->lock);
	KUNIT_EXPECT_EQ(test, all, t->npages);
	kunit_kfree(test, runs);
}

/* Pages that lie alone, as pins have them in arrays, and puts as extents */
static void bench_ledger_alone(struct kunit *test, int repetition)
{
	struct bench_test *t = test->priv;
	struct pin_extent *extents;
	unsigned long i, added;
	struct page **pages;
	ktime_t start;
	long n = 1;

	extents = kunit_kcalloc(test, t->npages, sizeof(*extents), GFP_KERNEL);
	pages = kunit_kcalloc(test, t->npages, sizeof(*pages), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, extents);
	KUNIT_ASSERT_NOT_NULL(test, pages);
	for (i = 0; i < t->npages; i++) {
		KUNIT_EXPECT_EQ(test, bench_run(t, i), 1);
		extents[i] = (struct pin_extent){ page_to_pfn(t->pages[i]), 1 };
	}

	mutex_lock(&t->ledger->lock);
	start = ktime_get();
	for (i = 0; i < t->npages && n > 0; i += n)
		n = pin_ledger_add_small(t->ledger, PIN_PLANE_LOCKED,
					 t->pages + i, t->npages - i);
	bench_row(test, "ledger-add", repetition, start);
	KUNIT_EXPECT_EQ(test, pin_test_charge(t->ledger), t->npages);

	added = n > 0 ? i : i - n;
	start = ktime_get();
	for (i = 0, n = 1; i < added && n > 0; i += n)
		n = pin_ledger_sub_small(t->ledger, PIN_PLANE_LOCKED,
					 extents + i, added - i, 0, pages);
	bench_row(test, "ledger-sub", repetition, start);
	pin_ledger_count_node(t->ledger);
	mutex_unlock(&t->ledger->lock);
	KUNIT_EXPECT_EQ(test, pin_test_charge(t->ledger), 0);
	kunit_kfree(test, extents);
	kunit_kfree(test, pages);
}

static void bench_put(struct kunit *test, const char *what, int repetition,
		      void (*put)(struct page **pages, unsigned long npages))
{
	struct bench_test *t = test->priv;
	int pins = pin_test_pins(t->pages[0]);
	unsigned long i, n;
	ktime_t start;

	/* One more pin on each; the array is put as large as others have it */
	for (i = 0; i < t->npages; i++) {
		int ret = try_grab_folio(page_folio(t->pages[i]), 1, FOLL_PIN);

		KUNIT_ASSERT_EQ(test, ret, 0);
	}
	start = ktime_get();
	for (i = 0; i < t->npages; i += n) {
		n = min_t(unsigned long, t->npages - i, PTRS_PER_PTE);
		put(t->pages + i, n);
	}
	bench_row(test, what, repetition, start);
	KUNIT_EXPECT_EQ(test, pin_test_pins(t->pages[0]), pins);
}

static void bench(struct kunit *test, const char *kind)
{
	int i;

	bench_memory(test, kind);
	for (i = 1; i <= BENCH_REPETITIONS; i++) {
		if (strcmp(kind, "scattered"))
			bench_ledger(test, i);
		else
			bench_ledger_alone(test, i);
		bench_put(test, "put", i, put_user_pages);
		bench_put(test, "unpin", i, unpin_user_pages);
		bench_put(test, "put-dirty", i, put_user_pages_dirty_lock);
	}
}

static void small_pages(struct kunit *test)
{
	bench(test, "4k");
}

static void scattered_pages(struct kunit *test)
{
	bench(test, "scattered");
}

static void huge_pages(struct kunit *test)
{
	bench(test, "thp");
}

static struct kunit_case bench_test_cases[] = {
	KUNIT_CASE(small_pages),
	KUNIT_CASE(scattered_pages),
	KUNIT_CASE(huge_pages),
	{},
};

static struct kunit_suite bench_test_suite = {
	.name = "pin_bench",
	.init = bench_test_init,
	.exit = bench_test_exit,
	.test_cases = bench_test_cases,
};

kunit_test_suite(bench_test_suite);

#endif /* _MM_TESTS_PIN_BENCH_KUNIT_H */

#endif /* CONFIG_LONGTERM_PIN_KUNIT_TEST */
