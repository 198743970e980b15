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

static struct pin_account *region_test_acct(struct kvm_pinned_regions *regions)
{
	struct kvm_region_holder *holder;

	holder = list_first_entry_or_null(&regions->holders,
					  struct kvm_region_holder, list);
	return holder ? holder->acct : NULL;
}

/* So many pages in regions of one holder, whose ledger holds so many */
static void expect_regions(struct kunit *test,
			   struct kvm_pinned_regions *regions,
			   unsigned long npages, unsigned long held)
{
	struct pin_account *acct = region_test_acct(regions);
	struct region_test *t = test->priv;

	KUNIT_EXPECT_EQ(test, regions->npages, npages);
	KUNIT_EXPECT_EQ(test, t->base.mm->pin_charge, 0);
	KUNIT_EXPECT_EQ(test, t->other->pin_charge, 0);
	if (!acct)
		return;
	KUNIT_EXPECT_EQ(test, acct->pages, npages);
	KUNIT_EXPECT_EQ(test, acct->ledger->planes[PIN_PLANE_LOCKED].charge, 0);
	KUNIT_EXPECT_EQ(test, acct->ledger->held, held);
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
		expect_regions(test, &t->regions, region->npages,
			       region->npages);
		for (n = 0; n < region->npages; n++) {
			struct page *page;

			page = pin_test_page(test, addr + n * PAGE_SIZE);
			KUNIT_EXPECT_PTR_EQ(test, region->pages[n], page);
			KUNIT_EXPECT_EQ(test, pin_test_pins(page), 1);
		}
		kvm_put_region(&t->regions, region);
		expect_regions(test, &t->regions, 0, 0);
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
		/* The end is in the page of the address again */
		{ PMD_SIZE + 2, ULONG_MAX },
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
	KUNIT_EXPECT_NULL(test, region_test_acct(&t->regions));
	KUNIT_EXPECT_TRUE(test, list_empty(&t->regions.list));
}

static void holder_has_the_name_and_knows_of_writes(struct kunit *test)
{
	struct region_test *t = test->priv;
	struct pin_account *acct;

	region_test_pin(test, t->addr, REGION_SIZE);
	acct = region_test_acct(&t->regions);
	KUNIT_EXPECT_TRUE(test, strstarts(acct->name, "kvm-test."));
	KUNIT_EXPECT_EQ(test, acct->flags,
			PIN_ACCOUNT_WRITES);
}

static void regions_that_overlap_are_held_once(struct kunit *test)
{
	struct region_test *t = test->priv;
	struct kvm_pinned_region *a, *b;

	a = region_test_pin(test, t->addr, REGION_SIZE);
	b = region_test_pin(test, t->addr, REGION_SIZE);
	expect_regions(test, &t->regions, 2 * REGION_PAGES, REGION_PAGES);
	kvm_put_region(&t->regions, a);
	expect_regions(test, &t->regions, REGION_PAGES, REGION_PAGES);
	kvm_put_region(&t->regions, b);
	expect_regions(test, &t->regions, 0, 0);
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
	struct pin_account *acct;

	pin_test_limit(REGION_PAGES - 1);
	KUNIT_EXPECT_PTR_EQ(test, (void *)kvm_pin_region(&t->regions, t->addr,
							 REGION_SIZE),
			    ERR_PTR(-ENOMEM));
	acct = region_test_acct(&t->regions);
	KUNIT_ASSERT_NOT_NULL(test, acct);
	KUNIT_EXPECT_EQ(test, acct->refused[PIN_REASON_MEMLOCK], 1);
	expect_regions(test, &t->regions, 0, 0);
	KUNIT_EXPECT_EQ(test, pin_test_pins(pin_test_page(test, t->addr)), 0);

	pin_test_limit(REGION_PAGES);
	region_test_pin(test, t->addr, REGION_SIZE);
	/* A page counts in each region, as ever */
	KUNIT_EXPECT_PTR_EQ(test, (void *)kvm_pin_region(&t->regions, t->addr,
							 1), ERR_PTR(-ENOMEM));
	pin_test_limit(REGION_PAGES + 1);
	region_test_pin(test, t->addr, 1);
	KUNIT_EXPECT_EQ(test, acct->refused[PIN_REASON_MEMLOCK], 2);
	expect_regions(test, &t->regions, REGION_PAGES + 1, REGION_PAGES);
}

/* Neither takes room from the other */
static void limit_is_apart_from_that_of_devices(struct kunit *test)
{
	struct region_test *t = test->priv;
	struct pin_owner owner = { .task = current };
	struct pin_account *acct;
	struct page *page;

	pin_test_limit(REGION_PAGES);
	region_test_pin(test, t->addr, REGION_SIZE);
	acct = pin_account_get(t->base.mm, NULL, "other", PIN_COUNT_LOCKED, NULL);
	KUNIT_ASSERT_FALSE(test, IS_ERR(acct));
	KUNIT_EXPECT_EQ(test, pin_user_pages_account(acct, &owner, t->addr, 1,
						     FOLL_WRITE, &page), 1);
	KUNIT_EXPECT_EQ(test, t->base.mm->pin_charge, 1);
	KUNIT_EXPECT_EQ(test, acct->ledger->held, REGION_PAGES);
	put_user_pages_account(acct, &page, 1, false);
	pin_account_put(acct);
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
	expect_regions(test, &t->regions, 0, 0);
	KUNIT_EXPECT_EQ(test, region_test_acct(&t->regions)->refused[PIN_REASON_FAULT],
			1);
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
	KUNIT_EXPECT_NULL(test, region_test_acct(&t->regions));
	/* Nothing is left to be put again */
	kvm_pinned_regions_destroy(&t->regions);
}

static void holder_moves_within_a_process(struct kunit *test)
{
	struct region_test *t = test->priv;
	struct pin_account *acct;

	region_test_pin(test, t->addr, REGION_SIZE);
	acct = region_test_acct(&t->regions);
	kvm_move_regions(&t->others, &t->regions);
	KUNIT_EXPECT_PTR_EQ(test, region_test_acct(&t->others), acct);
	expect_regions(test, &t->regions, 0, 0);
	expect_regions(test, &t->others, REGION_PAGES, REGION_PAGES);
	KUNIT_EXPECT_NOT_NULL(test, kvm_find_pinned_region(&t->others, t->addr,
							   REGION_SIZE));
	/* The next one is pinned through it */
	kvm_pin_region(&t->others, t->addr + REGION_SIZE, 1);
	expect_regions(test, &t->others, REGION_PAGES + 1, REGION_PAGES + 1);
}

static void no_regions_move_as_well(struct kunit *test)
{
	struct region_test *t = test->priv;

	/* A holder that has no region goes */
	kvm_put_region(&t->regions, region_test_pin(test, t->addr, 1));
	region_test_switch(test);
	kvm_move_regions(&t->others, &t->regions);
	KUNIT_EXPECT_NULL(test, region_test_acct(&t->others));
	KUNIT_EXPECT_NULL(test, region_test_acct(&t->regions));
	region_test_switch_back(test);
}

/* In another process, whose limit is lower than what comes */
static void regions_move_and_stay_in_their_ledger(struct kunit *test)
{
	struct region_test *t = test->priv;
	struct page *page = pin_test_page(test, t->addr);
	struct kvm_pinned_region *region;
	unsigned long addr;

	region_test_pin(test, t->addr, REGION_SIZE);
	region_test_pin(test, t->addr + REGION_SIZE, PAGE_SIZE);
	region_test_switch(test);
	set_task_comm(current, "taker");
	pin_test_limit(REGION_PAGES);
	kvm_move_regions(&t->others, &t->regions);
	expect_regions(test, &t->regions, 0, 0);
	expect_regions(test, &t->others, REGION_PAGES + 1, REGION_PAGES + 1);
	KUNIT_EXPECT_PTR_EQ(test, region_test_acct(&t->others)->ledger,
			    region_test_ledger(t->base.mm));
	KUNIT_EXPECT_STREQ(test, region_test_acct(&t->others)->comm, "taker");
	KUNIT_EXPECT_EQ(test, pin_test_pins(page), 1);

	/* No more than that may be pinned, and then it is in its own ledger */
	addr = pin_test_map_small(test, PAGE_SIZE);
	KUNIT_EXPECT_PTR_EQ(test, (void *)kvm_pin_region(&t->others, addr, 1),
			    ERR_PTR(-ENOMEM));
	pin_test_limit(REGION_PAGES + 2);
	region = kvm_pin_region(&t->others, addr, 1);
	KUNIT_ASSERT_FALSE(test, IS_ERR(region));
	KUNIT_EXPECT_EQ(test, region_test_ledger(t->other)->held, 1);
	kvm_put_region(&t->others, region);

	/* The old ledger goes with the last of them */
	region = kvm_find_pinned_region(&t->others, t->addr, REGION_SIZE);
	kvm_put_region(&t->others, region);
	KUNIT_EXPECT_EQ(test, pin_test_pins(page), 0);
	region = kvm_find_pinned_region(&t->others, t->addr + REGION_SIZE,
					PAGE_SIZE);
	kvm_put_region(&t->others, region);
	KUNIT_EXPECT_NULL(test, region_test_ledger(t->base.mm));
	KUNIT_EXPECT_NOT_NULL(test, region_test_ledger(t->other));
	region_test_switch_back(test);
}

static void regions_move_from_process_that_died(struct kunit *test)
{
	struct region_test *t = test->priv;

	region_test_pin(test, t->addr, REGION_SIZE);
	pin_test_mm_dies(test, &t->base);
	kthread_use_mm(t->other);
	kvm_move_regions(&t->others, &t->regions);
	expect_regions(test, &t->others, REGION_PAGES, REGION_PAGES);
	kvm_pinned_regions_destroy(&t->others);
	kthread_unuse_mm(t->other);
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
		expect_regions(test, &t->regions, 0, 0);
		KUNIT_EXPECT_EQ(test,
				pin_test_pins(pin_test_page(test, t->addr)), 0);
	} while (more);
	KUNIT_EXPECT_GT(test, sweep->failures, 0);
}

static struct kunit_case region_pin_test_cases[] = {
	KUNIT_CASE(region_is_the_pages_it_touches),
	KUNIT_CASE(region_that_makes_no_sense_is_refused),
	KUNIT_CASE(holder_has_the_name_and_knows_of_writes),
	KUNIT_CASE(regions_that_overlap_are_held_once),
	KUNIT_CASE(region_is_found_as_it_was_pinned),
	KUNIT_CASE(limit_refuses_region_and_leaves_nothing),
	KUNIT_CASE(limit_is_apart_from_that_of_devices),
	KUNIT_CASE(hole_refuses_region_and_leaves_nothing),
	KUNIT_CASE(readonly_memory_is_pinned),
	KUNIT_CASE(regions_outlive_their_process),
	KUNIT_CASE(holder_moves_within_a_process),
	KUNIT_CASE(no_regions_move_as_well),
	KUNIT_CASE(regions_move_and_stay_in_their_ledger),
	KUNIT_CASE(regions_move_from_process_that_died),
	KUNIT_CASE(any_failed_allocation_leaves_no_region),
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
