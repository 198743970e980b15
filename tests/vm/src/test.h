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

/* The machine is ours, so what it lacks is a failure and no reason to skip */
#define NEED_DEVICES(n)							\
	do {								\
		ASSERT_LE(n, vfio_count())				\
			TH_LOG("USERPIN_VFIO_DEVS names too few");	\
		ASSERT_TRUE(pins_supported())				\
			TH_LOG("this kernel has no longterm_pins");	\
	} while (0)

/* Nothing is left of what was done since @before */
#define EXPECT_BACK(before)						\
	do {								\
		const char *__diff = snap_settles(before);		\
									\
		EXPECT_EQ(NULL, __diff)					\
			TH_LOG("not as before: %s", __diff);		\
	} while (0)

/*
 * Since @base, so many pins were added, charged so much, holding so much.
 * VmLck and nr_longterm_pinned follow the charge, nr_foll_pin_* the pins, what
 * cgroups are charged what is held.
 */
#define EXPECT_STATE(base, pages, charge, held)				\
	__expect_state(_metadata, __LINE__, base, pages, charge, charge, held)

/* Where some of the pages are counted by their holder, and not charged */
#define EXPECT_STATE_UNCHARGED(base, pages, charge, counted, held)	\
	__expect_state(_metadata, __LINE__, base, pages, charge, counted, held)

static inline void __expect_state(struct __test_metadata *_metadata, int line,
				  const struct snap *base, long pages,
				  long charge, long counted, long held)
{
	static struct snap now;

	EXPECT_EQ(0, snap(&now));
	EXPECT_EQ(pages, pins_pages(&now.pins) - pins_pages(&base->pins))
		TH_LOG("pages, line %d", line);
	EXPECT_EQ(charge, now.pins.charge - base->pins.charge)
		TH_LOG("charge, line %d", line);
	EXPECT_EQ(held, now.pins.held - base->pins.held)
		TH_LOG("held, line %d", line);
	EXPECT_EQ(charge, now.vmlck - base->vmlck)
		TH_LOG("VmLck, line %d", line);
	EXPECT_EQ(0, now.vmpin - base->vmpin)
		TH_LOG("VmPin, line %d", line);
	EXPECT_EQ(counted, now.counted - base->counted)
		TH_LOG("nr_longterm_pinned, line %d", line);
	EXPECT_EQ(pages, now.foll - base->foll)
		TH_LOG("nr_foll_pin, line %d", line);
	EXPECT_EQ(held, now.cgroups - base->cgroups)
		TH_LOG("misc.current, line %d", line);
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
