// SPDX-License-Identifier: GPL-2.0
/*
 * Each kind of memory is mapped for a real device: does it map, and if not, with
 * which errno and for which reason; what is charged and held; does DMA reach it
 * in both directions; is everything given back.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "test.h"

/* Reading this register of an edu device tells what it is; the next inverts */
#define EDU_ID		0x010000edU
#define EDU_LIVENESS	4

FIXTURE(backing)
{
	const struct backing *b;
	struct vfio v, other;
	struct area a;
	struct snap before;	/* nothing open */
	struct snap base;	/* the container has its scratch page */
	char *scratch;
};

FIXTURE_VARIANT(backing)
{
	const char *name;
};

#define KIND(_id, _name) FIXTURE_VARIANT_ADD(backing, _id) { .name = _name }

KIND(anon_4k, "anon-4k");
KIND(anon_ro, "anon-ro");
KIND(thp, "thp");
KIND(hugetlb_2m, "hugetlb-2m");
KIND(hugetlb_1g, "hugetlb-1g");
KIND(memfd, "memfd");
KIND(tmpfs, "tmpfs");
KIND(ext4_shared, "ext4-shared");
KIND(ext4_private, "ext4-private");
KIND(ext4_shared_r, "ext4-shared-r");
KIND(ext4_ro, "ext4-ro");
KIND(ext4_ro_w, "ext4-ro-w");
KIND(ext4_private_r, "ext4-private-r");
KIND(ext4_private_ro, "ext4-private-ro");
KIND(xfs_shared, "xfs-shared");
KIND(xfs_private, "xfs-private");
KIND(xfs_shared_r, "xfs-shared-r");
KIND(xfs_ro, "xfs-ro");
KIND(xfs_ro_w, "xfs-ro-w");
KIND(xfs_private_r, "xfs-private-r");
KIND(xfs_private_ro, "xfs-private-ro");
KIND(dax_ext4_shared, "dax-ext4-shared");
KIND(dax_ext4_shared_r, "dax-ext4-shared-r");
KIND(dax_ext4_private, "dax-ext4-private");
KIND(dax_ext4_private_r, "dax-ext4-private-r");
KIND(dax_ext4_private_ro, "dax-ext4-private-ro");
KIND(dax_xfs_shared, "dax-xfs-shared");
KIND(dax_xfs_shared_r, "dax-xfs-shared-r");
KIND(dax_xfs_private, "dax-xfs-private");
KIND(dax_xfs_private_r, "dax-xfs-private-r");
KIND(dax_xfs_private_ro, "dax-xfs-private-ro");
KIND(devdax, "devdax");
KIND(secretmem, "secretmem");
KIND(pci_bar, "pci-bar");
KIND(unmapped, "unmapped");

TEST(each_backing_is_tested)
{
	struct __fixture_variant_metadata *v;
	unsigned int n = 0;

	for (v = _backing_fixture_object.variant; v; v = v->next) {
		const FIXTURE_VARIANT(backing) *variant = v->data;

		EXPECT_NE(NULL, backing_find(variant->name))
			TH_LOG("%s is not in the table", variant->name);
		n++;
	}
	EXPECT_EQ(nr_backings, n);
}

FIXTURE_SETUP(backing)
{
	int ret;

	NEED_DEVICES(1U);
	self->a.fd = -1;
	self->other.fd = -1;
	self->b = backing_find(variant->name);
	ASSERT_NE(NULL, self->b);
	self->scratch = anon_pages(PAGE);
	ASSERT_NE(NULL, self->scratch);
	ASSERT_EQ(0, snap(&self->before));

	ASSERT_EQ(0, vfio_open(&self->v, 0));
	if (self->b->kind == BAR && vfio_count() > 1)
		ASSERT_EQ(0, vfio_open(&self->other, 1));
	ret = area_open(self->b, &self->a,
			self->other.nr_devs ? &self->other.dev[0] :
					      &self->v.dev[0], NULL);
	if (ret) {
		vfio_close(&self->v);
		SKIP(return, "%s", self->a.why);
	}

	/* The holder lives, and counts refusals, while something is mapped */
	ASSERT_EQ(0, vfio_map(&self->v, self->scratch, IOVA_SCRATCH, PAGE,
			      MAP_RW));
	ASSERT_EQ(0, snap(&self->base));
}

FIXTURE_TEARDOWN(backing)
{
	EXPECT_EQ((long)PAGE, vfio_unmap(&self->v, IOVA_SCRATCH, PAGE));
	area_close(&self->a);
	vfio_close(&self->other);
	vfio_close(&self->v);
	EXPECT_BACK(&self->before);
}

/* DMA from the one device to registers of the other, through the IOMMU */
static int check_bar(struct vfio *v, struct vfio *other, char *scratch)
{
	uint32_t *word = (uint32_t *)scratch;
	int ret;

	ret = edu_copy(&v->dev[0], IOVA_SCRATCH, IOVA, sizeof(*word));
	if (ret)
		return ret;
	if (*word != EDU_ID)
		return -EILSEQ;
	*word = 0x13579bdf;
	ret = edu_copy(&v->dev[0], IOVA + EDU_LIVENESS, IOVA_SCRATCH,
		       sizeof(*word));
	if (ret)
		return ret;
	if (*(volatile uint32_t *)(other->dev[0].bar + EDU_LIVENESS) !=
	    ~0x13579bdfU)
		return -EILSEQ;
	return 0;
}

static void check_dma(struct __test_metadata *_metadata,
		      FIXTURE_DATA(backing) *self, char *addr, size_t size)
{
	struct vfio_dev *d = &self->v.dev[0];

	if (self->b->kind == BAR) {
		/* A device cannot reach its own BAR by DMA */
		if (self->other.nr_devs && addr == self->a.addr)
			EXPECT_EQ(0, check_bar(&self->v, &self->other,
					       self->scratch));
	} else if (self->b->flags & MAP_W) {
		int ret = addr == self->a.addr ?
			edu_check(d, addr, IOVA, size) :
			edu_check_once(d, addr, IOVA, size);

		EXPECT_EQ(0, ret);
	} else {
		EXPECT_EQ(0, edu_check_ro(d, addr, IOVA, size, self->scratch,
					  IOVA_SCRATCH));
	}
}

/* What was refused is out of the device's reach */
static void check_no_dma(struct __test_metadata *_metadata,
			 FIXTURE_DATA(backing) *self, const char *addr)
{
	struct vfio_dev *d = &self->v.dev[0];
	char before[EDU_LEN];

	memcpy(before, addr, EDU_LEN);
	fill(self->scratch, EDU_LEN, 4711);
	EXPECT_EQ(0, edu_copy(d, IOVA, IOVA_SCRATCH, EDU_LEN));
	EXPECT_EQ(0, memcmp(addr, before, EDU_LEN));
}

/*
 * The whole size of the folios that have @n of the area's pages, from page @at
 * on, @step apart. Where the table does not know the folios, page tables and
 * /proc/kpageflags do, once the pages are mapped.
 */
static long held_by(const struct area *a, size_t at, size_t n, size_t step)
{
	uint64_t folio, last = -1;
	long size, sum = 0;

	for (; n; n--, at += step) {
		size = a->folio / PAGE;
		if (size)
			folio = at / size;
		else
			folio = folio_of(pfn_of(a->addr + at * PAGE), &size);
		if (folio != last)
			sum += size;
		last = folio;
	}
	return sum;
}

static void map_part(struct __test_metadata *_metadata,
		     FIXTURE_DATA(backing) *self, size_t offset, size_t size)
{
	const struct backing *b = self->b;
	char *addr = self->a.addr + offset;
	long pages = b->how & HOW_NOPIN ? 0 : size / PAGE;
	long charge = b->how & HOW_FREE ? 0 : pages, held = 0;

	EXPECT_EQ(-b->err, vfio_map(&self->v, addr, IOVA, size, b->flags))
		TH_LOG("%s, %s", b->name, b->access);

	if (b->err) {
		EXPECT_STATE(&self->base, 0, 0, 0);
		EXPECT_REFUSED(&self->base, b->reason, 1);
		EXPECT_EQ(0L, vfio_unmap(&self->v, IOVA, size));
		if (b->kind != HOLE && !offset)
			check_no_dma(_metadata, self, addr);
		return;
	}

	if (!(b->how & HOW_FREE))
		held = held_by(&self->a, offset / PAGE, size / PAGE, 1);
	EXPECT_STATE(&self->base, pages, charge, held);
	EXPECT_REFUSED(&self->base, NO_REASON, 0);
	check_dma(_metadata, self, addr, size);
	EXPECT_STATE(&self->base, pages, charge, held);
	EXPECT_EQ((long)size, vfio_unmap(&self->v, IOVA, size));
	EXPECT_BACK(&self->base);
}

TEST_F(backing, whole)
{
	map_part(_metadata, self, 0, self->a.size);
}

TEST_F(backing, one_page)
{
	map_part(_metadata, self, PAGE, PAGE);
}

/* Pieces at many places, so that folios are held in part, entered and left */
TEST_F(backing, pieces)
{
	size_t pages = self->a.size / PAGE, step = pages / 16, at, n = 0;
	int ret = -self->b->err;

	if (!step)
		step = 1;
	for (at = 0; at < pages; at += step, n++) {
		EXPECT_EQ(ret, vfio_map(&self->v, self->a.addr + at * PAGE,
					IOVA_FAR + at * PAGE, PAGE,
					self->b->flags));
	}
	if (self->b->err) {
		EXPECT_STATE(&self->base, 0, 0, 0);
		EXPECT_REFUSED(&self->base, self->b->reason, n);
	} else if (self->b->how & HOW_FREE) {
		EXPECT_STATE(&self->base, self->b->how & HOW_NOPIN ? 0 : n, 0,
			     0);
	} else {
		EXPECT_STATE(&self->base, n, n,
			     held_by(&self->a, 0, n, step));
	}
	for (at = 0; !ret && at < pages; at += 2 * step) {
		EXPECT_EQ((long)PAGE, vfio_unmap(&self->v, IOVA_FAR + at * PAGE,
						 PAGE));
	}
	EXPECT_LE(0, vfio_unmap(&self->v, IOVA_FAR, pages * PAGE));
	EXPECT_BACK(&self->base);
}

/* One range with two kinds of memory in it */
FIXTURE(mixed)
{
	struct vfio v, other;
	struct area a[2];
	struct snap before, base;
	char *scratch, *addr;
	void *reserved;
	size_t reserved_size, size;
};

FIXTURE_VARIANT(mixed)
{
	const char *name[2];
	int err;
	enum reason reason;
};

#define EITHER_ORDER(_id, _ok, _no, _err, _reason)			\
	FIXTURE_VARIANT_ADD(mixed, _id##_after)				\
		{ { _ok, _no }, _err, _reason };			\
	FIXTURE_VARIANT_ADD(mixed, _id##_first)				\
		{ { _no, _ok }, _err, _reason }

EITHER_ORDER(ext4, "anon-4k", "ext4-shared", EOPNOTSUPP, FILEMAP);
EITHER_ORDER(xfs, "memfd", "xfs-shared", EOPNOTSUPP, FILEMAP);
EITHER_ORDER(fsdax, "anon-4k", "dax-ext4-shared", EOPNOTSUPP, FSDAX);
EITHER_ORDER(fsdax_both, "dax-xfs-private", "dax-xfs-shared", EOPNOTSUPP,
	     FSDAX);
EITHER_ORDER(secretmem, "anon-4k", "secretmem", EFAULT, SECRETMEM);
EITHER_ORDER(unmapped, "anon-4k", "unmapped", EFAULT, FAULT);
EITHER_ORDER(no_rights, "anon-4k", "anon-ro", EFAULT, FAULT);
EITHER_ORDER(thp_ext4, "thp", "ext4-shared", EOPNOTSUPP, FILEMAP);
EITHER_ORDER(hugetlb_ext4, "hugetlb-2m", "ext4-shared", EOPNOTSUPP, FILEMAP);
EITHER_ORDER(bar_ext4, "pci-bar", "ext4-shared", EOPNOTSUPP, FILEMAP);
EITHER_ORDER(anon_bar, "anon-4k", "pci-bar", 0, NO_REASON);

FIXTURE_SETUP(mixed)
{
	const struct backing *b[2];
	char *middle;
	int i;

	NEED_DEVICES(1U);
	self->other.fd = -1;
	self->scratch = anon_pages(PAGE);
	ASSERT_NE(NULL, self->scratch);
	ASSERT_EQ(0, snap(&self->before));
	ASSERT_EQ(0, vfio_open(&self->v, 0));

	/* The first part ends, and the second begins, at a multiple of 2 MiB */
	middle = reserve(16 * MB, 2 * MB, &self->reserved,
			 &self->reserved_size);
	ASSERT_NE(NULL, middle);
	middle += 8 * MB;
	for (i = 0; i < 2; i++) {
		b[i] = backing_find(variant->name[i]);
		ASSERT_NE(NULL, b[i]);
		self->size = b[i]->kind == BAR ? self->v.dev[0].bar_size :
						 b[i]->size;
		if (!i)
			self->addr = middle - self->size;
		if (area_open(b[i], &self->a[i], &self->v.dev[0],
			      i ? middle : self->addr))
			SKIP(return, "%s", self->a[i].why);
	}
	self->size = self->a[0].size + self->a[1].size;
	ASSERT_EQ(0, vfio_map(&self->v, self->scratch, IOVA_SCRATCH, PAGE,
			      MAP_RW));
	ASSERT_EQ(0, snap(&self->base));
}

FIXTURE_TEARDOWN(mixed)
{
	area_close(&self->a[0]);
	area_close(&self->a[1]);
	munmap(self->reserved, self->reserved_size);
	vfio_close(&self->v);
	EXPECT_BACK(&self->before);
}

TEST_F(mixed, map)
{
	long pages = 0;
	int i;

	EXPECT_EQ(-variant->err, vfio_map(&self->v, self->addr, IOVA,
					  self->size, MAP_RW));
	if (variant->err) {
		EXPECT_REFUSED(&self->base, variant->reason, 1);
		EXPECT_BACK(&self->base);
		/* The good part alone can be had, and that at the same place */
		for (i = 0; i < 2; i++) {
			const struct backing *b = backing_find(variant->name[i]);

			if (b->err)
				continue;
			EXPECT_EQ(0, vfio_map(&self->v, self->a[i].addr, IOVA,
					      self->a[i].size, MAP_RW));
			if (!(b->how & HOW_FREE))
				EXPECT_EQ(0, edu_check_once(&self->v.dev[0],
							    self->a[i].addr,
							    IOVA,
							    self->a[i].size));
			EXPECT_EQ((long)self->a[i].size,
				  vfio_unmap(&self->v, IOVA, self->a[i].size));
		}
	} else {
		for (i = 0; i < 2; i++)
			if (!(backing_find(variant->name[i])->how & HOW_FREE))
				pages += self->a[i].size / PAGE;
		EXPECT_STATE(&self->base, pages, pages, pages);
		EXPECT_EQ((long)self->size,
			  vfio_unmap(&self->v, IOVA, self->size));
	}
	EXPECT_BACK(&self->base);
}

/*
 * What is pinned of a private mapping of a DAX file is a copy, for reading as
 * well: the device does not see the file change, and holds nothing of it.
 */
#define COPY	(2 * MB)

FIXTURE(dax_copy)
{
	struct vfio v;
	struct snap before, base;
	char *scratch;
	char *old;		/* what was in the file */
	char *addr;		/* its private mapping */
	void *reserved;
	size_t reserved_size;
	const char *dir;
	char path[256];
	int fd;
};

FIXTURE_VARIANT(dax_copy)
{
	const char *where;
	bool hole;		/* the file has no blocks */
	bool huge;		/* mapped in one piece before it is pinned */
};

#define COPIES(_fs, _where)						\
	FIXTURE_VARIANT_ADD(dax_copy, _fs##_small)			\
		{ .where = _where };					\
	FIXTURE_VARIANT_ADD(dax_copy, _fs##_huge)			\
		{ .where = _where, .huge = true };			\
	FIXTURE_VARIANT_ADD(dax_copy, _fs##_hole)			\
		{ .where = _where, .hole = true };			\
	FIXTURE_VARIANT_ADD(dax_copy, _fs##_huge_hole)			\
		{ .where = _where, .hole = true, .huge = true }

COPIES(ext4, "USERPIN_DAX_EXT4");
COPIES(xfs, "USERPIN_DAX_XFS");

/*
 * Blocks that can be mapped in one piece: of twice as many the first go, up to a
 * multiple of their size on the disk.
 */
static int allocate_aligned(int fd)
{
	struct {
		struct fiemap map;
		struct fiemap_extent extent;
	} f = { .map = { .fm_length = ~0ULL, .fm_extent_count = 1 } };
	off_t before;

	if (fallocate(fd, 0, 0, 2 * COPY) || ioctl(fd, FS_IOC_FIEMAP, &f.map))
		return -errno;
	before = -f.extent.fe_physical % COPY;
	if (f.extent.fe_length < before + COPY)
		return -ENOSPC;
	if (before && fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, before))
		return -errno;
	return ftruncate(fd, COPY) ? -errno : 0;
}

FIXTURE_SETUP(dax_copy)
{
	NEED_DEVICES(1U);
	self->dir = getenv(variant->where);
	ASSERT_NE(NULL, self->dir);
	self->scratch = anon_pages(PAGE);
	ASSERT_NE(NULL, self->scratch);
	self->old = anon_pages(COPY);
	ASSERT_NE(NULL, self->old);
	memset(self->old, 0, COPY);
	ASSERT_EQ(0, snap(&self->before));

	snprintf(self->path, sizeof(self->path), "%s/dax_copy", self->dir);
	self->fd = open(self->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC,
			0600);
	ASSERT_LE(0, self->fd);
	if (variant->hole) {
		ASSERT_EQ(0, ftruncate(self->fd, COPY));
	} else {
		fill(self->old, COPY, 7);
		ASSERT_EQ(0, allocate_aligned(self->fd));
		ASSERT_EQ((ssize_t)COPY, pwrite(self->fd, self->old, COPY, 0));
	}

	self->addr = reserve(COPY, COPY, &self->reserved,
			     &self->reserved_size);
	ASSERT_NE(NULL, self->addr);
	ASSERT_NE(MAP_FAILED, mmap(self->addr, COPY, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_FIXED, self->fd, 0));
	if (!variant->huge)
		ASSERT_EQ(0, madvise(self->addr, COPY, MADV_NOHUGEPAGE));
	ASSERT_EQ(0, madvise(self->addr, COPY, MADV_POPULATE_READ));
	ASSERT_EQ(variant->huge, mapped_huge(self->addr));

	ASSERT_EQ(0, vfio_open(&self->v, 0));
	ASSERT_EQ(0, vfio_map(&self->v, self->scratch, IOVA_SCRATCH, PAGE,
			      MAP_RW));
	ASSERT_EQ(0, snap(&self->base));
}

FIXTURE_TEARDOWN(dax_copy)
{
	vfio_close(&self->v);
	munmap(self->reserved, self->reserved_size);
	close(self->fd);
	unlink(self->path);
	EXPECT_BACK(&self->before);
}

/* Whether the device still reads what was in the file, at both ends */
static bool device_sees_old(FIXTURE_DATA(dax_copy) *self)
{
	size_t at[] = { 0, COPY - EDU_LEN };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(at); i++)
		if (edu_copy(&self->v.dev[0], IOVA_SCRATCH, IOVA + at[i],
			     EDU_LEN) ||
		    memcmp(self->scratch, self->old + at[i], EDU_LEN))
			return false;
	return true;
}

TEST_F(dax_copy, pinned_for_reading)
{
	long n = COPY / PAGE, i, copies = 0;
	char *shared;

	ASSERT_EQ(0, vfio_map(&self->v, self->addr, IOVA, COPY, MAP_R));
	EXPECT_STATE(&self->base, n, n, n);
	for (i = 0; i < n; i++)
		copies += !!(pfn_flags(pfn_of(self->addr + i * PAGE)) &
			     PF_ANON);
	EXPECT_EQ(n, copies);
	EXPECT_EQ(0, memcmp(self->addr, self->old, COPY));
	EXPECT_TRUE(device_sees_old(self));

	shared = mmap(NULL, COPY, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd,
		      0);
	ASSERT_NE(MAP_FAILED, (void *)shared);
	fill(shared, COPY, 8);
	EXPECT_EQ(0, memcmp(self->addr, self->old, COPY));
	/* If a page of the file were pinned, its blocks would not go */
	ASSERT_TRUE(device_sees_old(self));

	ASSERT_EQ(0, ftruncate(self->fd, 0));
	ASSERT_EQ(0, munmap(shared, COPY));
	ASSERT_EQ(0, munmap(self->addr, COPY));
	ASSERT_EQ(0, close(self->fd));
	ASSERT_EQ(0, unlink(self->path));
	EXPECT_EQ(0, remount(self->dir));
	EXPECT_STATE(&self->base, n, n, n);
	EXPECT_TRUE(device_sees_old(self));
	EXPECT_EQ((long)COPY, vfio_unmap(&self->v, IOVA, COPY));
	EXPECT_BACK(&self->base);
}

/* A container with its scratch page, and a page that is not mapped yet */
static int open_with_page(struct vfio *v, char **scratch, char **mem)
{
	*scratch = anon_pages(PAGE);
	*mem = anon_pages(PAGE);
	if (!*scratch || !*mem)
		return -ENOMEM;
	return vfio_open(v, 0) ?:
	       vfio_map(v, *scratch, IOVA_SCRATCH, PAGE, MAP_RW);
}

/*
 * A device may read what the process may read, also where a page is there: the
 * answer is a matter of the mapping, not of its pages.
 */
TEST(no_right_to_read)
{
	struct snap base;
	char *scratch, *mem;
	struct vfio v;

	NEED_DEVICES(1U);
	ASSERT_EQ(0, open_with_page(&v, &scratch, &mem));
	ASSERT_EQ(0, snap(&base));
	ASSERT_EQ(0, mprotect(mem, PAGE, PROT_WRITE));
	EXPECT_EQ(-EFAULT, vfio_map(&v, mem, IOVA, PAGE, MAP_R));
	EXPECT_REFUSED(&base, FAULT, 1);
	EXPECT_STATE(&base, 0, 0, 0);
	vfio_close(&v);
}

/*
 * A BAR that the process may only read cannot be had for writing; VFIO finds
 * that out by itself, and the refusal is counted once.
 */
TEST(bar_read_only)
{
	struct vfio v, other;
	struct snap base;
	char *scratch;
	size_t size;
	void *bar;

	NEED_DEVICES(2U);
	scratch = anon_pages(PAGE);
	ASSERT_NE(NULL, scratch);
	ASSERT_EQ(0, vfio_open(&v, 0));
	ASSERT_EQ(0, vfio_open(&other, 1));
	ASSERT_EQ(0, vfio_map(&v, scratch, IOVA_SCRATCH, PAGE, MAP_RW));
	ASSERT_EQ(0, snap(&base));
	bar = vfio_bar_map(&other.dev[0], NULL, &size);
	ASSERT_NE(NULL, bar);
	ASSERT_EQ(0, mprotect(bar, size, PROT_READ));
	EXPECT_EQ(-EFAULT, vfio_map(&v, bar, IOVA, size, MAP_RW));
	EXPECT_REFUSED(&base, PFNMAP, 1);
	EXPECT_STATE(&base, 0, 0, 0);
	EXPECT_EQ(0, vfio_map(&v, bar, IOVA, size, MAP_R));
	EXPECT_REFUSED(&base, PFNMAP, 1);
	EXPECT_STATE(&base, 0, 0, 0);
	EXPECT_EQ((long)size, vfio_unmap(&v, IOVA, size));
	munmap(bar, size);
	vfio_close(&other);
	vfio_close(&v);
}

/* Where nothing is mapped for the device, DMA must not get through */
TEST(no_dma_without_a_map)
{
	struct vfio v;
	char *scratch, *mem;

	NEED_DEVICES(1U);
	ASSERT_EQ(0, open_with_page(&v, &scratch, &mem));
	ASSERT_EQ(0, vfio_map(&v, mem, IOVA, PAGE, MAP_RW));
	EXPECT_EQ(0, edu_check(&v.dev[0], mem, IOVA, PAGE));
	EXPECT_EQ((long)PAGE, vfio_unmap(&v, IOVA, PAGE));

	/* a write does not arrive */
	fill(mem, PAGE, 1);
	fill(scratch, PAGE, 2);
	EXPECT_EQ(0, edu_copy(&v.dev[0], IOVA, IOVA_SCRATCH, EDU_LEN));
	EXPECT_TRUE(filled(mem, PAGE, 1));

	/* a read does not see it */
	EXPECT_EQ(0, edu_copy(&v.dev[0], IOVA_SCRATCH, IOVA, EDU_LEN));
	EXPECT_FALSE(filled(scratch, EDU_LEN, 1));

	/* and after the container's end it is not reached either */
	vfio_close(&v);
	EXPECT_TRUE(filled(mem, PAGE, 1));
}

TEST_HARNESS_MAIN
