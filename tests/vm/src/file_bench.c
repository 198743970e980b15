// SPDX-License-Identifier: GPL-2.0
/*
 * What files cost of which no page is pinned: a direct read of 4K into anonymous
 * memory, and fsync() of 256 MiB that are dirty. Prints the processor time of this
 * process in nanoseconds, and for how many reads or pages; in machine "icount",
 * where a nanosecond is an instruction, they repeat. Runs on a stock kernel, too.
 *
 * file_bench DISK FOLDER: of a disk in memory (null_blk), which answers at once
 *
 * file_bench --pinned PAGES DISK FOLDER: what the flusher takes for a page of a file
 * that write() has made dirty, before and while so many other pages of the file are
 * pinned for writing, and clean. That is the processor time of kernel threads. And what
 * fsync() takes for a page of these that a store has made dirty, and that is pinned, so
 * that a copy is written. Then what it takes to notice the pinned pages, which is done
 * every 30 s.
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "hold_lib.h"
#include "pins.h"
#include "util.h"

#define REPS	3
#define READS	4096UL
#define SIZE	(256UL * MB)

static unsigned long cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000UL + t.tv_nsec;
}

static void must(bool so, const char *what)
{
	if (so)
		return;
	perror(what);
	exit(1);
}

static void read_bench(const char *disk, int rep)
{
	char *to = small_pages(PAGE);
	int fd = open(disk, O_RDONLY | O_DIRECT);
	unsigned long start, i;

	must(to && fd >= 0, disk);
	memset(to, 1, PAGE);
	start = cpu_ns();
	for (i = 0; i < READS; i++)
		must(pread(fd, to, PAGE, i * PAGE) == (ssize_t)PAGE, "pread");
	printf("direct-read %d %lu %lu\n", rep, cpu_ns() - start, READS);
	close(fd);
	munmap(to, PAGE);
}

/* The second time, the blocks are there */
static void sync_bench(int fd, int rep)
{
	static char block[1 << 16];
	unsigned long start, i;

	memset(block, rep, sizeof(block));
	for (i = 0; i < SIZE; i += sizeof(block))
		must(pwrite(fd, block, sizeof(block), i) == sizeof(block), "pwrite");
	start = cpu_ns();
	must(!fsync(fd), "fsync");
	if (rep)
		printf("fsync %d %lu %lu\n", rep, cpu_ns() - start, SIZE / PAGE);
}

/* --- The flusher ------------------------------------------------------------------ */

/* Of one read: its pages are pinned at once */
#define PIECE	WIDE

/*
 * Of all threads of unbound workqueues: the flusher is one, what it leaves to others is in
 * some, and pin_writeback's work is. The time of what does not run is exact.
 */
static unsigned long kworkers_ns(void)
{
	DIR *proc = opendir("/proc");
	unsigned long ns = 0;
	struct dirent *d;

	must(proc, "/proc");
	while ((d = readdir(proc))) {
		char path[300], *comm, *stat;

		if (!isdigit(*d->d_name))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/comm", d->d_name);
		comm = slurp(path);
		snprintf(path, sizeof(path), "/proc/%s/schedstat", d->d_name);
		stat = slurp(path);
		if (comm && stat && !strncmp(comm, "kworker/u", 9))
			ns += strtoul(stat, NULL, 10);
		free(comm);
		free(stat);
	}
	closedir(proc);
	return ns;
}

static void set(const char *name, const char *value)
{
	char path[80];

	snprintf(path, sizeof(path), "/proc/sys/vm/%s", name);
	must(!write_text(path, value), path);
}

static bool has_pinned(void *pages)
{
	return vmstat("nr_foll_pin_acquired") - vmstat("nr_foll_pin_released") ==
	       (long)pages;
}

/* Nobody looks meanwhile. The clock of the VM goes on where all sleep. */
static void settle(void)
{
	sleep_ms(500);
}

/* A write() of all of the range behind @start; the flusher does the rest when it is asked to */
static void flush_bench(int fd, const char *name, unsigned long start, int rep)
{
	static char block[1 << 16];
	unsigned long i, ns;
	long written;

	memset(block, rep, sizeof(block));
	for (i = 0; i < SIZE; i += sizeof(block))
		must(pwrite(fd, block, sizeof(block), start + i) == sizeof(block), "pwrite");
	settle();
	written = vmstat("nr_written");
	ns = kworkers_ns();
	set("dirty_writeback_centisecs", "500");
	do
		settle();
	while (vmstat("nr_written") - written < (long)(SIZE / PAGE) || vmstat("nr_writeback"));
	ns = kworkers_ns() - ns;
	set("dirty_writeback_centisecs", "0");
	if (rep)
		printf("%s %d %lu %lu\n", name, rep, ns, SIZE / PAGE);
}

/* Each read is held by the disk, and its pages are pinned meanwhile */
static void pin_all(const char *disk, char *to, unsigned long size)
{
	aio_context_t aio = 0;
	char wide[32];
	size_t at;
	int from;

	must(!wide_open(disk, wide), "a disk that holds");
	from = open(wide, O_RDONLY | O_DIRECT);
	must(from >= 0, wide);
	must(!syscall(SYS_io_setup, size / PIECE, &aio), "io_setup");
	for (at = 0; at < size; at += PIECE) {
		struct iocb cb = {
			.aio_lio_opcode = IOCB_CMD_PREAD,
			.aio_fildes = from,
			.aio_buf = (uintptr_t)to + at,
			.aio_nbytes = PIECE,
		}, *one = &cb;

		must(syscall(SYS_io_submit, aio, 1, &one) == 1, "io_submit");
	}
	close(from);
	must(wait_for(has_pinned, (void *)(size / PAGE)), "pins");
}

/* Of pages that are mapped and dirty */
static void fsync_bench(int fd, const char *name, unsigned long size)
{
	unsigned long ns = cpu_ns();

	must(!fsync(fd), "fsync");
	printf("%s 1 %lu %lu\n", name, cpu_ns() - ns, size / PAGE);
}

static void pinned_bench(const char *disk, int fd, unsigned long pages)
{
	unsigned long size = ROUND_UP(pages * PAGE, PIECE), ns;
	long noted, noticed;
	char *map;
	int rep;

	/* Nobody writes but the flusher, when flush_bench() asks it to */
	set("dirty_writeback_centisecs", "0");
	set("dirty_ratio", "95");
	set("dirty_background_ratio", "90");
	must(!ftruncate(fd, size + SIZE), "ftruncate");
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(map != MAP_FAILED, "mmap");
	must(!madvise(map, size, MADV_POPULATE_WRITE), "MADV_POPULATE_WRITE");
	must(!fsync(fd), "fsync");
	/* The blocks are there now */
	must(!madvise(map, size, MADV_POPULATE_WRITE), "MADV_POPULATE_WRITE");
	fsync_bench(fd, "fsync-mapped", size);
	for (rep = 0; rep <= REPS; rep++)
		flush_bench(fd, "flusher", size, rep);

	noted = vmstat("pin_noted");
	pin_all(disk, map, size);
	fsync_bench(fd, "fsync-pinned", size);
	noted = vmstat("pin_noted") - noted;
	printf("# %lu pages are pinned, %ld are noted\n", size / PAGE, noted);
	noticed = vmstat("pin_noticed");
	for (rep = 0; rep <= REPS; rep++)
		flush_bench(fd, "flusher-pinned", size, rep);
	/* Else the pages were not clean */
	must(vmstat("pin_noticed") == noticed, "less than 30 s");

	settle();
	ns = kworkers_ns();
	sleep_ms(35000);
	ns = kworkers_ns() - ns;
	noticed = vmstat("pin_noticed") - noticed;
	if (noticed)
		printf("notice 1 %lu %ld\n", ns, noticed);
	must(!wide_release(0), "release");
	must(wait_for(has_pinned, NULL), "puts");
	wide_close();
}

int main(int argc, char **argv)
{
	bool pinned = argc == 5 && !strcmp(argv[1], "--pinned");
	int fd, rep;

	if (argc != 3 && !pinned) {
		fprintf(stderr, "usage: file_bench [--pinned PAGES] DISK FOLDER\n");
		return 1;
	}
	fd = openat(open(argv[argc - 1], O_PATH), "file", O_RDWR | O_CREAT, 0600);
	must(fd >= 0, argv[argc - 1]);
	if (pinned) {
		pinned_bench(argv[3], fd, strtoul(argv[2], NULL, 10));
		return 0;
	}
	for (rep = 1; rep <= REPS; rep++)
		read_bench(argv[1], rep);
	for (rep = 0; rep <= REPS; rep++)
		sync_bench(fd, rep);
	return 0;
}
