/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the test programs share on top of the kernel's kselftest harness. To be
 * included by programs only.
 */
#ifndef USERPIN_TEST_H
#define USERPIN_TEST_H

#include "kselftest_harness.h"

#include "backing.h"
#include "pins.h"
#include "util.h"
#include "vfio_lib.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

/* No case has a limit of time: tests/vm/run ends what hangs */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 0

/* This kernel is what the program was told */
#define NEED_PINS()	__need_pins(_metadata)

static inline void __need_pins(struct __test_metadata *_metadata)
{
	ASSERT_EQ(!on_stock, pins_supported())
		TH_LOG("this kernel has %slongterm_pins", on_stock ? "" : "no ");
}

/* The machine is ours, so what it lacks is a failure and no reason to skip */
#define NEED_DEVICES(n)							\
	do {								\
		ASSERT_LE(n, vfio_count())				\
			TH_LOG("USERPIN_VFIO_DEVS names too few");	\
		NEED_PINS();						\
	} while (0)

/* Faults can be injected into this thread: @fd is for struct failing, or for arm() */
#define NEED_FAILING(fd)						\
	do {								\
		if (!failing_supported())				\
			SKIP(return, "this kernel has no fault injection"); \
		(fd) = failing_open();					\
		ASSERT_LE(0, fd);					\
	} while (0)

/* failing_next(), as long as the test has not failed; and there is an end */
#define FAILING_NEXT(f)		__failing_next(_metadata, f)

static inline bool __failing_next(struct __test_metadata *_metadata,
				  struct failing *f)
{
	if (_metadata->exit_code) {
		if (f->n)
			TH_LOG("failure %d: %s", f->n, strerror(-f->ret));
		return false;
	}
	if (failing_next(f))
		return true;
	EXPECT_FALSE(f->injected) TH_LOG("no end after %d failures", f->n);
	return false;
}

/*
 * FAILING_NEXT() has come to an end: what was injected has made the operation fail @least
 * times, for it may do without some things; and without that it has not failed.
 */
#define EXPECT_FAILED_IN_TURN(f, least)					\
	__expect_failed_in_turn(_metadata, __LINE__, f, least)

static inline void __expect_failed_in_turn(struct __test_metadata *_metadata,
					   int line, const struct failing *f,
					   int least)
{
	TH_LOG("line %d: %d failures, %d of them mattered", line, f->n - 1,
	       f->failures);
	if (_metadata->exit_code)
		return;
	EXPECT_EQ(0, f->ret) TH_LOG("with nothing injected");
	EXPECT_LT(1, f->n) TH_LOG("nothing was made to fail");
	EXPECT_LE(least, f->failures) TH_LOG("too few");
}

/* What is expected here, or what docs/behaviour.md says of stock */
#define EXPECT_HERE_OR_STOCK(here, stock, seen)				\
	EXPECT_EQ(on_stock ? (stock) : (here), seen)

/* Nothing is left of what was done since @before */
#define EXPECT_BACK(before)						\
	do {								\
		const char *__diff = snap_settles(before);		\
									\
		EXPECT_EQ(NULL, __diff)					\
			TH_LOG("not as before: %s", __diff);		\
	} while (0)

/* Counters that pins can be part of */
#define COUNT_LOCKED	0x1	/* VmLck */
#define COUNT_PINNED	0x2	/* VmPin */
#define COUNT_USER	0x4	/* the locked pages of the user */

/*
 * Since @base, so many pins were added, of so many pages that count, holding so much.
 * nr_longterm_pinned follows the pages, nr_foll_pin_* the pins, what cgroups are
 * charged what is held.
 */
#define EXPECT_COUNTS(base, counters, pages, distinct, held)		\
	__expect_state(_metadata, __LINE__, base, counters, pages, distinct, \
		       distinct, held, false)

/* The same of VFIO containers */
#define EXPECT_STATE(base, pages, charge, held)				\
	EXPECT_COUNTS(base, COUNT_LOCKED, pages, charge, held)

/* Where some of the pages are counted by their holder, and not charged */
#define EXPECT_STATE_UNCHARGED(base, pages, charge, counted, held)	\
	__expect_state(_metadata, __LINE__, base, COUNT_LOCKED, pages,	\
		       charge, counted, held, false)

/* @settles: it may take a moment */
static inline void __expect_state(struct __test_metadata *_metadata, int line,
				  const struct snap *base,
				  unsigned int counters, long pages,
				  long charge, long counted, long held,
				  bool settles)
{
	long vmlck = counters & COUNT_LOCKED ? charge : 0;
	long vmpin = counters & COUNT_PINNED ? charge : 0;
	static struct snap want, now;
	const char *diff;

	want = *base;
	want.pins.nr = 1;
	want.pins.holder[0].pages = pins_pages(&base->pins) + pages;
	want.foll += pages;
	want.pins.charge += vmlck;
	want.vmlck += vmlck;
	want.pins.pinned += vmpin;
	want.vmpin += vmpin;
	want.pins.user += counters & COUNT_USER ? charge : 0;
	want.counted += counted;
	want.pins.held += held;
	want.cgroups += held;
	if (settles) {
		diff = snap_settles(&want);
	} else {
		EXPECT_EQ(0, snap(&now));
		diff = snap_differs(&want, &now);
	}
	EXPECT_EQ(NULL, diff) TH_LOG("line %d: %s", line, diff);
}

/* Since @base, @times refusals for @why, and for no other reason */
#define EXPECT_REFUSED(base, why, times)				\
	__expect_refused(_metadata, __LINE__, base, why, times)

static inline void __expect_refused(struct __test_metadata *_metadata, int line,
				    const struct snap *base, enum reason why,
				    long times)
{
	static struct pins now;
	int r;

	EXPECT_EQ(0, pins_read(0, &now));
	for (r = 0; r < NR_REASONS; r++) {
		long more = pins_refused(&now, r) -
			    pins_refused(&base->pins, r);

		EXPECT_EQ(r == (int)why ? times : 0, more)
			TH_LOG("refusals for %s, line %d", reason_name[r],
			       line);
	}
}

#endif
