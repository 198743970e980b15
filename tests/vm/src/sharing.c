// SPDX-License-Identifier: GPL-2.0
/*
 * Two devices map the same memory: it is charged once, in whatever order it is
 * given back. And the same addresses are not always the same memory.
 */
#include "test.h"

FIXTURE(sharing)
{
	struct vfio a, b;
	struct snap before, base;
};

FIXTURE_SETUP(sharing)
{
	NEED_DEVICES(2U);
	self->b.fd = -1;
	ASSERT_EQ(0, snap(&self->before));
	ASSERT_EQ(0, vfio_open(&self->a, 0));
	ASSERT_EQ(0, vfio_open(&self->b, 1));
	ASSERT_EQ(0, snap(&self->base));
}

FIXTURE_TEARDOWN(sharing)
{
	vfio_close(&self->a);
	vfio_close(&self->b);
	EXPECT_BACK(&self->before);
}

static void once(struct __test_metadata *_metadata,
		 FIXTURE_DATA(sharing) *self, const char *name, bool a_first)
{
	struct vfio *first = a_first ? &self->a : &self->b;
	struct vfio *last = a_first ? &self->b : &self->a;
	const struct backing *b = backing_find(name);
	struct area area;
	long n;

	ASSERT_NE(NULL, b);
	if (area_open(b, &area, NULL, NULL))
		SKIP(return, "%s", area.why);
	n = area.size / PAGE;

	EXPECT_EQ(0, vfio_map(&self->a, area.addr, IOVA, area.size, MAP_RW));
	EXPECT_STATE(&self->base, n, n, n);
	EXPECT_EQ(0, vfio_map(&self->b, area.addr, IOVA, area.size, MAP_RW));
	EXPECT_STATE(&self->base, 2 * n, n, n);
	EXPECT_EQ(0, edu_check(&self->a.dev[0], area.addr, IOVA, area.size));
	EXPECT_EQ(0, edu_check(&self->b.dev[0], area.addr, IOVA, area.size));

	EXPECT_EQ((long)area.size, vfio_unmap(first, IOVA, area.size));
	EXPECT_STATE(&self->base, n, n, n);
	EXPECT_EQ(0, edu_check(&last->dev[0], area.addr, IOVA, area.size));
	EXPECT_EQ((long)area.size, vfio_unmap(last, IOVA, area.size));
	EXPECT_BACK(&self->base);
	area_close(&area);
}

#define ONCE(_id, _name)						\
	TEST_F(sharing, once_##_id##_first_to_last)			\
	{								\
		once(_metadata, self, _name, true);			\
	}								\
	TEST_F(sharing, once_##_id##_last_to_first)			\
	{								\
		once(_metadata, self, _name, false);			\
	}

ONCE(anon, "anon-4k")
ONCE(thp, "thp")
ONCE(hugetlb, "hugetlb-2m")
ONCE(memfd, "memfd")

/* A container's end gives its part back, and only that */
TEST_F(sharing, container_closed)
{
	char *mem = anon_pages(16 * PAGE);

	ASSERT_NE(NULL, mem);
	EXPECT_EQ(0, vfio_map(&self->a, mem, IOVA, 16 * PAGE, MAP_RW));
	EXPECT_EQ(0, vfio_map(&self->b, mem, IOVA, 16 * PAGE, MAP_RW));
	EXPECT_STATE(&self->base, 32, 16, 16);
	vfio_close(&self->a);
	EXPECT_STATE(&self->base, 16, 16, 16);
	EXPECT_EQ(0, edu_check(&self->b.dev[0], mem, IOVA, 16 * PAGE));
	vfio_close(&self->b);
	EXPECT_BACK(&self->base);
}

/* Small pages: the charge is the distinct pages, to the page */
TEST_F(sharing, overlap_small)
{
	char *mem = anon_pages(32 * PAGE);

	ASSERT_NE(NULL, mem);
	EXPECT_EQ(0, vfio_map(&self->a, mem, IOVA, 20 * PAGE, MAP_RW));
	EXPECT_EQ(0, vfio_map(&self->b, mem + 12 * PAGE, IOVA, 20 * PAGE,
			      MAP_RW));
	EXPECT_STATE(&self->base, 40, 32, 32);
	EXPECT_EQ(20 * (long)PAGE, vfio_unmap(&self->a, IOVA, 20 * PAGE));
	EXPECT_STATE(&self->base, 20, 20, 20);
	EXPECT_EQ(0, vfio_map(&self->a, mem, IOVA, PAGE, MAP_RW));
	EXPECT_STATE(&self->base, 21, 21, 21);
	EXPECT_EQ(20 * (long)PAGE, vfio_unmap(&self->b, IOVA, 20 * PAGE));
	EXPECT_STATE(&self->base, 1, 1, 1);
	EXPECT_EQ((long)PAGE, vfio_unmap(&self->a, IOVA, PAGE));
	EXPECT_BACK(&self->base);
}

/*
 * Large folios: never less than the distinct pages, never more than the folio
 * or than the pins
 */
static void overlap_large(struct __test_metadata *_metadata,
			  FIXTURE_DATA(sharing) *self, const char *name)
{
	/* pages: a from .. to, b from .. to, all within one folio of 512 */
	static const struct {
		int a, a_end, b, b_end, distinct, charge;
	} step[] = {
		{ 0, 256, 256, 512, 512, 512 },	/* side by side */
		{ 0, 256, 128, 384, 384, 512 },	/* by half */
		{ 0, 512, 100, 101, 512, 512 },	/* one inside the other */
		{ 0, 10, 5, 15, 15, 20 },	/* far below the folio */
		{ 7, 8, 7, 8, 1, 2 },		/* the same page */
		{ 0, 512, 0, 512, 512, 512 },	/* all of it */
	};
	const struct backing *b = backing_find(name);
	struct area area;
	struct snap now;
	size_t i;

	if (area_open(b, &area, NULL, NULL))
		SKIP(return, "%s", area.why);
	for (i = 0; i < ARRAY_SIZE(step); i++) {
		int a_len = step[i].a_end - step[i].a;
		int b_len = step[i].b_end - step[i].b;

		EXPECT_EQ(0, vfio_map(&self->a, area.addr + step[i].a * PAGE,
				      IOVA, a_len * PAGE, MAP_RW));
		EXPECT_STATE(&self->base, a_len, a_len, 512);
		EXPECT_EQ(0, vfio_map(&self->b, area.addr + step[i].b * PAGE,
				      IOVA, b_len * PAGE, MAP_RW));
		EXPECT_EQ(0, snap(&now));
		EXPECT_LE(step[i].distinct,
			  now.pins.charge - self->base.pins.charge);
		EXPECT_STATE(&self->base, a_len + b_len, step[i].charge, 512);
		EXPECT_EQ(a_len * (long)PAGE,
			  vfio_unmap(&self->a, IOVA, a_len * PAGE));
		EXPECT_STATE(&self->base, b_len, b_len, 512);
		EXPECT_EQ(b_len * (long)PAGE,
			  vfio_unmap(&self->b, IOVA, b_len * PAGE));
		EXPECT_BACK(&self->base);
	}
	area_close(&area);
}

TEST_F(sharing, overlap_thp)
{
	overlap_large(_metadata, self, "thp");
}

TEST_F(sharing, overlap_hugetlb)
{
	overlap_large(_metadata, self, "hugetlb-2m");
}

/*
 * The first device keeps the old pages when their addresses get new ones, so
 * both are in use and both are charged.
 */
static void other_pages(struct __test_metadata *_metadata,
			FIXTURE_DATA(sharing) *self, bool remap)
{
	char *mem = anon_pages(16 * PAGE), *scratch = anon_pages(PAGE);
	uint64_t old;

	ASSERT_NE(NULL, mem);
	ASSERT_NE(NULL, scratch);
	fill(mem, PAGE, 1);
	EXPECT_EQ(0, vfio_map(&self->a, mem, IOVA, 16 * PAGE, MAP_RW));
	old = pfn_of(mem);
	if (remap) {
		ASSERT_NE(MAP_FAILED,
			  mmap(mem, 16 * PAGE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	} else {
		ASSERT_EQ(0, madvise(mem, 16 * PAGE, MADV_DONTNEED));
	}
	madvise(mem, 16 * PAGE, MADV_NOHUGEPAGE);
	fill(mem, PAGE, 2);
	EXPECT_NE(old, pfn_of(mem));
	EXPECT_STATE(&self->base, 16, 16, 16);
	EXPECT_EQ(0, vfio_map(&self->b, mem, IOVA, 16 * PAGE, MAP_RW));
	EXPECT_STATE(&self->base, 32, 32, 32);

	/* Each device sees its own */
	EXPECT_EQ(0, vfio_map(&self->a, scratch, IOVA_SCRATCH, PAGE, MAP_RW));
	EXPECT_EQ(0, edu_copy(&self->a.dev[0], IOVA_SCRATCH, IOVA, EDU_LEN));
	EXPECT_TRUE(filled(scratch, EDU_LEN, 1));
	EXPECT_EQ(0, edu_check(&self->b.dev[0], mem, IOVA, 16 * PAGE));
	EXPECT_EQ((long)PAGE, vfio_unmap(&self->a, IOVA_SCRATCH, PAGE));

	EXPECT_EQ(16 * (long)PAGE, vfio_unmap(&self->a, IOVA, 16 * PAGE));
	EXPECT_STATE(&self->base, 16, 16, 16);
	EXPECT_EQ(0, edu_check(&self->b.dev[0], mem, IOVA, 16 * PAGE));
	EXPECT_EQ(16 * (long)PAGE, vfio_unmap(&self->b, IOVA, 16 * PAGE));
	EXPECT_BACK(&self->base);
}

TEST_F(sharing, other_pages_after_dontneed)
{
	other_pages(_metadata, self, false);
}

TEST_F(sharing, other_pages_after_remap)
{
	other_pages(_metadata, self, true);
}

/* Memory that is unmapped altogether stays charged while it is pinned */
TEST_F(sharing, pins_outlive_munmap)
{
	char *mem = anon_pages(16 * PAGE);

	ASSERT_NE(NULL, mem);
	EXPECT_EQ(0, vfio_map(&self->a, mem, IOVA, 16 * PAGE, MAP_RW));
	ASSERT_EQ(0, munmap(mem, 16 * PAGE));
	EXPECT_STATE(&self->base, 16, 16, 16);
	EXPECT_EQ(0, edu_copy(&self->a.dev[0], IOVA, IOVA + PAGE, EDU_LEN));
	EXPECT_EQ(16 * (long)PAGE, vfio_unmap(&self->a, IOVA, 16 * PAGE));
	EXPECT_BACK(&self->base);
}

/*
 * The same for large folios. The pin is the last reference, so at the unmap the
 * folio is gone as soon as it is unpinned: the ledger must be done by then.
 */
static void outlive_large(struct __test_metadata *_metadata,
			  FIXTURE_DATA(sharing) *self, const char *name)
{
	const struct backing *b = backing_find(name);
	struct area area;

	if (area_open(b, &area, NULL, NULL))
		SKIP(return, "%s", area.why);
	EXPECT_EQ(0, vfio_map(&self->a, area.addr, IOVA, 2 * MB, MAP_RW));
	EXPECT_EQ(0, vfio_map(&self->b, area.addr + MB, IOVA, PAGE, MAP_RW));
	EXPECT_EQ(0, vfio_map(&self->a, area.addr + 2 * MB, IOVA_FAR, PAGE,
			      MAP_RW));
	area_close(&area);
	EXPECT_STATE(&self->base, 514, 513, 1024);
	EXPECT_EQ(0, edu_copy(&self->a.dev[0], IOVA, IOVA + MB, EDU_LEN));
	EXPECT_EQ((long)(2 * MB), vfio_unmap(&self->a, IOVA, 2 * MB));
	EXPECT_STATE(&self->base, 2, 2, 1024);
	EXPECT_EQ((long)PAGE, vfio_unmap(&self->b, IOVA, PAGE));
	EXPECT_STATE(&self->base, 1, 1, 512);
	EXPECT_EQ((long)PAGE, vfio_unmap(&self->a, IOVA_FAR, PAGE));
	EXPECT_BACK(&self->base);
}

TEST_F(sharing, pins_outlive_munmap_thp)
{
	outlive_large(_metadata, self, "thp");
}

TEST_F(sharing, pins_outlive_munmap_hugetlb)
{
	outlive_large(_metadata, self, "hugetlb-2m");
}

TEST_F(sharing, read_only_and_writable)
{
	char *mem = anon_pages(16 * PAGE), *scratch = anon_pages(PAGE);

	ASSERT_NE(NULL, mem);
	ASSERT_NE(NULL, scratch);
	EXPECT_EQ(0, vfio_map(&self->a, mem, IOVA, 16 * PAGE, MAP_R));
	EXPECT_EQ(0, vfio_map(&self->b, mem, IOVA, 16 * PAGE, MAP_RW));
	EXPECT_STATE(&self->base, 32, 16, 16);
	EXPECT_EQ(0, vfio_map(&self->a, scratch, IOVA_SCRATCH, PAGE, MAP_RW));
	EXPECT_EQ(0, edu_check(&self->b.dev[0], mem, IOVA, 16 * PAGE));
	EXPECT_EQ(0, edu_check_ro(&self->a.dev[0], mem, IOVA, 16 * PAGE,
				  scratch, IOVA_SCRATCH));
	EXPECT_EQ((long)PAGE, vfio_unmap(&self->a, IOVA_SCRATCH, PAGE));

	/* What the one device writes the other reads: it is the same page */
	fill(mem, EDU_LEN, 3);
	EXPECT_EQ(0, edu_copy(&self->b.dev[0], IOVA + PAGE, IOVA, EDU_LEN));
	EXPECT_TRUE(filled(mem + PAGE, EDU_LEN, 3));
	EXPECT_EQ(16 * (long)PAGE, vfio_unmap(&self->b, IOVA, 16 * PAGE));
	EXPECT_STATE(&self->base, 16, 16, 16);
	EXPECT_EQ(16 * (long)PAGE, vfio_unmap(&self->a, IOVA, 16 * PAGE));
	EXPECT_BACK(&self->base);
}

/* Read pins of memory that nobody wrote yet, then writes */
TEST_F(sharing, read_pin_first)
{
	char *mem, *scratch = anon_pages(PAGE);

	ASSERT_NE(NULL, scratch);
	mem = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)mem);
	EXPECT_EQ(0, vfio_map(&self->a, mem, IOVA, 4 * PAGE, MAP_R));
	EXPECT_STATE(&self->base, 4, 4, 4);
	fill(mem, EDU_LEN, 5);
	EXPECT_EQ(0, vfio_map(&self->a, scratch, IOVA_SCRATCH, PAGE, MAP_RW));
	EXPECT_EQ(0, edu_copy(&self->a.dev[0], IOVA_SCRATCH, IOVA, EDU_LEN));
	EXPECT_TRUE(filled(scratch, EDU_LEN, 5));
	EXPECT_EQ((long)PAGE, vfio_unmap(&self->a, IOVA_SCRATCH, PAGE));
	EXPECT_EQ(0, vfio_map(&self->b, mem, IOVA, 4 * PAGE, MAP_RW));
	EXPECT_STATE(&self->base, 8, 4, 4);
}

TEST_F(sharing, same_page_twice_in_one_container)
{
	char *mem = anon_pages(PAGE);

	ASSERT_NE(NULL, mem);
	EXPECT_EQ(0, vfio_map(&self->a, mem, IOVA, PAGE, MAP_RW));
	EXPECT_EQ(0, vfio_map(&self->a, mem, IOVA + PAGE, PAGE, MAP_RW));
	EXPECT_STATE(&self->base, 2, 1, 1);
	fill(mem, EDU_LEN, 6);
	EXPECT_EQ(0, edu_copy(&self->a.dev[0], IOVA + EDU_LEN, IOVA + PAGE,
			      EDU_LEN));
	EXPECT_TRUE(filled(mem + EDU_LEN, EDU_LEN, 6));
	EXPECT_EQ((long)PAGE, vfio_unmap(&self->a, IOVA, PAGE));
	EXPECT_STATE(&self->base, 1, 1, 1);
	EXPECT_EQ((long)PAGE, vfio_unmap(&self->a, IOVA + PAGE, PAGE));
	EXPECT_BACK(&self->base);
}

/* One file page at two addresses is one page */
TEST_F(sharing, aliases)
{
	const struct backing *b = backing_find("memfd");
	struct area area;
	char *alias;

	ASSERT_EQ(0, area_open(b, &area, NULL, NULL));
	alias = mmap(NULL, area.size, PROT_READ | PROT_WRITE, MAP_SHARED,
		     area.fd, 0);
	ASSERT_NE(MAP_FAILED, (void *)alias);
	EXPECT_EQ(0, vfio_map(&self->a, area.addr, IOVA, area.size, MAP_RW));
	EXPECT_EQ(0, vfio_map(&self->b, alias, IOVA, area.size, MAP_RW));
	EXPECT_STATE(&self->base, 2 * area.size / PAGE, area.size / PAGE,
		     area.size / PAGE);
	munmap(alias, area.size);
	area_close(&area);
}

/* Two devices of one container need one mapping only */
TEST_F(sharing, two_devices_of_one_container)
{
	char *mem = anon_pages(16 * PAGE);

	ASSERT_NE(NULL, mem);
	vfio_close(&self->b);
	ASSERT_EQ(0, vfio_map(&self->a, mem, IOVA, 16 * PAGE, MAP_RW));
	ASSERT_EQ(0, vfio_add(&self->a, 1));
	EXPECT_STATE(&self->base, 16, 16, 16);
	EXPECT_EQ(0, edu_check(&self->a.dev[0], mem, IOVA, 16 * PAGE));
	EXPECT_EQ(0, edu_check(&self->a.dev[1], mem, IOVA, 16 * PAGE));
	EXPECT_EQ(16 * (long)PAGE, vfio_unmap(&self->a, IOVA, 16 * PAGE));
	EXPECT_BACK(&self->base);
}

/* A ledger is a process's own: two that share memory are charged each */
TEST_F(sharing, two_processes)
{
	const struct backing *b = backing_find("memfd");
	struct area area;
	int sv[2], status;
	long value;
	pid_t pid;

	ASSERT_EQ(0, area_open(b, &area, NULL, NULL));
	vfio_close(&self->b);
	ASSERT_EQ(0, chan_pair(sv));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct pins p;
		struct vfio v;

		close(sv[0]);
		if (vfio_open(&v, 1) ||
		    vfio_map(&v, area.addr, IOVA, area.size, MAP_RW) ||
		    pins_read(0, &p) || chan_put(sv[1], p.charge) ||
		    chan_get(sv[1], NULL))
			_exit(1);
		_exit(0);
	}
	close(sv[1]);
	EXPECT_EQ(0, chan_get(sv[0], &value));
	EXPECT_EQ((long)(area.size / PAGE), value);
	EXPECT_EQ(self->base.counted + value, vmstat("nr_longterm_pinned"));
	EXPECT_EQ(0, vfio_map(&self->a, area.addr, IOVA, area.size, MAP_RW));
	EXPECT_EQ(self->base.counted + 2 * value, vmstat("nr_longterm_pinned"));
	EXPECT_EQ(value, status_pages(pid, "VmLck:"));
	EXPECT_EQ(0, chan_put(sv[0], 0));
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_STATE(&self->base, value, value, value);
	area_close(&area);
}

TEST_HARNESS_MAIN
