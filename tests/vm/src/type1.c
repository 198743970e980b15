// SPDX-License-Identifier: GPL-2.0
/*
 * What users of VFIO_TYPE1_IOMMU could rely on before memory was pinned through
 * accounts, and still can. Nothing here asks for a ledger, so it also passes on
 * a stock kernel, which shows that this is what was there before.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "test.h"

#define PARAMETER	"/sys/module/vfio_iommu_type1/parameters/"

#define N	64UL
#define SIZE	(N * PAGE)

FIXTURE(type1)
{
	struct vfio v;
	struct snap before;
	char *mem;
};

FIXTURE_SETUP(type1)
{
	ASSERT_LE(2U, vfio_count()) TH_LOG("USERPIN_VFIO_DEVS names too few");
	self->v.fd = -1;
	self->mem = anon_pages(SIZE);
	ASSERT_NE(NULL, self->mem);
	ASSERT_EQ(0, snap(&self->before));
	ASSERT_EQ(0, vfio_open(&self->v, 0));
}

FIXTURE_TEARDOWN(type1)
{
	/* Where a test gave up half-way */
	write_text(PARAMETER "disable_hugepages", "N");
	vfio_close(&self->v);
	EXPECT_BACK(&self->before);
}

static int map(FIXTURE_DATA(type1) *self, long at, long n)
{
	return vfio_map(&self->v, self->mem + at * PAGE, IOVA + at * PAGE,
			n * PAGE, MAP_RW);
}

/* In pages */
static long unmap(FIXTURE_DATA(type1) *self, long at, long n)
{
	long ret = vfio_unmap(&self->v, IOVA + at * PAGE, n * PAGE);

	return ret < 0 ? ret : ret / (long)PAGE;
}

/* --- Arguments -------------------------------------------------------------- */

static int raw_map(struct vfio *v, unsigned int argsz, unsigned int flags,
		   uint64_t vaddr, uint64_t iova, uint64_t size)
{
	struct vfio_iommu_type1_dma_map arg = {
		argsz, flags, vaddr, iova, size
	};

	return ioctl(v->fd, VFIO_IOMMU_MAP_DMA, &arg) ? -errno : 0;
}

static int raw_unmap(struct vfio *v, unsigned int argsz, unsigned int flags,
		     uint64_t iova, uint64_t size)
{
	struct vfio_iommu_type1_dma_unmap arg = {
		argsz, flags, iova, size
	};

	return ioctl(v->fd, VFIO_IOMMU_UNMAP_DMA, &arg) ? -errno : 0;
}

TEST_F(type1, arguments_of_map)
{
	const unsigned int all = sizeof(struct vfio_iommu_type1_dma_map);
	uint64_t mem = (uintptr_t)self->mem;
	const struct {
		unsigned int argsz, flags;
		uint64_t vaddr, iova, size;
		int ret;
	} c[] = {
		{ all - 1, MAP_RW, mem, IOVA, PAGE, -EINVAL },
		{ all, 0, mem, IOVA, PAGE, -EINVAL },
		{ all, MAP_RW | 1U << 31, mem, IOVA, PAGE, -EINVAL },
		{ all, MAP_R | VFIO_DMA_MAP_FLAG_VADDR, mem, IOVA, PAGE,
		  -EINVAL },
		{ all, MAP_RW, mem + 1, IOVA, PAGE, -EINVAL },
		{ all, MAP_RW, mem, IOVA + 1, PAGE, -EINVAL },
		{ all, MAP_RW, mem, IOVA, PAGE + 1, -EINVAL },
		{ all, MAP_RW, mem, IOVA, 0, -EINVAL },
		{ all, MAP_RW, mem, -PAGE, 2 * PAGE, -EINVAL },
		{ all, MAP_RW, -PAGE, IOVA, 2 * PAGE, -EINVAL },
		{ all, VFIO_DMA_MAP_FLAG_VADDR, mem, IOVA, PAGE, -ENOENT },
		{ all, MAP_RW, mem, IOVA, PAGE, 0 },
		{ all, MAP_RW, mem, IOVA, PAGE, -EEXIST },
		{ all, MAP_RW, mem, IOVA - PAGE, 2 * PAGE, -EEXIST },
		{ all, VFIO_DMA_MAP_FLAG_VADDR, mem, IOVA, PAGE, -EINVAL },
		{ all, MAP_W, mem, IOVA + PAGE, PAGE, 0 },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(c); i++) {
		EXPECT_EQ(c[i].ret, raw_map(&self->v, c[i].argsz, c[i].flags,
					    c[i].vaddr, c[i].iova, c[i].size))
			TH_LOG("case %zu", i);
	}
	EXPECT_EQ(2 * (long)PAGE, vfio_unmap_all(&self->v));
	EXPECT_BACK(&self->before);
}

/*
 * Addresses that the IOMMU does not translate: windows of the interrupts and the
 * like, and what is beyond its reach. The pages on both sides of each edge.
 */
TEST_F(type1, ranges)
{
	struct vfio_iommu_type1_info_cap_iova_range *cap;
	struct vfio_iommu_type1_info *info;
	unsigned int i;

	cap = vfio_ranges(&self->v, &info);
	ASSERT_NE(NULL, cap);
	ASSERT_LT(0U, cap->nr_iovas);
	for (i = 0; i < cap->nr_iovas; i++) {
		uint64_t start = cap->iova_ranges[i].start;
		uint64_t end = cap->iova_ranges[i].end, last = end + 1 - PAGE;

		EXPECT_EQ(0, vfio_map(&self->v, self->mem, start, PAGE,
				      MAP_RW));
		EXPECT_EQ(0, vfio_map(&self->v, self->mem, last, PAGE, MAP_RW));
		EXPECT_EQ((long)PAGE, vfio_unmap(&self->v, start, PAGE));
		EXPECT_EQ((long)PAGE, vfio_unmap(&self->v, last, PAGE));
		/* One that reaches all has nothing behind it, nor before it */
		if (start) {
			EXPECT_EQ(-EINVAL, vfio_map(&self->v, self->mem,
						    start - PAGE, PAGE, MAP_RW))
				TH_LOG("before range %u", i);
			EXPECT_EQ(-EINVAL, vfio_map(&self->v, self->mem,
						    start - PAGE, 2 * PAGE,
						    MAP_RW));
		}
		if (end + 1) {
			EXPECT_EQ(-EINVAL, vfio_map(&self->v, self->mem,
						    end + 1, PAGE, MAP_RW))
				TH_LOG("behind range %u", i);
			EXPECT_EQ(-EINVAL, vfio_map(&self->v, self->mem, last,
						    2 * PAGE, MAP_RW));
		}
	}
	free(info);
	EXPECT_BACK(&self->before);
}

/* QEMU has the window of the interrupts at the same place for each of its IOMMUs */
TEST_F(type1, window_of_interrupts)
{
	EXPECT_EQ(-EINVAL, vfio_map(&self->v, self->mem, 0xfee00000, PAGE,
				    MAP_RW));
	EXPECT_EQ(-EINVAL, vfio_map(&self->v, self->mem, 0xfeefffff & -PAGE,
				    PAGE, MAP_RW));
}

TEST_F(type1, arguments_of_unmap)
{
	const unsigned int all = sizeof(struct vfio_iommu_type1_dma_unmap);
	const struct {
		unsigned int argsz, flags;
		uint64_t iova, size;
		int ret;
	} c[] = {
		{ all - 1, 0, IOVA, PAGE, -EINVAL },
		{ all, 1U << 31, IOVA, PAGE, -EINVAL },
		{ all, 0, IOVA + 1, PAGE, -EINVAL },
		{ all, 0, IOVA, PAGE + 1, -EINVAL },
		{ all, 0, IOVA, 0, -EINVAL },
		{ all, 0, -PAGE, 2 * PAGE, -EINVAL },
		{ all, VFIO_DMA_UNMAP_FLAG_ALL, IOVA, 0, -EINVAL },
		{ all, VFIO_DMA_UNMAP_FLAG_ALL, 0, PAGE, -EINVAL },
		{ all, VFIO_DMA_UNMAP_FLAG_ALL |
		  VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP, 0, 0, -EINVAL },
		{ all, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP, IOVA, PAGE,
		  -EINVAL },
		{ all, 0, IOVA + SIZE, PAGE, 0 },	/* nothing there */
		{ all, 0, IOVA, SIZE - PAGE, -EINVAL },
		{ all, 0, IOVA + PAGE, SIZE, -EINVAL },
		{ all, 0, IOVA + PAGE, PAGE, -EINVAL },
	};
	size_t i;

	ASSERT_EQ(0, map(self, 0, N));
	for (i = 0; i < ARRAY_SIZE(c); i++) {
		EXPECT_EQ(c[i].ret, raw_unmap(&self->v, c[i].argsz, c[i].flags,
					      c[i].iova, c[i].size))
			TH_LOG("case %zu", i);
	}
	EXPECT_EQ(0, edu_check_once(&self->v.dev[0], self->mem, IOVA, SIZE));
	EXPECT_EQ((long)N, unmap(self, 0, N));
	EXPECT_BACK(&self->before);
}

/* Several mappings and the holes between them */
TEST_F(type1, unmap_of_several)
{
	EXPECT_EQ(0, map(self, 0, 3));
	EXPECT_EQ(0, map(self, 5, 1));
	EXPECT_EQ(0, map(self, 6, 10));
	EXPECT_EQ(0, map(self, 20, 4));
	EXPECT_EQ(-EINVAL, unmap(self, 4, 4));
	EXPECT_EQ(11L, unmap(self, 4, 14));
	EXPECT_EQ(0L, unmap(self, 4, 14));
	EXPECT_EQ(7L, unmap(self, 0, N));
	EXPECT_BACK(&self->before);
}

/*
 * The first version of the interface: a range from the middle of a mapping on
 * unmaps nothing, one with its first page all of it.
 */
TEST_F(type1, first_version)
{
	vfio_close(&self->v);
	ASSERT_EQ(0, vfio_open_type(&self->v, 0, VFIO_TYPE1_IOMMU));
	EXPECT_EQ(0, map(self, 0, 16));
	EXPECT_EQ(0, map(self, 16, 16));
	EXPECT_EQ(0L, unmap(self, 1, 15));
	EXPECT_EQ(0, edu_check_once(&self->v.dev[0], self->mem, IOVA,
				    16 * PAGE));
	EXPECT_EQ(16L, unmap(self, 0, 1));
	EXPECT_EQ(0L, unmap(self, 0, 16));
	EXPECT_EQ(16L, unmap(self, 16, 100));
	EXPECT_BACK(&self->before);
}

/* --- Faults ------------------------------------------------------------------ */

/* Whoever is to fill the page in may be the one that waits for the map */
TEST_F(type1, page_that_userfaultfd_lacks)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	int fd = syscall(__NR_userfaultfd, O_CLOEXEC);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ioctl(fd, UFFDIO_API, &api));
	ASSERT_EQ(0, madvise(self->mem + 3 * PAGE, PAGE, MADV_DONTNEED));
	reg.range.start = (uintptr_t)self->mem;
	reg.range.len = SIZE;
	ASSERT_EQ(0, ioctl(fd, UFFDIO_REGISTER, &reg));

	EXPECT_EQ(0, map(self, 0, 3));
	EXPECT_EQ(-EFAULT, map(self, 3, 1));
	EXPECT_EQ(-EFAULT, map(self, 3, N - 3));
	EXPECT_EQ(-EFAULT, vfio_map(&self->v, self->mem + 3 * PAGE,
				    IOVA + 3 * PAGE, PAGE, MAP_R));
	EXPECT_EQ(3, unmap(self, 0, 3));

	close(fd);
	EXPECT_EQ(0, map(self, 0, N));
	EXPECT_EQ((long)N, unmap(self, 0, N));
}

/* --- How many mappings ------------------------------------------------------ */

TEST_F(type1, mappings_left)
{
	long avail = vfio_dma_avail(&self->v);
	char *hole = anon_pages(4 * PAGE);

	ASSERT_LT(0, avail);
	ASSERT_NE(NULL, hole);
	ASSERT_EQ(0, munmap(hole + 2 * PAGE, 2 * PAGE));
	EXPECT_EQ(0, map(self, 0, 1));
	EXPECT_EQ(0, map(self, 2, 1));
	EXPECT_EQ(avail - 2, vfio_dma_avail(&self->v));
	/* One that fails takes none, wherever it fails */
	EXPECT_EQ(-EEXIST, map(self, 0, 1));
	EXPECT_EQ(-EFAULT, vfio_map(&self->v, hole + 2 * PAGE, IOVA_FAR, PAGE,
				    MAP_RW));
	EXPECT_EQ(-EFAULT, vfio_map(&self->v, hole, IOVA_FAR, 4 * PAGE,
				    MAP_RW));
	EXPECT_EQ(avail - 2, vfio_dma_avail(&self->v));
	EXPECT_EQ(2L, unmap(self, 0, N));
	EXPECT_EQ(avail, vfio_dma_avail(&self->v));
}

TEST_F(type1, mappings_at_most)
{
	long was = read_long(PARAMETER "dma_entry_limit", -1);
	char text[24];
	int ret;

	ASSERT_LT(0, was);
	/* It is read when the container gets its IOMMU */
	ASSERT_EQ(0, write_text(PARAMETER "dma_entry_limit", "3"));
	vfio_close(&self->v);
	ret = vfio_open(&self->v, 0);
	snprintf(text, sizeof(text), "%ld", was);
	EXPECT_EQ(0, write_text(PARAMETER "dma_entry_limit", text));
	ASSERT_EQ(0, ret);
	EXPECT_EQ(0, map(self, 0, 1));
	EXPECT_EQ(0, map(self, 1, 1));
	EXPECT_EQ(0, map(self, 2, 1));
	EXPECT_EQ(-ENOSPC, map(self, 3, 1));
	EXPECT_EQ(1L, unmap(self, 1, 1));
	EXPECT_EQ(0, map(self, 3, 1));
	EXPECT_EQ(-ENOSPC, map(self, 1, 1));
}

/* --- Dirty pages ------------------------------------------------------------ */

/* Bits [from, to) of a bitmap that begins with @bits, and no others below 128 */
static void expect_bits(struct __test_metadata *_metadata, const uint64_t *bits,
			unsigned int from, unsigned int to,
			unsigned int from2, unsigned int to2)
{
	unsigned int i;

	for (i = 0; i < 128; i++) {
		EXPECT_EQ((i >= from && i < to) || (i >= from2 && i < to2),
			  !!(bits[i / 64] & 1ULL << i % 64))
			TH_LOG("bit %u", i);
	}
}

/* What is pinned for a device that does not tell may all be dirty */
TEST_F(type1, dirty_bitmap)
{
	uint64_t bits[4] = { 0, 0, 0x1122334455667788, ~0ULL };

	EXPECT_EQ(-EINVAL, vfio_dirty_get(&self->v, IOVA, SIZE, bits));
	ASSERT_EQ(0, vfio_map(&self->v, self->mem, IOVA + 3 * PAGE, 7 * PAGE,
			      MAP_RW));
	ASSERT_EQ(0, vfio_dirty(&self->v, true));
	EXPECT_EQ(0, vfio_dirty(&self->v, true));
	ASSERT_EQ(0, vfio_map(&self->v, self->mem, IOVA + 70 * PAGE, 10 * PAGE,
			      MAP_RW));
	EXPECT_EQ(0, vfio_dirty_get(&self->v, IOVA, 128 * PAGE, bits));
	expect_bits(_metadata, bits, 3, 10, 70, 80);
	EXPECT_EQ(0x1122334455667788ULL, bits[2]);

	/* A range may not cut a mapping */
	EXPECT_EQ(-EINVAL, vfio_dirty_get(&self->v, IOVA, 75 * PAGE, bits));
	EXPECT_EQ(-EFAULT, vfio_dirty_get(&self->v, IOVA + 3 * PAGE, 7 * PAGE,
					  (uint64_t *)PAGE));
	EXPECT_EQ(0, vfio_dirty(&self->v, false));
	EXPECT_EQ(-EINVAL, vfio_dirty_get(&self->v, IOVA, 128 * PAGE, bits));
	EXPECT_EQ(17 * (long)PAGE, vfio_unmap_all(&self->v));
	EXPECT_BACK(&self->before);
}

TEST_F(type1, unmap_with_dirty_bitmap)
{
	uint64_t bits[2] = {};

	ASSERT_EQ(0, vfio_map(&self->v, self->mem, IOVA + 3 * PAGE, 7 * PAGE,
			      MAP_RW));
	EXPECT_EQ(-EINVAL, vfio_unmap_dirty(&self->v, IOVA, 128 * PAGE, bits));
	ASSERT_EQ(0, vfio_dirty(&self->v, true));
	ASSERT_EQ(0, vfio_map(&self->v, self->mem, IOVA + 70 * PAGE, 10 * PAGE,
			      MAP_RW));
	ASSERT_EQ(0, vfio_map(&self->v, self->mem, IOVA + 200 * PAGE,
			      10 * PAGE, MAP_R));

	/* Who cannot be told keeps the mapping */
	EXPECT_EQ(-EFAULT, vfio_unmap_dirty(&self->v, IOVA + 3 * PAGE, 7 * PAGE,
					    (uint64_t *)PAGE));
	EXPECT_EQ(0, edu_check_once(&self->v.dev[0], self->mem,
				    IOVA + 3 * PAGE, 7 * PAGE));
	EXPECT_EQ(-EINVAL, vfio_unmap_dirty(&self->v, IOVA, 75 * PAGE, bits));
	EXPECT_EQ(17 * (long)PAGE, vfio_unmap_dirty(&self->v, IOVA, 128 * PAGE,
						    bits));
	expect_bits(_metadata, bits, 3, 10, 70, 80);
	EXPECT_EQ(0L, vfio_unmap_dirty(&self->v, IOVA, 128 * PAGE, bits));
	EXPECT_EQ(10 * (long)PAGE, vfio_unmap_all(&self->v));
	EXPECT_BACK(&self->before);
}

/* --- New addresses ---------------------------------------------------------- */

TEST_F(type1, addresses)
{
	struct vfio v;

	ASSERT_EQ(0, map(self, 0, 8));
	ASSERT_EQ(0, map(self, 8, 8));
	ASSERT_EQ(0, vfio_vaddr_drop(&self->v, IOVA, 8 * PAGE));
	/* Twice is an error that undoes nothing else */
	EXPECT_EQ(-EINVAL, vfio_vaddr_drop(&self->v, IOVA, 16 * PAGE));
	EXPECT_EQ(-EINVAL, vfio_vaddr_set(&self->v, self->mem + 8 * PAGE,
					  IOVA + 8 * PAGE, 8 * PAGE));
	EXPECT_EQ(-EINVAL, vfio_vaddr_set(&self->v, self->mem, IOVA, 4 * PAGE));
	EXPECT_EQ(-ENOENT, vfio_vaddr_set(&self->v, self->mem, IOVA_FAR, PAGE));
	/* A group that joins would have to be pinned for */
	v = self->v;
	EXPECT_EQ(-EBUSY, vfio_add(&v, 1));
	EXPECT_EQ(0, map(self, 16, 8));
	EXPECT_EQ(0, edu_check_once(&self->v.dev[0], self->mem, IOVA,
				    24 * PAGE));
	EXPECT_EQ(0, vfio_vaddr_set(&self->v, self->mem, IOVA, 8 * PAGE));
	EXPECT_EQ(0, raw_unmap(&self->v,
			       sizeof(struct vfio_iommu_type1_dma_unmap),
			       VFIO_DMA_UNMAP_FLAG_VADDR |
			       VFIO_DMA_UNMAP_FLAG_ALL, 0, 0));
	/* What has no address can be unmapped */
	EXPECT_EQ(24L, unmap(self, 0, N));
	EXPECT_EQ(0, map(self, 0, N));
	EXPECT_EQ(0, vfio_add(&self->v, 1));
	EXPECT_EQ(0, edu_check_once(&self->v.dev[1], self->mem, IOVA, SIZE));
}

/* --- Devices come and go ---------------------------------------------------- */

TEST_F(type1, devices_come_and_go)
{
	ASSERT_EQ(0, map(self, 0, N));
	ASSERT_EQ(0, vfio_add(&self->v, 1));
	EXPECT_EQ(0, edu_check_once(&self->v.dev[1], self->mem, IOVA, SIZE));
	vfio_remove(&self->v);
	EXPECT_EQ(0, edu_check_once(&self->v.dev[0], self->mem, IOVA, SIZE));
	ASSERT_EQ(0, vfio_add(&self->v, 1));
	EXPECT_EQ(0, edu_check_once(&self->v.dev[1], self->mem, IOVA, SIZE));
	/* The mappings go with the last device */
	vfio_remove(&self->v);
	vfio_remove(&self->v);
	EXPECT_BACK(&self->before);
	ASSERT_EQ(0, vfio_add(&self->v, 1));
	EXPECT_EQ(0L, vfio_unmap_all(&self->v));
	EXPECT_EQ(0, map(self, 0, N));
	EXPECT_EQ(0, edu_check_once(&self->v.dev[0], self->mem, IOVA, SIZE));
}

/* --- The size of pages in the IOMMU ----------------------------------------- */

/* False, and the test is to end, if there is no such memory here */
static bool pieces_of(struct __test_metadata *_metadata,
		      FIXTURE_DATA(type1) *self, const char *name,
		      uint64_t iova, struct iommu_pieces *p)
{
	struct snap base;
	struct area a;

	if (area_open(backing_find(name), &a, NULL, NULL))
		SKIP(return false, "%s", a.why);
	ASSERT_EQ(0, snap(&base));
	ASSERT_EQ(0, iommu_trace_start());
	EXPECT_EQ(0, vfio_map(&self->v, a.addr, iova, a.size, MAP_RW));
	EXPECT_EQ((long)a.size, vfio_unmap(&self->v, iova, a.size));
	iommu_trace_stop(p, iova, a.size);
	EXPECT_EQ((long)a.size, p->mapped);
	EXPECT_EQ((long)a.size, p->unmapped);
	EXPECT_BACK(&base);
	ASSERT_EQ(0, vfio_map(&self->v, a.addr, IOVA, a.size, MAP_RW));
	EXPECT_EQ(0, edu_check_once(&self->v.dev[0], a.addr, IOVA, a.size));
	EXPECT_EQ((long)a.size, vfio_unmap(&self->v, IOVA, a.size));
	area_close(&a);
	return true;
}

/*
 * DMA shows that the ends of a mapping are right. The IOMMU was told of each
 * page: it is the one that the process has there, and at the unmap all go.
 */
static void check_frames(struct __test_metadata *_metadata,
			 FIXTURE_DATA(type1) *self, char *mem, uint64_t iova,
			 size_t npages)
{
	uint64_t *pfn = calloc(npages, sizeof(*pfn));
	struct iommu_pieces p;
	size_t i, wrong = 0;

	ASSERT_NE(NULL, pfn);
	ASSERT_EQ(0, iommu_trace_start());
	ASSERT_EQ(0, vfio_map(&self->v, mem, iova, npages * PAGE, MAP_RW));
	iommu_trace_stop(&p, iova, npages * PAGE);
	EXPECT_EQ((long)(npages * PAGE), p.mapped);
	iommu_trace_frames(iova, pfn, npages);
	for (i = 0; i < npages; i++)
		wrong += pfn[i] != pfn_of(mem + i * PAGE);
	EXPECT_EQ(0UL, wrong) TH_LOG("in %d pieces", p.maps);
	ASSERT_EQ(0, iommu_trace_start());
	EXPECT_EQ((long)(npages * PAGE),
		  vfio_unmap(&self->v, iova, npages * PAGE));
	iommu_trace_stop(&p, iova, npages * PAGE);
	EXPECT_EQ((long)(npages * PAGE), p.unmapped);
	EXPECT_BACK(&self->before);
	free(pfn);
}

#define FRAMES	3000UL

/* A memfd whose pages were taken in the order that @step makes */
TEST_F(type1, frames_of_small_pages)
{
	static const unsigned long step[] = { 1, 2, 7, 1009, FRAMES - 1 };
	unsigned long i, j, at;
	char *mem;
	int fd;

	for (i = 0; i < ARRAY_SIZE(step); i++) {
		fd = memfd_create("frames", MFD_CLOEXEC);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, ftruncate(fd, FRAMES * PAGE));
		mem = mmap(NULL, FRAMES * PAGE, PROT_READ | PROT_WRITE,
			   MAP_SHARED, fd, 0);
		ASSERT_NE(MAP_FAILED, (void *)mem);
		ASSERT_EQ(0, madvise(mem, FRAMES * PAGE, MADV_NOHUGEPAGE));
		for (j = 0, at = 0; j < FRAMES; j++) {
			mem[at * PAGE] = j;
			at = (at + step[i]) % FRAMES;
		}
		memset(mem, 1, FRAMES * PAGE);
		check_frames(_metadata, self, mem, IOVA + 5 * PAGE, FRAMES);
		check_frames(_metadata, self, mem + 3 * PAGE, IOVA,
			     FRAMES - 3);
		munmap(mem, FRAMES * PAGE);
		close(fd);
	}
}

/* Parts of a huge page in places that they do not come from, and small ones */
TEST_F(type1, frames_of_a_shuffled_huge_page)
{
	struct area a;
	char *mem;
	size_t i;

	if (area_open(backing_find("thp"), &a, NULL, NULL))
		SKIP(return, "%s", a.why);
	mem = anon_pages(1024 * PAGE);
	ASSERT_NE(NULL, mem);
	check_frames(_metadata, self, a.addr, IOVA, 1024);
	for (i = 0; i < 510; i += 3) {
		size_t to = i % 2 ? 510 - i : 512 + i, n = 1 + i % 2;

		ASSERT_NE(MAP_FAILED,
			  mremap(a.addr + i * PAGE, n * PAGE, n * PAGE,
				 MREMAP_MAYMOVE | MREMAP_FIXED,
				 mem + to * PAGE));
	}
	check_frames(_metadata, self, mem, IOVA, 1024);
	check_frames(_metadata, self, mem + 17 * PAGE, IOVA_FAR, 900);
	area_close(&a);
}

/* Memory that lies together goes to the IOMMU in one piece, and comes back so */
TEST_F(type1, large_pieces)
{
	struct iommu_pieces p;

	if (!pieces_of(_metadata, self, "thp", IOVA, &p))
		return;
	EXPECT_LE(2 * (long)MB, p.least);
	EXPECT_GE(2, p.unmaps);
	if (!pieces_of(_metadata, self, "hugetlb-1g", IOVA_FAR, &p))
		return;
	EXPECT_EQ((long)GB, p.least);
	EXPECT_EQ(1, p.maps);
	EXPECT_EQ(1, p.unmaps);
}

/* An option of the module wants small pages */
TEST_F(type1, disable_hugepages)
{
	struct iommu_pieces p;

	ASSERT_EQ(0, write_text(PARAMETER "disable_hugepages", "Y"));
	if (!pieces_of(_metadata, self, "thp", IOVA, &p))
		return;
	EXPECT_EQ((long)PAGE, p.most);
	EXPECT_EQ((int)(4 * MB / PAGE), p.maps);
	if (!pieces_of(_metadata, self, "anon-4k", IOVA, &p))
		return;
	EXPECT_EQ((long)PAGE, p.most);
	EXPECT_EQ(0, write_text(PARAMETER "disable_hugepages", "N"));
}

TEST_HARNESS_MAIN
