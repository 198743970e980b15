// SPDX-License-Identifier: GPL-2.0
/*
 * Processes come and go while memory is pinned: signals, fork, exec, live
 * update, file descriptors that outlive their opener.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/memfd.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "test.h"

#define N	64L		/* pages, where the number does not matter */
#define SIZE	(N * PAGE)

FIXTURE(life)
{
	struct vfio v;
	struct snap before, base;
	int memfd;
	char *mem;		/* of the memfd, shared */
	char *scratch;
};

FIXTURE_SETUP(life)
{
	NEED_DEVICES(2U);
	self->memfd = memfd_create("guest", 0);
	ASSERT_LE(0, self->memfd);
	ASSERT_EQ(0, ftruncate(self->memfd, SIZE));
	self->mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
			 self->memfd, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->mem);
	memset(self->mem, 0, SIZE);
	self->scratch = anon_pages(PAGE);
	ASSERT_NE(NULL, self->scratch);
	ASSERT_EQ(0, snap(&self->before));
	ASSERT_EQ(0, vfio_open(&self->v, 0));
	ASSERT_EQ(0, snap(&self->base));
}

FIXTURE_TEARDOWN(life)
{
	vfio_close(&self->v);
	EXPECT_BACK(&self->before);
}

/* The holder with that name in the list of the whole system */
static bool listed(struct pins *all, const char *name, struct holder *h)
{
	int i;

	if (pins_read_all(all))
		return false;
	for (i = 0; i < all->nr; i++) {
		if (strcmp(all->holder[i].name, name))
			continue;
		*h = all->holder[i];
		return true;
	}
	return false;
}

/* --- A long map is killed --------------------------------------------------- */

#define BATCH		(2 * MB)	/* what is pinned between two looks */

struct progress {
	bool touched;
	int fd;
	pid_t pid;
};

static size_t progress(const struct progress *p)
{
	static struct pins all;
	struct stat st;
	int i;

	if (!p->touched)
		return fstat(p->fd, &st) ? 0 : st.st_blocks * 512UL;
	if (pins_read_all(&all))
		return 0;
	for (i = 0; i < all.nr; i++)
		if (all.holder[i].pid == p->pid)
			return all.holder[i].peak * PAGE;
	return 0;
}

static bool has_begun(void *arg)
{
	return progress(arg) >= BATCH;
}

/*
 * A child begins a long map, and is killed on the way. Untouched memory comes
 * with the pins, page by page, and GUP itself looks for signals; the size of the
 * memfd tells how far it is. Huge pages that are there already (the same few,
 * again and again, or it would not take long) are for GUP-fast, which does not
 * look; the holder's peak tells, in the list of all, for which the container
 * must outlive the child (@keep).
 *
 * It is asked after the kill how far the child has come. So it does not matter
 * when that is, and nothing may follow but the batch that was under way. Returns
 * false when that was the last one, or none was left: this shows nothing.
 */
static bool kill_a_map(struct __test_metadata *_metadata, int sig, bool keep,
		       bool touched)
{
	const size_t part = touched ? 64 * MB : GB;
	const size_t size = touched ? 128 * GB : GB;
	struct progress p = { .touched = touched };
	size_t at, at_kill, at_end, reserved;
	struct snap before;
	int status, sv[2];
	struct vfio v;
	uint64_t start;
	pid_t pid;
	void *base;
	char *mem;

	ASSERT_EQ(0, snap(&before));
	p.fd = memfd_create("long map", MFD_CLOEXEC |
			    (touched ? MFD_HUGETLB | MFD_HUGE_2MB : 0));
	ASSERT_LE(0, p.fd);
	ASSERT_EQ(0, ftruncate(p.fd, part));
	ASSERT_EQ(0, chan_pair(sv));
	if (keep)
		ASSERT_EQ(0, vfio_open(&v, 1));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		mem = reserve(size, 2 * MB, &base, &reserved);
		for (at = 0; mem && at < size; at += part)
			if (mmap(mem + at, part, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_FIXED |
				 (touched ? MAP_POPULATE : 0), p.fd, 0) ==
			    MAP_FAILED)
				_exit(1);
		if (!mem || (!keep && vfio_open(&v, 1)) || chan_put(sv[1], 0))
			_exit(1);
		vfio_map(&v, mem, IOVA_FAR, size, MAP_RW);
		_exit(2);
	}
	p.pid = pid;
	EXPECT_EQ(0, chan_get(sv[0], NULL));
	EXPECT_TRUE(wait_for(has_begun, &p));
	EXPECT_EQ(0, kill(pid, sig));
	at_kill = progress(&p);
	start = now_ms();
	EXPECT_EQ(0, reap(pid, &status));
	at_end = progress(&p);
	TH_LOG("killed at %zu MiB, ended at %zu MiB, %llu ms later",
	       at_kill / MB, at_end / MB,
	       (unsigned long long)(now_ms() - start));
	if (at_kill + BATCH < size) {
		EXPECT_TRUE(WIFSIGNALED(status));
		EXPECT_EQ(sig, WTERMSIG(status));
		EXPECT_LE(at_end, at_kill + BATCH);
	}
	if (keep && at_kill + BATCH >= size) {
		/* The map was done before the kill came */
		vfio_unmap_all(&v);
		vfio_close(&v);
	} else if (keep) {
		/* The map failed as a whole: its container holds nothing */
		static struct pins all;
		int i;

		EXPECT_EQ(0, pins_read_all(&all));
		for (i = 0; i < all.nr; i++) {
			if (all.holder[i].pid != pid)
				continue;
			EXPECT_STREQ("gone", all.holder[i].state);
			EXPECT_EQ(0, all.holder[i].pages);
			EXPECT_EQ(0, all.holder[i].charge);
			EXPECT_EQ(0, all.holder[i].held);
		}
		EXPECT_EQ(0L, vfio_unmap_all(&v));
		vfio_close(&v);
	}
	close(p.fd);
	close(sv[0]);
	close(sv[1]);
	EXPECT_BACK(&before);
	return at_kill + BATCH < size;
}

static void kill_the_map(struct __test_metadata *_metadata, int sig, bool keep,
			 bool touched)
{
	int tries = 20;

	while (!kill_a_map(_metadata, sig, keep, touched) &&
	       !_metadata->exit_code) {
		ASSERT_NE(0, --tries)
			TH_LOG("this machine maps all of it before a kill");
		TH_LOG("the kill came too late: again");
	}
}

TEST_F(life, kill_while_mapping)
{
	kill_the_map(_metadata, SIGKILL, false, false);
}

TEST_F(life, fatal_signal_while_mapping)
{
	kill_the_map(_metadata, SIGTERM, false, false);
}

TEST_F(life, kill_while_mapping_memory_in_use)
{
	kill_the_map(_metadata, SIGKILL, true, true);
}

/* The container survives, as another process has it, too */
TEST_F(life, kill_while_mapping_in_shared_container)
{
	kill_the_map(_metadata, SIGKILL, true, false);
}

/* The end of a process that has a large map, and does not unmap it */
TEST_F(life, kill_with_mappings)
{
	int status, sv[2];
	struct pins p;
	pid_t pid;

	ASSERT_EQ(0, chan_pair(sv));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		char *mem = anon_pages(64 * MB);
		struct vfio v;

		if (!mem || vfio_open(&v, 1) ||
		    vfio_map(&v, mem, IOVA, 64 * MB, MAP_RW) ||
		    chan_put(sv[1], 0))
			_exit(1);
		pause();
		_exit(2);
	}
	ASSERT_EQ(0, chan_get(sv[0], NULL));
	EXPECT_EQ(0, pins_read(pid, &p));
	EXPECT_EQ((long)(64 * MB / PAGE), p.charge);
	EXPECT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_BACK(&self->base);
}

TEST_F(life, closed_with_mappings)
{
	ASSERT_EQ(0, vfio_map(&self->v, self->mem, IOVA, SIZE, MAP_RW));
	EXPECT_STATE(&self->base, N, N, N);
	vfio_close(&self->v);
	EXPECT_BACK(&self->before);
}

/* --- fork and exec ---------------------------------------------------------- */

/*
 * A child has none of its parent's pins, and the parent keeps its pages: what
 * it writes after the fork is what the device sees.
 */
TEST_F(life, fork)
{
	char *mem = anon_pages(SIZE);
	int status, sv[2];
	uint64_t pfn;
	pid_t pid;

	ASSERT_NE(NULL, mem);
	fill(mem, EDU_LEN, 1);
	ASSERT_EQ(0, vfio_map(&self->v, mem, IOVA, SIZE, MAP_RW));
	pfn = pfn_of(mem);
	ASSERT_EQ(0, chan_pair(sv));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct pins p;

		if (pins_read(0, &p) || p.nr || p.charge || p.held)
			_exit(1);
		if (status_pages(0, "VmLck:"))
			_exit(2);
		if (chan_get(sv[1], NULL))
			_exit(3);
		/* The parent has written, and so has the device: not here */
		if (!filled(mem, EDU_LEN, 1))
			_exit(4);
		fill(mem, SIZE, 9);
		_exit(0);
	}
	EXPECT_STATE(&self->base, N, N, N);
	EXPECT_EQ(pfn, pfn_of(mem));
	EXPECT_EQ(0, edu_check(&self->v.dev[0], mem, IOVA, SIZE));
	fill(mem, EDU_LEN, 2);
	EXPECT_EQ(0, chan_put(sv[0], 0));
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_EQ(pfn, pfn_of(mem));
	EXPECT_EQ(0, edu_copy(&self->v.dev[0], IOVA + PAGE, IOVA, EDU_LEN));
	EXPECT_TRUE(filled(mem + PAGE, EDU_LEN, 2));
	EXPECT_EQ(SIZE, (unsigned long)vfio_unmap(&self->v, IOVA, SIZE));
	EXPECT_BACK(&self->base);
}

/* A child that is left with the container when its parent maps */
TEST_F(life, forked_child_closes_nothing)
{
	int status;
	pid_t pid;

	ASSERT_EQ(0, vfio_map(&self->v, self->mem, IOVA, SIZE, MAP_RW));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		vfio_close(&self->v);
		_exit(0);
	}
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_STATE(&self->base, N, N, N);
	EXPECT_EQ(0, edu_check(&self->v.dev[0], self->mem, IOVA, SIZE));
}

static void keep_over_exec(struct vfio *v)
{
	fcntl(v->fd, F_SETFD, 0);
	fcntl(v->dev[0].fd, F_SETFD, 0);
	fcntl(v->dev[0].group, F_SETFD, 0);
}

/* The container, its device and the memory, of which exec() has kept the files; or NULL */
static char *open_after_exec(char **arg, struct vfio *v)
{
	char *mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
			 atoi(arg[3]), 0);

	*v = (struct vfio){
		.fd = atoi(arg[0]),
		.nr_devs = 1,
		.dev[0] = { .group = atoi(arg[1]), .fd = atoi(arg[2]) },
	};
	v->dev[0].bar = vfio_bar_map(&v->dev[0], NULL, &v->dev[0].bar_size);
	return mem == MAP_FAILED || !v->dev[0].bar ? NULL : mem;
}

/*
 * What exec() starts: the container, the device, and the memory are inherited,
 * the memory has another place, and the charge is to come here. Exit code 0, or
 * the number of the step that failed.
 */
static int after_exec(char **arg)
{
	long limit = atol(arg[4]);
	struct pins p;
	struct vfio v;
	char *mem;
	int ret;

	mem = open_after_exec(arg, &v);
	if (!mem)
		return 10;
	if (pins_read(0, &p) || p.nr || p.charge || p.held)
		return 11;
	if (limit >= 0 && (set_memlock(limit * PAGE) ||
			   cap_drop(CAP_IPC_LOCK)))
		return 12;
	ret = vfio_vaddr_set(&v, mem, IOVA, SIZE);
	if (limit >= 0 && limit < N) {
		if (ret != -ENOMEM)
			return 13;
		if (pins_read(0, &p) || p.charge ||
		    status_pages(0, "VmLck:"))
			return 14;
		if (set_memlock(N * PAGE))
			return 15;
		ret = vfio_vaddr_set(&v, mem, IOVA, SIZE);
	}
	if (ret)
		return 16;
	if (pins_read(0, &p) || p.charge != N || p.held != N ||
	    pins_pages(&p) != N || status_pages(0, "VmLck:") != N)
		return 17;
	/* Taken over as it is, not moved into one of its own, also at the second try */
	if (p.nr != 1 || strcmp(p.holder[0].name, arg[5]))
		return 21;
	if (edu_check(&v.dev[0], mem, IOVA, SIZE))
		return 18;
	if (vfio_unmap(&v, IOVA, SIZE) != (long)SIZE)
		return 19;
	if (pins_read(0, &p) || p.charge || p.held || pins_pages(&p) ||
	    status_pages(0, "VmLck:"))
		return 20;
	return 0;
}

static void exec_with(struct __test_metadata *_metadata,
		      FIXTURE_DATA(life) *self, long limit)
{
	char arg[5][16];
	int status;
	pid_t pid;

	/* The child opens it for itself, as the test would not survive exec() */
	vfio_close(&self->v);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct pins p;
		struct vfio v;

		if (vfio_open(&v, 0) ||
		    vfio_map(&v, self->mem, IOVA, SIZE, MAP_RW) ||
		    pins_read(0, &p) || p.nr != 1 ||
		    vfio_vaddr_drop(&v, IOVA, SIZE))
			_exit(1);
		keep_over_exec(&v);
		sprintf(arg[0], "%d", v.fd);
		sprintf(arg[1], "%d", v.dev[0].group);
		sprintf(arg[2], "%d", v.dev[0].fd);
		sprintf(arg[3], "%d", self->memfd);
		sprintf(arg[4], "%ld", limit);
		execl("/proc/self/exe", "life", "--after-exec", arg[0], arg[1],
		      arg[2], arg[3], arg[4], p.holder[0].name, NULL);
		_exit(2);
	}
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, WEXITSTATUS(status))
		TH_LOG("after_exec() returned this");
	EXPECT_EQ(0, status);
	EXPECT_BACK(&self->before);
}

TEST_F(life, exec)
{
	exec_with(_metadata, self, -1);
}

TEST_F(life, exec_with_limit)
{
	exec_with(_metadata, self, N);
}

TEST_F(life, exec_with_low_limit)
{
	exec_with(_metadata, self, N - 1);
}

/*
 * Two containers, of which the process asks for one at first. It pays for what it
 * has asked for, and what the other one pins is held all the same.
 */
static int after_exec_of_two(char **arg)
{
	struct vfio a = { .fd = atoi(arg[0]) }, b = { .fd = atoi(arg[1]) };
	struct pins p;
	char *mem;

	mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		   atoi(arg[2]), 0);
	if (mem == MAP_FAILED || set_memlock(N / 2 * PAGE) ||
	    cap_drop(CAP_IPC_LOCK))
		return 10;
	if (vfio_vaddr_set(&a, mem, IOVA, SIZE / 2))
		return 11;
	if (pins_read(0, &p) || p.charge != N / 2 || p.held != N ||
	    status_pages(0, "VmLck:") != N / 2)
		return 12;
	/* No more may be pinned, nor taken over */
	if (vfio_map(&a, mem + SIZE / 2, IOVA + SIZE, PAGE, MAP_RW) != -ENOMEM ||
	    vfio_vaddr_set(&b, mem + SIZE / 2, IOVA, SIZE / 2) != -ENOMEM)
		return 13;
	if (pins_read(0, &p) || p.charge != N / 2 || p.held != N)
		return 14;
	/* What is not asked for can be unmapped, for nothing */
	if (vfio_unmap(&b, IOVA + SIZE, PAGE) != (long)PAGE)
		return 15;
	if (pins_read(0, &p) || p.charge != N / 2 || p.held != N)
		return 16;
	if (set_memlock(N * PAGE) ||
	    vfio_vaddr_set(&b, mem + SIZE / 2, IOVA, SIZE / 2))
		return 17;
	if (pins_read(0, &p) || p.charge != N || p.held != N ||
	    status_pages(0, "VmLck:") != N)
		return 18;
	if (vfio_unmap_all(&a) != (long)SIZE / 2)
		return 19;
	if (pins_read(0, &p) || p.charge != N / 2 || p.held != N / 2)
		return 20;
	if (vfio_unmap_all(&b) != (long)SIZE / 2)
		return 21;
	if (pins_read(0, &p) || p.charge || p.held || pins_pages(&p) ||
	    status_pages(0, "VmLck:"))
		return 22;
	return 0;
}

TEST_F(life, exec_of_one_of_two)
{
	char arg[3][16];
	int status;
	pid_t pid;

	vfio_close(&self->v);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct vfio a, b;

		/* The last page of the memory is twice in the second container */
		if (vfio_open(&a, 0) || vfio_open(&b, 1) ||
		    vfio_map(&a, self->mem, IOVA, SIZE / 2, MAP_RW) ||
		    vfio_map(&b, self->mem + SIZE / 2, IOVA, SIZE / 2, MAP_RW) ||
		    vfio_map(&b, self->mem + SIZE - PAGE, IOVA + SIZE, PAGE,
			     MAP_RW) ||
		    vfio_vaddr_drop(&a, IOVA, SIZE / 2) ||
		    vfio_vaddr_drop(&b, IOVA, SIZE / 2))
			_exit(1);
		keep_over_exec(&a);
		keep_over_exec(&b);
		sprintf(arg[0], "%d", a.fd);
		sprintf(arg[1], "%d", b.fd);
		sprintf(arg[2], "%d", self->memfd);
		execl("/proc/self/exe", "life", "--after-exec-of-two", arg[0],
		      arg[1], arg[2], NULL);
		_exit(2);
	}
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, WEXITSTATUS(status))
		TH_LOG("after_exec_of_two() returned this");
	EXPECT_EQ(0, status);
	EXPECT_BACK(&self->before);
}

/*
 * Another process runs with the memory of the old program when the new one takes over:
 * then each mapping moves, and when that process has gone, so does the next one.
 */
static int after_exec_while_used(char **arg)
{
	struct vfio v;
	const long half = SIZE / 2;
	struct pins p;
	char *mem;
	int status;

	mem = open_after_exec(arg, &v);
	if (!mem)
		return 10;
	if (vfio_vaddr_set(&v, mem, IOVA, half))
		return 11;
	if (pins_read(0, &p) || p.nr != 1 || pins_pages(&p) != N / 2 ||
	    p.charge != N / 2 || p.held != N / 2 ||
	    status_pages(0, "VmLck:") != N / 2)
		return 12;
	/* What was moved is that of another holder */
	if (!strcmp(p.holder[0].name, arg[6]))
		return 13;
	close(atoi(arg[4]));
	if (reap(atoi(arg[5]), &status) || status)
		return 14;
	if (vfio_vaddr_set(&v, mem + half, IOVA + half, half))
		return 15;
	if (pins_read(0, &p) || p.nr != 1 || pins_pages(&p) != N ||
	    p.charge != N || p.held != N || status_pages(0, "VmLck:") != N)
		return 16;
	if (edu_check(&v.dev[0], mem, IOVA, SIZE))
		return 17;
	if (vfio_unmap_all(&v) != (long)SIZE)
		return 18;
	if (pins_read(0, &p) || p.charge || p.held || pins_pages(&p) ||
	    status_pages(0, "VmLck:"))
		return 19;
	return 0;
}

/* Map the memory in two halves, and keep them for open_after_exec(@arg) */
static bool map_halves(FIXTURE_DATA(life) *self, char arg[][16], struct pins *p)
{
	const long half = SIZE / 2;
	struct vfio v;

	if (vfio_open(&v, 0) ||
	    vfio_map(&v, self->mem, IOVA, half, MAP_RW) ||
	    vfio_map(&v, self->mem + half, IOVA + half, half, MAP_RW) ||
	    pins_read(0, p) || p->nr != 1 || vfio_vaddr_drop(&v, IOVA, SIZE))
		return false;
	keep_over_exec(&v);
	sprintf(arg[0], "%d", v.fd);
	sprintf(arg[1], "%d", v.dev[0].group);
	sprintf(arg[2], "%d", v.dev[0].fd);
	sprintf(arg[3], "%d", self->memfd);
	return true;
}

/* Has the memory of the program that started it, until the other end is closed */
static int user(void *fds)
{
	int *to = fds;
	char c;

	close(to[1]);
	_exit(read(to[0], &c, 1) ? 1 : 0);
}

TEST_F(life, exec_while_memory_is_used)
{
	char arg[6][16], *stack;
	int status, to[2];
	pid_t pid;

	vfio_close(&self->v);
	stack = anon_pages(16 * PAGE);
	ASSERT_NE(NULL, stack);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct pins p;
		pid_t other;

		if (!map_halves(self, arg, &p) || pipe(to))
			_exit(1);
		/* A process of its own, but with this memory; it has its own files */
		other = clone(user, stack + 16 * PAGE, CLONE_VM | SIGCHLD, to);
		if (other < 0)
			_exit(2);
		sprintf(arg[4], "%d", to[1]);
		sprintf(arg[5], "%d", other);
		execl("/proc/self/exe", "life", "--after-exec-while-used", arg[0],
		      arg[1], arg[2], arg[3], arg[4], arg[5], p.holder[0].name,
		      NULL);
		_exit(3);
	}
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, WEXITSTATUS(status))
		TH_LOG("after_exec_while_used() returned this");
	EXPECT_EQ(0, status);
	munmap(stack, 16 * PAGE);
	EXPECT_BACK(&self->before);
}

/* Somebody reads the memory of the old program, and no process runs with it any more */
static int adopt_while_read(char **arg, pid_t reader)
{
	struct vfio v;
	const long half = SIZE / 2;
	struct pins p;
	char *mem;
	int i;

	mem = open_after_exec(arg, &v);
	if (!mem)
		return 10;
	for (i = 0; i < 2; i++) {
		if (vfio_vaddr_set(&v, mem + i * half, IOVA + i * half, half))
			return 11;
		/* All of it is adopted at once, with the old holder */
		if (pins_read(0, &p) || p.nr != 1 || pins_pages(&p) != N ||
		    p.charge != N || p.held != N ||
		    status_pages(0, "VmLck:") != N)
			return 12;
		if (strcmp(p.holder[0].name, arg[5]))
			return 13;
	}
	/* It has not ended, that is, it has the old memory yet */
	if (waitpid(reader, NULL, WNOHANG))
		return 14;
	if (edu_check(&v.dev[0], mem, IOVA, SIZE))
		return 15;
	if (vfio_unmap_all(&v) != (long)SIZE)
		return 16;
	if (pins_read(0, &p) || p.charge || p.held)
		return 17;
	return 0;
}

static int after_exec_while_read(char **arg)
{
	pid_t reader = atoi(arg[4]);
	int ret = adopt_while_read(arg, reader), status;

	kill(reader, SIGKILL);
	if (reap(reader, &status) && !ret)
		ret = 18;
	return ret;
}

/* poll() would not tell: of a userfaultfd that blocks it says POLLERR at once */
static bool faulted(void *fd)
{
	struct uffd_msg msg;

	return read(*(int *)fd, &msg, sizeof(msg)) == sizeof(msg);
}

/* A process that reads the page of this one, which never comes; or -1 */
static pid_t start_reader(char *page)
{
	struct uffdio_register reg = {
		.range = { (uintptr_t)page, PAGE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_api api = { .api = UFFD_API };
	int fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	pid_t pid, parent = getpid();

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) ||
	    ioctl(fd, UFFDIO_REGISTER, &reg))
		return -1;
	pid = fork();
	if (!pid) {
		char c;
		struct iovec to = { &c, 1 }, from = { page, 1 };

		/* It has @fd, too, so that the page never comes after exec() either */
		process_vm_readv(parent, &to, 1, &from, 1, 0);
		_exit(1);
	}
	return pid > 0 && wait_for(faulted, &fd) ? pid : -1;
}

TEST_F(life, exec_while_memory_is_read)
{
	char arg[5][16], *page;
	int status;
	pid_t pid;

	vfio_close(&self->v);
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)page);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct pins p;
		pid_t reader;

		if (!map_halves(self, arg, &p))
			_exit(1);
		reader = start_reader(page);
		if (reader < 0)
			_exit(2);
		sprintf(arg[4], "%d", reader);
		execl("/proc/self/exe", "life", "--after-exec-while-read", arg[0],
		      arg[1], arg[2], arg[3], arg[4], p.holder[0].name, NULL);
		_exit(3);
	}
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, WEXITSTATUS(status))
		TH_LOG("after_exec_while_read() returned this");
	EXPECT_EQ(0, status);
	munmap(page, PAGE);
	EXPECT_BACK(&self->before);
}

/* --- Live update while the old process lives -------------------------------- */

struct takeover {
	int sv[2];
	pid_t pid;
};

/* The child takes over at the word of the parent, under a limit of its own */
static void takeover_child(FIXTURE_DATA(life) *self, int fd, long limit,
			   int maps)
{
	long size = SIZE / maps, ret = 0;
	struct pins p;
	int i;

	if (chan_get(fd, NULL))
		_exit(1);
	if (limit >= 0 && (set_memlock(limit * PAGE) ||
			   cap_drop(CAP_IPC_LOCK)))
		_exit(2);
	for (i = 0; i < maps && !ret; i++)
		ret = vfio_vaddr_set(&self->v, self->mem + i * size,
				     IOVA + i * size, size);
	if (chan_put(fd, ret) || pins_read(0, &p) ||
	    chan_put(fd, p.charge) || chan_put(fd, p.held) ||
	    chan_put(fd, status_pages(0, "VmLck:")))
		_exit(3);
	/* Until the parent has looked */
	if (chan_get(fd, NULL))
		_exit(4);
	if (!ret && vfio_unmap_all(&self->v) != (long)SIZE)
		_exit(5);
	if (!ret && (pins_read(0, &p) || p.charge || p.held))
		_exit(6);
	_exit(0);
}

static void take_over(struct __test_metadata *_metadata,
		      FIXTURE_DATA(life) *self, long limit, int maps,
		      long want, long moved)
{
	long size = SIZE / maps, value, i;
	int sv[2], status;
	pid_t pid;

	for (i = 0; i < maps; i++) {
		ASSERT_EQ(0, vfio_map(&self->v, self->mem + i * size,
				      IOVA + i * size, size, MAP_RW));
	}
	EXPECT_STATE(&self->base, N, N, N);
	ASSERT_EQ(0, chan_pair(sv));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		takeover_child(self, sv[1], limit, maps);

	ASSERT_EQ(0, vfio_vaddr_drop(&self->v, IOVA, SIZE));
	EXPECT_STATE(&self->base, N, N, N);
	EXPECT_EQ(0, chan_put(sv[0], 0));
	EXPECT_EQ(0, chan_get(sv[0], &value));
	EXPECT_EQ(want, value);
	EXPECT_EQ(0, chan_get(sv[0], &value));
	EXPECT_EQ(moved, value) TH_LOG("charge of the new process");
	EXPECT_EQ(0, chan_get(sv[0], &value));
	EXPECT_EQ(moved, value) TH_LOG("held of the new process");
	EXPECT_EQ(0, chan_get(sv[0], &value));
	EXPECT_EQ(moved, value) TH_LOG("VmLck of the new process");

	/* What the one has the other has not, and the sum stays */
	{
		struct snap now;

		EXPECT_EQ(0, snap(&now));
		EXPECT_EQ(N - moved, now.pins.charge - self->base.pins.charge);
		EXPECT_EQ(N - moved, now.pins.held - self->base.pins.held);
		EXPECT_EQ(N - moved, now.vmlck - self->base.vmlck);
		EXPECT_EQ(N, now.counted - self->base.counted);
		EXPECT_EQ(N, now.foll - self->base.foll);
	}
	EXPECT_EQ(0, edu_check(&self->v.dev[0], self->mem, IOVA, SIZE));

	EXPECT_EQ(0, chan_put(sv[0], 0));
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	if (want)	/* the mappings are still here, without addresses */
		EXPECT_EQ((long)SIZE, vfio_unmap_all(&self->v));
	EXPECT_BACK(&self->base);
}

TEST_F(life, live_update)
{
	take_over(_metadata, self, -1, 1, 0, N);
}

TEST_F(life, live_update_with_limit)
{
	take_over(_metadata, self, N, 1, 0, N);
}

TEST_F(life, live_update_with_low_limit)
{
	take_over(_metadata, self, N - 1, 1, -ENOMEM, 0);
}

/* Each mapping moves as a whole; the limit suffices for one of the two */
TEST_F(life, live_update_mapping_by_mapping)
{
	take_over(_metadata, self, -1, 2, 0, N);
}

TEST_F(life, live_update_half_way)
{
	take_over(_metadata, self, N - 1, 2, -ENOMEM, N / 2);
}

/*
 * So large that limits are charged in steps: at the end neither process may be
 * left with a part of a step. The two have a holder each already, so that pages
 * move one by one.
 */
TEST_F(life, live_update_in_steps)
{
	const long n = 6000;
	int sv[2], status, fd;
	struct snap now;
	long value;
	pid_t pid;
	char *mem;

	fd = memfd_create("large", MFD_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, n * PAGE));
	mem = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, (void *)mem);
	ASSERT_EQ(0, vfio_map(&self->v, mem, IOVA, n * PAGE, MAP_RW));
	EXPECT_STATE(&self->base, n, n, n);
	ASSERT_EQ(0, chan_pair(sv));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct pins p;

		if (vfio_map(&self->v, self->scratch, IOVA_SCRATCH, PAGE,
			     MAP_RW) ||
		    vfio_vaddr_drop(&self->v, IOVA, n * PAGE))
			_exit(1);
		/* One page too few, then what it takes */
		if (set_memlock(n * PAGE) || cap_drop(CAP_IPC_LOCK) ||
		    vfio_vaddr_set(&self->v, mem, IOVA, n * PAGE) != -ENOMEM)
			_exit(2);
		if (pins_read(0, &p) || p.charge != 1 || p.held != 1 ||
		    status_pages(0, "VmLck:") != 1)
			_exit(3);
		if (set_memlock((n + 1) * PAGE) ||
		    vfio_vaddr_set(&self->v, mem, IOVA, n * PAGE))
			_exit(4);
		if (pins_read(0, &p) || p.charge != n + 1 || p.held != n + 1 ||
		    pins_pages(&p) != n + 1)
			_exit(5);
		if (chan_put(sv[1], status_pages(0, "VmLck:")) ||
		    chan_get(sv[1], NULL))
			_exit(6);
		_exit(0);
	}
	EXPECT_EQ(0, chan_get(sv[0], &value));
	EXPECT_EQ(n + 1, value);
	EXPECT_EQ(0, snap(&now));
	EXPECT_EQ(self->base.vmlck, now.vmlck);
	EXPECT_EQ(self->base.pins.charge, now.pins.charge);
	EXPECT_EQ(self->base.pins.held, now.pins.held);
	EXPECT_EQ(n + 1, now.counted - self->base.counted);
	EXPECT_EQ(0, chan_put(sv[0], 0));
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_EQ((n + 1) * (long)PAGE, vfio_unmap_all(&self->v));
	EXPECT_BACK(&self->base);
	close(fd);
}

/* The same process gives the memory another address: nothing is to change */
TEST_F(life, new_address_in_the_same_process)
{
	char *again;

	ASSERT_EQ(0, vfio_map(&self->v, self->mem, IOVA, SIZE, MAP_RW));
	ASSERT_EQ(0, vfio_vaddr_drop(&self->v, IOVA, SIZE));
	again = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		     self->memfd, 0);
	ASSERT_NE(MAP_FAILED, (void *)again);
	EXPECT_EQ(0, vfio_vaddr_set(&self->v, again, IOVA, SIZE));
	EXPECT_STATE(&self->base, N, N, N);
	EXPECT_EQ(0, edu_check(&self->v.dev[0], again, IOVA, SIZE));
	EXPECT_EQ((long)SIZE, vfio_unmap(&self->v, IOVA, SIZE));
	EXPECT_BACK(&self->base);
}

/* --- File descriptors that travel ------------------------------------------- */

/* A container in two processes, each of which maps memory of its own */
TEST_F(life, passed_over_a_socket)
{
	int sv[2], status;
	struct snap now;
	struct pins p;
	long value;
	pid_t pid;

	/* The child is made first, so that it inherits nothing */
	vfio_close(&self->v);
	ASSERT_EQ(0, chan_pair(sv));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		char *mem = anon_pages(SIZE);
		struct vfio v = { .fd = chan_get_fd(sv[1]) };

		if (v.fd < 0 || !mem ||
		    vfio_map(&v, mem, IOVA + SIZE, SIZE, MAP_RW))
			_exit(1);
		if (pins_read(0, &p) || p.nr != 1 || chan_put(sv[1], p.charge))
			_exit(2);
		fill(mem, EDU_LEN, 8);
		if (chan_put(sv[1], 0) || chan_get(sv[1], NULL))
			_exit(3);
		/* The device of the other has written here */
		if (!filled(mem + PAGE, EDU_LEN, 7))
			_exit(4);
		if (vfio_unmap(&v, IOVA + SIZE, SIZE) != (long)SIZE)
			_exit(5);
		if (pins_read(0, &p) || p.charge || pins_pages(&p))
			_exit(6);
		_exit(0);
	}
	ASSERT_EQ(0, vfio_open(&self->v, 0));
	ASSERT_EQ(0, vfio_map(&self->v, self->mem, IOVA, SIZE, MAP_RW));
	ASSERT_EQ(0, chan_put_fd(sv[0], self->v.fd));
	EXPECT_EQ(0, chan_get(sv[0], &value));
	EXPECT_EQ(N, value);
	EXPECT_EQ(0, snap(&now));
	EXPECT_EQ(N, now.pins.charge);
	EXPECT_EQ(N, pins_pages(&now.pins));
	EXPECT_EQ(2 * N, now.counted - self->base.counted);
	EXPECT_EQ(0, pins_read(pid, &p));
	EXPECT_EQ(N, p.charge);
	EXPECT_EQ(0, chan_get(sv[0], NULL));

	/* The device sees the memory of both */
	fill(self->mem, EDU_LEN, 7);
	EXPECT_EQ(0, edu_copy(&self->v.dev[0], IOVA + SIZE + PAGE, IOVA,
			      EDU_LEN));
	EXPECT_EQ(0, edu_copy(&self->v.dev[0], IOVA, IOVA + SIZE, EDU_LEN));
	EXPECT_TRUE(filled(self->mem, EDU_LEN, 8));
	EXPECT_EQ(0, chan_put(sv[0], 0));
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_STATE(&self->base, N, N, N);
}

/*
 * The process whose memory it is ends while another one has the container: the
 * device still reaches the memory, the list shows whose it was, and who closes
 * the container gives it back.
 */
static void owner_dies(struct __test_metadata *_metadata,
		       FIXTURE_DATA(life) *self, bool close_it)
{
	static struct pins all;
	struct holder h = {};
	char name[48] = "";
	int sv[2], status, i;
	struct snap now;
	pid_t pid;

	ASSERT_EQ(0, vfio_map(&self->v, self->scratch, IOVA_SCRATCH, PAGE,
			      MAP_RW));
	ASSERT_EQ(0, chan_pair(sv));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (vfio_map(&self->v, self->mem, IOVA, SIZE, MAP_RW) ||
		    chan_put(sv[1], 0) || chan_get(sv[1], NULL))
			_exit(1);
		_exit(0);
	}
	EXPECT_EQ(0, chan_get(sv[0], NULL));
	EXPECT_EQ(0, pins_read_all(&all));
	for (i = 0; i < all.nr; i++)
		if (all.holder[i].pid == pid)
			strcpy(name, all.holder[i].name);
	EXPECT_TRUE(listed(&all, name, &h));
	EXPECT_STREQ("alive", h.state);
	EXPECT_EQ(N, h.pages);

	EXPECT_EQ(0, chan_put(sv[0], 0));
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_TRUE(listed(&all, name, &h));
	EXPECT_STREQ("gone", h.state);
	EXPECT_EQ(pid, h.pid);
	EXPECT_EQ(N, h.pages);
	EXPECT_EQ(N, h.charge);
	EXPECT_EQ(N, h.held);
	EXPECT_EQ(0, edu_check(&self->v.dev[0], self->mem, IOVA, SIZE));
	EXPECT_EQ(0, snap(&now));
	EXPECT_EQ(N + 1, now.counted - self->base.counted);
	EXPECT_EQ(1, now.pins.charge - self->base.pins.charge);

	if (close_it)
		vfio_close(&self->v);
	else
		EXPECT_EQ((long)(SIZE + PAGE), vfio_unmap_all(&self->v));
	EXPECT_FALSE(listed(&all, name, &h) && h.pages);
	EXPECT_BACK(&self->base);
}

TEST_F(life, owner_dies_then_close)
{
	owner_dies(_metadata, self, true);
}

TEST_F(life, owner_dies_then_unmap)
{
	owner_dies(_metadata, self, false);
}

/* A child maps the memory, drops its address, and has ended: its pid */
static pid_t owner_ends(struct __test_metadata *_metadata, FIXTURE_DATA(life) *self)
{
	int status;
	pid_t pid;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (vfio_map(&self->v, self->mem, IOVA, SIZE, MAP_RW) ||
		    vfio_vaddr_drop(&self->v, IOVA, SIZE))
			_exit(1);
		_exit(0);
	}
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	return pid;
}

/* Who is left takes over what a dead process had mapped */
TEST_F(life, owner_dies_then_takeover)
{
	pid_t pid = owner_ends(_metadata, self);

	EXPECT_EQ(0, vfio_vaddr_set(&self->v, self->mem, IOVA, SIZE));
	EXPECT_STATE(&self->base, N, N, N);
	EXPECT_EQ(0, holders_of(pid)) TH_LOG("the dead process is still named");
	EXPECT_EQ(1, holders_of(getpid()));
	EXPECT_EQ(0, edu_check(&self->v.dev[0], self->mem, IOVA, SIZE));
	EXPECT_EQ((long)SIZE, vfio_unmap_all(&self->v));
	EXPECT_BACK(&self->base);
}

/* Processes that map, unmap and end leave no holders to a container */
TEST_F(life, holders_of_the_dead_go)
{
	int status, i;
	pid_t pid[3];

	for (i = 0; i < 3; i++) {
		pid[i] = fork();
		ASSERT_LE(0, pid[i]);
		if (!pid[i])
			_exit(vfio_map(&self->v, self->mem, IOVA, SIZE,
				       MAP_RW) ||
			      vfio_unmap(&self->v, IOVA, SIZE) != (long)SIZE);
		EXPECT_EQ(0, reap(pid[i], &status));
		EXPECT_EQ(0, status);
	}
	EXPECT_EQ(0, vfio_map(&self->v, self->mem, IOVA, SIZE, MAP_RW));
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(0, holders_of(pid[i])) TH_LOG("process %d", i);
	}
	EXPECT_EQ(1, holders_of(getpid()));
}

/* The same when who is left has a ledger already */
TEST_F(life, owner_dies_then_takeover_by_a_holder)
{
	owner_ends(_metadata, self);
	EXPECT_EQ(0, vfio_map(&self->v, self->scratch, IOVA_SCRATCH, PAGE,
			      MAP_RW));
	EXPECT_EQ(0, vfio_vaddr_set(&self->v, self->mem, IOVA, SIZE));
	EXPECT_STATE(&self->base, N + 1, N + 1, N + 1);
	EXPECT_EQ(0, edu_check(&self->v.dev[0], self->mem, IOVA, SIZE));
	EXPECT_EQ((long)(SIZE + PAGE), vfio_unmap_all(&self->v));
	EXPECT_BACK(&self->base);
}

/* --- Other operations of the container -------------------------------------- */

TEST_F(life, unmap_all)
{
	char *other = anon_pages(SIZE);
	int i;

	ASSERT_NE(NULL, other);
	EXPECT_EQ(0L, vfio_unmap_all(&self->v));
	for (i = 0; i < 8; i++) {
		EXPECT_EQ(0, vfio_map(&self->v, self->mem + i * PAGE,
				      IOVA + 2 * i * PAGE, PAGE, MAP_RW));
	}
	EXPECT_EQ(0, vfio_map(&self->v, other, IOVA_FAR, SIZE, MAP_R));
	EXPECT_STATE(&self->base, 8 + N, 8 + N, 8 + N);
	EXPECT_EQ((long)(8 * PAGE + SIZE), vfio_unmap_all(&self->v));
	EXPECT_BACK(&self->base);
	EXPECT_EQ(0L, vfio_unmap_all(&self->v));
	EXPECT_EQ(0, vfio_map(&self->v, self->mem, IOVA, SIZE, MAP_RW));
	EXPECT_STATE(&self->base, N, N, N);
}

/* A mapping is unmapped as a whole or not at all, as ever */
TEST_F(life, unmap_of_a_part)
{
	ASSERT_EQ(0, vfio_map(&self->v, self->mem, IOVA, SIZE, MAP_RW));
	EXPECT_EQ(-EINVAL, vfio_unmap(&self->v, IOVA, SIZE / 2));
	EXPECT_EQ(-EINVAL, vfio_unmap(&self->v, IOVA + PAGE, SIZE));
	EXPECT_EQ(-EEXIST, vfio_map(&self->v, self->mem, IOVA, PAGE, MAP_RW));
	EXPECT_STATE(&self->base, N, N, N);
	EXPECT_EQ((long)SIZE, vfio_unmap(&self->v, 0, 2 * IOVA));
	EXPECT_BACK(&self->base);
}

TEST_F(life, dirty_tracking)
{
	uint64_t bits = 0;

	EXPECT_EQ(-EINVAL, vfio_dirty_get(&self->v, IOVA, SIZE, &bits));
	ASSERT_EQ(0, vfio_map(&self->v, self->mem, IOVA, SIZE, MAP_RW));
	EXPECT_EQ(0, vfio_dirty(&self->v, true));
	EXPECT_STATE(&self->base, N, N, N);

	/* What is pinned for a device that does not tell may all be dirty */
	EXPECT_EQ(0, vfio_dirty_get(&self->v, IOVA, SIZE, &bits));
	EXPECT_EQ(~0ULL, bits);
	EXPECT_EQ(0, vfio_map(&self->v, self->scratch, IOVA_SCRATCH, PAGE,
			      MAP_RW));
	bits = 0;
	EXPECT_EQ(0, vfio_dirty_get(&self->v, IOVA_SCRATCH, PAGE, &bits));
	EXPECT_EQ(1ULL, bits);
	EXPECT_STATE(&self->base, N + 1, N + 1, N + 1);
	EXPECT_EQ((long)PAGE, vfio_unmap(&self->v, IOVA_SCRATCH, PAGE));
	EXPECT_EQ(0, vfio_dirty(&self->v, false));
	EXPECT_EQ((long)SIZE, vfio_unmap(&self->v, IOVA, SIZE));
	EXPECT_BACK(&self->base);
}

int main(int argc, char **argv)
{
	if (argc == 8 && !strcmp(argv[1], "--after-exec"))
		return after_exec(argv + 2);
	if (argc == 5 && !strcmp(argv[1], "--after-exec-of-two"))
		return after_exec_of_two(argv + 2);
	if (argc == 9 && !strcmp(argv[1], "--after-exec-while-used"))
		return after_exec_while_used(argv + 2);
	if (argc == 8 && !strcmp(argv[1], "--after-exec-while-read"))
		return after_exec_while_read(argv + 2);
	return test_harness_run(argc, argv);
}
