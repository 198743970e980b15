// SPDX-License-Identifier: GPL-2.0
/*
 * A table of all holders of pins, and cases that are the same for each of them, without
 * CAP_IPC_LOCK and with it. Other programs have the cases of one holder: type1, limits,
 * cgroups, sharing, life; iommufd_pins, vdpa_pins, vduse_pins, io_uring_pins.
 * tests/vm/with_vdpa and with_vduse set up the devices.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "io_uring_lib.h"
#include "test.h"
#include "vdpa_lib.h"
#include "vduse_lib.h"

/* Of pins that can have any size */
#define N	100L
#define FEW	40L	/* of which each scattered one may take memory */
#define MOST	8192L	/* many times what is pinned at once */

/* --- The table ---------------------------------------------------------------- */

struct handle {
	union {
		struct vfio v;
		struct iommufd i;
		struct vdpa vdpa;
		struct vduse vduse;
		struct ring r;
	};
	bool open;
};

/**
 * struct ops - how a holder is used; what fails returns -errno
 * @begin: make the devices, for root
 * @end: take them away
 * @pin: @n pages
 * @unpin: them
 * @close: it
 * @fds: its files, for another process; what is mapped of them stays with this one
 */
struct ops {
	int (*begin)(void);
	int (*end)(void);
	int (*pin)(struct handle *h, char *mem, long n);
	int (*unpin)(struct handle *h, long n);
	void (*close)(struct handle *h);
	int (*fds)(struct handle *h, int *fd[3]);
};

/**
 * struct answers - what a pin that is refused returns
 * @memlock: by RLIMIT_MEMLOCK
 * @cgroup: by the cgroup's limit
 * @file: a file that must see each write
 * @hole: memory that is not there, behind some that is
 */
struct answers {
	int memlock, cgroup, file, hole;
};

/**
 * struct row - a holder
 * @name: of it in longterm_pins, before the dot
 * @ops: how it is used
 * @open: device @which, 0 or 1
 * @refused: what it says then
 * @counters: COUNT_*, which its pins are part of. RLIMIT_MEMLOCK is compared with the
 *	user's, or else with VmLck, or else with VmPin
 * @capable: the same with CAP_IPC_LOCK
 * @n: pages of a pin
 * @most: pages of a large one, of which part is pinned when the rest fails; or @n
 * @never_exempt: the limit applies with CAP_IPC_LOCK, too
 * @is_its_pin: it is made by the pin, and ends with it
 * @late: it ends a moment after its last file
 * @waits: until user space has filled a page
 * @foreign: a device uses the memory, and not with the keys of the thread that pins
 * @answers: where it has mapped. If the answer is not copied, that stays, as on stock
 * @in_child: what a pin says to a forked child that inherited it
 */
struct row {
	const char *name;
	const struct ops *ops;
	int (*open)(struct handle *h, unsigned int which);
	const struct answers *refused;
	unsigned int counters, capable;
	long n, most;
	bool never_exempt, is_its_pin, late, answers, waits, foreign;
	int in_child;
};

/* Containers, of type1 and of iommufd */

static int open_type1(struct handle *h, unsigned int which)
{
	return vfio_open(&h->v, which);
}

static int open_compat(struct handle *h, unsigned int which)
{
	int ret = vfio_container_of_iommufd(&h->v);

	return ret ?: vfio_add(&h->v, which);
}

static int open_compat_process(struct handle *h, unsigned int which)
{
	int ret = vfio_container_of_iommufd(&h->v);
	struct iommufd i = { .fd = h->v.fd };

	return ret ?: iommufd_rlimit_mode(&i, 1) ?: vfio_add(&h->v, which);
}

static int pin_vfio(struct handle *h, char *mem, long n)
{
	return vfio_map(&h->v, mem, IOVA, n * PAGE, MAP_RW);
}

static int unpinned(long ret, long n)
{
	return ret < 0 ? ret : ret == n * (long)PAGE ? 0 : -EIO;
}

static int unpin_vfio(struct handle *h, long n)
{
	return unpinned(vfio_unmap(&h->v, IOVA, n * PAGE), n);
}

static void close_vfio(struct handle *h)
{
	vfio_close(&h->v);
}

static int fds_vfio(struct handle *h, int *fd[3])
{
	fd[0] = &h->v.fd;
	fd[1] = &h->v.dev[0].group;
	fd[2] = &h->v.dev[0].fd;
	h->v.dev[0].bar = NULL;
	return 3;
}

static const struct ops vfio_ops = {
	.pin = pin_vfio, .unpin = unpin_vfio, .close = close_vfio,
	.fds = fds_vfio,
};

/* iommufd */

static int open_iommufd(struct handle *h, unsigned int which)
{
	return iommufd_open(&h->i, which, 0);
}

static int open_iommufd_process(struct handle *h, unsigned int which)
{
	return iommufd_open(&h->i, which, 1);
}

static int pin_iommufd(struct handle *h, char *mem, long n)
{
	return iommufd_map(&h->i, mem, IOVA, n * PAGE);
}

static int unpin_iommufd(struct handle *h, long n)
{
	return unpinned(iommufd_unmap(&h->i, IOVA, n * PAGE), n);
}

static void close_iommufd(struct handle *h)
{
	iommufd_close(&h->i);
}

static int fds_iommufd(struct handle *h, int *fd[3])
{
	fd[0] = &h->i.fd;
	fd[1] = &h->i.dev;
	return 2;
}

static const struct ops iommufd_ops = {
	.pin = pin_iommufd, .unpin = unpin_iommufd, .close = close_iommufd,
	.fds = fds_iommufd,
};

/* vhost-vdpa */

static int open_vdpa(struct handle *h, unsigned int which)
{
	return vdpa_open(&h->vdpa, which ? "disk1" : "disk0");
}

static int pin_vdpa(struct handle *h, char *mem, long n)
{
	int ret, end = 0;

	/* Else the device is told of all anew for each that lies apart: minutes with KASAN */
	if (n > N)
		end = vdpa_batch_begin(&h->vdpa);
	ret = vdpa_map(&h->vdpa, mem, IOVA, n * PAGE, VDPA_RW);
	if (n > N)
		end = end ?: vdpa_batch_end(&h->vdpa);
	return ret ?: end;
}

static int unpin_vdpa(struct handle *h, long n)
{
	return vdpa_unmap(&h->vdpa, IOVA, n * PAGE);
}

static void close_vdpa(struct handle *h)
{
	vdpa_close(&h->vdpa);
}

static int fds_vdpa(struct handle *h, int *fd[3])
{
	fd[0] = &h->vdpa.fd;
	return 1;
}

static const struct ops vdpa_ops = {
	.pin = pin_vdpa, .unpin = unpin_vdpa, .close = close_vdpa,
	.fds = fds_vdpa,
};

/* VDUSE */

static struct vduse vduse[2];

static int begin_vduse(void)
{
	int ret = vduse_pair_start(vduse);

	vduse_close(&vduse[0]);
	vduse_close(&vduse[1]);
	return ret;
}

static int end_vduse(void)
{
	return vduse_pair_stop(vduse);
}

static int open_vduse(struct handle *h, unsigned int which)
{
	return vduse_open(&h->vduse, vduse[which].name);
}

static int pin_vduse(struct handle *h, char *mem, long n)
{
	(void)n;
	return vduse_reg(&h->vduse, mem);
}

static int unpin_vduse(struct handle *h, long n)
{
	(void)n;
	return vduse_dereg(&h->vduse);
}

static void close_vduse(struct handle *h)
{
	vduse_close(&h->vduse);
}

static int fds_vduse(struct handle *h, int *fd[3])
{
	fd[0] = &h->vduse.fd;
	return 1;
}

static const struct ops vduse_ops = {
	.begin = begin_vduse, .end = end_vduse, .pin = pin_vduse,
	.unpin = unpin_vduse, .close = close_vduse, .fds = fds_vduse,
};

/* io_uring */

static int open_ring(struct handle *h, unsigned int which)
{
	(void)which;
	return ring_open(&h->r);
}

static int pin_buffer(struct handle *h, char *mem, long n)
{
	return ring_buffer(&h->r, mem, n * PAGE);
}

static int unpin_buffer(struct handle *h, long n)
{
	(void)n;
	return ring_no_buffers(&h->r);
}

static int pin_provided(struct handle *h, char *mem, long n)
{
	return ring_provided(&h->r, 7, mem, n);
}

static int unpin_provided(struct handle *h, long n)
{
	(void)n;
	return ring_not_provided(&h->r, 7);
}

static int open_nothing(struct handle *h, unsigned int which)
{
	(void)which;
	h->r = (struct ring){ .fd = -1 };
	return 0;
}

static int pin_queues(struct handle *h, char *mem, long n)
{
	(void)n;
	return ring_open_at(&h->r, mem);
}

static void close_ring(struct handle *h)
{
	ring_close(&h->r);
}

static int unpin_queues(struct handle *h, long n)
{
	(void)n;
	ring_close(&h->r);
	return 0;
}

static int fds_ring(struct handle *h, int *fd[3])
{
	fd[0] = &h->r.fd;
	h->r.queues = NULL;
	h->r.sqes = NULL;
	return 1;
}

static const struct ops buffer_ops = {
	.pin = pin_buffer, .unpin = unpin_buffer, .close = close_ring,
	.fds = fds_ring,
};

static const struct ops provided_ops = {
	.pin = pin_provided, .unpin = unpin_provided, .close = close_ring,
	.fds = fds_ring,
};

static const struct ops queues_ops = {
	.pin = pin_queues, .unpin = unpin_queues, .close = close_ring,
	.fds = fds_ring,
};

/* As the ledger has it; as GUP has it; as vhost does, whatever it is */
static const struct answers exact = { -ENOMEM, -EBUSY, -EOPNOTSUPP, -EFAULT };
static const struct answers as_gup = { -ENOMEM, -EBUSY, -EFAULT, -EFAULT };
static const struct answers of_vhost = { -EFAULT, -EFAULT, -EFAULT, -EFAULT };
static const struct answers of_vduse = { -ENOMEM, -EBUSY, -EOPNOTSUPP, -ENOMEM };

static const struct row type1 = {
	.name = "vfio", .ops = &vfio_ops, .open = open_type1,
	.refused = &exact, .n = N, .most = MOST,
	.counters = COUNT_LOCKED, .capable = COUNT_LOCKED,
	.foreign = true,
};

static const struct row iommufd = {
	.name = "iommufd", .ops = &iommufd_ops, .open = open_iommufd,
	.refused = &as_gup, .n = N, .most = MOST,
	.counters = COUNT_USER | COUNT_PINNED, .capable = COUNT_PINNED,
	.answers = true, .waits = true,
};

static const struct row iommufd_process = {
	.name = "iommufd", .ops = &iommufd_ops, .open = open_iommufd_process,
	.refused = &as_gup, .n = N, .most = MOST,
	.counters = COUNT_LOCKED | COUNT_PINNED, .capable = COUNT_PINNED,
	.answers = true, .waits = true,
};

static const struct row compat = {
	.name = "iommufd", .ops = &vfio_ops, .open = open_compat,
	.refused = &as_gup, .n = N, .most = MOST,
	.counters = COUNT_USER | COUNT_PINNED, .capable = COUNT_PINNED,
	.waits = true,
};

static const struct row compat_process = {
	.name = "iommufd", .ops = &vfio_ops, .open = open_compat_process,
	.refused = &as_gup, .n = N, .most = MOST,
	.counters = COUNT_LOCKED | COUNT_PINNED, .capable = COUNT_PINNED,
	.waits = true,
};

/* It is for its owner only */
static const struct row vdpa = {
	.name = "vdpa", .ops = &vdpa_ops, .open = open_vdpa,
	.refused = &of_vhost, .n = N, .most = MOST,
	.counters = COUNT_PINNED, .capable = COUNT_PINNED,
	.never_exempt = true, .in_child = -EFAULT,
};

static const struct row vduse_umem = {
	.name = "vduse", .ops = &vduse_ops, .open = open_vduse,
	.refused = &of_vduse, .n = VDUSE_SIZE / PAGE, .most = VDUSE_SIZE / PAGE,
	.counters = COUNT_PINNED, .capable = COUNT_PINNED,
	.never_exempt = true,
};

static const struct row buffer = {
	.name = "io_uring", .ops = &buffer_ops, .open = open_ring,
	.refused = &exact, .n = N, .most = MOST,
	.counters = COUNT_USER | COUNT_PINNED, .capable = COUNT_PINNED,
	.late = true, .waits = true,
};

static const struct row provided_ring = {
	.name = "io_uring-ring", .ops = &provided_ops, .open = open_ring,
	.refused = &exact, .n = 128, .most = 128,
	.counters = COUNT_USER, .capable = 0,
	.late = true, .waits = true,
};

static const struct row queues = {
	.name = "io_uring-ring", .ops = &queues_ops, .open = open_nothing,
	.refused = &exact, .n = 2, .most = 2,
	.counters = COUNT_USER, .capable = 0,
	.is_its_pin = true, .late = true, .waits = true,
};

/* --- The fixture -------------------------------------------------------------- */

FIXTURE(holder)
{
	struct handle *a, *b;	/* shared with children */
	struct vfio v;
	struct snap before;
	char *mem;		/* 2 * MOST pages, first touched by the pin */
};

FIXTURE_VARIANT(holder)
{
	const struct row *row;
	bool capable;
};

FIXTURE_VARIANT_ADD(holder, type1) { &type1, false };
FIXTURE_VARIANT_ADD(holder, type1_capable) { &type1, true };
FIXTURE_VARIANT_ADD(holder, iommufd) { &iommufd, false };
FIXTURE_VARIANT_ADD(holder, iommufd_capable) { &iommufd, true };
FIXTURE_VARIANT_ADD(holder, iommufd_process) { &iommufd_process, false };
FIXTURE_VARIANT_ADD(holder, iommufd_process_capable) { &iommufd_process, true };
FIXTURE_VARIANT_ADD(holder, compat) { &compat, false };
FIXTURE_VARIANT_ADD(holder, compat_capable) { &compat, true };
FIXTURE_VARIANT_ADD(holder, compat_process) { &compat_process, false };
FIXTURE_VARIANT_ADD(holder, compat_process_capable) { &compat_process, true };
FIXTURE_VARIANT_ADD(holder, vdpa) { &vdpa, false };
FIXTURE_VARIANT_ADD(holder, vdpa_capable) { &vdpa, true };
FIXTURE_VARIANT_ADD(holder, buffer) { &buffer, false };
FIXTURE_VARIANT_ADD(holder, buffer_capable) { &buffer, true };
FIXTURE_VARIANT_ADD(holder, provided_ring) { &provided_ring, false };
FIXTURE_VARIANT_ADD(holder, provided_ring_capable) { &provided_ring, true };
FIXTURE_VARIANT_ADD(holder, queues) { &queues, false };
FIXTURE_VARIANT_ADD(holder, queues_capable) { &queues, true };
/* Last: on a debug kernel lockdep reports stock VDUSE, and is off then */
FIXTURE_VARIANT_ADD(holder, vduse) { &vduse_umem, false };
FIXTURE_VARIANT_ADD(holder, vduse_capable) { &vduse_umem, true };

static unsigned int counters(const FIXTURE_VARIANT(holder) *variant)
{
	return variant->capable ? variant->row->capable :
				  variant->row->counters;
}

static bool exempt(const FIXTURE_VARIANT(holder) *variant)
{
	return variant->capable && !variant->row->never_exempt;
}

static int open_handle(const struct row *row, struct handle *h,
		       unsigned int which)
{
	int ret = row->open(h, which);

	h->open = !ret;
	return ret;
}

static void close_handle(const struct row *row, struct handle *h)
{
	if (h->open)
		row->ops->close(h);
	h->open = false;
}

#define OPEN(h)		open_handle(variant->row, h, (h) == self->b)
#define CLOSE(h)	close_handle(variant->row, h)
#define PIN(h, page, n)	variant->row->ops->pin(h, self->mem + (page) * PAGE, n)
#define UNPIN(h, n)	variant->row->ops->unpin(h, n)

FIXTURE_SETUP(holder)
{
	NEED_DEVICES(3U);
	self->v.fd = -1;
	self->mem = small_pages(2 * MOST * PAGE);
	ASSERT_NE(NULL, self->mem);
	self->a = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->a);
	self->b = self->a + 1;
	if (variant->row->ops->begin)
		ASSERT_EQ(0, variant->row->ops->begin());
	ASSERT_EQ(0, set_memlock(GB));
	ASSERT_EQ(0, become(SOMEBODY, variant->capable));
	ASSERT_EQ(0, snap(&self->before));
}

FIXTURE_TEARDOWN(holder)
{
	vfio_close(&self->v);
	CLOSE(self->a);
	CLOSE(self->b);
	EXPECT_BACK(&self->before);
	EXPECT_TRUE(user_has(SOMEBODY, 0));
	/* The shell would not be root */
	EXPECT_EQ(0, setresuid(0, 0, 0));
	if (variant->row->ops->end)
		EXPECT_EQ(0, variant->row->ops->end());
}

/* Since the start, so many pins, of so many pages; in the holder's counters */
#define EXPECT_PINS(pages, distinct)					\
	expect_pins(_metadata, __LINE__, self, variant,			\
		    counters(variant), pages, distinct)

static void expect_pins(struct __test_metadata *_metadata, int line,
			FIXTURE_DATA(holder) *self,
			const FIXTURE_VARIANT(holder) *variant,
			unsigned int in, long pages, long distinct)
{
	long user = in & COUNT_USER ? distinct : 0;

	__expect_state(_metadata, line, &self->before, in, pages, distinct,
		       distinct, distinct, variant->row->late);
	EXPECT_TRUE(user_has(SOMEBODY, user))
		TH_LOG("not %ld pages of the user, line %d", user, line);
}

/* Holders of @p that have this name, and so many pages */
static int holders(const struct pins *p, const char *name, long pages)
{
	size_t len = strlen(name);
	int i, n = 0;

	for (i = 0; i < p->nr; i++)
		n += !strncmp(p->holder[i].name, name, len) &&
		     p->holder[i].name[len] == '.' &&
		     p->holder[i].pages == pages;
	return n;
}

/*
 * The pin of @n pages is refused: by this error, with one line in the log that also
 * says @about, and nothing is left.
 */
#define EXPECT_REFUSAL(why, ret, n, about)				\
	expect_refusal(_metadata, __LINE__, self, variant, why, ret, n, about)

static void expect_refusal(struct __test_metadata *_metadata, int line,
			   FIXTURE_DATA(holder) *self,
			   const FIXTURE_VARIANT(holder) *variant,
			   enum reason why, int ret, long n, const char *about)
{
	long since = pins_refused_ever(why);
	char start[96], owner[64];

	log_room(1);
	EXPECT_EQ(ret, PIN(self->a, 0, n)) TH_LOG("line %d", line);
	EXPECT_EQ(1, pins_refused_ever(why) - since) TH_LOG("line %d", line);
	if (!variant->row->is_its_pin)
		EXPECT_REFUSED(&self->before, why, 1);
	EXPECT_BACK(&self->before);
	snprintf(start, sizeof(start), "longterm_pin: refused %s: %s.",
		 reason_name[why], variant->row->name);
	snprintf(owner, sizeof(owner), " of \"holders\" [%d], uid %d, ",
		 getpid(), SOMEBODY);
	EXPECT_EQ(1, log_lines(start, owner)) TH_LOG("%s*%s", start, owner);
	EXPECT_LE(1, log_lines(owner, about)) TH_LOG("%s", about);
}

/* --- Limits ------------------------------------------------------------------- */

TEST_F(holder, limit)
{
	const struct row *row = variant->row;
	const long n = row->n;

	ASSERT_EQ(0, OPEN(self->a));
	ASSERT_EQ(0, OPEN(self->b));
	if (exempt(variant)) {
		ASSERT_EQ(0, set_memlock(0));
		EXPECT_EQ(0, PIN(self->a, 0, n));
		EXPECT_PINS(n, n);
		return;
	}
	ASSERT_EQ(0, set_memlock((n - 1) * PAGE));
	EXPECT_REFUSAL(MEMLOCK, row->refused->memlock, n, "RLIMIT_MEMLOCK");
	ASSERT_EQ(0, set_memlock(n * PAGE));
	EXPECT_EQ(0, PIN(self->a, 0, n));
	EXPECT_PINS(n, n);

	/* The same memory needs no room; other memory does, to the page */
	EXPECT_EQ(0, PIN(self->b, 0, n));
	EXPECT_PINS(2 * n, n);
	EXPECT_EQ(0, UNPIN(self->b, n));
	EXPECT_PINS(n, n);
	ASSERT_EQ(0, set_memlock((2 * n - 1) * PAGE));
	EXPECT_EQ(row->refused->memlock, PIN(self->b, n, n));
	EXPECT_PINS(n, n);
	ASSERT_EQ(0, set_memlock(2 * n * PAGE));
	EXPECT_EQ(0, PIN(self->b, n, n));
	EXPECT_PINS(2 * n, 2 * n);

	/* Room that is given back can be had again */
	EXPECT_EQ(0, UNPIN(self->b, n));
	EXPECT_EQ(0, UNPIN(self->a, n));
	EXPECT_BACK(&self->before);
	ASSERT_EQ(0, set_memlock(n * PAGE));
	EXPECT_EQ(0, PIN(self->a, 0, n));
	EXPECT_PINS(n, n);
}

/* A container's pages are in VmLck: they take room of those who are compared with it */
TEST_F(holder, limit_beside_a_container)
{
	const struct row *row = variant->row;
	const long n = row->n;
	bool same = row->counters & COUNT_LOCKED && !exempt(variant);

	ASSERT_EQ(0, vfio_open(&self->v, 2));
	ASSERT_EQ(0, vfio_map(&self->v, self->mem + n * PAGE, IOVA, n * PAGE,
			      MAP_RW));
	ASSERT_EQ(0, OPEN(self->a));
	ASSERT_EQ(0, set_memlock(n * PAGE));
	EXPECT_EQ(same ? row->refused->memlock : 0, PIN(self->a, 0, n));
	ASSERT_EQ(0, set_memlock(2 * n * PAGE));
	if (same)
		EXPECT_EQ(0, PIN(self->a, 0, n));
	EXPECT_EQ(0, UNPIN(self->a, n));
}

/* Pages far into a large one are put with those before them */
TEST_F(holder, limit_far_into_it)
{
	const struct row *row = variant->row;

	if (row->most == row->n)
		SKIP(return, "it pins all at once");
	ASSERT_EQ(0, OPEN(self->a));
	ASSERT_EQ(0, set_memlock((row->most - 1) * PAGE));
	EXPECT_EQ(exempt(variant) ? 0 : row->refused->memlock,
		  PIN(self->a, 0, row->most));
	if (exempt(variant))
		EXPECT_EQ(0, UNPIN(self->a, row->most));
	EXPECT_BACK(&self->before);
	EXPECT_EQ(0, PIN(self->a, 0, row->most - 1));
	EXPECT_PINS(row->most - 1, row->most - 1);
}

/* The limit of the cgroup, which nobody is exempt from */
TEST_F(holder, cgroup)
{
	char own[256], home[384], top[128], max[160], procs[160], text[64];
	const struct row *row = variant->row;
	const long n = row->n;
	char *now;

	now = slurp("/proc/self/cgroup");
	ASSERT_NE(NULL, now);
	ASSERT_EQ(1, sscanf(now, "0::%255s", own));
	free(now);
	snprintf(home, sizeof(home), "%s%s/cgroup.procs", cgroup_root(), own);
	snprintf(top, sizeof(top), "%s/holders-%d", cgroup_root(), getpid());
	snprintf(max, sizeof(max), "%s/misc.max", top);
	snprintf(procs, sizeof(procs), "%s/cgroup.procs", top);
	ASSERT_EQ(0, mkdir(top, 0755));
	snprintf(text, sizeof(text), "longterm_pin %lu", (n - 1) * PAGE);
	ASSERT_EQ(0, write_text(max, text));
	ASSERT_EQ(0, write_text(procs, "0"));

	ASSERT_EQ(0, OPEN(self->a));
	ASSERT_EQ(0, OPEN(self->b));
	EXPECT_REFUSAL(CGROUP, row->refused->cgroup, n, strrchr(top, '/'));
	EXPECT_EQ(0, cgroup_held(top));
	EXPECT_EQ(1, cgroup_value(top, "misc.events.local", "longterm_pin.max"));
	snprintf(text, sizeof(text), "longterm_pin %lu", n * PAGE);
	ASSERT_EQ(0, write_text(max, text));
	EXPECT_EQ(0, PIN(self->a, 0, n));
	EXPECT_EQ(n, cgroup_held(top));
	EXPECT_EQ(0, PIN(self->b, 0, n));
	EXPECT_EQ(n, cgroup_held(top));
	EXPECT_EQ(0, UNPIN(self->b, n));
	EXPECT_EQ(row->refused->cgroup, PIN(self->b, n, n));
	EXPECT_EQ(n, cgroup_held(top));

	/* A ledger belongs to a cgroup for as long as there is a holder */
	CLOSE(self->a);
	CLOSE(self->b);
	EXPECT_BACK(&self->before);
	EXPECT_EQ(0, cgroup_held(top));
	EXPECT_EQ(0, write_text(home, "0"));
	EXPECT_EQ(0, remove_cgroup(top));
}

/* --- Memory that cannot be pinned --------------------------------------------- */

/* A file that must see each write, behind other memory */
TEST_F(holder, file)
{
	const struct row *row = variant->row;
	size_t at = row->n / 2 * PAGE, len = row->n * PAGE - at;
	const char *dir = getenv("USERPIN_EXT4");
	char path[128];
	void *map;
	int fd;

	if (!dir)
		SKIP(return, "no file system on a disk, see USERPIN_EXT4");
	snprintf(path, sizeof(path), "%s/holders-%d", dir, getpid());
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, len));
	map = mmap(self->mem + at, len, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_FIXED, fd, 0);
	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, OPEN(self->a));
	EXPECT_REFUSAL(FILEMAP, row->refused->file, row->n, path);
	EXPECT_EQ(1, log_lines(path, "\" on ext4: "));

	/* Of a private mapping, a copy is pinned */
	map = mmap(self->mem + at, len, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_FIXED, fd, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, PIN(self->a, 0, row->n));
	EXPECT_PINS(row->n, row->n);
	unlink(path);
	close(fd);
}

TEST_F(holder, hole)
{
	const struct row *row = variant->row;
	long at = row->most - 1 - row->most / 8;

	ASSERT_EQ(0, munmap(self->mem + at * PAGE, PAGE));
	ASSERT_EQ(0, OPEN(self->a));
	EXPECT_REFUSAL(FAULT, row->refused->hole, row->most, "");
	if (row->most == row->n)
		return;
	EXPECT_EQ(0, PIN(self->a, 0, at));
	EXPECT_PINS(at, at);
}

/* Keys of the thread keep memory from the kernel that acts for it */
TEST_F(holder, protection_keys)
{
	const struct row *row = variant->row;
	int key = pkey_alloc(0, PKEY_DISABLE_ACCESS);

	if (key < 0)
		SKIP(return, "this CPU has no protection keys");
	memset(self->mem, 1, row->n * PAGE);
	ASSERT_EQ(0, pkey_mprotect(self->mem, row->n * PAGE,
				   PROT_READ | PROT_WRITE, key));
	ASSERT_EQ(0, OPEN(self->a));
	if (row->foreign) {
		EXPECT_EQ(0, PIN(self->a, 0, row->n));
		EXPECT_EQ(0, UNPIN(self->a, row->n));
	} else {
		EXPECT_EQ(-EFAULT, PIN(self->a, 0, row->n));
	}
	EXPECT_BACK(&self->before);
	ASSERT_EQ(0, pkey_set(key, 0));
	EXPECT_EQ(0, PIN(self->a, 0, row->n));
	EXPECT_EQ(0, UNPIN(self->a, row->n));
	ASSERT_EQ(0, pkey_mprotect(self->mem, row->n * PAGE,
				   PROT_READ | PROT_WRITE, 0));
	pkey_free(key);
}

/**
 * struct filler - fills pages of a userfaultfd, as a thread that somebody waits for
 * @fd: the userfaultfd
 * @filled: how many pages
 * @v: a container, by which it pins @mem before
 * @mem: a page that must move, so that it is pinned alone
 * @pinned: what came of that
 */
struct filler {
	int fd, filled;
	struct vfio *v;
	char *mem;
	int pinned;
};

static void *fill_pages(void *arg)
{
	struct filler *f = arg;
	struct uffd_msg msg;

	while (read(f->fd, &msg, sizeof(msg)) == sizeof(msg)) {
		struct uffdio_zeropage zero = {
			.range = { .start = msg.arg.pagefault.address &
					    ~(PAGE - 1), .len = PAGE },
		};

		if (!f->filled++)
			f->pinned = vfio_map(f->v, f->mem, IOVA, PAGE, MAP_RW);
		if (ioctl(f->fd, UFFDIO_ZEROPAGE, &zero))
			break;
	}
	return NULL;
}

/* Who waits holds up nobody, not even for pages that must move */
TEST_F(holder, userfaultfd)
{
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_api api = { .api = UFFD_API };
	const char *node = getenv("USERPIN_MEM_NODE");
	const struct row *row = variant->row;
	struct filler f = { .v = &self->v };
	pthread_t thread;
	int ret;

	if (!node)
		SKIP(return, "no node of movable memory, see USERPIN_MEM_NODE");
	f.mem = small_pages(PAGE);
	ASSERT_NE(NULL, f.mem);
	ASSERT_EQ(0, bind_to_node(atoi(node), f.mem, PAGE));
	*f.mem = 1;
	ASSERT_EQ(0, vfio_open(&self->v, 2));
	f.fd = syscall(__NR_userfaultfd, O_CLOEXEC);
	ASSERT_LE(0, f.fd);
	ASSERT_EQ(0, ioctl(f.fd, UFFDIO_API, &api));
	reg.range.start = (uintptr_t)self->mem;
	reg.range.len = row->n * PAGE;
	ASSERT_EQ(0, ioctl(f.fd, UFFDIO_REGISTER, &reg));
	ASSERT_EQ(0, OPEN(self->a));
	ASSERT_EQ(0, pthread_create(&thread, NULL, fill_pages, &f));
	ret = PIN(self->a, 0, row->n);
	EXPECT_EQ(row->waits ? 0 : -EFAULT, ret);
	EXPECT_EQ(0, pthread_cancel(thread));
	EXPECT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(row->waits ? row->n : 0, f.filled);
	EXPECT_EQ(0, f.pinned);
	if (!ret)
		EXPECT_EQ(0, UNPIN(self->a, row->n));
	close(f.fd);
}

/* --- Counters ----------------------------------------------------------------- */

TEST_F(holder, counted)
{
	const struct row *row = variant->row;
	const long n = row->n;
	struct pins p;

	ASSERT_EQ(0, OPEN(self->a));
	EXPECT_EQ(0, PIN(self->a, 0, n));
	EXPECT_PINS(n, n);
	EXPECT_EQ(0, pins_read(0, &p));
	ASSERT_EQ(1, p.nr);
	EXPECT_EQ(1, holders(&p, row->name, n)) TH_LOG("%s", p.holder[0].name);
	EXPECT_EQ(n, p.holder[0].peak);
	EXPECT_EQ(n, p.holder[0].acquired);
	EXPECT_EQ(0, p.holder[0].released);
	EXPECT_EQ(0, UNPIN(self->a, n));
	EXPECT_BACK(&self->before);
	EXPECT_TRUE(user_has(SOMEBODY, 0));
}

/* Each of them is a holder; memory that both have counts once */
TEST_F(holder, two)
{
	const struct row *row = variant->row;
	const long n = row->n;
	struct pins p;

	ASSERT_EQ(0, OPEN(self->a));
	ASSERT_EQ(0, OPEN(self->b));
	EXPECT_EQ(0, PIN(self->a, 0, n));
	EXPECT_EQ(0, PIN(self->b, 0, n));
	EXPECT_PINS(2 * n, n);
	EXPECT_EQ(0, pins_read(0, &p));
	EXPECT_EQ(2, holders(&p, row->name, n));
	EXPECT_EQ(0, UNPIN(self->b, n));
	EXPECT_PINS(n, n);
	EXPECT_EQ(0, PIN(self->b, n / 2, n));
	EXPECT_PINS(2 * n, n + n / 2);
	CLOSE(self->a);
	EXPECT_PINS(n, n);
	EXPECT_EQ(0, UNPIN(self->b, n));
	EXPECT_BACK(&self->before);
}

/* Each in its own counters, VmLck is the container's; the memory is held once */
TEST_F(holder, beside_a_container)
{
	const long n = variant->row->n;

	ASSERT_EQ(0, vfio_open(&self->v, 2));
	EXPECT_EQ(0, vfio_map(&self->v, self->mem, IOVA, n * PAGE, MAP_RW));
	ASSERT_EQ(0, OPEN(self->a));
	EXPECT_EQ(0, PIN(self->a, 0, n));
	expect_pins(_metadata, __LINE__, self, variant,
		    counters(variant) | COUNT_LOCKED, 2 * n, n);
	EXPECT_EQ(0, edu_check(&self->v.dev[0], self->mem, IOVA, n * PAGE));
	EXPECT_EQ(n * (long)PAGE, vfio_unmap(&self->v, IOVA, n * PAGE));
	EXPECT_PINS(n, n);
	EXPECT_EQ(0, vfio_map(&self->v, self->mem, IOVA, n * PAGE, MAP_RW));
	EXPECT_EQ(0, UNPIN(self->a, n));
	expect_pins(_metadata, __LINE__, self, variant, COUNT_LOCKED, n, n);
}

/* --- Each allocation fails in turn -------------------------------------------- */

/*
 * Nothing is left of a pin that fails. With its first pin, a holder makes things that
 * it keeps: with @anew, it is opened before each.
 */
static void pins_that_fail(struct __test_metadata *_metadata,
			   FIXTURE_DATA(holder) *self,
			   const FIXTURE_VARIANT(holder) *variant, int fd,
			   long n, bool anew)
{
	struct failing f = { .fd = fd };
	int ret;

	while (FAILING_NEXT(&f)) {
		if (anew) {
			CLOSE(self->a);
			ASSERT_EQ(0, OPEN(self->a));
		}
		failing_arm(&f);
		ret = PIN(self->a, 0, n);
		failing_disarm(&f, ret);
		if (!ret) {
			EXPECT_PINS(n, n);
			EXPECT_EQ(0, UNPIN(self->a, n));
		} else if (ret == -EFAULT && variant->row->answers) {
			UNPIN(self->a, n);
		}
		EXPECT_BACK(&self->before);
	}
	TH_LOG("%s pin", anew ? "first" : "next");
	EXPECT_FAILED_IN_TURN(&f, anew ? 4 : 1);
}

TEST_F(holder, allocations)
{
	const long n = variant->row->n == N ? FEW : variant->row->n;
	struct failing f = {};
	long i;
	int ret;

	NEED_FAILING(f.fd);
	/* Neighbours in memory were not allocated one after the other */
	for (i = 0; i < n; i++)
		self->mem[i * 29 % n * PAGE] = 1;
	pins_that_fail(_metadata, self, variant, f.fd, n, true);
	pins_that_fail(_metadata, self, variant, f.fd, n, false);

	/* To unpin takes no memory */
	while (FAILING_NEXT(&f)) {
		ASSERT_EQ(0, PIN(self->a, 0, n));
		failing_arm(&f);
		ret = UNPIN(self->a, n);
		failing_disarm(&f, ret);
		EXPECT_NE(-ENOMEM, ret);
		/* It fails if the question is not copied, or just the answer */
		if (ret)
			UNPIN(self->a, n);
		EXPECT_BACK(&self->before);
	}
	close(f.fd);
}

/* --- Two at a time ------------------------------------------------------------ */

/**
 * struct rival - a thread that pins memory of its own
 * @row: by such a holder
 * @h: this one
 * @mem: @n pages
 * @n: so many
 * @start: it waits for the other there
 * @ret: what came of it
 */
struct rival {
	const struct row *row;
	struct handle *h;
	char *mem;
	long n;
	pthread_barrier_t *start;
	int ret;
};

static void *pin_at_once(void *arg)
{
	struct rival *r = arg;

	pthread_barrier_wait(r->start);
	r->ret = r->row->ops->pin(r->h, r->mem, r->n);
	return NULL;
}

/* The limit allows one of them */
TEST_F(holder, two_threads_at_the_limit)
{
	const struct row *row = variant->row;
	const long n = row->most > row->n ? row->most / 4 : row->n;
	pthread_barrier_t start;
	struct rival r[2] = {
		{ row, self->a, self->mem, n, &start, 0 },
		{ row, self->b, self->mem + n * PAGE, n, &start, 0 },
	};
	int round, i, passed, refused = 0, pinned = 0;
	pthread_t thread[2];

	if (exempt(variant))
		SKIP(return, "CAP_IPC_LOCK has no limit");
	ASSERT_EQ(0, OPEN(self->a));
	ASSERT_EQ(0, OPEN(self->b));
	ASSERT_EQ(0, set_memlock(n * PAGE));
	ASSERT_EQ(0, pthread_barrier_init(&start, NULL, 2));
	for (round = 0; round < 5; round++) {
		/* Pages that are not there take longer to pin */
		ASSERT_EQ(0, madvise(self->mem, 2 * n * PAGE, MADV_DONTNEED));
		for (i = 0; i < 2; i++) {
			ASSERT_EQ(0, pthread_create(thread + i, NULL,
						    pin_at_once, r + i));
		}
		for (passed = 0, i = 0; i < 2; i++) {
			pthread_join(thread[i], NULL);
			passed += !r[i].ret;
			refused += r[i].ret == row->refused->memlock;
		}
		pinned += passed;
		EXPECT_GE(1, passed) TH_LOG("round %d", round);
		EXPECT_PINS(passed * n, passed * n);
		for (i = 0; i < 2; i++) {
			if (!r[i].ret)
				EXPECT_EQ(0, UNPIN(r[i].h, n));
		}
		EXPECT_BACK(&self->before);
	}
	EXPECT_EQ(10, pinned + refused);
	TH_LOG("%d of 5 rounds pinned", pinned);
	/* Nothing is left of those that were refused */
	EXPECT_EQ(0, PIN(self->a, 0, n));
}

/* --- Processes that come and go ----------------------------------------------- */

TEST_F(holder, closed)
{
	const long n = variant->row->n;

	ASSERT_EQ(0, OPEN(self->a));
	EXPECT_EQ(0, PIN(self->a, 0, n));
	CLOSE(self->a);
	EXPECT_BACK(&self->before);
	EXPECT_TRUE(user_has(SOMEBODY, 0));

	/* The next user of the device */
	ASSERT_EQ(0, OPEN(self->a));
	EXPECT_EQ(0, PIN(self->a, 0, n));
	EXPECT_PINS(n, n);
}

/* A child that pins, and what there is to see of it */
static pid_t child_pins(struct __test_metadata *_metadata,
			FIXTURE_DATA(holder) *self,
			const FIXTURE_VARIANT(holder) *variant, int sv[2],
			void (*then)(const struct row *row, struct handle *h))
{
	const struct row *row = variant->row;
	const unsigned int in = counters(variant);
	const long n = row->n;
	static struct pins p;
	pid_t pid;

	ASSERT_EQ(0, chan_pair(sv));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(sv[0]);
		if (OPEN(self->a) || PIN(self->a, 0, n) || chan_put(sv[1], 0))
			_exit(1);
		chan_get(sv[1], NULL);
		then(row, self->a);
		_exit(0);
	}
	close(sv[1]);
	EXPECT_EQ(0, chan_get(sv[0], NULL));
	EXPECT_EQ(0, pins_read(pid, &p));
	EXPECT_EQ(1, holders(&p, row->name, n));
	EXPECT_EQ(n, p.held);
	EXPECT_EQ(in & COUNT_LOCKED ? n : 0, status_pages(pid, "VmLck:"));
	EXPECT_EQ(in & COUNT_PINNED ? n : 0, status_pages(pid, "VmPin:"));
	EXPECT_EQ(in & COUNT_USER ? n : 0, p.user);
	return pid;
}

static void nothing(const struct row *row, struct handle *h)
{
	(void)row;
	(void)h;
}

static void end_of_process(struct __test_metadata *_metadata,
			   FIXTURE_DATA(holder) *self,
			   const FIXTURE_VARIANT(holder) *variant, int sig)
{
	int sv[2], status;
	pid_t pid = child_pins(_metadata, self, variant, sv, nothing);

	EXPECT_EQ(0, sig ? kill(pid, sig) : chan_put(sv[0], 0));
	ASSERT_EQ(0, reap(pid, &status));
	EXPECT_EQ(sig, WIFSIGNALED(status) ? WTERMSIG(status) : status);
	self->a->open = false;
	close(sv[0]);
}

TEST_F(holder, killed)
{
	end_of_process(_metadata, self, variant, SIGKILL);
}

TEST_F(holder, exits)
{
	end_of_process(_metadata, self, variant, 0);
}

/* The pins are nobody's, and stay as long as there is a file */
#define EXPECT_LEFT()							\
	do {								\
		long __n = variant->row->n;				\
									\
		EXPECT_EQ(__n, pins_of_the_dead());			\
		EXPECT_EQ(__n, cgroup_held(cgroup_root()) -		\
			       self->before.cgroups);			\
		EXPECT_TRUE(user_has(SOMEBODY, counters(variant) &	\
					       COUNT_USER ? __n : 0));	\
	} while (0)

static void execute_another(const struct row *row, struct handle *h)
{
	int *fd[3], i;

	for (i = row->ops->fds(h, fd); i--; )
		fcntl(*fd[i], F_SETFD, 0);
	execlp("cat", "cat", NULL);
	_exit(2);
}

/* The new program has the files, but no part in what the old one has pinned */
TEST_F(holder, exec)
{
	int in[2], sv[2], status;
	static struct pins p;
	pid_t pid;

	/* The program to be executed reads until it is told to end */
	ASSERT_EQ(0, pipe2(in, O_CLOEXEC));
	ASSERT_EQ(0, dup2(in[0], 0));
	pid = child_pins(_metadata, self, variant, sv, execute_another);
	EXPECT_EQ(0, chan_put(sv[0], 0));
	/* Its end is closed by exec() */
	EXPECT_GT(0, chan_get(sv[0], NULL));
	EXPECT_EQ(0, pins_read(pid, &p));
	EXPECT_EQ(0, pins_pages(&p));
	EXPECT_EQ(0, p.held);
	EXPECT_EQ(0, status_pages(pid, "VmPin:"));
	EXPECT_EQ(0, status_pages(pid, "VmLck:"));
	EXPECT_LEFT();
	close(in[1]);
	ASSERT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_BACK(&self->before);
	self->a->open = false;
	close(sv[0]);
}

/* Another process, which had no part in it, has the files (no socket takes a ring's) */
TEST_F(holder, passed_on)
{
	int sv[2], status, pidfd, *fd[3], i;
	pid_t pid = child_pins(_metadata, self, variant, sv, nothing);

	pidfd = syscall(__NR_pidfd_open, pid, 0);
	ASSERT_LE(0, pidfd);
	for (i = variant->row->ops->fds(self->a, fd); i--; ) {
		*fd[i] = syscall(__NR_pidfd_getfd, pidfd, *fd[i], 0);
		ASSERT_LE(0, *fd[i]);
	}
	EXPECT_EQ(0, chan_put(sv[0], 0));
	ASSERT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_EQ(self->before.vmlck, status_pages(0, "VmLck:"));
	EXPECT_EQ(self->before.vmpin, status_pages(0, "VmPin:"));
	EXPECT_LEFT();
	CLOSE(self->a);
	EXPECT_BACK(&self->before);
	EXPECT_EQ(0, pins_of_the_dead());
	close(pidfd);
	close(sv[0]);
}

/* A child has none of its parent's pins, and its end is not theirs */
TEST_F(holder, forked)
{
	const long n = variant->row->n;
	int status;
	pid_t pid;

	ASSERT_EQ(0, OPEN(self->a));
	EXPECT_EQ(0, PIN(self->a, 0, n));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct pins p;

		if (pins_read(0, &p) || p.nr || p.held ||
		    status_pages(0, "VmPin:") || status_pages(0, "VmLck:"))
			_exit(1);
		_exit(0);
	}
	ASSERT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_PINS(n, n);
	EXPECT_EQ(0, UNPIN(self->a, n));
	EXPECT_BACK(&self->before);
}

/* It pins its own memory for the device of its parent, if it may */
TEST_F(holder, forked_child_pins)
{
	const struct row *row = variant->row;
	const long n = row->n;
	int status;
	pid_t pid;

	if (row->is_its_pin)
		SKIP(return, "a child makes its own");
	ASSERT_EQ(0, OPEN(self->a));
	EXPECT_EQ(0, PIN(self->a, 0, n));
	EXPECT_EQ(0, UNPIN(self->a, n));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		const unsigned int in = counters(variant);
		struct pins p;

		if (PIN(self->a, 0, n) != row->in_child)
			_exit(1);
		if (row->in_child)
			_exit(0);
		if (pins_read(0, &p) || holders(&p, row->name, n) != 1 ||
		    status_pages(0, "VmLck:") != (in & COUNT_LOCKED ? n : 0) ||
		    status_pages(0, "VmPin:") != (in & COUNT_PINNED ? n : 0))
			_exit(2);
		_exit(0);
	}
	ASSERT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	if (!row->in_child) {
		EXPECT_EQ(self->before.vmpin, status_pages(0, "VmPin:"));
		EXPECT_EQ(self->before.vmlck, status_pages(0, "VmLck:"));
		EXPECT_LEFT();
		EXPECT_EQ(0, UNPIN(self->a, n));
	}
	EXPECT_BACK(&self->before);
	EXPECT_EQ(0, PIN(self->a, 0, n));
	EXPECT_PINS(n, n);
}

TEST_HARNESS_MAIN
