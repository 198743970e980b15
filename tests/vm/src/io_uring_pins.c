// SPDX-License-Identifier: GPL-2.0
/*
 * Pins of io_uring: registered buffers in memory of each kind, buffers that rings share,
 * rings that other processes get, data that is read and written, and faults of stock.
 * holders.c has the cases that any holder has.
 *
 * io_uring_pins --stock -f stock
 *
 * On stock 6.12, the fixture stock must see what docs/behaviour.md says of it.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/memfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "io_uring_lib.h"
#include "test.h"

#define SIZE		(64 * MB)
#define N		((long)(SIZE / PAGE))
#define HUGE_N		512L

#define BUFFERS		"io_uring"
#define RINGS		"io_uring-ring"

/* --- What is pinned ---------------------------------------------------------- */

/* 64 MiB, written to, at a multiple of 2 MiB */
static char *memory(enum kind kind)
{
	char *mem = untouched(kind, SIZE);

	if (mem)
		memset(mem, 1, SIZE);
	return mem;
}

static int limit_to(long npages)
{
	int ret = set_memlock(npages * PAGE);

	return ret ? ret : cap_drop(CAP_IPC_LOCK);
}

/* Of buffers, since @base */
#define EXPECT_NOW(base, pages, held, distinct)				\
	EXPECT_COUNTS(base, COUNT_USER | COUNT_PINNED, pages, distinct, held)

#define EXPECT_USER(pages)	EXPECT_TRUE(user_has(0, pages))

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

/* --- The fixture ------------------------------------------------------------- */

FIXTURE(io_uring)
{
	struct ring r;
	struct snap before;
	char *mem;
};

FIXTURE_SETUP(io_uring)
{
	NEED_PINS();
	self->r.fd = -1;
	self->mem = memory(ANON);
	ASSERT_NE(NULL, self->mem);
	ASSERT_EQ(0, snap(&self->before));
}

FIXTURE_TEARDOWN(io_uring)
{
	ring_close(&self->r);
	EXPECT_BACK(&self->before);
}

/* --- Buffers ----------------------------------------------------------------- */

static void come_and_go(struct __test_metadata *_metadata,
			FIXTURE_DATA(io_uring) *self, enum kind kind)
{
	bool huge = kind == THP || kind == HUGETLB;
	struct snap base;
	char *mem;

	mem = memory(kind);
	ASSERT_NE(NULL, mem);
	EXPECT_EQ(huge, mapped_huge(mem));
	ASSERT_EQ(0, snap(&base));
	ASSERT_EQ(0, limit_to(2 * N));
	ASSERT_EQ(0, ring_open(&self->r));
	ASSERT_EQ(0, ring_slots(&self->r, 3));
	EXPECT_EQ(0, ring_slot(&self->r, 0, mem, SIZE));
	EXPECT_NOW(&base, N, N, N);
	EXPECT_USER(N);

	/* Parts of it again, and parts of pages; both begin within a folio */
	EXPECT_EQ(0, ring_slot(&self->r, 1, mem + PAGE / 2, 3 * MB));
	EXPECT_EQ(0, ring_slot(&self->r, 2, mem + 5 * PAGE, 7));
	EXPECT_NOW(&base, N + 769 + 1, N, N);
	EXPECT_EQ(N + 769 + 1, pages_of(0, BUFFERS));
	EXPECT_USER(N);
	EXPECT_EQ(0, ring_slot(&self->r, 0, NULL, 0));
	EXPECT_NOW(&base, 770, huge ? 2 * HUGE_N : 769, 769);
	EXPECT_USER(769);

	/* They outlive the memory */
	EXPECT_EQ(0, munmap(mem, SIZE));
	EXPECT_EQ(0, ring_slot(&self->r, 1, NULL, 0));
	EXPECT_NOW(&base, 1, huge ? HUGE_N : 1, 1);
	EXPECT_EQ(0, ring_no_buffers(&self->r));
	EXPECT_NOW(&base, 0, 0, 0);
	EXPECT_USER(0);
}

TEST_F(io_uring, small_pages)
{
	come_and_go(_metadata, self, ANON);
}

TEST_F(io_uring, thp)
{
	come_and_go(_metadata, self, THP);
}

TEST_F(io_uring, hugetlb)
{
	come_and_go(_metadata, self, HUGETLB);
}

TEST_F(io_uring, memfd)
{
	come_and_go(_metadata, self, MEMFD);
}

/* A page of a huge one is a page: stock counts 512 */
TEST_F(io_uring, page_of_a_huge_page)
{
	char *mem = memory(THP);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, limit_to(1));
	ASSERT_EQ(0, ring_open(&self->r));
	EXPECT_EQ(0, ring_buffer(&self->r, mem + 3 * PAGE, PAGE));
	EXPECT_NOW(&self->before, 1, HUGE_N, 1);
	EXPECT_USER(1);
}

/* A buffer of one, provided buffers of the other: no page counts twice */
TEST_F(io_uring, two_rings)
{
	struct ring second;

	ASSERT_EQ(0, limit_to(N));
	ASSERT_EQ(0, ring_open(&self->r));
	ASSERT_EQ(0, ring_open(&second));
	EXPECT_EQ(0, ring_buffer(&self->r, self->mem, SIZE));
	EXPECT_EQ(0, ring_provided(&second, 1, self->mem, 16));
	EXPECT_NOW(&self->before, N + 16, N, N);
	EXPECT_USER(N);
	EXPECT_EQ(N, pages_of(0, BUFFERS));
	EXPECT_EQ(16, pages_of(0, RINGS));
	EXPECT_EQ(0, ring_no_buffers(&self->r));
	EXPECT_USER(16);
	EXPECT_EQ(0, ring_not_provided(&second, 1));
	EXPECT_BACK(&self->before);
	EXPECT_USER(0);
	ring_close(&second);
}

/* A buffer is put with the last ring that has it */
static void cloned(struct __test_metadata *_metadata,
		   FIXTURE_DATA(io_uring) *self, bool first_goes_first)
{
	struct ring second, *first = &self->r;
	char *mem = memory(THP);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, limit_to(2 * N));
	ASSERT_EQ(0, ring_open(first));
	ASSERT_EQ(0, ring_open(&second));
	ASSERT_EQ(0, ring_buffer(first, mem + PAGE, SIZE - 3 * PAGE));
	ASSERT_EQ(0, ring_clone(&second, first));
	EXPECT_NOW(&self->before, N - 3, N, N - 3);
	EXPECT_USER(N - 3);

	ring_close(first_goes_first ? first : &second);
	EXPECT_USER(N - 3);
	EXPECT_NOW(&self->before, N - 3, N, N - 3);
	ring_close(first_goes_first ? &second : first);
	EXPECT_BACK(&self->before);
	EXPECT_USER(0);
}

TEST_F(io_uring, clone_goes_last)
{
	cloned(_metadata, self, true);
}

TEST_F(io_uring, clone_goes_first)
{
	cloned(_metadata, self, false);
}

/*
 * The process has changed its user, and the first one has a buffer yet. What the second
 * one registers of a huge page counts once for him, also if a ring has a part of it that
 * was cloned, as on stock.
 */
TEST_F(io_uring, second_user)
{
	const uid_t user = 12345;
	char *mem = memory(THP);
	struct ring second, third;

	ASSERT_NE(NULL, mem);
	ASSERT_TRUE(mapped_huge(mem));
	ASSERT_EQ(0, limit_to(2 * N));
	ASSERT_EQ(0, ring_open(&self->r));
	EXPECT_EQ(0, ring_buffer(&self->r, self->mem, 16 * PAGE));
	ASSERT_EQ(0, setresuid(user, 0, 0));
	ASSERT_EQ(0, cap_drop(CAP_IPC_LOCK));
	ASSERT_EQ(0, ring_open(&second));
	ASSERT_EQ(0, ring_slots(&second, 3));
	EXPECT_EQ(0, ring_slot(&second, 0, mem, 2 * MB));
	EXPECT_EQ(0, ring_slot(&second, 1, mem, 2 * MB));
	EXPECT_TRUE(user_has(user, HUGE_N));
	EXPECT_TRUE(user_has(0, 16));
	EXPECT_EQ(0, ring_slot(&second, 2, mem + 2 * MB - PAGE, 2 * PAGE));
	EXPECT_TRUE(user_has(user, HUGE_N + 1));

	EXPECT_EQ(0, ring_slot(&second, 0, NULL, 0));
	EXPECT_TRUE(user_has(user, HUGE_N + 1));
	EXPECT_EQ(0, ring_slot(&second, 1, NULL, 0));
	EXPECT_TRUE(user_has(user, 2));

	ASSERT_EQ(0, ring_open(&third));
	ASSERT_EQ(0, ring_clone(&third, &second));
	EXPECT_TRUE(user_has(user, 2));
	EXPECT_EQ(0, ring_slot(&third, 0, mem, 2 * MB));
	EXPECT_TRUE(user_has(user, HUGE_N + 1));
	EXPECT_EQ(0, ring_slot(&second, 0, mem, 2 * MB));
	EXPECT_TRUE(user_has(user, HUGE_N + 1));

	/* The clone stays, and what the third one has registered */
	EXPECT_EQ(0, ring_no_buffers(&second));
	EXPECT_TRUE(user_has(user, HUGE_N + 1));
	ring_close(&second);
	EXPECT_EQ(0, ring_slot(&third, 0, NULL, 0));
	EXPECT_TRUE(user_has(user, 2));
	EXPECT_EQ(0, ring_no_buffers(&third));
	EXPECT_TRUE(user_has(user, 0));
	ring_close(&third);
	EXPECT_TRUE(user_has(0, 16));
	ASSERT_EQ(0, setresuid(0, 0, 0));
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
		if (ring_buffer(&self->r, self->mem, 100 * PAGE) ||
		    ring_provided(&self->r, 0, self->mem + MB, 16))
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
	EXPECT_USER(116);

	/* The ring lives on with its parent */
	EXPECT_EQ(0, chan_put(sv[0], 1));
	ASSERT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_EQ(116, pins_of_the_dead());
	EXPECT_USER(116);
	EXPECT_EQ(0, ring_not_provided(&self->r, 0));
	EXPECT_EQ(0, ring_provided(&self->r, 0, self->mem, 4));
	EXPECT_EQ(0, status_pages(0, "VmPin:") - self->before.vmpin);
	EXPECT_USER(104);
	EXPECT_EQ(0, ring_no_buffers(&self->r));
	EXPECT_EQ(0, pins_of_the_dead());
	EXPECT_USER(4);
	ring_close(&self->r);
	EXPECT_BACK(&self->before);
	EXPECT_USER(0);
	close(sv[0]);
}

static bool has_no_line(void *pid)
{
	return !holders_of(*(pid_t *)pid);
}

/*
 * Who got a ring has a line while it has pins, and what it is refused is in the totals.
 * Who had the ring first keeps the line until the ring goes.
 */
TEST_F(io_uring, lines_of_a_ring_that_is_passed_on)
{
	int sv[2], pidfd, status;
	long fd, ever;
	pid_t pid;

	ASSERT_EQ(0, limit_to(16));
	ASSERT_EQ(0, chan_pair(sv));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (ring_open(&self->r) || ring_slots(&self->r, 2) ||
		    ring_slot(&self->r, 0, self->mem, PAGE))
			_exit(1);
		chan_put(sv[1], self->r.fd);
		chan_get(sv[1], NULL);
		_exit(0);
	}
	close(sv[1]);
	ASSERT_EQ(0, chan_get(sv[0], &fd));
	/* Sockets do not pass rings */
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	ASSERT_LE(0, pidfd);
	self->r.fd = syscall(SYS_pidfd_getfd, pidfd, (int)fd, 0);
	close(pidfd);
	ASSERT_LE(0, self->r.fd);
	ever = pins_refused_ever(MEMLOCK);
	EXPECT_EQ(-ENOMEM, ring_slot(&self->r, 1, self->mem, 16 * PAGE));
	EXPECT_EQ(0, holders_of(getpid()));
	EXPECT_EQ(ever + 1, pins_refused_ever(MEMLOCK));
	EXPECT_EQ(0, ring_slot(&self->r, 1, self->mem, 15 * PAGE));
	EXPECT_EQ(1, holders_of(getpid()));
	EXPECT_EQ(15, pages_of(0, BUFFERS));
	EXPECT_EQ(0, ring_slot(&self->r, 1, NULL, 0));
	EXPECT_EQ(0, holders_of(getpid()));

	EXPECT_EQ(0, chan_put(sv[0], 1));
	ASSERT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_EQ(1, pins_of_the_dead());
	EXPECT_EQ(0, ring_slot(&self->r, 0, NULL, 0));
	EXPECT_EQ(0, pins_of_the_dead());
	EXPECT_EQ(1, holders_of(pid));
	ring_close(&self->r);
	EXPECT_TRUE(wait_for(has_no_line, &pid));
	close(sv[0]);
}

/*
 * What exec() starts, with a ring that has pinned memory of the program before.
 * Exit code 0, or the number of the step that failed.
 */
static int after_exec(int fd)
{
	struct ring r = { .fd = fd };
	char *mem = memory(ANON);

	if (pages_of(0, BUFFERS) != -1 || status_pages(0, "VmPin:"))
		return 10;
	if (pins_of_the_dead() != 64)
		return 11;
	if (!mem || ring_provided(&r, 3, mem, 8))
		return 12;
	if (pages_of(0, RINGS) != 8 || status_pages(0, "VmPin:"))
		return 13;
	if (ring_no_buffers(&r) || ring_buffer(&r, mem + MB, 32 * PAGE))
		return 14;
	if (pages_of(0, BUFFERS) != 32 || pins_of_the_dead() ||
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
		    ring_buffer(&self->r, self->mem, 64 * PAGE))
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
	EXPECT_USER(0);
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
	ASSERT_EQ(0, ring_buffer(&self->r, from, size));
	for (i = 0; i < 3; i++) {
		memset(from, 0, size);
		fill(at[i], len, 40 + i);
		EXPECT_EQ((int)len, ring_request(&self->r, IORING_OP_WRITE_FIXED,
						 fd, at[i], len));
		memset(from, 0, size);
		EXPECT_EQ((int)len, ring_request(&self->r, IORING_OP_READ_FIXED,
						 fd, at[(i + 1) % 3], len));
		EXPECT_TRUE(filled(at[(i + 1) % 3], len, 40 + i))
			TH_LOG("part %zu", i);
	}
	/* What is not in the buffer is refused */
	EXPECT_EQ(-EFAULT, ring_request(&self->r, IORING_OP_READ_FIXED, fd,
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
	char *mem = memory(THP);

	ASSERT_NE(NULL, mem);
	data(_metadata, self, mem, mem + 20 * MB);
	data(_metadata, self, mem + 5 * PAGE + 512, mem + 20 * MB + 7 * PAGE);
	data(_metadata, self, mem + 2 * MB - PAGE, mem + 20 * MB + 1024);
}

/* Of several sizes, in any order */
TEST_F(io_uring, data_in_mixed_pages)
{
	char *mem = memory(THP);

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
	ASSERT_EQ(0, ring_buffer(&self->r, mem, PAGE));
	EXPECT_EQ((int)PAGE, ring_request(&self->r, IORING_OP_WRITE_FIXED, fd,
					  mem, PAGE));
	EXPECT_EQ(0, ring_no_buffers(&self->r));
	EXPECT_EQ(0ULL, pfn_flags(pfn_of(mem)) & PF_DIRTY);
	close(fd);
}

/* --- Faults of stock: there they must be seen, too ---------------------------- */

#define LIMIT	(8 * MB)

/* VmPin of this process, since the test began */
#define PINNED	(status_pages(0, "VmPin:") - self->base)

FIXTURE(stock)
{
	struct ring r;
	long base;
};

static bool user_has_nothing(void *arg)
{
	(void)arg;
	return user_has(0, 0);
}

FIXTURE_SETUP(stock)
{
	NEED_PINS();
	/* A ring goes some time after its last descriptor: those of the case before */
	ASSERT_TRUE(wait_for(user_has_nothing, NULL));
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
	char *mem = memory(ANON);
	long n = 0;
	int ret;

	ASSERT_NE(NULL, mem);
	/* 128 groups of 512 KiB; there may be 65,536 */
	do
		ret = ring_provided(&self->r, n, mem + n * 128 * PAGE, 128);
	while (!ret && ++n < 128);
	TH_LOG("%ld KiB in rings, VmPin %ld KiB, limit %ld KiB",
	       n * 512, PINNED * 4, LIMIT / KB);
	EXPECT_HERE_OR_STOCK(-ENOMEM, 0, ret);
	EXPECT_HERE_OR_STOCK((long)(LIMIT / (512 * KB)), 128, n);
	EXPECT_EQ(0, PINNED);
}

TEST_F(stock, queues_in_user_memory)
{
	const struct rlimit files = { 4096, 4096 };
	char *mem = memory(ANON);
	struct ring r[2100];
	int n = 0, ret;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &files));
	do
		ret = ring_open_at(&r[n], mem + n * 2 * PAGE);
	while (!ret && ++n < 2100);
	TH_LOG("%d rings of 8 KiB, VmPin %ld KiB, limit %ld KiB", n,
	       PINNED * 4, LIMIT / KB);
	EXPECT_HERE_OR_STOCK(-ENOMEM, 0, ret);
	EXPECT_HERE_OR_STOCK((int)(LIMIT / (2 * PAGE)), 2100, n);
	EXPECT_EQ(0, PINNED);
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
	char *mem = memory(THP), *at;
	int ret = 0;
	long n;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, ring_slots(&self->r, 33));
	for (n = 0; !ret && n < 32; n += !ret) {
		at = mem + n * 2 * MB;
		ASSERT_TRUE(mapped_huge(at));
		ret = ring_slot(&self->r, 0, at, 2 * MB);
		if (!ret)
			ret = ring_slot(&self->r, n + 1, at, 2 * MB);
	}
	TH_LOG("%ld KiB of huge pages, VmPin %ld KiB, limit %ld KiB", n * 2048,
	       PINNED * 4, LIMIT / KB);
	EXPECT_HERE_OR_STOCK(-ENOMEM, 0, ret);
	EXPECT_HERE_OR_STOCK((long)(LIMIT / (2 * MB)), 32, n);
	EXPECT_HERE_OR_STOCK((long)(LIMIT / PAGE), HUGE_N, PINNED);
}

/* The huge page of a memfd; NULL on failure */
static char *huge_page(int fd)
{
	char *mem = mmap(NULL, 2 * MB, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			 0);

	return mem == MAP_FAILED ? NULL : mem;
}

/* With another process's ring; it says what came of it on @sv, and waits */
static void register_and_wait(int ring, int slot, int fd, int sv)
{
	struct ring r = { .fd = ring };
	char *mem = huge_page(fd);

	chan_put(sv, mem ? ring_slot(&r, slot, mem, 2 * MB) : -EIO);
	chan_get(sv, NULL);
}

/*
 * A ring is passed on by fork and exec, and each registers a huge page that they share.
 * Here each has a ledger of its own, so the page counts for each. On stock it counts
 * once, for the maker of the ring, and no more when the first buffer goes.
 */
TEST_F(stock, huge_page_of_several_processes)
{
	int fd = memfd_create("huge", MFD_HUGETLB | MFD_HUGE_2MB), sv[2], status;
	char *mem, arg[3][16];
	long ret;
	pid_t pid;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, 2 * MB));
	mem = huge_page(fd);
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, chan_pair(sv));
	ASSERT_EQ(0, set_memlock(HUGE_N * PAGE));
	ASSERT_EQ(0, ring_slots(&self->r, 3));
	ASSERT_EQ(0, ring_slot(&self->r, 0, mem, 2 * MB));

	/* The limit has room for one */
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		register_and_wait(self->r.fd, 1, fd, sv[1]);
		set_memlock(LIMIT);
		register_and_wait(self->r.fd, 1, fd, sv[1]);
		fcntl(self->r.fd, F_SETFD, 0);
		fcntl(sv[1], F_SETFD, 0);
		sprintf(arg[0], "%d", self->r.fd);
		sprintf(arg[1], "%d", fd);
		sprintf(arg[2], "%d", sv[1]);
		execl("/proc/self/exe", "io_uring_pins", "--register", arg[0],
		      arg[1], arg[2], NULL);
		_exit(1);
	}
	close(sv[1]);
	ASSERT_EQ(0, chan_get(sv[0], &ret));
	EXPECT_HERE_OR_STOCK(-ENOMEM, 0, ret);
	EXPECT_EQ(0, chan_put(sv[0], 1));
	ASSERT_EQ(0, chan_get(sv[0], &ret));
	EXPECT_EQ(0, ret);
	EXPECT_TRUE(user_has(0, on_stock ? HUGE_N : 2 * HUGE_N));
	EXPECT_EQ(HUGE_N, PINNED);
	EXPECT_HERE_OR_STOCK(HUGE_N, 0, status_pages(pid, "VmPin:"));

	/* And once more, in the program that it executes */
	EXPECT_EQ(0, chan_put(sv[0], 1));
	ASSERT_EQ(0, chan_get(sv[0], &ret));
	EXPECT_EQ(0, ret);
	EXPECT_TRUE(user_has(0, on_stock ? HUGE_N : 3 * HUGE_N));
	EXPECT_HERE_OR_STOCK(HUGE_N, 0, status_pages(pid, "VmPin:"));

	/* The first buffer goes, and the others have the page yet */
	EXPECT_EQ(0, ring_slot(&self->r, 0, NULL, 0));
	EXPECT_TRUE(user_has(0, on_stock ? 0 : 2 * HUGE_N));
	EXPECT_EQ(0, PINNED);
	EXPECT_HERE_OR_STOCK(HUGE_N, 0, status_pages(pid, "VmPin:"));
	EXPECT_EQ(0, chan_put(sv[0], 1));
	ASSERT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, ring_no_buffers(&self->r));
	EXPECT_TRUE(user_has(0, 0));
	close(sv[0]);
	close(fd);
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
	const int more = 10;
	char *mem = memory(ANON);
	long n;
	int i;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, ring_provided(&self->r, 0, mem, 8));
	n = count_lines("/proc/vmallocinfo", "pbuf_ring");
	EXPECT_LE(1, n);
	for (i = 0; i < more; i++) {
		EXPECT_EQ(0, ring_not_provided(&self->r, 0));
		EXPECT_EQ(0, ring_provided(&self->r, 0, mem, 8));
	}
	EXPECT_HERE_OR_STOCK(n, n + more,
			     count_lines("/proc/vmallocinfo", "pbuf_ring"));
}

/*
 * Memory that the process gave up but has not lost yet (MADV_FREE) is clean. The CPU
 * does not see what a request reads there: without the mark that comes with the put,
 * reclaim drops the page instead of swapping it out.
 */
TEST_F(stock, read_page_survives_reclaim)
{
	char *mem = small_pages(PAGE), *other = small_pages(PAGE);
	static const char zeroes[PAGE];
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

	ASSERT_EQ(0, ring_buffer(&self->r, mem, PAGE));
	EXPECT_EQ((int)PAGE, ring_request(&self->r, IORING_OP_READ_FIXED, fd,
					  mem, PAGE));
	EXPECT_EQ(pfn, pfn_of(mem));
	EXPECT_EQ(0, ring_no_buffers(&self->r));
	EXPECT_TRUE(wait_for(reclaimed, mem)) TH_LOG("it was not reclaimed");
	EXPECT_HERE_OR_STOCK(true, false, filled(mem, PAGE, 51));
	EXPECT_HERE_OR_STOCK(false, true, !memcmp(mem, zeroes, PAGE));
	close(fd);
}

int main(int argc, char **argv)
{
	if (argc == 5 && !strcmp(argv[1], "--register")) {
		register_and_wait(atoi(argv[2]), 2, atoi(argv[3]),
				  atoi(argv[4]));
		return 0;
	}
	stock_option(&argc, argv);
	if (argc == 3 && !strcmp(argv[1], "--after-exec"))
		return after_exec(atoi(argv[2]));
	return test_harness_run(argc, argv);
}
