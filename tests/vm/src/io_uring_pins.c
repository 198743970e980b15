// SPDX-License-Identifier: GPL-2.0
/*
 * What io_uring pins: registered buffers, rings of provided buffers in memory of
 * user space, and a ring's own queues there. It is named, counted once with what
 * others pin, limited, and given back, whoever goes first.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "test.h"

#define SIZE		(64 * MB)
#define N		((long)(SIZE / PAGE))
#define HUGE_N		512L
#define ENTRIES		64	/* of a ring: its queues take a page each */

#define BUFFERS		"io_uring"
#define RINGS		"io_uring-ring"

/* --- Rings ------------------------------------------------------------------- */

struct ring {
	int fd;
	struct io_uring_params p;
	char *queues;			/* mapped */
	size_t size;
	struct io_uring_sqe *sqes;
};

static void ring_close(struct ring *r)
{
	if (r->queues)
		munmap(r->queues, r->size);
	if (r->sqes)
		munmap(r->sqes, ENTRIES * sizeof(*r->sqes));
	if (r->fd >= 0)
		close(r->fd);
	memset(r, 0, sizeof(*r));
	r->fd = -1;
}

/* A ring whose queues the kernel allocates */
static int ring_open(struct ring *r)
{
	void *map;

	memset(r, 0, sizeof(*r));
	r->fd = syscall(__NR_io_uring_setup, ENTRIES, &r->p);
	if (r->fd < 0)
		return -errno;
	r->size = r->p.cq_off.cqes + r->p.cq_entries * sizeof(struct io_uring_cqe);
	map = mmap(NULL, r->size, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
		   IORING_OFF_SQ_RING);
	if (map != MAP_FAILED)
		r->queues = map;
	map = mmap(NULL, ENTRIES * sizeof(*r->sqes), PROT_READ | PROT_WRITE,
		   MAP_SHARED, r->fd, IORING_OFF_SQES);
	if (map != MAP_FAILED)
		r->sqes = map;
	if (r->queues && r->sqes)
		return 0;
	ring_close(r);
	return -ENOMEM;
}

/* One whose queues are at @mem, two pages */
static int ring_open_at(struct ring *r, char *mem)
{
	memset(r, 0, sizeof(*r));
	r->p.flags = IORING_SETUP_NO_MMAP;
	r->p.cq_off.user_addr = (uintptr_t)mem;
	r->p.sq_off.user_addr = (uintptr_t)(mem + PAGE);
	r->fd = syscall(__NR_io_uring_setup, ENTRIES, &r->p);
	return r->fd < 0 ? -errno : 0;
}

static int ring_register(struct ring *r, unsigned int op, void *arg,
			 unsigned int n)
{
	return syscall(__NR_io_uring_register, r->fd, op, arg, n) < 0 ? -errno :
									0;
}

static int buffer(struct ring *r, void *mem, size_t len)
{
	struct iovec iov = { mem, len };

	return ring_register(r, IORING_REGISTER_BUFFERS, &iov, 1);
}

static int no_buffers(struct ring *r)
{
	return ring_register(r, IORING_UNREGISTER_BUFFERS, NULL, 0);
}

/* Room for @n buffers, and what comes there */
static int slots(struct ring *r, unsigned int n)
{
	struct io_uring_rsrc_register reg = {
		.nr = n,
		.flags = IORING_RSRC_REGISTER_SPARSE,
	};

	return ring_register(r, IORING_REGISTER_BUFFERS2, &reg, sizeof(reg));
}

static int slot(struct ring *r, unsigned int i, void *mem, size_t len)
{
	struct iovec iov = { mem, len };
	struct io_uring_rsrc_update2 up = {
		.offset = i,
		.data = (uintptr_t)&iov,
		.nr = 1,
	};

	return ring_register(r, IORING_REGISTER_BUFFERS_UPDATE, &up, sizeof(up));
}

static int clone(struct ring *to, struct ring *from)
{
	struct io_uring_clone_buffers c = { .src_fd = from->fd };

	return ring_register(to, IORING_REGISTER_CLONE_BUFFERS, &c, 1);
}

/* A ring of provided buffers at @mem, @n pages: a power of 2, at most 128 */
static int provided(struct ring *r, int group, void *mem, long n)
{
	struct io_uring_buf_reg reg = {
		.ring_addr = (uintptr_t)mem,
		.ring_entries = n * PAGE / sizeof(struct io_uring_buf),
		.bgid = group,
	};

	return ring_register(r, IORING_REGISTER_PBUF_RING, &reg, 1);
}

static int not_provided(struct ring *r, int group)
{
	struct io_uring_buf_reg reg = { .bgid = group };

	return ring_register(r, IORING_UNREGISTER_PBUF_RING, &reg, 1);
}

/* One request with buffer 0, and its result */
static int request(struct ring *r, int op, int fd, void *mem, size_t len)
{
	unsigned int *tail = (unsigned int *)(r->queues + r->p.sq_off.tail);
	unsigned int *array = (unsigned int *)(r->queues + r->p.sq_off.array);
	unsigned int *head = (unsigned int *)(r->queues + r->p.cq_off.head);
	struct io_uring_cqe *cqes = (void *)(r->queues + r->p.cq_off.cqes);
	unsigned int at = *tail % ENTRIES;
	int res;

	r->sqes[at] = (struct io_uring_sqe) {
		.opcode = op,
		.fd = fd,
		.addr = (uintptr_t)mem,
		.len = len,
	};
	array[at] = at;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	if (syscall(__NR_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS,
		    NULL, 0) != 1)
		return -errno;
	res = cqes[*head % r->p.cq_entries].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return res;
}

/* --- What is pinned ---------------------------------------------------------- */

enum memory { SMALL, HUGE, HUGETLB_2M, SHARED_MEMFD };

/* 64 MiB, written to, at a multiple of 2 MiB */
static char *memory(enum memory kind)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS, fd = -1;
	size_t reserved;
	void *base;
	char *mem;

	mem = reserve(SIZE, 2 * MB, &base, &reserved);
	if (!mem)
		return NULL;
	if (kind == HUGETLB_2M)
		flags |= MAP_HUGETLB | 21 << MAP_HUGE_SHIFT;
	if (kind == SHARED_MEMFD) {
		flags = MAP_SHARED;
		fd = memfd_create("buffers", MFD_CLOEXEC);
		if (fd < 0 || ftruncate(fd, SIZE))
			return NULL;
	}
	mem = mmap(mem, SIZE, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);
	if (fd >= 0)
		close(fd);
	if (mem == MAP_FAILED)
		return NULL;
	if (kind == SMALL)
		madvise(mem, SIZE, MADV_NOHUGEPAGE);
	if (kind == HUGE)
		madvise(mem, SIZE, MADV_HUGEPAGE);
	memset(mem, 1, SIZE);
	return mem;
}

static int limit_to(long npages)
{
	int ret = set_memlock(npages * PAGE);

	return ret ? ret : cap_drop(CAP_IPC_LOCK);
}

/*
 * The user's counter, which no file shows: the limit that one more page needs. The
 * process is without CAP_IPC_LOCK, and its limit stays.
 */
static long user_pages(void)
{
	long low = 0, high = 2 * N, limit;
	struct rlimit was;
	struct ring r;
	char *page = small_pages(PAGE);

	if (!page || getrlimit(RLIMIT_MEMLOCK, &was) || ring_open(&r))
		return -1;
	while (low < high) {
		limit = (low + high) / 2;
		if (set_memlock((limit + 1) * PAGE)) {
			low = -1;
			break;
		}
		if (!buffer(&r, page, PAGE)) {
			no_buffers(&r);
			high = limit;
		} else {
			low = limit + 1;
		}
	}
	set_memlock(was.rlim_cur);
	ring_close(&r);
	munmap(page, PAGE);
	return low;
}

/* Since @base: all pins, pages held, in VmPin. VmLck and the charge stay */
#define EXPECT_NOW(base, pages, held, pinned)				\
	__expect_now(_metadata, __LINE__, base, pages, held, pinned)

static void __expect_now(struct __test_metadata *_metadata, int line,
			 const struct snap *base, long pages, long held,
			 long pinned)
{
	static struct snap now;

	EXPECT_EQ(0, snap(&now));
	EXPECT_EQ(pages, pins_pages(&now.pins) - pins_pages(&base->pins))
		TH_LOG("pages, line %d", line);
	EXPECT_EQ(held, now.pins.held - base->pins.held)
		TH_LOG("held, line %d", line);
	EXPECT_EQ(pinned, now.vmpin - base->vmpin)
		TH_LOG("VmPin, line %d", line);
	EXPECT_EQ(0, now.vmlck - base->vmlck)
		TH_LOG("VmLck, line %d", line);
	EXPECT_EQ(pages, now.foll - base->foll)
		TH_LOG("nr_foll_pin, line %d", line);
	EXPECT_EQ(held, now.cgroups - base->cgroups)
		TH_LOG("misc.current, line %d", line);
}

/* Pages of the holder that is called @what.N, of process @pid; -1: there is none */
static long pages_of(pid_t pid, const char *what)
{
	static struct pins p;
	size_t len = strlen(what);
	long pages = -1;
	int i;

	if (pins_read(pid, &p))
		return -1;
	for (i = 0; i < p.nr; i++)
		if (!strncmp(p.holder[i].name, what, len) &&
		    p.holder[i].name[len] == '.')
			pages = (pages < 0 ? 0 : pages) + p.holder[i].pages;
	return pages;
}

/* A ring that is closed ends a moment later */
struct want {
	const char *holder;
	long pages;
};

static bool has_pages(void *arg)
{
	struct want *want = arg;

	return pages_of(0, want->holder) == want->pages;
}

/* In the list of the host, pages of holders of processes that have ended */
static long pages_of_the_dead(void)
{
	static struct pins p;
	long pages = 0;
	int i;

	if (pins_read_all(&p))
		return -1;
	for (i = 0; i < p.nr; i++)
		if (!strcmp(p.holder[i].state, "gone"))
			pages += p.holder[i].pages;
	return pages;
}

/* --- The fixture ------------------------------------------------------------- */

FIXTURE(io_uring)
{
	struct ring r;
	struct snap before;
	char *mem;
};

FIXTURE_SETUP(io_uring)
{
	ASSERT_TRUE(pins_supported()) TH_LOG("this kernel has no longterm_pins");
	self->r.fd = -1;
	self->mem = memory(SMALL);
	ASSERT_NE(NULL, self->mem);
	ASSERT_EQ(0, snap(&self->before));
}

FIXTURE_TEARDOWN(io_uring)
{
	ring_close(&self->r);
	EXPECT_BACK(&self->before);
}

/* Three things that a ring pins: the same is expected of each */
FIXTURE(each)
{
	struct ring r;
	struct snap before;
	char *mem;
};

FIXTURE_VARIANT(each)
{
	const char *holder;
	long n;			/* pages */
	int (*hold)(struct ring *r, char *mem, long n);
	bool counted;		/* in VmPin */
};

static int hold_buffer(struct ring *r, char *mem, long n)
{
	int ret = ring_open(r);

	if (!ret)
		ret = buffer(r, mem, n * PAGE);
	return ret;
}

static int hold_provided(struct ring *r, char *mem, long n)
{
	int ret = ring_open(r);

	if (!ret)
		ret = provided(r, 7, mem, n);
	return ret;
}

static int hold_queues(struct ring *r, char *mem, long n)
{
	(void)n;
	return ring_open_at(r, mem);
}

FIXTURE_VARIANT_ADD(each, buffer)
{
	.holder = BUFFERS,
	.n = 100,
	.hold = hold_buffer,
	.counted = true,
};

FIXTURE_VARIANT_ADD(each, provided_ring)
{
	.holder = RINGS,
	.n = 128,
	.hold = hold_provided,
};

FIXTURE_VARIANT_ADD(each, queues)
{
	.holder = RINGS,
	.n = 2,
	.hold = hold_queues,
};

FIXTURE_SETUP(each)
{
	ASSERT_TRUE(pins_supported()) TH_LOG("this kernel has no longterm_pins");
	self->r.fd = -1;
	self->mem = memory(SHARED_MEMFD);
	ASSERT_NE(NULL, self->mem);
	ASSERT_EQ(0, snap(&self->before));
}

FIXTURE_TEARDOWN(each)
{
	ring_close(&self->r);
	EXPECT_BACK(&self->before);
}

static int hold(const FIXTURE_VARIANT(each) *variant, struct ring *r, char *mem)
{
	int ret = variant->hold(r, mem, variant->n);

	if (ret)
		ring_close(r);
	return ret;
}

TEST_F(each, privileged)
{
	long n = variant->n;

	ASSERT_EQ(0, set_memlock(0));
	ASSERT_EQ(0, hold(variant, &self->r, self->mem));
	EXPECT_NOW(&self->before, n, n, variant->counted * n);
	EXPECT_EQ(n, pages_of(0, variant->holder));

	/* It is not counted for the user, who may have one page more */
	ASSERT_EQ(0, limit_to(1));
	EXPECT_EQ(0, user_pages());
}

TEST_F(each, limit)
{
	struct want one = { variant->holder, 0 };
	long n = variant->n;
	struct ring again;
	char *log;

	log_room(1);
	ASSERT_EQ(0, limit_to(n - 1));
	EXPECT_EQ(-ENOMEM, hold(variant, &self->r, self->mem));
	EXPECT_BACK(&self->before);
	log = kernel_log();
	ASSERT_NE(NULL, log);
	EXPECT_TRUE(logged(log, variant->holder, "refused memlock"));
	EXPECT_TRUE(logged(log, variant->holder, "RLIMIT_MEMLOCK"));
	free(log);

	ASSERT_EQ(0, set_memlock(n * PAGE));
	ASSERT_EQ(0, hold(variant, &self->r, self->mem));
	EXPECT_NOW(&self->before, n, n, variant->counted * n);
	EXPECT_EQ(n, pages_of(0, variant->holder));
	EXPECT_EQ(n, user_pages());
	/* The same memory once more takes no room, another page does */
	EXPECT_EQ(0, hold(variant, &again, self->mem));
	EXPECT_NOW(&self->before, 2 * n, n, variant->counted * n);
	EXPECT_EQ(n, user_pages());
	ring_close(&again);
	EXPECT_EQ(-ENOMEM, hold(variant, &again, self->mem + SIZE / 2));
	one.pages = n;
	EXPECT_TRUE(wait_for(has_pages, &one)) TH_LOG("the second ring stays");

	ring_close(&self->r);
	one.pages = -1;
	EXPECT_TRUE(wait_for(has_pages, &one)) TH_LOG("the holder stays");
	EXPECT_BACK(&self->before);
	EXPECT_EQ(0, user_pages());
}

/* A type1 container has the same memory: it is held once */
TEST_F(each, with_a_container)
{
	long n = variant->n;
	struct vfio v;

	NEED_DEVICES(1U);
	ASSERT_EQ(0, vfio_open(&v, 0));
	ASSERT_EQ(0, vfio_map(&v, self->mem, IOVA, n * PAGE, MAP_RW));
	ASSERT_EQ(0, cap_drop(CAP_IPC_LOCK));
	ASSERT_EQ(0, hold(variant, &self->r, self->mem));
	EXPECT_EQ(n, status_pages(0, "VmLck:") - self->before.vmlck);
	EXPECT_EQ(variant->counted * n,
		  status_pages(0, "VmPin:") - self->before.vmpin);
	EXPECT_EQ(n, cgroup_held(cgroup_root()) - self->before.pins.held);
	EXPECT_EQ(0, edu_check(&v.dev[0], self->mem, IOVA, n * PAGE));

	vfio_close(&v);
	EXPECT_NOW(&self->before, n, n, variant->counted * n);
}

/* The cgroup's limit refuses, whoever asks, and nothing is left */
TEST_F(each, cgroup)
{
	long n = variant->n;
	char own[256], home[384], top[128], path[512], text[64], *said;

	said = slurp("/proc/self/cgroup");
	ASSERT_NE(NULL, said);
	ASSERT_EQ(1, sscanf(said, "0::%255s", own));
	free(said);
	snprintf(home, sizeof(home), "%s%s/cgroup.procs", cgroup_root(), own);
	snprintf(top, sizeof(top), "%s/io_uring-%d", cgroup_root(), getpid());
	ASSERT_EQ(0, mkdir(top, 0755));
	snprintf(path, sizeof(path), "%s/cgroup.procs", top);
	ASSERT_EQ(0, write_text(path, "0"));
	snprintf(path, sizeof(path), "%s/misc.max", top);
	snprintf(text, sizeof(text), "longterm_pin %lu", (n - 1) * PAGE);
	ASSERT_EQ(0, write_text(path, text));

	EXPECT_EQ(-EBUSY, hold(variant, &self->r, self->mem));
	EXPECT_BACK(&self->before);
	EXPECT_EQ(0, cgroup_held(top));
	EXPECT_EQ(1, cgroup_value(top, "misc.events.local", "longterm_pin.max"));
	snprintf(text, sizeof(text), "longterm_pin %lu", n * PAGE);
	ASSERT_EQ(0, write_text(path, text));
	EXPECT_EQ(0, hold(variant, &self->r, self->mem));
	EXPECT_EQ(n, cgroup_held(top));

	ring_close(&self->r);
	EXPECT_BACK(&self->before);
	EXPECT_EQ(0, cgroup_held(top));
	EXPECT_EQ(0, write_text(home, "0"));
	EXPECT_EQ(0, remove_cgroup(top));
}

/* A process that ends with a ring, by itself or not */
static void end_of_process(struct __test_metadata *_metadata,
			   FIXTURE_DATA(each) *self,
			   const FIXTURE_VARIANT(each) *variant, int sig)
{
	int sv[2], status;
	pid_t pid;

	ASSERT_EQ(0, chan_pair(sv));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(sv[0]);
		if (limit_to(variant->n) ||
		    hold(variant, &self->r, self->mem))
			_exit(1);
		chan_put(sv[1], 1);
		chan_get(sv[1], NULL);
		_exit(0);
	}
	close(sv[1]);
	ASSERT_EQ(0, chan_get(sv[0], NULL));
	EXPECT_EQ(variant->n, pages_of(pid, variant->holder));
	EXPECT_EQ(variant->counted * variant->n, status_pages(pid, "VmPin:"));
	EXPECT_EQ(0, sig ? kill(pid, sig) : chan_put(sv[0], 1));
	ASSERT_EQ(0, reap(pid, &status));
	EXPECT_EQ(sig, WIFSIGNALED(status) ? WTERMSIG(status) : status);
	EXPECT_BACK(&self->before);
	ASSERT_EQ(0, limit_to(1));
	EXPECT_EQ(0, user_pages());
	close(sv[0]);
}

TEST_F(each, killed)
{
	end_of_process(_metadata, self, variant, SIGKILL);
}

TEST_F(each, exited)
{
	end_of_process(_metadata, self, variant, 0);
}

/* The ring stays with another process, which had no part in it (no socket takes it) */
TEST_F(each, passed_on)
{
	long n = variant->n, fd;
	int sv[2], status;
	pid_t pid;

	ASSERT_EQ(0, chan_pair(sv));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(sv[0]);
		if (hold(variant, &self->r, self->mem) ||
		    chan_put(sv[1], self->r.fd))
			_exit(1);
		chan_get(sv[1], NULL);
		_exit(0);
	}
	close(sv[1]);
	ASSERT_EQ(0, chan_get(sv[0], &fd));
	self->r.fd = syscall(__NR_pidfd_getfd,
			     syscall(__NR_pidfd_open, pid, 0), fd, 0);
	ASSERT_LE(0, self->r.fd);
	EXPECT_EQ(0, chan_put(sv[0], 0));
	ASSERT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_EQ(n, pages_of_the_dead());
	EXPECT_EQ(-1, pages_of(0, variant->holder));
	EXPECT_EQ(n, vmstat("nr_foll_pin_acquired") -
		     vmstat("nr_foll_pin_released") - self->before.foll);
	EXPECT_EQ(self->before.vmpin, status_pages(0, "VmPin:"));
	close(sv[0]);
}

/* Each allocation fails in turn; nothing is left of what had been done before */
TEST_F(each, allocations)
{
	int fd, n, ret, failures = 0;
	bool failed = true;

	if (!failing_supported())
		SKIP(return, "this kernel has no fault injection");
	fd = failing_open();
	ASSERT_LE(0, fd);
	for (n = 1; failed && n < 10000; n++) {
		arm(fd, n);
		ret = hold(variant, &self->r, self->mem);
		failed = disarm(fd);
		failures += !!ret;
		if (!ret)
			EXPECT_EQ(variant->n, pages_of(0, variant->holder));
		ring_close(&self->r);
		EXPECT_BACK(&self->before);
		if (_metadata->exit_code) {
			TH_LOG("failure %d: %s", n, strerror(-ret));
			break;
		}
	}
	EXPECT_FALSE(failed) TH_LOG("no end after %d failures", n);
	EXPECT_LT(5, failures);
	TH_LOG("%d allocations, %d of them mattered", n - 2, failures);
	close(fd);
}

/* --- Buffers ----------------------------------------------------------------- */

static void come_and_go(struct __test_metadata *_metadata,
			FIXTURE_DATA(io_uring) *self, enum memory kind)
{
	bool huge = kind == HUGE || kind == HUGETLB_2M;
	struct snap base;
	char *mem;

	mem = memory(kind);
	ASSERT_NE(NULL, mem);
	EXPECT_EQ(huge, mapped_huge(mem));
	ASSERT_EQ(0, snap(&base));
	ASSERT_EQ(0, limit_to(2 * N));
	ASSERT_EQ(0, ring_open(&self->r));
	ASSERT_EQ(0, slots(&self->r, 3));
	EXPECT_EQ(0, slot(&self->r, 0, mem, SIZE));
	EXPECT_NOW(&base, N, N, N);
	EXPECT_EQ(N, user_pages());

	/* Parts of it again, and parts of pages; both begin within a folio */
	EXPECT_EQ(0, slot(&self->r, 1, mem + PAGE / 2, 3 * MB));
	EXPECT_EQ(0, slot(&self->r, 2, mem + 5 * PAGE, 7));
	EXPECT_NOW(&base, N + 769 + 1, N, N);
	EXPECT_EQ(N + 769 + 1, pages_of(0, BUFFERS));
	EXPECT_EQ(N, user_pages());
	EXPECT_EQ(0, slot(&self->r, 0, NULL, 0));
	EXPECT_NOW(&base, 770, huge ? 2 * HUGE_N : 769, 769);
	EXPECT_EQ(769, user_pages());

	/* They outlive the memory */
	EXPECT_EQ(0, munmap(mem, SIZE));
	EXPECT_EQ(0, slot(&self->r, 1, NULL, 0));
	EXPECT_NOW(&base, 1, huge ? HUGE_N : 1, 1);
	EXPECT_EQ(0, no_buffers(&self->r));
	EXPECT_NOW(&base, 0, 0, 0);
	EXPECT_EQ(0, user_pages());
}

TEST_F(io_uring, small_pages)
{
	come_and_go(_metadata, self, SMALL);
}

TEST_F(io_uring, thp)
{
	come_and_go(_metadata, self, HUGE);
}

TEST_F(io_uring, hugetlb)
{
	come_and_go(_metadata, self, HUGETLB_2M);
}

TEST_F(io_uring, memfd)
{
	come_and_go(_metadata, self, SHARED_MEMFD);
}

/* A page of a huge one is a page: stock counts 512 */
TEST_F(io_uring, page_of_a_huge_page)
{
	char *mem = memory(HUGE);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, limit_to(1));
	ASSERT_EQ(0, ring_open(&self->r));
	EXPECT_EQ(0, buffer(&self->r, mem + 3 * PAGE, PAGE));
	EXPECT_NOW(&self->before, 1, HUGE_N, 1);
	EXPECT_EQ(1, user_pages());
}

TEST_F(io_uring, two_rings)
{
	struct ring second;

	ASSERT_EQ(0, limit_to(N));
	ASSERT_EQ(0, ring_open(&self->r));
	ASSERT_EQ(0, ring_open(&second));
	EXPECT_EQ(0, buffer(&self->r, self->mem, SIZE));
	EXPECT_EQ(0, buffer(&second, self->mem, SIZE));
	EXPECT_EQ(0, provided(&second, 1, self->mem, 16));
	EXPECT_NOW(&self->before, 2 * N + 16, N, N);
	EXPECT_EQ(N, user_pages());
	EXPECT_EQ(2 * N, pages_of(0, BUFFERS));
	EXPECT_EQ(16, pages_of(0, RINGS));
	ring_close(&self->r);
	EXPECT_EQ(0, no_buffers(&second));
	EXPECT_EQ(0, not_provided(&second, 1));
	EXPECT_BACK(&self->before);
	EXPECT_EQ(0, user_pages());
	ring_close(&second);
}

/* A buffer is put with the last ring that has it */
static void cloned(struct __test_metadata *_metadata,
		   FIXTURE_DATA(io_uring) *self, bool first_goes_first)
{
	struct ring second, *first = &self->r;
	char *mem = memory(HUGE);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, limit_to(2 * N));
	ASSERT_EQ(0, ring_open(first));
	ASSERT_EQ(0, ring_open(&second));
	ASSERT_EQ(0, buffer(first, mem + PAGE, SIZE - 3 * PAGE));
	ASSERT_EQ(0, clone(&second, first));
	EXPECT_NOW(&self->before, N - 3, N, N - 3);
	EXPECT_EQ(N - 3, user_pages());

	ring_close(first_goes_first ? first : &second);
	EXPECT_EQ(N - 3, user_pages());
	EXPECT_NOW(&self->before, N - 3, N, N - 3);
	ring_close(first_goes_first ? &second : first);
	EXPECT_BACK(&self->before);
	EXPECT_EQ(0, user_pages());
}

TEST_F(io_uring, clone_goes_last)
{
	cloned(_metadata, self, true);
}

TEST_F(io_uring, clone_goes_first)
{
	cloned(_metadata, self, false);
}

/* A child registers with the ring that it inherited: what it pins is its own */
TEST_F(io_uring, forked_child)
{
	int sv[2], status;
	pid_t pid;

	ASSERT_EQ(0, limit_to(N));
	ASSERT_EQ(0, ring_open(&self->r));
	ASSERT_EQ(0, chan_pair(sv));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(sv[0]);
		if (buffer(&self->r, self->mem, 100 * PAGE) ||
		    provided(&self->r, 0, self->mem + MB, 16))
			_exit(1);
		chan_put(sv[1], 1);
		chan_get(sv[1], NULL);
		_exit(0);
	}
	close(sv[1]);
	ASSERT_EQ(0, chan_get(sv[0], NULL));
	EXPECT_EQ(100, pages_of(pid, BUFFERS));
	EXPECT_EQ(16, pages_of(pid, RINGS));
	EXPECT_EQ(100, status_pages(pid, "VmPin:"));
	EXPECT_EQ(self->before.vmpin, status_pages(0, "VmPin:"));
	EXPECT_EQ(-1, pages_of(0, BUFFERS));
	EXPECT_EQ(116, user_pages());

	/* The ring lives on with its parent */
	EXPECT_EQ(0, chan_put(sv[0], 1));
	ASSERT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_EQ(116, pages_of_the_dead());
	EXPECT_EQ(116, user_pages());
	EXPECT_EQ(0, not_provided(&self->r, 0));
	EXPECT_EQ(0, provided(&self->r, 0, self->mem, 4));
	EXPECT_EQ(0, status_pages(0, "VmPin:") - self->before.vmpin);
	EXPECT_EQ(104, user_pages());
	EXPECT_EQ(0, no_buffers(&self->r));
	EXPECT_EQ(0, pages_of_the_dead());
	EXPECT_EQ(4, user_pages());
	ring_close(&self->r);
	EXPECT_BACK(&self->before);
	EXPECT_EQ(0, user_pages());
	close(sv[0]);
}

/*
 * What exec() starts, with a ring that has pinned memory of the program before.
 * Exit code 0, or the number of the step that failed.
 */
static int after_exec(int fd)
{
	struct ring r = { .fd = fd };
	char *mem = memory(SMALL);

	if (pages_of(0, BUFFERS) != -1 || status_pages(0, "VmPin:"))
		return 10;
	if (pages_of_the_dead() != 64)
		return 11;
	if (!mem || provided(&r, 3, mem, 8))
		return 12;
	if (pages_of(0, RINGS) != 8 || status_pages(0, "VmPin:"))
		return 13;
	if (no_buffers(&r) || buffer(&r, mem + MB, 32 * PAGE))
		return 14;
	if (pages_of(0, BUFFERS) != 32 || pages_of_the_dead() ||
	    status_pages(0, "VmPin:") != 32)
		return 15;
	return 0;
}

TEST_F(io_uring, exec)
{
	char arg[16];
	int status;
	pid_t pid;

	ASSERT_EQ(0, limit_to(N));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (ring_open(&self->r) ||
		    buffer(&self->r, self->mem, 64 * PAGE))
			_exit(1);
		fcntl(self->r.fd, F_SETFD, 0);
		sprintf(arg, "%d", self->r.fd);
		execl("/proc/self/exe", "io_uring_pins", "--after-exec", arg,
		      NULL);
		_exit(2);
	}
	ASSERT_EQ(0, reap(pid, &status));
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
	EXPECT_BACK(&self->before);
	EXPECT_EQ(0, user_pages());
}

/* Pages before one that is not there are given back */
TEST_F(io_uring, hole)
{
	ASSERT_EQ(0, ring_open(&self->r));
	ASSERT_EQ(0, munmap(self->mem + SIZE - 3 * PAGE, PAGE));
	EXPECT_EQ(-EFAULT, buffer(&self->r, self->mem, SIZE));
	EXPECT_BACK(&self->before);
	EXPECT_REFUSED(&self->before, FAULT, 1);
	EXPECT_EQ(0, buffer(&self->r, self->mem, SIZE - 3 * PAGE));
}

/* So are those before a file that must see each write */
TEST_F(io_uring, file_that_tracks_writes)
{
	const char *dir = getenv("USERPIN_EXT4");
	char path[128], *at, *log;
	int fd;

	if (!dir)
		SKIP(return, "no file system on a disk, see USERPIN_EXT4");
	snprintf(path, sizeof(path), "%s/buffer", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	unlink(path);
	ASSERT_EQ(0, ftruncate(fd, MB));
	at = mmap(self->mem + SIZE - MB, MB, PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_FIXED, fd, 0);
	ASSERT_EQ(self->mem + SIZE - MB, at);
	memset(at, 1, MB);
	ASSERT_EQ(0, ring_open(&self->r));
	log_room(1);
	EXPECT_EQ(-EOPNOTSUPP, buffer(&self->r, self->mem, SIZE));
	EXPECT_BACK(&self->before);
	log = kernel_log();
	ASSERT_NE(NULL, log);
	EXPECT_TRUE(logged(log, "refused file: " BUFFERS, "/buffer"));
	EXPECT_TRUE(logged(log, "refused file: " BUFFERS, "ext4"));
	free(log);
	EXPECT_REFUSED(&self->before, FILEMAP, 1);
	EXPECT_EQ(0, buffer(&self->r, self->mem, SIZE - MB));
	EXPECT_EQ(0, no_buffers(&self->r));
	at = mmap(at, MB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd,
		  0);
	ASSERT_EQ(self->mem + SIZE - MB, at);
	EXPECT_EQ(0, buffer(&self->r, self->mem, SIZE));
	close(fd);
}

/* --- What is read and written ------------------------------------------------ */

static int disk_file(const char *name)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", getenv("USERPIN_EXT4") ?: "/tmp",
		 name);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600);
	unlink(path);
	return fd;
}

/*
 * A buffer from @from to @to, in bytes: parts of it are written to a file, and come
 * back elsewhere.
 */
static void data(struct __test_metadata *_metadata,
		 FIXTURE_DATA(io_uring) *self, char *from, char *to)
{
	const size_t len = 2 * MB + 3 * PAGE + 512;
	char *at[] = { from, to - len, from + 512 * 1001 };
	size_t size = to - from, i;
	int fd;

	if (!getenv("USERPIN_EXT4"))
		SKIP(return, "no file system on a disk, see USERPIN_EXT4");
	fd = disk_file("data");
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ring_open(&self->r));
	ASSERT_EQ(0, buffer(&self->r, from, size));
	for (i = 0; i < 3; i++) {
		memset(from, 0, size);
		fill(at[i], len, 40 + i);
		EXPECT_EQ((int)len, request(&self->r, IORING_OP_WRITE_FIXED, fd,
					    at[i], len));
		memset(from, 0, size);
		EXPECT_EQ((int)len, request(&self->r, IORING_OP_READ_FIXED, fd,
					    at[(i + 1) % 3], len));
		EXPECT_TRUE(filled(at[(i + 1) % 3], len, 40 + i))
			TH_LOG("part %zu", i);
	}
	/* What is not in the buffer is refused */
	EXPECT_EQ(-EFAULT, request(&self->r, IORING_OP_READ_FIXED, fd,
				   to - 512, 1024));
	ring_close(&self->r);
	close(fd);
}

TEST_F(io_uring, data_in_small_pages)
{
	data(_metadata, self, self->mem + 512, self->mem + 20 * MB);
}

TEST_F(io_uring, data_in_huge_pages)
{
	char *mem = memory(HUGE);

	ASSERT_NE(NULL, mem);
	data(_metadata, self, mem, mem + 20 * MB);
	data(_metadata, self, mem + 5 * PAGE + 512, mem + 20 * MB + 7 * PAGE);
	data(_metadata, self, mem + 2 * MB - PAGE, mem + 20 * MB + 1024);
}

/* Of several sizes, in any order */
TEST_F(io_uring, data_in_mixed_pages)
{
	char *mem = memory(HUGE);

	ASSERT_NE(NULL, mem);
	ASSERT_NE(MAP_FAILED, mmap(mem + 4 * MB, MB, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
				   0));
	/* A huge page that does not begin where its address would have it */
	ASSERT_NE(MAP_FAILED, mremap(mem + 30 * MB, MB, MB,
				     MREMAP_MAYMOVE | MREMAP_FIXED,
				     mem + 7 * MB));
	data(_metadata, self, mem + PAGE, mem + 20 * MB);
	data(_metadata, self, mem + 4 * MB + PAGE, mem + 20 * MB);
	/* Halves of huge pages, each from its beginning, before whole ones */
	data(_metadata, self, mem + 5 * MB, mem + 20 * MB);
}

/* Buffers that are only written from do not become dirty */
TEST_F(io_uring, written_page_stays_clean)
{
	char *mem = small_pages(PAGE), *other = small_pages(PAGE);
	int fd;

	if (!getenv("USERPIN_EXT4"))
		SKIP(return, "no file system on a disk, see USERPIN_EXT4");
	ASSERT_NE(NULL, mem);
	ASSERT_NE(NULL, other);
	fd = disk_file("clean");
	ASSERT_LE(0, fd);
	fill(mem, PAGE, 53);
	ASSERT_EQ(0, madvise(mem, PAGE, MADV_FREE));
	memset(other, 1, PAGE);
	ASSERT_EQ(0, madvise(other, PAGE, MADV_PAGEOUT));
	ASSERT_EQ(0, ring_open(&self->r));
	ASSERT_EQ(0, buffer(&self->r, mem, PAGE));
	EXPECT_EQ((int)PAGE, request(&self->r, IORING_OP_WRITE_FIXED, fd, mem,
				     PAGE));
	EXPECT_EQ(0, no_buffers(&self->r));
	EXPECT_EQ(0ULL, pfn_flags(pfn_of(mem)) & PF_DIRTY);
	close(fd);
}

/* --- Faults of stock: these run there, too, and fail -------------------------- */

#define LIMIT	(8 * MB)

FIXTURE(stock)
{
	struct ring r;
	long base;
};

FIXTURE_SETUP(stock)
{
	ASSERT_EQ(0, limit_to(LIMIT / PAGE));
	ASSERT_EQ(0, ring_open(&self->r));
	self->base = status_pages(0, "VmPin:");
}

FIXTURE_TEARDOWN(stock)
{
	ring_close(&self->r);
}

TEST_F(stock, rings_of_provided_buffers)
{
	char *mem = memory(SMALL);
	long n = 0;
	int ret;

	ASSERT_NE(NULL, mem);
	/* 128 groups of 512 KiB; there may be 65,536 */
	do
		ret = provided(&self->r, n, mem + n * 128 * PAGE, 128);
	while (!ret && ++n < 128);
	TH_LOG("%ld KiB in rings, VmPin %ld KiB, limit %ld KiB",
	       n * 512, (status_pages(0, "VmPin:") - self->base) * 4,
	       LIMIT / KB);
	EXPECT_EQ(-ENOMEM, ret);
	EXPECT_EQ((long)(LIMIT / (512 * KB)), n);
}

TEST_F(stock, queues_in_user_memory)
{
	const struct rlimit files = { 4096, 4096 };
	char *mem = memory(SMALL);
	struct ring r[2100];
	int n = 0, ret;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &files));
	do
		ret = ring_open_at(&r[n], mem + n * 2 * PAGE);
	while (!ret && ++n < 2100);
	TH_LOG("%d rings of 8 KiB, VmPin %ld KiB, limit %ld KiB", n,
	       (status_pages(0, "VmPin:") - self->base) * 4, LIMIT / KB);
	EXPECT_EQ(-ENOMEM, ret);
	EXPECT_EQ((int)(LIMIT / (2 * PAGE)), n);
	while (n--)
		close(r[n].fd);
}

/*
 * A huge page was counted with the first buffer that has it, and no more when that
 * went. So the first slot lets each come in, another slot keeps it uncounted, and
 * the first has room for the next.
 */
TEST_F(stock, huge_pages_in_turn)
{
	char *mem = memory(HUGE), *at;
	int ret = 0;
	long n;

	ASSERT_NE(NULL, mem);
	ASSERT_TRUE(mapped_huge(mem));
	ASSERT_EQ(0, slots(&self->r, 33));
	for (n = 0; !ret && n < 32; n += !ret) {
		at = mem + n * 2 * MB;
		ret = slot(&self->r, 0, at, 2 * MB);
		if (!ret)
			ret = slot(&self->r, n + 1, at, 2 * MB);
	}
	TH_LOG("%ld KiB of huge pages, VmPin %ld KiB, limit %ld KiB", n * 2048,
	       (status_pages(0, "VmPin:") - self->base) * 4, LIMIT / KB);
	EXPECT_EQ(-ENOMEM, ret);
	EXPECT_GE((long)(LIMIT / (2 * MB)), n);
	EXPECT_LT(0, n);
}

static long count_lines(const char *path, const char *word)
{
	char *text = slurp(path), *at = text;
	long n = 0;

	for (; at && (at = strstr(at, word)); at += strlen(word))
		n++;
	free(text);
	return n;
}

/* The kernel maps each, and never unmaps it */
TEST_F(stock, provided_rings_leave_no_mapping)
{
	char *mem = memory(SMALL);
	long n;
	int i;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, provided(&self->r, 0, mem, 8));
	n = count_lines("/proc/vmallocinfo", "pbuf_ring");
	EXPECT_LE(1, n);
	for (i = 0; i < 10; i++) {
		EXPECT_EQ(0, not_provided(&self->r, 0));
		EXPECT_EQ(0, provided(&self->r, 0, mem, 8));
	}
	EXPECT_EQ(n, count_lines("/proc/vmallocinfo", "pbuf_ring"));
}

/*
 * Memory that the process gave up but has not lost yet (MADV_FREE) is clean. The CPU
 * does not see what a request reads there: without the mark that comes with the put,
 * reclaim drops the page instead of swapping it out.
 */
TEST_F(stock, read_page_survives_reclaim)
{
	char *mem = small_pages(PAGE), *other = small_pages(PAGE);
	uint64_t pfn;
	int fd;

	if (!getenv("USERPIN_EXT4"))
		SKIP(return, "no file system on a disk, see USERPIN_EXT4");
	ASSERT_NE(NULL, mem);
	ASSERT_NE(NULL, other);
	fd = disk_file("survives");
	ASSERT_LE(0, fd);
	fill(other, PAGE, 51);
	ASSERT_EQ((ssize_t)PAGE, pwrite(fd, other, PAGE, 0));
	fill(mem, PAGE, 52);
	ASSERT_EQ(0, madvise(mem, PAGE, MADV_FREE));
	/* Pages wait for their list in batches; this sees to them */
	ASSERT_EQ(0, madvise(other, PAGE, MADV_PAGEOUT));
	pfn = pfn_of(mem);
	EXPECT_EQ(0ULL, pfn_flags(pfn) & PF_DIRTY);

	ASSERT_EQ(0, buffer(&self->r, mem, PAGE));
	EXPECT_EQ((int)PAGE, request(&self->r, IORING_OP_READ_FIXED, fd, mem,
				     PAGE));
	EXPECT_EQ(pfn, pfn_of(mem));
	EXPECT_EQ(0, no_buffers(&self->r));
	EXPECT_TRUE(wait_for(reclaimed, mem)) TH_LOG("it was not reclaimed");
	EXPECT_TRUE(filled(mem, PAGE, 51));
	close(fd);
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "--after-exec"))
		return after_exec(atoi(argv[2]));
	return test_harness_run(argc, argv);
}
