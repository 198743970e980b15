/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tests of the limit of cgroups, with cgroups that nobody else knows. Included
 * by mm/pin_cgroup.c.
 */
#ifdef CONFIG_LONGTERM_PIN_KUNIT_TEST

#ifndef _MM_TESTS_PIN_CGROUP_KUNIT_H
#define _MM_TESTS_PIN_CGROUP_KUNIT_H

#include <linux/completion.h>
#include <linux/kthread.h>

#include "pin_kunit.h"

/* What the cgroup and its parent are charged, in pages */
#define EXPECT_USAGE(test_, cg_, own_, parents_)			\
	do {								\
		struct misc_cg *__cg = (cg_);				\
		struct kunit *__test = (test_);				\
									\
		KUNIT_EXPECT_EQ(__test, pin_test_usage(&__cg[0]), own_);\
		KUNIT_EXPECT_EQ(__test, pin_test_usage(&__cg[1]),	\
				parents_);				\
	} while (0)

static void cgroup_and_those_above_are_charged(struct kunit *test)
{
	struct misc_cg *cg = pin_test_cgroups(test, 2), *full;

	KUNIT_EXPECT_EQ(test, pin_cgroup_charge(cg, NULL, 3, &full), 0);
	EXPECT_USAGE(test, cg, 3, 3);
	KUNIT_EXPECT_EQ(test, pin_cgroup_charge(&cg[1], NULL, 4, &full), 0);
	EXPECT_USAGE(test, cg, 3, 7);
	pin_cgroup_uncharge(cg, NULL, 2);
	EXPECT_USAGE(test, cg, 1, 5);
	KUNIT_EXPECT_EQ(test, atomic64_read(&res_of(cg)->watermark),
			bytes_of(3));
	KUNIT_EXPECT_EQ(test, atomic64_read(&res_of(&cg[1])->watermark),
			bytes_of(7));
}

/* The limit holds to the page, of each, and a charge that fails adds nothing */
static void cgroup_limit_is_exact(struct kunit *test)
{
	struct misc_cg *cg = pin_test_cgroups(test, 2), *full;
	int i;

	for (i = 0; i < 2; i++) {
		pin_test_cgroup_limit(&cg[i], 100);
		KUNIT_EXPECT_EQ(test, pin_cgroup_charge(cg, NULL, 60, &full), 0);
		KUNIT_EXPECT_EQ(test, pin_cgroup_charge(cg, NULL, 41, &full), -EBUSY);
		KUNIT_EXPECT_PTR_EQ(test, full, &cg[i]);
		EXPECT_USAGE(test, cg, 60, 60);
		KUNIT_EXPECT_EQ(test, pin_cgroup_charge(cg, NULL, 40, &full), 0);
		KUNIT_EXPECT_EQ(test, pin_cgroup_charge(cg, NULL, 1, &full), -EBUSY);
		EXPECT_USAGE(test, cg, 100, 100);
		KUNIT_EXPECT_EQ(test, atomic64_read(&res_of(cg)->watermark),
				bytes_of(100));
		pin_cgroup_uncharge(cg, NULL, 100);
		pin_test_cgroup_limit(&cg[i], ULONG_MAX);
	}
	/* More bytes than there can be */
	pin_test_cgroup_limit(&cg[1], 0);
	KUNIT_EXPECT_EQ(test, pin_cgroup_charge(cg, NULL, ULONG_MAX >> PAGE_SHIFT,
						&full), -EBUSY);
	EXPECT_USAGE(test, cg, 0, 0);
}

/* Charges that fail are none of misc.events' until the caller says so */
static void cgroup_refusal_is_counted_once(struct kunit *test)
{
	struct misc_cg *cg = pin_test_cgroups(test, 3), *full;
	int i;

	pin_test_cgroup_limit(&cg[1], 10);
	for (i = 0; i < 3; i++)
		KUNIT_EXPECT_EQ(test, pin_cgroup_charge(cg, NULL, 11, &full), -EBUSY);
	KUNIT_ASSERT_PTR_EQ(test, full, &cg[1]);
	KUNIT_EXPECT_EQ(test, pin_test_cgroup_refusals(&cg[1]), 0);
	pin_cgroup_refused(full);
	KUNIT_EXPECT_EQ(test, pin_test_cgroup_refusals(&cg[0]), 0);
	KUNIT_EXPECT_EQ(test, pin_test_cgroup_refusals(&cg[1]), 1);
	KUNIT_EXPECT_EQ(test, pin_test_cgroup_refusals(&cg[2]), 0);
	KUNIT_EXPECT_EQ(test, atomic64_read(&res_of(&cg[1])->events), 1);
}

/**
 * struct charge_thread - charges what fits beside others, and what never does
 * @cg: the cgroup
 * @npages: how many pages
 * @fits: it does
 * @wrong: results that were not expected
 * @stop: others have ended
 * @done: this one has ended
 */
struct charge_thread {
	struct misc_cg *cg;
	unsigned long npages;
	bool fits;
	unsigned long wrong;
	bool *stop;
	struct completion done;
};

#define CHARGE_ROUNDS	20000
#define CHARGE_DEPTH	64

static int charge_thread(void *data)
{
	struct charge_thread *c = data;
	struct misc_cg *full;
	unsigned long i;

	for (i = 0; c->fits ? i < CHARGE_ROUNDS : !READ_ONCE(*c->stop); i++) {
		int ret = pin_cgroup_charge(c->cg, NULL, c->npages, &full);

		if (!ret)
			pin_cgroup_uncharge(c->cg, NULL, c->npages);
		c->wrong += c->fits == !!ret;
		cond_resched();
	}
	complete(&c->done);
	return 0;
}

/*
 * There is room for the one, and at the top never for the other. An implementation
 * that adds before it compares lets the one fail now and then: one that compares
 * level by level at the lower limit, which has room for either.
 */
static void cgroup_charge_that_fails_refuses_no_other(struct kunit *test)
{
	struct misc_cg *cg = pin_test_cgroups(test, CHARGE_DEPTH);
	bool stop = false;
	struct charge_thread c[2] = {
		{ .cg = cg, .npages = 100, .fits = true },
		{ .cg = cg, .npages = 101, .stop = &stop },
	};
	struct task_struct *task;
	int i;

	pin_test_cgroup_limit(&cg[1], 200);
	pin_test_cgroup_limit(&cg[CHARGE_DEPTH - 1], 100);
	for (i = 0; i < 2; i++) {
		init_completion(&c[i].done);
		task = kthread_run(charge_thread, &c[i], "pin_test");
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, task);
	}
	wait_for_completion(&c[0].done);
	WRITE_ONCE(stop, true);
	wait_for_completion(&c[1].done);
	KUNIT_EXPECT_EQ(test, c[0].wrong, 0);
	KUNIT_EXPECT_EQ(test, c[1].wrong, 0);
	for (i = 0; i < CHARGE_DEPTH; i++)
		KUNIT_EXPECT_EQ(test, pin_test_usage(&cg[i]), 0);
}

/**
 * struct charge_meanwhile - charges by another thread while one is half done
 * @call: the other thread
 * @cg: a cgroup and its parent
 * @npages: what it charges the parent, and keeps
 * @ret: of that
 * @refused: of a charge that never fits
 */
struct charge_meanwhile {
	struct pin_test_call call;
	struct misc_cg *cg;
	unsigned long npages;
	int ret;
	int refused;
};

static void charge_parent(void *data)
{
	struct charge_meanwhile *m = data;
	struct misc_cg *full;

	m->refused = pin_cgroup_charge(m->cg, NULL, 101, &full);
	m->ret = pin_cgroup_charge(&m->cg[1], NULL, m->npages + 1, &full);
	if (!m->ret)
		pin_cgroup_uncharge(&m->cg[1], NULL, 1);
}

/* In the place of charge_one(), until it comes to the parent */
static bool charge_others_first(struct misc_cg *cg, u64 bytes)
{
	struct kunit *test = kunit_get_current_test();
	struct charge_meanwhile *m = test->priv;
	bool ret;

	kunit_deactivate_static_stub(test, charge_one);
	if (cg == &m->cg[1])
		KUNIT_EXPECT_TRUE(test, pin_test_call_ends(&m->call));
	ret = charge_one(cg, bytes);
	if (cg == m->cg)
		kunit_activate_static_stub(test, charge_one, charge_others_first);
	return ret;
}

/* Charge 60 pages of 100, of which another thread takes @npages meanwhile */
static int charge_slowly(struct kunit *test, struct misc_cg *cg,
			 unsigned long npages, struct misc_cg **full)
{
	struct charge_meanwhile m = {
		.call = { charge_parent, &m },
		.cg = cg,
		.npages = npages,
	};
	int ret;

	pin_test_cgroup_limit(&cg[1], 100);
	pin_test_call_init(test, &m.call);
	test->priv = &m;
	kunit_activate_static_stub(test, charge_one, charge_others_first);
	ret = pin_cgroup_charge(cg, NULL, 60, full);
	pin_test_call_wait(&m.call);
	test->priv = NULL;
	KUNIT_EXPECT_EQ(test, m.ret, 0);
	KUNIT_EXPECT_EQ(test, m.refused, -EBUSY);
	return ret;
}

/* The other one would wait for a lock, if there was one */
static void cgroup_is_charged_without_a_lock(struct kunit *test)
{
	struct misc_cg *cg = pin_test_cgroups(test, 2), *full;

	KUNIT_EXPECT_EQ(test, charge_slowly(test, cg, 40, &full), 0);
	EXPECT_USAGE(test, cg, 60, 100);
	pin_cgroup_uncharge(cg, NULL, 60);
	pin_cgroup_uncharge(&cg[1], NULL, 40);
}

/* There was room when it looked first */
static void cgroup_charge_that_comes_too_late_adds_nothing(struct kunit *test)
{
	struct misc_cg *cg = pin_test_cgroups(test, 2), *full;

	KUNIT_EXPECT_EQ(test, charge_slowly(test, cg, 41, &full), -EBUSY);
	KUNIT_EXPECT_PTR_EQ(test, full, &cg[1]);
	EXPECT_USAGE(test, cg, 0, 41);
	KUNIT_EXPECT_EQ(test, atomic64_read(&res_of(cg)->watermark), 0);
	pin_cgroup_uncharge(&cg[1], NULL, 41);
}

static void cgroup_over_lowered_limit_has_no_room(struct kunit *test)
{
	struct misc_cg *cg = pin_test_cgroups(test, 2), *full;

	KUNIT_EXPECT_EQ(test, pin_cgroup_charge(cg, NULL, 100, &full), 0);
	pin_test_cgroup_limit(&cg[0], 50);
	KUNIT_EXPECT_EQ(test, pin_cgroup_charge(cg, NULL, 1, &full), -EBUSY);
	pin_cgroup_uncharge(cg, NULL, 51);
	KUNIT_EXPECT_EQ(test, pin_cgroup_charge(cg, NULL, 1, &full), 0);
}

/* Two branches, of which both are below the same one */
static void cgroups_above_a_branch_keep_their_charge(struct kunit *test)
{
	struct misc_cg *cg = pin_test_cgroups(test, 3), *full;
	struct misc_cg *other = pin_test_cgroups(test, 2);

	pin_test_cgroup_below(&other[1], &cg[1]);
	KUNIT_EXPECT_PTR_EQ(test, pin_cgroup_common(cg, other), &cg[1]);
	KUNIT_EXPECT_PTR_EQ(test, pin_cgroup_common(&cg[2], other), &cg[2]);
	KUNIT_EXPECT_PTR_EQ(test, pin_cgroup_common(other, other), other);

	/* Full, but not for what it has already */
	pin_test_cgroup_limit(&cg[1], 100);
	KUNIT_EXPECT_EQ(test, pin_cgroup_charge(cg, NULL, 100, &full), 0);
	KUNIT_EXPECT_EQ(test, pin_cgroup_charge(other, &cg[1], 100, &full), 0);
	EXPECT_USAGE(test, other, 100, 100);
	KUNIT_EXPECT_EQ(test, pin_test_usage(&cg[1]), 100);
	pin_cgroup_uncharge(cg, &cg[1], 100);
	KUNIT_EXPECT_EQ(test, pin_test_usage(&cg[0]), 0);
	KUNIT_EXPECT_EQ(test, pin_test_usage(&cg[1]), 100);
	KUNIT_EXPECT_EQ(test, pin_test_usage(&cg[2]), 100);

	pin_cgroup_force(&cg[1], 1);
	KUNIT_EXPECT_EQ(test, pin_test_usage(&cg[1]), 101);
	KUNIT_EXPECT_EQ(test, pin_test_usage(&cg[2]), 101);
	KUNIT_EXPECT_EQ(test, pin_cgroup_charge(cg, NULL, 1, &full), -EBUSY);
	KUNIT_EXPECT_PTR_EQ(test, full, &cg[1]);
	pin_cgroup_uncharge(&cg[1], NULL, 1);
	pin_cgroup_uncharge(other, NULL, 100);
	KUNIT_EXPECT_EQ(test, pin_test_usage(&cg[2]), 0);
}

static void cgroup_has_a_path(struct kunit *test)
{
	struct misc_cg *cg = get_current_misc_cg();
	struct cgroup_namespace *ns = current->nsproxy->cgroup_ns;
	char buf[PATH_MAX / 8];

	KUNIT_EXPECT_STREQ(test, pin_cgroup_path(cg, NULL, buf, sizeof(buf)),
			   "/");
	KUNIT_EXPECT_STREQ(test, pin_cgroup_path(cg, ns, buf, sizeof(buf)),
			   "/");
	KUNIT_EXPECT_STREQ(test, pin_cgroup_path(cg, ns, buf, 1), "?");
	KUNIT_EXPECT_FALSE(test, pin_cgroup_removed(cg));
	put_misc_cg(cg);
}

#ifdef CONFIG_KCSAN
/* Or the compiler would leave out the read */
static u64 race_sum;

static void race_charge(void *data)
{
	struct misc_cg *cg = data, *full;

	if (!pin_cgroup_charge(cg, NULL, 1, &full))
		pin_cgroup_uncharge(cg, NULL, 1);
	race_sum += pin_cgroup_limit(cg);
}

/* As by writes to misc.max */
static void race_limit(void *data)
{
	pin_test_cgroup_limit(data, ULONG_MAX);
}

static void charges_and_new_limits_do_not_race(struct kunit *test)
{
	struct misc_cg *cg = pin_test_cgroups(test, 1);

	pin_test_race(test, NULL, race_limit, race_charge, cg);
	KUNIT_EXPECT_EQ(test, pin_test_usage(cg), 0);
}
#endif

static struct kunit_case pin_cgroup_test_cases[] = {
	KUNIT_CASE(cgroup_and_those_above_are_charged),
	KUNIT_CASE(cgroup_limit_is_exact),
	KUNIT_CASE(cgroup_refusal_is_counted_once),
	KUNIT_CASE(cgroup_charge_that_fails_refuses_no_other),
	KUNIT_CASE(cgroup_is_charged_without_a_lock),
	KUNIT_CASE(cgroup_charge_that_comes_too_late_adds_nothing),
	KUNIT_CASE(cgroup_over_lowered_limit_has_no_room),
	KUNIT_CASE(cgroups_above_a_branch_keep_their_charge),
	KUNIT_CASE(cgroup_has_a_path),
#ifdef CONFIG_KCSAN
	KUNIT_CASE(charges_and_new_limits_do_not_race),
#endif
	{},
};

static struct kunit_suite pin_cgroup_test_suite = {
	.name = "pin_cgroup",
	.test_cases = pin_cgroup_test_cases,
};

kunit_test_suite(pin_cgroup_test_suite);

#endif /* _MM_TESTS_PIN_CGROUP_KUNIT_H */

#endif /* CONFIG_LONGTERM_PIN_KUNIT_TEST */
