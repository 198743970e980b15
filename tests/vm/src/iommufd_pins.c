// SPDX-License-Identifier: GPL-2.0
/*
 * Pins of an iommufd: which counters they are part of, each page once; the limits,
 * to the page; who is named; processes that come and go; mappings of huge pages;
 * its VFIO container, and mediated devices.
 *
 * The user's counter cannot be read: has_user_pages() finds out by a limit.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/iommufd.h>
#include <linux/memfd.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "mdev_lib.h"
#include "test.h"

#define N	64L		/* pages, where the number does not matter */
#define SIZE	(N * PAGE)
#define ROOM	16L		/* pages that the limit allows in most tests */
#define HUGE	512L		/* pages of a large folio */
#define BATCH	512L		/* pages that are pinned before they are counted */

/* Users who have nothing else */
#define SOMEBODY	4711
#define ANOTHER		4712

/* As IOMMU_OPTION_RLIMIT_MODE has it; and CAP_IPC_LOCK */
enum mode {
	COUNT_USER = 0,
	COUNT_MM = 1,
	COUNT_NONE,
};

/*
 * Capabilities belong to the effective user, counters to the real one. With
 * CAP_IPC_LOCK iommufd asks for no limit.
 */
static int become(uid_t uid, enum mode mode)
{
	if (setresuid(uid, 0, 0))
		return -errno;
	return mode == COUNT_NONE ? 0 : cap_drop(CAP_IPC_LOCK);
}

static int open_as(struct iommufd *i, unsigned int which, enum mode mode)
{
	int ret = iommufd_new(i);

	if (!ret && mode == COUNT_MM)
		ret = iommufd_rlimit_mode(i, 1);
	if (!ret)
		ret = iommufd_attach(i, which);
	if (ret)
		iommufd_close(i);
	return ret;
}

/*
 * Has the user @used locked pages? Then with a limit of so many, one more is
 * refused, and with a limit of one more it is not. A process of its own tries, with
 * the third device.
 */
static bool has_user_pages(uid_t uid, long used)
{
	int status;
	pid_t pid;

	pid = fork();
	if (!pid) {
		char *mem = anon_pages(PAGE);
		struct iommufd i;

		if (!mem || become(uid, COUNT_USER) ||
		    open_as(&i, 2, COUNT_USER) || set_memlock(used * PAGE) ||
		    iommufd_map(&i, mem, IOVA, PAGE) != -ENOMEM)
			_exit(1);
		_exit(set_memlock((used + 1) * PAGE) ||
		      iommufd_map(&i, mem, IOVA, PAGE));
	}
	return pid > 0 && !reap(pid, &status) && !status;
}

/* Since @base, so many pins were added, of so many pages, holding so much */
static void state(struct __test_metadata *_metadata, int line,
		  const struct snap *base, enum mode mode, long pages,
		  long distinct, long held)
{
	long vmlck = mode == COUNT_MM ? distinct : 0;
	long user = mode == COUNT_USER ? distinct : 0;
	static struct snap now;

	EXPECT_EQ(0, snap(&now));
	EXPECT_EQ(pages, pins_pages(&now.pins) - pins_pages(&base->pins))
		TH_LOG("pages, line %d", line);
	EXPECT_EQ(held, now.pins.held - base->pins.held)
		TH_LOG("held, line %d", line);
	EXPECT_EQ(vmlck, now.pins.charge - base->pins.charge)
		TH_LOG("charge, line %d", line);
	EXPECT_EQ(distinct, now.pins.pinned - base->pins.pinned)
		TH_LOG("pinned, line %d", line);
	EXPECT_EQ(user, now.pins.user - base->pins.user)
		TH_LOG("user, line %d", line);
	EXPECT_EQ(vmlck, now.vmlck - base->vmlck)
		TH_LOG("VmLck, line %d", line);
	EXPECT_EQ(distinct, now.vmpin - base->vmpin)
		TH_LOG("VmPin, line %d", line);
	EXPECT_EQ(distinct, now.counted - base->counted)
		TH_LOG("nr_longterm_pinned, line %d", line);
	EXPECT_EQ(pages, now.foll - base->foll)
		TH_LOG("nr_foll_pin, line %d", line);
	EXPECT_EQ(held, now.cgroups - base->cgroups)
		TH_LOG("misc.current, line %d", line);
	EXPECT_TRUE(has_user_pages(SOMEBODY, user))
		TH_LOG("not %ld pages of the user, line %d", user, line);
}

#define EXPECT_PINS(_base, _mode, _pages, _distinct, _held)		\
	state(_metadata, __LINE__, _base, _mode, _pages, _distinct, _held)

/* The holder of @pages, if it is the only one with pins */
static const struct holder *only_holder(const struct pins *p)
{
	const struct holder *found = NULL;
	int i;

	for (i = 0; i < p->nr; i++) {
		if (!p->holder[i].pages)
			continue;
		if (found)
			return NULL;
		found = &p->holder[i];
	}
	return found;
}

static bool is_iommufd(const struct holder *h)
{
	return h && !strncmp(h->name, "iommufd.", 8);
}

/* Lines of the log that have both */
static int log_lines(const char *a, const char *b)
{
	char *log = kernel_log(), *line, *save;
	int n = 0;

	for (line = log ? strtok_r(log, "\n", &save) : NULL; line;
	     line = strtok_r(NULL, "\n", &save))
		n += strstr(line, a) && strstr(line, b);
	free(log);
	return n;
}

/* Pins taken since boot */
static long acquired(void)
{
	return vmstat("nr_foll_pin_acquired");
}

/* --- In each mode ------------------------------------------------------------- */

FIXTURE(iommufd)
{
	struct iommufd i, other;
	struct vfio container;
	struct vfio_dev dev;	/* of @i */
	struct snap before, base;
	char *mem;		/* 64 MiB of pages, first touched by the pin */
};

FIXTURE_VARIANT(iommufd)
{
	enum mode mode;
};

FIXTURE_VARIANT_ADD(iommufd, user) { .mode = COUNT_USER };
FIXTURE_VARIANT_ADD(iommufd, process) { .mode = COUNT_MM };
FIXTURE_VARIANT_ADD(iommufd, capable) { .mode = COUNT_NONE };

FIXTURE_SETUP(iommufd)
{
	NEED_DEVICES(3U);
	self->other = (struct iommufd){ -1, -1, 0 };
	self->container.fd = -1;
	self->mem = small_pages(64 * MB);
	ASSERT_NE(NULL, self->mem);
	ASSERT_EQ(0, set_memlock(GB));
	ASSERT_EQ(0, become(SOMEBODY, variant->mode));
	ASSERT_EQ(0, snap(&self->before));
	ASSERT_EQ(0, open_as(&self->i, 0, variant->mode));
	ASSERT_EQ(0, iommufd_start(&self->i, &self->dev));
	ASSERT_EQ(0, snap(&self->base));
}

FIXTURE_TEARDOWN(iommufd)
{
	iommufd_stop(&self->dev);
	vfio_close(&self->container);
	iommufd_close(&self->other);
	iommufd_close(&self->i);
	EXPECT_BACK(&self->before);
	EXPECT_TRUE(has_user_pages(SOMEBODY, 0));
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

TEST_F(iommufd, pins_of_a_mapping)
{
	struct pins p;

	EXPECT_EQ(0, map(self, 0, N));
	EXPECT_PINS(&self->base, variant->mode, N, N, N);
	EXPECT_EQ(0, pins_read(0, &p));
	EXPECT_TRUE(is_iommufd(only_holder(&p)));
	EXPECT_EQ(0, edu_check(&self->dev, self->mem, IOVA, SIZE));

	EXPECT_EQ(0, map(self, 2 * N, 1));
	EXPECT_PINS(&self->base, variant->mode, N + 1, N + 1, N + 1);
	EXPECT_EQ(N, unmap(self, 0, N));
	EXPECT_PINS(&self->base, variant->mode, 1, 1, 1);
	EXPECT_EQ(1, unmap(self, 2 * N, 1));
	EXPECT_BACK(&self->base);
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

/* Pages in another order than their addresses: none of them together */
TEST_F(iommufd, scattered)
{
	const long n = 6000;	/* more than the kernel has room for at once */
	int fd = memfd_create("scattered", MFD_CLOEXEC);
	long k, at = 0;
	char *mem;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, n * PAGE));
	mem = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, (void *)mem);
	for (k = 0; k < n; k++, at = (at + 2029) % n)
		mem[at * PAGE] = k;
	EXPECT_EQ(0, iommufd_map(&self->i, mem, IOVA, n * PAGE));
	EXPECT_PINS(&self->base, variant->mode, n, n, n);
	EXPECT_EQ(0, edu_check(&self->dev, mem, IOVA, n * PAGE));
	EXPECT_EQ(n * (long)PAGE, iommufd_unmap(&self->i, IOVA, n * PAGE));
	EXPECT_BACK(&self->base);
	close(fd);
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

TEST_F(iommufd, two_iommufds)
{
	ASSERT_EQ(0, open_as(&self->other, 1, variant->mode));
	EXPECT_EQ(0, map(self, 0, N));
	EXPECT_EQ(0, iommufd_map(&self->other, self->mem, IOVA, SIZE));
	EXPECT_PINS(&self->base, variant->mode, 2 * N, N, N);
	iommufd_close(&self->other);
	EXPECT_PINS(&self->base, variant->mode, N, N, N);
	EXPECT_EQ(0, edu_check(&self->dev, self->mem, IOVA, SIZE));
	EXPECT_EQ(N, unmap(self, 0, N));
}

/* Held once; the container's counter is VmLck, and it is no part of the others */
TEST_F(iommufd, with_a_container)
{
	long user = variant->mode == COUNT_USER ? N : 0;
	static struct snap now;

	ASSERT_EQ(0, vfio_open(&self->container, 1));
	EXPECT_EQ(0, map(self, 0, N));
	EXPECT_EQ(0, vfio_map(&self->container, self->mem, IOVA, SIZE, MAP_RW));
	EXPECT_EQ(0, edu_check(&self->dev, self->mem, IOVA, SIZE));
	EXPECT_EQ(0, snap(&now));
	EXPECT_EQ(2 * N, pins_pages(&now.pins));
	EXPECT_EQ(N, now.pins.held);
	EXPECT_EQ(N, now.cgroups - self->base.cgroups);
	EXPECT_EQ(N, now.counted - self->base.counted);
	EXPECT_EQ(N, now.vmlck - self->base.vmlck);
	EXPECT_EQ(N, now.vmpin - self->base.vmpin);
	EXPECT_TRUE(has_user_pages(SOMEBODY, user));

	EXPECT_EQ((long)SIZE, vfio_unmap(&self->container, IOVA, SIZE));
	EXPECT_PINS(&self->base, variant->mode, N, N, N);
	EXPECT_EQ(0, vfio_map(&self->container, self->mem, IOVA, SIZE, MAP_RW));
	EXPECT_EQ(N, unmap(self, 0, N));
	EXPECT_STATE(&self->base, N, N, N);
	EXPECT_EQ((long)SIZE, vfio_unmap(&self->container, IOVA, SIZE));
}

/* --- Limits ------------------------------------------------------------------- */

TEST_F(iommufd, to_the_page)
{
	static struct pins p;
	char name[128];

	ASSERT_EQ(0, set_memlock(ROOM * PAGE));
	EXPECT_EQ(0, map(self, 0, ROOM));
	EXPECT_PINS(&self->base, variant->mode, ROOM, ROOM, ROOM);
	if (variant->mode == COUNT_NONE) {
		EXPECT_EQ(0, map(self, ROOM, N));
		EXPECT_PINS(&self->base, variant->mode, ROOM + N, ROOM + N,
			    ROOM + N);
		return;
	}

	log_room(1);
	EXPECT_EQ(-ENOMEM, map(self, ROOM, 1));
	EXPECT_PINS(&self->base, variant->mode, ROOM, ROOM, ROOM);
	EXPECT_REFUSED(&self->base, MEMLOCK, 1);
	EXPECT_EQ(0, pins_read(0, &p));
	ASSERT_TRUE(is_iommufd(only_holder(&p)));
	snprintf(name, sizeof(name), ": %s of \"iommufd_pins\" [%d], uid %d,",
		 only_holder(&p)->name, getpid(), SOMEBODY);
	EXPECT_EQ(1, log_lines("refused memlock", name)) TH_LOG("%s", name);

	/* Memory that is pinned already needs no room */
	EXPECT_EQ(0, iommufd_map(&self->i, self->mem, IOVA_FAR, ROOM * PAGE));
	EXPECT_PINS(&self->base, variant->mode, 2 * ROOM, ROOM, ROOM);
	EXPECT_EQ((long)(ROOM * PAGE),
		  iommufd_unmap(&self->i, IOVA_FAR, ROOM * PAGE));

	/* What is given back can be had again */
	EXPECT_EQ(ROOM, unmap(self, 0, ROOM));
	EXPECT_EQ(-ENOMEM, map(self, 0, ROOM + 1));
	EXPECT_BACK(&self->base);
	EXPECT_EQ(0, map(self, 0, ROOM));
}

/* A large mapping is refused before much of it is pinned */
TEST_F(iommufd, no_more_than_a_batch_above)
{
	long at = acquired();

	if (variant->mode == COUNT_NONE)
		SKIP(return, "CAP_IPC_LOCK has no limit");
	ASSERT_EQ(0, set_memlock(64 * KB));
	EXPECT_EQ(-ENOMEM, map(self, 0, 64 * MB / PAGE));
	EXPECT_GE(BATCH, acquired() - at);
	EXPECT_BACK(&self->base);
}

TEST_F(iommufd, a_failure_far_into_it)
{
	EXPECT_EQ(0, map(self, 8192, 100));
	ASSERT_EQ(0, munmap(self->mem + 8000 * PAGE, PAGE));
	EXPECT_EQ(-EFAULT, map(self, 0, 8192));
	EXPECT_PINS(&self->base, variant->mode, 100, 100, 100);
	EXPECT_REFUSED(&self->base, FAULT, 1);
}

/* A limit of the cgroup knows no CAP_IPC_LOCK */
TEST_F(iommufd, cgroup)
{
	char own[256], dir[300], path[320], text[64], *now;

	now = slurp("/proc/self/cgroup");
	ASSERT_NE(NULL, now);
	ASSERT_EQ(1, sscanf(now, "0::%255s", own));
	free(now);
	snprintf(dir, sizeof(dir), "%s/iommufd-%d", cgroup_root(), getpid());
	ASSERT_EQ(0, mkdir(dir, 0755));
	snprintf(path, sizeof(path), "%s/misc.max", dir);
	snprintf(text, sizeof(text), "longterm_pin %lu", ROOM * PAGE);
	ASSERT_EQ(0, write_text(path, text));
	snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	ASSERT_EQ(0, write_text(path, "0"));

	EXPECT_EQ(-EBUSY, map(self, 0, ROOM + 1));
	EXPECT_BACK(&self->base);
	EXPECT_EQ(0, cgroup_held(dir));
	EXPECT_EQ(0, map(self, 0, ROOM));
	EXPECT_EQ(ROOM, cgroup_held(dir));
	EXPECT_EQ(-EBUSY, map(self, ROOM, 1));
	EXPECT_EQ(ROOM, cgroup_held(dir));
	EXPECT_EQ(ROOM, status_pages(0, "VmPin:") - self->base.vmpin);
	EXPECT_REFUSED(&self->base, CGROUP, 2);
	EXPECT_EQ(ROOM, unmap(self, 0, ROOM));
	EXPECT_EQ(0, cgroup_held(dir));

	snprintf(path, sizeof(path), "%s%s/cgroup.procs", cgroup_root(), own);
	EXPECT_EQ(0, write_text(path, "0"));
	EXPECT_EQ(0, remove_cgroup(dir));
}

/* --- What cannot be pinned ---------------------------------------------------- */

/* The errno is GUP's, as ever; the log says which file it is */
TEST_F(iommufd, shared_file)
{
	char path[128], name[128];
	static struct pins p;
	char *mem;
	int fd;

	snprintf(path, sizeof(path), "%s/iommufd.%d", getenv("USERPIN_EXT4"),
		 getpid());
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, SIZE));
	mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, (void *)mem);
	EXPECT_EQ(0, map(self, 0, 1));
	log_room(1);
	EXPECT_EQ(-EFAULT, iommufd_map(&self->i, mem, IOVA_FAR, SIZE));
	EXPECT_REFUSED(&self->base, FILEMAP, 1);
	EXPECT_EQ(0, pins_read(0, &p));
	ASSERT_TRUE(is_iommufd(only_holder(&p)));
	snprintf(name, sizeof(name), "refused file: %s of",
		 only_holder(&p)->name);
	EXPECT_EQ(1, log_lines(name, path)) TH_LOG("%s ... %s", name, path);
	EXPECT_EQ(1, unmap(self, 0, 1));
	EXPECT_BACK(&self->base);
	unlink(path);
	close(fd);
}

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

struct filler {
	int fd;
	int filled;
};

/* Fill each page that somebody waits for, until the file has nothing more */
static void *fill_pages(void *arg)
{
	struct filler *f = arg;
	struct uffd_msg msg;

	while (read(f->fd, &msg, sizeof(msg)) == sizeof(msg)) {
		struct uffdio_zeropage zero = {
			.range = { .start = msg.arg.pagefault.address &
					    ~(PAGE - 1), .len = PAGE },
		};

		if (ioctl(f->fd, UFFDIO_ZEROPAGE, &zero))
			break;
		if (++f->filled == 3)
			break;
	}
	return NULL;
}

/* As ever, and not as a container: that says EFAULT */
TEST_F(iommufd, waits_for_userfaultfd)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct filler f = { .fd = syscall(__NR_userfaultfd, O_CLOEXEC) };
	pthread_t thread;
	int ret;

	ASSERT_LE(0, f.fd);
	ASSERT_EQ(0, ioctl(f.fd, UFFDIO_API, &api));
	reg.range.start = (uintptr_t)self->mem;
	reg.range.len = 3 * PAGE;
	ASSERT_EQ(0, ioctl(f.fd, UFFDIO_REGISTER, &reg));
	ASSERT_EQ(0, pthread_create(&thread, NULL, fill_pages, &f));
	ret = map(self, 0, N);
	EXPECT_EQ(0, ret);
	if (ret)
		pthread_cancel(thread);
	pthread_join(thread, NULL);
	EXPECT_EQ(3, f.filled);
	EXPECT_PINS(&self->base, variant->mode, N, N, N);
	EXPECT_EQ(N, unmap(self, 0, N));
	close(f.fd);
}

/* --- Processes come and go ------------------------------------------------------ */

TEST_F(iommufd, closed)
{
	EXPECT_EQ(0, map(self, 0, N));
	iommufd_stop(&self->dev);
	iommufd_close(&self->i);
	EXPECT_BACK(&self->before);
	EXPECT_TRUE(has_user_pages(SOMEBODY, 0));
}

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

/* What the list of all has of an iommufd with pins, and a process; -1: none */
static long listed(pid_t pid, const char *state)
{
	static struct pins all;
	long pages = -1;
	int i;

	if (pins_read_all(&all))
		return -2;
	for (i = 0; i < all.nr; i++)
		if (all.holder[i].pid == pid && all.holder[i].pages &&
		    !strcmp(all.holder[i].state, state) &&
		    is_iommufd(&all.holder[i]))
			pages = all.holder[i].pages;
	return pages;
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
	ASSERT_NE(NULL, only_holder(&p));
	EXPECT_EQ(N, only_holder(&p)->pages);
	EXPECT_EQ(N, p.held);
	EXPECT_EQ(N, status_pages(pid, "VmPin:"));
	EXPECT_EQ(variant->mode == COUNT_MM ? N : 0,
		  status_pages(pid, "VmLck:"));
	EXPECT_EQ(0, pins_read(0, &p));
	EXPECT_EQ(ROOM, pins_pages(&p));
	EXPECT_EQ(ROOM, status_pages(0, "VmPin:") - self->base.vmpin);
	EXPECT_TRUE(has_user_pages(SOMEBODY, variant->mode == COUNT_USER ?
				   ROOM + N : 0));

	/* Its pins stay with the iommufd, until they are unmapped */
	EXPECT_EQ(0, chan_put(sv[0], 0));
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(N, listed(pid, "gone"));
	EXPECT_TRUE(has_user_pages(SOMEBODY, variant->mode == COUNT_USER ?
				   ROOM + N : 0));
	EXPECT_EQ(N, unmap(self, 0, N));
	EXPECT_EQ(-1, listed(pid, "gone"));
	EXPECT_PINS(&self->base, variant->mode, ROOM, ROOM, ROOM);
	close(sv[0]);
	close(sv[1]);
}

TEST_F(iommufd, killed)
{
	int sv[2], status;
	pid_t pid;

	ASSERT_EQ(0, chan_pair(sv));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		char *mem = anon_pages(64 * MB);
		struct iommufd i;

		if (!mem || open_as(&i, 1, variant->mode) ||
		    iommufd_map(&i, mem, IOVA, 64 * MB) || chan_put(sv[1], 0))
			_exit(1);
		pause();
		_exit(2);
	}
	ASSERT_EQ(0, chan_get(sv[0], NULL));
	EXPECT_EQ((long)(64 * MB / PAGE), listed(pid, "alive"));
	EXPECT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_BACK(&self->base);
	EXPECT_TRUE(has_user_pages(SOMEBODY, 0));
	close(sv[0]);
	close(sv[1]);
}

/* The new program has the file, but no part in what the old one has pinned */
TEST_F(iommufd, executed)
{
	int in[2], done[2], status;
	static struct pins p;
	char byte;
	pid_t pid;

	ASSERT_EQ(0, pipe2(in, O_CLOEXEC));
	ASSERT_EQ(0, pipe2(done, O_CLOEXEC));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		char *mem = anon_pages(SIZE);
		struct iommufd i;

		close(in[1]);
		if (!mem || open_as(&i, 1, variant->mode) ||
		    iommufd_map(&i, mem, IOVA, SIZE) || dup2(in[0], 0) ||
		    fcntl(i.fd, F_SETFD, 0) || fcntl(i.dev, F_SETFD, 0))
			_exit(1);
		execlp("cat", "cat", NULL);
		_exit(2);
	}
	close(done[1]);
	close(in[0]);
	/* Closed by exec() */
	EXPECT_EQ(0, read(done[0], &byte, 1));
	EXPECT_EQ(0, pins_read(pid, &p));
	EXPECT_EQ(0, pins_pages(&p));
	EXPECT_EQ(0, p.held);
	EXPECT_EQ(0, status_pages(pid, "VmPin:"));
	EXPECT_EQ(0, status_pages(pid, "VmLck:"));
	EXPECT_EQ(N, listed(pid, "gone"));
	EXPECT_TRUE(has_user_pages(SOMEBODY,
				   variant->mode == COUNT_USER ? N : 0));
	close(in[1]);
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_BACK(&self->base);
	EXPECT_TRUE(has_user_pages(SOMEBODY, 0));
	close(done[0]);
}

/* Who opened it and mapped has ended; who got the file closes it */
TEST_F(iommufd, passed)
{
	struct iommufd got;
	int sv[2], status;
	pid_t pid;

	ASSERT_EQ(0, chan_pair(sv));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		char *mem = anon_pages(SIZE);
		struct iommufd i;

		_exit(!mem || open_as(&i, 1, variant->mode) ||
		      iommufd_map(&i, mem, IOVA, SIZE) ||
		      chan_put_fd(sv[1], i.fd) || chan_put_fd(sv[1], i.dev));
	}
	got.fd = chan_get_fd(sv[0]);
	got.dev = chan_get_fd(sv[0]);
	ASSERT_LE(0, got.fd);
	ASSERT_LE(0, got.dev);
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_EQ(N, listed(pid, "gone"));
	EXPECT_TRUE(has_user_pages(SOMEBODY,
				   variant->mode == COUNT_USER ? N : 0));
	iommufd_close(&got);
	EXPECT_BACK(&self->base);
	EXPECT_TRUE(has_user_pages(SOMEBODY, 0));
	close(sv[0]);
	close(sv[1]);
}

/* What was pinned stays with the user who it was pinned for */
TEST_F(iommufd, another_user)
{
	const enum mode mode = variant->mode;
	static struct snap now;
	long one = mode == COUNT_USER;

	EXPECT_EQ(0, map(self, 0, N));
	ASSERT_EQ(0, setresuid(ANOTHER, 0, 0));
	EXPECT_EQ(0, map(self, N, ROOM));
	EXPECT_TRUE(has_user_pages(SOMEBODY, one * N));
	EXPECT_TRUE(has_user_pages(ANOTHER, one * ROOM));
	EXPECT_EQ(0, snap(&now));
	EXPECT_EQ(N + ROOM, pins_pages(&now.pins));
	EXPECT_EQ(N + ROOM, now.pins.held);
	EXPECT_EQ(N + ROOM, now.vmpin - self->base.vmpin);
	EXPECT_EQ(mode == COUNT_MM ? N + ROOM : 0, now.vmlck - self->base.vmlck);

	/* His limit is for his own pages */
	if (mode == COUNT_USER) {
		ASSERT_EQ(0, set_memlock((ROOM + 1) * PAGE));
		EXPECT_EQ(0, map(self, N + ROOM, 1));
		EXPECT_EQ(-ENOMEM, map(self, N + ROOM + 1, 1));
		EXPECT_EQ(1, unmap(self, N + ROOM, 1));
	}
	EXPECT_EQ(N, unmap(self, 0, N));
	EXPECT_TRUE(has_user_pages(SOMEBODY, 0));
	EXPECT_TRUE(has_user_pages(ANOTHER, one * ROOM));
	EXPECT_EQ(ROOM, unmap(self, N, ROOM));
	EXPECT_TRUE(has_user_pages(ANOTHER, 0));
	EXPECT_BACK(&self->base);
}

/* --- Everything that can fail does ---------------------------------------------- */

TEST_F(iommufd, failures)
{
	bool injected = true;
	int nth, n, ret;

	if (!failing_supported())
		SKIP(return, "this kernel has no fault injection");
	nth = failing_open();
	ASSERT_LE(0, nth);
	for (n = 1; injected && !_metadata->exit_code; n++) {
		ASSERT_EQ(0, madvise(self->mem, SIZE, MADV_DONTNEED));
		arm(nth, n);
		ret = map(self, 0, N);
		injected = disarm(nth);
		if (!injected)
			EXPECT_EQ(0, ret);
		if (!ret)
			EXPECT_EQ(N, unmap(self, 0, N)) TH_LOG("at %d", n);
		EXPECT_BACK(&self->base);
	}
	TH_LOG("%d allocations", n - 2);
	EXPECT_LT(5, n);

	/* What unmaps has all that it needs */
	for (injected = true, n = 1; injected && !_metadata->exit_code; n++) {
		ASSERT_EQ(0, map(self, 0, N));
		arm(nth, n);
		EXPECT_EQ(N, unmap(self, 0, N)) TH_LOG("at %d", n);
		injected = disarm(nth);
		EXPECT_BACK(&self->base);
	}
	close(nth);
}

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
	bool injected = true, unmaps = false;
	char *mem = small_pages(SIZE);
	struct iommufd i, second;
	int nth, n, ret;

	NEED_DEVICES(2U);
	if (!failing_supported())
		SKIP(return, "this kernel has no fault injection");
	ASSERT_NE(NULL, mem);
	memset(mem, 1, SIZE);
	ASSERT_EQ(0, iommufd_open(&i, 0));
	ASSERT_EQ(0, iommufd_attach_apart(&second, &i, 1));
	nth = failing_open();
	ASSERT_LE(0, nth);
	ASSERT_EQ(0, write_text(TRACEFS "/events/iommu/unmap/enable", "1"));
	for (n = 1; injected && !_metadata->exit_code; n++) {
		/* Page tables of other addresses are all new */
		uint64_t iova = IOVA + n * GB;

		ASSERT_EQ(0, trace_on());
		arm(nth, n);
		ret = iommufd_map(&i, mem, iova, SIZE);
		injected = disarm(nth);
		trace_off();
		if (ret) {
			EXPECT_FALSE(put_before_unmap(&unmaps))
				TH_LOG("at %d", n);
		} else {
			EXPECT_EQ((long)SIZE, iommufd_unmap(&i, iova, SIZE));
		}
	}
	write_text(TRACEFS "/events/iommu/unmap/enable", "0");
	TH_LOG("%d allocations", n - 2);
	EXPECT_TRUE(unmaps) TH_LOG("the second page table has never failed");
	close(nth);
	close(second.dev);
	iommufd_close(&i);
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

FIXTURE_VARIANT_ADD(container, user) { .mode = COUNT_USER };
FIXTURE_VARIANT_ADD(container, process) { .mode = COUNT_MM };
FIXTURE_VARIANT_ADD(container, capable) { .mode = COUNT_NONE };

FIXTURE_SETUP(container)
{
	struct iommufd i = { .dev = -1 };

	NEED_DEVICES(3U);
	self->mem = small_pages(64 * MB);
	ASSERT_NE(NULL, self->mem);
	ASSERT_EQ(0, set_memlock(GB));
	ASSERT_TRUE(mdev_supported()) TH_LOG("no mediated devices: pin_caller.ko");
	ASSERT_EQ(0, mdev_create(self->uuid));
	ASSERT_EQ(0, become(SOMEBODY, variant->mode));
	ASSERT_EQ(0, snap(&self->before));
	ASSERT_EQ(0, vfio_container_of_iommufd(&self->v));
	i.fd = self->v.fd;
	if (variant->mode == COUNT_MM)
		ASSERT_EQ(0, iommufd_rlimit_mode(&i, 1));
}

FIXTURE_TEARDOWN(container)
{
	vfio_close(&self->v);
	EXPECT_BACK(&self->before);
	EXPECT_TRUE(has_user_pages(SOMEBODY, 0));
	EXPECT_EQ(0, mdev_remove(self->uuid));
}

TEST_F(container, pins_of_a_mapping)
{
	struct pins p;

	ASSERT_EQ(0, vfio_add(&self->v, 0));
	ASSERT_EQ(0, snap(&self->base));
	EXPECT_EQ(0, vfio_map(&self->v, self->mem, IOVA, SIZE, MAP_RW));
	EXPECT_PINS(&self->base, variant->mode, N, N, N);
	EXPECT_EQ(0, pins_read(0, &p));
	EXPECT_TRUE(is_iommufd(only_holder(&p)));
	EXPECT_EQ(0, edu_check(&self->v.dev[0], self->mem, IOVA, SIZE));
	if (variant->mode != COUNT_NONE) {
		ASSERT_EQ(0, set_memlock(N * PAGE));
		EXPECT_EQ(-ENOMEM, vfio_map(&self->v, self->mem + SIZE,
					    IOVA + SIZE, PAGE, MAP_RW));
		EXPECT_REFUSED(&self->base, MEMLOCK, 1);
	}
	EXPECT_EQ((long)SIZE, vfio_unmap(&self->v, IOVA, SIZE));
	EXPECT_BACK(&self->base);
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

	if (variant->mode != COUNT_NONE) {
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

TEST_HARNESS_MAIN
