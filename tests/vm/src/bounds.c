// SPDX-License-Identifier: GPL-2.0
/*
 * The most pins that a page or a folio may have: the next one is refused, and
 * that is all that happens.
 */
#include <fcntl.h>

#include "test.h"

#define PAGE_PINS	65535L		/* PIN_PAGE_MAX of mm/pin_ledger.h */
#define FOLIO_PINS	(1L << 29)	/* PIN_FOLIO_MAX */

/* One page of a memfd at this many addresses that follow each other */
#define ALIASES		4096L

FIXTURE(bounds)
{
	struct vfio a, b;
	struct snap before, base;
	int fd;
	char *page;		/* the page, for the CPU */
	char *alias;
};

FIXTURE_SETUP(bounds)
{
	size_t reserved_size;
	void *reserved;
	long i;

	NEED_DEVICES(2U);
	self->b.fd = -1;
	self->fd = memfd_create("one page", MFD_CLOEXEC);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, ftruncate(self->fd, PAGE));
	self->page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
			  self->fd, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->page);
	fill(self->page, PAGE, 1);
	self->alias = reserve(ALIASES * PAGE, PAGE, &reserved, &reserved_size);
	ASSERT_NE(NULL, self->alias);
	for (i = 0; i < ALIASES; i++) {
		ASSERT_NE(MAP_FAILED,
			  mmap(self->alias + i * PAGE, PAGE,
			       PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			       self->fd, 0));
	}
	ASSERT_EQ(0, snap(&self->before));
	ASSERT_EQ(0, vfio_open(&self->a, 0));
	ASSERT_EQ(0, vfio_open(&self->b, 1));
	ASSERT_EQ(0, snap(&self->base));
}

FIXTURE_TEARDOWN(bounds)
{
	vfio_close(&self->a);
	vfio_close(&self->b);
	EXPECT_BACK(&self->before);
}

/* Give the page all the pins that it may have, through the first device */
static void pin_to_the_limit(struct __test_metadata *_metadata,
			     FIXTURE_DATA(bounds) *self)
{
	long done, n;

	for (done = 0; done < PAGE_PINS; done += n) {
		n = PAGE_PINS - done < ALIASES ? PAGE_PINS - done : ALIASES;
		ASSERT_EQ(0, vfio_map(&self->a, self->alias,
				      IOVA_FAR + done * PAGE, n * PAGE,
				      MAP_RW));
	}
	EXPECT_STATE(&self->base, PAGE_PINS, 1, 1);
}

TEST_F(bounds, one_page)
{
	char *other = anon_pages(PAGE);
	int sv[2], status;
	pid_t pid;
	long ret;

	ASSERT_NE(NULL, other);
	/* A process beside this one, with a device and a ledger of its own */
	vfio_close(&self->b);
	ASSERT_EQ(0, chan_pair(sv));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct vfio v;

		if (chan_get(sv[1], NULL) || vfio_open(&v, 1))
			_exit(1);
		ret = vfio_map(&v, self->page, IOVA, PAGE, MAP_RW);
		if (!ret)
			ret = edu_check(&v.dev[0], self->page, IOVA, PAGE);
		_exit(chan_put(sv[1], ret) || ret);
	}

	pin_to_the_limit(_metadata, self);
	EXPECT_EQ(-EOVERFLOW, vfio_map(&self->a, self->page, IOVA, PAGE,
				       MAP_RW));
	EXPECT_REFUSED(&self->base, OVERFLOW_, 1);
	EXPECT_STATE(&self->base, PAGE_PINS, 1, 1);

	/* Other pages can still be mapped, and this one still works */
	EXPECT_EQ(0, vfio_map(&self->a, other, IOVA, PAGE, MAP_RW));
	EXPECT_EQ(0, edu_check(&self->a.dev[0], other, IOVA, PAGE));
	EXPECT_EQ((long)PAGE, vfio_unmap(&self->a, IOVA, PAGE));
	fill(self->page, PAGE, 2);
	EXPECT_TRUE(filled(self->alias + 17 * PAGE, PAGE, 2));

	/* The other process may pin the page */
	EXPECT_EQ(0, chan_put(sv[0], 0));
	EXPECT_EQ(0, chan_get(sv[0], &ret));
	EXPECT_EQ(0, ret);
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);

	/* With one pin less there is room for one */
	EXPECT_EQ(0, vfio_map(&self->a, other, IOVA, PAGE, MAP_RW));
	EXPECT_LT(0, vfio_unmap(&self->a, IOVA_FAR, ALIASES * PAGE));
	EXPECT_EQ(0, vfio_map(&self->a, self->page, IOVA + PAGE, PAGE, MAP_RW));
	EXPECT_EQ(0, edu_check(&self->a.dev[0], self->page, IOVA + PAGE,
			       PAGE));
	EXPECT_LT(0, vfio_unmap_all(&self->a));
	EXPECT_BACK(&self->base);
}

/* The cap counts all containers of the process; the map fails half-way */
TEST_F(bounds, one_page_two_containers)
{
	pin_to_the_limit(_metadata, self);
	EXPECT_LT(0, vfio_unmap(&self->a, IOVA_FAR, ALIASES * PAGE));
	EXPECT_EQ(0, vfio_map(&self->b, self->alias, IOVA_FAR,
			      (ALIASES - 16) * PAGE, MAP_RW));
	EXPECT_STATE(&self->base, PAGE_PINS - 16, 1, 1);
	EXPECT_EQ(-EOVERFLOW, vfio_map(&self->b, self->alias, IOVA, 17 * PAGE,
				       MAP_RW));
	EXPECT_STATE(&self->base, PAGE_PINS - 16, 1, 1);
	EXPECT_EQ(0, vfio_map(&self->b, self->alias, IOVA, 16 * PAGE, MAP_RW));
	EXPECT_EQ(-EOVERFLOW, vfio_map(&self->a, self->alias, IOVA, PAGE,
				       MAP_RW));
	EXPECT_STATE(&self->base, PAGE_PINS, 1, 1);
	EXPECT_EQ(0, edu_check(&self->b.dev[0], self->page, IOVA, PAGE));
	vfio_close(&self->a);
	EXPECT_EQ(0, vfio_map(&self->b, self->alias, IOVA_FAR << 1,
			      16 * PAGE, MAP_RW));
	vfio_close(&self->b);
	EXPECT_BACK(&self->base);
}

#define GB_PAGES	((long)(GB / PAGE))
#define MAPS		(FOLIO_PINS / GB_PAGES)

/* Where a folio of 1 GiB can be mapped @n times; false: the IOMMU has no such room */
static bool places(struct vfio *v, uint64_t *at, long n)
{
	uint64_t next = IOVA_FAR;
	long i;

	for (i = 0; i < n; i++, next += GB) {
		next = vfio_room(v, next, GB);
		if (next == VFIO_NOWHERE)
			return false;
		at[i] = next;
	}
	return true;
}

/* A folio of 1 GiB, mapped whole 2048 times, half of them by each device */
TEST_F(bounds, one_gigabyte)
{
	const struct backing *b = backing_find("hugetlb-1g");
	long pages = GB_PAGES, i;
	uint64_t at[MAPS / 2];
	struct area area;

	if (area_open(b, &area, NULL, NULL))
		SKIP(return, "%s", area.why);
	if (!places(&self->a, at, MAPS / 2))
		SKIP(return, "this IOMMU has no room for %ld GiB", MAPS / 2);
	for (i = 0; i < MAPS; i++) {
		ASSERT_EQ(0, vfio_map(i % 2 ? &self->b : &self->a, area.addr,
				      at[i / 2], GB, MAP_RW))
			TH_LOG("map %ld of %ld", i, MAPS);
	}
	EXPECT_STATE(&self->base, FOLIO_PINS, pages, pages);
	EXPECT_EQ(-EOVERFLOW, vfio_map(&self->a, area.addr, IOVA, PAGE,
				       MAP_RW));
	EXPECT_EQ(-EOVERFLOW, vfio_map(&self->b, area.addr + GB / 2, IOVA,
				       16 * PAGE, MAP_RW));
	EXPECT_REFUSED(&self->base, OVERFLOW_, 2);
	EXPECT_STATE(&self->base, FOLIO_PINS, pages, pages);

	/* Its user is unharmed, and so is the device */
	fill(area.addr, PAGE, 5);
	EXPECT_TRUE(filled(area.addr, PAGE, 5));
	EXPECT_EQ((long)GB, vfio_unmap(&self->b, at[0], GB));
	EXPECT_EQ(0, vfio_map(&self->b, area.addr, IOVA, 16 * PAGE, MAP_RW));
	EXPECT_EQ(0, edu_check(&self->b.dev[0], area.addr, IOVA, 16 * PAGE));
	vfio_close(&self->a);
	vfio_close(&self->b);
	EXPECT_BACK(&self->base);
	area_close(&area);
}

/* Map a folio of 1 GiB whole, at @n places; how many did it? */
static long map_gigabyte(struct vfio *v, void *addr, const uint64_t *at, long n,
			 int *ret)
{
	long i;

	for (i = 0; i < n; i++) {
		*ret = vfio_map(v, addr, at[i], GB, MAP_RW);
		if (*ret)
			break;
	}
	return i;
}

/*
 * One who maps the folio and uses it, also for direct I/O, which pins it for a
 * moment; exit code 0
 */
static int bystander(struct area *area)
{
	const char *dir = getenv("USERPIN_EXT4");
	char path[256], *again, *copy;
	int fd;

	again = mmap(NULL, GB, PROT_READ | PROT_WRITE, MAP_SHARED, area->fd, 0);
	if (again == MAP_FAILED || !dir)
		return 1;
	snprintf(path, sizeof(path), "%s/bystander", dir);
	fd = open(path, O_RDWR | O_CREAT | O_DIRECT, 0600);
	if (fd < 0)
		return 2;
	unlink(path);
	fill(again, PAGE, 31);
	if (pwrite(fd, again, PAGE, 0) != PAGE)
		return 3;
	if (pread(fd, again + GB / 2, PAGE, 0) != PAGE)
		return 4;
	if (!filled(area->addr + GB / 2, PAGE, 31))
		return 5;
	copy = mmap(NULL, GB, PROT_READ | PROT_WRITE, MAP_PRIVATE, area->fd, 0);
	if (copy == MAP_FAILED || !filled(copy + GB / 2, PAGE, 31))
		return 6;
	return 0;
}

/*
 * The ledgers of several processes each have a bound, but the folio has one
 * reference count. What stays below PIN_REFCOUNT_MAX is given, and beyond it
 * only new long-term pins are refused.
 */
TEST_F(bounds, one_gigabyte_three_processes)
{
	const struct backing *b = backing_find("hugetlb-1g");
	int sv[2][2], status, ret, i;
	uint64_t at[MAPS + 1];
	pid_t pid[2], other;
	struct area area;
	long done;

	if (area_open(b, &area, NULL, NULL))
		SKIP(return, "%s", area.why);
	if (!places(&self->a, at, MAPS + 1))
		SKIP(return, "this IOMMU has no room for %ld GiB", MAPS + 1);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, chan_pair(sv[i]));
		pid[i] = fork();
		ASSERT_LE(0, pid[i]);
		if (pid[i])
			continue;
		if (chan_get(sv[i][1], NULL))
			_exit(1);
		/*
		 * The page cache of hugetlbfs has a reference for each page, so
		 * the first of the two gets all but two, then it is full.
		 */
		done = map_gigabyte(&self->b, area.addr, at + i * MAPS,
				    i ? 1 : MAPS, &ret);
		if (chan_put(sv[i][1], done) || chan_put(sv[i][1], ret) ||
		    chan_get(sv[i][1], NULL))
			_exit(2);
		_exit(0);
	}
	ASSERT_EQ(MAPS, map_gigabyte(&self->a, area.addr, at, MAPS, &ret));
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, chan_put(sv[i][0], 0));
		EXPECT_EQ(0, chan_get(sv[i][0], &done));
		EXPECT_EQ(i ? 0 : MAPS - 2, done);
		EXPECT_EQ(0, chan_get(sv[i][0], &done));
		EXPECT_EQ(-EOVERFLOW, done);
	}
	other = fork();
	ASSERT_LE(0, other);
	if (!other)
		_exit(bystander(&area));
	EXPECT_EQ(0, reap(other, &status));
	EXPECT_EQ(0, status);
	EXPECT_TRUE(filled(area.addr + GB / 2, PAGE, 31));

	/* They end, but what they pinned belongs to the container */
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, chan_put(sv[i][0], 0));
		EXPECT_EQ(0, reap(pid[i], &status));
		EXPECT_EQ(0, status);
	}
	EXPECT_EQ(-EOVERFLOW, vfio_map(&self->b, area.addr, IOVA, PAGE,
				       MAP_RW));
	vfio_close(&self->a);
	EXPECT_EQ(0, vfio_map(&self->b, area.addr, IOVA, 16 * PAGE, MAP_RW));
	EXPECT_EQ(0, edu_check(&self->b.dev[0], area.addr, IOVA, 16 * PAGE));
	vfio_close(&self->b);
	EXPECT_BACK(&self->base);
	area_close(&area);
}

TEST_HARNESS_MAIN
