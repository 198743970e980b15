// SPDX-License-Identifier: GPL-2.0
/*
 * Pinned pages stay where they are, whatever the kernel does to others: each
 * test first shows that it does move, split or merge memory that is not pinned.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/klog.h>
#include <sys/ioctl.h>

#include "../modules/mm_hold.h"
#include "test.h"

#define MEMORY	"/sys/devices/system/memory"

#define N	64UL
#define SIZE	(N * PAGE)

FIXTURE(holds)
{
	struct vfio v;
	struct snap before, base;
};

FIXTURE_SETUP(holds)
{
	NEED_DEVICES(1U);
	ASSERT_EQ(0, snap(&self->before));
	ASSERT_EQ(0, vfio_open(&self->v, 0));
	ASSERT_EQ(0, snap(&self->base));
}

FIXTURE_TEARDOWN(holds)
{
	vfio_close(&self->v);
	EXPECT_BACK(&self->before);
}

static void note_pfns(const char *mem, size_t n, uint64_t *pfn)
{
	size_t i;

	for (i = 0; i < n; i++)
		pfn[i] = pfn_of(mem + i * PAGE);
}

/* How many of the pages are elsewhere now */
static size_t moved(const char *mem, size_t n, const uint64_t *pfn)
{
	size_t i, count = 0;

	for (i = 0; i < n; i++)
		count += pfn_of(mem + i * PAGE) != pfn[i];
	return count;
}

/* --- Compaction ------------------------------------------------------------- */

TEST_F(holds, compaction)
{
	/* one page in 16 is pinned, every other one is given away */
	const size_t n = 64 * MB / PAGE, stride = 16;
	char *mem = anon_pages(n * PAGE);
	uint64_t *pfn = calloc(n, sizeof(*pfn));
	long before, after;
	size_t i;
	int try;

	ASSERT_NE(NULL, mem);
	ASSERT_NE(NULL, pfn);
	for (i = 0; i < n; i += stride) {
		ASSERT_EQ(0, vfio_map(&self->v, mem + i * PAGE,
				      IOVA + i * PAGE, PAGE, MAP_RW));
	}
	note_pfns(mem, n, pfn);
	for (i = 1; i < n; i += 2)
		madvise(mem + i * PAGE, PAGE, MADV_DONTNEED);
	before = vmstat("pgmigrate_success");
	for (try = 0; try < 3; try++) {
		ASSERT_EQ(0, write_text("/proc/sys/vm/compact_memory", "1"));
	}
	after = vmstat("pgmigrate_success");
	EXPECT_GT(after, before)
		TH_LOG("compaction moved nothing, so this shows nothing");
	for (i = 0; i < n; i += stride) {
		EXPECT_EQ(pfn[i], pfn_of(mem + i * PAGE));
	}
	EXPECT_EQ(0, edu_check(&self->v.dev[0], mem, IOVA, PAGE));
	EXPECT_EQ(0, edu_check(&self->v.dev[0], mem + (n - stride) * PAGE,
			       IOVA + (n - stride) * PAGE, PAGE));
	EXPECT_EQ((long)(n / stride * PAGE), vfio_unmap_all(&self->v));
	EXPECT_BACK(&self->base);
	free(pfn);
}

/* --- Migration -------------------------------------------------------------- */

static void migrate(struct __test_metadata *_metadata,
		    FIXTURE_DATA(holds) *self, const char *name)
{
	const struct backing *b = backing_find(name);
	size_t n, step;
	uint64_t *pfn;
	struct area a;
	int node, to;

	if (!file_exists("/sys/devices/system/node/node1"))
		SKIP(return, "this machine has one NUMA node");
	ASSERT_NE(NULL, b);
	if (area_open(b, &a, NULL, NULL))
		SKIP(return, "%s", a.why);
	step = a.folio;
	n = a.size / step;
	ASSERT_GE(N, n);
	pfn = calloc(a.size / PAGE, sizeof(*pfn));
	ASSERT_NE(NULL, pfn);

	/* Back and forth: to where it was not, so that it is where we want it */
	node = node_of(a.addr);
	ASSERT_LE(0, node);
	to = node ? 0 : 1;
	EXPECT_EQ((long)n, move_to(a.addr, n, step, to))
		TH_LOG("memory that is not pinned does not move either");

	ASSERT_EQ(0, vfio_map(&self->v, a.addr, IOVA, a.size, MAP_RW));
	note_pfns(a.addr, a.size / PAGE, pfn);
	EXPECT_EQ(0L, move_to(a.addr, n, step, !to));
	EXPECT_EQ(0UL, moved(a.addr, a.size / PAGE, pfn));
	EXPECT_STATE(&self->base, a.size / PAGE, a.size / PAGE, a.size / PAGE);
	EXPECT_EQ(0, edu_check(&self->v.dev[0], a.addr, IOVA, a.size));

	EXPECT_EQ((long)a.size, vfio_unmap(&self->v, IOVA, a.size));
	EXPECT_EQ((long)n, move_to(a.addr, n, step, !to))
		TH_LOG("a pin is left");
	EXPECT_BACK(&self->base);
	free(pfn);
	area_close(&a);
}

TEST_F(holds, migration_of_small_pages)
{
	migrate(_metadata, self, "anon-4k");
}

TEST_F(holds, migration_of_thp)
{
	migrate(_metadata, self, "thp");
}

TEST_F(holds, migration_of_memfd)
{
	migrate(_metadata, self, "memfd");
}

/* --- Memory that goes away -------------------------------------------------- */

static unsigned long block_of(uint64_t pfn)
{
	static unsigned long size;
	char *text;

	if (!size) {
		text = slurp(MEMORY "/block_size_bytes");
		size = text ? strtoul(text, NULL, 16) : 128 * MB;
		free(text);
	}
	return pfn * PAGE / size;
}

/* Is the block in a list such as "memory72 memory73"? */
static bool block_in(const char *list, unsigned long block)
{
	char want[32], *copy = strdup(list), *word, *save;
	bool found = false;

	snprintf(want, sizeof(want), "memory%lu", block);
	for (word = strtok_r(copy, " ", &save); word && !found;
	     word = strtok_r(NULL, " ", &save))
		found = !strcmp(word, want);
	free(copy);
	return found;
}

static int block_set(unsigned long block, const char *state)
{
	char path[96];

	snprintf(path, sizeof(path), MEMORY "/memory%lu/state", block);
	return write_text(path, state);
}

static bool block_online(unsigned long block)
{
	char path[96], *text;
	bool online;

	snprintf(path, sizeof(path), MEMORY "/memory%lu/state", block);
	text = slurp(path);
	online = text && !strncmp(text, "online", 6);
	free(text);
	return online;
}

/* Anonymous pages on the node of the DIMM */
static char *pages_on_node(int node, size_t size)
{
	char *mem = small_pages(size);

	if (!mem || bind_to_node(node, mem, size))
		return NULL;
	memset(mem, 1, size);
	return mem;
}

/*
 * The kernel tries until a signal comes, if it does not see at once that it
 * cannot. Returns 0 when the block went offline. @looks: see util.h; for what is
 * not to succeed, OFFLINE_TRIES.
 */
#define OFFLINE_TRIES	300

static int offline(unsigned long block, unsigned int looks)
{
	int status;
	pid_t pid;

	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid)
		_exit(-block_set(block, "offline"));
	if (!reap_within(pid, looks, &status))
		return WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
	kill(pid, SIGKILL);
	if (reap(pid, &status))
		return -ETIMEDOUT;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EBUSY;
}

TEST_F(holds, memory_offline)
{
	const char *node = getenv("USERPIN_MEM_NODE");
	const char *movable = getenv("USERPIN_MEM_MOVABLE");
	const char *kernel = getenv("USERPIN_MEM_KERNEL");
	uint64_t pfn[N], was;
	unsigned long block;
	size_t i, in = 0;
	char *mem;

	if (!node || !movable || !kernel)
		SKIP(return, "no memory that can be unplugged, see USERPIN_MEM_NODE");
	mem = pages_on_node(atoi(node), SIZE);
	ASSERT_NE(NULL, mem);
	fill(mem, SIZE, 5);
	was = pfn_of(mem);
	for (i = 0; i < N; i++)
		in += block_in(movable, block_of(pfn_of(mem + i * PAGE)));
	EXPECT_LT(0UL, in)
		TH_LOG("no page is in movable memory, so this shows little");

	/* Pins leave movable memory, and take the contents with them */
	ASSERT_EQ(0, vfio_map(&self->v, mem, IOVA, SIZE, MAP_RW));
	EXPECT_TRUE(filled(mem, SIZE, 5));
	note_pfns(mem, N, pfn);
	for (i = 0; i < N; i++) {
		EXPECT_TRUE(block_in(kernel, block_of(pfn[i])));
	}
	EXPECT_STATE(&self->base, N, N, N);
	EXPECT_EQ(0, edu_check(&self->v.dev[0], mem, IOVA, SIZE));

	/* so that it can go */
	block = block_of(was);
	EXPECT_EQ(0, offline(block, PATIENCE));
	EXPECT_FALSE(block_online(block));
	EXPECT_EQ(0UL, moved(mem, N, pfn));
	EXPECT_EQ(0, block_set(block, "online_movable"));
	EXPECT_EQ((long)SIZE, vfio_unmap(&self->v, IOVA, SIZE));
	EXPECT_BACK(&self->base);
	munmap(mem, SIZE);
}

/* Each page is looked at, also beside one that may be pinned where it is */
TEST_F(holds, movable_pages_beside_others)
{
	const char *node = getenv("USERPIN_MEM_NODE");
	const char *movable = getenv("USERPIN_MEM_MOVABLE");
	size_t i, in = 0;
	char *mem;

	if (!node || !movable)
		SKIP(return, "no movable memory, see USERPIN_MEM_NODE");
	mem = small_pages(SIZE);
	ASSERT_NE(NULL, mem);
	for (i = 0; i < N; i++) {
		ASSERT_EQ(0, bind_to_node(i % 2 ? atoi(node) : 0,
					  mem + i * PAGE, PAGE));
	}
	fill(mem, SIZE, 6);
	for (i = 0; i < N; i++)
		in += block_in(movable, block_of(pfn_of(mem + i * PAGE)));
	EXPECT_EQ(N / 2, in);

	ASSERT_EQ(0, vfio_map(&self->v, mem, IOVA, SIZE, MAP_RW));
	EXPECT_TRUE(filled(mem, SIZE, 6));
	for (i = 0; i < N; i++) {
		EXPECT_FALSE(block_in(movable, block_of(pfn_of(mem + i * PAGE))))
			TH_LOG("page %zu", i);
	}
	EXPECT_EQ(0, edu_check(&self->v.dev[0], mem, IOVA, SIZE));
	EXPECT_EQ((long)SIZE, vfio_unmap(&self->v, IOVA, SIZE));
	EXPECT_BACK(&self->base);
	munmap(mem, SIZE);
}

/* --- Movable pages that somebody has a reference to ------------------------- */

/* Pages in movable memory; NULL if there is none */
static char *movable_pages(size_t size)
{
	const char *node = getenv("USERPIN_MEM_NODE");
	const char *movable = getenv("USERPIN_MEM_MOVABLE");
	char *mem = node ? pages_on_node(atoi(node), size) : NULL;
	size_t at;

	for (at = 0; mem && at < size; at += PAGE)
		if (!movable || !block_in(movable, block_of(pfn_of(mem + at))))
			mem = NULL;
	return mem;
}

/* A reference as direct I/O has one; returns the file that holds it */
static int hold_page(const char *addr)
{
	int fd = open("/dev/mm_hold", O_RDWR | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, MM_HOLD_PAGE, addr))
		return -errno;
	return fd;
}

/* GUP has tried to move a page that somebody holds */
static bool failed(void *since)
{
	return vmstat("pgmigrate_fail") > *(long *)since;
}

struct mapper {
	struct vfio *v;
	char *mem;
	long fails;	/* attempts before */
	int ret;
	volatile bool done;
};

/* Attempts that do not wait are fewer, and then it is done */
static bool tries_on(void *arg)
{
	struct mapper *m = arg;

	return m->done || vmstat("pgmigrate_fail") > m->fails + 5;
}

static void *map_all(void *arg)
{
	struct mapper *m = arg;

	m->ret = vfio_map(m->v, m->mem, IOVA, SIZE, MAP_RW);
	m->done = true;
	return NULL;
}

TEST_F(holds, a_reference_that_goes)
{
	struct mapper m = { .v = &self->v, .mem = movable_pages(SIZE) };
	pthread_t thread;
	int held;

	ASSERT_NE(NULL, m.mem) TH_LOG("no movable memory, see USERPIN_MEM_NODE");
	fill(m.mem, SIZE, 11);
	held = hold_page(m.mem + 7 * PAGE);
	ASSERT_LE(0, held) TH_LOG("is mm_hold.ko loaded?");

	m.fails = vmstat("pgmigrate_fail");
	ASSERT_EQ(0, pthread_create(&thread, NULL, map_all, &m));
	EXPECT_TRUE(wait_for(tries_on, &m))
		TH_LOG("it took a page that somebody holds");
	EXPECT_FALSE(m.done);
	EXPECT_EQ(0, close(held));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, m.ret);
	EXPECT_STATE(&self->base, N, N, N);
	EXPECT_TRUE(filled(m.mem, SIZE, 11));
	EXPECT_EQ(0, edu_check(&self->v.dev[0], m.mem, IOVA, SIZE));
	EXPECT_EQ((long)SIZE, vfio_unmap(&self->v, IOVA, SIZE));
	EXPECT_BACK(&self->base);
	munmap(m.mem, SIZE);
}

TEST_F(holds, a_reference_that_stays)
{
	char *mem = movable_pages(SIZE);
	int held;

	ASSERT_NE(NULL, mem) TH_LOG("no movable memory, see USERPIN_MEM_NODE");
	fill(mem, SIZE, 12);
	held = hold_page(mem + 7 * PAGE);
	ASSERT_LE(0, held) TH_LOG("is mm_hold.ko loaded?");

	EXPECT_EQ(-ENOMEM, vfio_map(&self->v, mem, IOVA, SIZE, MAP_RW));
	EXPECT_REFUSED(&self->base, MIGRATE, 1);
	EXPECT_BACK(&self->base);
	EXPECT_TRUE(filled(mem, SIZE, 12));

	EXPECT_EQ(0, close(held));
	EXPECT_EQ(0, vfio_map(&self->v, mem, IOVA, SIZE, MAP_RW));
	EXPECT_EQ((long)SIZE, vfio_unmap(&self->v, IOVA, SIZE));
	munmap(mem, SIZE);
}

/* How often the kernel's log has this, in all that it still has; or -1 */
static long log_has(const char *text)
{
	static char log[1 << 20];
	int len = klogctl(3 /* SYSLOG_ACTION_READ_ALL */, log, sizeof(log) - 1);
	const char *at = log;
	long n = 0;

	if (len < 0)
		return -1;
	log[len] = '\0';
	while ((at = strstr(at, text))) {
		at += strlen(text);
		n++;
	}
	return n;
}

TEST_F(holds, killed_while_it_waits)
{
	char *mem = movable_pages(SIZE);
	long fails = vmstat("pgmigrate_fail");
	long refused = log_has("refused migrate");
	int status;
	pid_t pid;

	ASSERT_NE(NULL, mem) TH_LOG("no movable memory, see USERPIN_MEM_NODE");
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		/* A copy of its own, in movable memory, too */
		mem[7 * PAGE] = 1;
		_exit(hold_page(mem + 7 * PAGE) < 0 ? 1 :
		      vfio_map(&self->v, mem, IOVA, SIZE, MAP_RW) ? 2 : 3);
	}
	EXPECT_TRUE(wait_for(failed, &fails));
	EXPECT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(0, reap(pid, &status));
	EXPECT_TRUE(WIFSIGNALED(status)) TH_LOG("status %#x", status);
	/* At the end of ten seconds it would have been refused */
	EXPECT_LE(0, refused);
	EXPECT_EQ(refused, log_has("refused migrate"));
	EXPECT_BACK(&self->base);
	munmap(mem, SIZE);
}

/* A block of kernel memory without what never goes, such as slabs; or -1 */
static long block_that_goes(const char *list)
{
	char *copy = strdup(list), *word, *save;
	long block, found = -1;

	for (word = strtok_r(copy, " ", &save); word && found < 0;
	     word = strtok_r(NULL, " ", &save)) {
		if (sscanf(word, "memory%ld", &block) != 1 ||
		    offline(block, OFFLINE_TRIES))
			continue;
		if (!block_set(block, "online_kernel"))
			found = block;
	}
	free(copy);
	return found;
}

/* A block that can go offline cannot while there are pins in it */
TEST_F(holds, memory_with_pins_stays_online)
{
	/* More than one block takes, so that some of it is in each */
	const size_t size = 192 * MB, n = size / PAGE;
	const char *node = getenv("USERPIN_MEM_NODE");
	const char *kernel = getenv("USERPIN_MEM_KERNEL");
	uint64_t *pfn = calloc(n, sizeof(*pfn));
	size_t i, in = 0;
	long block;
	char *mem;

	if (!node || !kernel)
		SKIP(return, "no memory that can be unplugged, see USERPIN_MEM_NODE");
	ASSERT_NE(NULL, pfn);
	block = block_that_goes(kernel);
	ASSERT_LE(0, block);
	mem = pages_on_node(atoi(node), size);
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, vfio_map(&self->v, mem, IOVA, size, MAP_RW));
	note_pfns(mem, n, pfn);
	for (i = 0; i < n; i++)
		in += block_of(pfn[i]) == (unsigned long)block;
	EXPECT_LT(0UL, in) TH_LOG("no pin is in memory%ld", block);
	EXPECT_NE(0, offline(block, OFFLINE_TRIES));
	EXPECT_TRUE(block_online(block));
	EXPECT_EQ(0UL, moved(mem, n, pfn));
	EXPECT_EQ(0, edu_check(&self->v.dev[0], mem, IOVA, size));

	/* It was the pins: the same pages without them make way */
	EXPECT_EQ((long)size, vfio_unmap(&self->v, IOVA, size));
	EXPECT_BACK(&self->base);
	EXPECT_EQ(0, offline(block, PATIENCE));
	EXPECT_FALSE(block_online(block));
	EXPECT_LE(in, moved(mem, n, pfn));
	EXPECT_EQ(0, block_set(block, "online_kernel"));
	munmap(mem, size);
	free(pfn);
}

/* --- Large folios ----------------------------------------------------------- */

/* Have the kernel split what it can of a range; 0 if it took the order */
static int split_range(const char *mem, size_t size)
{
	char text[96];

	snprintf(text, sizeof(text), "%d,0x%lx,0x%lx", getpid(),
		 (unsigned long)mem, (unsigned long)mem + size);
	return write_text("/sys/kernel/debug/split_huge_pages", text);
}

static bool huge(const char *mem)
{
	return pfn_flags(pfn_of(mem)) & PF_THP;
}

TEST_F(holds, thp_split)
{
	const struct backing *b = backing_find("thp");
	uint64_t pfn[1024];
	struct area a;
	char *old;

	if (area_open(b, &a, NULL, NULL))
		SKIP(return, "%s", a.why);
	/* khugepaged is not to put together what is split */
	ASSERT_EQ(0, madvise(a.addr, a.size, MADV_NOHUGEPAGE));
	ASSERT_EQ(4 * MB, a.size);

	/* the first 2 MiB are pinned, the second are not */
	ASSERT_EQ(0, vfio_map(&self->v, a.addr, IOVA, 2 * MB, MAP_RW));
	note_pfns(a.addr, 1024, pfn);
	EXPECT_TRUE(huge(a.addr) && huge(a.addr + 2 * MB));
	ASSERT_EQ(0, split_range(a.addr, a.size));
	EXPECT_FALSE(huge(a.addr + 2 * MB))
		TH_LOG("what is not pinned is not split either");
	EXPECT_TRUE(huge(a.addr));
	EXPECT_EQ(0UL, moved(a.addr, 512, pfn));
	EXPECT_STATE(&self->base, 512, 512, 512);

	/* Page tables may be split, the folio is not */
	ASSERT_EQ(0, mprotect(a.addr + MB, PAGE, PROT_READ));
	EXPECT_EQ(0, split_range(a.addr, 2 * MB));
	EXPECT_TRUE(huge(a.addr));
	EXPECT_EQ(0UL, moved(a.addr, 512, pfn));
	ASSERT_EQ(0, mprotect(a.addr + MB, PAGE, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, edu_check(&self->v.dev[0], a.addr, IOVA, 2 * MB));

	/* The device keeps pages that the process gave away */
	old = a.addr + MB;
	fill(old, EDU_LEN, 3);
	ASSERT_EQ(0, madvise(old, MB, MADV_DONTNEED));
	fill(old, EDU_LEN, 4);
	EXPECT_NE(pfn[256], pfn_of(old));
	EXPECT_EQ(0UL, moved(a.addr, 256, pfn));
	EXPECT_EQ(0, split_range(a.addr, 2 * MB));
	EXPECT_STATE(&self->base, 512, 512, 512);
	EXPECT_EQ(0, edu_copy(&self->v.dev[0], IOVA, IOVA + MB, EDU_LEN));
	EXPECT_TRUE(filled(a.addr, EDU_LEN, 3));

	EXPECT_EQ((long)(2 * MB), vfio_unmap(&self->v, IOVA, 2 * MB));
	EXPECT_BACK(&self->base);

	/* and now it can be split */
	EXPECT_EQ(0, split_range(a.addr, 2 * MB));
	EXPECT_FALSE(huge(a.addr));
	area_close(&a);
}

/* A mapping of a part holds the whole folio together */
TEST_F(holds, thp_split_with_one_pin)
{
	const struct backing *b = backing_find("thp");
	uint64_t pfn[512];
	struct area a;

	if (area_open(b, &a, NULL, NULL))
		SKIP(return, "%s", a.why);
	ASSERT_EQ(0, madvise(a.addr, a.size, MADV_NOHUGEPAGE));
	ASSERT_EQ(0, vfio_map(&self->v, a.addr + 300 * PAGE, IOVA, PAGE,
			      MAP_RW));
	note_pfns(a.addr, 512, pfn);
	ASSERT_EQ(0, split_range(a.addr, a.size));
	EXPECT_TRUE(huge(a.addr));
	EXPECT_FALSE(huge(a.addr + 2 * MB));
	EXPECT_EQ(0UL, moved(a.addr, 512, pfn));
	EXPECT_STATE(&self->base, 1, 1, 512);
	EXPECT_EQ(0, edu_check(&self->v.dev[0], a.addr + 300 * PAGE, IOVA,
			       PAGE));
	EXPECT_EQ((long)PAGE, vfio_unmap(&self->v, IOVA, PAGE));
	EXPECT_BACK(&self->base);
	area_close(&a);
}

/* The other way round: small pages are not collapsed into a large one */
TEST_F(holds, thp_collapse)
{
	size_t reserved_size;
	uint64_t pfn[1024];
	void *reserved;
	char *mem;

	mem = reserve(4 * MB, 2 * MB, &reserved, &reserved_size);
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mprotect(mem, 4 * MB, PROT_READ | PROT_WRITE));
	ASSERT_EQ(0, madvise(mem, 4 * MB, MADV_NOHUGEPAGE));
	memset(mem, 1, 4 * MB);
	ASSERT_EQ(0, vfio_map(&self->v, mem + 300 * PAGE, IOVA, PAGE, MAP_RW));
	note_pfns(mem, 1024, pfn);
	ASSERT_EQ(0, madvise(mem, 4 * MB, MADV_HUGEPAGE));
	EXPECT_EQ(0, madvise(mem + 2 * MB, 2 * MB, MADV_COLLAPSE));
	EXPECT_TRUE(huge(mem + 2 * MB));
	EXPECT_EQ(-1, madvise(mem, 2 * MB, MADV_COLLAPSE));
	EXPECT_EQ(pfn[300], pfn_of(mem + 300 * PAGE));
	EXPECT_EQ(0, edu_check(&self->v.dev[0], mem + 300 * PAGE, IOVA, PAGE));
	EXPECT_EQ((long)PAGE, vfio_unmap(&self->v, IOVA, PAGE));
	EXPECT_BACK(&self->base);
	munmap(reserved, reserved_size);
}

/* --- Reclaim ---------------------------------------------------------------- */

/*
 * Memory that the process gave up but has not lost yet (MADV_FREE) is as good as
 * any for a device to write to. The CPU does not see these writes; that the page
 * is dirty must come with the put, or it is dropped and not swapped out.
 */
static void write_and_reclaim(struct __test_metadata *_metadata,
			      FIXTURE_DATA(holds) *self, bool by_device)
{
	char *mem = anon_pages(PAGE), *from = anon_pages(PAGE);
	uint64_t pfn, was;

	ASSERT_NE(NULL, mem);
	ASSERT_NE(NULL, from);
	fill(from, PAGE, 21);
	fill(mem, PAGE, 22);
	ASSERT_EQ(0, vfio_map(&self->v, from, IOVA_SCRATCH, PAGE, MAP_R));
	ASSERT_EQ(0, madvise(mem, PAGE, MADV_FREE));
	/* Pages wait for their list in batches; this sees to them */
	ASSERT_EQ(0, madvise(from, PAGE, MADV_PAGEOUT));
	was = pfn_of(mem);
	EXPECT_EQ(0ULL, pfn_flags(was) & PF_DIRTY);
	ASSERT_EQ(0, vfio_map(&self->v, mem, IOVA, PAGE, MAP_RW));
	pfn = pfn_of(mem);
	EXPECT_EQ(was, pfn);
	if (by_device)
		EXPECT_EQ(0, edu_copy(&self->v.dev[0], IOVA, IOVA_SCRATCH,
				      EDU_LEN));

	/*
	 * Pinned, it stays. That it was tried makes it memory again that is not
	 * given up, so not before what the other variant shows.
	 */
	if (!by_device)
		ASSERT_EQ(0, madvise(mem, PAGE, MADV_PAGEOUT));
	EXPECT_EQ(pfn, pfn_of(mem));
	EXPECT_EQ((long)PAGE, vfio_unmap(&self->v, IOVA, PAGE));
	EXPECT_NE(0ULL, pfn_flags(pfn) & PF_DIRTY);

	/* Then it may go, but must come back with its contents */
	EXPECT_TRUE(wait_for(reclaimed, mem))
		TH_LOG("it was not reclaimed");
	EXPECT_TRUE(filled(mem, EDU_LEN, by_device ? 21 : 22));
	EXPECT_EQ((long)PAGE, vfio_unmap(&self->v, IOVA_SCRATCH, PAGE));
	EXPECT_BACK(&self->base);
}

TEST_F(holds, reclaim_after_a_write)
{
	write_and_reclaim(_metadata, self, true);
}

TEST_F(holds, reclaim_without_a_write)
{
	write_and_reclaim(_metadata, self, false);
}

/* What a device may only read does not become dirty */
TEST_F(holds, read_pins_leave_pages_clean)
{
	char *mem = anon_pages(4 * PAGE);
	int i;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, vfio_map(&self->v, mem, IOVA, 4 * PAGE, MAP_R));
	EXPECT_EQ(4 * (long)PAGE, vfio_unmap(&self->v, IOVA, 4 * PAGE));
	for (i = 0; i < 4; i++) {
		EXPECT_EQ(0ULL, pfn_flags(pfn_of(mem + i * PAGE)) & PF_DIRTY);
	}
	ASSERT_EQ(0, vfio_map(&self->v, mem, IOVA, 4 * PAGE, MAP_RW));
	EXPECT_EQ(4 * (long)PAGE, vfio_unmap(&self->v, IOVA, 4 * PAGE));
	for (i = 0; i < 4; i++) {
		EXPECT_NE(0ULL, pfn_flags(pfn_of(mem + i * PAGE)) & PF_DIRTY);
	}
}

/* --- KSM -------------------------------------------------------------------- */

struct merge {
	char *mem;
	long scans;
};

/* Those pages are one, and the scanner has been everywhere since */
static bool merged(void *arg)
{
	struct merge *m = arg;
	uint64_t first = pfn_of(m->mem);
	size_t i;

	for (i = 1; i < N; i++)
		if (pfn_of(m->mem + i * PAGE) != first)
			return false;
	return read_long(KSM "/full_scans", 0) > m->scans + 3;
}

TEST_F(holds, ksm)
{
	char *pinned = anon_pages(SIZE), *loose = anon_pages(SIZE);
	struct merge m = { .mem = loose };
	uint64_t pfn[N];
	size_t i;

	if (!file_exists(KSM "/run"))
		SKIP(return, "this kernel has no KSM");
	ASSERT_NE(NULL, pinned);
	ASSERT_NE(NULL, loose);
	for (i = 0; i < N; i++) {
		fill(pinned + i * PAGE, PAGE, 42);
		fill(loose + i * PAGE, PAGE, 42);
	}
	ASSERT_EQ(0, vfio_map(&self->v, pinned, IOVA, SIZE, MAP_RW));
	note_pfns(pinned, N, pfn);
	ASSERT_EQ(0, madvise(pinned, SIZE, MADV_MERGEABLE));
	ASSERT_EQ(0, madvise(loose, SIZE, MADV_MERGEABLE));
	m.scans = read_long(KSM "/full_scans", 0);
	ASSERT_EQ(0, ksm_start());
	EXPECT_TRUE(wait_for(merged, &m))
		TH_LOG("pages that are not pinned were not merged");
	EXPECT_EQ(0UL, moved(pinned, N, pfn));
	/* nor did others become copies of one (6.12 shows all of them as KSM) */
	for (i = 0; i < N; i++) {
		EXPECT_NE(pfn[i], pfn_of(loose));
	}
	EXPECT_STATE(&self->base, N, N, N);

	/* What the one device writes does not appear elsewhere */
	EXPECT_EQ(0, edu_check(&self->v.dev[0], pinned, IOVA, SIZE));
	EXPECT_TRUE(filled(loose, PAGE, 42));
	EXPECT_EQ(0, write_text(KSM "/run", "2"));
	EXPECT_EQ((long)SIZE, vfio_unmap(&self->v, IOVA, SIZE));

	/* A pin of merged memory gets a page of its own */
	EXPECT_EQ(0, write_text(KSM "/run", "1"));
	m.scans = read_long(KSM "/full_scans", 0);
	EXPECT_TRUE(wait_for(merged, &m));
	EXPECT_EQ(0, vfio_map(&self->v, loose, IOVA, SIZE, MAP_R));
	for (i = 1; i < N; i++) {
		EXPECT_NE(pfn_of(loose), pfn_of(loose + i * PAGE));
	}
	EXPECT_STATE(&self->base, N, N, N);
	EXPECT_EQ((long)SIZE, vfio_unmap(&self->v, IOVA, SIZE));
	EXPECT_EQ(0, write_text(KSM "/run", "2"));
	EXPECT_BACK(&self->base);
}

TEST_HARNESS_MAIN
