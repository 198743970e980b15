/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tests of the text of reports. Included by mm/pin_report.c.
 */
#ifdef CONFIG_LONGTERM_PIN_KUNIT_TEST

#ifndef _MM_TESTS_PIN_REPORT_KUNIT_H
#define _MM_TESTS_PIN_REPORT_KUNIT_H

#include "pin_kunit.h"

#define COLUMNS								\
	"holder pages peak acquired released fsdax file secretmem "	\
	"pfnmap memlock cgroup migrate overflow nomem fault"

/* Of a kernel thread */
#define REPORT_CGROUP	(IS_ENABLED(CONFIG_LONGTERM_PIN_CGROUP) ? "/" : "-")

/**
 * struct report_test - what each test starts with
 * @base: a process
 * @acct: an account for its mm; its counters are all different
 * @m: the report
 * @want: what it should be
 */
struct report_test {
	struct pin_test base;
	struct pin_account *acct;
	struct seq_file m;
	char want[512];
};

static int report_test_init(struct kunit *test)
{
	struct report_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	int i;

	KUNIT_ASSERT_NOT_NULL(test, t);
	test->priv = t;
	pin_test_begin(test, &t->base);
	t->m.size = SZ_16K;
	t->m.buf = kunit_kzalloc(test, t->m.size, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t->m.buf);
	t->acct = pin_account_create(t->base.mm, "test", 0);
	if (IS_ERR(t->acct))
		t->acct = NULL;
	KUNIT_ASSERT_NOT_NULL(test, t->acct);

	t->acct->pages = 11;
	t->acct->peak = 12;
	t->acct->acquired = 13;
	t->acct->released = 14;
	for (i = 0; i < PIN_REASON_NR; i++)
		t->acct->refused[i] = 15 + i;
	t->acct->ledger->charge = 101;
	t->acct->ledger->held = 102;
	return 0;
}

static void report_test_exit(struct kunit *test)
{
	struct report_test *t = test->priv;

	if (!t)
		return;
	if (t->acct) {
		t->acct->pages = 0;
		t->acct->ledger->charge = 0;
		t->acct->ledger->held = 0;
		pin_account_destroy(t->acct);
	}
	pin_test_end(test, &t->base);
}

/* What was written since the last call */
static const char *report_text(struct report_test *t)
{
	t->m.buf[t->m.count] = '\0';
	t->m.count = 0;
	return t->m.buf;
}

static const char *report_want(struct report_test *t, const char *limit)
{
	snprintf(t->want, sizeof(t->want),
		 COLUMNS "\n"
		 "%s 11 12 13 14 15 16 17 18 19 20 21 22 23 24\n"
		 "charge 101\nheld 102\nlimit %s\ncgroup %s\n", t->acct->name,
		 limit, REPORT_CGROUP);
	return t->want;
}

static void file_of_process_has_holders_and_totals(struct kunit *test)
{
	struct report_test *t = test->priv;

	pin_test_limit(103);
	longterm_pins_show(&t->m, t->base.mm, current);
	KUNIT_EXPECT_STREQ(test, report_text(t), report_want(t, "103"));
	KUNIT_EXPECT_EQ(test, t->acct->ledger->refs, 1);
}

static void limit_may_be_none(struct kunit *test)
{
	struct report_test *t = test->priv;

	current->signal->rlim[RLIMIT_MEMLOCK].rlim_cur = RLIM_INFINITY;
	longterm_pins_show(&t->m, t->base.mm, current);
	KUNIT_EXPECT_STREQ(test, report_text(t), report_want(t, "unlimited"));
}

static void ended_process_still_has_holders(struct kunit *test)
{
	struct report_test *t = test->priv;

	pin_test_mm_dies(test, &t->base);
	longterm_pins_show(&t->m, t->base.mm, NULL);
	KUNIT_EXPECT_STREQ(test, report_text(t), report_want(t, "-"));
}

static void process_without_ledger_has_totals(struct kunit *test)
{
	struct report_test *t = test->priv;
	struct mm_struct *mm = pin_test_other_mm(test);

	pin_test_limit(103);
	longterm_pins_show(&t->m, mm, current);
	KUNIT_EXPECT_STREQ(test, report_text(t),
			   COLUMNS "\ncharge 0\nheld 0\nlimit 103\ncgroup -\n");
	KUNIT_EXPECT_NULL(test, mm->pin_ledger);
}

static void name_cannot_leave_its_quotes_or_line(struct kunit *test)
{
	char buf[16];

	pin_escape(buf, sizeof(buf), "a\"b\\c\nd e", "");
	KUNIT_EXPECT_STREQ(test, buf, "a\\\"b\\\\c\\nd e");
	pin_escape(buf, sizeof(buf), "\x1b[1m\xff", " ");
	KUNIT_EXPECT_STREQ(test, buf, "\\e[1m\\377");
	pin_escape(buf, sizeof(buf), " ", " ");
	KUNIT_EXPECT_STREQ(test, buf, "\\040");
	pin_escape(buf, sizeof(buf), "", " ");
	KUNIT_EXPECT_STREQ(test, buf, "");
}

static void long_name_is_cut_off(struct kunit *test)
{
	char buf[8] = "1234567";

	pin_escape(buf, 7, "\x01\x01\x01", "");
	KUNIT_EXPECT_STREQ(test, buf, "\\001\\0");
	pin_escape(buf, 7, "abcdef", "");
	KUNIT_EXPECT_STREQ(test, buf, "abcdef");
}

#ifdef CONFIG_DEBUG_FS
static void comm_is_one_word(struct kunit *test)
{
	static const struct {
		const char *comm, *word;
	} comms[] = {
		{ "qemu-system-x86", "qemu-system-x86" },
		{ "CPU 0/KVM", "CPU\\0400/KVM" },
		{ "a\nb\tc", "a\\nb\\tc" },
		{ "\x01\x7f", "\\001\\177" },
		{ " ", "\\040" },
		{ "", "?" },
		{ "\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01",
		  "\\001\\001\\001\\001\\001\\001\\001\\001\\001\\001\\001\\001\\001\\001\\001" },
	};
	struct report_test *t = test->priv;
	int i;

	for (i = 0; i < ARRAY_SIZE(comms); i++) {
		show_comm(&t->m, comms[i].comm);
		KUNIT_EXPECT_STREQ(test, report_text(t), comms[i].word);
	}
}

/* Whether the list has a line for the account like this */
static bool list_has(struct report_test *t, const char *state)
{
	snprintf(t->want, sizeof(t->want),
		 "\n%d CPU\\0400/KVM %s %s 11 12 13 14 15 16 17 18 19 20 21 22 23 24 101 102\n",
		 t->acct->pid, state, t->acct->name);
	longterm_pins_list_show(&t->m, NULL);
	return strstr(report_text(t), t->want);
}

static void list_of_all_holders_has_living_and_dead(struct kunit *test)
{
	struct report_test *t = test->priv;

	strscpy(t->acct->comm, "CPU 0/KVM");
	KUNIT_EXPECT_TRUE(test, list_has(t, "alive"));
	KUNIT_EXPECT_TRUE(test, strstarts(t->m.buf, "pid comm state " COLUMNS
					  " charge held\n"));
	pin_test_mm_dies(test, &t->base);
	KUNIT_EXPECT_TRUE(test, list_has(t, "gone"));
}
#endif

static struct kunit_case pin_report_test_cases[] = {
	KUNIT_CASE(file_of_process_has_holders_and_totals),
	KUNIT_CASE(limit_may_be_none),
	KUNIT_CASE(ended_process_still_has_holders),
	KUNIT_CASE(process_without_ledger_has_totals),
	KUNIT_CASE(name_cannot_leave_its_quotes_or_line),
	KUNIT_CASE(long_name_is_cut_off),
#ifdef CONFIG_DEBUG_FS
	KUNIT_CASE(comm_is_one_word),
	KUNIT_CASE(list_of_all_holders_has_living_and_dead),
#endif
	{},
};

static struct kunit_suite pin_report_test_suite = {
	.name = "pin_report",
	.init = report_test_init,
	.exit = report_test_exit,
	.test_cases = pin_report_test_cases,
};

kunit_test_suite(pin_report_test_suite);

#endif /* _MM_TESTS_PIN_REPORT_KUNIT_H */

#endif /* CONFIG_LONGTERM_PIN_KUNIT_TEST */
