// SPDX-License-Identifier: GPL-2.0
/*
 * Rows of writeback: devices pin, write to and put the pages of a file, as often and as
 * fast as they can, while a thread has the file written back all the time.
 */
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "hold_lib.h"
#include "kselftest.h"
#include "stack_lib.h"
#include "util.h"
#include "writeback_lib.h"
#include "writeback_rows.h"

/* 10^6 in all: on three file systems and a block device; on these and three more */
#define RACE_WRITES	215000
#define RACE_PINS	20000

static bool loop_over;

static void *sync_on(void *arg)
{
	while (!__atomic_load_n(&loop_over, __ATOMIC_ACQUIRE))
		fdatasync(*(int *)arg);
	return NULL;
}

/* --- Without a hold: reads into a file that is written back meanwhile -------------- */

#define LOOP_SIZE	(16 * MB)
#define LOOP_READ	(256 * KB)
/* On stock btrfs, one round in six does no damage */
#define LOOP_ROUNDS	6
#define LOOP_DATA	(LOOP_SIZE + LOOP_ROUNDS * LOOP_READ)

/* What of the file is not as in @want */
static const char *loop_damage(const char *name, const char *want, char *mem)
{
	const char *what = NULL;
	size_t at;
	int fd;

	fd = open_file(name, O_RDONLY);
	for (at = 0; at < LOOP_SIZE && !what; at += PAGE) {
		if (pread(fd, mem, PAGE, at) != PAGE ||
		    memcmp(mem, want + at, PAGE))
			what = "damaged";
	}
	close(fd);
	return what;
}

static char *map_loop(void)
{
	char *mem = mmap(NULL, LOOP_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
			 file, 0);

	must(mem != MAP_FAILED, "mmap");
	return mem;
}

const char *loop(void)
{
	char *data = pages(LOOP_DATA / PAGE), *mem = pages(1), *want;
	const char *what = NULL;
	pthread_t thread;
	size_t at;
	int from, i;

	/* Below what holds, and behind it */
	from = open_file(getenv("USERPIN_SOURCE"), O_RDWR | O_DIRECT);
	fill(data, LOOP_DATA, NEW(P));
	must(pwrite(from, data, LOOP_DATA, MB) == LOOP_DATA,
	     "write to the source");
	if (fs != BDEV)
		must(!ftruncate(file, LOOP_SIZE), "ftruncate");
	close_map();
	for (i = 0; i < LOOP_ROUNDS && !what; i++) {
		map = map_loop();
		loop_over = false;
		must(!pthread_create(&thread, NULL, sync_on, &file), "thread");
		/* In each round, each page gets other data */
		want = data + i * LOOP_READ;
		for (at = 0; at < LOOP_SIZE; at += LOOP_READ) {
			if (cpu)
				memcpy(map + at, want + at, LOOP_READ);
			else
				must(pread(from, map + at, LOOP_READ, MB + at +
					   i * LOOP_READ) == LOOP_READ,
				     "O_DIRECT read");
		}
		__atomic_store_n(&loop_over, true, __ATOMIC_RELEASE);
		pthread_join(thread, NULL);
		must_be_pinned(0);
		fsync(file);
		munmap(map, LOOP_SIZE);
		drop_caches();
		what = loop_damage(path, want, mem);
	}
	return what ?: HOLDS;
}

/* --- Below the file system: each sector is read meanwhile ------------------------- */

static int far_disk;		/* what the file system is on */
static uint64_t checked_place;
static bool check_failed;
static pthread_t checker;

/* dm-integrity looks at each sector that is read */
static void *check_on(void *mem)
{
	while (!__atomic_load_n(&loop_over, __ATOMIC_ACQUIRE)) {
		if (pread(far_disk, mem, FILE_PAGES * PAGE, checked_place) !=
		    (ssize_t)(FILE_PAGES * PAGE))
			check_failed = true;
	}
	return NULL;
}

static void start_checker(void)
{
	if (stack != INTEGRITY)
		return;
	far_disk = open_file(fs_disk, O_RDONLY | O_DIRECT);
	checked_place = place_of_p() - P * PAGE;
	must(!pthread_create(&checker, NULL, check_on, pages(FILE_PAGES)), "thread");
}

static const char *end_checker(void)
{
	if (stack == INTEGRITY)
		pthread_join(checker, NULL);
	return check_failed ? UNREADABLE : NULL;
}

/* --- Pins and puts ---------------------------------------------------------------- */

/* How often a pin met a writeback, or a put a clean page */
static long say_notes(long pins, long before)
{
	long notes = vmstat("pin_noted") - before;

	ksft_print_msg("%s: %ld pins, %ld notes\n", fs_table[fs].name, pins, notes);
	fflush(stdout);
	return notes;
}

/*
 * Pins and puts against fdatasync(), as fast as they go: each write by
 * process_vm_writev() pins a page, writes a number, and puts it dirty.
 */
const char *race(void)
{
	uint64_t number, last[FILE_PAGES] = { 0 }, found;
	struct iovec from = { &number, sizeof(number) }, to = { NULL, sizeof(number) };
	long notes = vmstat("pin_noted");
	const char *what;
	pthread_t thread;
	unsigned int page;
	int fd;

	loop_over = false;
	must(!pthread_create(&thread, NULL, sync_on, &file), "thread");
	start_checker();
	for (number = 1; number <= RACE_WRITES; number++) {
		if (number % 1000 == 0)
			go_on();
		page = number * 7 % FILE_PAGES;
		to.iov_base = map + page * PAGE;
		last[page] = number;
		must(process_vm_writev(getpid(), &from, 1, &to, 1, 0) ==
		     sizeof(number), "process_vm_writev");
	}
	__atomic_store_n(&loop_over, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	what = end_checker();
	must(!fsync(file), "fsync");
	close_file();
	if (what)
		return what;
	for (page = 0; page < 2 * FILE_PAGES; page++) {
		/* By the page cache, and by the disk */
		if (page % FILE_PAGES == 0)
			drop_caches();
		fd = open_file(path, O_RDONLY);
		must(pread(fd, &found, sizeof(found), page % FILE_PAGES * PAGE) ==
		     sizeof(found), "pread");
		close(fd);
		if (found != last[page % FILE_PAGES])
			return LOST;
		if (page == FILE_PAGES - 1)
			mount_again();
	}
	say_notes(RACE_WRITES, notes);
	return HOLDS;
}

/*
 * The same by O_DIRECT reads of four pages, one for each quarter of the file at a time, of
 * other data each time. They come in two parts, and all of the pages are pinned until the
 * second has come. So writeback falls into pins, and what it has not seen has to be found
 * by the next one, pinned or not.
 * Where a folio has several blocks, the last of each quarter is written to by write()
 * instead, in between.
 */
#define QUARTER		(FILE_PAGES / 4 * PAGE)
/* Reads of each quarter, until all that was read is looked for on the disk */
#define ROUND		8

static struct quarter {
	struct iocb cb;
	char *to;
	const char *data;	/* what the last read of it brings */
	size_t first;		/* so much of that is in the first part */
} quarters[4];

static size_t read_len;		/* of a quarter */
static unsigned long syncs;	/* that have ended */

static void *write_and_sync(void *arg)
{
	static const char zeroes[PAGE];
	size_t left = QUARTER - read_len, at;

	(void)arg;
	while (!__atomic_load_n(&loop_over, __ATOMIC_ACQUIRE)) {
		for (at = read_len; left && at < FILE_PAGES * PAGE; at += QUARTER)
			must(pwrite(file, zeroes, left, at) == (ssize_t)left, "pwrite");
		fdatasync(file);
		__atomic_fetch_add(&syncs, 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

/* One that has begun since is over */
static void wait_for_sync(void)
{
	unsigned long n = __atomic_load_n(&syncs, __ATOMIC_ACQUIRE) + 2;

	while (__atomic_load_n(&syncs, __ATOMIC_ACQUIRE) < n)
		usleep(100);
}

/* In memory and, by @direct, below the page cache: what of these bytes is not there? */
static const char *quarter_damage(struct quarter *q, int direct, char *mem, size_t len)
{
	if (memcmp(q->to, q->data, len))
		return "memory has old data";
	if (pread(direct, mem, QUARTER, q->to - map) != (ssize_t)QUARTER)
		return UNREADABLE;
	return memcmp(mem, q->data, len) ? NOT_ON_DISK : NULL;
}

/* @data is of twice the length of a read: the first part is before its middle */
static const char *race_reads(int from, int direct, const char *data, char *mem, unsigned int n)
{
	size_t sectors = read_len / SECTOR;
	const char *what = NULL;
	struct quarter *q;
	int error = 0;

	for (q = quarters; q < quarters + 4; q++) {
		q->first = (1 + n * 7 % (sectors - 1)) * SECTOR;
		q->data = data + read_len - q->first;
		q->cb = (struct iocb) {
			.aio_lio_opcode = IOCB_CMD_PREAD,
			.aio_fildes = from,
			.aio_buf = (uintptr_t)q->to,
			.aio_nbytes = read_len,
			.aio_offset = WIDE - q->first,
		};
		aio_start(&q->cb);
	}
	if (n % 2)
		wait_for_sync();
	must_be_0(wide_release(0), "the first part");
	/* It is on the disk after this. A page that changes yet may have no right checksum. */
	if (n % 2)
		error = fdatasync(file);
	for (q = quarters; n % 2 && q < quarters + 4 && !what; q++)
		what = quarter_damage(q, direct, mem, q->first / PAGE * PAGE);
	must_be_0(wide_release(1), "the second part");
	for (q = quarters; q < quarters + 4; q++)
		must(aio_end() == (long)read_len, "O_DIRECT read");
	if (n % ROUND == 0)
		error |= fdatasync(file);
	for (q = quarters; n % ROUND == 0 && q < quarters + 4 && !what; q++)
		what = quarter_damage(q, direct, mem, read_len);
	return what ?: error ? "fdatasync() fails" : NULL;
}

const char *race_read(void)
{
	char *mem = pages(FILE_PAGES), *data, wide[32];
	const char *below = getenv("USERPIN_SOURCE"), *what = NULL;
	long notes = vmstat("pin_noted"), pins = 0;
	int from, direct, again;
	pthread_t thread;
	unsigned int i;

	read_len = QUARTER - fs_table[fs].block;
	data = pages(2 * QUARTER / PAGE);
	fill(data, 2 * read_len, NEW(P));
	from = open_file(below, O_RDWR | O_DIRECT);
	must(pwrite(from, data, 2 * read_len, WIDE - read_len) == (ssize_t)(2 * read_len),
	     "write to the source");
	close(from);
	must_be_0(wide_open(below, wide), "a source that holds");
	from = open_file(wide, O_RDONLY | O_DIRECT);
	direct = open_file(path, O_RDONLY | O_DIRECT);
	for (i = 0; i < 4; i++)
		quarters[i].to = map + i * QUARTER;
	loop_over = false;
	must(!pthread_create(&thread, NULL, write_and_sync, NULL), "thread");
	start_checker();
	for (i = 1; pins < RACE_PINS && !what; i++) {
		what = race_reads(from, direct, data, mem, i);
		pins += 4 * ROUND_UP(read_len, PAGE) / PAGE;
		go_on();
	}
	__atomic_store_n(&loop_over, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	what = what ?: end_checker();
	must(!fsync(file) || what, "fsync");
	close(direct);
	close(from);
	wide_close();
	close_file();
	/* By the page cache, and by the disk */
	for (again = 0; again < 2 && !what; again++) {
		drop_caches();
		from = open_file(path, O_RDONLY);
		must(pread(from, mem, FILE_PAGES * PAGE, 0) == (ssize_t)(FILE_PAGES * PAGE),
		     "pread");
		close(from);
		for (i = 0; i < 4 && !what; i++) {
			if (memcmp(mem + i * QUARTER, quarters[i].data, read_len))
				what = LOST;
		}
		if (!again)
			mount_again();
	}
	notes = say_notes(pins, notes);
	return what ?: notes ? HOLDS : "no note";
}
