// SPDX-License-Identifier: GPL-2.0
/*
 * What files cost of which no page is pinned: a direct read of 4K into anonymous
 * memory, and fsync() of 256 MiB that are dirty. Prints the processor time of this
 * process in nanoseconds, and for how many reads or pages; in machine "icount",
 * where a nanosecond is an instruction, they repeat. Runs on a stock kernel, too.
 *
 * file_bench DISK FOLDER: of a disk in memory (null_blk), which answers at once
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

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

int main(int argc, char **argv)
{
	int fd, rep;

	if (argc != 3) {
		fprintf(stderr, "usage: file_bench DISK FOLDER\n");
		return 1;
	}
	fd = openat(open(argv[2], O_PATH), "file", O_RDWR | O_CREAT, 0600);
	must(fd >= 0, argv[2]);
	for (rep = 1; rep <= REPS; rep++)
		read_bench(argv[1], rep);
	for (rep = 0; rep <= REPS; rep++)
		sync_bench(fd, rep);
	return 0;
}
