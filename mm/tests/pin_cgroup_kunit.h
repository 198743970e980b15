/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tests of the limit of cgroups, with cgroups that nobody else knows. Included
 * by mm/pin_cgroup.c.
 */
#ifdef CONFIG_LONGTERM_PIN_KUNIT_TEST

#ifndef _MM_TESTS_PIN_CGROUP_KUNIT_H
#define _MM_TESTS_PIN_CGROUP_KUNIT_H

#include "pin_kunit.h"

#define STEP	PIN_CGROUP_STEP

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

static void cgroup_takes_a_step_where_there_is_room(struct kunit *test)
{
	struct misc_cg *cg = pin_test_cgroups(test, 2);

	KUNIT_EXPECT_EQ(test, pin_cgroup_charge(cg, 3, STEP, false), STEP);
	EXPECT_USAGE(test, cg, STEP, STEP);
	pin_test_cgroup_limit(&cg[1], 2 * STEP);
	KUNIT_EXPECT_EQ(test, pin_cgroup_charge(cg, 3, STEP, false), STEP);
	EXPECT_USAGE(test, cg, 2 * STEP, 2 * STEP);
	pin_cgroup_uncharge(cg, 2 * STEP - 1);
	EXPECT_USAGE(test, cg, 1, 1);
}

static void cgroup_takes_no_more_than_asked(struct kunit *test)
{
	struct misc_cg *cg = pin_test_cgroups(test, 2);

	KUNIT_EXPECT_EQ(test, pin_cgroup_charge(cg, 3, 3, false), 3);
	KUNIT_EXPECT_EQ(test, pin_cgroup_charge(cg, 3, 0, false), 3);
	EXPECT_USAGE(test, cg, 6, 6);
	/* More than a step at once, of a large folio */
	KUNIT_EXPECT_EQ(test, pin_cgroup_charge(cg, 4 * STEP, STEP, false),
			4 * STEP);
	EXPECT_USAGE(test, cg, 4 * STEP + 6, 4 * STEP + 6);
}

/* A step that does not fit is no refusal, and is not counted as one */
static void cgroup_near_limit_is_exact(struct kunit *test)
{
	struct misc_cg *cg = pin_test_cgroups(test, 2);
	int i;

	for (i = 0; i < 2; i++) {
		pin_test_cgroup_limit(&cg[i], 100);
		KUNIT_EXPECT_EQ(test, pin_cgroup_charge(cg, 60, STEP, false),
				60);
		KUNIT_EXPECT_EQ(test, pin_cgroup_charge(cg, 40, 41, false), 40);
		EXPECT_USAGE(test, cg, 100, 100);
		KUNIT_EXPECT_EQ(test, pin_test_cgroup_refusals(&cg[i]), 0);
		KUNIT_EXPECT_EQ(test, pin_cgroup_charge(cg, 1, STEP, false),
				-EBUSY);
		KUNIT_EXPECT_EQ(test, pin_test_cgroup_refusals(&cg[i]), 1);
		EXPECT_USAGE(test, cg, 100, 100);
		pin_cgroup_uncharge(cg, 100);
		pin_test_cgroup_limit(&cg[i], ULONG_MAX);
	}
}

static void cgroup_counts_no_failure_that_is_no_refusal(struct kunit *test)
{
	struct misc_cg *cg = pin_test_cgroups(test, 2);

	pin_test_cgroup_limit(&cg[1], 10);
	KUNIT_EXPECT_EQ(test, pin_cgroup_charge(cg, 11, 11, true), -EBUSY);
	KUNIT_EXPECT_EQ(test, pin_cgroup_charge(cg, 11, STEP, true), -EBUSY);
	KUNIT_EXPECT_EQ(test, pin_test_cgroup_refusals(&cg[0]), 0);
	KUNIT_EXPECT_EQ(test, pin_test_cgroup_refusals(&cg[1]), 0);
	EXPECT_USAGE(test, cg, 0, 0);
	KUNIT_EXPECT_EQ(test, pin_cgroup_charge(cg, 10, STEP, true), 10);
	EXPECT_USAGE(test, cg, 10, 10);
}

static void cgroup_over_lowered_limit_has_no_room(struct kunit *test)
{
	struct misc_cg *cg = pin_test_cgroups(test, 2);
	u64 max, room;

	KUNIT_EXPECT_EQ(test, pin_cgroup_charge(cg, 100, 0, false), 100);
	pin_test_cgroup_limit(&cg[0], 50);
	KUNIT_EXPECT_PTR_EQ(test, pin_cgroup_tightest(cg, &max, &room), cg);
	KUNIT_EXPECT_EQ(test, max, bytes_of(50));
	KUNIT_EXPECT_EQ(test, room, 0);
	KUNIT_EXPECT_EQ(test, pin_cgroup_charge(cg, 1, STEP, false), -EBUSY);
	pin_cgroup_uncharge(cg, 51);
	KUNIT_EXPECT_EQ(test, pin_cgroup_charge(cg, 1, STEP, false), 1);
}

static void cgroup_with_least_room_is_found(struct kunit *test)
{
	struct misc_cg *cg = pin_test_cgroups(test, 3);
	u64 max, room;

	KUNIT_EXPECT_PTR_EQ(test, pin_cgroup_tightest(cg, &max, &room), cg);
	KUNIT_EXPECT_EQ(test, max, U64_MAX);
	KUNIT_EXPECT_EQ(test, room, U64_MAX);

	pin_test_cgroup_limit(&cg[0], 50);
	pin_test_cgroup_limit(&cg[2], 60);
	KUNIT_EXPECT_EQ(test, pin_cgroup_charge(&cg[1], 20, 0, false), 20);
	KUNIT_EXPECT_PTR_EQ(test, pin_cgroup_tightest(cg, &max, &room),
			    &cg[2]);
	KUNIT_EXPECT_EQ(test, max, bytes_of(60));
	KUNIT_EXPECT_EQ(test, room, bytes_of(40));

	/* Of two the nearer */
	pin_test_cgroup_limit(&cg[1], 60);
	KUNIT_EXPECT_PTR_EQ(test, pin_cgroup_tightest(cg, &max, &room),
			    &cg[1]);
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

static struct kunit_case pin_cgroup_test_cases[] = {
	KUNIT_CASE(cgroup_takes_a_step_where_there_is_room),
	KUNIT_CASE(cgroup_takes_no_more_than_asked),
	KUNIT_CASE(cgroup_near_limit_is_exact),
	KUNIT_CASE(cgroup_counts_no_failure_that_is_no_refusal),
	KUNIT_CASE(cgroup_over_lowered_limit_has_no_room),
	KUNIT_CASE(cgroup_with_least_room_is_found),
	KUNIT_CASE(cgroup_has_a_path),
	{},
};

static struct kunit_suite pin_cgroup_test_suite = {
	.name = "pin_cgroup",
	.test_cases = pin_cgroup_test_cases,
};

kunit_test_suite(pin_cgroup_test_suite);

#endif /* _MM_TESTS_PIN_CGROUP_KUNIT_H */

#endif /* CONFIG_LONGTERM_PIN_KUNIT_TEST */
