// SPDX-License-Identifier: GPL-2.0
/*
 * A BAR of 1 GiB, as GPUs have them: it is mapped for another device, by leaves of
 * the process's page table. It is memory of QEMU (ivshmem), so DMA into it shows.
 */
#include <linux/capability.h>

#include "test.h"

FIXTURE(bar)
{
	struct vfio v;
	struct snap before, base;
	size_t size;
	uint64_t pfn;
	char *bar;
	char *mem;
};

FIXTURE_SETUP(bar)
{
	NEED_DEVICES(1U);
	self->v.fd = -1;
	self->mem = anon_pages(PAGE);
	ASSERT_NE(NULL, self->mem);
	ASSERT_EQ(0, snap(&self->before));
	ASSERT_EQ(0, vfio_open(&self->v, 0));
	self->bar = vfio_add_bar(&self->v, &self->size, &self->pfn);
	ASSERT_NE(NULL, self->bar) TH_LOG("no device with a BAR");
	ASSERT_EQ(GB, self->size);
	ASSERT_EQ(0, vfio_map(&self->v, self->mem, IOVA, PAGE, MAP_RW));
	ASSERT_EQ(0, snap(&self->base));
}

FIXTURE_TEARDOWN(bar)
{
	vfio_close(&self->v);
	munmap(self->bar, self->size);
	EXPECT_BACK(&self->before);
}

/* The device copies between the memory and a place in the BAR, each way */
static void expect_dma(struct __test_metadata *_metadata,
		       FIXTURE_DATA(bar) *self, uint64_t iova, size_t at)
{
	static unsigned int seed;

	fill(self->mem, EDU_LEN, ++seed);
	EXPECT_EQ(0, edu_copy(&self->v.dev[0], iova + at, IOVA, EDU_LEN));
	EXPECT_TRUE(filled(self->bar + at, EDU_LEN, seed));
	fill(self->bar + at, EDU_LEN, ++seed);
	EXPECT_EQ(0, edu_copy(&self->v.dev[0], IOVA, iova + at, EDU_LEN));
	EXPECT_TRUE(filled(self->mem, EDU_LEN, seed));
}

/* One call of the IOMMU maps all of it, and one unmaps it; nothing is pinned */
TEST_F(bar, whole)
{
	struct iommu_pieces p;
	uint64_t pfn[2];

	ASSERT_EQ(0, iommu_trace_start());
	ASSERT_EQ(0, vfio_map(&self->v, self->bar, IOVA_FAR, GB, MAP_RW));
	iommu_trace_stop(&p, IOVA_FAR, GB);
	iommu_trace_frames(IOVA_FAR, pfn, 2);
	EXPECT_EQ(1, p.maps);
	EXPECT_EQ((long)GB, p.least);
	EXPECT_EQ(self->pfn, pfn[0]);
	EXPECT_EQ(self->pfn + 1, pfn[1]);
	EXPECT_STATE(&self->base, 0, 0, 0);
	expect_dma(_metadata, self, IOVA_FAR, 0);
	expect_dma(_metadata, self, IOVA_FAR, 777 * MB);
	expect_dma(_metadata, self, IOVA_FAR, GB - PAGE);
	ASSERT_EQ(0, iommu_trace_start());
	EXPECT_EQ((long)GB, vfio_unmap(&self->v, IOVA_FAR, GB));
	iommu_trace_stop(&p, IOVA_FAR, GB);
	EXPECT_EQ(1, p.unmaps);
	EXPECT_BACK(&self->base);
}

/* From the middle of one leaf to the middle of another, at another offset */
TEST_F(bar, part)
{
	const size_t first = GB / 2 + 3 * PAGE, size = GB / 4 + 5 * PAGE;
	uint64_t iova = IOVA_FAR + 7 * PAGE;
	struct iommu_pieces p;
	uint64_t pfn[2];

	ASSERT_EQ(0, iommu_trace_start());
	ASSERT_EQ(0, vfio_map(&self->v, self->bar + first, iova, size, MAP_RW));
	iommu_trace_stop(&p, iova, size);
	iommu_trace_frames(iova, pfn, 2);
	EXPECT_EQ((long)size, p.mapped);
	EXPECT_EQ(self->pfn + first / PAGE, pfn[0]);
	expect_dma(_metadata, self, iova - first, first);
	expect_dma(_metadata, self, iova - first, first + size - PAGE);
	EXPECT_EQ((long)size, vfio_unmap(&self->v, iova, size));
	EXPECT_BACK(&self->base);
}

/* The last pages of its leaf, and memory that the process has behind it */
TEST_F(bar, end)
{
	const size_t n = 4, size = 2 * n * PAGE;
	char *from = self->bar + GB - n * PAGE;
	struct iommu_pieces p;
	uint64_t pfn[2 * 4];
	size_t i;

	ASSERT_EQ(self->bar + GB,
		  (char *)mmap(self->bar + GB, n * PAGE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	memset(self->bar + GB, 1, n * PAGE);
	ASSERT_EQ(0, iommu_trace_start());
	ASSERT_EQ(0, vfio_map(&self->v, from, IOVA_FAR, size, MAP_RW));
	iommu_trace_stop(&p, IOVA_FAR, size);
	EXPECT_EQ((long)size, p.mapped);
	iommu_trace_frames(IOVA_FAR, pfn, 2 * n);
	for (i = 0; i < 2 * n; i++) {
		EXPECT_EQ(i < n ? self->pfn + GB / PAGE - n + i :
			  pfn_of(from + i * PAGE), pfn[i]);
	}
	EXPECT_STATE(&self->base, (long)n, (long)n, (long)n);
	EXPECT_EQ((long)size, vfio_unmap(&self->v, IOVA_FAR, size));
	EXPECT_BACK(&self->base);
	munmap(self->bar + GB, n * PAGE);
}

/* Where leaves of the process are small, around a page: it is one piece, too */
TEST_F(bar, small_pages)
{
	struct iommu_pieces p;

	ASSERT_EQ(0, mprotect(self->bar + 3 * MB, PAGE, PROT_READ));
	EXPECT_EQ(-EFAULT, vfio_map(&self->v, self->bar, IOVA_FAR, GB, MAP_RW));
	EXPECT_BACK(&self->base);
	ASSERT_EQ(0, iommu_trace_start());
	ASSERT_EQ(0, vfio_map(&self->v, self->bar, IOVA_FAR, GB, MAP_R));
	iommu_trace_stop(&p, IOVA_FAR, GB);
	EXPECT_EQ((long)GB, p.mapped);
	EXPECT_EQ(1, p.maps);
	EXPECT_EQ((long)GB, vfio_unmap(&self->v, IOVA_FAR, GB));
	EXPECT_BACK(&self->base);
}

/* Memory, the BAR, memory in one mapping: each page is what the process has there */
TEST_F(bar, between_memory)
{
	const size_t n = 600, size = 3 * n * PAGE;
	char *mem = small_pages(size);
	struct iommu_pieces p;
	size_t i, wrong = 0;
	uint64_t *pfn;

	pfn = calloc(3 * n, sizeof(*pfn));
	ASSERT_NE(NULL, mem);
	ASSERT_NE(NULL, pfn);
	memset(mem, 1, size);
	ASSERT_EQ(mem + n * PAGE,
		  (char *)mremap(self->bar + 4 * MB, n * PAGE, n * PAGE,
				 MREMAP_MAYMOVE | MREMAP_FIXED,
				 mem + n * PAGE));
	ASSERT_EQ(0, iommu_trace_start());
	ASSERT_EQ(0, vfio_map(&self->v, mem, IOVA_FAR, size, MAP_RW));
	iommu_trace_stop(&p, IOVA_FAR, size);
	EXPECT_EQ((long)size, p.mapped);
	iommu_trace_frames(IOVA_FAR, pfn, 3 * n);
	for (i = 0; i < 3 * n; i++)
		wrong += pfn[i] != (i / n == 1 ?
				    self->pfn + 4 * MB / PAGE + i - n :
				    pfn_of(mem + i * PAGE));
	EXPECT_EQ(0UL, wrong);
	EXPECT_STATE(&self->base, 2 * (long)n, 2 * (long)n, 2 * (long)n);
	EXPECT_EQ((long)size, vfio_unmap(&self->v, IOVA_FAR, size));
	EXPECT_BACK(&self->base);
	munmap(mem, size);
	free(pfn);
}

/* Memory and the BAR, and then nothing: all is given back */
TEST_F(bar, refused)
{
	size_t n = 600, size = 2 * n * PAGE + PAGE;
	char *mem = small_pages(size);

	ASSERT_NE(NULL, mem);
	memset(mem, 1, size);
	ASSERT_EQ(mem + n * PAGE,
		  (char *)mremap(self->bar, n * PAGE, n * PAGE,
				 MREMAP_MAYMOVE | MREMAP_FIXED,
				 mem + n * PAGE));
	ASSERT_EQ(0, munmap(mem + 2 * n * PAGE, PAGE));
	EXPECT_EQ(-EFAULT, vfio_map(&self->v, mem, IOVA_FAR, size, MAP_RW));
	EXPECT_BACK(&self->base);
	/* The limit has no word on what is not pinned */
	ASSERT_EQ(0, set_memlock((n + 1) * PAGE));
	ASSERT_EQ(0, cap_drop(CAP_IPC_LOCK));
	EXPECT_EQ(0, vfio_map(&self->v, mem, IOVA_FAR, size - PAGE, MAP_RW));
	EXPECT_STATE(&self->base, (long)n, (long)n, (long)n);
	EXPECT_EQ((long)(size - PAGE),
		  vfio_unmap(&self->v, IOVA_FAR, size - PAGE));
	EXPECT_BACK(&self->base);
	munmap(mem, size);
}

/* Another process takes over: the memory moves, the BAR costs it nothing */
TEST_F(bar, new_owner)
{
	const long n = 8;
	const size_t size = 2 * n * PAGE;
	char *mem = small_pages(size);
	int sv[2], status;
	struct pins p;
	pid_t pid;

	ASSERT_NE(NULL, mem);
	memset(mem, 1, size);
	ASSERT_EQ(mem + n * PAGE,
		  (char *)mremap(self->bar, n * PAGE, n * PAGE,
				 MREMAP_MAYMOVE | MREMAP_FIXED,
				 mem + n * PAGE));
	ASSERT_EQ(0, vfio_map(&self->v, mem, IOVA_FAR, size, MAP_RW));
	ASSERT_EQ(0, vfio_vaddr_drop(&self->v, IOVA_FAR, size));
	ASSERT_EQ(0, chan_pair(sv));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (vfio_vaddr_set(&self->v, mem, IOVA_FAR, size) ||
		    chan_put(sv[1], 0) || chan_get(sv[1], NULL))
			_exit(1);
		_exit(0);
	}
	ASSERT_EQ(0, chan_get(sv[0], NULL));
	EXPECT_EQ(0, pins_read(pid, &p));
	EXPECT_EQ(n, p.charge);
	EXPECT_EQ(n, pins_pages(&p));
	EXPECT_EQ(0, pins_read(0, &p));
	EXPECT_EQ(self->base.pins.charge, p.charge);
	EXPECT_EQ((long)size, vfio_unmap(&self->v, IOVA_FAR, size));
	EXPECT_EQ(0, chan_put(sv[0], 0));
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	munmap(mem, size);
}

TEST_HARNESS_MAIN
