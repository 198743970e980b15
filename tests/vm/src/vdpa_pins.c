// SPDX-License-Identifier: GPL-2.0
/*
 * vDPA devices as holders of pins (vhost-vdpa): memory of each kind, batches, who owns a
 * device; and no device reaches memory that is not pinned any more. holders.c has the
 * cases that any holder has. tests/vm/with_vdpa sets the devices up: the disks are
 * simulated, or they are QEMU's and do their DMA through the IOMMU.
 */
#include <fcntl.h>

#include "test.h"
#include "vdpa_lib.h"

#define N	64L		/* pages, where the number does not matter */
#define SIZE	(N * PAGE)
#define FAR	(64 * GB)
/* Whatever the reason, vhost says this: the reason is in the log, and in longterm_pins */
#define FAILED	-EFAULT
#define WATCH	"/sys/module/vdpa_watch/parameters/"

FIXTURE(vdpa)
{
	struct vdpa a;
	struct disk disk;
	struct snap before, base;
	long exposed;
	bool iommu;	/* the disk is behind one, which is told of each mapping at once */
};

/* Has the disk a domain of an IOMMU? It is the first of the devices then */
static bool behind_iommu(char dev[32])
{
	const char *devs = getenv("USERPIN_VDPA_DEVS");

	return devs && sscanf(devs, "%31s", dev) == 1;
}

/* From now on, vdpa_watch.ko sees what disk0 can reach; until it is closed */
static int watch_iommu(void)
{
	char dev[32];

	return behind_iommu(dev) ? write_text(WATCH "domain_of", dev) : 0;
}

/* All pins there are belong to holders, when nobody has any for a moment only */
static bool holders_have_all(void *arg)
{
	static struct pins all;
	long sum = 0;
	int i;

	(void)arg;
	if (pins_read_all(&all))
		return false;
	for (i = 0; i < all.nr; i++)
		sum += all.holder[i].pages;
	return sum == vmstat("nr_foll_pin_acquired") -
		      vmstat("nr_foll_pin_released");
}

FIXTURE_SETUP(vdpa)
{
	char dev[32];

	self->disk.v = NULL;
	self->iommu = behind_iommu(dev);
	self->exposed = read_long(WATCH "exposed", 0);
	ASSERT_EQ(0, snap(&self->before));
	ASSERT_EQ(0, vdpa_open(&self->a, "disk0"))
		TH_LOG("see tests/vm/with_vdpa");
	ASSERT_EQ(0, watch_iommu());
	ASSERT_EQ(0, snap(&self->base));
}

FIXTURE_TEARDOWN(vdpa)
{
	if (pins_supported())
		EXPECT_TRUE(wait_for(holders_have_all, NULL))
			TH_LOG("pins that no holder has");
	if (self->disk.v)
		disk_stop(&self->disk);
	vdpa_close(&self->a);
	EXPECT_BACK(&self->before);
	EXPECT_EQ(self->exposed, read_long(WATCH "exposed", 0))
		TH_LOG("a device could reach pages that nobody had pinned");
}

/* Pages in another order than their addresses: a mapping for each */
static char *scattered_pages(long n)
{
	char *mem = small_pages(n * PAGE);
	long i;

	for (i = 0; mem && i < n; i++)
		mem[i * 29 % n * PAGE] = 1;
	return mem;
}

/* Since @base so many pins were added, of so many pages */
#define EXPECT_PINS(base, pages, distinct)				\
	EXPECT_COUNTS(base, COUNT_PINNED, pages, distinct, distinct)

/* The holder that the process has; NULL without one */
static struct holder *holder_of(struct pins *p)
{
	return p->nr == 1 && !strncmp(p->holder[0].name, "vdpa.", 5) ?
	       &p->holder[0] : NULL;
}

/* --- What is counted ---------------------------------------------------------- */

static void counted(struct __test_metadata *_metadata, FIXTURE_DATA(vdpa) *self,
		    const char *kind)
{
	const struct backing *b = backing_find(kind);
	struct holder *h;
	struct pins p;
	struct area area;
	long n;

	ASSERT_NE(NULL, b);
	if (area_open(b, &area, NULL, NULL))
		SKIP(return, "%s", area.why);
	n = area.size / PAGE;
	EXPECT_EQ(0, vdpa_map(&self->a, area.addr, FAR, area.size, VDPA_RW));
	EXPECT_PINS(&self->base, n, n);
	EXPECT_EQ(0, pins_read(0, &p));
	h = holder_of(&p);
	ASSERT_NE(NULL, h);
	EXPECT_EQ(n, h->pages);
	EXPECT_EQ(n, h->acquired);
	EXPECT_EQ(0, h->released);

	/* A part of it, in a mapping of its own */
	EXPECT_EQ(0, vdpa_map(&self->a, area.addr, 2 * FAR, PAGE, VDPA_R));
	EXPECT_EQ(0, pins_read(0, &p));
	EXPECT_EQ(n + 1, holder_of(&p)->pages);

	/* Pins outlive the memory */
	area_close(&area);
	EXPECT_EQ(0, vdpa_unmap(&self->a, FAR, area.size));
	EXPECT_EQ(0, pins_read(0, &p));
	EXPECT_EQ(1, holder_of(&p)->pages);
	EXPECT_EQ(0, vdpa_unmap(&self->a, 2 * FAR, PAGE));
	EXPECT_BACK(&self->base);
	EXPECT_EQ(0, pins_read(0, &p));
	h = holder_of(&p);
	ASSERT_NE(NULL, h);
	EXPECT_EQ(n + 1, h->released);
	EXPECT_EQ(n + 1, h->peak);
}

TEST_F(vdpa, counted_anon)
{
	counted(_metadata, self, "anon-4k");
}

TEST_F(vdpa, counted_thp)
{
	counted(_metadata, self, "thp");
}

TEST_F(vdpa, counted_hugetlb)
{
	counted(_metadata, self, "hugetlb-2m");
}

TEST_F(vdpa, counted_memfd)
{
	counted(_metadata, self, "memfd");
}

/* A file that must see each write: the device may read it */
TEST_F(vdpa, file_that_tracks_writes)
{
	const char *dir = getenv("USERPIN_EXT4");
	char path[128], *mem;
	int fd;

	if (!dir)
		SKIP(return, "no file system on a disk, see USERPIN_EXT4");
	snprintf(path, sizeof(path), "%s/vdpa-%d", dir, getpid());
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	unlink(path);
	ASSERT_EQ(0, ftruncate(fd, SIZE));
	mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, (void *)mem);
	EXPECT_EQ(FAILED, vdpa_map(&self->a, mem, FAR, SIZE, VDPA_RW));
	EXPECT_EQ(0, vdpa_map(&self->a, mem, FAR, SIZE, VDPA_R));
	EXPECT_PINS(&self->base, N, N);
	close(fd);
}

/* --- Batches ------------------------------------------------------------------ */

/* The limit refuses a part of which no device has seen anything yet */
TEST_F(vdpa, refused_in_a_batch)
{
	/* More than is pinned at once, so that the first of it is mapped by then */
	const size_t n = 2048, room = 1100;
	char *mem = scattered_pages(n);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, set_memlock(room * PAGE));
	EXPECT_EQ(0, vdpa_batch_begin(&self->a));
	EXPECT_EQ(FAILED, vdpa_map(&self->a, mem, FAR, n * PAGE, VDPA_RW));
	EXPECT_BACK(&self->base);
	EXPECT_EQ(0, vdpa_map(&self->a, mem, FAR, room * PAGE, VDPA_RW));
	EXPECT_EQ(0, vdpa_batch_end(&self->a));
	EXPECT_PINS(&self->base, room, room);
}

/* --- Ends --------------------------------------------------------------------- */

TEST_F(vdpa, closed_in_a_batch)
{
	char *mem = anon_pages(SIZE);

	ASSERT_NE(NULL, mem);
	EXPECT_EQ(0, vdpa_map(&self->a, mem, FAR, SIZE, VDPA_RW));
	EXPECT_EQ(0, vdpa_batch_begin(&self->a));
	EXPECT_EQ(0, vdpa_unmap(&self->a, FAR, SIZE));
	EXPECT_EQ(0, vdpa_map(&self->a, mem, FAR, PAGE, VDPA_RW));
	vdpa_close(&self->a);
	EXPECT_BACK(&self->before);
}

/* As on stock, the device is the old program's, until it is closed */
static int after_exec(int fd)
{
	struct vdpa v = { fd };
	char *mem = anon_pages(SIZE);

	if (!mem || pins_of_the_dead() != N ||
	    vdpa_map(&v, mem, 2 * FAR, SIZE, VDPA_RW) != FAILED)
		return 10;
	vdpa_close(&v);
	if (pins_of_the_dead())
		return 11;
	/* It is free for its next owner */
	if (vdpa_open(&v, "disk0") || vdpa_map(&v, mem, FAR, SIZE, VDPA_RW) ||
	    status_pages(0, "VmPin:") != N)
		return 12;
	return 0;
}

TEST_F(vdpa, exec)
{
	char fd[16];
	int status;
	pid_t pid;

	vdpa_close(&self->a);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		char *mem = anon_pages(SIZE);
		struct vdpa v;

		if (!mem || vdpa_open(&v, "disk0") ||
		    vdpa_map(&v, mem, FAR, SIZE, VDPA_RW))
			_exit(1);
		sprintf(fd, "%d", v.fd);
		fcntl(v.fd, F_SETFD, 0);
		execl("/proc/self/exe", "vdpa_pins", "--after-exec", fd, NULL);
		_exit(2);
	}
	ASSERT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, WEXITSTATUS(status)) TH_LOG("after_exec() returned this");
	EXPECT_EQ(0, status);
	EXPECT_BACK(&self->before);
}

/* --- Each allocation fails in turn -------------------------------------------- */

TEST_F(vdpa, allocations_in_a_batch)
{
	struct vdpa *v = &self->a;
	struct failing f = {};
	char *mem;
	int ret;

	NEED_FAILING(f.fd);
	mem = scattered_pages(N);
	ASSERT_NE(NULL, mem);

	while (FAILING_NEXT(&f)) {
		EXPECT_EQ(0, vdpa_batch_begin(v));
		failing_arm(&f);
		ret = vdpa_map(v, mem, FAR, SIZE, VDPA_RW);
		failing_disarm(&f, ret);
		if (ret)
			EXPECT_BACK(&self->base);
		EXPECT_EQ(0, vdpa_batch_end(v));
		if (!ret) {
			EXPECT_PINS(&self->base, N, N);
			EXPECT_EQ(0, vdpa_unmap(v, FAR, SIZE));
		}
		EXPECT_BACK(&self->base);
	}
	/* The pages are scattered */
	EXPECT_FAILED_IN_TURN(&f, 11);
	close(f.fd);
}

/*
 * Memory that lies together, on both sides of the end of a page table: an IOMMU that lacks
 * the second table keeps nothing in the first.
 */
TEST_F(vdpa, allocations_between_tables)
{
	const struct backing *b = backing_find("thp");
	char *other = anon_pages(PAGE);
	struct vdpa *v = &self->a;
	struct failing f = {};
	struct area area;
	int ret;

	NEED_FAILING(f.fd);
	ASSERT_NE(NULL, b);
	ASSERT_NE(NULL, other);
	if (area_open(b, &area, NULL, NULL))
		SKIP(return, "%s", area.why);
	fill(area.addr, SIZE, 1);

	while (FAILING_NEXT(&f)) {
		/* A place that has no tables yet */
		uint64_t at = FAR + f.n * GB + 2 * MB - SIZE / 2;

		failing_arm(&f);
		ret = vdpa_map(v, area.addr, at, SIZE, VDPA_RW);
		failing_disarm(&f, ret);
		if (!ret)
			EXPECT_EQ(0, vdpa_unmap(v, at, SIZE));
		EXPECT_BACK(&self->base);
		/* Who is told of other memory, looks at all */
		EXPECT_EQ(0, vdpa_map(v, other, IOVA, PAGE, VDPA_RW));
		EXPECT_EQ(0, vdpa_unmap(v, IOVA, PAGE));
		EXPECT_EQ(self->exposed, read_long(WATCH "exposed", 0));
	}
	EXPECT_FAILED_IN_TURN(&f, 1);
	close(f.fd);
	area_close(&area);
}

/* --- What devices reach ------------------------------------------------------- */

/* Interrupts by which the IOMMU has told of faults */
static long iommu_faults(void)
{
	FILE *f = fopen("/proc/interrupts", "r");
	char line[512], *at, *end;
	long faults = 0, n;

	while (f && fgets(line, sizeof(line), f)) {
		at = strchr(line, ':');
		if (!at || !strstr(line, "DMAR-MSI"))
			continue;
		for (at++; n = strtol(at, &end, 10), end != at; at = end)
			faults += n;
	}
	if (f)
		fclose(f);
	return faults;
}

static bool more_faults(void *than)
{
	return iommu_faults() > *(long *)than;
}

/*
 * Nothing is mapped at @iova: a request that goes there fails. Behind an IOMMU it is the
 * DMA that fails. QEMU's disk does not notice. Faults come before the request's end, and
 * in a few looks each CPU has taken its interrupts.
 */
static bool out_of_reach(FIXTURE_DATA(vdpa) *self, uint64_t iova)
{
	long faults;
	int i, ret;

	for (i = 0; self->iommu && i < 10; i++)
		before_next_look();
	faults = iommu_faults();
	ret = disk_request(&self->disk, false, iova, DISK_SECTOR);
	return self->iommu ? !ret && wait_for(more_faults, &faults) : ret > 0;
}

static void data(struct __test_metadata *_metadata, FIXTURE_DATA(vdpa) *self,
		 const char *kind)
{
	const struct backing *b = backing_find(kind);
	struct area area;
	int ret;

	ASSERT_NE(NULL, b);
	if (area_open(b, &area, NULL, NULL))
		SKIP(return, "%s", area.why);
	ASSERT_EQ(0, disk_start(&self->disk, &self->a, IOVA));
	EXPECT_EQ(0, vdpa_map(&self->a, area.addr, FAR, area.size, VDPA_RW));
	fill(area.addr, area.size, 1);
	/* To the disk, and back to the other half */
	EXPECT_EQ(0, disk_request(&self->disk, true, FAR, area.size / 2));
	EXPECT_EQ(0, disk_request(&self->disk, false, FAR + area.size / 2,
				  area.size / 2));
	EXPECT_TRUE(filled(area.addr + area.size / 2, area.size / 2, 1));
	EXPECT_EQ(0, vdpa_unmap(&self->a, FAR, area.size));
	fill(area.addr, area.size, 4);
	EXPECT_TRUE(out_of_reach(self, FAR));
	EXPECT_TRUE(filled(area.addr, area.size, 4));

	/* What it may only read, it cannot write */
	EXPECT_EQ(0, vdpa_map(&self->a, area.addr, FAR, area.size, VDPA_R));
	fill(area.addr, area.size, 2);
	EXPECT_EQ(0, disk_request(&self->disk, true, FAR, PAGE));
	fill(area.addr, area.size, 3);
	ret = disk_request(&self->disk, false, FAR, PAGE);
	EXPECT_EQ(self->iommu, !ret);
	EXPECT_TRUE(filled(area.addr, area.size, 3));
	area_close(&area);
}

TEST_F(vdpa, data_anon)
{
	data(_metadata, self, "anon-4k");
}

TEST_F(vdpa, data_thp)
{
	data(_metadata, self, "thp");
}

TEST_F(vdpa, data_hugetlb)
{
	data(_metadata, self, "hugetlb-2m");
}

TEST_F(vdpa, data_memfd)
{
	data(_metadata, self, "memfd");
}

TEST_F(vdpa, written_pages_are_put_dirty)
{
	char *mem = anon_pages(SIZE);
	long i, dirty = 0;

	ASSERT_NE(NULL, mem);
	EXPECT_EQ(0, vdpa_map(&self->a, mem, FAR, SIZE / 2, VDPA_R));
	EXPECT_EQ(0, vdpa_unmap(&self->a, FAR, SIZE / 2));
	for (i = 0; i < N; i++)
		dirty += !!(pfn_flags(pfn_of(mem + i * PAGE)) & PF_DIRTY);
	EXPECT_EQ(0, dirty);
	EXPECT_EQ(0, vdpa_map(&self->a, mem, FAR, SIZE / 2, VDPA_RW));
	EXPECT_EQ(0, vdpa_unmap(&self->a, FAR, SIZE / 2));
	for (i = 0; i < N; i++)
		dirty += !!(pfn_flags(pfn_of(mem + i * PAGE)) & PF_DIRTY);
	EXPECT_EQ(N / 2, dirty);
}

/*
 * A batch takes memory away from the device, which is told when it ends. Until then
 * the device still writes there, so nobody else may get the page. On stock it is free
 * at once. An IOMMU takes it away at once: then the page is free, and out of reach.
 */
#define VICTIMS	8192L

TEST_F(vdpa, batch_that_takes_memory_away)
{
	char *mem, *victim;
	long i, hit = 0, same = 0;
	uint64_t pfn;

	ASSERT_EQ(0, run_on(0));
	mem = small_pages(PAGE);
	victim = small_pages(VICTIMS * PAGE);
	ASSERT_NE(NULL, mem);
	ASSERT_NE(NULL, victim);
	fill(mem, PAGE, 1);
	pfn = pfn_of(mem);
	ASSERT_NE(0UL, pfn);
	ASSERT_EQ(0, disk_start(&self->disk, &self->a, IOVA));
	EXPECT_EQ(0, vdpa_map(&self->a, mem, FAR, PAGE, VDPA_RW));
	EXPECT_EQ(0, disk_request(&self->disk, true, FAR, PAGE));

	EXPECT_EQ(0, vdpa_batch_begin(&self->a));
	EXPECT_EQ(0, vdpa_unmap(&self->a, FAR, PAGE));
	ASSERT_EQ(0, munmap(mem, PAGE));
	/* A map that fails meanwhile is no end of the batch */
	EXPECT_EQ(FAILED, vdpa_map(&self->a, mem, 2 * FAR, PAGE, VDPA_RW));
	for (i = 0; i < VICTIMS; i++) {
		victim[i * PAGE] = 2;
		same += pfn_of(victim + i * PAGE) == pfn;
	}
	if (self->iommu) {
		TH_LOG("the page was given to others %ld times", same);
		EXPECT_TRUE(out_of_reach(self, FAR));
	} else {
		EXPECT_EQ(0, same) TH_LOG("somebody else has the page");
		EXPECT_EQ(0, disk_request(&self->disk, false, FAR, PAGE));
	}
	for (i = 0; i < VICTIMS; i++)
		hit += victim[i * PAGE] != 2 || victim[i * PAGE + 1];
	EXPECT_EQ(0, hit) TH_LOG("the device has written to memory of others");
	EXPECT_EQ(self->iommu ? 1 : 2,
		  status_pages(0, "VmPin:") - self->base.vmpin);

	EXPECT_EQ(0, vdpa_batch_end(&self->a));
	EXPECT_EQ(1, status_pages(0, "VmPin:") - self->base.vmpin);
	EXPECT_TRUE(out_of_reach(self, FAR));
}

/*
 * A device that looks, see tests/vm/modules/vdpa_watch.c. One is told of each
 * mapping, the other of all together. Or it is the IOMMU that looks.
 */
static void watched(struct __test_metadata *_metadata, FIXTURE_DATA(vdpa) *self,
		    const char *name)
{
	char *mem = scattered_pages(N);
	struct snap base;
	struct vdpa v;

	if (!file_exists(WATCH "exposed"))
		SKIP(return, "vdpa_watch.ko is not loaded");
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, snap(&base));
	ASSERT_EQ(0, vdpa_open(&v, name));
	if (!strcmp(name, "disk0"))
		ASSERT_EQ(0, watch_iommu());

	EXPECT_EQ(0, vdpa_map(&v, mem, FAR, SIZE, VDPA_RW));
	EXPECT_EQ(0, vdpa_unmap(&v, FAR, SIZE));
	EXPECT_EQ(self->exposed, read_long(WATCH "exposed", -1))
		TH_LOG("unmap");
	EXPECT_BACK(&base);

	/* In a batch, with more than one change */
	EXPECT_EQ(0, vdpa_map(&v, mem, FAR, SIZE, VDPA_RW));
	EXPECT_EQ(0, vdpa_batch_begin(&v));
	EXPECT_EQ(0, vdpa_unmap(&v, FAR, SIZE / 2));
	EXPECT_EQ(0, vdpa_map(&v, mem + SIZE / 2, FAR, PAGE, VDPA_RW));
	EXPECT_EQ(0, vdpa_unmap(&v, FAR + SIZE / 2, SIZE / 2));
	EXPECT_EQ(0, vdpa_batch_end(&v));
	EXPECT_EQ(self->exposed, read_long(WATCH "exposed", -1))
		TH_LOG("batch");
	EXPECT_PINS(&base, 1, 1);
	EXPECT_EQ(0, vdpa_unmap(&v, FAR, PAGE));
	EXPECT_BACK(&base);

	/* The device fails to map, after some of it */
	ASSERT_EQ(0, write_text(WATCH "fail_in", "10"));
	EXPECT_EQ(FAILED, vdpa_map(&v, mem, FAR, SIZE, VDPA_RW));
	EXPECT_BACK(&base);
	EXPECT_EQ(self->exposed, read_long(WATCH "exposed", -1))
		TH_LOG("failed map");

	EXPECT_EQ(0, vdpa_map(&v, mem, FAR, SIZE, VDPA_RW));
	vdpa_close(&v);
	EXPECT_EQ(self->exposed, read_long(WATCH "exposed", -1))
		TH_LOG("close");
	EXPECT_BACK(&base);
}

TEST_F(vdpa, watched_each)
{
	watched(_metadata, self, "watch-dma");
}

TEST_F(vdpa, watched_together)
{
	watched(_metadata, self, "watch-map");
}

TEST_F(vdpa, watched_iommu)
{
	if (!self->iommu)
		SKIP(return, "the disk has no IOMMU, see test vdpa-iommu");
	vdpa_close(&self->a);
	watched(_metadata, self, "disk0");
}

/* The device keeps all that it had: it stays pinned until the device lets go */
TEST_F(vdpa, device_that_does_not_let_go)
{
	char *mem = anon_pages(SIZE);
	struct snap base;
	struct vdpa v;

	if (!file_exists(WATCH "exposed"))
		SKIP(return, "vdpa_watch.ko is not loaded");
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, snap(&base));
	ASSERT_EQ(0, vdpa_open(&v, "watch-map"));
	EXPECT_EQ(0, vdpa_map(&v, mem, FAR, SIZE, VDPA_RW));
	ASSERT_EQ(0, write_text(WATCH "fail_in", "1"));
	EXPECT_EQ(0, vdpa_unmap(&v, FAR, SIZE));
	EXPECT_PINS(&base, N, N);
	EXPECT_EQ(0, vdpa_unmap(&v, FAR, SIZE));
	EXPECT_BACK(&base);

	EXPECT_EQ(0, vdpa_map(&v, mem, FAR, SIZE, VDPA_RW));
	ASSERT_EQ(0, write_text(WATCH "fail_in", "1"));
	EXPECT_EQ(0, vdpa_unmap(&v, FAR, SIZE));
	EXPECT_EQ(0, vdpa_map(&v, mem, FAR, PAGE, VDPA_RW));
	EXPECT_PINS(&base, 1, 1);
	ASSERT_EQ(0, write_text(WATCH "fail_in", "1"));
	EXPECT_EQ(0, vdpa_unmap(&v, FAR, PAGE));
	EXPECT_PINS(&base, 1, 1);
	vdpa_close(&v);
	EXPECT_BACK(&base);
}

/* The device has the new map when it fails, and the old one does not come back */
TEST_F(vdpa, device_that_fails_late)
{
	char *mem = scattered_pages(N);
	struct snap base;
	struct vdpa v;

	if (!file_exists(WATCH "exposed"))
		SKIP(return, "vdpa_watch.ko is not loaded");
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, snap(&base));
	ASSERT_EQ(0, vdpa_open(&v, "watch-map"));
	ASSERT_EQ(0, write_text(WATCH "fail_late", "1"));
	EXPECT_EQ(FAILED, vdpa_map(&v, mem, FAR, PAGE, VDPA_RW));
	EXPECT_BACK(&base);

	/* In the middle: some pages have been mapped before, others come later */
	ASSERT_EQ(0, write_text(WATCH "fail_late", "10"));
	EXPECT_EQ(FAILED, vdpa_map(&v, mem, FAR, SIZE, VDPA_RW));
	EXPECT_BACK(&base);
	EXPECT_EQ(self->exposed, read_long(WATCH "exposed", -1));

	ASSERT_EQ(0, write_text(WATCH "fail_late", "1"));
	ASSERT_EQ(0, write_text(WATCH "fail_in", "2"));
	EXPECT_EQ(FAILED, vdpa_map(&v, mem, FAR, PAGE, VDPA_RW));
	EXPECT_PINS(&base, 1, 1);
	EXPECT_EQ(0, vdpa_unmap(&v, FAR, PAGE));
	EXPECT_BACK(&base);
	EXPECT_EQ(self->exposed, read_long(WATCH "exposed", -1));
	vdpa_close(&v);
}

/* --- Few entries in the IOTLB: a run of its own -------------------------------- */

#define ENTRIES "/sys/module/vhost_vdpa/parameters/max_iotlb_entries"

FIXTURE(entries)
{
	struct vdpa v;
	struct snap base;
	long max;
	char *mem;
};

FIXTURE_SETUP(entries)
{
	self->max = read_long(ENTRIES, -1);
	ASSERT_LT(1, self->max);
	self->mem = anon_pages(PAGE);
	ASSERT_NE(NULL, self->mem);
	ASSERT_EQ(0, snap(&self->base));
	ASSERT_EQ(0, vdpa_open(&self->v, "disk0"));
}

FIXTURE_TEARDOWN(entries)
{
	vdpa_close(&self->v);
	EXPECT_BACK(&self->base);
}

/* A batch may replace all, but what waits for its end has a limit as well */
TEST_F(entries, batch_without_end)
{
	long i, n = 4 * self->max;
	int ret = 0;

	if (self->max > 4096)
		SKIP(return, "a run for few entries, see test vdpa-entries");
	for (i = 0; i < self->max; i++) {
		ASSERT_EQ(0, vdpa_map(&self->v, self->mem, FAR + i * PAGE, PAGE,
				      VDPA_RW));
	}
	ASSERT_EQ(0, vdpa_batch_begin(&self->v));
	for (i = 0; i < self->max; i++) {
		ASSERT_EQ(0, vdpa_unmap(&self->v, FAR + i * PAGE, PAGE));
	}
	for (i = 0; i < self->max; i++) {
		ASSERT_EQ(0, vdpa_map(&self->v, self->mem, FAR + i * PAGE, PAGE,
				      VDPA_RW));
	}
	for (i = 0; !ret && i < n; i++) {
		ASSERT_EQ(0, vdpa_unmap(&self->v, FAR, PAGE));
		ret = vdpa_map(&self->v, self->mem, FAR, PAGE, VDPA_RW);
	}
	EXPECT_EQ(FAILED, ret) TH_LOG("%ld maps wait", self->max + i);
	EXPECT_EQ(0, vdpa_batch_end(&self->v));
	EXPECT_EQ(0, vdpa_map(&self->v, self->mem, FAR, PAGE, VDPA_RW));
	EXPECT_PINS(&self->base, self->max, 1);
}

/* --- A mapping that never goes: a VM of its own, as pages stay pinned for ever ---- */

FIXTURE(stuck)
{
};

FIXTURE_SETUP(stuck)
{
}

FIXTURE_TEARDOWN(stuck)
{
}

TEST_F(stuck, pages_that_a_device_keeps_stay_pinned)
{
	char *mem = small_pages(2 * PAGE), *victim, dev[32];
	bool iommu = behind_iommu(dev);
	const char *name = iommu ? "disk0" : "watch-dma";
	long i, same = 0, exposed;
	struct snap base;
	struct disk disk;
	struct vdpa v;
	uint64_t pfn;

	if (!file_exists(WATCH "fail_unmap"))
		SKIP(return, "vdpa_watch.ko is not loaded");
	ASSERT_EQ(0, run_on(0));
	ASSERT_NE(NULL, mem);
	fill(mem, 2 * PAGE, 1);
	pfn = pfn_of(mem);
	ASSERT_NE(0UL, pfn);
	exposed = read_long(WATCH "exposed", -1);
	ASSERT_EQ(0, snap(&base));
	ASSERT_EQ(0, vdpa_open(&v, name));
	if (iommu) {
		ASSERT_EQ(0, watch_iommu());
		ASSERT_EQ(0, disk_start(&disk, &v, IOVA));
	}
	EXPECT_EQ(0, vdpa_map(&v, mem, FAR, PAGE, VDPA_RW));
	EXPECT_EQ(0, vdpa_map(&v, mem + PAGE, 2 * FAR, PAGE, VDPA_RW));
	EXPECT_PINS(&base, 2 + iommu, 2 + iommu);
	if (iommu)
		EXPECT_EQ(0, disk_request(&disk, true, FAR, PAGE));

	ASSERT_EQ(0, write_text(WATCH "fail_unmap", "1"));
	EXPECT_EQ(0, vdpa_unmap(&v, FAR, PAGE));
	EXPECT_PINS(&base, 2 + iommu, 2 + iommu);
	if (iommu) {
		/* It still writes there */
		fill(mem, PAGE, 2);
		EXPECT_EQ(0, disk_request(&disk, false, FAR, PAGE));
		EXPECT_TRUE(filled(mem, PAGE, 1));
		disk_stop(&disk);
	}
	/* The other one goes with the file */
	vdpa_close(&v);
	EXPECT_PINS(&base, 1, 1);

	ASSERT_EQ(0, munmap(mem, 2 * PAGE));
	victim = small_pages(VICTIMS * PAGE);
	ASSERT_NE(NULL, victim);
	for (i = 0; i < VICTIMS; i++) {
		victim[i * PAGE] = 2;
		same += pfn_of(victim + i * PAGE) == pfn;
	}
	EXPECT_EQ(0, same) TH_LOG("somebody else has the page");

	/*
	 * The device still reaches the page: it looks when it is told of others. An IOMMU
	 * has forgotten it with the file.
	 */
	ASSERT_EQ(0, vdpa_open(&v, name));
	EXPECT_EQ(0, vdpa_map(&v, victim, 2 * FAR, PAGE, VDPA_RW));
	EXPECT_EQ(0, vdpa_unmap(&v, 2 * FAR, PAGE));
	vdpa_close(&v);
	EXPECT_EQ(exposed, read_long(WATCH "exposed", -1))
		TH_LOG("a device could reach pages that nobody had pinned");
	EXPECT_PINS(&base, 1, 1);
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "--after-exec"))
		return after_exec(atoi(argv[2]));
	return test_harness_run(argc, argv);
}
