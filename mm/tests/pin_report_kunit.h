/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tests of the text of reports. Included by mm/pin_report.c.
 */
#ifdef CONFIG_LONGTERM_PIN_KUNIT_TEST

#ifndef _MM_TESTS_PIN_REPORT_KUNIT_H
#define _MM_TESTS_PIN_REPORT_KUNIT_H

#include <linux/cgroup.h>

#include "pin_kunit.h"

#define COLUMNS								\
	"holder pages peak acquired released fsdax file secretmem "	\
	"pfnmap memlock cgroup migrate overflow nomem fault eof nospace "	\
	"nohugetlb"

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
	t->acct = pin_account_get(t->base.mm, NULL, "test",
				  PIN_COUNT_LOCKED, NULL);
	if (IS_ERR(t->acct))
		t->acct = NULL;
	KUNIT_ASSERT_NOT_NULL(test, t->acct);

	t->acct->pages = 11;
	t->acct->peak = 12;
	t->acct->acquired = 13;
	t->acct->released = 14;
	for (i = 0; i < PIN_REASON_NR; i++)
		t->acct->refused[i] = 15 + i;
	t->base.mm->pin_charge = 101;
	t->acct->ledger->held_now = 102;
	t->acct->ledger->published[PIN_COUNTER_PINNED] = 104;
	t->acct->ledger->published[PIN_COUNTER_USER] = 55;
	t->acct->ledger->second_charged = 50;
	return 0;
}

/* As it was before report_test_init() wrote what nobody had pinned */
static void report_test_nothing_pinned(struct report_test *t)
{
	t->acct->pages = 0;
	t->base.mm->pin_charge = 0;
	t->acct->ledger->held_now = 0;
	t->acct->ledger->published[PIN_COUNTER_PINNED] = 0;
	t->acct->ledger->published[PIN_COUNTER_USER] = 0;
	t->acct->ledger->second_charged = 0;
}

static void report_test_exit(struct kunit *test)
{
	struct report_test *t = test->priv;

	if (!t)
		return;
	if (t->acct) {
		report_test_nothing_pinned(t);
		pin_account_put(t->acct);
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
		 "%s 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27\n"
		 "charge 101\nheld 102\npinned 104\nuser 105\n"
		 "limit %s\ncgroup %s\n", t->acct->name,
		 limit, REPORT_CGROUP);
	return t->want;
}

static void file_of_process_has_holders_and_totals(struct kunit *test)
{
	struct report_test *t = test->priv;

	pin_test_limit(103);
	longterm_pins_show(&t->m, t->base.mm, current);
	KUNIT_EXPECT_STREQ(test, report_text(t), report_want(t, "103"));
	KUNIT_EXPECT_EQ(test, refcount_read(&t->acct->ledger->refs), 1);
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
			   COLUMNS "\ncharge 0\nheld 0\npinned 0\nuser 0\n"
			   "limit 103\ncgroup -\n");
	KUNIT_EXPECT_NULL(test, rcu_access_pointer(mm->pin_ledger));
}

/* Each once, and in their order: also where a pause ends just with the last one */
static void expect_each_holder(struct kunit *test, struct report_test *t,
			       struct pin_account **acct, unsigned int n)
{
	const char *at;
	unsigned int i;
	char line[64];

	longterm_pins_show(&t->m, t->base.mm, current);
	at = strchr(report_text(t), '\n');
	KUNIT_ASSERT_NOT_NULL(test, at);
	for (i = 0; i < n; i++) {
		snprintf(line, sizeof(line), "\n%s ", acct[i]->name);
		KUNIT_ASSERT_TRUE_MSG(test, strstarts(at, line),
				      "holder %u of %u", i, n);
		at = strchr(at + 1, '\n');
	}
	KUNIT_EXPECT_TRUE(test, strstarts(at, "\ncharge "));
}

static void many_holders_are_all_there(struct kunit *test)
{
	static struct pin_account *acct[2 * LINES_AT_ONCE + 5];
	struct report_test *t = test->priv;
	unsigned int n;

	acct[0] = t->acct;
	for (n = 1; n < ARRAY_SIZE(acct); n++) {
		if (n % LINES_AT_ONCE == 0)
			expect_each_holder(test, t, acct, n);
		acct[n] = pin_account_get(t->base.mm, NULL, "test",
					  PIN_COUNT_LOCKED, NULL);
		if (IS_ERR(acct[n]))
			break;
	}
	KUNIT_EXPECT_EQ(test, n, ARRAY_SIZE(acct));
	expect_each_holder(test, t, acct, n);

	/* The one that the reader has got to ends meanwhile */
	rcu_read_lock();
	KUNIT_EXPECT_PTR_EQ(test, account_after(t->acct->ledger, acct[9]->id),
			    acct[10]);
	rcu_read_unlock();
	pin_account_put(acct[9]);
	rcu_read_lock();
	KUNIT_EXPECT_PTR_EQ(test, account_after(t->acct->ledger,
						acct[10]->id - 1), acct[10]);
	rcu_read_unlock();
	while (--n)
		if (n != 9)
			pin_account_put(acct[n]);
}

struct escape_case {
	const char *name, *text;
};

static void expect_escaped(struct kunit *test, const char *more,
			   const struct escape_case *cases, size_t n)
{
	char buf[64];
	size_t i;

	for (i = 0; i < n; i++) {
		KUNIT_EXPECT_EQ(test, strlen(cases[i].text),
				pin_escape(buf, sizeof(buf), cases[i].name,
					   more));
		KUNIT_EXPECT_STREQ(test, buf, cases[i].text);
	}
}

static void name_that_does_no_harm_stays(struct kunit *test)
{
	static const struct escape_case cases[] = {
		{ "", "" },
		{ "/machine.slice/machine-qemu\\x2d1\\x2ddb.scope",
		  "/machine.slice/machine-qemu\\x2d1\\x2ddb.scope" },
		{ "a b\"c\\d\\", "a b\"c\\d\\" },
		{ "\\08 \\400 \\18", "\\08 \\400 \\18" },
		/* The first and the last of each length */
		{ "\xc2\xa0\xdf\xbf", "\xc2\xa0\xdf\xbf" },
		{ "\xe0\xa0\x80\xed\x9f\xbf", "\xe0\xa0\x80\xed\x9f\xbf" },
		{ "\xee\x80\x80\xef\xbf\xbf", "\xee\x80\x80\xef\xbf\xbf" },
		{ "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf",
		  "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf" },
	};

	expect_escaped(test, "", cases, ARRAY_SIZE(cases));
}

static void name_cannot_leave_its_quotes_or_line(struct kunit *test)
{
	static const struct escape_case cases[] = {
		{ "a\"b\nc d", "a\\042b\\012c d" },
		{ "\x1b[1m\x01\x7f", "\\033[1m\\001\\177" },
		/* Control characters, a line's end, and an override of direction */
		{ "\xc2\x9b", "\\302\\233" },
		{ "\xe2\x80\xa8", "\\342\\200\\250" },
		{ "\xe2\x80\xae\xe2\x81\xa7",
		  "\\342\\200\\256\\342\\201\\247" },
	};

	expect_escaped(test, "\"", cases, ARRAY_SIZE(cases));
}

static void name_that_is_no_utf8_is_escaped(struct kunit *test)
{
	static const struct escape_case cases[] = {
		{ "\xff", "\\377" },
		{ "\x80", "\\200" },
		{ "\xc3", "\\303" },		/* cut off */
		{ "\xe2\x82", "\\342\\202" },
		{ "\xc3(", "\\303(" },
		{ "\xc1\xbf", "\\301\\277" },	/* too long for what they are */
		{ "\xe0\x9f\xbf", "\\340\\237\\277" },
		{ "\xf0\x8f\xbf\xbf", "\\360\\217\\277\\277" },
		{ "\xed\xa0\x80", "\\355\\240\\200" },	/* half of a pair */
		{ "\xf4\x90\x80\x80", "\\364\\220\\200\\200" },
		{ "\xf5\x80\x80\x80", "\\365\\200\\200\\200" },
	};

	expect_escaped(test, "", cases, ARRAY_SIZE(cases));
}

/* Or two cgroups would have one name in the reports */
static void name_cannot_look_like_another_escaped(struct kunit *test)
{
	static const struct escape_case cases[] = {
		{ "\\012", "\\134012" },
		{ "\\\\012", "\\\\134012" },
		{ "\\134012", "\\134134012" },
		{ "\\377", "\\134377" },
	};

	expect_escaped(test, "", cases, ARRAY_SIZE(cases));
}

static void long_name_is_cut_off(struct kunit *test)
{
	char buf[8] = "1234567";

	/* Not within an escape or a character, and nothing follows */
	KUNIT_EXPECT_EQ(test, 9, pin_escape(buf, 7, "\x01\x01z", ""));
	KUNIT_EXPECT_STREQ(test, buf, "\\001");
	KUNIT_EXPECT_EQ(test, 8, pin_escape(buf, 7, "abcde\xc3\xb6g", ""));
	KUNIT_EXPECT_STREQ(test, buf, "abcde");
	KUNIT_EXPECT_EQ(test, 6, pin_escape(buf, 7, "abcdef", ""));
	KUNIT_EXPECT_STREQ(test, buf, "abcdef");
	KUNIT_EXPECT_EQ(test, 3, pin_escape(NULL, 0, "abc", ""));
}

/* A report that has no room is made again, in more */
static void report_without_room_says_so(struct kunit *test)
{
	struct report_test *t = test->priv;

	t->m.size = 4;
	show_name(&t->m, "abcd", "");
	KUNIT_EXPECT_TRUE(test, seq_has_overflowed(&t->m));
	t->m.count = 0;
	show_name(&t->m, "abc", "");
	KUNIT_EXPECT_FALSE(test, seq_has_overflowed(&t->m));
}

#ifdef CONFIG_PROC_FS
static void report_list(struct seq_file *m)
{
	loff_t pos = 0;
	void *v;

	for (v = pins_start(m, &pos); v; v = pins_next(m, v, &pos))
		pins_show(m, v);
	pins_stop(m, v);
}

/* Whether the list has a line for the account like this */
static bool list_has(struct report_test *t, const char *comm, const char *state)
{
	snprintf(t->want, sizeof(t->want),
		 "\n%d %s %s %s 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 101 102 %llu\n",
		 t->acct->pid, comm, state, t->acct->name,
		 t->acct->ledger->number);
	report_list(&t->m);
	return strstr(report_text(t), t->want);
}

static void list_of_all_holders_has_living_and_dead(struct kunit *test)
{
	struct report_test *t = test->priv;

	strscpy(t->acct->comm, "CPU 0/KVM");
	KUNIT_EXPECT_TRUE(test, list_has(t, "CPU\\0400/KVM", "alive"));
	KUNIT_EXPECT_TRUE(test, strstarts(t->m.buf, "pid comm state " COLUMNS
					  " charge held ledger\n"));
	pin_test_mm_dies(test, &t->base);
	KUNIT_EXPECT_TRUE(test, list_has(t, "CPU\\0400/KVM", "gone"));
}

static void comm_is_one_word(struct kunit *test)
{
	static const struct escape_case comms[] = {
		{ "qemu-system-x86", "qemu-system-x86" },
		{ "a\nb\tc", "a\\012b\\011c" },
		{ " ", "\\040" },
		{ "", "?" },
		{ "\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01",
		  "\\001\\001\\001\\001\\001\\001\\001\\001\\001\\001\\001\\001\\001\\001\\001" },
	};
	struct report_test *t = test->priv;
	int i;

	for (i = 0; i < ARRAY_SIZE(comms); i++) {
		strscpy(t->acct->comm, comms[i].name);
		KUNIT_EXPECT_TRUE(test, list_has(t, comms[i].text, "alive"));
	}
}

static void list_ends_with_refusals_since_boot(struct kunit *test)
{
	struct report_test *t = test->priv;
	unsigned long n = atomic_long_read(&pin_refused[PIN_REASON_MEMLOCK]);
	const char *text;

	snprintf(t->want, sizeof(t->want), "\nrefused memlock %lu\n", n);
	report_list(&t->m);
	text = report_text(t);
	KUNIT_EXPECT_NOT_NULL(test, strstr(text, t->want));
	KUNIT_EXPECT_TRUE(test, strstr(text, "\nrefused fsdax ") >
				strstr(text, t->acct->name));
}

/* Each read of the file begins where the last one ended */
static void list_goes_on_where_it_was(struct kunit *test)
{
	struct report_test *t = test->priv;
	struct pin_account *next = pin_account_get(t->base.mm, NULL, "test",
				  PIN_COUNT_LOCKED, NULL);
	loff_t pos = t->acct->id;

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, next);
	KUNIT_EXPECT_PTR_EQ(test, pins_start(&t->m, &pos), t->acct);
	KUNIT_EXPECT_PTR_EQ(test, pins_next(&t->m, t->acct, &pos), next);
	KUNIT_EXPECT_EQ(test, pos, next->id);
	pins_stop(&t->m, NULL);
	pin_account_put(next);

	/* Its account has gone meanwhile */
	KUNIT_EXPECT_PTR_EQ(test, pins_start(&t->m, &pos), (void *)refusals);
	KUNIT_EXPECT_NULL(test, pins_next(&t->m, (void *)refusals, &pos));
	pins_stop(&t->m, NULL);
	KUNIT_EXPECT_NULL(test, pins_start(&t->m, &pos));
	pins_stop(&t->m, NULL);
}

static void read_all(void *data)
{
	struct kunit *test = data;
	struct report_test *t = test->priv;

	pin_test_limit(103);
	longterm_pins_show(&t->m, t->base.mm, current);
	KUNIT_EXPECT_STREQ(test, report_text(t), report_want(t, "103"));
	strscpy(t->acct->comm, "comm");
	KUNIT_EXPECT_TRUE(test, list_has(t, "comm", "alive"));
}

/*
 * A pin that waits for something must not keep anybody from looking; nor must who waits
 * for its mmap_lock, in cgroup_mutex for instance
 */
static void readers_wait_for_no_lock(struct kunit *test)
{
	struct report_test *t = test->priv;
	struct pin_test_call reader = { read_all, test };
	struct task_struct *task;

	pin_test_call_init(test, &reader);
	task = pin_test_hold_mmap_lock(test, t->base.mm);
	cgroup_lock();
	mutex_lock(&pin_ledgers_lock);
	mutex_lock(&t->acct->ledger->lock);
	KUNIT_EXPECT_TRUE(test, pin_test_call_ends(&reader));
	mutex_unlock(&t->acct->ledger->lock);
	mutex_unlock(&pin_ledgers_lock);
	cgroup_unlock();
	kthread_stop(task);
	pin_test_call_wait(&reader);
}

static void ledgers_can_be_told_apart(struct kunit *test)
{
	struct report_test *t = test->priv;
	struct mm_struct *mm = pin_test_other_mm(test);
	struct pin_ledger *other = pin_ledger_get(mm);

	KUNIT_ASSERT_NOT_NULL(test, other);
	KUNIT_EXPECT_NE(test, other->number, t->acct->ledger->number);
	pin_ledger_put(other);
}
#endif

#ifdef CONFIG_KCSAN
/**
 * struct report_race - what is pinned while others read of it
 * @test: the test
 * @pinned: an account that is part of VmPin
 * @owner: whose limit applies
 * @cgroup: another than that of this thread
 * @sum: of what was read, so that all of it is
 * @addr: some pages
 */
struct report_race {
	struct report_test *test;
	struct pin_account *pinned;
	struct pin_owner owner;
	struct misc_cg *cgroup;
	unsigned long sum;
	unsigned long addr;
};

/* Page @i */
static void race_pin(struct report_race *race, struct pin_account *acct,
		     unsigned int i)
{
	struct page *page;

	if (pin_user_pages_account(acct, &race->owner,
				   race->addr + (i << PAGE_SHIFT), 1,
				   FOLL_WRITE, &page) == 1)
		put_user_pages_account(acct, &page, 1, false);
}

/* All that readers are told changes */
static void race_pin_put_refuse(void *data)
{
	struct report_race *race = data;
	struct page *pages[3];

	race_pin(race, race->test->acct, 0);
	race_pin(race, race->pinned, 0);
	/* More than the limit allows */
	pin_user_pages_account(race->test->acct, &race->owner, race->addr, 3,
			       FOLL_WRITE, pages);
}

static void race_pin_put(void *data)
{
	struct report_race *race = data;

	race_pin(race, race->pinned, 3);
}

/* Without the list, each read comes often, and KCSAN takes samples */
static void race_read(void *data)
{
	struct report_race *race = data;
	struct report_test *t = race->test;
	struct pin_account *acct = t->acct;
	struct mm_struct *mm;
	int i;

	rcu_read_lock();
	show_account(&t->m, acct);
	show_system_account(&t->m, acct);
	rcu_read_unlock();
	t->m.count = 0;
	for (i = 0; i < PIN_COUNTER_NR; i++)
		race->sum += pin_ledger_published(acct->ledger, i);
	race->sum += mm_locked_pages(t->base.mm);
	put_misc_cg(pin_ledger_cgroup(acct->ledger));
	pin_account_is_for(acct, READ_ONCE(acct->ledger->mm));
	pin_account_is_dead(acct);
	mm = pin_account_mm(acct);
	if (mm)
		mmput_async(mm);
}

static void report_race_begin(struct kunit *test, struct report_race *race)
{
	struct report_test *t = test->priv;

	report_test_nothing_pinned(t);
	race->test = t;
	race->owner.task = current;
	race->addr = pin_test_map_small(test, 4 * PAGE_SIZE);
	race->pinned = pin_account_get(t->base.mm, NULL, "test",
				       PIN_COUNT_PINNED, NULL);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, race->pinned);
	pin_test_limit(2);
}

static void readers_and_pins_do_not_race(struct kunit *test)
{
	struct report_race race = {};

	report_race_begin(test, &race);
	pin_test_race(test, race.test->base.mm, race_pin_put_refuse, race_read,
		      &race);
	pin_account_put(race.pinned);
}

static void pins_of_two_threads_do_not_race(struct kunit *test)
{
	struct report_race race = {};

	report_race_begin(test, &race);
	pin_test_race(test, race.test->base.mm, race_pin_put_refuse, race_pin_put,
		      &race);
	pin_account_put(race.pinned);
}

/* By one process after the other, each of another cgroup, which soon dies */
static void race_adopt(void *data)
{
	struct report_race *race = data;
	struct pin_account *acct = race->test->acct;
	struct mm_struct *mm = mm_alloc();

	if (!mm)
		return;
	put_misc_cg(acct->ledger->cgroup);
	WRITE_ONCE(acct->ledger->cgroup, race->cgroup);
	pin_account_adopt(acct, &race->owner, mm);
	mmput(mm);
}

static void readers_and_adoption_do_not_race(struct kunit *test)
{
	struct report_test *t = test->priv;
	struct report_race race = {};

	report_race_begin(test, &race);
	pin_account_put(race.pinned);
	race.cgroup = pin_test_cgroups(test, 1);
	pin_test_mm_dies(test, &t->base);
	pin_test_race(test, NULL, race_adopt, race_read, &race);
	KUNIT_EXPECT_FALSE(test, pin_account_is_for(t->acct, t->base.mm));
}
#endif

static struct kunit_case pin_report_test_cases[] = {
	KUNIT_CASE(file_of_process_has_holders_and_totals),
	KUNIT_CASE(limit_may_be_none),
	KUNIT_CASE(ended_process_still_has_holders),
	KUNIT_CASE(process_without_ledger_has_totals),
	KUNIT_CASE(many_holders_are_all_there),
	KUNIT_CASE(name_that_does_no_harm_stays),
	KUNIT_CASE(name_cannot_leave_its_quotes_or_line),
	KUNIT_CASE(name_that_is_no_utf8_is_escaped),
	KUNIT_CASE(name_cannot_look_like_another_escaped),
	KUNIT_CASE(long_name_is_cut_off),
	KUNIT_CASE(report_without_room_says_so),
#ifdef CONFIG_PROC_FS
	KUNIT_CASE(list_of_all_holders_has_living_and_dead),
	KUNIT_CASE(comm_is_one_word),
	KUNIT_CASE(list_ends_with_refusals_since_boot),
	KUNIT_CASE(list_goes_on_where_it_was),
	KUNIT_CASE(readers_wait_for_no_lock),
	KUNIT_CASE(ledgers_can_be_told_apart),
#endif
#ifdef CONFIG_KCSAN
	KUNIT_CASE(readers_and_pins_do_not_race),
	KUNIT_CASE(pins_of_two_threads_do_not_race),
	KUNIT_CASE(readers_and_adoption_do_not_race),
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
