// SPDX-License-Identifier: GPL-2.0
/*
 * vDPA devices as holders of pins (vhost-vdpa): what is counted, refused and given
 * back; and no device reaches memory that is not pinned any more. tests/vm/with_vdpa
 * sets the devices up.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "test.h"
#include "vdpa_lib.h"

#define N	64L		/* pages, where the number does not matter */
#define SIZE	(N * PAGE)
#define ROOM	16UL		/* pages that a limit allows */
#define FAR	(64 * GB)
/* Whatever the reason, vhost says this: the reason is in the log, and in longterm_pins */
#define FAILED	-EFAULT
#define WATCH	"/sys/module/vdpa_watch/parameters/"

FIXTURE(vdpa)
{
	struct vdpa a, b;
	struct vfio v;
	struct disk disk;
	struct snap before, base;
	long exposed;
};

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
	self->v.fd = -1;
	self->disk.v = NULL;
	self->exposed = read_long(WATCH "exposed", 0);
	ASSERT_EQ(0, snap(&self->before));
	ASSERT_EQ(0, vdpa_open(&self->a, "disk0"))
		TH_LOG("see tests/vm/with_vdpa");
	ASSERT_EQ(0, vdpa_open(&self->b, "disk1"));
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
	vdpa_close(&self->b);
	vfio_close(&self->v);
	EXPECT_BACK(&self->before);
	EXPECT_EQ(self->exposed, read_long(WATCH "exposed", 0))
		TH_LOG("a device could reach pages that nobody had pinned");
}

/*
 * Since @base so many pins were added, VmPin has so much more, so much is charged
 * (VmLck) and so much held
 */
#define EXPECT_PINS(base, pages, vmpin, charge, held)			\
	__expect_pins(_metadata, __LINE__, base, pages, vmpin, charge, held)

static void __expect_pins(struct __test_metadata *_metadata, int line,
			  const struct snap *base, long pages, long vmpin,
			  long charge, long held)
{
	static struct snap now;

	EXPECT_EQ(0, snap(&now));
	EXPECT_EQ(vmpin, now.vmpin - base->vmpin)
		TH_LOG("VmPin, line %d", line);
	EXPECT_EQ(charge, now.vmlck - base->vmlck)
		TH_LOG("VmLck, line %d", line);
	EXPECT_EQ(pages, now.foll - base->foll)
		TH_LOG("nr_foll_pin, line %d", line);
	EXPECT_EQ(pages, pins_pages(&now.pins) - pins_pages(&base->pins))
		TH_LOG("pages of holders, line %d", line);
	EXPECT_EQ(charge, now.pins.charge - base->pins.charge)
		TH_LOG("charge, line %d", line);
	EXPECT_EQ(vmpin, now.pins.pinned - base->pins.pinned)
		TH_LOG("pinned, line %d", line);
	EXPECT_EQ(held, now.pins.held - base->pins.held)
		TH_LOG("held, line %d", line);
	EXPECT_EQ(held, now.cgroups - base->cgroups)
		TH_LOG("misc.current, line %d", line);
}

/* The last holder of this kind that the process has; NULL without one */
static struct holder *holder_of(struct pins *p, const char *kind)
{
	int i;

	for (i = p->nr - 1; i >= 0; i--)
		if (!strncmp(p->holder[i].name, kind, strlen(kind)) &&
		    p->holder[i].name[strlen(kind)] == '.')
			return &p->holder[i];
	return NULL;
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
	EXPECT_PINS(&self->base, n, n, 0, n);
	EXPECT_EQ(0, pins_read(0, &p));
	h = holder_of(&p, "vdpa");
	ASSERT_NE(NULL, h);
	EXPECT_EQ(n, h->pages);
	EXPECT_EQ(n, h->acquired);
	EXPECT_EQ(0, h->released);

	/* A part of it, in a mapping of its own */
	EXPECT_EQ(0, vdpa_map(&self->a, area.addr, 2 * FAR, PAGE, VDPA_R));
	EXPECT_EQ(0, pins_read(0, &p));
	EXPECT_EQ(n + 1, holder_of(&p, "vdpa")->pages);

	/* Pins outlive the memory */
	area_close(&area);
	EXPECT_EQ(0, vdpa_unmap(&self->a, FAR, area.size));
	EXPECT_EQ(0, pins_read(0, &p));
	EXPECT_EQ(1, holder_of(&p, "vdpa")->pages);
	EXPECT_EQ(0, vdpa_unmap(&self->a, 2 * FAR, PAGE));
	EXPECT_BACK(&self->base);
	EXPECT_EQ(0, pins_read(0, &p));
	h = holder_of(&p, "vdpa");
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

/* A line for each device, as each is a holder */
TEST_F(vdpa, each_device_is_a_holder)
{
	char *mem = anon_pages(SIZE);
	struct pins p;
	int i, n = 0;

	ASSERT_NE(NULL, mem);
	EXPECT_EQ(0, vdpa_map(&self->a, mem, FAR, SIZE, VDPA_RW));
	EXPECT_EQ(0, vdpa_map(&self->b, mem, FAR, SIZE, VDPA_RW));
	EXPECT_EQ(0, vdpa_map(&self->b, mem, 2 * FAR, SIZE, VDPA_RW));
	EXPECT_EQ(0, pins_read(0, &p));
	for (i = 0; i < p.nr; i++)
		n += !strncmp(p.holder[i].name, "vdpa.", 5);
	EXPECT_EQ(2, n);
}

/* Stock counts it in VmPin for each device */
TEST_F(vdpa, two_devices_count_once)
{
	char *mem = anon_pages(SIZE);

	ASSERT_NE(NULL, mem);
	EXPECT_EQ(0, vdpa_map(&self->a, mem, FAR, SIZE, VDPA_RW));
	EXPECT_EQ(0, vdpa_map(&self->b, mem, FAR, SIZE, VDPA_RW));
	EXPECT_PINS(&self->base, 2 * N, N, 0, N);
	EXPECT_EQ(0, vdpa_unmap(&self->a, FAR, SIZE));
	EXPECT_PINS(&self->base, N, N, 0, N);
	EXPECT_EQ(0, vdpa_map(&self->a, mem + SIZE / 2, FAR, SIZE / 2, VDPA_R));
	EXPECT_PINS(&self->base, N + N / 2, N, 0, N);
	EXPECT_EQ(0, vdpa_unmap(&self->b, FAR, SIZE));
	EXPECT_PINS(&self->base, N / 2, N / 2, 0, N / 2);
	EXPECT_EQ(0, vdpa_unmap(&self->a, FAR, SIZE));
	EXPECT_BACK(&self->base);
}

/* Each is in its own counter, as on stock, and the memory is held once */
TEST_F(vdpa, beside_a_container)
{
	char *mem = anon_pages(SIZE);
	struct snap base;

	NEED_DEVICES(1U);
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, vfio_open(&self->v, 0));
	ASSERT_EQ(0, snap(&base));
	EXPECT_EQ(0, vfio_map(&self->v, mem, IOVA, SIZE, MAP_RW));
	EXPECT_PINS(&base, N, 0, N, N);
	EXPECT_EQ(0, vdpa_map(&self->a, mem, FAR, SIZE, VDPA_RW));
	EXPECT_PINS(&base, 2 * N, N, N, N);
	EXPECT_EQ((long)SIZE, vfio_unmap(&self->v, IOVA, SIZE));
	EXPECT_PINS(&base, N, N, 0, N);
	EXPECT_EQ(0, vfio_map(&self->v, mem, IOVA, SIZE, MAP_RW));
	EXPECT_EQ(0, vdpa_unmap(&self->a, FAR, SIZE));
	EXPECT_PINS(&base, N, 0, N, N);
	EXPECT_EQ((long)SIZE, vfio_unmap(&self->v, IOVA, SIZE));
	EXPECT_BACK(&base);
}

/* --- Limits ------------------------------------------------------------------- */

/* Nobody is exempt: root with CAP_IPC_LOCK is not */
TEST_F(vdpa, limit_to_the_page)
{
	char *mem = small_pages(SIZE), want[160], *log;
	struct pins p;

	ASSERT_NE(NULL, mem);
	prctl(PR_SET_NAME, "limited");
	ASSERT_EQ(0, set_memlock(ROOM * PAGE));
	EXPECT_EQ(0, vdpa_map(&self->a, mem, FAR, ROOM * PAGE, VDPA_RW));
	EXPECT_PINS(&self->base, ROOM, ROOM, 0, ROOM);
	log_room(1);
	EXPECT_EQ(FAILED, vdpa_map(&self->b, mem + ROOM * PAGE, FAR, PAGE,
				   VDPA_RW));
	EXPECT_PINS(&self->base, ROOM, ROOM, 0, ROOM);
	EXPECT_REFUSED(&self->base, MEMLOCK, 1);
	EXPECT_EQ(0, pins_read(0, &p));
	ASSERT_NE(NULL, holder_of(&p, "vdpa"));
	snprintf(want, sizeof(want), "%s of \"limited\" [%d], uid 0",
		 holder_of(&p, "vdpa")->name, getpid());
	log = kernel_log();
	ASSERT_NE(NULL, log);
	EXPECT_TRUE(logged(log, want, "refused memlock")) TH_LOG("%s", want);
	free(log);

	/* What is counted already is no more for the other device */
	EXPECT_EQ(0, vdpa_map(&self->b, mem, FAR, ROOM * PAGE, VDPA_RW));
	EXPECT_PINS(&self->base, 2 * ROOM, ROOM, 0, ROOM);
	EXPECT_EQ(0, vdpa_unmap(&self->b, FAR, ROOM * PAGE));
	EXPECT_EQ(0, vdpa_unmap(&self->a, FAR, ROOM * PAGE));
	EXPECT_EQ(FAILED, vdpa_map(&self->a, mem, FAR, (ROOM + 1) * PAGE,
				   VDPA_RW));
	EXPECT_BACK(&self->base);
	EXPECT_EQ(0, vdpa_map(&self->a, mem, FAR, ROOM * PAGE, VDPA_RW));
}

/* Pages far into a mapping are put with those before them */
TEST_F(vdpa, late_refusals)
{
	char *mem = small_pages(32 * MB);
	const long hole = 3000;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, set_memlock(6000 * PAGE));
	EXPECT_EQ(FAILED, vdpa_map(&self->a, mem, FAR, 32 * MB, VDPA_RW));
	EXPECT_BACK(&self->base);
	EXPECT_EQ(0, vdpa_map(&self->a, mem, FAR, 6000 * PAGE, VDPA_RW));
	EXPECT_EQ(0, vdpa_unmap(&self->a, FAR, 6000 * PAGE));

	EXPECT_REFUSED(&self->base, MEMLOCK, 1);
	ASSERT_EQ(0, munmap(mem + hole * PAGE, PAGE));
	EXPECT_EQ(FAILED, vdpa_map(&self->a, mem, FAR, 4000 * PAGE, VDPA_RW));
	EXPECT_BACK(&self->base);
	EXPECT_EQ(0, vdpa_map(&self->a, mem, FAR, hole * PAGE, VDPA_RW));
}

/* In a batch as well, of which no device has seen anything yet */
TEST_F(vdpa, refused_in_a_batch)
{
	/* More than is pinned at once, so that the first of it is mapped by then */
	const size_t n = 2048, room = 1100;
	char *mem = small_pages(n * PAGE);
	size_t i;

	ASSERT_NE(NULL, mem);
	for (i = 0; i < n; i++)
		mem[i * 29 % n * PAGE] = 1;
	ASSERT_EQ(0, set_memlock(room * PAGE));
	EXPECT_EQ(0, vdpa_batch_begin(&self->a));
	EXPECT_EQ(FAILED, vdpa_map(&self->a, mem, FAR, n * PAGE, VDPA_RW));
	EXPECT_BACK(&self->base);
	EXPECT_EQ(0, vdpa_map(&self->a, mem, FAR, room * PAGE, VDPA_RW));
	EXPECT_EQ(0, vdpa_batch_end(&self->a));
	EXPECT_PINS(&self->base, room, room, 0, room);
}

TEST_F(vdpa, file_that_tracks_writes)
{
	const char *dir = getenv("USERPIN_EXT4");
	char path[128], *mem, *log;
	struct pins p;
	int fd;

	if (!dir)
		SKIP(return, "no file system on a disk, see USERPIN_EXT4");
	snprintf(path, sizeof(path), "%s/vdpa-%d", dir, getpid());
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, SIZE));
	mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, (void *)mem);
	log_room(1);
	EXPECT_EQ(FAILED, vdpa_map(&self->a, mem, FAR, SIZE, VDPA_RW));
	EXPECT_BACK(&self->base);
	EXPECT_REFUSED(&self->base, FILEMAP, 1);
	EXPECT_EQ(0, pins_read(0, &p));
	log = kernel_log();
	ASSERT_NE(NULL, log);
	EXPECT_TRUE(logged(log, holder_of(&p, "vdpa")->name, "refused file"));
	EXPECT_TRUE(logged(log, holder_of(&p, "vdpa")->name, path));
	free(log);

	/* The device may read it */
	EXPECT_EQ(0, vdpa_map(&self->a, mem, FAR, SIZE, VDPA_R));
	EXPECT_PINS(&self->base, N, N, 0, N);
	unlink(path);
	close(fd);
}

/**
 * struct rival - a thread that maps memory of its own for a device of its own
 * @v: the device
 * @mem: RACE pages
 * @start: it waits for the other there
 * @ret: what came of it
 */
struct rival {
	struct vdpa *v;
	char *mem;
	pthread_barrier_t *start;
	int ret;
};

#define RACE	4096UL
#define ROUNDS	5

static void *map_at_once(void *arg)
{
	struct rival *r = arg;

	pthread_barrier_wait(r->start);
	r->ret = vdpa_map(r->v, r->mem, FAR, RACE * PAGE, VDPA_RW);
	return NULL;
}

/* The limit allows one of them; stock looks before it counts, and lets both pass */
TEST_F(vdpa, two_threads_at_the_limit)
{
	int round, i, passed, refused = 0, mapped = 0;
	struct rival r[2] = {
		{ .v = &self->a, .mem = small_pages(RACE * PAGE) },
		{ .v = &self->b, .mem = small_pages(RACE * PAGE) },
	};
	pthread_barrier_t start;
	pthread_t thread[2];

	ASSERT_EQ(0, set_memlock(RACE * PAGE));
	ASSERT_EQ(0, pthread_barrier_init(&start, NULL, 2));
	for (round = 0; round < ROUNDS; round++) {
		for (i = 0; i < 2; i++) {
			ASSERT_NE(NULL, r[i].mem);
			/* Pages that are not there take longer to pin */
			ASSERT_EQ(0, madvise(r[i].mem, RACE * PAGE, MADV_DONTNEED));
			r[i].start = &start;
			ASSERT_EQ(0, pthread_create(thread + i, NULL,
						    map_at_once, r + i));
		}
		for (passed = 0, i = 0; i < 2; i++) {
			pthread_join(thread[i], NULL);
			passed += !r[i].ret;
			refused += r[i].ret == FAILED;
		}
		mapped += passed;
		EXPECT_GE(1, passed) TH_LOG("round %d", round);
		EXPECT_GE((long)RACE,
			  status_pages(0, "VmPin:") - self->base.vmpin);
		for (i = 0; i < 2; i++) {
			if (!r[i].ret)
				EXPECT_EQ(0, vdpa_unmap(r[i].v, FAR,
							RACE * PAGE));
		}
	}
	EXPECT_EQ(2 * ROUNDS, mapped + refused);
	TH_LOG("%d of %d rounds mapped one", mapped, ROUNDS);
	EXPECT_BACK(&self->base);
	/* Nothing is left of those that were refused */
	EXPECT_EQ(0, vdpa_map(&self->a, r[0].mem, FAR, RACE * PAGE, VDPA_RW));
}

static int enter(const char *dir)
{
	char path[400];

	snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	return write_text(path, "0");
}

TEST_F(vdpa, limit_of_the_cgroup)
{
	char own[256], dir[160], home[384], path[256], limit[64], *text;
	char *mem = anon_pages(SIZE);

	ASSERT_NE(NULL, mem);
	text = slurp("/proc/self/cgroup");
	ASSERT_NE(NULL, text);
	ASSERT_EQ(1, sscanf(text, "0::%255s", own));
	free(text);
	snprintf(home, sizeof(home), "%s%s", cgroup_root(), own);
	snprintf(dir, sizeof(dir), "%s/vdpa-%d", cgroup_root(), getpid());
	ASSERT_EQ(0, mkdir(dir, 0755));
	snprintf(path, sizeof(path), "%s/misc.max", dir);
	snprintf(limit, sizeof(limit), "longterm_pin %lu", ROOM * PAGE);
	ASSERT_EQ(0, write_text(path, limit));
	ASSERT_EQ(0, enter(dir));

	EXPECT_EQ(FAILED, vdpa_map(&self->a, mem, FAR, (ROOM + 1) * PAGE,
				   VDPA_RW));
	EXPECT_BACK(&self->base);
	EXPECT_EQ(0, cgroup_held(dir));
	EXPECT_REFUSED(&self->base, CGROUP, 1);
	EXPECT_EQ(0, vdpa_map(&self->a, mem, FAR, ROOM * PAGE, VDPA_RW));
	EXPECT_EQ((long)ROOM, cgroup_held(dir));
	EXPECT_EQ(0, vdpa_map(&self->b, mem, FAR, ROOM * PAGE, VDPA_RW));
	EXPECT_EQ(FAILED, vdpa_map(&self->b, mem, 2 * FAR, SIZE, VDPA_RW));
	EXPECT_EQ((long)ROOM, cgroup_held(dir));
	EXPECT_EQ(0, vdpa_unmap(&self->b, FAR, ROOM * PAGE));
	EXPECT_EQ(0, vdpa_unmap(&self->a, FAR, ROOM * PAGE));
	EXPECT_EQ(0, cgroup_held(dir));

	/* A ledger belongs to a cgroup for as long as there is a holder */
	vdpa_close(&self->a);
	vdpa_close(&self->b);
	EXPECT_EQ(0, enter(home));
	EXPECT_EQ(0, remove_cgroup(dir));
}

/* --- Ends --------------------------------------------------------------------- */

TEST_F(vdpa, closed)
{
	char *mem = anon_pages(SIZE);

	ASSERT_NE(NULL, mem);
	EXPECT_EQ(0, vdpa_map(&self->a, mem, FAR, SIZE, VDPA_RW));
	EXPECT_EQ(0, vdpa_map(&self->b, mem, FAR, SIZE, VDPA_RW));
	vdpa_close(&self->a);
	EXPECT_PINS(&self->base, N, N, 0, N);
	/* In the middle of a batch */
	EXPECT_EQ(0, vdpa_batch_begin(&self->b));
	EXPECT_EQ(0, vdpa_unmap(&self->b, FAR, SIZE));
	EXPECT_EQ(0, vdpa_map(&self->b, mem, FAR, PAGE, VDPA_RW));
	vdpa_close(&self->b);
	EXPECT_BACK(&self->before);

	/* The next user of the device */
	ASSERT_EQ(0, vdpa_open(&self->a, "disk0"));
	EXPECT_EQ(0, vdpa_map(&self->a, mem, FAR, SIZE, VDPA_RW));
	EXPECT_PINS(&self->base, N, N, 0, N);
}

/* A child with memory that is mapped for the device; it does @then afterwards */
static void child(struct __test_metadata *_metadata, FIXTURE_DATA(vdpa) *self,
		  int sv[2], pid_t *pid, void (*then)(struct vdpa *v, int chan))
{
	long said;

	vdpa_close(&self->a);
	ASSERT_EQ(0, chan_pair(sv));
	*pid = fork();
	ASSERT_LE(0, *pid);
	if (!*pid) {
		char *mem = anon_pages(SIZE);
		struct vdpa v;

		close(sv[0]);
		if (!mem || vdpa_open(&v, "disk0") ||
		    vdpa_map(&v, mem, FAR, SIZE, VDPA_RW))
			_exit(1);
		chan_put(sv[1], 1);
		then(&v, sv[1]);
		_exit(0);
	}
	close(sv[1]);
	ASSERT_EQ(0, chan_get(sv[0], &said));
	EXPECT_EQ(N, status_pages(*pid, "VmPin:"));
	EXPECT_EQ(N, vmstat("nr_foll_pin_acquired") -
		     vmstat("nr_foll_pin_released") - self->before.foll);
}

static void wait_for_word(struct vdpa *v, int chan)
{
	(void)v;
	chan_get(chan, NULL);
}

TEST_F(vdpa, killed)
{
	int sv[2], status;
	pid_t pid;

	child(_metadata, self, sv, &pid, wait_for_word);
	EXPECT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(0, reap(pid, &status));
	EXPECT_EQ(SIGKILL, WTERMSIG(status));
	EXPECT_BACK(&self->before);
	close(sv[0]);
}

TEST_F(vdpa, exits)
{
	int sv[2], status;
	pid_t pid;

	child(_metadata, self, sv, &pid, wait_for_word);
	EXPECT_EQ(0, chan_put(sv[0], 1));
	ASSERT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_BACK(&self->before);
	close(sv[0]);
}

/* The pins stay with the file, and so does the old memory */
static int after_exec(char **arg)
{
	struct vdpa v = { atoi(arg[0]) };
	char *mem = anon_pages(SIZE);
	static struct pins all;
	struct pins p;
	int i, gone = 0;

	if (!mem || pins_read(0, &p) || p.nr || status_pages(0, "VmPin:"))
		return 10;
	if (pins_read_all(&all))
		return 11;
	for (i = 0; i < all.nr; i++)
		gone += !strncmp(all.holder[i].name, "vdpa.", 5) &&
			!strcmp(all.holder[i].state, "gone") &&
			all.holder[i].pages == N;
	if (gone != 1)
		return 12;
	/* As on stock, the device is the old mm's */
	if (vdpa_map(&v, mem, 2 * FAR, SIZE, VDPA_RW) != FAILED)
		return 13;
	vdpa_close(&v);
	if (pins_read_all(&all))
		return 14;
	for (i = 0; i < all.nr; i++)
		if (!strncmp(all.holder[i].name, "vdpa.", 5))
			return 15;
	/* It is free for its next owner */
	if (vdpa_open(&v, "disk0") || vdpa_map(&v, mem, FAR, SIZE, VDPA_RW) ||
	    status_pages(0, "VmPin:") != N)
		return 16;
	return 0;
}

static void exec_with_it(struct vdpa *v, int chan)
{
	char fd[16];

	chan_get(chan, NULL);
	sprintf(fd, "%d", v->fd);
	fcntl(v->fd, F_SETFD, 0);
	execl("/proc/self/exe", "vdpa_pins", "--after-exec", fd, NULL);
	_exit(2);
}

TEST_F(vdpa, exec)
{
	int sv[2], status;
	pid_t pid;

	vdpa_close(&self->b);
	child(_metadata, self, sv, &pid, exec_with_it);
	EXPECT_EQ(0, chan_put(sv[0], 1));
	ASSERT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, WEXITSTATUS(status)) TH_LOG("after_exec() returned this");
	EXPECT_EQ(0, status);
	EXPECT_BACK(&self->before);
	close(sv[0]);
}

/* A child has none of its parent's pins, and may not use the device */
TEST_F(vdpa, fork)
{
	char *mem = anon_pages(SIZE);
	int status;
	pid_t pid;

	ASSERT_NE(NULL, mem);
	EXPECT_EQ(0, vdpa_map(&self->a, mem, FAR, SIZE, VDPA_RW));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct pins p;

		if (pins_read(0, &p) || p.nr || status_pages(0, "VmPin:"))
			_exit(1);
		if (vdpa_map(&self->a, mem, 2 * FAR, SIZE, VDPA_RW) != FAILED)
			_exit(2);
		vdpa_close(&self->a);
		_exit(0);
	}
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_PINS(&self->base, N, N, 0, N);
	EXPECT_EQ(0, vdpa_unmap(&self->a, FAR, SIZE));
	EXPECT_BACK(&self->base);
}

static void pass_it_on(struct vdpa *v, int chan)
{
	chan_get(chan, NULL);
	chan_put_fd(chan, v->fd);
}

TEST_F(vdpa, descriptor_passed_on)
{
	int sv[2], status, fd;
	pid_t pid;

	child(_metadata, self, sv, &pid, pass_it_on);
	EXPECT_EQ(0, chan_put(sv[0], 1));
	fd = chan_get_fd(sv[0]);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	/* Its process is gone, and the device has its memory still */
	EXPECT_EQ(N, vmstat("nr_foll_pin_acquired") -
		     vmstat("nr_foll_pin_released") - self->before.foll);
	EXPECT_EQ(0, status_pages(0, "VmPin:") - self->before.vmpin);
	close(fd);
	EXPECT_BACK(&self->before);
	close(sv[0]);
}

/* --- Each allocation fails in turn -------------------------------------------- */

static void allocations(struct __test_metadata *_metadata,
			FIXTURE_DATA(vdpa) *self, struct vdpa *v, bool batch)
{
	int fd, n, ret, failures = 0;
	bool failed = true;
	char *mem;
	long i;

	if (!failing_supported())
		SKIP(return, "this kernel has no fault injection");
	fd = failing_open();
	ASSERT_LE(0, fd);
	/* Neighbours in memory were not allocated one after the other */
	mem = small_pages(SIZE);
	ASSERT_NE(NULL, mem);
	for (i = 0; i < N; i++)
		mem[i * 29 % N * PAGE] = 1;

	for (n = 1; failed && n < 10000; n++) {
		if (batch)
			EXPECT_EQ(0, vdpa_batch_begin(v));
		arm(fd, n);
		ret = vdpa_map(v, mem, FAR, SIZE, VDPA_RW);
		failed = disarm(fd);
		failures += !!ret;
		if (batch && ret)
			EXPECT_BACK(&self->base);
		if (batch)
			EXPECT_EQ(0, vdpa_batch_end(v));
		if (!ret) {
			EXPECT_PINS(&self->base, N, N, 0, N);
			EXPECT_EQ(0, vdpa_unmap(v, FAR, SIZE));
		}
		EXPECT_BACK(&self->base);
		if (_metadata->exit_code) {
			TH_LOG("failure %d: %s", n, strerror(-ret));
			break;
		}
	}
	EXPECT_FALSE(failed) TH_LOG("no end after %d failures", n);
	EXPECT_LT(10, failures) TH_LOG("too few for scattered pages");
	TH_LOG("%d allocations, %d of them mattered", n - 2, failures);
	close(fd);
}

TEST_F(vdpa, allocations)
{
	allocations(_metadata, self, &self->a, false);
}

TEST_F(vdpa, allocations_in_a_batch)
{
	allocations(_metadata, self, &self->a, true);
}

/* --- What devices reach ------------------------------------------------------- */

static void data(struct __test_metadata *_metadata, FIXTURE_DATA(vdpa) *self,
		 const char *kind)
{
	const struct backing *b = backing_find(kind);
	struct area area;

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
	EXPECT_NE(0, disk_request(&self->disk, false, FAR, DISK_SECTOR));

	/* What it may only read, it cannot write */
	EXPECT_EQ(0, vdpa_map(&self->a, area.addr, FAR, area.size, VDPA_R));
	fill(area.addr, area.size, 2);
	EXPECT_EQ(0, disk_request(&self->disk, true, FAR, PAGE));
	fill(area.addr, area.size, 3);
	EXPECT_NE(0, disk_request(&self->disk, false, FAR, PAGE));
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
 * at once.
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
	EXPECT_EQ(0, same) TH_LOG("somebody else has the page");
	EXPECT_EQ(0, disk_request(&self->disk, false, FAR, PAGE));
	for (i = 0; i < VICTIMS; i++)
		hit += victim[i * PAGE] != 2 || victim[i * PAGE + 1];
	EXPECT_EQ(0, hit) TH_LOG("the device has written to memory of others");
	EXPECT_EQ(2, status_pages(0, "VmPin:") - self->base.vmpin);

	EXPECT_EQ(0, vdpa_batch_end(&self->a));
	EXPECT_EQ(1, status_pages(0, "VmPin:") - self->base.vmpin);
	EXPECT_NE(0, disk_request(&self->disk, false, FAR, PAGE));
}

/*
 * A device that looks, see tests/vm/modules/vdpa_watch.c. One is told of each
 * mapping, the other of all together.
 */
static void watched(struct __test_metadata *_metadata, FIXTURE_DATA(vdpa) *self,
		    const char *name)
{
	char *mem = small_pages(SIZE);
	struct snap base;
	struct vdpa v;
	long i;

	if (!file_exists(WATCH "exposed"))
		SKIP(return, "vdpa_watch.ko is not loaded");
	ASSERT_NE(NULL, mem);
	/* Pages in another order than their addresses: a mapping for each */
	for (i = 0; i < N; i++)
		mem[i * 29 % N * PAGE] = 1;
	ASSERT_EQ(0, snap(&base));
	ASSERT_EQ(0, vdpa_open(&v, name));

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
	EXPECT_PINS(&base, 1, 1, 0, 1);
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
	EXPECT_PINS(&base, N, N, 0, N);
	EXPECT_EQ(0, vdpa_unmap(&v, FAR, SIZE));
	EXPECT_BACK(&base);

	EXPECT_EQ(0, vdpa_map(&v, mem, FAR, SIZE, VDPA_RW));
	ASSERT_EQ(0, write_text(WATCH "fail_in", "1"));
	EXPECT_EQ(0, vdpa_unmap(&v, FAR, SIZE));
	EXPECT_EQ(0, vdpa_map(&v, mem, FAR, PAGE, VDPA_RW));
	EXPECT_PINS(&base, 1, 1, 0, 1);
	ASSERT_EQ(0, write_text(WATCH "fail_in", "1"));
	EXPECT_EQ(0, vdpa_unmap(&v, FAR, PAGE));
	EXPECT_PINS(&base, 1, 1, 0, 1);
	vdpa_close(&v);
	EXPECT_BACK(&base);
}

/* The device has the new map when it fails, and the old one does not come back */
TEST_F(vdpa, device_that_fails_late)
{
	char *mem = anon_pages(PAGE);
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

	ASSERT_EQ(0, write_text(WATCH "fail_late", "1"));
	ASSERT_EQ(0, write_text(WATCH "fail_in", "2"));
	EXPECT_EQ(FAILED, vdpa_map(&v, mem, FAR, PAGE, VDPA_RW));
	EXPECT_PINS(&base, 1, 1, 0, 1);
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
	EXPECT_PINS(&self->base, self->max, 1, 0, 1);
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "--after-exec"))
		return after_exec(argv + 2);
	return test_harness_run(argc, argv);
}
