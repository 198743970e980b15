// SPDX-License-Identifier: GPL-2.0
/*
 * longterm_pin of the misc controller: what a cgroup may hold by pins, in all
 * its processes and in those below; beside RLIMIT_MEMLOCK; with and without
 * CAP_IPC_LOCK; when processes and cgroups go. And memory.max, for what mapping
 * takes besides.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "test.h"

#define ROOM	16UL	/* pages that a limit allows in most tests */
#define HUGE	512UL	/* pages of a large folio */

FIXTURE(cgroups)
{
	struct vfio v, other;
	struct snap before, base;
	char *mem;		/* 64 MiB of pages, first touched by the pin */
	char home[384];
	char top[128];		/* without processes; @a and @b are in it */
	char a[160], b[160];	/* the test is in @a */
};

/* Move this process */
static int enter(const char *dir)
{
	char path[320];

	snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	return write_text(path, "0");
}

static int limit(const char *dir, unsigned long npages)
{
	char path[320], text[64];

	snprintf(path, sizeof(path), "%s/misc.max", dir);
	snprintf(text, sizeof(text), "longterm_pin %lu", npages * PAGE);
	return write_text(path, text);
}

static int no_limit(const char *dir)
{
	char path[320];

	snprintf(path, sizeof(path), "%s/misc.max", dir);
	return write_text(path, "longterm_pin max");
}

/* How often the limit of @dir itself has refused something */
static long refusals(const char *dir)
{
	return cgroup_value(dir, "misc.events.local", "longterm_pin.max");
}

static long peak(const char *dir)
{
	return cgroup_value(dir, "misc.peak", "longterm_pin") / (long)PAGE;
}

/* The path of a cgroup as the kernel tells it */
static const char *path_of(const char *dir)
{
	return dir + strlen(cgroup_root());
}

FIXTURE_SETUP(cgroups)
{
	char own[256], path[320], *text;

	NEED_DEVICES(2U);
	self->v.fd = -1;
	self->other.fd = -1;

	text = slurp("/proc/self/cgroup");
	ASSERT_NE(NULL, text);
	ASSERT_EQ(1, sscanf(text, "0::%255s", own));
	free(text);
	snprintf(self->home, sizeof(self->home), "%s%s", cgroup_root(), own);
	snprintf(self->top, sizeof(self->top), "%s/top-%d", cgroup_root(),
		 getpid());
	snprintf(self->a, sizeof(self->a), "%s/a", self->top);
	snprintf(self->b, sizeof(self->b), "%s/b", self->top);
	ASSERT_EQ(0, mkdir(self->top, 0755));
	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", self->top);
	ASSERT_EQ(0, write_text(path, "+misc"));
	ASSERT_EQ(0, mkdir(self->a, 0755));
	ASSERT_EQ(0, mkdir(self->b, 0755));
	ASSERT_EQ(0, enter(self->a));

	self->mem = small_pages(64 * MB);
	ASSERT_NE(NULL, self->mem);
	ASSERT_EQ(0, snap(&self->before));
	ASSERT_EQ(0, vfio_open(&self->v, 0));
	ASSERT_EQ(0, snap(&self->base));
}

FIXTURE_TEARDOWN(cgroups)
{
	vfio_close(&self->other);
	vfio_close(&self->v);
	EXPECT_BACK(&self->before);
	EXPECT_EQ(0, cgroup_held(self->top));
	EXPECT_EQ(0, enter(self->home));
	if (file_exists(self->a))
		EXPECT_EQ(0, rmdir(self->a));
	EXPECT_EQ(0, rmdir(self->b));
	EXPECT_EQ(0, rmdir(self->top));
}

/* Map @n pages of the memory from page @at on */
static int map(FIXTURE_DATA(cgroups) *self, size_t at, size_t n)
{
	return vfio_map(&self->v, self->mem + at * PAGE, IOVA + at * PAGE,
			n * PAGE, MAP_RW);
}

static long unmap(FIXTURE_DATA(cgroups) *self, size_t at, size_t n)
{
	return vfio_unmap(&self->v, IOVA + at * PAGE, n * PAGE) / (long)PAGE;
}

/* What both are charged, in pages, and what is above both is charged the sum */
#define EXPECT_HELD(_a, _b)						\
	do {								\
		EXPECT_EQ((long)(_a), cgroup_held(self->a));		\
		EXPECT_EQ((long)(_b), cgroup_held(self->b));		\
		EXPECT_EQ((long)((_a) + (_b)), cgroup_held(self->top));	\
	} while (0)

/* --- The limit ---------------------------------------------------------------- */

/* Root has CAP_IPC_LOCK, which is no way around it */
TEST_F(cgroups, to_the_page)
{
	ASSERT_EQ(0, limit(self->a, ROOM));
	EXPECT_EQ(0, map(self, 0, ROOM));
	EXPECT_STATE(&self->base, ROOM, ROOM, ROOM);
	EXPECT_HELD(ROOM, 0);
	EXPECT_EQ(0, refusals(self->a));

	EXPECT_EQ(-EBUSY, map(self, ROOM, 1));
	EXPECT_STATE(&self->base, ROOM, ROOM, ROOM);
	EXPECT_HELD(ROOM, 0);
	EXPECT_REFUSED(&self->base, CGROUP, 1);
	EXPECT_EQ(1, refusals(self->a));
	EXPECT_EQ(0, edu_check(&self->v.dev[0], self->mem, IOVA, ROOM * PAGE));

	/* What is given back can be had again, and no more */
	EXPECT_EQ((long)ROOM, unmap(self, 0, ROOM));
	EXPECT_HELD(0, 0);
	EXPECT_EQ(0, map(self, 0, ROOM - 1));
	EXPECT_HELD(ROOM - 1, 0);
	EXPECT_EQ(0, map(self, ROOM, 1));
	EXPECT_EQ(-EBUSY, map(self, ROOM + 1, 1));
	EXPECT_HELD(ROOM, 0);
	EXPECT_EQ(2, refusals(self->a));
	EXPECT_EQ((long)ROOM, peak(self->a));
}

TEST_F(cgroups, one_too_many)
{
	ASSERT_EQ(0, limit(self->a, ROOM));
	EXPECT_EQ(-EBUSY, map(self, 0, ROOM + 1));
	EXPECT_BACK(&self->base);
	EXPECT_HELD(0, 0);
	EXPECT_EQ(0, map(self, 0, ROOM));
}

TEST_F(cgroups, zero)
{
	ASSERT_EQ(0, limit(self->a, 0));
	EXPECT_EQ(-EBUSY, map(self, 0, 1));
	EXPECT_BACK(&self->base);
	EXPECT_HELD(0, 0);
	EXPECT_EQ(0, peak(self->a));
}

/* Bytes, of which a part of a page is none */
TEST_F(cgroups, odd_limit)
{
	char path[320], text[64];

	snprintf(path, sizeof(path), "%s/misc.max", self->a);
	snprintf(text, sizeof(text), "longterm_pin %lu", 2 * PAGE - 1);
	ASSERT_EQ(0, write_text(path, text));
	EXPECT_EQ(-EBUSY, map(self, 0, 2));
	EXPECT_EQ(0, map(self, 0, 1));
	EXPECT_HELD(1, 0);
}

/* At rest misc.current is what is held, although it is charged in steps */
TEST_F(cgroups, current_is_what_is_held)
{
	static const size_t sizes[] = {
		1, 3, 511, 512, 513, 4095, 4096, 4097
	};
	size_t at = 0, i;
	long sum = 0;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		EXPECT_EQ(0, map(self, at, sizes[i]));
		sum += sizes[i];
		at += sizes[i];
		EXPECT_HELD(sum, 0);
	}
	EXPECT_EQ(sum, peak(self->a));
	EXPECT_EQ(sum, peak(self->top));
	for (at = 0, i = 0; i < ARRAY_SIZE(sizes); i++) {
		EXPECT_EQ((long)sizes[i], unmap(self, at, sizes[i]));
		sum -= sizes[i];
		at += sizes[i];
		EXPECT_HELD(sum, 0);
	}
}

/* Not to the page only with small requests, and a step too much is no refusal */
TEST_F(cgroups, steps_up_to_the_limit)
{
	static const size_t sizes[] = { 6000, 10000, 16384 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		size_t n = sizes[i];

		ASSERT_EQ(0, limit(self->a, n));
		EXPECT_EQ(0, map(self, 0, n));
		EXPECT_HELD(n, 0);
		EXPECT_EQ((long)n, peak(self->a));
		EXPECT_EQ(0, refusals(self->a));
		EXPECT_EQ((long)n, unmap(self, 0, n));
		EXPECT_HELD(0, 0);
	}
}

/* Nor is one that is too large because a part is held already */
TEST_F(cgroups, step_of_what_is_held_in_part)
{
	const size_t n = 6000;

	ASSERT_EQ(0, limit(self->a, n));
	ASSERT_EQ(0, vfio_open(&self->other, 1));
	EXPECT_EQ(0, vfio_map(&self->other, self->mem + n / 2 * PAGE, IOVA,
			      n / 2 * PAGE, MAP_RW));
	EXPECT_EQ(0, map(self, 0, n));
	EXPECT_HELD(n, 0);
	EXPECT_EQ(0, refusals(self->a));
	EXPECT_EQ((long)n, peak(self->a));
	vfio_close(&self->other);
	EXPECT_HELD(n, 0);
	EXPECT_EQ(-EBUSY, map(self, n, 1));
	EXPECT_EQ((long)n, unmap(self, 0, n));
}

/* A failure far into a large map puts back all that came before it */
TEST_F(cgroups, late_failure)
{
	static const size_t limits[] = { 6000, 9000 };
	size_t i;

	EXPECT_EQ(0, map(self, 12000, 100));
	for (i = 0; i < ARRAY_SIZE(limits); i++) {
		ASSERT_EQ(0, limit(self->a, limits[i]));
		EXPECT_EQ(-EBUSY, map(self, 0, 12000));
		EXPECT_STATE(&self->base, 100, 100, 100);
		EXPECT_HELD(100, 0);
		EXPECT_REFUSED(&self->base, CGROUP, i + 1);
		EXPECT_EQ((long)i + 1, refusals(self->a));
		EXPECT_EQ(0, map(self, 0, limits[i] - 100));
		EXPECT_STATE(&self->base, limits[i], limits[i], limits[i]);
		EXPECT_EQ((long)limits[i] - 100,
			  unmap(self, 0, limits[i] - 100));
	}
}

static void large(struct __test_metadata *_metadata,
		  FIXTURE_DATA(cgroups) *self, const char *name)
{
	const struct backing *b = backing_find(name);
	struct area area;

	ASSERT_NE(NULL, b);
	if (area_open(b, &area, NULL, NULL))
		SKIP(return, "%s", area.why);

	/* A page holds its whole folio */
	ASSERT_EQ(0, limit(self->a, HUGE - 1));
	EXPECT_EQ(-EBUSY, vfio_map(&self->v, area.addr + PAGE, IOVA, PAGE,
				   MAP_RW));
	EXPECT_BACK(&self->base);
	EXPECT_HELD(0, 0);
	ASSERT_EQ(0, limit(self->a, HUGE));
	EXPECT_EQ(0, vfio_map(&self->v, area.addr + PAGE, IOVA, PAGE, MAP_RW));
	EXPECT_STATE(&self->base, 1, 1, HUGE);
	EXPECT_HELD(HUGE, 0);

	/* So that others of it cost nothing, and one of the next does */
	EXPECT_EQ(0, vfio_map(&self->v, area.addr + 7 * PAGE, IOVA + PAGE,
			      3 * PAGE, MAP_RW));
	EXPECT_STATE(&self->base, 4, 4, HUGE);
	EXPECT_EQ(-EBUSY, vfio_map(&self->v, area.addr + HUGE * PAGE,
				   IOVA + 4 * PAGE, PAGE, MAP_RW));
	EXPECT_EQ(2, refusals(self->a));
	EXPECT_EQ((long)PAGE, vfio_unmap(&self->v, IOVA, PAGE));
	EXPECT_HELD(HUGE, 0);
	EXPECT_EQ(3 * (long)PAGE, vfio_unmap_all(&self->v));
	EXPECT_HELD(0, 0);

	/* The ends of two folios */
	ASSERT_EQ(0, no_limit(self->a));
	EXPECT_EQ(0, vfio_map(&self->v, area.addr + (HUGE - 1) * PAGE, IOVA,
			      2 * PAGE, MAP_RW));
	EXPECT_STATE(&self->base, 2, 2, 2 * HUGE);
	EXPECT_HELD(2 * HUGE, 0);
	EXPECT_EQ(2 * (long)PAGE, vfio_unmap_all(&self->v));
	EXPECT_HELD(0, 0);
	EXPECT_EQ((long)(2 * HUGE), peak(self->a));
	area_close(&area);
}

TEST_F(cgroups, thp)
{
	large(_metadata, self, "thp");
}

TEST_F(cgroups, hugetlb)
{
	large(_metadata, self, "hugetlb-2m");
}

TEST_F(cgroups, device_memory_is_not_held)
{
	struct area area;

	if (area_open(backing_find("devdax"), &area, NULL, NULL))
		SKIP(return, "%s", area.why);
	ASSERT_EQ(0, limit(self->a, 0));
	EXPECT_EQ(0, vfio_map(&self->v, area.addr, IOVA, area.size, MAP_RW));
	EXPECT_HELD(0, 0);
	EXPECT_EQ((long)area.size, vfio_unmap(&self->v, IOVA, area.size));
	area_close(&area);
}

TEST_F(cgroups, of_the_parent)
{
	ASSERT_EQ(0, limit(self->top, ROOM));
	ASSERT_EQ(0, limit(self->a, 2 * ROOM));
	EXPECT_EQ(0, map(self, 0, ROOM));
	EXPECT_EQ(-EBUSY, map(self, ROOM, 1));
	EXPECT_HELD(ROOM, 0);
	EXPECT_EQ(1, refusals(self->top));
	EXPECT_EQ(0, refusals(self->a));
	EXPECT_EQ(1, cgroup_value(self->top, "misc.events",
				  "longterm_pin.max"));
	EXPECT_REFUSED(&self->base, CGROUP, 1);
}

/* Each refuses for itself, and then the other has nothing */
TEST_F(cgroups, beside_memlock)
{
	ASSERT_EQ(0, cap_drop(CAP_IPC_LOCK));
	ASSERT_EQ(0, set_memlock(ROOM * PAGE));
	ASSERT_EQ(0, limit(self->a, 2 * ROOM));
	EXPECT_EQ(-ENOMEM, map(self, 0, ROOM + 1));
	EXPECT_BACK(&self->base);
	EXPECT_HELD(0, 0);
	/* Not even where it would refuse, too */
	EXPECT_EQ(-ENOMEM, map(self, 100, 2 * ROOM + 1));
	EXPECT_EQ(0, refusals(self->a));
	EXPECT_REFUSED(&self->base, MEMLOCK, 2);

	ASSERT_EQ(0, set_memlock(8192 * PAGE));
	EXPECT_EQ(-EBUSY, map(self, 0, 2 * ROOM + 1));
	EXPECT_BACK(&self->base);
	EXPECT_HELD(0, 0);
	EXPECT_EQ(-EBUSY, map(self, 0, 8192));
	EXPECT_BACK(&self->base);
	EXPECT_EQ(2, refusals(self->a));
	EXPECT_EQ(0, map(self, 0, 2 * ROOM));
	EXPECT_STATE(&self->base, 2 * ROOM, 2 * ROOM, 2 * ROOM);
}

TEST_F(cgroups, lowered_and_raised)
{
	EXPECT_EQ(0, map(self, 0, ROOM));
	ASSERT_EQ(0, limit(self->a, ROOM / 2));
	EXPECT_STATE(&self->base, ROOM, ROOM, ROOM);
	EXPECT_EQ(-EBUSY, map(self, ROOM, 1));

	/* What is held may be pinned again */
	ASSERT_EQ(0, vfio_open(&self->other, 1));
	EXPECT_EQ(0, vfio_map(&self->other, self->mem, IOVA, ROOM * PAGE,
			      MAP_RW));
	EXPECT_STATE(&self->base, 2 * ROOM, ROOM, ROOM);
	EXPECT_EQ((long)(ROOM * PAGE),
		  vfio_unmap(&self->other, IOVA, ROOM * PAGE));
	EXPECT_HELD(ROOM, 0);

	ASSERT_EQ(0, limit(self->a, ROOM + 1));
	EXPECT_EQ(0, map(self, ROOM, 1));
	EXPECT_EQ(-EBUSY, map(self, ROOM + 1, 1));
	EXPECT_EQ((long)ROOM + 1, unmap(self, 0, ROOM + 1));
	EXPECT_HELD(0, 0);
	EXPECT_EQ(2, refusals(self->a));
}

/* --- Several containers, processes, cgroups ----------------------------------- */

TEST_F(cgroups, two_containers_count_once)
{
	ASSERT_EQ(0, limit(self->a, ROOM));
	ASSERT_EQ(0, vfio_open(&self->other, 1));
	EXPECT_EQ(0, map(self, 0, ROOM));
	EXPECT_EQ(0, vfio_map(&self->other, self->mem, IOVA, ROOM * PAGE,
			      MAP_RW));
	EXPECT_HELD(ROOM, 0);
	EXPECT_EQ(-EBUSY, vfio_map(&self->other, self->mem + ROOM * PAGE,
				   IOVA + ROOM * PAGE, PAGE, MAP_RW));
	EXPECT_EQ((long)ROOM, unmap(self, 0, ROOM));
	EXPECT_HELD(ROOM, 0);
	EXPECT_EQ((long)(ROOM * PAGE),
		  vfio_unmap(&self->other, IOVA, ROOM * PAGE));
	EXPECT_HELD(0, 0);
}

/*
 * Another process with the second device. It maps as many pages as it is told,
 * unmaps all at -1, enters @b at -2, and ends at 0; of each it tells the result.
 */
static pid_t peer(FIXTURE_DATA(cgroups) *self, int *fd)
{
	long n, ret, at = 0;
	int sv[2];
	pid_t pid;

	if (chan_pair(sv))
		return -1;
	pid = fork();
	*fd = sv[0];
	if (pid) {
		close(sv[1]);
		return pid;
	}
	if (vfio_open(&self->other, 1))
		_exit(1);
	while (!chan_get(sv[1], &n) && n) {
		if (n == -1) {
			ret = vfio_unmap_all(&self->other);
			at = 0;
		} else if (n == -2) {
			ret = enter(self->b);
		} else {
			ret = vfio_map(&self->other, self->mem + at * PAGE,
				       IOVA + at * PAGE, n * PAGE, MAP_RW);
			at += ret ? 0 : n;
		}
		if (chan_put(sv[1], ret))
			_exit(2);
	}
	vfio_close(&self->other);
	_exit(0);
}

static long ask(int fd, long what)
{
	long ret;

	return chan_put(fd, what) || chan_get(fd, &ret) ? -EIO : ret;
}

static void end_peer(struct __test_metadata *_metadata, pid_t pid, int fd)
{
	int status;

	EXPECT_EQ(0, chan_put(fd, 0));
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	close(fd);
}

TEST_F(cgroups, two_processes)
{
	pid_t pid;
	int fd;

	ASSERT_EQ(0, limit(self->a, ROOM));
	pid = peer(self, &fd);
	ASSERT_LT(0, pid);
	EXPECT_EQ(0, map(self, 0, ROOM / 2));
	EXPECT_EQ(0, ask(fd, ROOM / 2));
	EXPECT_HELD(ROOM, 0);
	EXPECT_EQ(-EBUSY, ask(fd, 1));
	EXPECT_EQ(-EBUSY, map(self, ROOM, 1));
	EXPECT_EQ(2, refusals(self->a));
	EXPECT_EQ((long)(ROOM / 2 * PAGE), ask(fd, -1));
	EXPECT_HELD(ROOM / 2, 0);
	EXPECT_EQ(0, map(self, ROOM, ROOM / 2));
	EXPECT_EQ(-EBUSY, ask(fd, 1));
	EXPECT_EQ((long)ROOM / 2, unmap(self, 0, ROOM / 2));
	EXPECT_EQ(0, ask(fd, 1));
	/* The end of a process gives its part back */
	end_peer(_metadata, pid, fd);
	EXPECT_HELD(ROOM / 2, 0);
}

TEST_F(cgroups, siblings_share_their_parents_limit)
{
	pid_t pid;
	int fd;

	ASSERT_EQ(0, limit(self->top, ROOM));
	pid = peer(self, &fd);
	ASSERT_LT(0, pid);
	EXPECT_EQ(0, ask(fd, -2));
	EXPECT_EQ(0, ask(fd, ROOM / 2));
	EXPECT_HELD(0, ROOM / 2);
	EXPECT_EQ(-EBUSY, map(self, 0, ROOM / 2 + 1));
	EXPECT_EQ(0, map(self, 0, ROOM / 2));
	EXPECT_HELD(ROOM / 2, ROOM / 2);
	EXPECT_EQ(-EBUSY, ask(fd, 1));
	EXPECT_EQ(2, refusals(self->top));
	EXPECT_EQ(0, refusals(self->b));
	end_peer(_metadata, pid, fd);
	EXPECT_HELD(ROOM / 2, 0);
}

#define MINE	5000L
#define THEIRS	3000L

/* Both map at the same time, again and again; returns how often it went wrong */
static int race(struct __test_metadata *_metadata, FIXTURE_DATA(cgroups) *self,
		int *refused)
{
	long ret, theirs;
	int fd, i, wrong = 0;
	pid_t pid;

	*refused = 0;
	pid = peer(self, &fd);
	if (pid < 0)
		return 1;
	for (i = 0; i < 12; i++) {
		if (chan_put(fd, THEIRS))
			return 1;
		ret = map(self, 0, MINE);
		if (chan_get(fd, &theirs))
			return 1;
		wrong += (ret && ret != -EBUSY) ||
			 (theirs && theirs != -EBUSY);
		*refused += !!ret + !!theirs;
		wrong += cgroup_held(self->a) != (ret ? 0 : MINE) +
						 (theirs ? 0 : THEIRS);
		if (!ret)
			wrong += unmap(self, 0, MINE) != MINE;
		if (!theirs)
			wrong += ask(fd, -1) != THEIRS * (long)PAGE;
	}
	end_peer(_metadata, pid, fd);
	return wrong;
}

/* What fits together does not get into each other's way */
TEST_F(cgroups, steps_do_not_refuse_others)
{
	int refused;

	ASSERT_EQ(0, limit(self->a, MINE + THEIRS));
	EXPECT_EQ(0, race(_metadata, self, &refused));
	EXPECT_EQ(0, refused);
	EXPECT_EQ(0, refusals(self->a));
	EXPECT_GE(MINE + THEIRS, peak(self->a));
}

TEST_F(cgroups, race_for_the_last_page)
{
	int refused;

	ASSERT_EQ(0, limit(self->a, MINE + THEIRS - 1));
	EXPECT_EQ(0, race(_metadata, self, &refused));
	EXPECT_LE(12, refused);
	EXPECT_EQ((long)refused, refusals(self->a));
	EXPECT_HELD(0, 0);
}

/* --- Many cgroups, one below the other ------------------------------------------ */

#define DEPTH	64

/* deep[0] is @top, and each is in the one before it */
static char deep[DEPTH + 1][288];

static int let_below(const char *dir)
{
	char path[320];

	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", dir);
	return write_text(path, "+misc");
}

static int deep_make(FIXTURE_DATA(cgroups) *self)
{
	int i, ret = 0;

	snprintf(deep[0], sizeof(deep[0]), "%s", self->top);
	for (i = 1; i <= DEPTH && !ret; i++) {
		snprintf(deep[i], sizeof(deep[i]), "%.280s/d", deep[i - 1]);
		ret = let_below(deep[i - 1]) ?: mkdir(deep[i], 0755);
	}
	return ret;
}

static int deep_remove(void)
{
	int i, ret = 0;

	for (i = DEPTH; i && !ret; i--)
		ret = rmdir(deep[i]);
	return ret;
}

/* Each is charged so much */
#define EXPECT_DEEP(_held)						\
	do {								\
		int __i;						\
									\
		for (__i = 0; __i <= DEPTH; __i++)			\
			EXPECT_EQ((long)(_held), cgroup_held(deep[__i]))\
				TH_LOG("level %d", __i);		\
	} while (0)

/* Whichever of them has no room: it counts the refusal, and none keeps a charge */
TEST_F(cgroups, deep)
{
	static const int at[] = { DEPTH, 33, 7, 0 };
	long local[DEPTH + 1] = {}, all[DEPTH + 1] = {};
	size_t i, k;
	int j;

	ASSERT_EQ(0, deep_make(self));
	vfio_close(&self->v);
	ASSERT_EQ(0, enter(deep[DEPTH]));
	ASSERT_EQ(0, vfio_open(&self->v, 0));
	for (i = 0; i < ARRAY_SIZE(at); i++) {
		const char *full = deep[at[i]];

		for (k = 0; k < ARRAY_SIZE(at); k++) {
			ASSERT_EQ(0, limit(deep[at[k]],
					   k == i ? ROOM : 2 * ROOM));
		}
		EXPECT_EQ(0, map(self, 0, ROOM));
		EXPECT_DEEP(ROOM);
		EXPECT_EQ(-EBUSY, map(self, ROOM, 1));
		EXPECT_DEEP(ROOM);

		/* Far into a map */
		for (k = 0; k < ARRAY_SIZE(at); k++) {
			ASSERT_EQ(0, no_limit(deep[at[k]]));
		}
		ASSERT_EQ(0, limit(full, 6000));
		EXPECT_EQ(-EBUSY, map(self, ROOM, 12000));
		EXPECT_DEEP(ROOM);
		EXPECT_EQ((long)ROOM, unmap(self, 0, ROOM));
		EXPECT_DEEP(0);

		for (j = 0; j <= DEPTH; j++) {
			local[j] += j == at[i] ? 2 : 0;
			all[j] += j <= at[i] ? 2 : 0;
			EXPECT_EQ(local[j], refusals(deep[j]))
				TH_LOG("level %d of %d", j, at[i]);
			EXPECT_EQ(all[j], cgroup_value(deep[j], "misc.events",
						       "longterm_pin.max"))
				TH_LOG("level %d of %d", j, at[i]);
		}
	}
	vfio_close(&self->v);
	ASSERT_EQ(0, enter(self->a));
	EXPECT_EQ(0, deep_remove());
}

#define HOGS	8UL	/* pages of the one that asks and asks */
#define ROUNDS	3000

struct hog {
	volatile bool stop;
	volatile long refused, wrong;
};

static bool has_asked(void *arg)
{
	struct hog *hog = arg;

	return hog->refused || hog->wrong;
}

/* Holds what it may, and asks for more than there can ever be */
static void be_hog(FIXTURE_DATA(cgroups) *self, const char *dir, int fd,
		   struct hog *hog)
{
	long ret;

	/* If the test fails before it says so */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	ret = enter(dir) ?: vfio_open(&self->other, 1) ?:
	      vfio_map(&self->other, self->mem, IOVA, HOGS * PAGE, MAP_RW);
	if (chan_put(fd, ret) || ret)
		_exit(1);
	while (!hog->stop) {
		ret = vfio_map(&self->other, self->mem + HOGS * PAGE,
			       IOVA_FAR, (ROOM + 1) * PAGE, MAP_RW);
		if (ret == -EBUSY)
			hog->refused++;
		else
			hog->wrong++;
		if (!ret)
			vfio_unmap(&self->other, IOVA_FAR, (ROOM + 1) * PAGE);
	}
	if (chan_get(fd, NULL))
		_exit(2);
	vfio_close(&self->other);
	_exit(0);
}

/*
 * Two below the deepest, of which one is refused again and again; the other's room
 * suffices to the page, at each level. If what does not fit were added anywhere, for a
 * moment, the other would be refused: at the deepest, which has room for one of them
 * at a time, on the way up; at the top, which has none.
 */
TEST_F(cgroups, asking_again_and_again_refuses_no_other)
{
	const char *deepest = deep[DEPTH];
	int sv[2], i, refused = 0, wrong = 0, status;
	char a[300], b[300];
	struct hog *hog;
	long ret;
	pid_t pid;

	hog = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, hog);
	ASSERT_EQ(0, deep_make(self));
	ASSERT_EQ(0, let_below(deepest));
	snprintf(a, sizeof(a), "%s/a", deepest);
	snprintf(b, sizeof(b), "%s/b", deepest);
	ASSERT_EQ(0, mkdir(a, 0755));
	ASSERT_EQ(0, mkdir(b, 0755));
	ASSERT_EQ(0, limit(self->top, HOGS + ROOM));
	ASSERT_EQ(0, limit(deepest, HOGS + 2 * ROOM));
	ASSERT_EQ(0, limit(b, ROOM));

	/* To be of another cgroup; and the other process is to have no copy of it */
	vfio_close(&self->v);
	ASSERT_EQ(0, chan_pair(sv));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		be_hog(self, a, sv[1], hog);
	ASSERT_EQ(0, chan_get(sv[0], &ret));
	ASSERT_EQ(0, ret);
	EXPECT_TRUE(wait_for(has_asked, hog));
	ASSERT_EQ(0, enter(b));
	ASSERT_EQ(0, vfio_open(&self->v, 0));
	for (i = 0; i < ROUNDS; i++) {
		ret = map(self, 0, ROOM);
		if (ret == -EBUSY)
			refused++;
		else
			wrong += ret || unmap(self, 0, ROOM) != (long)ROOM;
	}
	hog->stop = true;
	EXPECT_EQ(0, chan_put(sv[0], 0));
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	close(sv[0]);
	close(sv[1]);

	TH_LOG("%d maps beside %ld that were refused", ROUNDS, hog->refused);
	EXPECT_EQ(0, refused);
	EXPECT_EQ(0, wrong);
	EXPECT_LT(0, hog->refused);
	EXPECT_EQ(0, hog->wrong);
	EXPECT_EQ(0, refusals(b));
	EXPECT_EQ(hog->refused, refusals(self->top) + refusals(deepest));
	EXPECT_EQ((long)(HOGS + ROOM), peak(self->top));
	EXPECT_EQ((long)ROOM, peak(b));
	EXPECT_EQ(0, cgroup_held(a));
	EXPECT_EQ(0, cgroup_held(b));
	EXPECT_DEEP(0);
	vfio_close(&self->v);
	ASSERT_EQ(0, enter(self->a));
	EXPECT_EQ(0, rmdir(a));
	EXPECT_EQ(0, rmdir(b));
	EXPECT_EQ(0, deep_remove());
	munmap(hog, PAGE);
}

/* --- Processes and cgroups that go ----------------------------------------------- */

TEST_F(cgroups, process_moves)
{
	struct pins p;

	EXPECT_EQ(0, map(self, 0, ROOM));
	ASSERT_EQ(0, enter(self->b));
	EXPECT_HELD(ROOM, 0);
	/* What it pins from now on is in the old cgroup, too, limits included */
	ASSERT_EQ(0, limit(self->b, 0));
	EXPECT_EQ(0, map(self, ROOM, ROOM));
	EXPECT_HELD(2 * ROOM, 0);
	ASSERT_EQ(0, limit(self->a, 2 * ROOM));
	EXPECT_EQ(-EBUSY, map(self, 2 * ROOM, 1));
	ASSERT_EQ(0, pins_read(0, &p));
	EXPECT_STREQ(path_of(self->a), p.cgroup);
	EXPECT_FALSE(p.removed);
	EXPECT_EQ((long)(2 * ROOM), unmap(self, 0, 2 * ROOM));
	EXPECT_HELD(0, 0);

	/* A ledger goes with the last holder; the next one is of the new cgroup */
	vfio_close(&self->v);
	ASSERT_EQ(0, vfio_open(&self->v, 0));
	EXPECT_EQ(-EBUSY, map(self, 0, 1));
	EXPECT_EQ(1, refusals(self->b));
	ASSERT_EQ(0, limit(self->b, 1));
	EXPECT_EQ(0, map(self, 0, 1));
	EXPECT_HELD(0, 1);
}

/* No removed cgroup below @dir is kept by anything */
static bool none_dying(void *dir)
{
	return !cgroup_value(dir, "cgroup.stat", "nr_dying_descendants");
}

TEST_F(cgroups, cgroup_removed)
{
	char want[256], *log;
	struct pins p;

	ASSERT_EQ(0, limit(self->a, 2 * ROOM));
	EXPECT_EQ(0, map(self, 0, ROOM));
	ASSERT_EQ(0, enter(self->b));
	ASSERT_EQ(0, rmdir(self->a));
	EXPECT_EQ((long)ROOM, cgroup_held(self->top));
	EXPECT_EQ(0, cgroup_held(self->b));
	ASSERT_EQ(0, pins_read(0, &p));
	EXPECT_STREQ(path_of(self->a), p.cgroup);
	EXPECT_TRUE(p.removed);

	/* Its limit is still there */
	EXPECT_EQ(0, map(self, ROOM, ROOM));
	EXPECT_EQ((long)(2 * ROOM), cgroup_held(self->top));
	log_room(1);
	EXPECT_EQ(-EBUSY, map(self, 2 * ROOM, 1));
	snprintf(want, sizeof(want), ", limit %lu bytes of \"%s\" (removed): ",
		 2 * ROOM * PAGE, path_of(self->a));
	log = kernel_log();
	ASSERT_NE(NULL, log);
	EXPECT_NE(NULL, strstr(log, want)) TH_LOG("%s", want);
	free(log);

	/* Another of that name is another */
	ASSERT_EQ(0, mkdir(self->a, 0755));
	EXPECT_EQ(0, cgroup_held(self->a));
	EXPECT_EQ((long)(2 * ROOM), unmap(self, 0, 2 * ROOM));
	EXPECT_EQ(0, cgroup_held(self->top));
	EXPECT_FALSE(none_dying(self->top));
	vfio_close(&self->v);
	EXPECT_TRUE(wait_for(none_dying, self->top));
}

/* --- Owner change --------------------------------------------------------------- */

#define N	64L
#define SIZE	(N * PAGE)

/*
 * A child in @b maps memory, which the test shall take over; with @lives it waits
 * for a word on *@fd before it ends.
 */
static pid_t first_owner(FIXTURE_DATA(cgroups) *self, char *mem, bool lives,
			 int *fd)
{
	int sv[2];
	pid_t pid;

	if (chan_pair(sv))
		return -1;
	pid = fork();
	if (!pid) {
		if (enter(self->b) ||
		    vfio_map(&self->v, mem, IOVA, SIZE, MAP_RW) ||
		    vfio_vaddr_drop(&self->v, IOVA, SIZE))
			_exit(1);
		if (chan_put(sv[1], 0) || (lives && chan_get(sv[1], NULL)))
			_exit(2);
		_exit(0);
	}
	close(sv[1]);
	*fd = sv[0];
	return chan_get(sv[0], NULL) ? -1 : pid;
}

/* Of one that lives; its exit status, or -1 */
static int end_first_owner(pid_t pid, int fd)
{
	int status;

	if (chan_put(fd, 0) || reap(pid, &status))
		status = -1;
	close(fd);
	return status;
}

static char *shared_memory(void)
{
	char *mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		return NULL;
	memset(mem, 1, SIZE);
	return mem;
}

/*
 * What a process that is dead has pinned stays in its cgroup. What the one that
 * takes over pins is in its own.
 */
TEST_F(cgroups, adopted)
{
	char *mem = shared_memory();
	int fd, status;
	struct pins p;
	pid_t pid;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, limit(self->a, 3));
	pid = first_owner(self, mem, false, &fd);
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	close(fd);
	EXPECT_HELD(0, N);
	EXPECT_EQ(0, vfio_vaddr_set(&self->v, mem, IOVA, SIZE));
	EXPECT_STATE(&self->base, N, N, N);
	EXPECT_HELD(0, N);
	ASSERT_EQ(0, pins_read(0, &p));
	EXPECT_STREQ(path_of(self->a), p.cgroup);

	EXPECT_EQ(-EBUSY, map(self, N + ROOM, 4));
	EXPECT_EQ(1, refusals(self->a));
	EXPECT_EQ(0, map(self, N + ROOM, 3));
	EXPECT_HELD(3, N);
	/* The new cgroup is the first to get something back, and its room */
	EXPECT_EQ(3, unmap(self, N + ROOM, 3));
	EXPECT_HELD(0, N);
	EXPECT_EQ(0, map(self, N + ROOM, 3));
	EXPECT_HELD(3, N);
	EXPECT_EQ((long)SIZE, vfio_unmap(&self->v, IOVA, SIZE));
	EXPECT_HELD(0, 3);
	EXPECT_EQ(3, unmap(self, N + ROOM, 3));
	EXPECT_HELD(0, 0);
}

/* Two processes in one cgroup, which has room for the memory once */
TEST_F(cgroups, moved_within)
{
	char *mem = shared_memory();
	int fd;
	pid_t pid;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, limit(self->b, N));
	ASSERT_EQ(0, limit(self->top, N));
	pid = first_owner(self, mem, true, &fd);
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, enter(self->b));
	EXPECT_HELD(0, N);
	EXPECT_EQ(0, vfio_vaddr_set(&self->v, mem, IOVA, SIZE));
	EXPECT_STATE(&self->base, N, N, N);
	EXPECT_HELD(0, N);
	EXPECT_EQ(N, peak(self->b));
	EXPECT_EQ(0, refusals(self->b));
	EXPECT_EQ(0, edu_check(&self->v.dev[0], mem, IOVA, SIZE));
	EXPECT_EQ(0, end_first_owner(pid, fd));
	EXPECT_HELD(0, N);
	EXPECT_EQ((long)SIZE, vfio_unmap_all(&self->v));
	EXPECT_HELD(0, 0);
}

/* From a process that lives each page moves, and the new limit holds */
TEST_F(cgroups, moved)
{
	char *mem = shared_memory();
	struct pins p;
	int fd;
	pid_t pid;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, limit(self->a, N - 1));
	/* That of both has room for the memory once */
	ASSERT_EQ(0, limit(self->top, N));
	pid = first_owner(self, mem, true, &fd);
	ASSERT_LT(0, pid);
	EXPECT_HELD(0, N);
	EXPECT_EQ(-EBUSY, vfio_vaddr_set(&self->v, mem, IOVA, SIZE));
	EXPECT_HELD(0, N);
	EXPECT_EQ(1, refusals(self->a));
	EXPECT_REFUSED(&self->base, CGROUP, 1);
	ASSERT_EQ(0, pins_read(0, &p));
	EXPECT_EQ(0, p.held);
	EXPECT_EQ(N, cgroup_held(self->top));

	ASSERT_EQ(0, limit(self->a, N));
	EXPECT_EQ(0, vfio_vaddr_set(&self->v, mem, IOVA, SIZE));
	EXPECT_STATE(&self->base, N, N, N);
	EXPECT_HELD(N, 0);
	EXPECT_EQ(0, edu_check(&self->v.dev[0], mem, IOVA, SIZE));
	EXPECT_EQ(0, end_first_owner(pid, fd));
	EXPECT_HELD(N, 0);
	EXPECT_EQ((long)SIZE, vfio_unmap_all(&self->v));
	EXPECT_HELD(0, 0);
}

/*
 * While the first process lives, there is no room for what has to move. Afterwards
 * none is needed, also for who has tried before.
 */
TEST_F(cgroups, adopted_at_the_second_try)
{
	char *mem = shared_memory();
	int fd;
	struct pins p;
	pid_t pid;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, limit(self->a, 3));
	pid = first_owner(self, mem, true, &fd);
	ASSERT_LT(0, pid);
	EXPECT_EQ(-EBUSY, vfio_vaddr_set(&self->v, mem, IOVA, SIZE));
	EXPECT_EQ(1, refusals(self->a));
	EXPECT_REFUSED(&self->base, CGROUP, 1);
	EXPECT_EQ(0, end_first_owner(pid, fd));

	EXPECT_EQ(0, vfio_vaddr_set(&self->v, mem, IOVA, SIZE));
	EXPECT_STATE(&self->base, N, N, N);
	EXPECT_HELD(0, N);
	EXPECT_EQ(1, refusals(self->a));
	ASSERT_EQ(0, pins_read(0, &p));
	EXPECT_STREQ(path_of(self->a), p.cgroup);
	EXPECT_EQ(0, edu_check(&self->v.dev[0], mem, IOVA, SIZE));
	EXPECT_EQ((long)SIZE, vfio_unmap_all(&self->v));
	EXPECT_HELD(0, 0);
}

/* It has pins besides, and so a ledger of its own. The account tells of both refusals */
TEST_F(cgroups, refused_at_the_second_try)
{
	char *mem = shared_memory();
	struct vfio other;
	int fd;
	pid_t pid;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, limit(self->a, 3));
	ASSERT_EQ(0, vfio_open(&other, 1));
	ASSERT_EQ(0, vfio_map(&other, self->mem, IOVA, PAGE, MAP_RW));
	pid = first_owner(self, mem, true, &fd);
	ASSERT_LT(0, pid);
	EXPECT_EQ(-EBUSY, vfio_vaddr_set(&self->v, mem, IOVA, SIZE));
	EXPECT_EQ(0, end_first_owner(pid, fd));

	EXPECT_EQ(-EBUSY, vfio_vaddr_set(&self->v, mem, IOVA, SIZE));
	EXPECT_REFUSED(&self->base, CGROUP, 2);
	EXPECT_EQ(2, refusals(self->a));
	EXPECT_HELD(1, N);
	vfio_close(&other);
	EXPECT_EQ(0, vfio_vaddr_set(&self->v, mem, IOVA, SIZE));
	EXPECT_HELD(0, N);
	EXPECT_EQ((long)SIZE, vfio_unmap_all(&self->v));
	EXPECT_HELD(0, 0);
}

/* --- What is said -------------------------------------------------------------- */

/*
 * Each map of the same memory takes a page table of the IOMMU, and pins nothing
 * that is not charged already. But the table is memory of the cgroup: memory.max
 * ends it, and whoever goes on is killed.
 */
#define TABLES		4096UL	/* page tables that memory.max allows */

/* Are the page tables of the IOMMU memory of this kernel? A virtio-iommu has none. */
static bool has_page_tables(void *mem)
{
	long i, tables = vmstat("nr_iommu_pages");
	struct vfio v;

	if (vfio_open(&v, 1))
		return true;
	/* Fewer than this may not be counted yet */
	for (i = 0; i < 512; i++) {
		if (vfio_map(&v, mem, IOVA_FAR + i * 2 * MB, PAGE, MAP_RW))
			break;
	}
	tables = vmstat("nr_iommu_pages") - tables;
	vfio_close(&v);
	return tables;
}

TEST_F(cgroups, page_tables_of_many_maps)
{
	long tables = vmstat("nr_iommu_pages");
	unsigned long *maps;
	char path[320];
	int status;
	pid_t pid;

	if (!has_page_tables(self->mem))
		SKIP(return, "this IOMMU has no page tables in the kernel");
	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", self->top);
	ASSERT_EQ(0, write_text(path, "+memory"));
	snprintf(path, sizeof(path), "%s/memory.max", self->b);
	ASSERT_EQ(0, write_text(path, "16M"));
	maps = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, maps);

	pid = fork();
	if (!pid) {
		if (enter(self->b) || vfio_open(&self->other, 1))
			_exit(1);
		while (!vfio_map(&self->other, self->mem,
				 IOVA_FAR + *maps * 2 * MB, PAGE, MAP_RW))
			++*maps;
		_exit(2);
	}
	ASSERT_EQ(0, reap(pid, &status));
	TH_LOG("%lu maps", *maps);
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		TH_LOG("status 0x%x", status);
	EXPECT_EQ(1, cgroup_value(self->b, "memory.events", "oom_kill"));
	EXPECT_LE(TABLES / 2, *maps);
	EXPECT_GE(TABLES, *maps);
	EXPECT_EQ(tables, vmstat("nr_iommu_pages"));
	EXPECT_BACK(&self->base);
	munmap(maps, PAGE);
}

TEST_F(cgroups, capacity)
{
	char path[256], *text;

	snprintf(path, sizeof(path), "%s/misc.capacity", cgroup_root());
	text = slurp(path);
	ASSERT_NE(NULL, text);
	EXPECT_NE(NULL, strstr(text, "longterm_pin 18446744073709551615\n"))
		TH_LOG("%s", text);
	free(text);
	EXPECT_EQ(LONG_MAX, cgroup_value(self->a, "misc.max", "longterm_pin"));
}

/* The cgroup whose limit it is need not be that of the process */
TEST_F(cgroups, log_line)
{
	static const char why[] =
		"the cgroup would exceed longterm_pin, its limit of pinned memory; to raise it, write \"longterm_pin BYTES\" to its misc.max\n";
	char want[512], *log;
	struct pins p;
	int i;

	prctl(PR_SET_NAME, "logger");
	for (i = 0; i < 2; i++) {
		const char *dir = i ? self->top : self->a;
		unsigned long n = i ? ROOM : 2 * ROOM;

		ASSERT_EQ(0, no_limit(self->a));
		ASSERT_EQ(0, limit(dir, n));
		log_room(1);
		EXPECT_EQ(-EBUSY, map(self, 0, 3 * ROOM));
		ASSERT_EQ(0, pins_read(0, &p));
		ASSERT_EQ(1, p.nr);
		snprintf(want, sizeof(want),
			 "longterm_pin: refused cgroup: %s of \"logger\" [%d], uid 0, cgroup \"%s\", limit %lu bytes of \"%s\": %s",
			 p.holder[0].name, getpid(), path_of(self->a),
			 n * PAGE, path_of(dir), why);
		log = kernel_log();
		ASSERT_NE(NULL, log);
		EXPECT_NE(NULL, strstr(log, want)) TH_LOG("%s", want);
		free(log);
	}
}

/* Names of cgroups are users', too. Those that do no harm can be pasted. */
TEST_F(cgroups, odd_names)
{
	static const struct {
		const char *name, *text, *in_log;
	} odd[] = {
		{ "machine-qemu\\x2d1\\x2ddb.scope",
		  "machine-qemu\\x2d1\\x2ddb.scope",
		  "machine-qemu\\x2d1\\x2ddb.scope" },
		{ "m\xc3\xb6" "bel \xe6\xa9\x9f",
		  "m\xc3\xb6" "bel \xe6\xa9\x9f",
		  "m\xc3\xb6" "bel \xe6\xa9\x9f" },
		{ "a b\"c\\d\xff\x1b[2J", "a b\"c\\d\\377\\033[2J",
		  "a b\\042c\\d\\377\\033[2J" },
		{ "\\033 removed", "\\134033 removed", "\\134033 removed" },
	};
	char dir[300], want[512], *log;
	struct pins p;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(odd); i++) {
		snprintf(dir, sizeof(dir), "%s/%s", self->top, odd[i].name);
		ASSERT_EQ(0, mkdir(dir, 0755));
		ASSERT_EQ(0, enter(dir));
		ASSERT_EQ(0, limit(dir, ROOM));
		EXPECT_EQ(0, map(self, 0, ROOM));
		log_room(1);
		EXPECT_EQ(-EBUSY, map(self, ROOM, 1));
		ASSERT_EQ(0, pins_read(0, &p));
		snprintf(want, sizeof(want), "%s/%s", path_of(self->top),
			 odd[i].text);
		EXPECT_STREQ(want, p.cgroup);
		EXPECT_FALSE(p.removed);
		snprintf(want, sizeof(want), ", cgroup \"%s/%s\", limit",
			 path_of(self->top), odd[i].in_log);
		log = kernel_log();
		ASSERT_NE(NULL, log);
		EXPECT_NE(NULL, strstr(log, want)) TH_LOG("%s", want);
		free(log);
		vfio_close(&self->v);
		ASSERT_EQ(0, enter(self->a));
		EXPECT_EQ(0, rmdir(dir));
		ASSERT_EQ(0, vfio_open(&self->v, 0));
	}
}

/* What a reader in another cgroup namespace sees of the cgroup of @pid */
static int seen_from(const char *dir, pid_t pid, char *to, size_t size)
{
	int pipe_fd[2], status;
	static struct pins p;
	ssize_t n;
	pid_t child;

	if (pipe(pipe_fd))
		return -errno;
	child = fork();
	if (!child) {
		if (enter(dir) || unshare(CLONE_NEWCGROUP) ||
		    pins_read(pid, &p) ||
		    write(pipe_fd[1], p.cgroup, strlen(p.cgroup)) < 0)
			_exit(1);
		_exit(0);
	}
	if (reap(child, &status) || status)
		return -EIO;
	n = read(pipe_fd[0], to, size - 1);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	if (n < 0)
		return -errno;
	to[n] = 0;
	return 0;
}

TEST_F(cgroups, path_is_the_readers)
{
	char path[256], root[256];
	struct pins p;

	EXPECT_EQ(0, map(self, 0, 1));
	ASSERT_EQ(0, pins_read(0, &p));
	EXPECT_STREQ(path_of(self->a), p.cgroup);
	EXPECT_EQ(0, seen_from(self->a, getpid(), path, sizeof(path)));
	EXPECT_STREQ("/", path);
	EXPECT_EQ(0, seen_from(self->b, getpid(), path, sizeof(path)));
	EXPECT_STREQ("/../a", path);
	snprintf(root, sizeof(root), "%s", cgroup_root());
	EXPECT_EQ(0, seen_from(root, getpid(), path, sizeof(path)));
	EXPECT_STREQ(path_of(self->a), path);
}

TEST_HARNESS_MAIN
