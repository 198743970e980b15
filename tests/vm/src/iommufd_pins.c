// SPDX-License-Identifier: GPL-2.0
/*
 * Pins of an iommufd: large folios and memory in pieces, several mappings, IOASes,
 * processes and users, a userfaultfd, its VFIO container, and mediated devices.
 * holders.c has the cases that any holder has.
 *
 * iommufd_pins --stock -V capable -t no_more_than_a_batch_above
 *
 * On stock 6.12, that case must see what docs/behaviour.md says of it.
 */
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "io_uring_lib.h"
#include "mdev_lib.h"
#include "test.h"

#define N	64L		/* pages, where the number does not matter */
#define SIZE	(N * PAGE)
#define ROOM	16L		/* pages that the limit allows in most tests */
#define HUGE	512L		/* pages of a large folio */
#define BATCH	512L		/* pages that are pinned before they are counted */

/* As IOMMU_OPTION_RLIMIT_MODE has it; and CAP_IPC_LOCK, which knows no limit */
enum mode {
	FOR_USER = COUNT_USER | COUNT_PINNED,
	FOR_MM = COUNT_LOCKED | COUNT_PINNED,
	CAPABLE = COUNT_PINNED,
};

/* Since @base, so many pins were added, of so many pages, holding so much */
#define EXPECT_PINS(base, mode, pages, distinct, held)			\
	expect_pins(_metadata, __LINE__, base, mode, pages, distinct, held)

static void expect_pins(struct __test_metadata *_metadata, int line,
			const struct snap *base, enum mode mode, long pages,
			long distinct, long held)
{
	long user = mode == FOR_USER ? distinct : 0;

	__expect_state(_metadata, line, base, mode, pages, distinct, distinct,
		       held, false);
	EXPECT_TRUE(user_has(SOMEBODY, user))
		TH_LOG("not %ld pages of the user, line %d", user, line);
}

/* --- In each mode ------------------------------------------------------------- */

FIXTURE(iommufd)
{
	struct iommufd i;
	struct vfio_dev dev;	/* of @i */
	struct snap before, base;
	char *mem;		/* 64 MiB of pages, first touched by the pin */
};

FIXTURE_VARIANT(iommufd)
{
	enum mode mode;
};

FIXTURE_VARIANT_ADD(iommufd, user) { .mode = FOR_USER };
FIXTURE_VARIANT_ADD(iommufd, process) { .mode = FOR_MM };
FIXTURE_VARIANT_ADD(iommufd, capable) { .mode = CAPABLE };

FIXTURE_SETUP(iommufd)
{
	NEED_DEVICES(3U);
	self->mem = small_pages(64 * MB);
	ASSERT_NE(NULL, self->mem);
	ASSERT_EQ(0, set_memlock(GB));
	ASSERT_EQ(0, become(SOMEBODY, variant->mode == CAPABLE));
	ASSERT_EQ(0, snap(&self->before));
	ASSERT_EQ(0, iommufd_open(&self->i, 0, variant->mode == FOR_MM));
	ASSERT_EQ(0, iommufd_start(&self->i, &self->dev));
	ASSERT_EQ(0, snap(&self->base));
}

FIXTURE_TEARDOWN(iommufd)
{
	iommufd_stop(&self->dev);
	iommufd_close(&self->i);
	EXPECT_BACK(&self->before);
	EXPECT_TRUE(user_has(SOMEBODY, 0));
}

/* Map @n pages of the memory from page @at on */
static int map(FIXTURE_DATA(iommufd) *self, size_t at, size_t n)
{
	return iommufd_map(&self->i, self->mem + at * PAGE, IOVA + at * PAGE,
			   n * PAGE);
}

static long unmap(FIXTURE_DATA(iommufd) *self, size_t at, size_t n)
{
	return iommufd_unmap(&self->i, IOVA + at * PAGE, n * PAGE) / (long)PAGE;
}

/* As the IOMMU maps them: a leaf for each folio, or parts of it */
static void large(struct __test_metadata *_metadata,
		  FIXTURE_DATA(iommufd) *self, enum mode mode, const char *name)
{
	static const struct { long from, to; } part[] = {
		{ 0, HUGE }, { 1, HUGE }, { 0, HUGE - 1 }, { 100, 101 },
	};
	struct area a;
	size_t k;
	long n;

	if (area_open(backing_find(name), &a, NULL, NULL))
		SKIP(return, "%s", a.why);
	n = a.size / PAGE;
	EXPECT_EQ(0, iommufd_map(&self->i, a.addr, IOVA, a.size));
	EXPECT_PINS(&self->base, mode, n, n, n);
	EXPECT_EQ(0, edu_check(&self->dev, a.addr, IOVA, a.size));
	EXPECT_EQ((long)a.size, iommufd_unmap(&self->i, IOVA, a.size));
	EXPECT_BACK(&self->base);

	for (k = 0; k < ARRAY_SIZE(part); k++) {
		size_t at = part[k].from * PAGE;

		n = part[k].to - part[k].from;
		EXPECT_EQ(0, iommufd_map(&self->i, a.addr + at, IOVA + at,
					 n * PAGE));
		EXPECT_PINS(&self->base, mode, n, n, HUGE);
		EXPECT_EQ(n * (long)PAGE,
			  iommufd_unmap(&self->i, IOVA + at, n * PAGE));
		EXPECT_BACK(&self->base);
	}
	area_close(&a);
}

TEST_F(iommufd, thp)
{
	large(_metadata, self, variant->mode, "thp");
}

TEST_F(iommufd, hugetlb)
{
	large(_metadata, self, variant->mode, "hugetlb-2m");
}

/* @n pages in another order than their addresses: none of them together */
static char *scattered_pages(long n)
{
	int fd = memfd_create("scattered", MFD_CLOEXEC);
	char *mem = MAP_FAILED;
	long k, at = 0;

	if (fd >= 0 && !ftruncate(fd, n * PAGE))
		mem = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
			   fd, 0);
	close(fd);
	if (mem == MAP_FAILED)
		return NULL;
	for (k = 0; k < n; k++, at = (at + 2029) % n)
		mem[at * PAGE] = k;
	return mem;
}

TEST_F(iommufd, scattered)
{
	const long n = 6000;	/* more than the kernel has room for at once */
	char *mem = scattered_pages(n);

	ASSERT_NE(NULL, mem);
	EXPECT_EQ(0, iommufd_map(&self->i, mem, IOVA, n * PAGE));
	EXPECT_PINS(&self->base, variant->mode, n, n, n);
	EXPECT_EQ(0, edu_check(&self->dev, mem, IOVA, n * PAGE));
	EXPECT_EQ(n * (long)PAGE, iommufd_unmap(&self->i, IOVA, n * PAGE));
	EXPECT_BACK(&self->base);
}

/* --- The same memory twice: each counter has it once ---------------------------- */

TEST_F(iommufd, twice_in_one)
{
	EXPECT_EQ(0, map(self, 0, N));
	EXPECT_EQ(0, iommufd_map(&self->i, self->mem, IOVA_FAR, SIZE));
	EXPECT_PINS(&self->base, variant->mode, 2 * N, N, N);
	EXPECT_EQ(N, unmap(self, 0, N));
	EXPECT_PINS(&self->base, variant->mode, N, N, N);
	EXPECT_EQ((long)SIZE, iommufd_unmap(&self->i, IOVA_FAR, SIZE));
	EXPECT_BACK(&self->base);
}

TEST_F(iommufd, two_ioases)
{
	struct iommufd second = { .fd = self->i.fd };

	ASSERT_EQ(0, iommufd_attach(&second, 1));
	EXPECT_EQ(0, map(self, 0, N));
	EXPECT_EQ(0, iommufd_map(&second, self->mem, IOVA, SIZE));
	EXPECT_PINS(&self->base, variant->mode, 2 * N, N, N);
	EXPECT_EQ(N, unmap(self, 0, N));
	EXPECT_PINS(&self->base, variant->mode, N, N, N);
	EXPECT_EQ((long)SIZE, iommufd_unmap(&second, IOVA, SIZE));
	EXPECT_BACK(&self->base);
	close(second.dev);
}

/* --- Limits ------------------------------------------------------------------- */

/* A large mapping is refused before much of it is pinned; on stock after all of it is */
TEST_F(iommufd, no_more_than_a_batch_above)
{
	long at = vmstat("nr_foll_pin_acquired");

	if (variant->mode == CAPABLE)
		SKIP(return, "CAP_IPC_LOCK has no limit");
	ASSERT_EQ(0, set_memlock(64 * KB));
	EXPECT_EQ(-ENOMEM, map(self, 0, 64 * MB / PAGE));
	at = vmstat("nr_foll_pin_acquired") - at;
	if (on_stock) {
		EXPECT_EQ((long)(64 * MB / PAGE), at);
	} else {
		EXPECT_GE(BATCH, at);
	}
	EXPECT_BACK(&self->base);
}

/* --- What cannot be pinned ---------------------------------------------------- */

/* VMMs try to, and go on without: that is not for the log */
TEST_F(iommufd, bar)
{
	int before = log_lines("longterm_pin: refused", "iommufd");
	struct vfio v;
	size_t size;
	char *bar;

	ASSERT_EQ(0, vfio_open(&v, 1));
	bar = vfio_bar_map(&v.dev[0], NULL, &size);
	ASSERT_NE(NULL, bar);
	EXPECT_EQ(-EFAULT, iommufd_map(&self->i, bar, IOVA, PAGE));
	EXPECT_REFUSED(&self->base, NO_REASON, 0);
	EXPECT_EQ(before, log_lines("longterm_pin: refused", "iommufd"));
	EXPECT_PINS(&self->base, variant->mode, 0, 0, 0);
	munmap(bar, size);
	vfio_close(&v);
}

/* --- Processes come and go ------------------------------------------------------ */

/* A child maps @n pages of its own. It says so on @sv[1], and waits */
static pid_t child_maps(struct iommufd *i, long n, int sv[2])
{
	pid_t pid;

	if (chan_pair(sv))
		return -1;
	pid = fork();
	if (!pid) {
		char *mem = anon_pages(n * PAGE);

		close(sv[0]);
		if (!mem || chan_put(sv[1], iommufd_map(i, mem, IOVA,
							n * PAGE)))
			_exit(1);
		chan_get(sv[1], NULL);
		_exit(0);
	}
	return pid;
}

/* One iommufd, two processes: each has what it has mapped */
TEST_F(iommufd, forked)
{
	struct pins p;
	int sv[2], status;
	long ret;
	pid_t pid;

	EXPECT_EQ(0, iommufd_map(&self->i, self->mem, IOVA_FAR, ROOM * PAGE));
	pid = child_maps(&self->i, N, sv);
	ASSERT_LT(0, pid);
	EXPECT_EQ(0, chan_get(sv[0], &ret));
	EXPECT_EQ(0, ret);
	EXPECT_EQ(0, pins_read(pid, &p));
	EXPECT_EQ(N, pins_pages(&p));
	EXPECT_EQ(N, p.held);
	EXPECT_EQ(N, status_pages(pid, "VmPin:"));
	EXPECT_EQ(variant->mode == FOR_MM ? N : 0,
		  status_pages(pid, "VmLck:"));
	EXPECT_EQ(0, pins_read(0, &p));
	EXPECT_EQ(ROOM, pins_pages(&p));
	EXPECT_EQ(ROOM, status_pages(0, "VmPin:") - self->base.vmpin);
	EXPECT_TRUE(user_has(SOMEBODY, variant->mode == FOR_USER ?
				   ROOM + N : 0));

	/* Its pins stay with the iommufd, until they are unmapped */
	EXPECT_EQ(0, chan_put(sv[0], 0));
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(N, pins_of_the_dead());
	EXPECT_TRUE(user_has(SOMEBODY, variant->mode == FOR_USER ?
				   ROOM + N : 0));
	EXPECT_EQ(N, unmap(self, 0, N));
	EXPECT_EQ(0, pins_of_the_dead());
	EXPECT_PINS(&self->base, variant->mode, ROOM, ROOM, ROOM);
	close(sv[0]);
	close(sv[1]);
}

/* Processes that end leave no holder to an iommufd, once nothing is mapped by it */
TEST_F(iommufd, holders_of_the_dead_go)
{
	int sv[2], status, i;
	pid_t pid[3];

	for (i = 0; i < 3; i++) {
		pid[i] = child_maps(&self->i, N, sv);
		ASSERT_LT(0, pid[i]);
		EXPECT_EQ(0, chan_get(sv[0], NULL));
		EXPECT_EQ(0, chan_put(sv[0], 0));
		EXPECT_EQ(0, reap(pid[i], &status));
		EXPECT_EQ(0, status);
		/* One more holder: the dead go that have nothing mapped */
		if (i) {
			EXPECT_EQ(0, holders_of(pid[i - 1]));
		} else {
			EXPECT_EQ(0, iommufd_map(&self->i, self->mem, IOVA_FAR,
						 SIZE));
		}
		EXPECT_EQ(N, pins_of_the_dead());
		EXPECT_EQ(N, unmap(self, 0, N));
		EXPECT_EQ(1, holders_of(pid[i])) TH_LOG("too early");
		close(sv[0]);
		close(sv[1]);
	}
	EXPECT_EQ(1, holders_of(getpid()));
}

/* What was pinned stays with the user who it was pinned for */
TEST_F(iommufd, another_user)
{
	const enum mode mode = variant->mode;
	static struct snap now;
	long one = mode == FOR_USER;

	EXPECT_EQ(0, map(self, 0, N));
	ASSERT_EQ(0, setresuid(ANOTHER, 0, 0));
	EXPECT_EQ(0, map(self, N, ROOM));
	EXPECT_TRUE(user_has(SOMEBODY, one * N));
	EXPECT_TRUE(user_has(ANOTHER, one * ROOM));
	EXPECT_EQ(0, snap(&now));
	EXPECT_EQ(N + ROOM, pins_pages(&now.pins));
	EXPECT_EQ(N + ROOM, now.pins.held);
	EXPECT_EQ(N + ROOM, now.vmpin - self->base.vmpin);
	EXPECT_EQ(mode == FOR_MM ? N + ROOM : 0, now.vmlck - self->base.vmlck);

	/* His limit is for his own pages */
	if (mode == FOR_USER) {
		ASSERT_EQ(0, set_memlock((ROOM + 1) * PAGE));
		EXPECT_EQ(0, map(self, N + ROOM, 1));
		EXPECT_EQ(-ENOMEM, map(self, N + ROOM + 1, 1));
		EXPECT_EQ(1, unmap(self, N + ROOM, 1));
	}
	EXPECT_EQ(N, unmap(self, 0, N));
	EXPECT_TRUE(user_has(SOMEBODY, 0));
	EXPECT_TRUE(user_has(ANOTHER, one * ROOM));
	EXPECT_EQ(ROOM, unmap(self, N, ROOM));
	EXPECT_TRUE(user_has(ANOTHER, 0));
	EXPECT_BACK(&self->base);
}

/* --- Two page tables ------------------------------------------------------------- */

/*
 * Of a failed map with two page tables: is a page unmapped by the IOMMU after pages
 * were put? @unmaps: whether any was.
 */
static bool put_before_unmap(bool *unmaps)
{
	char *text = trace_read(), *line, *save;
	bool put = false, wrong = false;

	for (line = text ? strtok_r(text, "\n", &save) : NULL; line;
	     line = strtok_r(NULL, "\n", &save)) {
		if (strstr(line, " longterm_put: "))
			put = true;
		else if (strstr(line, " unmap: ")) {
			*unmaps = true;
			wrong |= put;
		}
	}
	free(text);
	return wrong;
}

/*
 * The page table of the second device has no memory, when the first one has mapped
 * the batch: that device could write to pages which are put too soon.
 */
TEST(failed_domain_unmaps_first)
{
	char *mem = small_pages(SIZE);
	struct iommufd i, second;
	struct failing f = {};
	bool unmaps = false;
	int ret;

	NEED_DEVICES(2U);
	NEED_FAILING(f.fd);
	ASSERT_NE(NULL, mem);
	memset(mem, 1, SIZE);
	ASSERT_EQ(0, iommufd_open(&i, 0, 0));
	ASSERT_EQ(0, iommufd_attach_apart(&second, &i, 1));
	ASSERT_EQ(0, write_text(TRACEFS "/events/iommu/unmap/enable", "1"));
	while (FAILING_NEXT(&f)) {
		/* Page tables of other addresses are all new */
		uint64_t iova = IOVA + f.n * GB;

		ASSERT_EQ(0, trace_on());
		failing_arm(&f);
		ret = iommufd_map(&i, mem, iova, SIZE);
		failing_disarm(&f, ret);
		trace_off();
		if (ret) {
			EXPECT_FALSE(put_before_unmap(&unmaps));
		} else {
			EXPECT_EQ((long)SIZE, iommufd_unmap(&i, iova, SIZE));
		}
	}
	write_text(TRACEFS "/events/iommu/unmap/enable", "0");
	EXPECT_FAILED_IN_TURN(&f, 1);
	EXPECT_TRUE(unmaps) TH_LOG("the second page table has never failed");
	close(f.fd);
	close(second.dev);
	iommufd_close(&i);
}

/* Did the IOMMU layer unmap something that begins at @iova? */
static bool unmapped(uint64_t iova)
{
	char *text = trace_read(), *line, *save, want[32];
	bool yes = false;

	snprintf(want, sizeof(want), "iova=0x%016lx ", iova);
	for (line = text ? strtok_r(text, "\n", &save) : NULL; line;
	     line = strtok_r(NULL, "\n", &save))
		yes |= strstr(line, " unmap: ") && strstr(line, want);
	free(text);
	return yes;
}

/*
 * Scattered pages go to the IOMMU 16 at a time. The last page table has no memory
 * when those before it have 600 of them: none may stay. What stays is told by a
 * WARN of the next map. Without memory to pin all at once, the kernel pins fewer
 * at a time.
 */
TEST(failed_scattered_map_leaves_nothing)
{
	const long n = 700, first = 600;
	char *mem = scattered_pages(n);
	struct snap before, base;
	struct failing f = {};
	struct vfio_dev dev;
	struct iommufd i;
	int undone = 0;

	NEED_DEVICES(1U);
	NEED_FAILING(f.fd);
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, snap(&before));
	ASSERT_EQ(0, iommufd_open(&i, 0, 0));
	ASSERT_EQ(0, iommufd_start(&i, &dev));
	ASSERT_EQ(0, snap(&base));
	ASSERT_EQ(0, write_text(TRACEFS "/events/iommu/unmap/enable", "1"));
	while (FAILING_NEXT(&f)) {
		/* Each time the last page tables are new. edu does not reach all of them */
		uint64_t iova = IOVA + f.n * 2 * HUGE * PAGE - first * PAGE;
		int ret;

		ASSERT_EQ(0, trace_on());
		failing_arm(&f);
		ret = iommufd_map(&i, mem, iova, n * PAGE);
		failing_disarm(&f, ret);
		trace_off();
		EXPECT_NE(-EINVAL, ret);
		/* As on stock, it stays mapped if the answer cannot be copied */
		if (ret == -EFAULT)
			iommufd_unmap(&i, iova, n * PAGE);
		if (ret) {
			undone += unmapped(iova);
			EXPECT_BACK(&base);
			ret = iommufd_map(&i, mem, iova, n * PAGE);
		}
		EXPECT_EQ(0, ret);
		if (iova + n * PAGE <= EDU_REACH)
			EXPECT_EQ(0, edu_check(&dev, mem, iova, n * PAGE));
		EXPECT_EQ(n * (long)PAGE, iommufd_unmap(&i, iova, n * PAGE));
		EXPECT_BACK(&base);
	}
	write_text(TRACEFS "/events/iommu/unmap/enable", "0");
	EXPECT_FAILED_IN_TURN(&f, 4);
	TH_LOG("%d times something was mapped", undone);
	EXPECT_LT(0, undone) TH_LOG("the last page table has never failed");
	close(f.fd);
	iommufd_stop(&dev);
	iommufd_close(&i);
	EXPECT_BACK(&before);
}

/* --- A container that iommufd provides, and mediated devices -------------------- */

FIXTURE(container)
{
	struct vfio v;
	struct snap before, base;
	char uuid[UUID_SIZE];	/* of a mediated device */
	char *mem;
};

FIXTURE_VARIANT(container)
{
	enum mode mode;
};

FIXTURE_VARIANT_ADD(container, user) { .mode = FOR_USER };
FIXTURE_VARIANT_ADD(container, process) { .mode = FOR_MM };
FIXTURE_VARIANT_ADD(container, capable) { .mode = CAPABLE };

FIXTURE_SETUP(container)
{
	struct iommufd i = { .dev = -1 };

	NEED_DEVICES(3U);
	self->mem = small_pages(64 * MB);
	ASSERT_NE(NULL, self->mem);
	ASSERT_EQ(0, set_memlock(GB));
	ASSERT_TRUE(mdev_supported()) TH_LOG("no mediated devices: pin_caller.ko");
	ASSERT_EQ(0, mdev_create(self->uuid));
	ASSERT_EQ(0, become(SOMEBODY, variant->mode == CAPABLE));
	ASSERT_EQ(0, snap(&self->before));
	ASSERT_EQ(0, vfio_container_of_iommufd(&self->v));
	i.fd = self->v.fd;
	if (variant->mode == FOR_MM)
		ASSERT_EQ(0, iommufd_rlimit_mode(&i, 1));
}

FIXTURE_TEARDOWN(container)
{
	vfio_close(&self->v);
	EXPECT_BACK(&self->before);
	EXPECT_TRUE(user_has(SOMEBODY, 0));
	EXPECT_EQ(0, mdev_remove(self->uuid));
}

/* A mapping for no IOMMU is pinned where the device's driver asks for it */
TEST_F(container, mediated)
{
	int dev;

	ASSERT_EQ(0, vfio_add_mdev(&self->v, self->uuid));
	dev = self->v.dev[0].fd;
	ASSERT_EQ(0, snap(&self->base));
	EXPECT_EQ(0, vfio_map(&self->v, self->mem, IOVA, SIZE, MAP_RW));
	EXPECT_PINS(&self->base, variant->mode, 0, 0, 0);
	EXPECT_EQ(ROOM, pc_pin(dev, IOVA, ROOM, PIN_CALLER_WRITE));
	EXPECT_PINS(&self->base, variant->mode, ROOM, ROOM, ROOM);
	/* The same pages again are no further pins */
	EXPECT_EQ(ROOM, pc_pin(dev, IOVA, ROOM, PIN_CALLER_WRITE));
	EXPECT_PINS(&self->base, variant->mode, ROOM, ROOM, ROOM);
	/* From a kernel thread */
	EXPECT_EQ(1, pc_pin(dev, IOVA + ROOM * PAGE, 1, PIN_CALLER_KTHREAD));
	EXPECT_PINS(&self->base, variant->mode, ROOM + 1, ROOM + 1, ROOM + 1);
	EXPECT_EQ(0, pc_unpin(dev, IOVA, ROOM));
	EXPECT_EQ(0, pc_unpin(dev, IOVA, ROOM));
	EXPECT_PINS(&self->base, variant->mode, 1, 1, 1);

	if (variant->mode != CAPABLE) {
		ASSERT_EQ(0, set_memlock(3 * PAGE));
		EXPECT_EQ(-ENOMEM, pc_pin(dev, IOVA, 3, PIN_CALLER_WRITE));
		EXPECT_PINS(&self->base, variant->mode, 1, 1, 1);
		EXPECT_REFUSED(&self->base, MEMLOCK, 1);
	}
	EXPECT_EQ((long)SIZE, vfio_unmap(&self->v, IOVA, SIZE));
	EXPECT_BACK(&self->base);
}

/* A device in the IOMMU and a mediated one: each page is pinned once */
TEST_F(container, mediated_beside_an_iommu)
{
	struct area a;
	int dev;
	long k;

	if (area_open(backing_find("thp"), &a, NULL, NULL))
		SKIP(return, "%s", a.why);
	ASSERT_EQ(0, vfio_add(&self->v, 0));
	ASSERT_EQ(0, vfio_add_mdev(&self->v, self->uuid));
	dev = self->v.dev[1].fd;
	ASSERT_EQ(0, snap(&self->base));
	EXPECT_EQ(0, vfio_map(&self->v, a.addr, IOVA, HUGE * PAGE, MAP_RW));
	EXPECT_EQ(0, edu_check(&self->v.dev[0], a.addr, IOVA, HUGE * PAGE));
	/* iommufd wants to be told the same ranges when they are let go: of one page */
	for (k = 0; k < ROOM; k++) {
		EXPECT_EQ(1, pc_pin(dev, IOVA + (100 + k) * PAGE, 1,
				    PIN_CALLER_WRITE));
	}
	EXPECT_PINS(&self->base, variant->mode, HUGE, HUGE, HUGE);
	/* The rest of the leaf is unmapped, while these stay until they are let go */
	EXPECT_EQ(HUGE * (long)PAGE, vfio_unmap(&self->v, IOVA, HUGE * PAGE));
	EXPECT_BACK(&self->base);
	area_close(&a);
}

/* Another process has the device copy: that pins, but no counter has it */
TEST_F(container, copied_at_the_limit)
{
	static char buf[3 * PAGE];
	int dev, status;
	pid_t pid;

	ASSERT_EQ(0, vfio_add_mdev(&self->v, self->uuid));
	dev = self->v.dev[0].fd;
	ASSERT_EQ(0, snap(&self->base));
	fill(self->mem, SIZE, 5);
	EXPECT_EQ(0, vfio_map(&self->v, self->mem, IOVA, SIZE, MAP_RW));
	EXPECT_EQ(ROOM, pc_pin(dev, IOVA, ROOM, PIN_CALLER_WRITE));
	ASSERT_EQ(0, set_memlock(ROOM * PAGE));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(pc_copy(dev, IOVA + (N - 3) * PAGE, buf, sizeof(buf), 0) ||
		      memcmp(buf, self->mem + (N - 3) * PAGE, sizeof(buf)) ||
		      pc_copy(dev, IOVA + (ROOM - 1) * PAGE, buf, sizeof(buf),
			      PIN_CALLER_WRITE));
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, memcmp(self->mem + (ROOM - 1) * PAGE,
			    self->mem + (N - 3) * PAGE, sizeof(buf)));
	EXPECT_PINS(&self->base, variant->mode, ROOM, ROOM, ROOM);
	EXPECT_REFUSED(&self->base, NO_REASON, 0);
	EXPECT_EQ(0, pc_unpin(dev, IOVA, ROOM));
	EXPECT_EQ((long)SIZE, vfio_unmap(&self->v, IOVA, SIZE));
}

int main(int argc, char **argv)
{
	stock_option(&argc, argv);
	return test_harness_run(argc, argv);
}
