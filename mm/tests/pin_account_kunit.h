/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tests of accounts: real pins on the memory of a process, through the whole
 * of GUP, ledger and limit. Included by mm/pin_account.c.
 */
#ifdef CONFIG_LONGTERM_PIN_KUNIT_TEST

#ifndef _MM_TESTS_PIN_ACCOUNT_KUNIT_H
#define _MM_TESTS_PIN_ACCOUNT_KUNIT_H

#include <linux/anon_inodes.h>
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/sched/user.h>
#include <linux/uidgid.h>

#include "pin_kunit.h"

#define TABLE_PAGES	PTRS_PER_PTE

/**
 * struct account_test - what each test starts with
 * @base: a process
 * @acct: an account for its mm
 * @owner: this thread, without CAP_IPC_LOCK
 * @addr: memory of @acct's mm: two page tables of small pages
 * @pages: for two page tables of pages
 * @extents: room for as many
 */
struct account_test {
	struct pin_test base;
	struct pin_account *acct;
	struct pin_owner owner;
	unsigned long addr;
	struct page **pages;
	struct pin_extent *extents;
};

static int account_test_init(struct kunit *test)
{
	struct account_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, t);
	/* Not arrays in it: PTRS_PER_PTE is a variable on some architectures */
	t->pages = kunit_kcalloc(test, 2 * TABLE_PAGES, sizeof(*t->pages),
				 GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t->pages);
	t->extents = kunit_kcalloc(test, 2 * TABLE_PAGES, sizeof(*t->extents),
				   GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t->extents);
	test->priv = t;
	t->owner.task = current;
	pin_test_limit(ULONG_MAX >> PAGE_SHIFT);
	pin_test_begin(test, &t->base);
	t->addr = pin_test_map_small(test, 2 * PMD_SIZE);
	t->acct = pin_account_get(t->base.mm, NULL, "test",
				  PIN_COUNT_LOCKED, NULL);
	if (IS_ERR(t->acct))
		t->acct = NULL;
	KUNIT_ASSERT_NOT_NULL(test, t->acct);
	return 0;
}

/* Without memory, a store may leave nodes without entries */
static bool no_entries(struct xarray *xa)
{
	unsigned long index = 0;

	return !xa_find(xa, &index, ULONG_MAX, XA_PRESENT);
}

static bool account_at_rest(struct pin_account *acct)
{
	struct pin_ledger *ledger = acct->ledger;

	int i;

	for (i = 0; i < PIN_PLANE_NR; i++) {
		struct pin_plane *plane = &ledger->planes[i];

		if (plane->pins || !no_entries(&plane->folios) ||
		    !no_entries(&plane->chunks))
			return false;
	}
	return !acct->pages && acct->acquired == acct->released &&
	       !pin_test_charge(ledger) && !ledger->held &&
	       !ledger->device_pins &&
	       no_entries(&ledger->devices);
}

/* Whatever a test did, it has taken back */
static void account_test_exit(struct kunit *test)
{
	struct account_test *t = test->priv;

	if (!t)
		return;
	if (t->acct) {
		struct mm_struct *mm = t->acct->ledger->mm;

		KUNIT_EXPECT_TRUE(test, account_at_rest(t->acct));
		mmgrab(mm);
		pin_account_put(t->acct);
		KUNIT_EXPECT_EQ(test, mm->pin_charge, 0);
		mmdrop(mm);
	}
	pin_test_end(test, &t->base);
}

static struct pin_account *account_test_create(struct kunit *test,
					       struct mm_struct *mm)
{
	struct pin_account *acct = pin_account_get(mm, NULL, "other",
						   PIN_COUNT_LOCKED, NULL);

	KUNIT_ASSERT_FALSE(test, IS_ERR(acct));
	return acct;
}

/* Pages of t->pages that follow from @first on, of memory at @addr */
static long account_pin(struct account_test *t, struct pin_account *acct,
			unsigned long addr, unsigned int first,
			unsigned long npages)
{
	return pin_user_pages_account(acct, &t->owner,
				      addr + (first << PAGE_SHIFT), npages,
				      FOLL_WRITE, t->pages + first);
}

static void account_put(struct account_test *t, struct pin_account *acct,
			unsigned int first, unsigned long npages)
{
	put_user_pages_account(acct, t->pages + first, npages, false);
}

static u64 account_refusals(struct pin_account *acct)
{
	u64 n = 0;
	int i;

	for (i = 0; i < PIN_REASON_NR; i++)
		n += acct->refused[i];
	return n;
}

#define EXPECT_ACCOUNT(test_, acct_, pages_, peak_, acquired_)		\
	do {								\
		const struct pin_account *__acct = (acct_);		\
		struct kunit *__test = (test_);				\
									\
		KUNIT_EXPECT_EQ(__test, __acct->pages, pages_);		\
		KUNIT_EXPECT_EQ(__test, __acct->peak, peak_);		\
		KUNIT_EXPECT_EQ(__test, __acct->acquired, acquired_);	\
		KUNIT_EXPECT_EQ(__test, __acct->acquired,		\
				__acct->pages + __acct->released);	\
	} while (0)

#define EXPECT_CHARGE(test_, acct_, charge_, held_)			\
	do {								\
		struct pin_ledger *__ledger = (acct_)->ledger;	\
		struct kunit *__test = (test_);				\
									\
		KUNIT_EXPECT_EQ(__test, pin_test_charge(__ledger), charge_);	\
		KUNIT_EXPECT_EQ(__test, __ledger->held, held_);		\
	} while (0)

static void accounts_have_names_of_their_own(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct pin_account *a = account_test_create(test, t->base.mm);
	struct pin_account *b = account_test_create(test, t->base.mm);

	KUNIT_EXPECT_TRUE(test, strstarts(a->name, "other."));
	KUNIT_EXPECT_TRUE(test, strstarts(b->name, "other."));
	KUNIT_EXPECT_STRNEQ(test, a->name, b->name);
	KUNIT_EXPECT_EQ(test, a->pid, task_tgid_nr(current));
	KUNIT_EXPECT_STREQ(test, a->comm, current->group_leader->comm);
	pin_account_put(a);
	pin_account_put(b);
}

static size_t nr_accounts(void)
{
	struct pin_account *each;
	unsigned long id;
	size_t nr = 0;

	xa_for_each(&pin_accounts, id, each)
		nr++;
	return nr;
}

static bool account_listed(struct pin_account *acct)
{
	struct pin_account *each;
	bool found = false;
	unsigned long id;

	xa_for_each(&pin_accounts, id, each)
		found |= each == acct;
	return found;
}

static void accounts_of_one_mm_share_a_ledger(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct pin_ledger *ledger = t->acct->ledger;
	struct pin_account *a = account_test_create(test, t->base.mm);

	KUNIT_EXPECT_PTR_EQ(test, a->ledger, ledger);
	KUNIT_EXPECT_EQ(test, list_count_nodes(&ledger->accounts), 2);
	KUNIT_EXPECT_TRUE(test, account_listed(a));
	KUNIT_EXPECT_TRUE(test, account_listed(t->acct));
	pin_account_put(a);
	KUNIT_EXPECT_EQ(test, list_count_nodes(&ledger->accounts), 1);
	KUNIT_EXPECT_FALSE(test, account_listed(a));
	KUNIT_EXPECT_EQ(test, refcount_read(&ledger->refs), 1);
}

static void account_is_for_its_mm(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct mm_struct *other = pin_test_other_mm(test);

	KUNIT_EXPECT_TRUE(test, pin_account_is_for(t->acct, t->base.mm));
	KUNIT_EXPECT_FALSE(test, pin_account_is_for(t->acct, other));
	KUNIT_EXPECT_FALSE(test, pin_account_is_for(t->acct, NULL));

	KUNIT_EXPECT_FALSE(test, pin_account_is_dead(t->acct));

	pin_test_mm_dies(test, &t->base);
	KUNIT_EXPECT_TRUE(test, pin_account_is_for(t->acct, t->base.mm));
	KUNIT_EXPECT_TRUE(test, pin_account_is_dead(t->acct));
}

static void pins_are_counted(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct page *first = pin_test_page(test, t->addr);
	int refs = page_ref_count(first);

	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, 0, 10), 10);
	KUNIT_EXPECT_PTR_EQ(test, t->pages[0], first);
	KUNIT_EXPECT_EQ(test, pin_test_pins(first), 1);
	EXPECT_ACCOUNT(test, t->acct, 10, 10, 10);
	EXPECT_CHARGE(test, t->acct, 10, 10);
	KUNIT_EXPECT_EQ(test, pin_test_charged(), t->base.charged + 10);

	account_put(t, t->acct, 0, 4);
	EXPECT_ACCOUNT(test, t->acct, 6, 10, 10);
	EXPECT_CHARGE(test, t->acct, 6, 6);
	KUNIT_EXPECT_EQ(test, page_ref_count(first), refs);
	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, 0, 2), 2);
	EXPECT_ACCOUNT(test, t->acct, 8, 10, 12);
	account_put(t, t->acct, 0, 2);
	account_put(t, t->acct, 4, 6);
	EXPECT_ACCOUNT(test, t->acct, 0, 10, 12);
	EXPECT_CHARGE(test, t->acct, 0, 0);
	KUNIT_EXPECT_EQ(test, page_ref_count(first), refs);
	KUNIT_EXPECT_EQ(test, account_refusals(t->acct), 0);
}

static void charge_is_always_exact(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct mm_struct *mm = t->base.mm;

	account_pin(t, t->acct, t->addr, 0, TABLE_PAGES);
	KUNIT_EXPECT_EQ(test, mm->pin_charge, TABLE_PAGES);
	account_put(t, t->acct, 0, 3);
	KUNIT_EXPECT_EQ(test, mm->pin_charge, TABLE_PAGES - 3);
	account_put(t, t->acct, 3, TABLE_PAGES - 3);
	KUNIT_EXPECT_EQ(test, mm->pin_charge, 0);
}

static void end_of_account_settles(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct pin_account *a = account_test_create(test, t->base.mm);

	account_pin(t, t->acct, t->addr, 0, TABLE_PAGES);
	account_put(t, t->acct, 0, TABLE_PAGES);
	KUNIT_EXPECT_EQ(test, t->acct->ledger->in_cgroup, TABLE_PAGES);
	pin_account_put(a);
	KUNIT_EXPECT_EQ(test, t->acct->ledger->in_cgroup, 0);
}

static void no_pages_are_pinned_or_put(struct kunit *test)
{
	struct account_test *t = test->priv;
	unsigned int nr = 1;

	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, 0, 0), 0);
	KUNIT_EXPECT_EQ(test, pin_user_extents_account(t->acct, &t->owner,
						       t->addr, 0, FOLL_WRITE,
						       t->extents,
						       PIN_EXTENTS_MIN, &nr),
			0);
	KUNIT_EXPECT_EQ(test, nr, 0);
	account_put(t, t->acct, 0, 0);
	put_user_pfns_account(t->acct, 1, 0, false);
	EXPECT_ACCOUNT(test, t->acct, 0, 0, 0);
	KUNIT_EXPECT_EQ(test, account_refusals(t->acct), 0);
}

static void pin_goes_beyond_one_table(struct kunit *test)
{
	struct account_test *t = test->priv;
	const unsigned int first = TABLE_PAGES / 2 + 3, n = TABLE_PAGES + 50;
	unsigned int i;

	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, first, n), n);
	EXPECT_CHARGE(test, t->acct, n, n);
	for (i = first; i < first + n; i++) {
		unsigned long addr = t->addr + ((unsigned long)i << PAGE_SHIFT);

		if (t->pages[i] == pin_test_page(test, addr) &&
		    pin_test_pins(t->pages[i]) == 1)
			continue;
		KUNIT_FAIL(test, "page %u", i);
		break;
	}
	account_put(t, t->acct, first, n);
}

static void two_holders_are_charged_once(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct pin_account *a = t->acct, *b;
	int round;

	b = account_test_create(test, t->base.mm);
	for (round = 0; round < 2; round++) {
		KUNIT_EXPECT_EQ(test, account_pin(t, a, t->addr, 0, 20), 20);
		EXPECT_CHARGE(test, a, 20, 20);
		KUNIT_EXPECT_EQ(test, account_pin(t, b, t->addr, 0, 25), 25);
		EXPECT_CHARGE(test, a, 25, 25);
		KUNIT_EXPECT_EQ(test, a->pages, 20);
		KUNIT_EXPECT_EQ(test, b->pages, 25);
		KUNIT_EXPECT_EQ(test, pin_test_pins(t->pages[0]), 2);

		account_put(t, a, 0, 20);
		EXPECT_CHARGE(test, a, 25, 25);
		KUNIT_EXPECT_EQ(test, pin_test_pins(t->pages[0]), 1);
		account_put(t, b, 0, 25);
		EXPECT_CHARGE(test, a, 0, 0);
		KUNIT_EXPECT_EQ(test, pin_test_pins(t->pages[0]), 0);
		/* Then the other way round */
		swap(a, b);
	}
	pin_account_put(b);
}

static void huge_page_is_charged_by_page(struct kunit *test)
{
	struct account_test *t = test->priv;
	unsigned long addr = pin_test_map_huge(test, PMD_SIZE);
	struct pin_account *b = account_test_create(test, t->base.mm);

	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, addr, 100, 30), 30);
	EXPECT_CHARGE(test, t->acct, 30, TABLE_PAGES);
	KUNIT_EXPECT_EQ(test, pin_test_pins(t->pages[100]), 30);
	KUNIT_EXPECT_EQ(test, account_pin(t, b, addr, 0, TABLE_PAGES),
			TABLE_PAGES);
	EXPECT_CHARGE(test, t->acct, TABLE_PAGES, TABLE_PAGES);
	KUNIT_EXPECT_EQ(test, pin_test_pins(t->pages[0]), 30 + TABLE_PAGES);
	account_put(t, b, 0, TABLE_PAGES);
	EXPECT_CHARGE(test, t->acct, 30, TABLE_PAGES);
	KUNIT_EXPECT_EQ(test, pin_test_pins(t->pages[100]), 30);
	account_put(t, t->acct, 100, 30);
	EXPECT_CHARGE(test, t->acct, 0, 0);
	pin_account_put(b);
}

static void limit_refuses_and_leaves_nothing(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct page *page = pin_test_page(test, t->addr);
	int refs = page_ref_count(page);

	pin_test_limit(20);
	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, 0, 21), -ENOMEM);
	KUNIT_EXPECT_TRUE(test, account_at_rest(t->acct));
	KUNIT_EXPECT_EQ(test, page_ref_count(page), refs);
	KUNIT_EXPECT_EQ(test, t->base.mm->pin_charge, 0);
	KUNIT_EXPECT_EQ(test, t->acct->refused[PIN_REASON_MEMLOCK], 1);

	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, 0, 20), 20);
	KUNIT_EXPECT_EQ(test, t->base.mm->pin_charge, 20);
	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, 20, 1), -ENOMEM);
	EXPECT_ACCOUNT(test, t->acct, 20, 20, 20);
	EXPECT_CHARGE(test, t->acct, 20, 20);
	KUNIT_EXPECT_EQ(test, t->base.mm->pin_charge, 20);
	KUNIT_EXPECT_EQ(test, t->acct->refused[PIN_REASON_MEMLOCK], 2);
	KUNIT_EXPECT_EQ(test, account_refusals(t->acct), 2);

	t->owner.lock_cap = true;
	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, 20, 1), 1);
	account_put(t, t->acct, 0, 21);
}

static void limit_allows_again_what_is_pinned(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct pin_account *b = account_test_create(test, t->base.mm);

	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, 0, 20), 20);
	pin_account_settle(t->acct);
	pin_test_limit(5);
	KUNIT_EXPECT_EQ(test, account_pin(t, b, t->addr, 0, 20), 20);
	account_put(t, b, 0, 20);
	KUNIT_EXPECT_EQ(test, account_pin(t, b, t->addr, 0, 21), -ENOMEM);
	EXPECT_CHARGE(test, b, 20, 20);
	KUNIT_EXPECT_EQ(test, pin_test_pins(t->pages[0]), 1);
	account_put(t, t->acct, 0, 20);
	pin_account_put(b);
}

static void refusal_in_second_table_leaves_first_pinned(struct kunit *test)
{
	struct account_test *t = test->priv;

	pin_test_limit(TABLE_PAGES + 10);
	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, 0,
					  2 * TABLE_PAGES), TABLE_PAGES);
	EXPECT_CHARGE(test, t->acct, TABLE_PAGES, TABLE_PAGES);
	KUNIT_EXPECT_EQ(test, account_refusals(t->acct), 0);
	/* The call for the rest tells why */
	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, TABLE_PAGES,
					  TABLE_PAGES), -ENOMEM);
	KUNIT_EXPECT_EQ(test, t->acct->refused[PIN_REASON_MEMLOCK], 1);
	account_put(t, t->acct, 0, TABLE_PAGES);
}

static void cgroup_refuses_and_leaves_nothing(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct misc_cg *cg = pin_test_cgroups(test, 2);

	pin_test_join(&t->acct->ledger->cgroup, cg);
	pin_test_cgroup_limit(&cg[1], 20);
	t->owner.lock_cap = true;
	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, 0, 21), -EBUSY);
	KUNIT_EXPECT_TRUE(test, account_at_rest(t->acct));
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 0);
	KUNIT_EXPECT_EQ(test, t->base.mm->pin_charge, 0);
	KUNIT_EXPECT_EQ(test, pin_test_pins(pin_test_page(test, t->addr)), 0);
	KUNIT_EXPECT_EQ(test, t->acct->refused[PIN_REASON_CGROUP], 1);
	KUNIT_EXPECT_EQ(test, account_refusals(t->acct), 1);
	KUNIT_EXPECT_EQ(test, pin_test_cgroup_refusals(&cg[1]), 1);

	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, 0, 20), 20);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 20);
	account_put(t, t->acct, 0, 20);
	pin_account_settle(t->acct);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 0);
}

static void refusal_by_one_limit_charges_the_other_nothing(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct misc_cg *cg = pin_test_cgroups(test, 1);

	pin_test_join(&t->acct->ledger->cgroup, cg);
	pin_test_limit(20);
	pin_test_cgroup_limit(cg, 30);
	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, 0, 31), -ENOMEM);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 0);
	KUNIT_EXPECT_EQ(test, pin_test_cgroup_refusals(cg), 0);
	pin_test_limit(2 * TABLE_PAGES);
	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, 0, TABLE_PAGES),
			-EBUSY);
	KUNIT_EXPECT_EQ(test, t->base.mm->pin_charge, 0);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 0);
}

static void cgroup_allows_again_what_is_held(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct pin_account *b = account_test_create(test, t->base.mm);
	struct misc_cg *cg = pin_test_cgroups(test, 1);
	unsigned long huge = pin_test_map_huge(test, PMD_SIZE);

	pin_test_join(&t->acct->ledger->cgroup, cg);
	pin_test_cgroup_limit(cg, TABLE_PAGES - 1);
	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, huge, 0, 1), -EBUSY);
	pin_test_cgroup_limit(cg, TABLE_PAGES);
	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, huge, 0, 1), 1);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), TABLE_PAGES);
	pin_test_cgroup_limit(cg, 0);
	KUNIT_EXPECT_EQ(test, account_pin(t, b, huge, 1, 5), 5);
	KUNIT_EXPECT_EQ(test, account_pin(t, b, t->addr, 6, 1), -EBUSY);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), TABLE_PAGES);
	account_put(t, b, 1, 5);
	account_put(t, t->acct, 0, 1);
	pin_account_put(b);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 0);
}

/* A request in two tables is charged at once, and refused but once */
static void cgroup_counts_one_refusal_of_a_request(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct misc_cg *cg = pin_test_cgroups(test, 1);

	pin_test_join(&t->acct->ledger->cgroup, cg);
	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, 0,
					  2 * TABLE_PAGES), 2 * TABLE_PAGES);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 2 * TABLE_PAGES);
	account_put(t, t->acct, 0, 2 * TABLE_PAGES);
	pin_account_settle(t->acct);

	pin_test_cgroup_limit(cg, TABLE_PAGES + 10);
	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, 0,
					  2 * TABLE_PAGES), TABLE_PAGES);
	KUNIT_EXPECT_EQ(test, account_refusals(t->acct), 0);
	KUNIT_EXPECT_EQ(test, pin_test_cgroup_refusals(cg), 0);
	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, TABLE_PAGES,
					  TABLE_PAGES), -EBUSY);
	KUNIT_EXPECT_EQ(test, t->acct->refused[PIN_REASON_CGROUP], 1);
	KUNIT_EXPECT_EQ(test, pin_test_cgroup_refusals(cg), 1);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), TABLE_PAGES);
	account_put(t, t->acct, 0, TABLE_PAGES);
}

static void hole_ends_pin(struct kunit *test)
{
	struct account_test *t = test->priv;

	KUNIT_ASSERT_EQ(test, vm_munmap(t->addr + 10 * PAGE_SIZE, PAGE_SIZE),
			0);
	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, 0, 30), 10);
	EXPECT_CHARGE(test, t->acct, 10, 10);
	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, 10, 20),
			-EFAULT);
	EXPECT_ACCOUNT(test, t->acct, 10, 10, 10);
	KUNIT_EXPECT_EQ(test, t->acct->refused[PIN_REASON_FAULT], 1);
	account_put(t, t->acct, 0, 10);
}

static void overflow_refuses_and_leaves_nothing(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct page *page = pin_test_page(test, t->addr + 5 * PAGE_SIZE);
	struct page *before = pin_test_page(test, t->addr + 4 * PAGE_SIZE);

	page_ref_add(page, PIN_REFCOUNT_MAX);
	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, 0, 10),
			-EOVERFLOW);
	page_ref_sub(page, PIN_REFCOUNT_MAX);
	KUNIT_EXPECT_TRUE(test, account_at_rest(t->acct));
	KUNIT_EXPECT_EQ(test, pin_test_pins(page), 0);
	KUNIT_EXPECT_EQ(test, pin_test_pins(before), 0);
	KUNIT_EXPECT_EQ(test, t->acct->refused[PIN_REASON_OVERFLOW], 1);
	KUNIT_EXPECT_EQ(test, account_refusals(t->acct), 1);
}

static void reserved_page_is_refused_and_keeps_no_pin(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct page *page = pin_test_page(test, t->addr + 5 * PAGE_SIZE);
	struct page *before = pin_test_page(test, t->addr + 4 * PAGE_SIZE);
	struct page *after = pin_test_page(test, t->addr + 9 * PAGE_SIZE);
	int refs = page_ref_count(page);

	SetPageReserved(page);
	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, 0, 10), -EFAULT);
	ClearPageReserved(page);
	KUNIT_EXPECT_EQ(test, page_ref_count(page), refs);
	KUNIT_EXPECT_EQ(test, pin_test_pins(before), 0);
	KUNIT_EXPECT_EQ(test, pin_test_pins(after), 0);
	KUNIT_EXPECT_TRUE(test, account_at_rest(t->acct));
	KUNIT_EXPECT_EQ(test, t->acct->refused[PIN_REASON_PFNMAP], 1);
	KUNIT_EXPECT_EQ(test, account_refusals(t->acct), 1);
}

/* A driver may map it, or a private mapping of the file */
static void fsdax_page_is_refused_wherever_it_is_mapped(struct kunit *test)
{
#ifdef CONFIG_ZONE_DEVICE
	static struct dev_pagemap pgmap = { .type = MEMORY_DEVICE_FS_DAX };
	struct account_test *t = test->priv;
	struct page *page = pin_test_page(test, t->addr + 5 * PAGE_SIZE);
	struct page *after = pin_test_page(test, t->addr + 6 * PAGE_SIZE);
	enum zone_type zone = page_zonenum(page);

	/* The list of the LRU is where pgmap is */
	KUNIT_ASSERT_TRUE(test, folio_isolate_lru(page_folio(page)));
	set_page_zone(page, ZONE_DEVICE);
	page->pgmap = &pgmap;

	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, 0, 10), 5);
	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, 5, 5),
			-EOPNOTSUPP);
	/* For reading GUP-fast is left out */
	KUNIT_EXPECT_EQ(test, pin_user_pages_account(t->acct, &t->owner,
						     t->addr + 5 * PAGE_SIZE,
						     5, 0, t->pages + 5),
			-EOPNOTSUPP);

	set_page_zone(page, zone);
	folio_putback_lru(page_folio(page));
	KUNIT_EXPECT_EQ(test, pin_test_pins(page), 0);
	KUNIT_EXPECT_EQ(test, pin_test_pins(after), 0);
	EXPECT_ACCOUNT(test, t->acct, 5, 5, 5);
	KUNIT_EXPECT_EQ(test, t->acct->refused[PIN_REASON_FSDAX], 2);
	KUNIT_EXPECT_EQ(test, account_refusals(t->acct), 2);
	account_put(t, t->acct, 0, 5);
#else
	kunit_skip(test, "no device memory in this kernel");
#endif
}

/* Pins up to @npages at @addr, as many as @max extents are good for */
static long account_pin_extents(struct account_test *t, unsigned long addr,
				unsigned long npages, unsigned int max,
				unsigned int *nr)
{
	return pin_user_extents_account(t->acct, &t->owner, addr, npages,
					FOLL_WRITE, t->extents, max, nr);
}

static void account_put_extents(struct account_test *t, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		put_user_pfns_account(t->acct, t->extents[i].pfn,
				      t->extents[i].npages, false);
}

static void extents_are_the_pages_in_order(struct kunit *test)
{
	struct account_test *t = test->priv;
	const unsigned int n = TABLE_PAGES + 30;
	unsigned int nr, i, at = 0;
	unsigned long j;

	KUNIT_EXPECT_EQ(test, account_pin_extents(t, t->addr, n, n, &nr), n);
	EXPECT_ACCOUNT(test, t->acct, n, n, n);
	EXPECT_CHARGE(test, t->acct, n, n);
	for (i = 0; i < nr; i++) {
		struct pin_extent *e = &t->extents[i];

		for (j = 0; j < e->npages && at < n; j++, at++) {
			struct page *page = pin_test_page(test, t->addr +
							  at * PAGE_SIZE);

			if (page_to_pfn(page) == e->pfn + j &&
			    pin_test_pins(page) == 1)
				continue;
			KUNIT_FAIL(test, "page %u", at);
			break;
		}
		KUNIT_EXPECT_EQ(test, j, e->npages);
		/* Neighbours are in one extent */
		if (i)
			KUNIT_EXPECT_NE(test, e->pfn,
					e[-1].pfn + e[-1].npages);
	}
	KUNIT_EXPECT_EQ(test, at, n);

	account_put_extents(t, nr);
	EXPECT_ACCOUNT(test, t->acct, 0, n, n);
}

/* Of the second table nothing is in the array, which ends as the first left it */
static void extents_of_a_refused_batch_are_taken_back(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct page *page = pin_test_page(test, t->addr +
					  (TABLE_PAGES + 5) * PAGE_SIZE);
	unsigned int nr, i, n = 0;

	SetPageReserved(page);
	KUNIT_EXPECT_EQ(test, account_pin_extents(t, t->addr, TABLE_PAGES + 10,
						  TABLE_PAGES + 10, &nr),
			TABLE_PAGES);
	ClearPageReserved(page);
	for (i = 0; i < nr; i++)
		n += t->extents[i].npages;
	KUNIT_EXPECT_EQ(test, n, TABLE_PAGES);
	KUNIT_EXPECT_EQ(test, pin_test_pins(page), 0);
	EXPECT_ACCOUNT(test, t->acct, n, n, n);
	EXPECT_CHARGE(test, t->acct, n, n);
	account_put_extents(t, nr);
}

static void huge_page_is_one_extent(struct kunit *test)
{
	struct account_test *t = test->priv;
	unsigned long addr = pin_test_map_huge(test, PMD_SIZE);
	unsigned long pfn = page_to_pfn(pin_test_page(test, addr));
	unsigned int nr;

	KUNIT_EXPECT_EQ(test, account_pin_extents(t, addr, TABLE_PAGES,
						  PIN_EXTENTS_MIN, &nr),
			TABLE_PAGES);
	KUNIT_EXPECT_EQ(test, nr, 1);
	KUNIT_EXPECT_EQ(test, t->extents[0].pfn, pfn);
	KUNIT_EXPECT_EQ(test, t->extents[0].npages, TABLE_PAGES);
	EXPECT_CHARGE(test, t->acct, TABLE_PAGES, TABLE_PAGES);

	/* In other pieces than it was pinned in */
	put_user_pfns_account(t->acct, pfn + 100, TABLE_PAGES - 100, false);
	EXPECT_CHARGE(test, t->acct, 100, TABLE_PAGES);
	put_user_pfns_account(t->acct, pfn, 100, false);
	KUNIT_EXPECT_EQ(test, pin_test_pins(pfn_to_page(pfn)), 0);
}

static void extents_stop_when_array_may_be_too_short(struct kunit *test)
{
	struct account_test *t = test->priv;
	unsigned int nr;

	KUNIT_EXPECT_EQ(test, account_pin_extents(t, t->addr, 2 * TABLE_PAGES,
						  PIN_EXTENTS_MIN, &nr),
			TABLE_PAGES);
	KUNIT_EXPECT_GE(test, nr, 1);
	KUNIT_EXPECT_LE(test, nr, PIN_EXTENTS_MIN);
	account_put_extents(t, nr);
	KUNIT_EXPECT_TRUE(test, account_at_rest(t->acct));

	/* One for each page is always enough */
	KUNIT_EXPECT_EQ(test, account_pin_extents(t, t->addr, 3, 3, &nr), 3);
	account_put_extents(t, nr);
	KUNIT_EXPECT_EQ(test, account_pin_extents(t, t->addr, 2 * TABLE_PAGES,
						  2 * TABLE_PAGES, &nr),
			2 * TABLE_PAGES);
	account_put_extents(t, nr);
}

static void refused_extents_leave_nothing(struct kunit *test)
{
	struct account_test *t = test->priv;
	unsigned int nr = 7;

	pin_test_limit(20);
	KUNIT_EXPECT_EQ(test, account_pin_extents(t, t->addr, 21,
						  PIN_EXTENTS_MIN, &nr),
			-ENOMEM);
	KUNIT_EXPECT_EQ(test, nr, 0);
	KUNIT_EXPECT_TRUE(test, account_at_rest(t->acct));
	KUNIT_EXPECT_EQ(test, t->acct->refused[PIN_REASON_MEMLOCK], 1);
	KUNIT_EXPECT_EQ(test, account_refusals(t->acct), 1);
}

static void put_marks_dirty_on_request(struct kunit *test)
{
	struct account_test *t = test->priv;
	unsigned long pfn;
	int i;

	account_pin(t, t->acct, t->addr, 0, 4);
	for (i = 0; i < 4; i++)
		folio_clear_dirty(page_folio(t->pages[i]));

	put_user_pages_account(t->acct, t->pages, 1, false);
	KUNIT_EXPECT_FALSE(test, PageDirty(t->pages[0]));
	put_user_pages_account(t->acct, t->pages + 1, 1, true);
	KUNIT_EXPECT_TRUE(test, PageDirty(t->pages[1]));
	pfn = page_to_pfn(t->pages[2]);
	put_user_pfns_account(t->acct, pfn, 1, false);
	KUNIT_EXPECT_FALSE(test, PageDirty(t->pages[2]));
	pfn = page_to_pfn(t->pages[3]);
	put_user_pfns_account(t->acct, pfn, 1, true);
	KUNIT_EXPECT_TRUE(test, PageDirty(t->pages[3]));
}

/* More extents than one lock is for, and small pages beside huge ones */
static void put_takes_extents_in_any_order(struct kunit *test)
{
	const unsigned long nr = 5 * PIN_PUT_EXTENTS + 3;
	struct account_test *t = test->priv;
	unsigned long huge = pin_test_map_huge(test, 2 * PMD_SIZE), i;
	unsigned long all = 2 * PMD_SIZE >> PAGE_SHIFT;
	struct pin_put put;
	struct page **pages;

	KUNIT_ASSERT_EQ(test, account_pin(t, t->acct, t->addr, 0, nr), nr);
	pages = kunit_kmalloc_array(test, nr, sizeof(*pages), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, pages);
	memcpy(pages, t->pages, nr * sizeof(*pages));
	KUNIT_ASSERT_EQ(test, account_pin(t, t->acct, huge, 0, all), all);

	pin_put_begin(&put, t->acct, false);
	for (i = 0; i < nr; i += 2)
		pin_put_add(&put, page_to_pfn(pages[i]), 1);
	pin_put_add(&put, page_to_pfn(t->pages[all / 2]), all / 2);
	for (i = 1; i < nr; i += 2)
		pin_put_add(&put, page_to_pfn(pages[i]), 1);
	pin_put_add(&put, page_to_pfn(t->pages[0]), all / 2);
	pin_put_end(&put);

	KUNIT_EXPECT_EQ(test, put.done, nr + all);
	KUNIT_EXPECT_TRUE(test, account_at_rest(t->acct));
	for (i = 0; i < nr; i++)
		KUNIT_EXPECT_FALSE(test, folio_maybe_dma_pinned(page_folio(pages[i])));
	KUNIT_EXPECT_FALSE(test, folio_maybe_dma_pinned(page_folio(t->pages[0])));
	KUNIT_EXPECT_FALSE(test, folio_maybe_dma_pinned(page_folio(t->pages[all / 2])));
}

static void put_passes_over_what_cannot_have_been_pinned(struct kunit *test)
{
	struct account_test *t = test->priv;
	unsigned long none = PIN_TEST_NO_PFN;
	struct page *reserved = alloc_page(GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, reserved);
	SetPageReserved(reserved);
	put_user_pfns_account(t->acct, none, 1000, true);
	put_user_pfns_account(t->acct, page_to_pfn(ZERO_PAGE(0)), 1, true);
	put_user_pfns_account(t->acct, page_to_pfn(reserved), 1, true);
	KUNIT_EXPECT_EQ(test, page_ref_count(reserved), 1);
	KUNIT_EXPECT_FALSE(test, PageDirty(reserved));
	EXPECT_ACCOUNT(test, t->acct, 0, 0, 0);
	ClearPageReserved(reserved);
	__free_page(reserved);
}

/* VFIO pins from a thread of its own for mediated devices */
static void any_thread_pins_memory_of_the_account(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct page *page = pin_test_page(test, t->addr);
	struct mm_struct *other = pin_test_other_mm(test);

	kthread_unuse_mm(t->base.mm);
	t->base.used = false;
	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, 0, 5), 5);
	KUNIT_EXPECT_PTR_EQ(test, t->pages[0], page);
	account_put(t, t->acct, 0, 5);

	/* Here, other memory is at that address */
	kthread_use_mm(other);
	KUNIT_EXPECT_EQ(test, vm_mmap(NULL, t->addr, 5 * PAGE_SIZE,
				      PROT_READ | PROT_WRITE, MAP_PRIVATE |
				      MAP_ANONYMOUS | MAP_FIXED, 0), t->addr);
	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, 0, 5), 5);
	KUNIT_EXPECT_PTR_EQ(test, t->pages[0], page);
	KUNIT_EXPECT_EQ(test, t->base.mm->pin_charge, 5);
	KUNIT_EXPECT_EQ(test, other->pin_charge, 0);
	account_put(t, t->acct, 0, 5);
	kthread_unuse_mm(other);
	mmput(t->base.mm);
}

static void pins_outlive_their_mm(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct page *page;

	account_pin(t, t->acct, t->addr, 0, 10);
	page = t->pages[0];
	get_page(page);
	pin_test_mm_dies(test, &t->base);
	lru_add_drain_all();
	KUNIT_EXPECT_EQ(test, page_ref_count(page), GUP_PIN_COUNTING_BIAS + 1);
	EXPECT_CHARGE(test, t->acct, 10, 10);
	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, 10, 1), -ESRCH);
	KUNIT_EXPECT_EQ(test, account_refusals(t->acct), 0);

	account_put(t, t->acct, 0, 10);
	pin_account_settle(t->acct);
	KUNIT_EXPECT_EQ(test, page_ref_count(page), 1);
	KUNIT_EXPECT_EQ(test, t->base.mm->pin_charge, 0);
	put_page(page);
}

static void nothing_is_pinned_for_killed_process(struct kunit *test)
{
	struct account_test *t = test->priv;
	unsigned int nr;

	pin_test_killed(true);
	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, 0, 10), -EINTR);
	KUNIT_EXPECT_EQ(test, account_pin_extents(t, t->addr, 10,
						  PIN_EXTENTS_MIN, &nr),
			-EINTR);
	pin_test_killed(false);
	KUNIT_EXPECT_EQ(test, nr, 0);
	KUNIT_EXPECT_TRUE(test, account_at_rest(t->acct));
	KUNIT_EXPECT_EQ(test, account_refusals(t->acct), 0);
}

#define KILLED_AT	20

/* Memory whose KILLED_AT-th page is so slow to come that somebody kills us */
static vm_fault_t killing_fault(struct vm_fault *vmf)
{
	vmf->page = alloc_page(GFP_KERNEL);
	if (!vmf->page)
		return VM_FAULT_OOM;
	if (vmf->pgoff == KILLED_AT)
		pin_test_killed(true);
	return 0;
}

static const struct vm_operations_struct killing_vm_ops = {
	.fault = killing_fault,
};

static int killing_mmap(struct file *file, struct vm_area_struct *vma)
{
	vma->vm_ops = &killing_vm_ops;
	return 0;
}

static const struct file_operations killing_fops = {
	.mmap = killing_mmap,
};

static void kill_ends_pin_on_the_way(struct kunit *test)
{
	struct account_test *t = test->priv;
	unsigned long addr;
	struct file *file;
	long ret;

	file = anon_inode_getfile("[pin_test]", &killing_fops, NULL, O_RDWR);
	KUNIT_ASSERT_FALSE(test, IS_ERR(file));
	addr = vm_mmap(file, 0, 2 * PMD_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE, 0);
	fput(file);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(addr));

	ret = account_pin(t, t->acct, addr, 0, 2 * TABLE_PAGES);
	KUNIT_EXPECT_TRUE(test, fatal_signal_pending(current));
	pin_test_killed(false);
	/* What was pinned until then is accounted for */
	KUNIT_ASSERT_GE(test, ret, KILLED_AT);
	KUNIT_EXPECT_LE(test, ret, KILLED_AT + 1);
	EXPECT_ACCOUNT(test, t->acct, ret, ret, ret);
	EXPECT_CHARGE(test, t->acct, ret, ret);
	account_put(t, t->acct, 0, ret);
}

/* Two holders of the same pages, of which only one asks at first */
static void adopter_has_what_it_asked_for(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct mm_struct *new = pin_test_other_mm(test);
	struct pin_account *b = account_test_create(test, t->base.mm);

	account_pin(t, t->acct, t->addr, 0, 10);
	account_pin(t, b, t->addr, 5, 25);
	EXPECT_CHARGE(test, b, 30, 30);
	KUNIT_EXPECT_EQ(test, pin_account_adopt(t->acct, &t->owner, t->base.mm),
			0);
	KUNIT_EXPECT_EQ(test, pin_account_adopt(t->acct, &t->owner, new),
			-EBUSY);
	pin_test_mm_dies(test, &t->base);

	set_task_comm(current, "adopter");
	pin_test_limit(9);
	KUNIT_EXPECT_EQ(test, pin_account_adopt(t->acct, &t->owner, new),
			-ENOMEM);
	KUNIT_EXPECT_TRUE(test, pin_account_is_for(t->acct, t->base.mm));
	KUNIT_EXPECT_TRUE(test, pin_account_is_for(b, t->base.mm));
	pin_test_limit(10);
	KUNIT_EXPECT_EQ(test, pin_account_adopt(t->acct, &t->owner, new), 0);
	KUNIT_EXPECT_TRUE(test, pin_account_is_for(t->acct, new));
	KUNIT_EXPECT_FALSE(test, pin_account_is_for(b, new));
	KUNIT_EXPECT_FALSE(test, pin_account_is_dead(t->acct));
	KUNIT_EXPECT_TRUE(test, pin_account_is_dead(b));
	KUNIT_EXPECT_STREQ(test, t->acct->comm, "adopter");
	KUNIT_EXPECT_STRNEQ(test, b->comm, "adopter");
	KUNIT_EXPECT_EQ(test, new->pin_charge, 10);

	/* The other one can put, but not pin: its memory is gone */
	account_put(t, b, 29, 1);
	KUNIT_EXPECT_EQ(test, new->pin_charge, 10);
	KUNIT_EXPECT_EQ(test, account_pin(t, b, t->addr, 29, 1), -ESRCH);

	/* And then it asks as well */
	pin_test_limit(28);
	KUNIT_EXPECT_EQ(test, pin_account_adopt(b, &t->owner, new), -ENOMEM);
	KUNIT_EXPECT_EQ(test, new->pin_charge, 10);
	KUNIT_EXPECT_FALSE(test, pin_account_is_for(b, new));
	pin_test_limit(29);
	KUNIT_EXPECT_EQ(test, pin_account_adopt(b, &t->owner, new), 0);
	KUNIT_EXPECT_TRUE(test, pin_account_is_for(b, new));
	KUNIT_EXPECT_STREQ(test, b->comm, "adopter");
	KUNIT_EXPECT_EQ(test, new->pin_charge, 29);

	account_put(t, b, 5, 24);
	pin_account_put(b);
	KUNIT_EXPECT_EQ(test, new->pin_charge, 10);
	account_put(t, t->acct, 0, 10);
	KUNIT_EXPECT_EQ(test, new->pin_charge, 0);
}

#ifdef CONFIG_MEMCG
/* Somebody has the mm, but no process runs with it */
static void memory_that_is_only_read_is_adopted(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct mm_struct *new = pin_test_other_mm(test), *old = t->base.mm;
	struct task_struct *owner = rcu_access_pointer(old->owner);

	account_pin(t, t->acct, t->addr, 0, 10);
	KUNIT_EXPECT_EQ(test, pin_account_adopt(t->acct, &t->owner, new), -EBUSY);
	RCU_INIT_POINTER(old->owner, NULL);
	KUNIT_EXPECT_EQ(test, pin_account_adopt(t->acct, &t->owner, new), 0);
	RCU_INIT_POINTER(old->owner, owner);
	KUNIT_EXPECT_EQ(test, old->pin_charge, 0);
	KUNIT_EXPECT_EQ(test, new->pin_charge, 10);
	account_put(t, t->acct, 0, 10);
	KUNIT_EXPECT_EQ(test, new->pin_charge, 0);
}
#endif

/* Nothing that a cgroup of before has paid for and that was put is the adopter's */
static void adopter_gets_no_room_of_another_cgroup(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct misc_cg *before = pin_test_cgroups(test, 1);
	struct misc_cg *own = pin_test_cgroups(test, 1);
	struct mm_struct *new = pin_test_other_mm(test);
	struct pin_ledger *ledger = t->acct->ledger;

	pin_test_join(&ledger->cgroup, before);
	account_pin(t, t->acct, t->addr, 0, 20);
	/* By a request that has not come to its end when another one adopts */
	account_put(t, t->acct, 0, 5);
	KUNIT_EXPECT_EQ(test, pin_test_usage(before), 20);
	pin_test_mm_dies(test, &t->base);
	KUNIT_EXPECT_EQ(test, pin_account_adopt(t->acct, &t->owner, new), 0);
	KUNIT_EXPECT_EQ(test, pin_test_usage(before), 15);
	pin_test_join(&ledger->cgroup, own);
	KUNIT_EXPECT_EQ(test, ledger->in_cgroup, 15);
	/* And one that comes to its end later */
	account_put(t, t->acct, 5, 5);
	KUNIT_EXPECT_EQ(test, pin_test_usage(before), 10);
	KUNIT_EXPECT_EQ(test, ledger->in_cgroup, 10);
	KUNIT_EXPECT_EQ(test, pin_test_usage(own), 0);
	account_put(t, t->acct, 10, 10);
	KUNIT_EXPECT_EQ(test, pin_test_usage(before), 0);
	KUNIT_EXPECT_TRUE(test, list_empty(&ledger->past));
}

/* Who never asks costs the adopter nothing, whatever is put in between */
static void adopter_does_not_pay_for_others(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct mm_struct *new = pin_test_other_mm(test);
	struct pin_account *b = account_test_create(test, t->base.mm);

	account_pin(t, t->acct, t->addr, 0, 10);
	account_pin(t, b, t->addr, 10, 20);
	pin_test_mm_dies(test, &t->base);
	pin_test_limit(10);
	KUNIT_EXPECT_EQ(test, pin_account_adopt(t->acct, &t->owner, new), 0);
	KUNIT_EXPECT_EQ(test, new->pin_charge, 10);
	EXPECT_CHARGE(test, t->acct, 30, 30);
	account_put(t, t->acct, 0, 4);
	KUNIT_EXPECT_EQ(test, new->pin_charge, 6);
	account_put(t, b, 10, 20);
	KUNIT_EXPECT_EQ(test, new->pin_charge, 6);
	account_put(t, t->acct, 4, 6);
	KUNIT_EXPECT_EQ(test, new->pin_charge, 0);
	KUNIT_EXPECT_EQ(test, t->acct->ledger->unclaimed[PIN_COUNTER_LOCKED], 0);
	pin_account_put(b);
}

static struct user_struct *account_test_user(struct kunit *test, uid_t uid)
{
	struct user_struct *user = alloc_uid(KUIDT_INIT(uid));

	KUNIT_ASSERT_NOT_NULL(test, user);
	KUNIT_ASSERT_EQ(test, atomic_long_read(pin_user_counter(user)), 0);
	return user;
}

static struct pin_account *account_test_get(struct kunit *test,
					    struct mm_struct *mm,
					    const void *key,
					    unsigned int flags,
					    struct user_struct *user)
{
	struct pin_account *acct = pin_account_get(mm, key, "other", flags,
						   user);

	KUNIT_ASSERT_FALSE(test, IS_ERR(acct));
	return acct;
}

/* VmLck, VmPin and the user's */
#define EXPECT_COUNTERS(test_, mm_, user_, locked_, pinned_, user_pages_)	\
	do {									\
		struct mm_struct *__mm = (mm_);					\
		struct kunit *__test = (test_);					\
										\
		KUNIT_EXPECT_EQ(__test, __mm->pin_charge, locked_);		\
		KUNIT_EXPECT_EQ(__test, atomic64_read(&__mm->pinned_vm),	\
				pinned_);					\
		KUNIT_EXPECT_EQ(__test, atomic_long_read(pin_user_counter(user_)),	\
				user_pages_);					\
	} while (0)

/* Each kind of holder pins the same ten pages, and then puts them */
static void each_counter_has_a_page_once(struct kunit *test)
{
	static const struct {
		unsigned int flags, locked, pinned, user;
	} kinds[] = {
		{ 0, 0, 0, 0 },
		{ PIN_COUNT_USER, 0, 0, 10 },
		{ PIN_COUNT_PINNED, 0, 10, 10 },
		{ PIN_COUNT_USER | PIN_COUNT_PINNED, 0, 10, 10 },
		{ PIN_COUNT_LOCKED | PIN_COUNT_PINNED, 10, 10, 10 },
		{ PIN_COUNT_LOCKED, 10, 10, 10 },
	};
	struct pin_account *accts[ARRAY_SIZE(kinds)];
	struct account_test *t = test->priv;
	struct mm_struct *mm = t->base.mm;
	struct user_struct *user = account_test_user(test, 70001);
	int i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		accts[i] = account_test_get(test, mm, NULL, kinds[i].flags,
					    kinds[i].flags & PIN_COUNT_USER ?
					    user : NULL);
		KUNIT_EXPECT_EQ(test, account_pin(t, accts[i], t->addr, 0, 10),
				10);
		EXPECT_COUNTERS(test, mm, user, kinds[i].locked,
				kinds[i].pinned, kinds[i].user);
		KUNIT_EXPECT_EQ(test, accts[i]->ledger->held_now, 10);
	}
	/* The array has the same pages for each */
	while (i--) {
		EXPECT_COUNTERS(test, mm, user, kinds[i].locked,
				kinds[i].pinned, kinds[i].user);
		KUNIT_EXPECT_EQ(test, accts[i]->ledger->held_now, 10);
		account_put(t, accts[i], 0, 10);
		pin_account_settle(accts[i]);
		pin_account_put(accts[i]);
	}
	EXPECT_COUNTERS(test, mm, user, 0, 0, 0);
	free_uid(user);
}

/* To the page, beside what others have added; and CAP_IPC_LOCK lifts it */
static void limit_is_of_the_holders_counter(struct kunit *test)
{
	static const unsigned int kinds[] = {
		PIN_COUNT_PINNED,
		PIN_COUNT_USER | PIN_COUNT_PINNED,
		PIN_COUNT_USER,
		PIN_COUNT_LOCKED | PIN_COUNT_PINNED,
	};
	struct account_test *t = test->priv;
	struct mm_struct *mm = t->base.mm;
	struct user_struct *user = account_test_user(test, 70002);
	struct pin_account *acct;
	int i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		bool users = kinds[i] & PIN_COUNT_USER;
		bool locked = kinds[i] & PIN_COUNT_LOCKED;

		acct = account_test_get(test, mm, NULL, kinds[i],
					users ? user : NULL);
		/* What counts for one kind does not for the others */
		mm->locked_vm = locked ? 5 : 100;
		atomic64_set(&mm->pinned_vm, kinds[i] == PIN_COUNT_PINNED ?
			     5 : 100);
		atomic_long_set(pin_user_counter(user), users ? 5 : 100);
		pin_test_limit(15);
		KUNIT_EXPECT_EQ(test, account_pin(t, acct, t->addr, 0, 11),
				-ENOMEM);
		KUNIT_EXPECT_EQ(test, acct->refused[PIN_REASON_MEMLOCK], 1);
		KUNIT_EXPECT_EQ(test, account_pin(t, acct, t->addr, 0, 10), 10);
		KUNIT_EXPECT_EQ(test, account_pin(t, acct, t->addr, 10, 1),
				-ENOMEM);
		/* What is pinned already may be pinned again */
		pin_test_limit(0);
		KUNIT_EXPECT_EQ(test, account_pin(t, acct, t->addr, 0, 10), 10);
		t->owner.lock_cap = true;
		KUNIT_EXPECT_EQ(test, account_pin(t, acct, t->addr, 10, 1), 1);
		t->owner.lock_cap = false;
		account_put(t, acct, 0, 11);
		account_put(t, acct, 0, 10);
		KUNIT_EXPECT_EQ(test, mm->locked_vm, locked ? 5 : 100);
		EXPECT_COUNTERS(test, mm, user, 0,
				kinds[i] == PIN_COUNT_PINNED ? 5 : 100,
				users ? 5 : 100);
		KUNIT_EXPECT_TRUE(test, account_at_rest(acct));
		pin_account_put(acct);
		mm->locked_vm = 0;
	}
	atomic64_set(&mm->pinned_vm, 0);
	atomic_long_set(pin_user_counter(user), 0);
	free_uid(user);
}

/**
 * struct two_users - two users who pin in one mm, as when it changes its uid
 * @first: the first one
 * @second: the second one, who has no plane
 * @a: an account of the first user
 * @b: an account of the second user
 */
struct two_users {
	struct user_struct *first, *second;
	struct pin_account *a, *b;
};

/* Users @uid and the next; their accounts have object @key, and PIN_COUNT_USER in @flags */
static struct two_users account_test_users(struct kunit *test, uid_t uid,
					   const void *key, unsigned int flags)
{
	struct account_test *t = test->priv;
	struct two_users u;

	u.first = account_test_user(test, uid);
	u.second = account_test_user(test, uid + 1);
	u.a = account_test_get(test, t->base.mm, key, flags, u.first);
	u.b = account_test_get(test, t->base.mm, key, flags, u.second);
	return u;
}

/* When both accounts are put */
static void account_test_users_end(const struct two_users *u)
{
	free_uid(u->first);
	free_uid(u->second);
}

/* @vmpin: pages that are in VmPin while ten are pinned */
static void count_for_two_users(struct kunit *test, unsigned int flags,
				long vmpin)
{
	struct account_test *t = test->priv;
	struct mm_struct *mm = t->base.mm;
	struct two_users u = account_test_users(test, 70003, t, flags);

	KUNIT_ASSERT_PTR_NE(test, u.a, u.b);
	account_pin(t, u.a, t->addr, 0, 10);
	EXPECT_COUNTERS(test, mm, u.first, 0, vmpin, 10);
	account_pin(t, u.b, t->addr, 0, 10);
	account_pin(t, u.b, t->addr, 0, 10);
	EXPECT_COUNTERS(test, mm, u.first, 0, vmpin, 10);
	EXPECT_COUNTERS(test, mm, u.second, 0, vmpin, 20);
	KUNIT_EXPECT_EQ(test, u.a->ledger->held_now, 10);

	/* Each pin counts, and a refused one does not stay */
	pin_test_limit(20);
	KUNIT_EXPECT_EQ(test, account_pin(t, u.b, t->addr, 10, 1), -ENOMEM);
	KUNIT_EXPECT_EQ(test, u.b->refused[PIN_REASON_MEMLOCK], 1);
	EXPECT_COUNTERS(test, mm, u.second, 0, vmpin, 20);
	account_put(t, u.a, 0, 10);
	EXPECT_COUNTERS(test, mm, u.first, 0, vmpin, 0);
	account_put(t, u.b, 0, 10);
	account_put(t, u.b, 0, 10);
	EXPECT_COUNTERS(test, mm, u.second, 0, 0, 0);
	pin_account_put(u.a);
	pin_account_put(u.b);
	account_test_users_end(&u);
}

/* A process that has changed its uid: the second user has no plane */
static void second_user_counts_small_pages_by_pin(struct kunit *test)
{
	count_for_two_users(test, PIN_COUNT_USER | PIN_COUNT_PINNED, 10);
	count_for_two_users(test, PIN_COUNT_USER, 0);
}

/* Of a huge page the second user has no more than all, by whatever holders */
static void second_user_counts_a_huge_page_once(struct kunit *test)
{
	const unsigned int flags = PIN_COUNT_USER | PIN_COUNT_PINNED;
	const unsigned long all = PMD_SIZE >> PAGE_SHIFT;
	struct account_test *t = test->priv;
	unsigned long huge = pin_test_map_huge(test, PMD_SIZE);
	struct mm_struct *mm = t->base.mm;
	struct two_users u = account_test_users(test, 70010, t, flags);
	struct pin_account *c = account_test_get(test, mm, test, flags, u.second);

	account_pin(t, u.a, t->addr, all + 1, 1);
	KUNIT_EXPECT_EQ(test, account_pin(t, u.b, huge, 0, all), all);
	KUNIT_EXPECT_EQ(test, account_pin(t, u.b, huge, 0, all), all);
	EXPECT_COUNTERS(test, mm, u.second, 0, all + 1, all);
	KUNIT_EXPECT_EQ(test, account_pin(t, c, huge, 0, 100), 100);
	EXPECT_COUNTERS(test, mm, u.second, 0, all + 1, all);

	/* What is refused changes nothing; of the huge page there may be more */
	pin_test_limit(all);
	KUNIT_EXPECT_EQ(test, account_pin(t, c, t->addr, all, 1), -ENOMEM);
	EXPECT_COUNTERS(test, mm, u.second, 0, all + 1, all);
	KUNIT_EXPECT_EQ(test, account_pin(t, c, huge, 3, 1), 1);
	EXPECT_COUNTERS(test, mm, u.second, 0, all + 1, all);
	account_put(t, c, 3, 1);

	account_put(t, u.b, 0, all);
	account_put(t, u.b, 0, all);
	EXPECT_COUNTERS(test, mm, u.second, 0, 101, 100);
	account_put(t, c, 0, 10);
	EXPECT_COUNTERS(test, mm, u.second, 0, 91, 90);

	/* The account that was first ends first */
	pin_account_put(u.b);
	EXPECT_COUNTERS(test, mm, u.second, 0, 91, 90);
	account_put(t, c, 10, 90);
	KUNIT_EXPECT_TRUE(test, xa_empty(&c->second->folios));
	EXPECT_COUNTERS(test, mm, u.second, 0, 1, 0);
	pin_account_put(c);
	KUNIT_EXPECT_TRUE(test, list_empty(&u.a->ledger->second_users));
	account_put(t, u.a, all + 1, 1);
	pin_account_put(u.a);
	account_test_users_end(&u);
}

/* The first user has gone, and the second one gets another holder */
static void second_user_stays_second(struct kunit *test)
{
	const unsigned int flags = PIN_COUNT_USER | PIN_COUNT_PINNED;
	const unsigned long all = PMD_SIZE >> PAGE_SHIFT;
	struct account_test *t = test->priv;
	unsigned long huge = pin_test_map_huge(test, PMD_SIZE);
	struct mm_struct *mm = t->base.mm;
	struct two_users u = account_test_users(test, 70014, NULL, flags);
	struct pin_account *c;

	KUNIT_EXPECT_EQ(test, account_pin(t, u.b, huge, 0, all), all);
	pin_account_put(u.a);
	c = account_test_get(test, mm, NULL, flags, u.second);
	KUNIT_EXPECT_EQ(test, account_pin(t, c, huge, 0, all), all);
	EXPECT_COUNTERS(test, mm, u.second, 0, all, all);
	account_put(t, u.b, 0, all);
	pin_account_put(u.b);
	EXPECT_COUNTERS(test, mm, u.second, 0, all, all);
	account_put(t, c, 0, all);
	pin_account_put(c);
	EXPECT_COUNTERS(test, mm, u.second, 0, 0, 0);

	/* It is first when nothing of it is left */
	c = account_test_get(test, mm, NULL, flags, u.second);
	KUNIT_EXPECT_NULL(test, c->second);
	pin_account_put(c);
	account_test_users_end(&u);
}

static void second_user_counts_nothing_without_memory(struct kunit *test)
{
	const unsigned int flags = PIN_COUNT_USER | PIN_COUNT_PINNED;
	const unsigned long all = PMD_SIZE >> PAGE_SHIFT;
	struct account_test *t = test->priv;
	unsigned long huge = pin_test_map_huge(test, PMD_SIZE), index;
	struct mm_struct *mm = t->base.mm;
	struct two_users u = account_test_users(test, 70012, t, flags);
	struct pin_test_sweep *sweep;
	bool more;
	long ret;

	pin_test_slab_faults(test);
	sweep = pin_test_sweep(test);
	do {
		pin_test_sweep_begin(sweep);
		ret = account_pin(t, u.b, huge, 0, all);
		more = pin_test_sweep_end(sweep, ret < 0);
		if (ret < 0) {
			KUNIT_EXPECT_EQ(test, ret, -ENOMEM);
		} else {
			EXPECT_COUNTERS(test, mm, u.second, 0, ret, ret);
			account_put(t, u.b, 0, ret);
		}
		EXPECT_COUNTERS(test, mm, u.second, 0, 0, 0);
		index = 0;
		KUNIT_EXPECT_NULL(test, xa_find(&u.b->second->folios, &index, ULONG_MAX,
						XA_PRESENT));
	} while (more);
	KUNIT_EXPECT_GT(test, sweep->failures, 0);
	pin_account_put(u.a);
	pin_account_put(u.b);
	account_test_users_end(&u);
}

/* A user takes the place of one who has nothing any more */
static void next_user_counts_a_page_once(struct kunit *test)
{
	const unsigned int flags = PIN_COUNT_USER | PIN_COUNT_PINNED;
	struct account_test *t = test->priv;
	struct mm_struct *mm = t->base.mm;
	struct user_struct *first = account_test_user(test, 70008);
	struct user_struct *user = account_test_user(test, 70009);
	struct pin_account *a, *b;

	a = account_test_get(test, mm, NULL, flags, first);
	account_pin(t, a, t->addr, 0, 10);
	account_put(t, a, 0, 10);
	pin_account_put(a);
	a = account_test_get(test, mm, NULL, flags, user);
	b = account_test_get(test, mm, NULL, flags, user);
	account_pin(t, a, t->addr, 0, 10);
	account_pin(t, b, t->addr, 0, 10);
	EXPECT_COUNTERS(test, mm, user, 0, 10, 10);
	account_put(t, a, 0, 10);
	account_put(t, b, 0, 10);
	EXPECT_COUNTERS(test, mm, user, 0, 0, 0);
	pin_account_put(a);
	pin_account_put(b);
	free_uid(first);
	free_uid(user);
}

/* Stock code may leave VmPin below 0, of a process that put what another pinned */
static void counter_below_zero_refuses_nobody(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct mm_struct *mm = t->base.mm;
	struct pin_account *acct = account_test_get(test, mm, NULL,
						    PIN_COUNT_PINNED, NULL);

	atomic64_set(&mm->pinned_vm, -10);
	t->owner.lock_cap = true;
	KUNIT_EXPECT_EQ(test, account_pin(t, acct, t->addr, 0, 5), 5);
	KUNIT_EXPECT_EQ(test, atomic64_read(&mm->pinned_vm), -5);
	t->owner.lock_cap = false;
	pin_test_limit(5);
	KUNIT_EXPECT_EQ(test, account_pin(t, acct, t->addr, 5, 5), 5);
	KUNIT_EXPECT_EQ(test, atomic64_read(&mm->pinned_vm), 0);
	account_put(t, acct, 0, 10);
	KUNIT_EXPECT_EQ(test, atomic64_read(&mm->pinned_vm), -10);
	atomic64_set(&mm->pinned_vm, 0);
	pin_account_put(acct);
}

/* A cgroup that refuses leaves no counter changed, of no user either */
static void refusal_by_cgroup_changes_no_counter(struct kunit *test)
{
	const unsigned int flags = PIN_COUNT_USER | PIN_COUNT_PINNED;
	struct account_test *t = test->priv;
	struct mm_struct *mm = t->base.mm;
	struct misc_cg *cg = pin_test_cgroups(test, 1);
	struct two_users u = account_test_users(test, 70005, NULL, flags);

	pin_test_join(&u.a->ledger->cgroup, cg);
	pin_test_cgroup_limit(cg, 10);
	KUNIT_EXPECT_EQ(test, account_pin(t, u.a, t->addr, 0, 11), -EBUSY);
	KUNIT_EXPECT_EQ(test, account_pin(t, u.b, t->addr, 0, 11), -EBUSY);
	EXPECT_COUNTERS(test, mm, u.first, 0, 0, 0);
	EXPECT_COUNTERS(test, mm, u.second, 0, 0, 0);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 0);
	KUNIT_EXPECT_EQ(test, account_pin(t, u.b, t->addr, 0, 10), 10);
	account_put(t, u.b, 0, 10);
	pin_account_put(u.a);
	pin_account_put(u.b);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 0);
	account_test_users_end(&u);
}

/* Who asks for the same object gets the same account, as long as it lives */
static void object_has_an_account_per_mm_and_user(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct mm_struct *mm = t->base.mm, *other = pin_test_other_mm(test);
	size_t before = nr_accounts();
	int object[2];
	struct pin_account *a, *b, *same;

	a = account_test_get(test, mm, object, PIN_COUNT_PINNED, NULL);
	same = account_test_get(test, mm, object, PIN_COUNT_PINNED, NULL);
	KUNIT_EXPECT_PTR_EQ(test, a, same);
	KUNIT_EXPECT_EQ(test, nr_accounts(), before + 1);
	b = account_test_get(test, mm, object + 1, PIN_COUNT_PINNED, NULL);
	KUNIT_EXPECT_PTR_NE(test, a, b);
	pin_account_put(b);
	b = account_test_get(test, other, object, PIN_COUNT_PINNED, NULL);
	KUNIT_EXPECT_PTR_NE(test, a, b);
	pin_account_put(b);
	b = account_test_get(test, mm, object, 0, NULL);
	KUNIT_EXPECT_PTR_NE(test, a, b);
	pin_account_put(b);

	KUNIT_EXPECT_EQ(test, account_pin(t, a, t->addr, 0, 3), 3);
	pin_account_put(a);
	KUNIT_EXPECT_EQ(test, nr_accounts(), before + 1);
	account_put(t, same, 0, 3);
	pin_account_put(same);
	KUNIT_EXPECT_EQ(test, nr_accounts(), before);
}

/* A device keeps pages: they stay charged, and nobody forgets whose they are */
static void account_with_pins_does_not_end(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct mm_struct *mm = t->base.mm;
	size_t before = nr_accounts();
	struct pin_account *a, *b;
	int object;

	a = account_test_get(test, mm, &object, PIN_COUNT_PINNED, NULL);
	KUNIT_EXPECT_EQ(test, account_pin(t, a, t->addr, 0, 10), 10);
	/* Who closes puts what it can, and does not settle */
	account_put(t, a, 0, 7);
	pin_account_put(a);
	KUNIT_EXPECT_EQ(test, nr_accounts(), before + 1);
	KUNIT_EXPECT_EQ(test, atomic64_read(&mm->pinned_vm), 3);
	KUNIT_EXPECT_EQ(test, a->ledger->in_cgroup, 3);
	KUNIT_EXPECT_EQ(test, a->ledger->uncounted, 0);
	/* The next object of that place gets another one */
	b = account_test_get(test, mm, &object, PIN_COUNT_PINNED, NULL);
	KUNIT_EXPECT_PTR_NE(test, a, b);
	pin_account_put(b);
	account_put(t, a, 7, 3);
	pin_account_put(a);
	KUNIT_EXPECT_EQ(test, nr_accounts(), before);
	KUNIT_EXPECT_EQ(test, atomic64_read(&mm->pinned_vm), 0);
}

/* After exec() VmPin is 0, as ever, but a user's counter stays */
static void adoption_leaves_vmpin_behind(struct kunit *test)
{
	const unsigned int flags = PIN_COUNT_USER | PIN_COUNT_PINNED;
	struct account_test *t = test->priv;
	struct mm_struct *new = pin_test_other_mm(test);
	struct user_struct *user = account_test_user(test, 70007);
	struct pin_account *a, *b;

	a = account_test_get(test, t->base.mm, NULL, flags, user);
	account_pin(t, t->acct, t->addr, 0, 5);
	account_pin(t, a, t->addr, 10, 20);
	EXPECT_COUNTERS(test, t->base.mm, user, 5, 20, 20);
	pin_test_mm_dies(test, &t->base);
	KUNIT_EXPECT_EQ(test, pin_account_adopt(t->acct, &t->owner, new), 0);
	EXPECT_COUNTERS(test, new, user, 5, 0, 20);
	KUNIT_EXPECT_EQ(test, a->ledger->held_now, 25);

	/* What the new process pins by itself is in its VmPin */
	b = account_test_get(test, new, NULL, PIN_COUNT_PINNED, NULL);
	EXPECT_COUNTERS(test, new, user, 5, 0, 20);
	account_put(t, a, 10, 8);
	EXPECT_COUNTERS(test, new, user, 5, 0, 12);
	account_put(t, a, 18, 12);
	EXPECT_COUNTERS(test, new, user, 5, 0, 0);
	account_put(t, t->acct, 0, 5);
	EXPECT_COUNTERS(test, new, user, 0, 0, 0);
	pin_account_put(a);
	pin_account_put(b);
	free_uid(user);
}

/* Pins of another kind count with the others for the host, not for the limit */
static void uncharged_pins_are_held_once_with_others(struct kunit *test)
{
	struct account_test *t = test->priv;
	unsigned long huge = pin_test_map_huge(test, PMD_SIZE);
	struct misc_cg *cg = pin_test_cgroups(test, 1);
	struct pin_account *b;

	b = pin_account_get(t->base.mm, NULL, "other", 0, NULL);
	KUNIT_ASSERT_FALSE(test, IS_ERR(b));
	pin_test_join(&b->ledger->cgroup, cg);
	pin_test_limit(0);
	KUNIT_EXPECT_EQ(test, account_pin(t, b, t->addr, 0, 20), 20);
	KUNIT_EXPECT_EQ(test, account_pin(t, b, huge, 20, 7), 7);
	EXPECT_CHARGE(test, b, 0, 20 + TABLE_PAGES);
	KUNIT_EXPECT_EQ(test, t->base.mm->pin_charge, 0);
	KUNIT_EXPECT_EQ(test, pin_test_charged(), t->base.charged + 27);

	/* From both sides of what the other has, and on the same folio */
	pin_test_limit(ULONG_MAX >> PAGE_SHIFT);
	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, 10, 10), 10);
	KUNIT_EXPECT_EQ(test, pin_user_pages_account(t->acct, &t->owner,
						     t->addr + 20 * PAGE_SIZE, 5,
						     FOLL_WRITE, t->pages + 100),
			5);
	KUNIT_EXPECT_EQ(test, pin_user_pages_account(t->acct, &t->owner, huge,
						     TABLE_PAGES, FOLL_WRITE,
						     t->pages + 200),
			TABLE_PAGES);
	EXPECT_CHARGE(test, t->acct, 15 + TABLE_PAGES, 25 + TABLE_PAGES);
	KUNIT_EXPECT_EQ(test, pin_test_charged(),
			t->base.charged + 25 + TABLE_PAGES);
	pin_account_settle(b);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 25 + TABLE_PAGES);

	account_put(t, b, 20, 7);
	account_put(t, b, 0, 10);
	EXPECT_CHARGE(test, t->acct, 15 + TABLE_PAGES, 15 + TABLE_PAGES);
	/* t->pages has the same pages for both here */
	account_put(t, t->acct, 10, 10);
	EXPECT_CHARGE(test, t->acct, 5 + TABLE_PAGES, 15 + TABLE_PAGES);
	account_put(t, b, 10, 10);
	EXPECT_CHARGE(test, t->acct, 5 + TABLE_PAGES, 5 + TABLE_PAGES);
	put_user_pages_account(t->acct, t->pages + 100, 5, false);
	put_user_pages_account(t->acct, t->pages + 200, TABLE_PAGES, false);
	KUNIT_EXPECT_TRUE(test, account_at_rest(b));
	pin_account_put(b);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 0);
}

static void account_is_not_adopted_by_mm_with_ledger(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct mm_struct *new = pin_test_other_mm(test);
	struct pin_account *other = account_test_create(test, new), *another;

	KUNIT_EXPECT_TRUE(test, pin_account_is_idle(t->acct));
	account_pin(t, t->acct, t->addr, 0, 10);
	KUNIT_EXPECT_FALSE(test, pin_account_is_idle(t->acct));
	pin_test_mm_dies(test, &t->base);
	KUNIT_EXPECT_EQ(test, pin_account_adopt(t->acct, &t->owner, new),
			-EEXIST);
	KUNIT_EXPECT_TRUE(test, pin_account_is_for(t->acct, t->base.mm));
	KUNIT_EXPECT_EQ(test, new->pin_charge, 0);

	another = account_test_create(test, new);
	KUNIT_EXPECT_FALSE(test, pin_account_is_idle(other));
	pin_account_put(another);
	KUNIT_EXPECT_TRUE(test, pin_account_is_idle(other));
	pin_account_put(other);
	KUNIT_EXPECT_EQ(test, pin_account_adopt(t->acct, &t->owner, new), 0);
	account_put(t, t->acct, 0, 10);
}

/* A huge page, some small ones: what a VM's memory is made of */
#define MOVE_SMALL	10
#define MOVE_PAGES	(MOVE_SMALL + TABLE_PAGES)

static void move_test_pin(struct kunit *test)
{
	struct account_test *t = test->priv;
	unsigned long huge = pin_test_map_huge(test, PMD_SIZE);

	KUNIT_ASSERT_EQ(test, account_pin(t, t->acct, t->addr, 0, MOVE_SMALL),
			MOVE_SMALL);
	KUNIT_ASSERT_EQ(test, pin_user_pages_account(t->acct, &t->owner, huge,
						     TABLE_PAGES, FOLL_WRITE,
						     t->pages + MOVE_SMALL),
			TABLE_PAGES);
	pin_account_settle(t->acct);
}

static int move_test_in(struct account_test *t, struct pin_move *move)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < MOVE_SMALL && !ret; i++)
		ret = pin_move_in(move, page_to_pfn(t->pages[i]), 1);
	if (!ret)
		ret = pin_move_in(move, page_to_pfn(t->pages[i]), TABLE_PAGES);
	return ret;
}

static void move_test_out(struct account_test *t, struct pin_move *move,
			  void (*out)(struct pin_move *move, unsigned long pfn,
				      unsigned long npages))
{
	unsigned int i;

	for (i = 0; i < MOVE_SMALL; i++)
		out(move, page_to_pfn(t->pages[i]), 1);
	out(move, page_to_pfn(t->pages[i]), TABLE_PAGES);
}

static void moved_pins_are_in_both_accounts_between(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct mm_struct *mm = pin_test_other_mm(test);
	struct pin_account *to;
	struct pin_move move;

	move_test_pin(test);
	to = account_test_create(test, mm);
	pin_move_begin(&move, t->acct, to, &t->owner);
	KUNIT_EXPECT_EQ(test, move_test_in(t, &move), 0);
	EXPECT_ACCOUNT(test, to, MOVE_PAGES, MOVE_PAGES, MOVE_PAGES);
	EXPECT_CHARGE(test, to, MOVE_PAGES, MOVE_PAGES);
	KUNIT_EXPECT_EQ(test, mm->pin_charge, MOVE_PAGES);
	EXPECT_CHARGE(test, t->acct, MOVE_PAGES, MOVE_PAGES);
	KUNIT_EXPECT_EQ(test, t->base.mm->pin_charge, MOVE_PAGES);

	move_test_out(t, &move, pin_move_out);
	pin_move_end(&move);
	EXPECT_ACCOUNT(test, t->acct, 0, MOVE_PAGES, MOVE_PAGES);
	EXPECT_CHARGE(test, t->acct, 0, 0);
	KUNIT_EXPECT_EQ(test, t->base.mm->pin_charge, 0);

	/* They have been pinned all the time, and once */
	KUNIT_EXPECT_EQ(test, pin_test_pins(t->pages[0]), 1);
	KUNIT_EXPECT_EQ(test, pin_test_pins(t->pages[MOVE_SMALL]), TABLE_PAGES);
	account_put(t, to, 0, MOVE_PAGES);
	KUNIT_EXPECT_EQ(test, pin_test_pins(t->pages[0]), 0);
	KUNIT_EXPECT_EQ(test, pin_test_pins(t->pages[MOVE_SMALL]), 0);
	KUNIT_EXPECT_TRUE(test, account_at_rest(to));
	pin_account_put(to);
}

static void move_can_be_undone(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct mm_struct *mm = pin_test_other_mm(test);
	struct pin_account *to;
	struct pin_move move;

	move_test_pin(test);
	to = account_test_create(test, mm);
	pin_move_begin(&move, t->acct, to, &t->owner);
	KUNIT_EXPECT_EQ(test, move_test_in(t, &move), 0);
	move_test_out(t, &move, pin_move_undo);
	pin_move_end(&move);
	KUNIT_EXPECT_TRUE(test, account_at_rest(to));
	KUNIT_EXPECT_EQ(test, mm->pin_charge, 0);
	EXPECT_CHARGE(test, t->acct, MOVE_PAGES, MOVE_PAGES);
	KUNIT_EXPECT_EQ(test, pin_test_pins(t->pages[0]), 1);
	account_put(t, t->acct, 0, MOVE_PAGES);
	pin_account_put(to);
}

static void move_keeps_to_limit_and_leaves_nothing(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct mm_struct *mm = pin_test_other_mm(test);
	struct pin_account *to;
	struct pin_move move;
	unsigned long pfn;

	move_test_pin(test);
	to = account_test_create(test, mm);
	pfn = page_to_pfn(t->pages[MOVE_SMALL]);
	pin_move_begin(&move, t->acct, to, &t->owner);
	pin_test_limit(TABLE_PAGES - 1);
	KUNIT_EXPECT_EQ(test, pin_move_in(&move, pfn, TABLE_PAGES), -ENOMEM);
	KUNIT_EXPECT_EQ(test, to->refused[PIN_REASON_MEMLOCK], 1);
	KUNIT_EXPECT_TRUE(test, account_at_rest(to));
	KUNIT_EXPECT_EQ(test, mm->pin_charge, 0);
	KUNIT_EXPECT_EQ(test, pin_move_in(&move, pfn, TABLE_PAGES - 1), 0);
	/* There it is charged for already */
	KUNIT_EXPECT_EQ(test, pin_move_in(&move, pfn, 1), -ENOMEM);
	pin_move_undo(&move, pfn, TABLE_PAGES - 1);
	pin_move_end(&move);
	account_put(t, t->acct, 0, MOVE_PAGES);
	pin_account_put(to);
}

static void move_keeps_to_cgroup_and_leaves_nothing(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct misc_cg *cg = pin_test_cgroups(test, 1);
	struct pin_account *to;
	struct pin_move move;
	unsigned long pfn;

	move_test_pin(test);
	to = account_test_create(test, pin_test_other_mm(test));
	pin_test_join(&to->ledger->cgroup, cg);
	pin_test_cgroup_limit(cg, TABLE_PAGES - 1);
	pfn = page_to_pfn(t->pages[MOVE_SMALL]);
	pin_move_begin(&move, t->acct, to, &t->owner);
	KUNIT_EXPECT_EQ(test, pin_move_in(&move, pfn, TABLE_PAGES), -EBUSY);
	KUNIT_EXPECT_TRUE(test, account_at_rest(to));
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 0);
	KUNIT_EXPECT_EQ(test, to->ledger->mm->pin_charge, 0);
	pin_test_cgroup_limit(cg, MOVE_PAGES);
	KUNIT_EXPECT_EQ(test, move_test_in(t, &move), 0);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), MOVE_PAGES);
	move_test_out(t, &move, pin_move_undo);
	pin_move_end(&move);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 0);
	account_put(t, t->acct, 0, MOVE_PAGES);
	pin_account_put(to);
}

/* Both below a cgroup that has room for the pages once */
static void move_needs_no_room_above_both(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct misc_cg *cg = pin_test_cgroups(test, 2);
	struct misc_cg *other = pin_test_cgroups(test, 1);
	struct pin_account *to, *b;
	struct pin_move move;

	pin_test_cgroup_below(other, &cg[1]);
	pin_test_join(&t->acct->ledger->cgroup, cg);
	pin_test_cgroup_limit(&cg[1], MOVE_PAGES);
	move_test_pin(test);
	to = account_test_create(test, pin_test_other_mm(test));
	pin_test_join(&to->ledger->cgroup, other);

	/* Undone */
	pin_move_begin(&move, t->acct, to, &t->owner);
	KUNIT_EXPECT_EQ(test, move_test_in(t, &move), 0);
	KUNIT_EXPECT_EQ(test, pin_test_usage(other), MOVE_PAGES);
	KUNIT_EXPECT_EQ(test, pin_test_usage(&cg[1]), MOVE_PAGES);
	move_test_out(t, &move, pin_move_undo);
	pin_move_end(&move);
	KUNIT_EXPECT_EQ(test, pin_test_usage(other), 0);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), MOVE_PAGES);
	KUNIT_EXPECT_EQ(test, pin_test_usage(&cg[1]), MOVE_PAGES);

	/* Done */
	pin_move_begin(&move, t->acct, to, &t->owner);
	KUNIT_EXPECT_EQ(test, move_test_in(t, &move), 0);
	move_test_out(t, &move, pin_move_out);
	/* Nobody can take the room in between */
	KUNIT_EXPECT_EQ(test, t->acct->ledger->in_cgroup, 0);
	KUNIT_EXPECT_EQ(test, move.owed, 0);
	pin_move_end(&move);
	KUNIT_EXPECT_EQ(test, pin_test_usage(other), MOVE_PAGES);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 0);
	KUNIT_EXPECT_EQ(test, pin_test_usage(&cg[1]), MOVE_PAGES);
	KUNIT_EXPECT_EQ(test, pin_test_cgroup_refusals(&cg[1]), 0);

	/* Back, while another holder keeps some: then both ledgers hold them */
	b = account_test_create(test, to->ledger->mm);
	pin_move_begin(&move, to, b, &t->owner);
	KUNIT_EXPECT_EQ(test, pin_move_in(&move, page_to_pfn(t->pages[0]), 1),
			0);
	pin_move_end(&move);
	pin_move_begin(&move, to, t->acct, &t->owner);
	KUNIT_EXPECT_EQ(test, move_test_in(t, &move), 0);
	move_test_out(t, &move, pin_move_out);
	pin_move_end(&move);
	KUNIT_EXPECT_EQ(test, pin_test_usage(other), 1);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), MOVE_PAGES);
	KUNIT_EXPECT_EQ(test, pin_test_usage(&cg[1]), MOVE_PAGES + 1);
	pin_move_begin(&move, b, t->acct, &t->owner);
	pin_move_out(&move, page_to_pfn(t->pages[0]), 1);
	pin_move_end(&move);
	KUNIT_EXPECT_EQ(test, pin_test_usage(&cg[1]), MOVE_PAGES);

	account_put(t, t->acct, 0, MOVE_PAGES);
	pin_account_settle(t->acct);
	KUNIT_EXPECT_EQ(test, pin_test_usage(&cg[1]), 0);
	pin_account_put(b);
	pin_account_put(to);
}

static void move_overflow_leaves_nothing(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct mm_struct *mm = pin_test_other_mm(test);
	struct pin_account *to;
	struct pin_move move;
	struct page *page;

	move_test_pin(test);
	to = account_test_create(test, mm);
	page = t->pages[0];
	page_ref_add(page, PIN_REFCOUNT_MAX);
	pin_move_begin(&move, t->acct, to, &t->owner);
	KUNIT_EXPECT_EQ(test, move_test_in(t, &move), -EOVERFLOW);
	page_ref_sub(page, PIN_REFCOUNT_MAX);
	KUNIT_EXPECT_TRUE(test, account_at_rest(to));
	account_put(t, t->acct, 0, MOVE_PAGES);
	pin_account_put(to);
}

static void holder_can_report_pfnmap_itself(struct kunit *test)
{
	struct account_test *t = test->priv;

	pin_account_refused(t->acct, &t->owner, t->addr, 1, FOLL_WRITE,
			    -EFAULT, PIN_REASON_PFNMAP);
	KUNIT_EXPECT_EQ(test, t->acct->refused[PIN_REASON_PFNMAP], 1);
	KUNIT_EXPECT_EQ(test, account_refusals(t->acct), 1);
}

/* For the account, its name, or its ledger */
static void account_is_not_made_without_memory(struct kunit *test)
{
	struct mm_struct *mm = pin_test_other_mm(test);
	size_t nr = nr_accounts();
	void *faults = pin_test_slab_faults(test);
	unsigned int bytes, failures = 0;
	struct pin_account *acct;

	for (bytes = 0; bytes < SZ_16K; bytes += 8) {
		pin_test_fail_after(faults, bytes);
		acct = pin_account_get(mm, NULL, "other",
				       PIN_COUNT_LOCKED, NULL);
		pin_test_fail_all(faults, false);
		if (!IS_ERR(acct))
			break;
		failures++;
		KUNIT_EXPECT_EQ(test, PTR_ERR(acct), -ENOMEM);
		KUNIT_EXPECT_NULL(test, rcu_access_pointer(mm->pin_ledger));
		KUNIT_EXPECT_EQ(test, nr_accounts(), nr);
	}
	KUNIT_EXPECT_GT(test, failures, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR(acct));
	pin_account_put(acct);
	KUNIT_EXPECT_NULL(test, rcu_access_pointer(mm->pin_ledger));
}

/*
 * Each allocation of a pin fails in turn, from the page fault to the ledger:
 * for @extents or an array, of memory that is there already or not.
 */
static void account_fail_each(struct kunit *test, bool extents, bool there)
{
	struct account_test *t = test->priv;
	struct pin_test_sweep *sweep;
	unsigned int nr = 0;
	bool more;

	pin_test_slab_faults(test);
	pin_test_page_faults(test);
	sweep = pin_test_sweep(test);
	do {
		u64 refused = account_refusals(t->acct);
		unsigned long addr = t->addr;
		size_t size = 2 * PMD_SIZE;
		long ret;

		if (!there) {
			addr = vm_mmap(NULL, 0, size, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, 0);
			KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(addr));
			do_madvise(current->mm, addr, size, MADV_NOHUGEPAGE);
		}

		pin_test_sweep_begin(sweep);
		if (extents)
			ret = account_pin_extents(t, addr, 40, 40, &nr);
		else
			ret = account_pin(t, t->acct, addr, 0, 40);
		more = pin_test_sweep_end(sweep, ret < 0);
		if (ret < 0) {
			KUNIT_EXPECT_EQ(test, ret, -ENOMEM);
			KUNIT_EXPECT_EQ(test, account_refusals(t->acct),
					refused + 1);
		} else {
			KUNIT_EXPECT_GT(test, ret, 0);
			EXPECT_CHARGE(test, t->acct, ret, ret);
			KUNIT_EXPECT_EQ(test, account_refusals(t->acct),
					refused);
		}
		if (ret > 0 && extents)
			account_put_extents(t, nr);
		else if (ret > 0)
			account_put(t, t->acct, 0, ret);
		pin_account_settle(t->acct);
		KUNIT_EXPECT_TRUE(test, account_at_rest(t->acct));
		KUNIT_EXPECT_EQ(test, t->base.mm->pin_charge, 0);
		if (!there)
			vm_munmap(addr, size);
	} while (more);
	KUNIT_EXPECT_GT(test, sweep->failures, 0);
	KUNIT_EXPECT_EQ(test, t->acct->refused[PIN_REASON_NOMEM],
			sweep->failures);
	KUNIT_EXPECT_EQ(test, pin_test_pins(pin_test_page(test, t->addr)), 0);
}

static void any_failed_allocation_leaves_nothing_pinned(struct kunit *test)
{
	account_fail_each(test, false, true);
}

static void any_failed_fault_leaves_nothing_pinned(struct kunit *test)
{
	account_fail_each(test, false, false);
}

static void any_failed_allocation_leaves_no_extent_pinned(struct kunit *test)
{
	account_fail_each(test, true, true);
}

/* Entries are made that wait for memory. Meanwhile somebody sets a limit, and kills us */
static void kill_at_wait(void *test, unsigned long call_site, const void *ptr,
			 struct kmem_cache *s, gfp_t gfp, int node)
{
	struct account_test *t = ((struct kunit *)test)->priv;

	if (current == t->owner.task && in_task() && t->owner.lock_cap &&
	    gfp & __GFP_DIRECT_RECLAIM) {
		t->owner.lock_cap = false;
		pin_test_killed(true);
	}
}

static void kill_at_wait_end(void *test)
{
	unregister_trace_kmem_cache_alloc(kill_at_wait, test);
	tracepoint_synchronize_unregister();
}

static void kill_after_wait_for_memory_leaves_nothing_pinned(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct pin_test_sweep *sweep;
	struct task_struct *task;
	long ret;

	pin_test_slab_faults(test);
	sweep = pin_test_sweep(test);
	ret = register_trace_kmem_cache_alloc(kill_at_wait, test);
	KUNIT_ASSERT_EQ(test, ret, 0);
	ret = kunit_add_action_or_reset(test, kill_at_wait_end, test);
	KUNIT_ASSERT_EQ(test, ret, 0);

	task = pin_test_hold_mmap_lock(test, t->base.mm);
	/* The first try takes no mmap_lock, for no limit applies; the second waits for it */
	t->owner.lock_cap = true;
	pin_test_sweep_begin(sweep);
	ret = account_pin(t, t->acct, t->addr, 0, 40);
	pin_test_sweep_end(sweep, ret < 0);
	pin_test_killed(false);
	kthread_stop(task);
	KUNIT_EXPECT_EQ(test, ret, -EINTR);
	KUNIT_EXPECT_FALSE(test, t->owner.lock_cap);
	KUNIT_EXPECT_TRUE(test, account_at_rest(t->acct));
	KUNIT_EXPECT_EQ(test, t->base.mm->pin_charge, 0);
	KUNIT_EXPECT_EQ(test, pin_test_pins(pin_test_page(test, t->addr)), 0);
	KUNIT_EXPECT_EQ(test, account_refusals(t->acct), 0);
}

static void any_failed_allocation_leaves_nothing_moved(struct kunit *test)
{
	struct account_test *t = test->priv;
	struct mm_struct *mm = pin_test_other_mm(test);
	struct pin_test_sweep *sweep;
	struct pin_account *to;
	struct pin_move move;
	bool more;

	pin_test_slab_faults(test);
	move_test_pin(test);
	to = account_test_create(test, mm);
	pin_move_begin(&move, t->acct, to, &t->owner);
	sweep = pin_test_sweep(test);
	do {
		unsigned long pfn = page_to_pfn(t->pages[0]);
		int ret;

		pin_test_sweep_begin(sweep);
		ret = pin_move_in(&move, pfn, 1);
		more = pin_test_sweep_end(sweep, ret);
		if (ret || sweep->refused)
			KUNIT_EXPECT_EQ(test, ret, -ENOMEM);
		else
			pin_move_undo(&move, pfn, 1);
		KUNIT_EXPECT_TRUE(test, account_at_rest(to));
	} while (more);
	pin_move_end(&move);
	KUNIT_EXPECT_GT(test, sweep->failures, 0);
	EXPECT_CHARGE(test, t->acct, MOVE_PAGES, MOVE_PAGES);
	account_put(t, t->acct, 0, MOVE_PAGES);
	pin_account_put(to);
}

static void put_of_account_needs_no_memory(struct kunit *test)
{
	struct account_test *t = test->priv;
	void *slab = pin_test_slab_faults(test);
	void *pages = pin_test_page_faults(test);

	account_pin(t, t->acct, t->addr, 0, 2 * TABLE_PAGES);
	pin_test_fail_all(slab, true);
	pin_test_fail_all(pages, true);
	account_put(t, t->acct, 0, TABLE_PAGES);
	put_user_pages_account(t->acct, t->pages + TABLE_PAGES, TABLE_PAGES,
			       true);
	pin_account_settle(t->acct);
	pin_test_fail_all(slab, false);
	pin_test_fail_all(pages, false);
	KUNIT_EXPECT_TRUE(test, account_at_rest(t->acct));
	KUNIT_EXPECT_EQ(test, t->base.mm->pin_charge, 0);
	KUNIT_EXPECT_EQ(test, pin_test_pins(t->pages[0]), 0);
}

#define GIGANTIC_PAGES	(SZ_1G >> PAGE_SHIFT)

static void gigantic_page_is_charged_once(struct kunit *test)
{
	struct account_test *t = test->priv;
	unsigned long addr = pin_test_map_gigantic(test), pfn;
	struct pin_account *b = account_test_create(test, t->base.mm);
	struct page *page;
	unsigned int nr;

	KUNIT_EXPECT_EQ(test, account_pin(t, b, addr, 100, 7), 7);
	EXPECT_CHARGE(test, b, 7, GIGANTIC_PAGES);
	page = t->pages[100];
	KUNIT_EXPECT_EQ(test, account_pin_extents(t, addr, GIGANTIC_PAGES,
						  PIN_EXTENTS_MIN + 1, &nr),
			GIGANTIC_PAGES);
	KUNIT_EXPECT_EQ(test, nr, 1);
	KUNIT_EXPECT_EQ(test, t->extents[0].npages, GIGANTIC_PAGES);
	pfn = t->extents[0].pfn;
	KUNIT_EXPECT_EQ(test, pfn + 100, page_to_pfn(page));
	EXPECT_CHARGE(test, b, GIGANTIC_PAGES, GIGANTIC_PAGES);
	KUNIT_EXPECT_EQ(test, pin_test_pins(page), GIGANTIC_PAGES + 7);
	pin_account_settle(b);
	KUNIT_EXPECT_EQ(test, t->base.mm->pin_charge, GIGANTIC_PAGES);

	put_user_pfns_account(t->acct, pfn, GIGANTIC_PAGES, true);
	EXPECT_CHARGE(test, b, 7, GIGANTIC_PAGES);
	KUNIT_EXPECT_EQ(test, pin_test_pins(page), 7);
	account_put(t, b, 100, 7);
	EXPECT_CHARGE(test, b, 0, 0);
	KUNIT_EXPECT_EQ(test, pin_test_pins(page), 0);
	pin_account_put(b);
	vm_munmap(addr, SZ_1G);
}

/*
 * A holder puts more than it pinned. That is told once per boot, so this is the
 * only test that may do it, at each place where it can be noticed.
 */
static void put_of_more_than_was_pinned_is_told(struct kunit *test)
{
	struct account_test *t = test->priv;
	unsigned long huge = pin_test_map_huge(test, PMD_SIZE);
	bool tainted = test_taint(TAINT_WARN);
	struct pin_ledger *ledger = t->acct->ledger;
	struct pin_move move = { .from = t->acct };
	struct page *page[2], *others;
	struct pin_step step;

	/* Somebody else's pins, which are in no ledger */
	KUNIT_ASSERT_EQ(test, 1, pin_user_pages_fast(t->addr, 1, FOLL_WRITE,
						     &page[0]));
	KUNIT_ASSERT_EQ(test, 1, pin_user_pages_fast(huge, 1, FOLL_WRITE,
						     &page[1]));
	others = page[1];

	/* Neither small page nor folio has an entry */
	put_user_pages_account(t->acct, page, 2, true);
	if (!tainted)
		KUNIT_EXPECT_TRUE(test, test_taint(TAINT_WARN));
	EXPECT_ACCOUNT(test, t->acct, 0, 0, 0);
	EXPECT_CHARGE(test, t->acct, 0, 0);

	/* They have, but with fewer pins */
	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, t->addr, 0, 3), 3);
	account_put(t, t->acct, 0, 1);
	account_put(t, t->acct, 0, 3);
	EXPECT_ACCOUNT(test, t->acct, 0, 3, 3);
	KUNIT_EXPECT_EQ(test, pin_test_pins(page[0]), 1);
	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, huge, 0, 5), 5);
	put_user_pfns_account(t->acct, page_to_pfn(others), 8, true);
	EXPECT_ACCOUNT(test, t->acct, 0, 5, 8);
	EXPECT_CHARGE(test, t->acct, 0, 0);
	KUNIT_EXPECT_EQ(test, pin_test_pins(others), 1);

	/* The ledger says how many it took off */
	KUNIT_EXPECT_EQ(test, account_pin(t, t->acct, huge, 0, 5), 5);
	mutex_lock(&ledger->lock);
	KUNIT_EXPECT_EQ(test, pin_ledger_sub(ledger, PIN_PLANE_LOCKED,
					     page_to_pfn(others), 8, 0,
					     &step), 8);
	KUNIT_EXPECT_EQ(test, step.counted, 5);
	KUNIT_EXPECT_FALSE(test, step.gone);
	KUNIT_EXPECT_EQ(test, pin_ledger_add(ledger, PIN_PLANE_LOCKED,
					     page_to_pfn(others), 5), 5);
	mutex_unlock(&ledger->lock);
	account_put(t, t->acct, 0, 5);

	/* A second move out of an account leaves it as it is, too */
	pin_move_out(&move, page_to_pfn(others), 1);
	EXPECT_ACCOUNT(test, t->acct, 0, 5, 13);
	KUNIT_EXPECT_EQ(test, pin_test_pins(others), 1);
	put_user_pages(page, 2);
}

static struct kunit_case pin_account_test_cases[] = {
	KUNIT_CASE(accounts_have_names_of_their_own),
	KUNIT_CASE(accounts_of_one_mm_share_a_ledger),
	KUNIT_CASE(account_is_for_its_mm),
	KUNIT_CASE(pins_are_counted),
	KUNIT_CASE(charge_is_always_exact),
	KUNIT_CASE(end_of_account_settles),
	KUNIT_CASE(no_pages_are_pinned_or_put),
	KUNIT_CASE(pin_goes_beyond_one_table),
	KUNIT_CASE(two_holders_are_charged_once),
	KUNIT_CASE(huge_page_is_charged_by_page),
	KUNIT_CASE(gigantic_page_is_charged_once),
	KUNIT_CASE(limit_refuses_and_leaves_nothing),
	KUNIT_CASE(limit_allows_again_what_is_pinned),
	KUNIT_CASE(refusal_in_second_table_leaves_first_pinned),
	KUNIT_CASE(cgroup_refuses_and_leaves_nothing),
	KUNIT_CASE(refusal_by_one_limit_charges_the_other_nothing),
	KUNIT_CASE(cgroup_allows_again_what_is_held),
	KUNIT_CASE(cgroup_counts_one_refusal_of_a_request),
	KUNIT_CASE(hole_ends_pin),
	KUNIT_CASE(overflow_refuses_and_leaves_nothing),
	KUNIT_CASE(reserved_page_is_refused_and_keeps_no_pin),
	KUNIT_CASE(fsdax_page_is_refused_wherever_it_is_mapped),
	KUNIT_CASE(extents_are_the_pages_in_order),
	KUNIT_CASE(extents_of_a_refused_batch_are_taken_back),
	KUNIT_CASE(huge_page_is_one_extent),
	KUNIT_CASE(extents_stop_when_array_may_be_too_short),
	KUNIT_CASE(refused_extents_leave_nothing),
	KUNIT_CASE(put_marks_dirty_on_request),
	KUNIT_CASE(put_takes_extents_in_any_order),
	KUNIT_CASE(put_passes_over_what_cannot_have_been_pinned),
	KUNIT_CASE(any_thread_pins_memory_of_the_account),
	KUNIT_CASE(pins_outlive_their_mm),
	KUNIT_CASE(nothing_is_pinned_for_killed_process),
	KUNIT_CASE(kill_ends_pin_on_the_way),
	KUNIT_CASE(adopter_has_what_it_asked_for),
#ifdef CONFIG_MEMCG
	KUNIT_CASE(memory_that_is_only_read_is_adopted),
#endif
	KUNIT_CASE(adopter_gets_no_room_of_another_cgroup),
	KUNIT_CASE(adopter_does_not_pay_for_others),
	KUNIT_CASE(uncharged_pins_are_held_once_with_others),
	KUNIT_CASE(account_is_not_adopted_by_mm_with_ledger),
	KUNIT_CASE(moved_pins_are_in_both_accounts_between),
	KUNIT_CASE(move_can_be_undone),
	KUNIT_CASE(move_keeps_to_limit_and_leaves_nothing),
	KUNIT_CASE(move_keeps_to_cgroup_and_leaves_nothing),
	KUNIT_CASE(move_needs_no_room_above_both),
	KUNIT_CASE(move_overflow_leaves_nothing),
	KUNIT_CASE(holder_can_report_pfnmap_itself),
	KUNIT_CASE(account_is_not_made_without_memory),
	KUNIT_CASE(any_failed_allocation_leaves_nothing_pinned),
	KUNIT_CASE(each_counter_has_a_page_once),
	KUNIT_CASE(limit_is_of_the_holders_counter),
	KUNIT_CASE(second_user_counts_small_pages_by_pin),
	KUNIT_CASE(second_user_counts_a_huge_page_once),
	KUNIT_CASE(second_user_stays_second),
	KUNIT_CASE(second_user_counts_nothing_without_memory),
	KUNIT_CASE(next_user_counts_a_page_once),
	KUNIT_CASE(counter_below_zero_refuses_nobody),
	KUNIT_CASE(refusal_by_cgroup_changes_no_counter),
	KUNIT_CASE(object_has_an_account_per_mm_and_user),
	KUNIT_CASE(account_with_pins_does_not_end),
	KUNIT_CASE(adoption_leaves_vmpin_behind),
	KUNIT_CASE(any_failed_fault_leaves_nothing_pinned),
	KUNIT_CASE(any_failed_allocation_leaves_no_extent_pinned),
	KUNIT_CASE(kill_after_wait_for_memory_leaves_nothing_pinned),
	KUNIT_CASE(any_failed_allocation_leaves_nothing_moved),
	KUNIT_CASE(put_of_account_needs_no_memory),
	KUNIT_CASE(put_of_more_than_was_pinned_is_told),
	{},
};

static struct kunit_suite pin_account_test_suite = {
	.name = "pin_account",
	.init = account_test_init,
	.exit = account_test_exit,
	.test_cases = pin_account_test_cases,
};

kunit_test_suite(pin_account_test_suite);

#endif /* _MM_TESTS_PIN_ACCOUNT_KUNIT_H */

#endif /* CONFIG_LONGTERM_PIN_KUNIT_TEST */
