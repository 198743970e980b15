// SPDX-License-Identifier: GPL-2.0
/*
 * Pages of files that a device writes to while they are written back: one case per row
 * of the table below and file system. The device is a disk that is read by O_DIRECT
 * into a shared mapping of the file, or by vhost-scsi for a guest whose memory that is,
 * and hold_lib.h says when its data comes. All of it is what any program can do, and no
 * module is needed.
 *
 * writeback [--stock] [--list] [[!]PATTERN...]
 *
 * Each case must hold; with --stock it must end as the table says for stock 6.12, so
 * that a kernel which is better, or worse, than the table fails.
 */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <linux/aio_abi.h>
#include <linux/btrfs.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hold_lib.h"
#include "io_uring_lib.h"
#include "kselftest.h"
#include "scsi_lib.h"
#include "stack_lib.h"
#include "util.h"

#define DIR		"/tmp/writeback"
#define FILE_PAGES	16UL
/* 10^6 in all: on three file systems and a block device; on these and three more */
#define RACE_WRITES	215000
#define RACE_PINS	20000
/* The pages of the file that the device writes to. Others lie before them. */
#define P		4UL
#define Q		5UL

/* How a case ends; some say more behind it */
#define HOLDS		"holds"
#define LOST		"lost"
#define STALE		"old data"
#define NOT_ON_DISK	"not on the disk"
#define UNREADABLE	"unreadable"
#define DURING		"pinned while it is written"

enum fs { EXT4, XFS, BTRFS, BDEV, EXT4_1K, XFS_1K, XFS_LARGE, EXT4_JOURNAL, EXT2, NR_FS };

#define MKFS_EXT4	"mkfs.ext4 -q -F -E nodiscard -b "
/* Else a thread writes all the time, in a transaction that waits for what is held */
#define NO_INIT		"noinit_itable"
#define MKFS_XFS	"mkfs.xfs -q -f -K -m reflink=1 -b size="

static const struct {
	const char *name, *type, *mkfs, *options;
	size_t block;		/* of which a folio has several */
} fs_table[NR_FS] = {
	[EXT4] = { "ext4", "ext4", MKFS_EXT4 "4096", NO_INIT },
	[XFS] = { "xfs", "xfs", MKFS_XFS "4096" },
	[BTRFS] = { "btrfs", "btrfs", "mkfs.btrfs -q -f -K" },
	/* Pages of a block device itself */
	[BDEV] = { "bdev" },
	[EXT4_1K] = { "ext4-1k", "ext4", MKFS_EXT4 "1024", NO_INIT, .block = 1024 },
	[XFS_1K] = { "xfs-1k", "xfs", MKFS_XFS "1024", .block = 1024 },
	/* All of the file is one folio */
	[XFS_LARGE] = { "xfs-large", "xfs", MKFS_XFS "4096", .block = PAGE },
	[EXT4_JOURNAL] = { "ext4-journal", "ext4", MKFS_EXT4 "4096", "data=journal," NO_INIT },
	/* By mpage; writes by its put alone are those of others */
	[EXT2] = { "ext2", "ext2", "mkfs.ext2 -q -F -E nodiscard -b 4096" },
};

/* --- The case that runs, in a process of its own ---------------------------------- */

/* Variants of rows */
enum how {
	FSYNC, FDATASYNC, MSYNC, SYNC, SYNCFS, SYNC_FILE_RANGE, AIO_FSYNC,
	URING_FSYNC,
	/* lost() and unmounted() */
	EVICT, UNMAP, EXIT, WHILE_PINNED,
	/* clones */
	CLONE, CLONE_RANGE, COPY,
	/* dedupe(), dedupe_done(), swap_extents() */
	SOURCE, DESTINATION, DONE,
	/* do_sync(), of all of the file system */
	BTRFS_SYNC, FREEZE, FLUSH_BUFFERS,
	/* clone_before(), clone_after() */
	FLUSHER, SNAPSHOT,
	/* shift() */
	INSERT, COLLAPSE, BEHIND,
	/* beside() */
	DIRECT, BETWEEN,
	/* cut(), cut_arrived() */
	TRUNCATE, GROW_FIRST, MIDDLE, PUNCH, OVERLAY,
	/* locked() */
	FLOCK, OFD, LEASE,
	/* remounted_at_once() */
	MOUNT, FSCONFIG,
	/* pin_waits() */
	FIRST, KILLED,
	/* race(), in_flight(): what the file system is on */
	ON_INTEGRITY, ON_T10_PI, ON_RAID1, ON_RAID5,
};

static enum fs fs;
static enum how how;
static bool cpu;		/* the CPU stores what a device would write */
static unsigned int seed;	/* contents are those of no other case */
static int say;			/* to the process that started it */
static const char *disk;	/* below the target */
static enum stack stack;	/* above it */
static char fs_disk[32];	/* where the file system is */
static char path[64], other_path[64];
static int file = -1;
static char *map;
static char *buf;		/* two pages for I/O */
static size_t each = PAGE;	/* what the device writes to P, and behind that */
static bool arrived;

#define OLD(page)	(seed + (page))
#define NEW(page)	(seed + 100 + (page))
#define WRITTEN		(seed + 200)

static void __noreturn __printf(1, 2) end_case(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vdprintf(say, fmt, args);
	va_end(args);
	_exit(0);
}

/* It takes long: whoever waits for its end has patience anew */
static void go_on(void)
{
	if (write(say, "\n", 1) != 1)
		_exit(1);
}

/* What is no verdict */
static void must(bool so, const char *what)
{
	if (!so)
		end_case("broken: %s: %s", what, strerror(errno));
}

static void must_be_0(int ret, const char *what)
{
	errno = -ret;
	must(!ret, what);
}

static char *pages(size_t n)
{
	char *mem = small_pages(n * PAGE);

	must(mem, "memory");
	return mem;
}

/* --- Files ------------------------------------------------------------------------ */

static int open_file(const char *name, int flags)
{
	int fd = open(name, flags | O_CLOEXEC, 0600);

	must(fd >= 0, name);
	return fd;
}

/* Old data at @name, on the disk and clean */
static void make_file(const char *name)
{
	int fd = open_file(name, O_RDWR | (fs == BDEV ? 0 : O_CREAT | O_TRUNC));
	size_t step = fs == XFS_LARGE ? FILE_PAGES * PAGE : PAGE, at;
	char *old = pages(FILE_PAGES);
	unsigned long i;

	for (i = 0; i < FILE_PAGES; i++)
		fill(old + i * PAGE, PAGE, OLD(i));
	for (at = 0; at < FILE_PAGES * PAGE; at += step)
		must(pwrite(fd, old + at, step, at) == (ssize_t)step, "write");
	must(!fsync(fd), "fsync of old data");
	close(fd);
	munmap(old, FILE_PAGES * PAGE);
}

static void map_file(void)
{
	map = mmap(NULL, FILE_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
		   file, 0);
	must(map != MAP_FAILED, "mmap");
}

static void open_map(void)
{
	file = open_file(path, O_RDWR);
	map_file();
}

static void close_map(void)
{
	munmap(map, FILE_PAGES * PAGE);
	map = NULL;
}

static void close_file(void)
{
	if (map)
		close_map();
	close(file);
	file = -1;
}

static void drop_caches(void)
{
	must_be_0(write_text("/proc/sys/vm/drop_caches", "3"), "drop_caches");
}

/* What does the file have at @page? NULL for @content, or what it is instead */
static const char *differs(const char *name, unsigned long page,
			   unsigned int content)
{
	int fd = open_file(name, O_RDONLY), ret;
	const char *what = "unknown data";
	unsigned long i;

	ret = pread(fd, buf, PAGE, page * PAGE) == PAGE ? 0 : errno;
	close(fd);
	if (ret)
		what = ret == EIO ? UNREADABLE : strerrorname_np(ret);
	else if (filled(buf, PAGE, content))
		what = NULL;
	/* The range may have moved */
	for (i = 0; what && !ret && i < FILE_PAGES; i++) {
		if (filled(buf, PAGE, OLD(i)))
			what = LOST;
	}
	return what;
}

static void mount_fs(void)
{
	if (fs != BDEV)
		must(!mount(fs_disk, DIR, fs_table[fs].type, 0,
			    fs_table[fs].options), "mount");
}

static bool unmounts(void *arg)
{
	(void)arg;
	return !umount(DIR);
}

/* The kernel may have it open for a moment yet, to write what came last */
static void mount_again(void)
{
	if (fs == BDEV)
		return;
	must(wait_for(unmounts, NULL), "umount");
	mount_fs();
}

/* Is what the device wrote in the file, @by pages further on? Of @n pages from P */
static const char *survived_at(unsigned long n, unsigned long by)
{
	const char *what = NULL;
	unsigned long i;
	int again;

	if (file >= 0)
		close_file();
	for (again = 0; again < 2; again++) {
		drop_caches();
		for (i = P; i < P + n && !what; i++)
			what = differs(path, i + by, NEW(i));
		if (!again)
			mount_again();
	}
	return what ?: HOLDS;
}

static const char *survived(void)
{
	return survived_at(2, 0);
}

/* And what fsync() said */
static const char *and_error(const char *what, int error)
{
	static char text[80];

	if (!error)
		return what;
	snprintf(text, sizeof(text), "%s, %s", what, strerrorname_np(error));
	return text;
}

static const char *survived_and(int error)
{
	return and_error(survived(), error);
}

static int fsync_error(void)
{
	return fsync(file) ? errno : 0;
}

/* Is this page anywhere on the disk? Below all caches. */
static bool on_disk(unsigned int content)
{
	char *mem = pages(MB / PAGE), want[16];
	bool found = false;
	ssize_t n = 1;
	off_t at;
	int fd;

	fd = open_file(disk, O_RDONLY | O_DIRECT);
	fill(buf, PAGE, content);
	memcpy(want, buf, sizeof(want));
	for (at = 0; !found; at += n) {
		ssize_t i;

		n = pread(fd, mem, MB, at);
		must(n >= 0, "read of the disk");
		if (!n)
			break;
		for (i = 0; i < n && !found; i += PAGE)
			found = !memcmp(mem + i, want, sizeof(want)) &&
				filled(mem + i, PAGE, content);
	}
	close(fd);
	munmap(mem, MB);
	return found;
}

/* --- The device ------------------------------------------------------------------- */

static aio_context_t aio;

static void aio_start(struct iocb *cb)
{
	if (!aio)
		must(!syscall(SYS_io_setup, 4, &aio), "io_setup");
	must(syscall(SYS_io_submit, aio, 1, &cb) == 1, "io_submit");
}

/* The result of the next that ends */
static long aio_end(void)
{
	struct io_event event;

	must(syscall(SYS_io_getevents, aio, 1, 1, &event, NULL) == 1,
	     "io_getevents");
	return event.res;
}

/* With room for more requests than that of the device */
static aio_context_t many;

static bool have_ended(void *arg)
{
	static struct io_event events[512];
	struct timespec now = {};
	long *left = arg, n;

	n = syscall(SYS_io_getevents, many, 0, *left, events, &now);
	must(n >= 0, "io_getevents");
	*left -= n;
	return !*left;
}

static long vmstat(const char *name)
{
	char *text = slurp("/proc/vmstat"), *at;
	size_t len = strlen(name);
	long value = 0;

	must(text, "vmstat");
	for (at = text; at; at = strchr(at, '\n')) {
		at += *at == '\n';
		if (!strncmp(at, name, len) && at[len] == ' ')
			value = atol(at + len);
	}
	free(text);
	return value;
}

/* Nobody else pins anything here */
static bool pinned(void *pages)
{
	write_text("/proc/sys/vm/stat_refresh", "1");
	return vmstat("nr_foll_pin_acquired") - vmstat("nr_foll_pin_released") ==
	       (long)pages;
}

static void must_be_pinned(long n)
{
	must(wait_for(pinned, (void *)n), "pins of so many pages");
}

static bool has_arrived(void *at)
{
	return filled(at, each, NEW(P));
}

/* Each of the source's pages that is released is so many bytes, one behind the other */
static void device_writes(size_t n)
{
	char *both = pages(2);

	each = n;
	fill(both + PAGE - n, n, NEW(P));
	fill(both + PAGE, n, NEW(Q));
	must_be_0(source_fill(both), "the source");
	munmap(both, 2 * PAGE);
}

static struct scsi scsi;
static bool by_scsi;		/* the device is a guest's */

static bool source_is_busy(void *arg)
{
	char name[64], *text;
	bool busy;

	(void)arg;
	snprintf(name, sizeof(name), "/sys/block/%s/inflight",
		 strrchr(source_path(), '/') + 1);
	text = slurp(name);
	must(text, name);
	busy = atoi(text);
	free(text);
	return busy;
}

/* Likewise, for the guest. Only the source can say that it is held: a stock kernel pins nothing */
static void start_scsi_read(void)
{
	must_be_0(scsi_open(&scsi, map, FILE_PAGES * PAGE), "vhost-scsi");
	must_be_0(scsi_read_start(&scsi, map + P * PAGE, 2 * PAGE),
		  "read by vhost-scsi");
	must(wait_for(source_is_busy, NULL), "a read that is held");
}

/* Read @len bytes at @from of the source; it is held, and then @n pages are pinned */
static void start_read(void *to, size_t len, off_t from, long n)
{
	static struct iocb cb;
	int fd;

	fd = open_file(source_path(), O_RDONLY | O_DIRECT);
	cb = (struct iocb) {
		.aio_lio_opcode = IOCB_CMD_PREAD,
		.aio_fildes = fd,
		.aio_buf = (uintptr_t)to,
		.aio_nbytes = len,
		.aio_offset = from,
	};
	aio_start(&cb);
	close(fd);
	must_be_pinned(n);
}

#define NR_PINNED	(each == PAGE ? 2 : 1)

/* The device is to write to P and Q, or to P only */
static void pin(void)
{
	if (by_scsi)
		start_scsi_read();
	else if (!cpu)
		start_read(map + P * PAGE, 2 * each, PAGE - each, NR_PINNED);
}

/* It has written to P; all is pinned */
static void arrive(void)
{
	arrived = true;
	if (cpu) {
		fill(map + P * PAGE, each, NEW(P));
		return;
	}
	must_be_0(source_release(0), "release of P");
	must(wait_for(has_arrived, map + P * PAGE), "data of P");
	if (!by_scsi)
		must_be_pinned(NR_PINNED);
}

static void let_go(void)
{
	must_be_0(source_release(0), "release of P");
	must_be_0(source_release(1), "release of Q");
}

/* It has written all, and nothing is pinned any more */
static void release(void)
{
	if (cpu) {
		if (!arrived)
			fill(map + P * PAGE, each, NEW(P));
		fill(map + P * PAGE + each, each, NEW(Q));
		return;
	}
	let_go();
	if (by_scsi)
		must_be_0(scsi_read_end(&scsi), "read by vhost-scsi");
	else
		must(aio_end() == 2 * (long)each, "read by the device");
	must_be_pinned(0);
}

/* Both are pinned, and their pages clean */
static void pin_clean(void)
{
	pin();
	must(!fsync(file), "fsync of what is pinned");
}

/*
 * Both are dirty by write(), which changes nothing: then the put need not say anything
 * to anybody, and the kernel looks at them when it thinks that it is time.
 */
static void make_dirty(void)
{
	memcpy(buf, map + P * PAGE, 2 * PAGE);
	must(pwrite(file, buf, 2 * PAGE, P * PAGE) == 2 * PAGE, "write");
}

/* --- Ways to have it on the disk -------------------------------------------------- */

static int do_sync(void)
{
	struct iocb cb = {
		.aio_lio_opcode = IOCB_CMD_FSYNC,
		.aio_fildes = file,
	};
	struct ring ring;
	int ret;

	switch (how) {
	case FDATASYNC:
		return fdatasync(file);
	case MSYNC:
		return msync(map, FILE_PAGES * PAGE, MS_SYNC);
	case SYNC:
		sync();
		return 0;
	case SYNCFS:
		return syncfs(file);
	case SYNC_FILE_RANGE:
		return sync_file_range(file, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE |
				       SYNC_FILE_RANGE_WRITE |
				       SYNC_FILE_RANGE_WAIT_AFTER);
	case AIO_FSYNC:
		aio_start(&cb);
		return aio_end();
	case URING_FSYNC:
		must_be_0(ring_open(&ring), "io_uring");
		ret = ring_request(&ring, IORING_OP_FSYNC, file, NULL, 0);
		ring_close(&ring);
		return ret;
	case BTRFS_SYNC:
		return ioctl(file, BTRFS_IOC_SYNC);
	case FREEZE:
		return ioctl(file, FIFREEZE, 0) ?: ioctl(file, FITHAW, 0);
	case FLUSH_BUFFERS:
		return ioctl(file, BLKFLSBUF, 0);
	default:
		return fsync(file);
	}
}

/* --- Rows ------------------------------------------------------------------------- */

/* Into a mapping that nobody has any more, nor the process */
static void pin_and_exit(void)
{
	struct ring ring;
	int status, fd;
	pid_t pid;

	close_map();
	pid = fork();
	if (!pid) {
		open_map();
		fd = open_file(source_path(), O_RDONLY | O_DIRECT);
		must_be_0(ring_open(&ring), "io_uring");
		must_be_0(ring_submit(&ring, IORING_OP_READ, fd, map + P * PAGE,
				      2 * PAGE, 0), "io_uring: read");
		must_be_pinned(2);
		must(!fsync(file), "fsync of what is pinned");
		_exit(0);
	}
	must(pid > 0, "fork");
	must_be_0(reap(pid, &status), "end of who reads");
	must(!status, "who reads");
	must_be_pinned(2);
	let_go();
	must_be_pinned(0);
}

/* What the device writes after an fsync() is written with the next one */
static const char *lost(void)
{
	int error;

	if (how == EXIT) {
		pin_and_exit();
		return survived_and(fsync_error());
	}
	pin_clean();
	if (how == UNMAP)
		close_map();
	release();
	if (how == EVICT) {
		sync();
		must(wait_for(reclaimed, map + P * PAGE), "reclaim");
		if (filled(map + P * PAGE, PAGE, NEW(P)))
			return HOLDS;
		return "memory has old data";
	}
	error = do_sync() ? errno : 0;
	return survived_and(error);
}

/* What it has written is on the disk when a sync of any kind returns */
static const char *fsync_while_pinned(void)
{
	bool found;

	pin_clean();
	arrive();
	must(!do_sync(), "sync of what has arrived");
	found = on_disk(NEW(P));
	release();
	return found ? HOLDS : NOT_ON_DISK;
}

static const char *vhost_scsi(void)
{
	by_scsi = true;
	return how == WHILE_PINNED ? fsync_while_pinned() : lost();
}

/* The same for a file of an overlay, whose upper layer is in the file system */
static void open_on_overlay(void)
{
	static const char options[] = "lowerdir=" DIR "/lower,upperdir=" DIR "/upper,workdir="
				      DIR "/work";
	static const char merged[] = DIR "/merged";

	close_file();
	must(!mkdir(DIR "/lower", 0700) && !mkdir(DIR "/upper", 0700) &&
	     !mkdir(DIR "/work", 0700) && !mkdir(merged, 0700), "mkdir");
	must(!mount("overlay", merged, "overlay", 0, options), "mount of an overlay");
	snprintf(path, sizeof(path), "%s/file", merged);
	make_file(path);
	open_map();
	/* It goes with the file */
	must(!umount2(merged, MNT_DETACH), "umount of the overlay");
}

static const char *overlay(void)
{
	open_on_overlay();
	return fsync_while_pinned();
}

static void copy(void)
{
	struct file_clone_range range = {
		.src_fd = file,
		.src_offset = P * PAGE,
		.src_length = 2 * PAGE,
		.dest_offset = P * PAGE,
	};
	loff_t from = P * PAGE, to = P * PAGE;
	struct btrfs_ioctl_vol_args snapshot = { .name = "snapshot" };
	int fd;

	if (how == SNAPSHOT) {
		snapshot.fd = fd = open_file(DIR, O_RDONLY | O_DIRECTORY);
		must(!ioctl(fd, BTRFS_IOC_SNAP_CREATE, &snapshot), "snapshot");
		close(fd);
		snprintf(other_path, sizeof(other_path), DIR "/snapshot/file");
		return;
	}
	fd = open_file(other_path, O_RDWR | O_CREAT);
	if (how == CLONE || how == FLUSHER)
		must(!ioctl(fd, FICLONE, file), "FICLONE");
	else if (how == CLONE_RANGE)
		must(!ioctl(fd, FICLONERANGE, &range), "FICLONERANGE");
	else
		must(copy_file_range(file, &from, fd, &to, 2 * PAGE, 0) ==
		     2 * PAGE, "copy_file_range");
	must(!fsync(fd), "fsync of the copy");
	close(fd);
}

/* What of the disk P is in */
static struct fiemap_extent extent_of_p(void)
{
	struct {
		struct fiemap map;
		struct fiemap_extent extent;
	} m = {
		.map = {
			.fm_start = P * PAGE,
			.fm_length = PAGE,
			.fm_extent_count = 1,
		},
	};

	must(!ioctl(file, FS_IOC_FIEMAP, &m) && m.map.fm_mapped_extents == 1,
	     "FIEMAP");
	return m.extent;
}

/* Where P is on the disk */
static uint64_t place_of_p(void)
{
	struct fiemap_extent e;

	if (fs == BDEV)
		return P * PAGE;
	e = extent_of_p();
	return e.fe_physical + P * PAGE - e.fe_logical;
}

static bool is_at(uint64_t place, size_t len, unsigned int content)
{
	int fd = open_file(disk, O_RDONLY | O_DIRECT);

	must(pread(fd, buf, len, place) == (ssize_t)len, "read of the disk");
	close(fd);
	return filled(buf, len, content);
}

static bool flushed(void *arg)
{
	(void)arg;
	return is_at(place_of_p(), PAGE, NEW(P));
}

/* What is dirty is written, though nobody asks for it */
static void let_flusher_write(void)
{
	static const char interval[] = "/proc/sys/vm/dirty_writeback_centisecs";

	must_be_0(write_text("/proc/sys/vm/dirty_expire_centisecs", "1"), "expiry");
	/* It is woken up when the interval was 0 */
	must_be_0(write_text(interval, "0") ?: write_text(interval, "1"),
		  "interval");
	must(wait_for(flushed, NULL), "write by the flusher");
	must_be_0(write_text("/proc/sys/vm/dirty_expire_centisecs", "3000") ?:
		  write_text(interval, "500"), "intervals as before");
}

/* A copy that was made before the device writes has the old data */
static const char *clone_before(void)
{
	const char *what;
	int error;

	pin();
	copy();
	release();
	if (how == FLUSHER)
		let_flusher_write();
	error = fsync_error();
	close_file();
	drop_caches();
	what = differs(other_path, P, OLD(P)) ?: differs(other_path, Q, OLD(Q));
	return what ? "clone changed" : survived_and(error);
}

static void *submit(void *cb)
{
	aio_start(cb);
	return NULL;
}

/*
 * The read has pinned P, and waits for memory of a userfaultfd, so that the device does
 * not know of it yet; meanwhile P is cloned, which makes it clean
 */
static const char *clone_in_submit(void)
{
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_zeropage zero;
	static struct iovec to[2];
	static struct iocb cb;
	struct uffd_msg msg;
	pthread_t thread;
	const char *what;
	int fd, error;

	to[0] = (struct iovec) { map + P * PAGE, PAGE };
	to[1] = (struct iovec) { pages(1), PAGE };
	reg.range.start = (uintptr_t)to[1].iov_base;
	reg.range.len = PAGE;
	zero = (struct uffdio_zeropage) { .range = reg.range };
	fd = syscall(SYS_userfaultfd, O_CLOEXEC);
	must(fd >= 0 && !ioctl(fd, UFFDIO_API, &api) && !ioctl(fd, UFFDIO_REGISTER, &reg),
	     "userfaultfd");
	cb = (struct iocb) {
		.aio_lio_opcode = IOCB_CMD_PREADV,
		.aio_fildes = open_file(source_path(), O_RDONLY | O_DIRECT),
		.aio_buf = (uintptr_t)to,
		.aio_nbytes = 2,
	};
	must(!pthread_create(&thread, NULL, submit, &cb), "thread");
	must(read(fd, &msg, sizeof(msg)) == sizeof(msg), "a fault");
	must_be_pinned(1);
	copy();
	must(!ioctl(fd, UFFDIO_ZEROPAGE, &zero), "UFFDIO_ZEROPAGE");
	pthread_join(thread, NULL);
	close(fd);
	close(cb.aio_fildes);
	release();
	let_flusher_write();
	error = fsync_error();
	close_file();
	drop_caches();
	what = differs(other_path, P, OLD(P));
	return what ? "clone changed" : and_error(survived_at(1, 0), error);
}

/* And one that was made later has the new data */
static const char *clone_after(void)
{
	int error;

	pin_clean();
	arrive();
	copy();
	drop_caches();
	if (differs(other_path, P, NEW(P))) {
		release();
		return "clone has old data";
	}
	release();
	error = fsync_error();
	return survived_and(error);
}

/* FIDEDUPERANGE of so much from P on, in @file and @other. Is it the same? */
static bool same_as(int other, size_t len)
{
	struct {
		struct file_dedupe_range range;
		struct file_dedupe_range_info info;
	} same = {
		.range = {
			.src_offset = P * PAGE,
			.src_length = len,
			.dest_count = 1,
		},
		.info = {
			.dest_fd = how == SOURCE ? other : file,
			.dest_offset = P * PAGE,
		},
	};

	must(!ioctl(how == SOURCE ? file : other, FIDEDUPERANGE, &same),
	     "FIDEDUPERANGE");
	must(same.info.status >= 0, "FIDEDUPERANGE of the range");
	return same.info.status == FILE_DEDUPE_RANGE_SAME;
}

/* Only what is the same becomes one, and no file changes */
static const char *dedupe(void)
{
	int fd, error;

	/* The other file has what the device is to write, or what the disk has now */
	make_file(other_path);
	fd = open_file(other_path, O_RDWR);
	if (how == SOURCE) {
		fill(buf, PAGE, NEW(P));
		must(pwrite(fd, buf, PAGE, P * PAGE) == PAGE, "write");
		must(!fsync(fd), "fsync of the other file");
	}
	pin_clean();
	if (how == SOURCE)
		arrive();
	same_as(fd, how == SOURCE ? PAGE : 2 * PAGE);
	close(fd);
	drop_caches();
	if (how == SOURCE && differs(other_path, P, NEW(P))) {
		release();
		return "destination changed";
	}
	release();
	error = fsync_error();
	close_file();
	drop_caches();
	if (differs(other_path, P, how == SOURCE ? NEW(P) : OLD(P)))
		return how == SOURCE ? "destination changed" : "source changed";
	return survived_and(error);
}

/* What a device is done with can be the same as in another file, at once */
static const char *dedupe_done(void)
{
	int fd, error;
	bool same;

	make_file(other_path);
	fd = open_file(other_path, O_RDWR);
	fill(buf, PAGE, NEW(P));
	fill(buf + PAGE, PAGE, NEW(Q));
	must(pwrite(fd, buf, 2 * PAGE, P * PAGE) == 2 * PAGE, "write");
	must(!fsync(fd), "fsync of the other file");
	pin_clean();
	make_dirty();
	release();
	same = same_as(fd, 2 * PAGE);
	close(fd);
	if (!same)
		return "not the same";
	error = fsync_error();
	close_file();
	drop_caches();
	if (differs(other_path, P, NEW(P)) || differs(other_path, Q, NEW(Q)))
		return "other file changed";
	return survived_and(error);
}

/* What a file system keeps with a page stays while it is pinned */
static const char *buffers(void)
{
	const char *sink = getenv("USERPIN_SINK");
	loff_t at = P * PAGE;
	int port, pipes[2];
	ssize_t n;

	must(sink, "USERPIN_SINK");
	port = open_file(sink, O_WRONLY);
	must(!pipe(pipes), "pipe");
	pin_clean();
	/* The port takes pages for its own, and they lose what is private to the file */
	n = splice(file, &at, pipes[1], NULL, 2 * PAGE, SPLICE_F_MOVE);
	must(n > 0, "splice from the file");
	must(splice(pipes[0], NULL, port, NULL, n, SPLICE_F_MOVE) > 0,
	     "splice to the port");
	close(pipes[0]);
	close(pipes[1]);
	close(port);
	release();
	return survived_and(fsync_error());
}

static bool written_to(void *place)
{
	return is_at(*(uint64_t *)place, PAGE, WRITTEN);
}

#define PART	512UL

/* Of P and what is behind it: by the device, and by somebody else @beside bytes further on */
static const char *parts(const char *page, size_t beside, bool all)
{
	if (!filled(page, PART, NEW(P)) ||
	    (all && !filled(page + PART, PART, NEW(Q))))
		return LOST;
	if (!filled(page + beside, PART, WRITTEN))
		return "written bytes lost";
	return NULL;
}

/* In memory, unless it is unmapped, and in the file */
static const char *parts_survived(size_t beside, bool all)
{
	const char *what = map ? parts(map + P * PAGE, beside, all) : NULL;
	int fd, error = do_sync() ? errno : 0;

	close_file();
	drop_caches();
	fd = open_file(path, O_RDONLY);
	must(pread(fd, buf, 2 * PAGE, P * PAGE) == 2 * PAGE, "read");
	close(fd);
	return and_error(what ?: parts(buf, beside, all) ?: HOLDS, error);
}

static void write_part(const char *name, int flags, off_t at)
{
	int fd = open_file(name, O_WRONLY | flags);

	fill(buf, PART, WRITTEN);
	must(pwrite(fd, buf, PART, at) == PART, "write");
	close(fd);
}

/*
 * Somebody else writes to a page that a device writes to. By O_DIRECT: it stays the
 * file's. To another block of its folio, which is dirty in part then: both get written.
 */
static const char *beside(void)
{
	size_t at = how == DIRECT ? PAGE - PART : fs_table[fs].block;
	bool found = true;
	long n;

	device_writes(PART);
	pin_clean();
	must(fs != XFS_LARGE || (filled(map, PAGE, OLD(0)) &&
				 folio_of(pfn_of(map), &n) && n == FILE_PAGES),
	     "a large folio");
	write_part(path, how == DIRECT ? O_DIRECT : 0, P * PAGE + at);
	if (how == WHILE_PINNED)
		arrive();
	if (how == WHILE_PINNED || how == BETWEEN)
		must(!fsync(file), "fsync of what is dirty in part");
	if (how == WHILE_PINNED)
		found = is_at(place_of_p(), PART, NEW(P));
	if (how == UNMAP)
		close_map();
	release();
	return found ? parts_survived(at, true) : NOT_ON_DISK;
}

/*
 * A clone comes to the block next to the one that a device writes to, in its folio, or
 * behind the end of the file, where it drops the last page. Or it is refused for that.
 */
static const char *clone_beside(void)
{
	size_t at = fs_table[fs].block;
	struct file_clone_range range = {
		.src_offset = at,
		.src_length = at,
		.dest_offset = P * PAGE + (how == BEHIND ? 2 * PAGE : at),
	};
	loff_t from = range.src_offset, to = range.dest_offset;
	bool busy;

	make_file(other_path);
	write_part(other_path, 0, at);
	range.src_fd = open_file(other_path, O_RDONLY);
	device_writes(PART);
	if (how == BEHIND)
		must(!ftruncate(file, P * PAGE + at), "truncate");
	pin_clean();
	if (how)
		arrive();
	else
		release();
	if (how == COPY)
		busy = copy_file_range(range.src_fd, &from, file, &to, at, 0) != (ssize_t)at;
	else
		busy = ioctl(file, FICLONERANGE, &range);
	must(!busy || (how && errno == EBUSY), "clone");
	if (how)
		release();
	if (busy)
		must(!ioctl(file, FICLONERANGE, &range), "clone of what is not pinned");
	close(range.src_fd);
	if (how == BEHIND)
		write_part(path, 0, P * PAGE + at);
	/* What came later may have come to a page that was cut off */
	return parts_survived(at, busy || how != WHILE_PINNED);
}

/*
 * A page that is pinned, and clean, when an O_DIRECT write to it and to the next ends:
 * it stays, and the write is no error
 */
static const char *pin_in_write(void)
{
	uint64_t place = place_of_p();
	char *page = map + P * PAGE;
	const char *what = NULL;
	static struct iocb cb;
	char *written;
	int fd, error;

	written = pages(2);
	fill(written, PAGE, WRITTEN);
	fill(written + PAGE, PAGE, WRITTEN + 1);
	must_be_0(target_hold(place / PAGE + 1, 1), "hold of Q's block");
	fd = open_file(path, O_WRONLY | O_DIRECT);
	cb = (struct iocb) {
		.aio_lio_opcode = IOCB_CMD_PWRITE,
		.aio_fildes = fd,
		.aio_buf = (uintptr_t)written,
		.aio_nbytes = 2 * PAGE,
		.aio_offset = P * PAGE,
	};
	aio_start(&cb);
	must(wait_for(written_to, &place), "write to P's block");
	/* What the write reads from is pinned, too */
	must_be_pinned(2);
	if (!cpu)
		start_read(page, PART, PAGE, 3);
	else
		fill(page, PART, OLD(0));
	must(!fdatasync(file), "fdatasync of what is pinned");
	must_be_0(target_release(), "release of the write");
	must(aio_end() == 2 * PAGE, "O_DIRECT write");
	close(fd);
	error = fsync_error();
	if (cpu) {
		fill(page, PART, NEW(Q));
	} else {
		let_go();
		must(aio_end() == PART, "read of a sector");
		must_be_pinned(0);
	}
	if (error)
		return strerrorname_np(error);
	error = fsync_error();
	close_file();
	if (error)
		return strerrorname_np(error);
	drop_caches();
	fd = open_file(path, O_RDONLY);
	must(pread(fd, buf, PAGE, P * PAGE) == PAGE, "read");
	must(pread(fd, written + PAGE, PAGE, Q * PAGE) == PAGE, "read");
	close(fd);
	if (memcmp(buf + PART, written + PART, PAGE - PART) ||
	    !filled(written + PAGE, PAGE, WRITTEN + 1))
		what = "written bytes lost";
	else if (!filled(buf, PART, NEW(Q)))
		what = LOST;
	return what ?: HOLDS;
}

static bool written(void *arg)
{
	(void)arg;
	fsync(file);
	return on_disk(NEW(P));
}

#define FILLER	DIR "/filler"

/* To the last block */
static void fill_disk(void)
{
	size_t size;
	off_t at;
	int fd, n;

	fd = open_file(FILLER, O_WRONLY | O_CREAT);
	for (size = GB, at = 0; size >= PAGE; size /= 2)
		while (!fallocate(fd, 0, at, size))
			at += size;
	/* What has been set aside for writes comes back with the fsync() */
	do {
		for (n = 0; pwrite(fd, buf, PAGE, at) == PAGE; n++)
			at += PAGE;
		fsync(fd);
	} while (n);
	close(fd);
}

/* The page needs a block of its own, and there is none until another file has gone */
static const char *full(void)
{
	int first, error;

	pin();
	/* Both make it clean; after a clone, the next write needs space */
	if (fs == XFS)
		copy();
	else
		must(!fsync(file), "fsync of what is pinned");
	fill_disk();
	release();
	first = fsync_error();
	/* Nor is it reclaimed while it cannot be written */
	close_map();
	drop_caches();
	map_file();
	must(!truncate(FILLER, 0), "truncate");
	if (first && first != ENOSPC)
		return and_error("full disk", first);
	/* The error that was there is told once. btrfs has the space after a commit. */
	if (first && !wait_for(written, NULL))
		return NOT_ON_DISK;
	if (!first)
		fsync(file);
	error = fsync_error();
	if (fs == XFS && (differs(other_path, P, OLD(P)) || differs(other_path, Q, OLD(Q))))
		return "clone changed";
	must(first, "a full disk");
	return survived_and(error);
}

/* Nothing is written to a frozen file system */
static const char *frozen(void)
{
	bool found;
	int dir, i;

	pin_clean();
	dir = open_file(DIR, O_RDONLY | O_DIRECTORY);
	must(!ioctl(dir, FIFREEZE, 0), "FIFREEZE");
	let_go();
	must(aio_end() == 2 * PAGE, "read of two pages");
	/* The pins may last until it thaws */
	for (i = 0; i < 100 && !pinned(NULL); i++)
		before_next_look();
	sync();
	found = on_disk(NEW(P)) || on_disk(NEW(Q));
	must(!ioctl(dir, FITHAW, 0), "FITHAW");
	close(dir);
	if (found)
		return "written while frozen";
	must_be_pinned(0);
	return survived_and(fsync_error());
}

/* A file that became immutable after the pin is written all the same */
static const char *frozen_immutable(void)
{
	int dir, flags;

	pin_clean();
	must(!ioctl(file, FS_IOC_GETFLAGS, &flags), "FS_IOC_GETFLAGS");
	flags |= FS_IMMUTABLE_FL;
	must(!ioctl(file, FS_IOC_SETFLAGS, &flags), "FS_IOC_SETFLAGS");
	dir = open_file(DIR, O_RDONLY | O_DIRECTORY);
	must(!ioctl(dir, FIFREEZE, 0), "FIFREEZE");
	release();
	/* It is noted only, and its buffers are its place on the disk */
	close_map();
	drop_caches();
	must(!ioctl(dir, FITHAW, 0), "FITHAW");
	close(dir);
	sync();
	flags &= ~FS_IMMUTABLE_FL;
	must(!ioctl(file, FS_IOC_SETFLAGS, &flags), "FS_IOC_SETFLAGS");
	return survived();
}

/* As many fsync() as system_wq has work items wait for a thaw, which is one of these */
static const char *frozen_aio(void)
{
	struct iocb cb = {
		.aio_lio_opcode = IOCB_CMD_FSYNC,
		.aio_fildes = file,
	};
	cpu_set_t one;
	bool thawed;
	long n = 0;
	int dir;

	CPU_ZERO(&one);
	CPU_SET(0, &one);
	must(!sched_setaffinity(0, sizeof(one), &one), "sched_setaffinity");
	pin_clean();
	arrive();
	dir = open_file(DIR, O_RDONLY | O_DIRECTORY);
	must(!ioctl(dir, FIFREEZE, 0), "FIFREEZE");
	must(!syscall(SYS_io_setup, 512, &many), "io_setup");
	for (; n < 400; n++) {
		struct iocb *next = &cb;

		must(syscall(SYS_io_submit, many, 1, &next) == 1, "io_submit");
	}
	must(!write_text("/proc/sysrq-trigger", "j"), "an emergency thaw");
	thawed = wait_for(have_ended, &n);
	if (!thawed)
		must(!ioctl(dir, FITHAW, 0), "FITHAW");
	close(dir);
	syscall(SYS_io_destroy, many);
	release();
	return thawed ? survived_and(fsync_error()) : "a thaw that waits";
}

/*
 * What has arrived moves with its range, or the file system refuses as it is pinned. The
 * page before the range has its place.
 */
static const char *shift(void)
{
	int mode = how == COLLAPSE ? FALLOC_FL_COLLAPSE_RANGE :
				     FALLOC_FL_INSERT_RANGE;
	off_t at = how == BEHIND ? (Q + 1) * PAGE : 0;
	unsigned long by = how == COLLAPSE ? -2UL : how == INSERT ? 2 : 0;
	int ret;

	pin_clean();
	arrive();
	ret = fallocate(file, mode, at, 2 * PAGE);
	must(!ret || errno == EBUSY, "fallocate");
	release();
	must(!fsync(file), "fsync");
	/* Of the other page nobody knows any more, if it was moved while pinned */
	if (!ret)
		return survived_at(how == BEHIND ? 2 : 1, by);
	must(!fallocate(file, mode, at, 2 * PAGE), "fallocate of what is not pinned");
	return survived_at(2, by);
}

/* An O_DIRECT read sees what has arrived; if a file system is frozen, then before that */
static const char *stale(void)
{
	bool is_new;
	int fd;

	pin_clean();
	arrive();
	if (how == FREEZE)
		must(!ioctl(file, FIFREEZE, 0), "FIFREEZE");
	fd = open_file(path, O_RDONLY | O_DIRECT);
	must(pread(fd, buf, PAGE, P * PAGE) == PAGE, "O_DIRECT read");
	close(fd);
	is_new = filled(buf, PAGE, NEW(P));
	if (how == FREEZE)
		must(!ioctl(file, FITHAW, 0), "FITHAW");
	release();
	return is_new ? HOLDS : STALE;
}

/* When a file system is unmounted, what has arrived is on the disk */
static const char *unmounted(void)
{
	unsigned long n = 2;

	pin_clean();
	if (how == UNMAP) {
		arrive();
		close_file();
		release();
	} else if (how == WHILE_PINNED) {
		bool busy;

		/* Of the other page nobody will know any more */
		n = 1;
		arrive();
		close_file();
		/* It may say that it is busy while something is pinned, and not later */
		busy = !cpu && fs != BDEV && umount(DIR);
		if (busy)
			must(errno == EBUSY, "umount");
		else if (!cpu && fs != BDEV)
			mount_fs();
		if (!cpu)
			release();
	} else {
		release();
		close_file();
	}
	mount_again();
	return survived_at(n, 0);
}

static bool read_only(void *arg)
{
	(void)arg;
	return !mount(NULL, DIR, NULL, MS_REMOUNT | MS_RDONLY, NULL);
}

/* Nor when it becomes read-only, which it does not while it is in use */
static const char *remounted(void)
{
	bool busy;

	pin_clean();
	arrive();
	if (how == UNMAP)
		close_file();
	busy = !read_only(NULL);
	must(!busy || errno == EBUSY, "remount");
	if (!busy && how != UNMAP)
		return "read-only";
	release();
	if (file >= 0)
		close_file();
	must(wait_for(read_only, NULL), "remount");
	return survived_at(busy ? 2 : 1, 0);
}

static int remount_read_only(void)
{
	int fs_fd, ret;

	if (how == MOUNT)
		return mount(NULL, DIR, NULL, MS_REMOUNT | MS_RDONLY, NULL);
	fs_fd = fspick(AT_FDCWD, DIR, FSPICK_CLOEXEC);
	must(fs_fd >= 0, "fspick");
	must(!fsconfig(fs_fd, FSCONFIG_SET_FLAG, "ro", NULL, 0), "fsconfig");
	ret = fsconfig(fs_fd, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0);
	close(fs_fd);
	return ret;
}

/* As soon as nothing is pinned any more, though nobody has looked for that yet */
static const char *remounted_at_once(void)
{
	int i;

	pin_clean();
	arrive();
	make_dirty();
	close_file();
	/* The longer a pin lasts, the less often the kernel looks: once a second at last */
	for (i = 0; i < 200; i++)
		before_next_look();
	release();
	if (remount_read_only()) {
		must(errno == EBUSY, "remount");
		return "EBUSY";
	}
	return survived();
}

/* Both file systems have it */
#define IOC_SHUTDOWN	_IOR('X', 125, uint32_t)
#define NO_LOG_FLUSH	2

/* What can be written no more keeps no file system busy */
static void shut_fs_down(void)
{
	uint32_t flags = NO_LOG_FLUSH;
	int dir = open_file(DIR, O_RDONLY | O_DIRECTORY);

	must(!ioctl(dir, IOC_SHUTDOWN, &flags), "shutdown");
	close(dir);
}

static const char *unmounted_by(int attempts, bool pause)
{
	for (; attempts && umount(DIR); attempts--)
		if (pause)
			before_next_look();
	/* Or no other case would get a place to mount at */
	return umount2(DIR, MNT_DETACH) ? HOLDS : "EBUSY";
}

static const char *shut_down(void)
{
	pin_clean();
	if (how == UNMAP)
		close_file();
	shut_fs_down();
	release();
	if (file >= 0)
		close_file();
	return unmounted_by(200, true);
}

/* More pages than the kernel takes at once, and not twice as many */
static const char *shut_down_many(void)
{
	const long n = 40;
	struct iocb cb = { .aio_lio_opcode = IOCB_CMD_PREAD, .aio_nbytes = PAGE };
	struct iocb *next = &cb;
	long left = n;
	char *at;
	int fd;

	close_file();
	file = open_file(other_path, O_RDWR | O_CREAT);
	must(!fallocate(file, 0, 0, n * PAGE), "fallocate");
	at = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	must(at != MAP_FAILED, "mmap");
	must(!syscall(SYS_io_setup, 512, &many), "io_setup");
	fd = open_file(source_path(), O_RDONLY | O_DIRECT);
	cb.aio_fildes = fd;
	for (cb.aio_buf = (uintptr_t)at; cb.aio_buf < (uintptr_t)at + n * PAGE;
	     cb.aio_buf += PAGE)
		must(syscall(SYS_io_submit, many, 1, &next) == 1, "io_submit");
	close(fd);
	must_be_pinned(n);
	must(!fsync(file), "fsync of what is pinned");
	shut_fs_down();
	must_be_0(source_release(0), "release");
	must(wait_for(have_ended, &left), "reads");
	must_be_pinned(0);
	syscall(SYS_io_destroy, many);
	munmap(at, n * PAGE);
	close(file);
	file = -1;
	/* The kernel has looked at the first of them, and looks at the others now */
	sync();
	/* Without a pause, in which it looks by itself */
	return unmounted_by(10, false);
}

static int take_lock(int fd)
{
	struct flock all = { .l_type = F_WRLCK };

	if (how == FLOCK)
		return flock(fd, LOCK_EX | LOCK_NB);
	if (how == OFD)
		return fcntl(fd, F_OFD_SETLK, &all);
	/* Nobody may have it open for writing */
	return fcntl(fd, F_SETLEASE, F_RDLCK);
}

static bool locks(void *fd)
{
	return !take_lock(*(int *)fd);
}

/*
 * Nobody has the file any more, and there is never room: it is kept for five minutes,
 * and no longer. The lock tells how long.
 */
static const char *room_never(void)
{
	const uint64_t kept = 5 * 60 * 1000, longest = 6 * kept;
	uint64_t since;
	int fd, error;

	how = FLOCK;
	must(!take_lock(file), "lock");
	pin();
	copy();
	fill_disk();
	release();
	error = fsync_error();
	since = now_ms();
	close_file();
	fd = open_file(path, O_RDWR);
	while (!locks(&fd) && now_ms() - since < longest) {
		usleep(100000);
		go_on();
	}
	since = now_ms() - since;
	close(fd);
	if (since >= longest)
		return "never given up";
	if (since < kept)
		return "given up early";
	if (error != ENOSPC)
		return and_error("given up", error);
	/* It is reclaimed now, and all is as it was before */
	drop_caches();
	if (differs(path, P, OLD(P)) || differs(other_path, P, OLD(P)))
		return "changed";
	return HOLDS;
}

/* Who has closed a file has no lock of it, once nothing is pinned */
static const char *locked(void)
{
	int fd;

	if (how != LEASE)
		must(!take_lock(file), "lock");
	pin_clean();
	close_file();
	release();
	fd = open_file(path, how == LEASE ? O_RDONLY : O_RDWR);
	if (!wait_for(locks, &fd))
		return "locked";
	close(fd);
	return survived();
}

static bool is_zero(const char *from, size_t len)
{
	return !*from && !memcmp(from, from + 1, len - 1);
}

/* What of the file is not as it was, or as the device wrote, and not zero from @cut to @end? */
static const char *cut_differs(size_t cut, size_t end)
{
	int fd = open_file(path, O_RDONLY);
	const char *what = NULL;
	size_t at, n;

	for (at = 0; at < FILE_PAGES * PAGE && !what; at += PAGE) {
		must(pread(fd, buf, PAGE, at) == PAGE, "read");
		fill(buf + PAGE, PAGE, at == P * PAGE ? NEW(P) : OLD(at / PAGE));
		n = PAGE;
		if (cut < at + PAGE && at < end)
			n = cut > at ? cut - at : 0;
		if (n && memcmp(buf, buf + PAGE, n))
			what = "damaged";
		else if (n < PAGE && !is_zero(buf + n, PAGE - n))
			what = "not zero";
	}
	close(fd);
	return what;
}

/* What a device writes to pages that are cut off is not the file's */
static const char *cut(void)
{
	off_t all = FILE_PAGES * PAGE, from = P * PAGE, end = all;
	const char *what;

	pin_clean();
	if (how == MIDDLE)
		from += PART;
	if (how == PUNCH) {
		end = from + 2 * PAGE;
		must(!fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				from, end - from), "fallocate");
	} else {
		must(!ftruncate(file, from), "truncate");
	}
	if (how == GROW_FIRST)
		must(!ftruncate(file, all), "truncate");
	release();
	must(!ftruncate(file, all) && !fsync(file), "growth");
	close_file();
	what = cut_differs(from, end);
	drop_caches();
	what = what ?: cut_differs(from, end);
	mount_again();
	return what ?: cut_differs(from, end) ?: HOLDS;
}

/* The disk of a VM is read into its memory, both are files: into pages that nobody has pinned yet */
static const char *file_to_file(void)
{
	unsigned long i;
	int fd;

	make_file(other_path);
	fd = open_file(other_path, O_RDWR);
	for (i = P; i <= Q; i++) {
		fill(buf, PAGE, NEW(i));
		must(pwrite(fd, buf, PAGE, i * PAGE) == PAGE, "write");
	}
	must(!fsync(fd), "fsync of what is read");
	close(fd);
	drop_caches();
	fd = open_file(other_path, O_RDONLY | O_DIRECT);
	must(pread(fd, map + P * PAGE, 2 * PAGE, P * PAGE) == 2 * PAGE, "O_DIRECT read");
	close(fd);
	must_be_pinned(0);
	if (how == UNMAP)
		close_map();
	return survived_and(fsync_error());
}

/* A folio is cut in part, and dropped as it is pinned: what has arrived is on the disk */
static const char *cut_arrived(void)
{
	off_t from = (Q + 5) * PAGE;

	if (how == OVERLAY)
		open_on_overlay();
	pin_clean();
	arrive();
	if (how == PUNCH)
		must(!fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from,
				PAGE), "fallocate");
	else
		must(!ftruncate(file, from), "truncate");
	release();
	if (how == OVERLAY)
		snprintf(path, sizeof(path), DIR "/upper/file");
	return survived_at(1, 0);
}

/* While it is a swap file nothing of it may be written */
static const char *swap_file(void)
{
	uint32_t head[3] = { 1, FILE_PAGES - 1, 0 };
	bool found;

	memset(buf, 0, PAGE);
	memcpy(buf + 1024, head, sizeof(head));
	memcpy(buf + PAGE - 10, "SWAPSPACE2", 10);
	must(pwrite(file, buf, PAGE, 0) == PAGE, "write");
	pin_clean();
	arrive();
	must(!swapon(path, 0), "swapon");
	found = on_disk(NEW(P));
	must(!swapoff(path), "swapoff");
	release();
	if (!found)
		return NOT_ON_DISK;
	return survived_and(fsync_error());
}

/* Of ext4, for a file whose blocks are to lie elsewhere: not in its header for programs */
struct move_extent {
	uint32_t reserved, donor_fd;
	uint64_t orig_start, donor_start, len, moved_len;
};

#define EXT4_IOC_MOVE_EXT	_IOWR('f', 15, struct move_extent)

/* The file gets the blocks of another, and keeps what has arrived */
static const char *move(void)
{
	struct move_extent m = {
		.orig_start = P,
		.donor_start = P,
		.len = 2,
	};
	int ret;

	make_file(other_path);
	pin_clean();
	arrive();
	m.donor_fd = open_file(other_path, O_RDWR);
	ret = ioctl(file, EXT4_IOC_MOVE_EXT, &m);
	/* It may refuse to move what is in use */
	must(!ret || errno == EBUSY, "EXT4_IOC_MOVE_EXT");
	close(m.donor_fd);
	release();
	return survived_and(fsync_error());
}

/*
 * XFS_IOC_EXCHANGE_RANGE, new in 6.10. mkfs.xfs of Debian 12 does not know what a file
 * system needs for it: a bit in its superblock, which has a checksum.
 */
struct exchange_range {
	int32_t other_fd;
	uint32_t pad;
	uint64_t other_offset, offset, length, flags;
};

#define XFS_IOC_EXCHANGE_RANGE	_IOW('X', 129, struct exchange_range)
#define XFS_SB_FEATURES		216	/* big-endian: bit 6 is in its last byte */
#define XFS_SB_CRC		224	/* little-endian */

static uint32_t crc32c(const unsigned char *data, size_t len)
{
	uint32_t crc = ~0U;
	int bit;

	while (len--) {
		crc ^= *data++;
		for (bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
	}
	return ~crc;
}

static void allow_exchange(void)
{
	unsigned char *sb = (void *)pages(1);
	uint32_t crc;
	int fd;

	must(!umount(DIR), "umount");
	fd = open_file(target_path(), O_RDWR | O_DIRECT | O_SYNC);
	must(pread(fd, sb, PAGE, 0) == PAGE, "superblock");
	memset(sb + XFS_SB_CRC, 0, sizeof(crc));
	sb[XFS_SB_FEATURES + 3] |= 1 << 6;
	crc = crc32c(sb, SECTOR);
	memcpy(sb + XFS_SB_CRC, &crc, sizeof(crc));
	must(pwrite(fd, sb, PAGE, 0) == PAGE, "superblock");
	close(fd);
	mount_fs();
}

/* What has arrived goes where its range goes, or XFS refuses as it is pinned */
static const char *exchange(void)
{
	struct exchange_range x = {
		.other_offset = P * PAGE,
		.offset = P * PAGE,
		.length = 2 * PAGE,
	};
	const char *what;
	int ret;

	close_file();
	allow_exchange();
	open_map();
	make_file(other_path);
	pin_clean();
	arrive();
	x.other_fd = open_file(other_path, O_RDWR);
	ret = ioctl(file, XFS_IOC_EXCHANGE_RANGE, &x);
	must(!ret || errno == EBUSY, "XFS_IOC_EXCHANGE_RANGE");
	close(x.other_fd);
	release();
	must(!fsync(file), "fsync");
	if (ret)
		return survived();
	close_file();
	drop_caches();
	what = differs(other_path, P, NEW(P));
	return what ?: HOLDS;
}

/* Of XFS, for xfs_fsr: its header is not among the kernel's for programs */
struct swap_extents {
	int64_t version, target_fd, tmp_fd;
	int64_t offset, length;
	char pad[16];
	/* The target before it was copied */
	struct {
		uint64_t ino;
		uint16_t mode, nlink;
		uint32_t uid, gid, rdev, blksize;
		int64_t size;
		struct {
			long sec;
			int32_t nsec;
		} atime, mtime, ctime;
		char rest[48];
	} stat;
};

#define XFS_IOC_SWAPEXT		_IOWR('X', 109, struct swap_extents)

/*
 * The file gets all blocks of a copy, unless it has changed since that was made: and then
 * it has. Or (DESTINATION) it is the copy, and what has arrived goes to the other file.
 * What is pinned stays where it is: XFS refuses. It does not when the device is done (DONE).
 */
static const char *swap_extents(void)
{
	struct swap_extents swap = { .length = FILE_PAGES * PAGE };
	struct stat st;
	const char *what;
	int fd, ret;

	make_file(other_path);
	fd = open_file(other_path, O_RDWR);
	pin_clean();
	if (how == DONE) {
		make_dirty();
		release();
	}
	swap.target_fd = how == SOURCE ? file : fd;
	swap.tmp_fd = how == SOURCE ? fd : file;
	must(!fstat(swap.target_fd, &st), "fstat");
	swap.stat.mtime.sec = st.st_mtim.tv_sec;
	swap.stat.mtime.nsec = st.st_mtim.tv_nsec;
	swap.stat.ctime.sec = st.st_ctim.tv_sec;
	swap.stat.ctime.nsec = st.st_ctim.tv_nsec;
	/* Times of files have the resolution of a tick */
	before_next_look();
	if (how != DONE)
		arrive();
	ret = ioctl(file, XFS_IOC_SWAPEXT, &swap);
	must(!ret || (errno == EBUSY && how != DONE), "XFS_IOC_SWAPEXT");
	close(fd);
	if (how != DONE)
		release();
	must(!fsync(file), "fsync");
	if (how == SOURCE || ret)
		return survived();
	close_file();
	drop_caches();
	what = differs(other_path, P, NEW(P));
	return what ?: HOLDS;
}

#define EXT4_IOC_SWAP_BOOT	_IO('f', 17)

/* What has arrived goes to the inode of the boot loader, and comes back, or ext4 refuses */
static const char *swap_boot(void)
{
	int ret;

	pin_clean();
	arrive();
	ret = ioctl(file, EXT4_IOC_SWAP_BOOT);
	must(!ret || errno == EBUSY, "EXT4_IOC_SWAP_BOOT");
	if (cpu)
		close_map();
	else
		release();
	if (ret)
		return survived_and(fsync_error());
	must(!ioctl(file, EXT4_IOC_SWAP_BOOT), "EXT4_IOC_SWAP_BOOT, again");
	return survived_at(1, 0);
}

/* --- Without a hold: reads into a file that is written back meanwhile -------------- */

#define LOOP_SIZE	(16 * MB)
#define LOOP_READ	(256 * KB)
/* On stock btrfs, one round in six does no damage */
#define LOOP_ROUNDS	6
#define LOOP_DATA	(LOOP_SIZE + LOOP_ROUNDS * LOOP_READ)

static bool loop_over;

static void *sync_on(void *arg)
{
	while (!__atomic_load_n(&loop_over, __ATOMIC_ACQUIRE))
		fdatasync(*(int *)arg);
	return NULL;
}

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
static int far_disk;
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

static const char *race(void)
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

static const char *race_read(void)
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

/* --- While it is being written -------------------------------------------------------- */

static int fsync_said;

static void *do_fsync(void *arg)
{
	(void)arg;
	fsync_said = fsync_error();
	return NULL;
}

static bool is_written_back(void *page)
{
	return pfn_flags(pfn_of(page)) & PF_WRITEBACK;
}

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
		read_disk(disk, at, a);
		read_disk(disk, leg + at, b);
		return memcmp(a, b, PAGE) ? "legs differ" : NULL;
	case RAID5:
		at = stack_stripe(at / PAGE) * PAGE;
		read_disk(disk, at, a);
		read_disk(disk, leg + at, b);
		read_disk(disk, 2 * leg + at, c);
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
static const char *in_flight(void)
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
	must(pread(far_disk, to, PAGE, 32 * MB) == PAGE, "read that holds the disk");
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
	return busy;
}

/* It may have something to do yet */
static bool fast_again(void *arg)
{
	(void)arg;
	return !stack_slow(false);
}

/*
 * The same where the host computes what the disk looks at. This disk does one thing at
 * a time, and that takes a second: a read comes first. If that is over too early, all
 * holds, on any kernel.
 */
static const char *in_flight_pi(void)
{
	pthread_t reader, thread;
	const char *what;

	far_disk = open_file(fs_disk, O_RDONLY | O_DIRECT);
	pin();
	must_be_0(stack_slow(true), "a slow disk");
	must(!pthread_create(&reader, NULL, read_far, pages(1)), "thread");
	must(wait_for(is_read, NULL), "a read that holds the disk");
	must(!pthread_create(&thread, NULL, do_fsync, NULL), "thread");
	must(wait_for(is_written_back, map + P * PAGE), "writeback of P");
	sleep_ms(100);
	arrive();
	pthread_join(reader, NULL);
	pthread_join(thread, NULL);
	must(wait_for(fast_again, NULL), "a fast disk");
	what = and_error(wrong_on_disk() ?: HOLDS, fsync_said);
	close(far_disk);
	release();
	if (strcmp(what, HOLDS))
		return what;
	return survived_and(fsync_error());
}

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
static const char *in_flight_crash(void)
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

#define EXT4_IOC_CHECKPOINT	_IOW('f', 43, uint32_t)

/* A journal writes P to its place in the file system, without a writeback of P */
static const char *checkpoint(void)
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

/* What can change while it is compressed is not */
static const char *compressed(void)
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
static const char *pin_waits(void)
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
		return waited ? HOLDS : "pinned while it is written";
	}
	/* mmap() wants the lock */
	munmap(pages(1), PAGE);
	end_fsync(thread);
	pthread_join(reader, NULL);
	must_be_pinned(2);
	let_go();
	must(aio_end() == 2 * PAGE, "read by the device");
	close(cb.aio_fildes);
	return waited ? survived_and(fsync_error()) : "pinned while it is written";
}

/* 1,024 pages are pinned, and no page is to be had to copy them to */
#define MANY_PAGES	(4 * MB / PAGE)

/* What it takes to end that is open before: open() allocates */
static int no_pages(void)
{
	static const char *const text[][2] = {
		{ "ignore-gfp-wait", "N" }, { "task-filter", "Y" }, { "min-order", "0" },
		{ "verbose", "0" }, { "times", "-1" }, { "probability", "100" },
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

static const char *copies_without_memory(void)
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
	/* The file system has allocations of its own */
	for (i = 0; (error = fsync_error()) == ENOMEM && i < 1000; i++)
		;
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
static const char *no_memory(void)
{
	uint64_t number, found;
	struct iovec from = { &number, sizeof(number) }, to = { NULL, sizeof(number) };
	int failing = failing_open(), fd;
	bool failed = true;

	must(failing >= 0, "fault injection");
	for (number = 1; failed; number++) {
		/* Of another inode, which nobody has prepared for pins */
		close_file();
		must(!unlink(path), "unlink");
		make_file(path);
		open_map();
		to.iov_base = map + P * PAGE;
		arm(failing, number);
		process_vm_writev(getpid(), &from, 1, &to, 1, 0);
		failed = disarm(failing);
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
	must(number > 2, "an allocation");
	return HOLDS;
}

static const char *loop(void)
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

/* --- The table -------------------------------------------------------------------- */

/* How it ends on stock 6.12; where there is none, there is no such case */
static const struct row {
	const char *name;
	const char *(*fn)(void);
	enum how how;
	bool cpu;		/* with the CPU as well, which must hold anywhere */
	const char *stock[NR_FS];
} row_table[] = {
	{ "race", race, 0, false, { HOLDS, HOLDS, HOLDS, HOLDS } },
	{ "room-never", room_never, 0, false, { NULL, "given up early" } },
	{ "race-read", race_read, 0, false,
	  { NOT_ON_DISK, NOT_ON_DISK, NOT_ON_DISK, NOT_ON_DISK,
	    NOT_ON_DISK, NOT_ON_DISK, NOT_ON_DISK } },
	{ "loop", loop, 0, true, { HOLDS, HOLDS, "damaged", HOLDS } },
	{ "no-memory", no_memory, 0, false, { HOLDS, HOLDS, HOLDS } },
	{ "lost.fsync", lost, FSYNC, true,
	  { HOLDS, HOLDS, "lost, EUCLEAN", HOLDS, HOLDS, HOLDS, HOLDS, HOLDS } },
	{ "lost.sync", lost, SYNC, true,
	  { HOLDS, HOLDS, LOST, HOLDS, HOLDS, HOLDS, HOLDS, HOLDS } },
	{ "lost.evict", lost, EVICT, true,
	  { HOLDS, HOLDS, "memory has old data", HOLDS,
	    HOLDS, HOLDS, HOLDS, HOLDS } },
	{ "lost.unmap", lost, UNMAP, false,
	  { HOLDS, HOLDS, "lost, EUCLEAN", HOLDS, HOLDS, HOLDS, HOLDS, HOLDS } },
	{ "lost.exit", lost, EXIT, false,
	  { HOLDS, HOLDS, "lost, EUCLEAN", HOLDS, HOLDS, HOLDS, HOLDS, HOLDS } },
	{ "vhost-scsi.fsync", vhost_scsi, FSYNC, false, { LOST, LOST, LOST, LOST } },
	{ "vhost-scsi.unmap", vhost_scsi, UNMAP, false, { LOST, LOST, LOST, LOST } },
	{ "vhost-scsi.while-pinned", vhost_scsi, WHILE_PINNED, false,
	  { NOT_ON_DISK, NOT_ON_DISK, NOT_ON_DISK, NOT_ON_DISK } },
	{ "clone.before", clone_before, CLONE, true,
	  { NULL, "clone changed", "lost, EUCLEAN" } },
	{ "clone.flusher", clone_before, FLUSHER, true,
	  { NULL, "clone changed" } },
	{ "clone.submit", clone_in_submit, FLUSHER, false, { NULL, "clone changed" } },
	{ "clone.after", clone_after, CLONE, true,
	  { NULL, "clone has old data", "clone has old data" } },
	{ "clone.range-after", clone_after, CLONE_RANGE, true,
	  { NULL, "clone has old data", "clone has old data" } },
	{ "clone.snapshot", clone_after, SNAPSHOT, true,
	  { [BTRFS] = "clone has old data" } },
	{ "clone.copy-after", clone_after, COPY, true,
	  { HOLDS, "clone has old data", "clone has old data",
	    [EXT4_JOURNAL] = HOLDS } },
#define SYNC_ROW(name, how)							\
	{ "sync." name, fsync_while_pinned, how, true,			\
	  { NOT_ON_DISK, NOT_ON_DISK, NOT_ON_DISK, NOT_ON_DISK,		\
	    [EXT4_JOURNAL] = HOLDS } }
	SYNC_ROW("fsync", FSYNC),
	SYNC_ROW("fdatasync", FDATASYNC),
	SYNC_ROW("msync", MSYNC),
	SYNC_ROW("sync", SYNC),
	{ "sync.syncfs", fsync_while_pinned, SYNCFS, true,
	  { NOT_ON_DISK, NOT_ON_DISK, NOT_ON_DISK, [EXT4_JOURNAL] = HOLDS } },
	{ "sync.freeze", fsync_while_pinned, FREEZE, true,
	  { NOT_ON_DISK, NOT_ON_DISK, NOT_ON_DISK, [EXT4_JOURNAL] = HOLDS } },
	{ "sync.ioctl", fsync_while_pinned, BTRFS_SYNC, true,
	  { [BTRFS] = NOT_ON_DISK } },
	{ "sync.overlay", overlay, SYNCFS, true,
	  { NOT_ON_DISK, NOT_ON_DISK, NOT_ON_DISK } },
	SYNC_ROW("sync-file-range", SYNC_FILE_RANGE),
	SYNC_ROW("aio", AIO_FSYNC),
	SYNC_ROW("io-uring", URING_FSYNC),
	{ "sync.flush-buffers", fsync_while_pinned, FLUSH_BUFFERS, true,
	  { [BDEV] = NOT_ON_DISK } },
	{ "dedupe.source", dedupe, SOURCE, true,
	  { NULL, "destination changed", "destination changed" } },
	{ "dedupe.destination", dedupe, DESTINATION, true,
	  { NULL, LOST, "lost, EUCLEAN" } },
	{ "dedupe.done-source", dedupe_done, SOURCE, true, { NULL, HOLDS, HOLDS } },
	{ "dedupe.done-destination", dedupe_done, DESTINATION, true,
	  { NULL, HOLDS, HOLDS } },
	{ "buffers", buffers, 0, true,
	  { LOST, HOLDS, "lost, EUCLEAN", HOLDS, [EXT4_JOURNAL] = HOLDS } },
	{ "orphan", beside, DIRECT, true,
	  { LOST, LOST, "lost, EUCLEAN", LOST, [EXT4_JOURNAL] = HOLDS } },
	{ "pin-in-write", pin_in_write, 0, true, { LOST, LOST, NULL, HOLDS } },
	{ "full", full, CLONE, false, { NULL, "clone changed", "full disk, EUCLEAN" } },
	{ "frozen", frozen, 0, false,
	  { "written while frozen", "written while frozen", "lost, EIO" } },
	{ "frozen.aio", frozen_aio, 0, false, { HOLDS } },
	{ "frozen.immutable", frozen_immutable, 0, false, { HOLDS } },
	{ "shift.insert", shift, INSERT, true,
	  { LOST, LOST, [EXT4_JOURNAL] = HOLDS } },
	{ "shift.collapse", shift, COLLAPSE, true,
	  { LOST, LOST, [EXT4_JOURNAL] = HOLDS } },
	{ "shift.behind", shift, BEHIND, true,
	  { HOLDS, LOST, [EXT4_JOURNAL] = HOLDS } },
	{ "stale", stale, 0, true,
	  { STALE, STALE, STALE, STALE, [EXT4_JOURNAL] = HOLDS } },
	{ "stale.frozen", stale, FREEZE, true,
	  { STALE, STALE, STALE, [EXT4_JOURNAL] = HOLDS } },
	{ "umount.mapped", unmounted, 0, true,
	  { HOLDS, HOLDS, LOST, HOLDS, [EXT4_JOURNAL] = HOLDS } },
	{ "umount.unmapped", unmounted, UNMAP, false,
	  { HOLDS, HOLDS, LOST, [EXT4_JOURNAL] = HOLDS } },
	/* Of a block device: closed by the last */
	{ "umount.pinned", unmounted, WHILE_PINNED, true,
	  { LOST, LOST, LOST, LOST, [EXT4_JOURNAL] = HOLDS } },
	{ "move", move, 0, true, { HOLDS } },
	{ "file.mapped", file_to_file, 0, false,
	  { HOLDS, HOLDS, HOLDS, [EXT4_JOURNAL] = HOLDS } },
	{ "file.unmapped", file_to_file, UNMAP, false,
	  { HOLDS, HOLDS, HOLDS, [EXT4_JOURNAL] = HOLDS } },
	{ "exchange", exchange, 0, true, { NULL, LOST } },
	{ "swap.target", swap_extents, SOURCE, true, { NULL, LOST } },
	{ "swap.copy", swap_extents, DESTINATION, true, { NULL, LOST } },
	{ "swap.done", swap_extents, DONE, true, { NULL, HOLDS } },
	{ "swap.boot", swap_boot, 0, true, { LOST } },
#define PART_ROW(name, how, ends)						\
	{ name, beside, how, how != UNMAP,					\
	  { [EXT4_1K] = ends, [XFS_1K] = ends, [XFS_LARGE] = ends } }
	PART_ROW("part.fsync", FSYNC, LOST),
	PART_ROW("part.sync", SYNC, LOST),
	PART_ROW("part.unmap", UNMAP, LOST),
	PART_ROW("part.between", BETWEEN, HOLDS),
	PART_ROW("part.while-pinned", WHILE_PINNED, NOT_ON_DISK),
	{ "clone.beside", clone_beside, 0, true,
	  { [XFS_1K] = HOLDS, [XFS_LARGE] = HOLDS } },
	{ "clone.beside-pinned", clone_beside, WHILE_PINNED, true,
	  { [XFS_1K] = LOST, [XFS_LARGE] = LOST } },
	{ "clone.beside-copied", clone_beside, COPY, true,
	  { [XFS_1K] = LOST, [XFS_LARGE] = LOST } },
	{ "clone.behind-end", clone_beside, BEHIND, true, { [XFS_1K] = LOST } },
	{ "shutdown.mapped", shut_down, 0, false,
	  { HOLDS, HOLDS, [EXT4_JOURNAL] = HOLDS } },
	{ "shutdown.unmapped", shut_down, UNMAP, false,
	  { HOLDS, HOLDS, [EXT4_JOURNAL] = HOLDS } },
	{ "shutdown.many", shut_down_many, 0, false,
	  { HOLDS, HOLDS, [EXT4_JOURNAL] = HOLDS } },
	{ "locks.flock", locked, FLOCK, false, { HOLDS, HOLDS, LOST } },
	{ "locks.ofd", locked, OFD, false, { HOLDS, HOLDS, LOST } },
	{ "locks.lease", locked, LEASE, false, { HOLDS, HOLDS, LOST } },
	{ "cut.truncate", cut, TRUNCATE, false,
	  { HOLDS, HOLDS, HOLDS, [XFS_LARGE] = HOLDS, [EXT4_JOURNAL] = HOLDS } },
	{ "cut.grow-first", cut, GROW_FIRST, false,
	  { HOLDS, HOLDS, HOLDS, [XFS_LARGE] = HOLDS, [EXT4_JOURNAL] = HOLDS } },
	{ "cut.middle", cut, MIDDLE, false,
	  { HOLDS, HOLDS, HOLDS, [XFS_LARGE] = HOLDS, [EXT4_JOURNAL] = HOLDS } },
	{ "cut.punch", cut, PUNCH, false,
	  { HOLDS, HOLDS, HOLDS, [XFS_LARGE] = HOLDS, [EXT4_JOURNAL] = HOLDS } },
	{ "cut.arrived", cut_arrived, TRUNCATE, true, { [XFS_LARGE] = LOST } },
	{ "cut.arrived-punch", cut_arrived, PUNCH, true, { [XFS_LARGE] = LOST } },
	{ "cut.arrived-overlay", cut_arrived, OVERLAY, true, { [XFS_LARGE] = LOST } },
	{ "remount.mapped", remounted, 0, true,
	  { HOLDS, HOLDS, LOST, [EXT4_JOURNAL] = HOLDS } },
	{ "remount.pinned", remounted, UNMAP, false,
	  { LOST, LOST, LOST, [EXT4_JOURNAL] = HOLDS } },
	{ "remount.at-once", remounted_at_once, MOUNT, false, { HOLDS, HOLDS, HOLDS } },
	{ "remount.fsconfig", remounted_at_once, FSCONFIG, false, { HOLDS, HOLDS, HOLDS } },
	{ "swapon", swap_file, 0, true, { NOT_ON_DISK, NOT_ON_DISK } },
	{ "in-flight.integrity", in_flight, ON_INTEGRITY, false,
	  { UNREADABLE, UNREADABLE, NULL, NULL, UNREADABLE, UNREADABLE, UNREADABLE,
	    [EXT2] = UNREADABLE } },
	{ "in-flight.t10-pi", in_flight_pi, ON_T10_PI, false,
	  { "holds, EILSEQ", [BDEV] = "holds, EIO" } },
	{ "in-flight.raid1", in_flight, ON_RAID1, false, { "legs differ" } },
	{ "in-flight.raid5", in_flight, ON_RAID5, false, { "wrong parity" } },
	{ "in-flight.crash", in_flight_crash, 0, false,
	  { HOLDS, HOLDS, UNREADABLE, [EXT4_JOURNAL] = "cannot be mounted" } },
	{ "checkpoint", checkpoint, 0, true, { [EXT4_JOURNAL] = HOLDS } },
	{ "in-flight.compressed", compressed, 0, false, { [BTRFS] = "compressed" } },
	{ "in-flight.no-memory", copies_without_memory, 0, false,
	  { "no copies", "no copies", NULL, "no copies" } },
	{ "pin-waits", pin_waits, 0, false, { DURING, DURING, NULL, DURING, DURING, DURING } },
	{ "pin-waits.first", pin_waits, FIRST, false, { DURING, DURING, NULL, DURING } },
	{ "pin-waits.killed", pin_waits, KILLED, false, { DURING, DURING, NULL, DURING } },
	/* 10^6 pins on four file systems */
	{ "race-checked", race, ON_INTEGRITY, false,
	  { UNREADABLE, UNREADABLE, NULL, NULL, UNREADABLE, UNREADABLE, UNREADABLE } },
	{ "race-read-checked", race_read, ON_INTEGRITY, false,
	  { UNREADABLE, UNREADABLE, NULL, NULL, UNREADABLE, UNREADABLE, UNREADABLE } },
};

/* --- Each case: a file system, a process, and nothing is left ----------------------- */

static void __noreturn run_row(const struct row *row)
{
	buf = pages(2);
	device_writes(PAGE);
	if (fs != BDEV) {
		snprintf(path, sizeof(path), DIR "/file");
		snprintf(other_path, sizeof(other_path), DIR "/other");
	} else {
		snprintf(path, sizeof(path), "%s", fs_disk);
	}
	mount_fs();
	make_file(path);
	open_map();
	end_case("%s", row->fn());
}

static bool has_said(void *fd)
{
	struct pollfd p = { .fd = *(int *)fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static bool unmounted_now(void *arg)
{
	(void)arg;
	return umount(DIR) && errno == EINVAL;
}

static const char *run_case(const struct row *row)
{
	static char said[200];
	int end[2], dir, n = 0, status;
	char command[120];
	pid_t pid;

	if (stack_open(stack, fs_disk)) {
		stack_close(stack);
		return "broken: what it is on";
	}
	if (fs_table[fs].mkfs) {
		snprintf(command, sizeof(command), "%s %s >/dev/null",
			 fs_table[fs].mkfs, fs_disk);
		if (system(command))
			return "broken: mkfs";
	}
	if (pipe2(end, O_CLOEXEC))
		return "broken: pipe";
	pid = fork();
	if (!pid) {
		say = end[1];
		run_row(row);
	}
	close(end[1]);
	do {
		n = wait_for(has_said, &end[0]) ? read(end[0], said, 1) : 0;
	} while (n == 1 && *said == '\n');
	if (n == 1)
		n += read(end[0], said + 1, sizeof(said) - 2);
	said[n > 0 ? n : 0] = 0;
	close(end[0]);

	/* Whatever it left: it cannot end while its read is held */
	dir = open(DIR, O_RDONLY | O_CLOEXEC);
	ioctl(dir, FITHAW, 0);
	close(dir);
	target_release();
	source_release(0);
	source_release(1);
	wide_release(0);
	wide_release(1);
	kill(pid, SIGKILL);
	if (reap(pid, &status))
		return "broken: it does not end";
	wide_close();
	if (!wait_for(unmounted_now, NULL))
		return "broken: umount";
	stack_close(stack);
	return *said ? said : "broken: it ended, or hung, without a word";
}

static enum stack stack_below(enum how how)
{
	switch (how) {
	case ON_INTEGRITY:
		return INTEGRITY;
	case ON_T10_PI:
		return T10_PI;
	case ON_RAID1:
		return RAID1;
	case ON_RAID5:
		return RAID5;
	default:
		return PLAIN;
	}
}

/* The first that matches decides; with '!', against it */
static bool chosen(const char *name, char **patterns)
{
	if (!*patterns)
		return true;
	for (; *patterns; patterns++) {
		bool not = **patterns == '!';

		if (!fnmatch(*patterns + not, name, 0))
			return !not;
	}
	return false;
}

static struct todo {
	const struct row *row;
	enum fs fs;
	bool cpu;
	char name[48];
} todo[NR_FS * 2 * ARRAY_SIZE(row_table)];
static int nr_todo;

static void add_case(const struct row *row, enum fs on, bool by_cpu,
		     char **patterns)
{
	struct todo *t = &todo[nr_todo];

	snprintf(t->name, sizeof(t->name), "%s.%s%s", fs_table[on].name,
		 row->name, by_cpu ? ".cpu" : "");
	if (!row->stock[on] || !chosen(t->name, patterns))
		return;
	t->row = row;
	t->fs = on;
	t->cpu = by_cpu;
	nr_todo++;
}

int main(int argc, char **argv)
{
	bool stock = false, list = false, scsi_target = false;
	const char *ends, *must_end;
	struct todo *t;
	unsigned int r;
	int i;

	for (i = 1; i < argc && argv[i][0] == '-'; i++) {
		if (!strcmp(argv[i], "--stock"))
			stock = true;
		else if (!strcmp(argv[i], "--list"))
			list = true;
		else
			ksft_exit_fail_msg("%s: no such option\n", argv[i]);
	}
	for (fs = 0; fs < NR_FS; fs++) {
		for (r = 0; r < ARRAY_SIZE(row_table); r++) {
			add_case(&row_table[r], fs, false, argv + i);
			if (row_table[r].cpu)
				add_case(&row_table[r], fs, true, argv + i);
		}
	}
	if (!list) {
		ksft_print_header();
		ksft_set_plan(nr_todo);
		disk = getenv("USERPIN_TARGET");
		if (!disk || !getenv("USERPIN_SOURCE"))
			ksft_exit_fail_msg("no disks: machine files has them\n");
		if (target_open(disk) || source_open(getenv("USERPIN_SOURCE")) ||
		    mkdir(DIR, 0700))
			ksft_exit_fail_msg("no disks that hold: with_files\n");
	}
	for (t = todo; t < todo + nr_todo; t++)
		scsi_target |= t->row->fn == vhost_scsi;
	if (scsi_target && !list && scsi_target_make(source_path()))
		ksft_exit_fail_msg("no target for vhost-scsi: with_files\n");
	for (t = todo; t < todo + nr_todo; t++) {
		must_end = stock && !t->cpu ? t->row->stock[t->fs] : HOLDS;
		if (list) {
			printf("%s: %s\n", t->name, must_end);
			continue;
		}
		fs = t->fs;
		cpu = t->cpu;
		how = t->row->how;
		stack = stack_below(how);
		seed += 1000;
		ends = run_case(t->row);
		if (!strcmp(ends, must_end))
			ksft_test_result_pass("%s # %s\n", t->name, ends);
		else
			ksft_test_result_fail("%s # %s, and not: %s\n",
					      t->name, ends, must_end);
	}
	if (list)
		return 0;
	if (scsi_target)
		scsi_target_remove();
	source_close();
	target_close();
	rmdir(DIR);
	ksft_finished();
}
