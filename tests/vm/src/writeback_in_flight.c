// SPDX-License-Identifier: GPL-2.0
/*
 * Rows of writeback: a device writes to a page that is on its way to the disk, so that the
 * kernel has to copy it first; or it pins the page only then, and has to wait. And both
 * when there is no memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/btrfs.h>
#include <linux/fiemap.h>
#include <linux/loop.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "hold_lib.h"
#include "kselftest.h"
#include "stack_lib.h"
#include "util.h"
#include "writeback_lib.h"
#include "writeback_rows.h"

static int fsync_said;
/* These have ended: on a busy host that may be before anybody has looked */
static bool has_synced, has_read;

static void *do_fsync(void *arg)
{
	(void)arg;
	fsync_said = fsync_error();
	__atomic_store_n(&has_synced, true, __ATOMIC_RELEASE);
	return NULL;
}

static bool is_written_back(void *page)
{
	return pfn_flags(pfn_of(page)) & PF_WRITEBACK;
}

static bool are_held(void *writes)
{
	return target_held() >= (uintptr_t)writes;
}

/* fsync() of P has begun, and P is on its way to the disk, which holds it */
static void write_and_hold(pthread_t *thread, uint64_t first, uint64_t n)
{
	must_be_0(target_hold(first, n), "hold");
	must(!pthread_create(thread, NULL, do_fsync, NULL), "thread");
	/* With data=journal, it is the journal that is written: a descriptor, P and Q */
	if (fs == EXT4_JOURNAL) {
		must(wait_for(are_held, (void *)3), "a journal that is held");
	} else {
		must(wait_for(is_written_back, map + P * PAGE), "writeback of P");
		must(wait_for(are_held, (void *)1), "a write that is held");
	}
	/* What is computed of it has been computed; on stock it matters */
	sleep_ms(300);
}

static void end_fsync(pthread_t thread)
{
	must_be_0(target_release(), "release of the writes");
	pthread_join(thread, NULL);
}

/* --- What is on the disk is right ------------------------------------------------- */

static const char *read_disk(const char *name, uint64_t at, void *to)
{
	int fd = open_file(name, O_RDONLY | O_DIRECT);
	ssize_t n = pread(fd, to, PAGE, at);
	int error = errno;

	close(fd);
	if (n == PAGE)
		return NULL;
	must(error == EILSEQ || error == EIO, "read of the disk");
	return UNREADABLE;
}

/* Is what the disk has of P right, before P is written again? */
static const char *wrong_on_disk(void)
{
	uint64_t at = place_of_p(), leg = stack_leg(stack) * PAGE, i;
	uint64_t *a = (void *)pages(1), *b = (void *)pages(1), *c = (void *)pages(1);

	switch (stack) {
	case RAID1:
		return read_disk(disk, at, a) ?: read_disk(disk, leg + at, b) ?:
			memcmp(a, b, PAGE) ? "legs differ" : NULL;
	case RAID5:
		at = stack_stripe(at / PAGE) * PAGE;
		if (read_disk(disk, at, a) || read_disk(disk, leg + at, b) ||
		    read_disk(disk, 2 * leg + at, c))
			return UNREADABLE;
		for (i = 0; i < PAGE / sizeof(*a); i++) {
			if (a[i] ^ b[i] ^ c[i])
				return "wrong parity";
		}
		return NULL;
	default:
		return read_disk(fs_disk, at, a) ?:
			filled(a, PAGE, OLD(P)) || filled(a, PAGE, NEW(P)) ? NULL : "torn";
	}
}

/* The device writes to a page that is on its way to the disk */
const char *in_flight(void)
{
	/* Of a RAID1 the second leg is held, of others all */
	uint64_t first = stack == RAID1 ? stack_leg(stack) : 0;
	pthread_t thread;
	const char *what;

	pin();
	write_and_hold(&thread, first, target_pages() - first);
	arrive();
	end_fsync(thread);
	what = and_error(wrong_on_disk() ?: HOLDS, fsync_said);
	release();
	if (strcmp(what, HOLDS))
		return what;
	return survived_and(fsync_error());
}

static void *read_far(void *to)
{
	int fd = open_file(fs_disk, O_RDONLY | O_DIRECT);

	must(pread(fd, to, PAGE, 32 * MB) == PAGE, "read that holds the disk");
	close(fd);
	__atomic_store_n(&has_read, true, __ATOMIC_RELEASE);
	return NULL;
}

static bool is_read(void *arg)
{
	char name[64], *text;
	bool busy;

	(void)arg;
	snprintf(name, sizeof(name), "/sys/block/%s/inflight", strrchr(fs_disk, '/') + 1);
	text = slurp(name);
	busy = text && atoi(text);
	free(text);
	return busy || __atomic_load_n(&has_read, __ATOMIC_ACQUIRE);
}

static bool is_on_its_way(void *page)
{
	return is_written_back(page) ||
		__atomic_load_n(&has_synced, __ATOMIC_ACQUIRE);
}

static bool slow_now(void *jiffies)
{
	/* Not while it has something to do */
	return !stack_slow((uintptr_t)jiffies);
}

/*
 * fsync() of P, and the device writes to P while that is on its way, for a disk that does
 * one thing at a time, and takes long for it: a read comes first. Q is pinned then.
 */
static void write_slowly(void)
{
	pthread_t reader, thread;
	uintptr_t jiffies;
	bool in_time;

	for (jiffies = 250;; jiffies *= 2) {
		pin();
		has_read = false;
		has_synced = false;
		must(wait_for(slow_now, (void *)jiffies), "a slow disk");
		must(!pthread_create(&reader, NULL, read_far, pages(1)), "thread");
		must(wait_for(is_read, NULL), "a read that holds the disk");
		must(!pthread_create(&thread, NULL, do_fsync, NULL), "thread");
		must(wait_for(is_on_its_way, map + P * PAGE), "writeback of P");
		/* What is computed of it has been computed; on stock it matters */
		sleep_ms(100);
		arrive();
		in_time = is_written_back(map + P * PAGE);
		pthread_join(reader, NULL);
		pthread_join(thread, NULL);
		must(wait_for(slow_now, NULL), "a fast disk");
		if (in_time)
			return;
		/* This machine is slower than the disk: once more */
		go_on();
		must(jiffies < 100000, "a disk that is slow enough");
		release();
		fill(map + P * PAGE, PAGE, OLD(P));
		fill(map + Q * PAGE, PAGE, OLD(Q));
		must(!fsync(file), "fsync of old data");
	}
}

/* The same where the host computes what the disk looks at */
const char *in_flight_pi(void)
{
	const char *what;

	write_slowly();
	what = and_error(wrong_on_disk() ?: HOLDS, fsync_said);
	release();
	if (strcmp(what, HOLDS))
		return what;
	return survived_and(fsync_error());
}

/* And where btrfs does, on a zoned disk: a scrub reads all that is there */
const char *in_flight_zoned(void)
{
	struct btrfs_ioctl_scrub_args scrub = {
		.devid = 1, .end = -1, .flags = BTRFS_SCRUB_READONLY,
	};

	write_slowly();
	must(!ioctl(file, BTRFS_IOC_SCRUB, &scrub), "scrub");
	must(scrub.progress.data_bytes_scrubbed, "data to scrub");
	release();
	if (scrub.progress.csum_errors)
		return and_error(UNREADABLE, fsync_said);
	return survived_and(fsync_said ?: fsync_error());
}

/* --- What a crash leaves ---------------------------------------------------------- */

#define IMAGE	"/tmp/writeback.img"

/* What is on the disk now, as after a crash */
static void take_image(void)
{
	int from = open_file(disk, O_RDONLY | O_DIRECT);
	int to = open_file(IMAGE, O_RDWR | O_CREAT | O_TRUNC);
	char *mem = pages(MB / PAGE);
	off_t at = 0;
	ssize_t n;

	while ((n = pread(from, mem, MB, at)) > 0) {
		if (*mem || memcmp(mem, mem + 1, n - 1))
			must(pwrite(to, mem, n, at) == n, "write of the image");
		at += n;
	}
	must(!n && !ftruncate(to, at), "image");
	munmap(mem, MB);
	close(from);
	close(to);
}

/* In place of the file system: what has the file at P? */
static const char *image_has(void)
{
	int control = open_file("/dev/loop-control", O_RDWR), loop, kept;
	struct loop_config config = { .info.lo_flags = LO_FLAGS_AUTOCLEAR };
	const char *what = "cannot be mounted";
	char name[32];

	snprintf(name, sizeof(name), "/dev/loop%d", ioctl(control, LOOP_CTL_GET_FREE));
	close(control);
	loop = open_file(name, O_RDWR);
	config.fd = open_file(IMAGE, O_RDWR);
	must(!ioctl(loop, LOOP_CONFIGURE, &config), "loop device");
	close(config.fd);
	/* What is open for writing cannot be mounted; what nobody has open goes */
	kept = open_file(name, O_RDONLY);
	close(loop);
	must(!unlink(IMAGE), "unlink");
	must(wait_for(unmounts, NULL), "umount");
	if (!mount(name, DIR, fs_table[fs].type, 0, fs_table[fs].options)) {
		/* Before fsync(), or after that */
		what = differs(path, P, OLD(P));
		if (what && !differs(path, P, NEW(P)))
			what = NULL;
		must(wait_for(unmounts, NULL), "umount");
	}
	close(kept);
	return what;
}

/* The machine crashes when fsync() has returned */
const char *in_flight_crash(void)
{
	pthread_t thread;

	pin();
	write_and_hold(&thread, 0, target_pages());
	arrive();
	end_fsync(thread);
	take_image();
	release();
	close_file();
	return and_error(image_has() ?: HOLDS, fsync_said);
}

/* --- Written in another way ------------------------------------------------------- */

#define EXT4_IOC_CHECKPOINT	_IOW('f', 43, uint32_t)

/* A journal writes P to its place in the file system, without a writeback of P */
const char *checkpoint(void)
{
	uint32_t flags = 0;
	int fd;

	/* The CPU has written to it, and then it is pinned */
	fill(map + P * PAGE, PAGE, OLD(P));
	fill(map + Q * PAGE, PAGE, OLD(Q));
	pin();
	fd = open_file(other_path, O_RDWR | O_CREAT);
	must(write(fd, "x", 1) == 1 && !fsync(fd), "fsync of another file");
	must(!ioctl(fd, EXT4_IOC_CHECKPOINT, &flags), "EXT4_IOC_CHECKPOINT");
	close(fd);
	release();
	return survived_and(fsync_error());
}

/* --- Of a cgroup ------------------------------------------------------------------ */

#define CGROUP		"/sys/fs/cgroup/writeback"

/* In bytes, to all disks */
static unsigned long written_by_cgroup(void)
{
	char *text = slurp(CGROUP "/io.stat"), *at;
	unsigned long n = 0;

	must(text, CGROUP "/io.stat");
	for (at = text; (at = strstr(at, "wbytes=")); at++)
		n += strtoul(at + strlen("wbytes="), NULL, 10);
	free(text);
	return n;
}

static bool is_clean(void *page)
{
	return !(pfn_flags(pfn_of(page)) & (PF_DIRTY | PF_WRITEBACK));
}

/* What a cgroup has made dirty is its own I/O, also if a copy of it is written, by the flusher */
const char *of_cgroup(void)
{
	unsigned long before;
	bool so;

	must_be_0(write_text("/sys/fs/cgroup/cgroup.subtree_control", "+io +memory"), "cgroups");
	must(!mkdir(CGROUP, 0755) || errno == EEXIST, CGROUP);
	must_be_0(write_text(CGROUP "/cgroup.procs", "0"), CGROUP "/cgroup.procs");
	/* An inode is the cgroup's that writes to it first */
	close_file();
	must(!unlink(path), "unlink");
	make_file(path);
	open_map();
	before = written_by_cgroup();
	pin();
	start_flusher();
	must(wait_for(is_clean, map + P * PAGE) && wait_for(is_clean, map + Q * PAGE),
	     "writes by the flusher");
	stop_flusher();
	so = written_by_cgroup() >= before + 2 * PAGE;
	release();
	must_be_0(write_text("/sys/fs/cgroup/cgroup.procs", "0") ?: remove_cgroup(CGROUP),
		  CGROUP);
	return so ? survived_and(fsync_error()) : "somebody else's I/O";
}

/* What can change while it is compressed is not */
const char *compressed(void)
{
	bool encoded;

	must(!mount(NULL, DIR, NULL, MS_REMOUNT, "compress-force=lzo"), "compression");
	pin();
	memset(map, 'x', P * PAGE);
	memset(map + (Q + 1) * PAGE, 'x', (FILE_PAGES - Q - 1) * PAGE);
	must(!fsync(file), "fsync of what is pinned");
	encoded = extent_of_p().fe_flags & FIEMAP_EXTENT_ENCODED;
	release();
	if (encoded)
		return "compressed";
	return survived_and(fsync_error());
}

/* --- A pin that comes while the page is written ----------------------------------- */

/* Is this thread in a function that begins so? */
struct waiter {
	pid_t tid;
	const char *where;
};

static bool waits_in(void *arg)
{
	struct waiter *w = arg;
	char name[64], *text;
	pid_t tid = __atomic_load_n(&w->tid, __ATOMIC_ACQUIRE);
	bool so;

	snprintf(name, sizeof(name), "/proc/%d/wchan", tid);
	text = tid ? slurp(name) : NULL;
	so = text && !strncmp(text, w->where, strlen(w->where));
	free(text);
	return so;
}

static struct waiter submitter = { .where = "folio_wait_" };

static void *submit_and_say(void *cb)
{
	__atomic_store_n(&submitter.tid, gettid(), __ATOMIC_RELEASE);
	aio_start(cb);
	return NULL;
}

static bool pinned_or_waits(void *arg)
{
	(void)arg;
	return waits_in(&submitter) || !pinned((void *)0);
}

/*
 * P is on its way to the disk, and the CPU may write to it. A pin for writing waits for
 * the end of that, without the lock of the address space.
 */
const char *pin_waits(void)
{
	struct iovec from = { buf, 8 }, to = { map + P * PAGE, 8 };
	static struct iocb cb;
	pthread_t thread, reader;
	bool waited;
	pid_t pid = 0;
	int status;

	if (how != FIRST) {
		/* Its file is prepared: GUP-fast looks */
		memcpy(buf, map + P * PAGE, 8);
		must(process_vm_writev(getpid(), &from, 1, &to, 1, 0) == 8,
		     "process_vm_writev");
	}
	fill(map + P * PAGE, PAGE, OLD(P));
	write_and_hold(&thread, 0, target_pages());
	fill(map + P * PAGE, PAGE, OLD(P));
	cb = (struct iocb) {
		.aio_lio_opcode = IOCB_CMD_PREAD,
		.aio_fildes = open_file(source_path(), O_RDONLY | O_DIRECT),
		.aio_buf = (uintptr_t)(map + P * PAGE),
		.aio_nbytes = 2 * PAGE,
	};
	if (how == KILLED) {
		pid = fork();
		if (!pid) {
			submit(&cb);
			pause();
		}
		submitter.tid = pid;
	} else {
		must(!pthread_create(&reader, NULL, submit_and_say, &cb), "thread");
	}
	must(wait_for(pinned_or_waits, NULL), "a pin, or a wait for it");
	waited = pinned((void *)0);
	if (how == KILLED) {
		kill(pid, SIGKILL);
		if (waited && reap(pid, &status))
			return "cannot be killed";
		end_fsync(thread);
		if (!waited) {
			let_go();
			reap(pid, &status);
		}
		return waited ? HOLDS : DURING;
	}
	/* mmap() wants the lock */
	munmap(pages(1), PAGE);
	end_fsync(thread);
	pthread_join(reader, NULL);
	must_be_pinned(2);
	let_go();
	must(aio_end() == 2 * PAGE, "read by the device");
	close(cb.aio_fildes);
	return waited ? survived_and(fsync_error()) : DURING;
}

/* --- Without memory --------------------------------------------------------------- */

/* 1,024 pages are pinned, and no page is to be had to copy them to */
#define MANY_PAGES	(4 * MB / PAGE)

/* What it takes to end that is open before: open() allocates */
static int no_pages(void)
{
	const char *const text[][2] = {
		{ "ignore-gfp-wait", "N" }, { "task-filter", "Y" }, { "min-order", "0" },
		{ "verbose", "0" }, { "times", "-1" },
		/* btrfs can write nothing without memory for checksums */
		{ "probability", fs == BTRFS ? "80" : "100" },
	};
	int fd = open_file("/proc/thread-self/make-it-fail", O_WRONLY);
	char name[80];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(text); i++) {
		snprintf(name, sizeof(name), "/sys/kernel/debug/fail_page_alloc/%s", text[i][0]);
		must_be_0(write_text(name, text[i][1]), name);
	}
	must(pwrite(fd, "1", 1, 0) == 1, "fault injection");
	return fd;
}

static void pages_again(int fd)
{
	must(pwrite(fd, "0", 1, 0) == 1, "fault injection");
	close(fd);
	must_be_0(write_text("/sys/kernel/debug/fail_page_alloc/probability", "0"), "no faults");
}

const char *copies_without_memory(void)
{
	static struct iocb cb[2];
	long copied = vmstat("pin_copied");
	char wide[32];
	int from, fd, i, error;

	close_map();
	if (fs != BDEV)
		must(!posix_fallocate(file, 0, MANY_PAGES * PAGE), "fallocate");
	map = mmap(NULL, MANY_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	must(map != MAP_FAILED, "mmap");
	memset(map, 'a', MANY_PAGES * PAGE);
	must(!fsync(file), "fsync");
	must_be_0(wide_open(getenv("USERPIN_SOURCE"), wide), "a source that holds");
	from = open_file(wide, O_RDONLY | O_DIRECT);
	for (i = 0; i < 2; i++) {
		cb[i] = (struct iocb) {
			.aio_lio_opcode = IOCB_CMD_PREAD,
			.aio_fildes = from,
			.aio_buf = (uintptr_t)(map + i * 2 * WIDE),
			.aio_nbytes = 2 * WIDE,
		};
		aio_start(&cb[i]);
	}
	must_be_pinned(MANY_PAGES);
	for (i = 0; i < (int)MANY_PAGES; i++)
		fill(map + i * PAGE, PAGE, WRITTEN + i % 2);
	fd = no_pages();
	/* The file system has allocations of its own, and btrfs calls that EIO */
	for (i = 0; i < 1000; i++) {
		error = fsync_error();
		if (error != ENOMEM && (error != EIO || fs != BTRFS))
			break;
	}
	pages_again(fd);
	copied = vmstat("pin_copied") - copied;
	must_be_0(wide_release(0) ?: wide_release(1), "release");
	must(aio_end() == 2 * WIDE && aio_end() == 2 * WIDE, "reads");
	close(from);
	wide_close();
	if (error)
		return strerrorname_np(error);
	return copied < (long)MANY_PAGES ? "no copies" : HOLDS;
}

/* Each allocation fails in turn while a page is pinned for the first time, written and put */
const char *no_memory(void)
{
	uint64_t number, found;
	struct iovec from = { &number, sizeof(number) }, to = { NULL, sizeof(number) };
	struct failing f = { .fd = failing_open() };
	ssize_t n;
	int fd;

	must(f.fd >= 0, "fault injection");
	while (failing_next(&f)) {
		go_on();
		/* Of another inode, which nobody has prepared for pins */
		close_file();
		must(!unlink(path), "unlink");
		make_file(path);
		open_map();
		to.iov_base = map + P * PAGE;
		number = f.n;
		failing_arm(&f);
		n = process_vm_writev(getpid(), &from, 1, &to, 1, 0);
		failing_disarm(&f, n < 0 ? -errno : 0);
		memcpy(&found, map + P * PAGE, sizeof(found));
		if (found != number && !filled(map + P * PAGE, PAGE, OLD(P)))
			return "damaged";
		must(process_vm_writev(getpid(), &from, 1, &to, 1, 0) ==
		     sizeof(number), "process_vm_writev");
		must(!fsync(file), "fsync");
		close_file();
		drop_caches();
		fd = open_file(path, O_RDONLY);
		must(pread(fd, &found, sizeof(found), P * PAGE) == sizeof(found),
		     "pread");
		close(fd);
		if (found != number)
			return LOST;
		open_map();
	}
	must(!f.injected && !f.ret, "an end");
	must(f.n > 1, "an allocation");
	return HOLDS;
}
