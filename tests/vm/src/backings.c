// SPDX-License-Identifier: GPL-2.0
/*
 * Each kind of memory is mapped for a real device: does it map, and if not, with
 * which errno and for which reason; what is charged and held; does DMA reach it
 * in both directions; is everything given back.
 */
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

TEST_F_TIMEOUT(backing, whole, 300)
{
	map_part(_metadata, self, 0, self->a.size);
}

TEST_F_TIMEOUT(backing, one_page, 300)
{
	map_part(_metadata, self, PAGE, PAGE);
}

/* Pieces at many places, so that folios are held in part, entered and left */
TEST_F_TIMEOUT(backing, pieces, 300)
{
	size_t pages = self->a.size / PAGE, step = pages / 16, at, n = 0;
	int ret = -self->b->err;

	if (!step)
		step = 1;
	for (at = 0; at < pages; at += step, n++)
		EXPECT_EQ(ret, vfio_map(&self->v, self->a.addr + at * PAGE,
					IOVA_FAR + at * PAGE, PAGE,
					self->b->flags));
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
	for (at = 0; !ret && at < pages; at += 2 * step)
		EXPECT_EQ((long)PAGE, vfio_unmap(&self->v, IOVA_FAR + at * PAGE,
						 PAGE));
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
 * Refused memory stays refused when its pages are private copies already, from
 * a pin for writing: the answer is a matter of the mapping, not of its history.
 */
TEST(dax_read_after_write)
{
	static const char *const names[] = {
		"dax-ext4-private", "dax-xfs-private"
	};
	struct area a;
	struct vfio v;
	size_t i;

	NEED_DEVICES(1U);
	ASSERT_EQ(0, vfio_open(&v, 0));
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		if (area_open(backing_find(names[i]), &a, NULL, NULL))
			SKIP(return, "%s", a.why);
		ASSERT_EQ(0, vfio_map(&v, a.addr, IOVA, a.size, MAP_RW));
		EXPECT_EQ((long)a.size, vfio_unmap(&v, IOVA, a.size));
		EXPECT_EQ(-EOPNOTSUPP, vfio_map(&v, a.addr, IOVA, a.size,
						MAP_R))
			TH_LOG("%s", names[i]);
		vfio_unmap_all(&v);
		area_close(&a);
	}
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
	scratch = anon_pages(PAGE);
	mem = anon_pages(PAGE);
	ASSERT_NE(NULL, scratch);
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, vfio_open(&v, 0));
	ASSERT_EQ(0, vfio_map(&v, scratch, IOVA_SCRATCH, PAGE, MAP_RW));
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
