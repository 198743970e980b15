/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tests of regions of guest memory, which no emulated CPU can ask for: SEV
 * needs AMD's hardware. Included by virt/kvm/region_pin.c, but not with KVM as a
 * module: they call what is not exported.
 */
#if defined(CONFIG_LONGTERM_PIN_KUNIT_TEST) && !defined(MODULE)

#ifndef _VIRT_KVM_TESTS_REGION_PIN_KUNIT_H
#define _VIRT_KVM_TESTS_REGION_PIN_KUNIT_H

#include <linux/cred.h>

#include "../../../mm/pin_ledger.h"
#include "../../../mm/tests/pin_kunit.h"

#define REGION_PAGES	40UL
#define REGION_SIZE	(REGION_PAGES << PAGE_SHIFT)
#define NO_LIMIT	(ULONG_MAX >> PAGE_SHIFT)

/**
 * struct region_test - what each test starts with
 * @base: the process of the VM
 * @other: another process
 * @regions: the VM's, none yet
 * @others: those of a VM of @other, none yet
 * @addr: memory of the process: REGION_PAGES small pages and as many more
 *
 * Kernel threads may do everything; this one may not go beyond its limits.
 */
struct region_test {
	struct pin_test base;
	struct mm_struct *other;
	struct kvm_pinned_regions regions;
	struct kvm_pinned_regions others;
	unsigned long addr;
};

static struct pin_ledger *region_test_ledger(struct mm_struct *mm)
{
	return rcu_access_pointer(mm->pin_ledger);
}

static int region_test_init(struct kunit *test)
{
	struct region_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	struct cred *cred;

	KUNIT_ASSERT_NOT_NULL(test, t);
	test->priv = t;
	kvm_pinned_regions_init(&t->regions, "kvm-test");
	kvm_pinned_regions_init(&t->others, "kvm-test");
	pin_test_limit(NO_LIMIT);
	pin_test_begin(test, &t->base);
	t->other = pin_test_other_mm(test);
	t->addr = pin_test_map_small(test, PMD_SIZE);

	cred = prepare_creds();
	KUNIT_ASSERT_NOT_NULL(test, cred);
	cap_lower(cred->cap_effective, CAP_IPC_LOCK);
	commit_creds(cred);
	return 0;
}

/* Whatever a test did, this ends it, in another thread than the test's */
static void region_test_exit(struct kunit *test)
{
	struct region_test *t = test->priv;

	if (!t)
		return;
	kvm_pinned_regions_destroy(&t->others);
	kvm_pinned_regions_destroy(&t->regions);
	if (t->addr)
		KUNIT_EXPECT_EQ(test, t->base.mm->pin_charge, 0);
	pin_test_end(test, &t->base);
}

/* The other process is the one that calls */
static void region_test_switch(struct kunit *test)
{
	struct region_test *t = test->priv;

	kthread_unuse_mm(t->base.mm);
	t->base.used = false;
	kthread_use_mm(t->other);
}

static void region_test_switch_back(struct kunit *test)
{
	struct region_test *t = test->priv;

	kthread_unuse_mm(t->other);
	kthread_use_mm(t->base.mm);
	t->base.used = true;
}

static struct kvm_pinned_region *region_test_pin(struct kunit *test,
						 unsigned long addr,
						 unsigned long size)
{
	struct region_test *t = test->priv;
	struct kvm_pinned_region *region;

	region = kvm_pin_region(&t->regions, addr, size);
	KUNIT_ASSERT_FALSE(test, IS_ERR(region));
	return region;
}

/* So many pages in regions, charged so much to @mm */
static void expect_regions(struct kunit *test,
			   const struct kvm_pinned_regions *regions,
			   struct mm_struct *mm, unsigned long npages,
			   unsigned long charge)
{
	KUNIT_EXPECT_EQ(test, regions->npages, npages);
	KUNIT_EXPECT_EQ(test, mm->pin_charge, charge);
	if (!regions->acct)
		return;
	KUNIT_EXPECT_EQ(test, regions->acct->pages, npages);
	KUNIT_EXPECT_EQ(test, regions->acct->ledger->charge, charge);
}

static void region_is_the_pages_it_touches(struct kunit *test)
{
	static const struct {
		unsigned long offset, size, npages;
	} cases[] = {
		{ 0, 1, 1 },
		{ PAGE_SIZE - 1, 1, 1 },
		{ PAGE_SIZE - 1, 2, 2 },
		{ 0, PAGE_SIZE, 1 },
		{ 1, PAGE_SIZE, 2 },
		{ 0, REGION_SIZE, REGION_PAGES },
		{ 100, REGION_SIZE, REGION_PAGES + 1 },
	};
	struct region_test *t = test->priv;
	int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		unsigned long addr = t->addr + cases[i].offset;
		struct kvm_pinned_region *region;
		unsigned long n;

		region = region_test_pin(test, addr, cases[i].size);
		KUNIT_EXPECT_EQ(test, region->npages, cases[i].npages);
		expect_regions(test, &t->regions, t->base.mm, region->npages,
			       region->npages);
		for (n = 0; n < region->npages; n++) {
			struct page *page;

			page = pin_test_page(test, addr + n * PAGE_SIZE);
			KUNIT_EXPECT_PTR_EQ(test, region->pages[n], page);
			KUNIT_EXPECT_EQ(test, pin_test_pins(page), 1);
		}
		kvm_put_region(&t->regions, region);
		expect_regions(test, &t->regions, t->base.mm, 0, 0);
		KUNIT_EXPECT_EQ(test,
				pin_test_pins(pin_test_page(test, t->addr)), 0);
	}
}

static void region_that_makes_no_sense_is_refused(struct kunit *test)
{
	static const struct {
		unsigned long addr, size;
	} cases[] = {
		{ PMD_SIZE, 0 },
		{ PMD_SIZE, ULONG_MAX },
		{ -PAGE_SIZE, PAGE_SIZE + 1 },
		{ 0, ((unsigned long)INT_MAX + 1) << PAGE_SHIFT },
	};
	struct region_test *t = test->priv;
	int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++)
		KUNIT_EXPECT_PTR_EQ(test,
				    (void *)kvm_pin_region(&t->regions,
							   cases[i].addr,
							   cases[i].size),
				    ERR_PTR(-EINVAL));
	KUNIT_EXPECT_NULL(test, t->regions.acct);
	KUNIT_EXPECT_TRUE(test, list_empty(&t->regions.list));
}

static void holder_has_the_name_and_knows_of_writes(struct kunit *test)
{
	struct region_test *t = test->priv;

	region_test_pin(test, t->addr, REGION_SIZE);
	KUNIT_EXPECT_TRUE(test, strstarts(t->regions.acct->name, "kvm-test."));
	KUNIT_EXPECT_EQ(test, t->regions.acct->flags, PIN_ACCOUNT_WRITES);
}

static void regions_that_overlap_are_charged_once(struct kunit *test)
{
	struct region_test *t = test->priv;
	struct kvm_pinned_region *a, *b;

	a = region_test_pin(test, t->addr, REGION_SIZE);
	b = region_test_pin(test, t->addr, REGION_SIZE);
	expect_regions(test, &t->regions, t->base.mm, 2 * REGION_PAGES,
		       REGION_PAGES);
	kvm_put_region(&t->regions, a);
	expect_regions(test, &t->regions, t->base.mm, REGION_PAGES,
		       REGION_PAGES);
	kvm_put_region(&t->regions, b);
	expect_regions(test, &t->regions, t->base.mm, 0, 0);
}

static void region_is_found_as_it_was_pinned(struct kunit *test)
{
	struct region_test *t = test->priv;
	struct kvm_pinned_region *a, *b;

	a = region_test_pin(test, t->addr + 5, REGION_SIZE);
	b = region_test_pin(test, t->addr + 5, REGION_SIZE);
	KUNIT_EXPECT_PTR_EQ(test, a, kvm_find_pinned_region(&t->regions,
							    t->addr + 5,
							    REGION_SIZE));
	KUNIT_EXPECT_NULL(test, kvm_find_pinned_region(&t->regions, t->addr,
						       REGION_SIZE));
	KUNIT_EXPECT_NULL(test, kvm_find_pinned_region(&t->regions,
						       t->addr + 5,
						       REGION_SIZE - 1));
	kvm_put_region(&t->regions, a);
	KUNIT_EXPECT_PTR_EQ(test, b, kvm_find_pinned_region(&t->regions,
							    t->addr + 5,
							    REGION_SIZE));
}

static void limit_refuses_region_and_leaves_nothing(struct kunit *test)
{
	struct region_test *t = test->priv;

	pin_test_limit(REGION_PAGES - 1);
	KUNIT_EXPECT_PTR_EQ(test, (void *)kvm_pin_region(&t->regions, t->addr,
							 REGION_SIZE),
			    ERR_PTR(-ENOMEM));
	KUNIT_ASSERT_NOT_NULL(test, t->regions.acct);
	KUNIT_EXPECT_EQ(test, t->regions.acct->refused[PIN_REASON_MEMLOCK], 1);
	expect_regions(test, &t->regions, t->base.mm, 0, 0);
	KUNIT_EXPECT_EQ(test, pin_test_pins(pin_test_page(test, t->addr)), 0);

	pin_test_limit(REGION_PAGES);
	region_test_pin(test, t->addr, REGION_SIZE);
	/* What is pinned already costs nothing more */
	region_test_pin(test, t->addr, REGION_SIZE);
}

/* The first pages are there, in two page tables, then comes a hole */
static void hole_refuses_region_and_leaves_nothing(struct kunit *test)
{
	struct region_test *t = test->priv;
	unsigned long size = 2 * PMD_SIZE;
	unsigned long addr = pin_test_map_small(test, size);

	KUNIT_ASSERT_EQ(test, vm_munmap(addr + size - PAGE_SIZE, PAGE_SIZE), 0);
	KUNIT_EXPECT_PTR_EQ(test,
			    (void *)kvm_pin_region(&t->regions, addr, size),
			    ERR_PTR(-EFAULT));
	expect_regions(test, &t->regions, t->base.mm, 0, 0);
	KUNIT_EXPECT_EQ(test, t->regions.acct->refused[PIN_REASON_FAULT], 1);
	KUNIT_EXPECT_EQ(test, pin_test_pins(pin_test_page(test, addr)), 0);
	KUNIT_EXPECT_TRUE(test, list_empty(&t->regions.list));
}

/* As the firmware's ROM is */
static void readonly_memory_is_pinned(struct kunit *test)
{
	unsigned long addr = vm_mmap(NULL, 0, REGION_SIZE, PROT_READ,
				     MAP_PRIVATE | MAP_ANONYMOUS, 0);

	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(addr));
	region_test_pin(test, addr, REGION_SIZE);
}

static void regions_outlive_their_process(struct kunit *test)
{
	struct region_test *t = test->priv;

	region_test_pin(test, t->addr, REGION_SIZE);
	pin_test_mm_dies(test, &t->base);
	kvm_pinned_regions_destroy(&t->regions);
	KUNIT_EXPECT_EQ(test, t->regions.npages, 0);
	KUNIT_EXPECT_NULL(test, t->regions.acct);
	/* Nothing is left to be put again */
	kvm_pinned_regions_destroy(&t->regions);
}

static void holder_moves_within_a_process(struct kunit *test)
{
	struct region_test *t = test->priv;
	struct pin_account *acct;

	region_test_pin(test, t->addr, REGION_SIZE);
	acct = t->regions.acct;
	/* It would not be allowed to pin more */
	pin_test_limit(REGION_PAGES);
	KUNIT_ASSERT_EQ(test, kvm_move_regions_begin(&t->others, &t->regions),
			0);
	kvm_move_regions_end(&t->others, &t->regions);
	KUNIT_EXPECT_PTR_EQ(test, t->others.acct, acct);
	KUNIT_EXPECT_NULL(test, t->regions.acct);
	KUNIT_EXPECT_EQ(test, t->regions.npages, 0);
	expect_regions(test, &t->others, t->base.mm, REGION_PAGES,
		       REGION_PAGES);
	KUNIT_EXPECT_NOT_NULL(test, kvm_find_pinned_region(&t->others, t->addr,
							   REGION_SIZE));
}

static void no_regions_move_as_well(struct kunit *test)
{
	struct region_test *t = test->priv;

	region_test_switch(test);
	KUNIT_EXPECT_EQ(test, kvm_move_regions_begin(&t->others, &t->regions),
			0);
	kvm_move_regions_end(&t->others, &t->regions);
	KUNIT_EXPECT_NULL(test, t->others.acct);
	region_test_switch_back(test);
}

static void charge_moves_to_another_process(struct kunit *test)
{
	struct region_test *t = test->priv;
	struct page *page = pin_test_page(test, t->addr);

	region_test_pin(test, t->addr, REGION_SIZE);
	region_test_pin(test, t->addr + REGION_SIZE, PAGE_SIZE);
	region_test_switch(test);
	KUNIT_ASSERT_EQ(test, kvm_move_regions_begin(&t->others, &t->regions),
			0);
	/* Until the end, both have them */
	expect_regions(test, &t->regions, t->base.mm, REGION_PAGES + 1,
		       REGION_PAGES + 1);
	KUNIT_EXPECT_EQ(test, t->other->pin_charge, REGION_PAGES + 1);

	kvm_move_regions_end(&t->others, &t->regions);
	expect_regions(test, &t->others, t->other, REGION_PAGES + 1,
		       REGION_PAGES + 1);
	expect_regions(test, &t->regions, t->base.mm, 0, 0);
	KUNIT_EXPECT_NULL(test, t->regions.acct);
	KUNIT_EXPECT_NULL(test, region_test_ledger(t->base.mm));
	KUNIT_EXPECT_EQ(test, pin_test_pins(page), 1);

	kvm_pinned_regions_destroy(&t->others);
	KUNIT_EXPECT_EQ(test, t->other->pin_charge, 0);
	KUNIT_EXPECT_EQ(test, pin_test_pins(page), 0);
	region_test_switch_back(test);
}

static void charge_moves_from_process_that_died(struct kunit *test)
{
	struct region_test *t = test->priv;

	region_test_pin(test, t->addr, REGION_SIZE);
	pin_test_mm_dies(test, &t->base);
	kthread_use_mm(t->other);
	KUNIT_ASSERT_EQ(test, kvm_move_regions_begin(&t->others, &t->regions),
			0);
	kvm_move_regions_end(&t->others, &t->regions);
	expect_regions(test, &t->others, t->other, REGION_PAGES, REGION_PAGES);
	kvm_pinned_regions_destroy(&t->others);
	kthread_unuse_mm(t->other);
}

/* The first region would fit, the second does not */
static void limit_refuses_move_and_leaves_all_as_it_was(struct kunit *test)
{
	struct region_test *t = test->priv;

	region_test_pin(test, t->addr, REGION_SIZE);
	region_test_pin(test, t->addr + REGION_SIZE, PAGE_SIZE);
	region_test_switch(test);
	pin_test_limit(REGION_PAGES);
	KUNIT_EXPECT_EQ(test, kvm_move_regions_begin(&t->others, &t->regions),
			-ENOMEM);
	KUNIT_EXPECT_NULL(test, t->others.acct);
	KUNIT_EXPECT_NULL(test, region_test_ledger(t->other));
	KUNIT_EXPECT_EQ(test, t->other->pin_charge, 0);
	expect_regions(test, &t->regions, t->base.mm, REGION_PAGES + 1,
		       REGION_PAGES + 1);

	/* So it can be tried again */
	pin_test_limit(REGION_PAGES + 1);
	KUNIT_EXPECT_EQ(test, kvm_move_regions_begin(&t->others, &t->regions),
			0);
	kvm_move_regions_end(&t->others, &t->regions);
	region_test_switch_back(test);
}

static void any_failed_allocation_leaves_no_region(struct kunit *test)
{
	struct region_test *t = test->priv;
	struct pin_test_sweep *sweep;
	bool more;

	pin_test_slab_faults(test);
	pin_test_page_faults(test);
	sweep = pin_test_sweep(test);
	do {
		struct kvm_pinned_region *region;

		/* The account, too, is made anew each time */
		kvm_pinned_regions_destroy(&t->regions);
		pin_test_sweep_begin(sweep);
		region = kvm_pin_region(&t->regions, t->addr, PMD_SIZE);
		more = pin_test_sweep_end(sweep, IS_ERR(region));
		if (IS_ERR(region))
			KUNIT_EXPECT_EQ(test, PTR_ERR(region), -ENOMEM);
		else
			kvm_put_region(&t->regions, region);
		expect_regions(test, &t->regions, t->base.mm, 0, 0);
		KUNIT_EXPECT_EQ(test,
				pin_test_pins(pin_test_page(test, t->addr)), 0);
	} while (more);
	KUNIT_EXPECT_GT(test, sweep->failures, 0);
}

/* The caller is the process that takes over */
static void region_test_move(struct kunit *test, struct kvm_pinned_regions *to,
			     struct kvm_pinned_regions *from)
{
	KUNIT_ASSERT_EQ(test, kvm_move_regions_begin(to, from), 0);
	kvm_move_regions_end(to, from);
}

static void any_failed_allocation_leaves_regions_where_they_were(struct kunit *test)
{
	struct region_test *t = test->priv;
	struct pin_test_sweep *sweep;
	bool more;

	pin_test_slab_faults(test);
	region_test_pin(test, t->addr, REGION_SIZE);
	region_test_pin(test, t->addr + REGION_SIZE, PAGE_SIZE);
	sweep = pin_test_sweep(test);
	do {
		int ret;

		region_test_switch(test);
		pin_test_sweep_begin(sweep);
		ret = kvm_move_regions_begin(&t->others, &t->regions);
		more = pin_test_sweep_end(sweep, ret);
		if (ret || sweep->refused) {
			KUNIT_EXPECT_EQ(test, ret, -ENOMEM);
			KUNIT_EXPECT_NULL(test, t->others.acct);
			KUNIT_EXPECT_NULL(test, region_test_ledger(t->other));
			region_test_switch_back(test);
		} else {
			/* The kernel can do without some allocations */
			kvm_move_regions_end(&t->others, &t->regions);
			expect_regions(test, &t->others, t->other,
				       REGION_PAGES + 1, REGION_PAGES + 1);
			region_test_switch_back(test);
			region_test_move(test, &t->regions, &t->others);
		}
		expect_regions(test, &t->regions, t->base.mm, REGION_PAGES + 1,
			       REGION_PAGES + 1);
	} while (more);
	KUNIT_EXPECT_GT(test, sweep->failures, 0);
}

static struct kunit_case region_pin_test_cases[] = {
	KUNIT_CASE(region_is_the_pages_it_touches),
	KUNIT_CASE(region_that_makes_no_sense_is_refused),
	KUNIT_CASE(holder_has_the_name_and_knows_of_writes),
	KUNIT_CASE(regions_that_overlap_are_charged_once),
	KUNIT_CASE(region_is_found_as_it_was_pinned),
	KUNIT_CASE(limit_refuses_region_and_leaves_nothing),
	KUNIT_CASE(hole_refuses_region_and_leaves_nothing),
	KUNIT_CASE(readonly_memory_is_pinned),
	KUNIT_CASE(regions_outlive_their_process),
	KUNIT_CASE(holder_moves_within_a_process),
	KUNIT_CASE(no_regions_move_as_well),
	KUNIT_CASE(charge_moves_to_another_process),
	KUNIT_CASE(charge_moves_from_process_that_died),
	KUNIT_CASE(limit_refuses_move_and_leaves_all_as_it_was),
	KUNIT_CASE(any_failed_allocation_leaves_no_region),
	KUNIT_CASE(any_failed_allocation_leaves_regions_where_they_were),
	{},
};

static struct kunit_suite region_pin_test_suite = {
	.name = "kvm_region_pin",
	.init = region_test_init,
	.exit = region_test_exit,
	.test_cases = region_pin_test_cases,
};

kunit_test_suite(region_pin_test_suite);

#endif /* _VIRT_KVM_TESTS_REGION_PIN_KUNIT_H */

#endif /* CONFIG_LONGTERM_PIN_KUNIT_TEST && !MODULE */
