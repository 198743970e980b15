// SPDX-License-Identifier: GPL-2.0
/*
 * What it costs to map memory for a device and to unmap it, by VFIO_IOMMU_MAP_DMA
 * and VFIO_IOMMU_UNMAP_DMA, by iommufd, or by vhost-vdpa. A line for each call: what, which repetition, how many
 * nanoseconds, for how many pages of 4K. In machine "bench", where a nanosecond
 * is an instruction, they repeat. Runs on any kernel: scripts/bench compares.
 *
 *	dma_bench [--size=MIB] [--iommufd | --vdpa] [--alone] [--others=N] KIND...
 *	dma_bench [--size=MIB] --threads=N | --processes=N KIND...
 *	dma_bench bar
 *	dma_bench [--size=MIB] --io-uring KIND...
 *
 * A second device, of a container of its own, maps and unmaps the same memory
 * meanwhile; not with --alone, or with others: processes that pin memory, too.
 * N threads of one process, or N processes, map a part each at the same time.
 * bar maps the BAR of USERPIN_BAR_DEV for the first device. --io-uring registers buffers
 * with a ring instead: one of all the memory, or of each of its small pages.
 */
#include <err.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/param.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "util.h"
#include "vdpa_lib.h"
#include "vfio_lib.h"

#define REPETITIONS	3
#define MAX_WORKERS	8

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000UL + t.tv_nsec;
}

/*
 * The memory is there: what faults cost is no part of this. Small pages that were
 * touched one after the other lie together, for the most part; scattered ones not.
 */
static char *memory(const char *kind, size_t size)
{
	int huge = !strcmp(kind, "hugetlb") ? MAP_HUGETLB : 0;
	bool scattered = !strcmp(kind, "scattered");
	size_t room = size + 2 * MB, i;
	char *mem;

	if (huge)
		room = size;
	else if (scattered)
		room = 2 * size;
	else if (strcmp(kind, "4k") && strcmp(kind, "thp"))
		errx(1, "%s: 4k, scattered, thp, or hugetlb", kind);
	mem = mmap(NULL, room, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | huge, -1, 0);
	if (mem == MAP_FAILED)
		err(1, "%zu MiB of %s", size / MB, kind);
	if (!huge) {
		if (!scattered)
			mem = (char *)ROUND_UP((uintptr_t)mem, 2 * MB);
		madvise(mem, scattered ? room : size,
			kind[0] == 't' ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	}
	/* Of scattered pages, the neighbours are in the second half */
	for (i = 0; i < size; i += PAGE) {
		mem[i] = 1;
		if (scattered)
			mem[size + i] = 1;
	}
	if (kind[0] == 't' && !mapped_huge(mem))
		errx(1, "thp: no huge pages");
	return mem;
}

/* What a device sees */
enum by { CONTAINER, IOMMUFD, VDPA };

struct space {
	enum by by;
	struct vfio vfio;
	struct iommufd i;
	struct vdpa vdpa;
};

static void space_open(struct space *s, unsigned int which, enum by by)
{
	/* Of tests/vm/with_vdpa */
	const char *disk = which ? "disk1" : "disk0";
	int ret = by == IOMMUFD ? iommufd_open(&s->i, which, 0) :
		  by == VDPA ? vdpa_open(&s->vdpa, disk) :
			       vfio_open(&s->vfio, which);

	if (ret)
		errx(1, "device %u: %s", which, strerror(-ret));
	s->by = by;
}

/* Of a BAR, which is no memory, the nanoseconds are for all of it */
static void row(const char *kind, const char *what, int rep, uint64_t start,
		size_t size)
{
	printf("%s-%s %d %lu %zu\n", kind, what, rep, now_ns() - start,
	       kind[0] == 'b' ? 1 : size / PAGE);
}

/* As QEMU does it: the device is told once */
static int vdpa_map_batch(struct vdpa *v, char *mem, size_t size)
{
	return vdpa_batch_begin(v) ?:
	       vdpa_map(v, mem, IOVA_FAR, size, VDPA_RW) ?: vdpa_batch_end(v);
}

static int vdpa_unmap_batch(struct vdpa *v, size_t size)
{
	return vdpa_batch_begin(v) ?: vdpa_unmap(v, IOVA_FAR, size) ?:
	       vdpa_batch_end(v);
}

static void map(struct space *s, char *mem, size_t size, const char *kind,
		const char *what, int rep)
{
	uint64_t start = now_ns();
	int ret;

	ret = s->by == IOMMUFD ? iommufd_map(&s->i, mem, IOVA_FAR, size) :
	      s->by == VDPA ? vdpa_map_batch(&s->vdpa, mem, size) :
			      vfio_map(&s->vfio, mem, IOVA_FAR, size, MAP_RW);
	if (ret)
		errx(1, "%s %s: %s", kind, what, strerror(-ret));
	row(kind, what, rep, start, size);
}

static void unmap(struct space *s, size_t size, const char *kind,
		  const char *what, int rep)
{
	uint64_t start = now_ns();
	long ret;

	ret = s->by == IOMMUFD ? iommufd_unmap(&s->i, IOVA_FAR, size) :
	      s->by == VDPA ? vdpa_unmap_batch(&s->vdpa, size) ?: (long)size :
			      vfio_unmap(&s->vfio, IOVA_FAR, size);
	if (ret != (long)size)
		errx(1, "%s %s: %ld", kind, what, ret);
	row(kind, what, rep, start, size);
}

/* Another process pins memory of its own, until this one ends */
static void other(unsigned int which)
{
	int sv[2];
	long ok;

	if (chan_pair(sv))
		err(1, "chan_pair");
	if (!fork()) {
		size_t size = 64 * MB;
		struct vfio v;
		int ret = vfio_open(&v, which);

		close(sv[0]);
		if (!ret)
			ret = vfio_map(&v, memory("4k", size), IOVA_FAR, size,
				       MAP_RW);
		chan_put(sv[1], ret);
		/* Returns when the other end is gone */
		exit(read(sv[1], &ok, sizeof(ok)) < 0);
	}
	close(sv[1]);
	if (chan_get(sv[0], &ok) || ok)
		errx(1, "another process: %s", strerror(-ok));
}

static void run(struct space *s, struct space *second, const char *kind,
		size_t size)
{
	char *mem = memory(kind, size);
	int rep;

	for (rep = 1; rep <= REPETITIONS; rep++) {
		map(s, mem, size, kind, "map", rep);
		if (second) {
			map(second, mem, size, kind, "map-second", rep);
			unmap(second, size, kind, "unmap-second", rep);
		}
		unmap(s, size, kind, "unmap", rep);
	}
	munmap(mem, kind[0] == 's' ? 2 * size : size);
}

static void run_bar(struct space *s)
{
	uint64_t pfn;
	size_t size;
	char *bar;
	int rep;

	bar = vfio_add_bar(&s->vfio, &size, &pfn);
	if (!bar)
		errx(1, "no device with a BAR");
	for (rep = 1; rep <= REPETITIONS; rep++) {
		map(s, bar, size, "bar", "map", rep);
		unmap(s, size, "bar", "unmap", rep);
	}
}

/* @n buffers of equal size, which are all of @mem */
static void run_ring(const char *kind, const char *what, char *mem, size_t size,
		     unsigned int n)
{
	struct iovec *iov = calloc(n, sizeof(*iov));
	struct io_uring_params p = {};
	char name[2][32];
	uint64_t start;
	unsigned int i;
	int fd, rep;

	for (i = 0; i < n; i++)
		iov[i] = (struct iovec){ mem + i * (size / n), size / n };
	snprintf(name[0], sizeof(name[0]), "%sregister", what);
	snprintf(name[1], sizeof(name[1]), "%sunregister", what);
	fd = syscall(__NR_io_uring_setup, 4, &p);
	if (fd < 0)
		err(1, "io_uring_setup");
	for (rep = 1; rep <= REPETITIONS; rep++) {
		start = now_ns();
		if (syscall(__NR_io_uring_register, fd,
			    IORING_REGISTER_BUFFERS, iov, n))
			err(1, "%s %s", kind, name[0]);
		row(kind, name[0], rep, start, size);
		start = now_ns();
		if (syscall(__NR_io_uring_register, fd,
			    IORING_UNREGISTER_BUFFERS, NULL, 0))
			err(1, "%s %s", kind, name[1]);
		row(kind, name[1], rep, start, size);
	}
	close(fd);
	free(iov);
}

static void run_rings(const char *kind, size_t size)
{
	char *mem = memory(kind, size);

	run_ring(kind, "", mem, size, 1);
	size = MIN(size, 16384 * PAGE);
	if (kind[0] != 't' && kind[0] != 'h')
		run_ring(kind, "each-", mem, size, size / PAGE);
}

/* Maps and unmaps that several do at the same time, in shared memory */
struct crowd {
	pthread_barrier_t barrier;
	const char *kind;
	size_t each;			/* bytes */
	uint64_t start[2 * REPETITIONS];
	uint64_t end[2 * REPETITIONS];
};

struct worker {
	struct crowd *crowd;
	unsigned int which;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	struct crowd *c = w->crowd;
	struct vfio v;
	char *mem;
	int i, ret;

	ret = vfio_open(&v, w->which);
	if (ret)
		errx(1, "device %u: %s", w->which, strerror(-ret));
	mem = memory(c->kind, c->each);
	for (i = 0; i < 2 * REPETITIONS; i++) {
		/* What the last one to come writes stays */
		c->start[i] = now_ns();
		pthread_barrier_wait(&c->barrier);
		ret = i % 2 ? vfio_unmap(&v, IOVA_FAR, c->each) !=
			      (long)c->each :
			      vfio_map(&v, mem, IOVA_FAR, c->each, MAP_RW);
		if (ret)
			errx(1, "device %u, call %d: %d", w->which, i, ret);
		c->end[i] = now_ns();
		pthread_barrier_wait(&c->barrier);
	}
	return NULL;
}

/* In processes of their own, so that devices and memory are free again */
static void run_crowd(const char *kind, unsigned int processes,
		      unsigned int threads, size_t size)
{
	unsigned int n = processes * threads, i, j;
	struct worker w[MAX_WORKERS];
	pthread_t thread[MAX_WORKERS];
	pthread_barrierattr_t attr;
	struct crowd *c;
	int status;

	c = mmap(NULL, sizeof(*c), PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (c == MAP_FAILED)
		err(1, "mmap");
	pthread_barrierattr_init(&attr);
	pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&c->barrier, &attr, n);
	c->kind = kind;
	c->each = size / n;
	for (i = 0; i < n; i++)
		w[i] = (struct worker){ .crowd = c, .which = i };
	for (i = 0; i < n; i += threads) {
		pid_t pid = fork();

		if (pid < 0)
			err(1, "fork");
		if (pid)
			continue;
		/* If one fails, the others would wait for it */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (j = 0; j < threads; j++)
			if (pthread_create(thread + j, NULL, work, w + i + j))
				errx(1, "pthread_create");
		for (j = 0; j < threads; j++)
			pthread_join(thread[j], NULL);
		exit(0);
	}
	for (i = 0; i < processes; i++)
		if (wait(&status) < 0 || status)
			errx(1, "a process failed");
	for (i = 0; i < 2 * REPETITIONS; i++)
		printf("%s-%s-%s %u %lu %zu\n", kind,
		       processes > 1 ? "processes" : "threads",
		       i % 2 ? "unmap" : "map", i / 2 + 1,
		       c->end[i] - c->start[i], c->each * n / PAGE);
	munmap(c, sizeof(*c));
}

int main(int argc, char **argv)
{
	static struct space first, second;
	bool alone = false, ring = false;
	enum by by = CONTAINER;
	size_t size = 256 * MB;
	unsigned int devices = MIN(vfio_count(), MAX_WORKERS);
	unsigned int others = 0, threads = 1, processes = 1, i;

	setbuf(stdout, NULL);
	for (argv++; argc > 1 && !strncmp(*argv, "--", 2); argv++, argc--) {
		if (!strcmp(*argv, "--iommufd"))
			by = IOMMUFD;
		else if (!strcmp(*argv, "--vdpa"))
			by = VDPA;
		else if (!strcmp(*argv, "--io-uring"))
			ring = true;
		else if (!strcmp(*argv, "--alone"))
			alone = true;
		else if (!strncmp(*argv, "--size=", 7))
			size = strtoul(*argv + 7, NULL, 10) * MB;
		else if (!strncmp(*argv, "--others=", 9))
			others = strtoul(*argv + 9, NULL, 10);
		else if (!strncmp(*argv, "--threads=", 10))
			threads = strtoul(*argv + 10, NULL, 10);
		else if (!strncmp(*argv, "--processes=", 12))
			processes = strtoul(*argv + 12, NULL, 10);
		else
			errx(2, "%s: see dma_bench.c", *argv);
	}
	for (; ring && *argv; argv++)
		run_rings(*argv, size);
	if (ring)
		return 0;
	if (others >= devices || !threads || threads > devices ||
	    !processes || processes > devices || processes * threads > devices)
		errx(2, "there are %u devices", devices);
	if (processes * threads > 1) {
		for (; *argv; argv++)
			run_crowd(*argv, processes, threads, size);
		return 0;
	}
	for (i = 0; i < others; i++)
		other(devices - 1 - i);

	/* vDPA has no exemption from it */
	if (set_memlock(RLIM_INFINITY))
		err(1, "RLIMIT_MEMLOCK");
	space_open(&first, 0, by);
	if (*argv && !strcmp(*argv, "bar")) {
		run_bar(&first);
		return 0;
	}
	if (!others && !alone)
		space_open(&second, 1, by);
	for (; *argv; argv++)
		run(&first, others || alone ? NULL : &second, *argv, size);
	return 0;
}
