// SPDX-License-Identifier: GPL-2.0
/*
 * Memory is pinned, mapped and unmapped in large pieces: what the calls cost is
 * counted in trace events, since time means nothing on an emulated machine.
 */
#include <sys/mman.h>

#include "test.h"

FIXTURE(batches) {
	struct vfio v;
	struct snap before;
};

FIXTURE_SETUP(batches)
{
	NEED_DEVICES(1);
	ASSERT_EQ(0, snap(&self->before));
	ASSERT_EQ(0, vfio_open(&self->v, 0));
}

FIXTURE_TEARDOWN(batches)
{
	vfio_close(&self->v);
	EXPECT_BACK(&self->before);
}

/* 64 MiB of huge pages are 32 extents at most: one request to the account */
TEST_F(batches, pin)
{
	size_t size = 64 * MB;
	char *mem = aligned_alloc(2 * MB, size);
	char *text;
	long sum = 0;
	int pins;

	ASSERT_NE(NULL, mem);
	madvise(mem, size, MADV_HUGEPAGE);
	fill(mem, size, 1);
	ASSERT_TRUE(trace_supported());
	ASSERT_EQ(0, trace_on());
	ASSERT_EQ(0, vfio_map(&self->v, mem, IOVA, size, MAP_RW));
	trace_off();
	ASSERT_EQ((long)size, vfio_unmap(&self->v, IOVA, size));

	text = trace_read();
	ASSERT_NE(NULL, text);
	pins = trace_count(text, "longterm_pin", getpid(), "npages", &sum);
	free(text);
	EXPECT_EQ((long)(size / PAGE), sum);
	EXPECT_EQ(1, pins);
	free(mem);
}

/* Memory whose pages lie apart from each other comes out in one piece, too */
TEST_F(batches, unmap_of_scattered_pages)
{
	size_t i, size = 2 * MB, runs = 1;
	char *mem = small_pages(size), *between = small_pages(size);
	struct iommu_pieces pieces;

	ASSERT_NE(NULL, mem);
	ASSERT_NE(NULL, between);
	for (i = 0; i < size; i += PAGE) {
		mem[i] = 1;
		between[i] = 1;
	}
	for (i = PAGE; i < size; i += PAGE)
		runs += pfn_of(mem + i) != pfn_of(mem + i - PAGE) + 1;
	if (runs < size / PAGE / 2)
		SKIP(return, "pages in %zu runs are not scattered", runs);

	ASSERT_EQ(0, vfio_map(&self->v, mem, IOVA, size, MAP_RW));
	ASSERT_EQ(0, iommu_trace_start());
	ASSERT_EQ((long)size, vfio_unmap(&self->v, IOVA, size));
	iommu_trace_stop(&pieces, IOVA, size);
	EXPECT_EQ((long)size, pieces.unmapped);
	EXPECT_LE(pieces.unmaps, 2);
	TH_LOG("%d calls to unmap %zu runs", pieces.unmaps, runs);
	munmap(mem, size);
	munmap(between, size);
}

TEST_HARNESS_MAIN
