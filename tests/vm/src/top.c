// SPDX-License-Identifier: GPL-2.0
/*
 * The last pages of the IOVA space. AMD's IOMMU and virtio-iommu translate them:
 * their addresses end at 2^64 - 1, so the end of what is mapped there is 0.
 */
#include "test.h"

#define N	4L

/* The IOVA of the page that has @n - 1 pages behind it */
#define TOP(n)	(-(n) * PAGE)

FIXTURE(top)
{
	struct vfio v;
	struct snap before, base;
	char *mem;
};

FIXTURE_SETUP(top)
{
	struct vfio_iommu_type1_info_cap_iova_range *cap;
	struct vfio_iommu_type1_info *info;
	unsigned long long end;

	NEED_DEVICES(2U);
	self->v.fd = -1;
	self->mem = anon_pages(N * PAGE);
	ASSERT_NE(NULL, self->mem);
	ASSERT_EQ(0, snap(&self->before));
	ASSERT_EQ(0, vfio_open(&self->v, 0));
	cap = vfio_ranges(&self->v, &info);
	ASSERT_NE(NULL, cap);
	end = cap->iova_ranges[cap->nr_iovas - 1].end;
	free(info);
	if (end != -1ULL)
		SKIP(return, "this IOMMU's addresses end at 0x%llx", end);
	ASSERT_EQ(0, snap(&self->base));
}

FIXTURE_TEARDOWN(top)
{
	vfio_close(&self->v);
	EXPECT_BACK(&self->before);
}

/* Pages [@first, @first + @n) of the memory at their place before the top */
static int map(FIXTURE_DATA(top) *self, long first, long n)
{
	return vfio_map(&self->v, self->mem + first * PAGE, TOP(N - first),
			n * PAGE, MAP_RW);
}

static long unmap(FIXTURE_DATA(top) *self, long first, long n)
{
	long ret = vfio_unmap(&self->v, TOP(N - first), n * PAGE);

	return ret < 0 ? ret : ret / (long)PAGE;
}

/* The device copies from the page @from to the page @to */
static void expect_dma(struct __test_metadata *_metadata,
		       FIXTURE_DATA(top) *self, struct vfio_dev *dev, long from,
		       long to)
{
	static unsigned int seed;

	fill(self->mem + from * PAGE, EDU_LEN, ++seed);
	memset(self->mem + to * PAGE + EDU_LEN, 0, EDU_LEN);
	EXPECT_EQ(0, edu_copy(dev, TOP(N - to) + EDU_LEN, TOP(N - from),
			      EDU_LEN));
	EXPECT_TRUE(filled(self->mem + to * PAGE + EDU_LEN, EDU_LEN, seed));
}

TEST_F(top, last_page)
{
	EXPECT_EQ(0, map(self, N - 1, 1));
	EXPECT_EQ(-EEXIST, map(self, N - 1, 1));
	EXPECT_EQ(-EEXIST, map(self, N - 2, 2));
	EXPECT_STATE(&self->base, 1, 1, 1);
	expect_dma(_metadata, self, &self->v.dev[0], N - 1, N - 1);
	EXPECT_EQ(1L, unmap(self, N - 1, 1));
	EXPECT_EQ(0L, unmap(self, N - 1, 1));
	EXPECT_BACK(&self->base);
	EXPECT_EQ(0, map(self, N - 1, 1));
	EXPECT_EQ(1L, unmap(self, N - 1, 1));
}

TEST_F(top, beyond)
{
	EXPECT_EQ(-EINVAL, vfio_map(&self->v, self->mem, TOP(1), 2 * PAGE,
				    MAP_RW));
	EXPECT_EQ(0, map(self, N - 1, 1));
	EXPECT_EQ(-EINVAL, vfio_unmap(&self->v, TOP(1), 2 * PAGE));
	EXPECT_STATE(&self->base, 1, 1, 1);
	EXPECT_EQ(1L, unmap(self, N - 1, 1));
}

/* Several mappings, one of them low, as the container finds them in its tree */
TEST_F(top, several)
{
	EXPECT_EQ(0, map(self, N - 1, 1));
	EXPECT_EQ(0, map(self, 0, 2));
	EXPECT_EQ(0, map(self, 2, 1));
	EXPECT_EQ(0, vfio_map(&self->v, self->mem, 0, PAGE, MAP_RW));
	EXPECT_EQ(-EEXIST, map(self, 1, 3));
	expect_dma(_metadata, self, &self->v.dev[0], 0, N - 1);
	EXPECT_EQ(-EINVAL, unmap(self, 1, 3));
	EXPECT_EQ(2L, unmap(self, 2, 2));
	EXPECT_EQ(2L, unmap(self, 0, N));
	EXPECT_EQ((long)PAGE, vfio_unmap(&self->v, 0, PAGE));
	EXPECT_BACK(&self->base);
}

TEST_F(top, unmap_all)
{
	EXPECT_EQ(0, map(self, 0, 2));
	EXPECT_EQ(0, map(self, 2, 2));
	EXPECT_EQ(N * (long)PAGE, vfio_unmap_all(&self->v));
	EXPECT_BACK(&self->base);
}

TEST_F(top, dirty_bitmap)
{
	uint64_t bits = 0;

	EXPECT_EQ(0, map(self, 1, 3));
	ASSERT_EQ(0, vfio_dirty(&self->v, true));
	EXPECT_EQ(0, vfio_dirty_get(&self->v, TOP(N), N * PAGE, &bits));
	EXPECT_EQ(0xeULL, bits);
	/* A range may not cut a mapping */
	EXPECT_EQ(-EINVAL, vfio_dirty_get(&self->v, TOP(2), 2 * PAGE, &bits));
	EXPECT_EQ(3L, unmap(self, 1, 3));
	EXPECT_EQ(0, map(self, 1, 3));
	bits = 0;
	EXPECT_EQ(3 * (long)PAGE, vfio_unmap_dirty(&self->v, TOP(N), N * PAGE,
						   &bits));
	EXPECT_EQ(0xeULL, bits);
}

TEST_F(top, new_addresses)
{
	EXPECT_EQ(0, map(self, 0, N));
	EXPECT_EQ(0, vfio_vaddr_drop(&self->v, TOP(N), N * PAGE));
	EXPECT_EQ(0, vfio_vaddr_set(&self->v, self->mem, TOP(N), N * PAGE));
	expect_dma(_metadata, self, &self->v.dev[0], 0, N - 1);
	EXPECT_EQ(N, unmap(self, 0, N));
}

/* A device that comes later, and both that go while it is mapped */
TEST_F(top, second_device)
{
	EXPECT_EQ(0, map(self, 0, 2));
	EXPECT_EQ(0, map(self, 2, 2));
	ASSERT_EQ(0, vfio_add(&self->v, 1));
	expect_dma(_metadata, self, &self->v.dev[1], 0, N - 1);
	vfio_remove(&self->v);
	expect_dma(_metadata, self, &self->v.dev[0], N - 1, 0);
	EXPECT_STATE(&self->base, N, N, N);
}

TEST_HARNESS_MAIN
