// SPDX-License-Identifier: GPL-2.0
/* What the rows of writeback share: see the header */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/btrfs.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hold_lib.h"
#include "io_uring_lib.h"
#include "scsi_lib.h"
#include "writeback_lib.h"

#define MKFS_EXT4	"mkfs.ext4 -q -F -E nodiscard -b "
/* Else a thread writes all the time, in a transaction that waits for what is held */
#define NO_INIT		"noinit_itable"
#define MKFS_XFS	"mkfs.xfs -q -f -K -m reflink=1 -b size="

const struct fs_kind fs_table[NR_FS] = {
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

enum fs fs;
enum how how;
bool cpu;
unsigned int seed;
const char *disk;
enum stack stack;
char fs_disk[32];

int say;
char path[64], other_path[64];
int file = -1;
char *map;
char *buf;
bool by_scsi;

static size_t each = PAGE;	/* what the device writes to P, and behind that */
static bool arrived;

void __noreturn __printf(1, 2) end_case(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vdprintf(say, fmt, args);
	va_end(args);
	_exit(0);
}

void go_on(void)
{
	if (write(say, "\n", 1) != 1)
		_exit(1);
}

void must(bool so, const char *what)
{
	if (!so)
		end_case("broken: %s: %s", what, strerror(errno));
}

void must_be_0(int ret, const char *what)
{
	errno = -ret;
	must(!ret, what);
}

char *pages(size_t n)
{
	char *mem = small_pages(n * PAGE);

	must(mem, "memory");
	return mem;
}

/* --- Files ------------------------------------------------------------------------ */

int open_file(const char *name, int flags)
{
	int fd = open(name, flags | O_CLOEXEC, 0600);

	must(fd >= 0, name);
	return fd;
}

void make_file(const char *name)
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

void map_file(void)
{
	map = mmap(NULL, FILE_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
		   file, 0);
	must(map != MAP_FAILED, "mmap");
}

void open_map(void)
{
	file = open_file(path, O_RDWR);
	map_file();
}

void close_map(void)
{
	munmap(map, FILE_PAGES * PAGE);
	map = NULL;
}

void close_file(void)
{
	if (map)
		close_map();
	close(file);
	file = -1;
}

void drop_caches(void)
{
	must_be_0(write_text("/proc/sys/vm/drop_caches", "3"), "drop_caches");
}

const char *differs(const char *name, unsigned long page, unsigned int content)
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

void open_on_overlay(void)
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

void copy(void)
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

void mount_fs(void)
{
	if (fs != BDEV)
		must(!mount(fs_disk, DIR, fs_table[fs].type, 0,
			    fs_table[fs].options), "mount");
}

bool unmounts(void *arg)
{
	(void)arg;
	return !umount(DIR);
}

void mount_again(void)
{
	if (fs == BDEV)
		return;
	must(wait_for(unmounts, NULL), "umount");
	mount_fs();
}

const char *survived_at(unsigned long n, unsigned long by)
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

const char *survived(void)
{
	return survived_at(2, 0);
}

const char *and_error(const char *what, int error)
{
	static char text[80];

	if (!error)
		return what;
	snprintf(text, sizeof(text), "%s, %s", what, strerrorname_np(error));
	return text;
}

const char *survived_and(int error)
{
	return and_error(survived(), error);
}

int fsync_error(void)
{
	return fsync(file) ? errno : 0;
}

bool on_disk(unsigned int content)
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

struct fiemap_extent extent_of_p(void)
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

uint64_t place_of_p(void)
{
	struct fiemap_extent e;

	if (fs == BDEV)
		return P * PAGE;
	e = extent_of_p();
	return e.fe_physical + P * PAGE - e.fe_logical;
}

bool is_at(uint64_t place, size_t len, unsigned int content)
{
	int fd = open_file(disk, O_RDONLY | O_DIRECT);

	must(pread(fd, buf, len, place) == (ssize_t)len, "read of the disk");
	close(fd);
	return filled(buf, len, content);
}

/* --- The device ------------------------------------------------------------------- */

static aio_context_t aio;

void aio_start(struct iocb *cb)
{
	if (!aio)
		must(!syscall(SYS_io_setup, 4, &aio), "io_setup");
	must(syscall(SYS_io_submit, aio, 1, &cb) == 1, "io_submit");
}

long aio_end(void)
{
	struct io_event event;

	must(syscall(SYS_io_getevents, aio, 1, 1, &event, NULL) == 1,
	     "io_getevents");
	return event.res;
}

void *submit(void *cb)
{
	aio_start(cb);
	return NULL;
}

bool pinned(void *pages)
{
	return vmstat("nr_foll_pin_acquired") - vmstat("nr_foll_pin_released") ==
	       (long)pages;
}

void must_be_pinned(long n)
{
	must(wait_for(pinned, (void *)n), "pins of so many pages");
}

static bool has_arrived(void *at)
{
	return filled(at, each, NEW(P));
}

void device_writes(size_t n)
{
	char *both = pages(2);

	each = n;
	fill(both + PAGE - n, n, NEW(P));
	fill(both + PAGE, n, NEW(Q));
	must_be_0(source_fill(both), "the source");
	munmap(both, 2 * PAGE);
}

void start_read(void *to, size_t len, off_t from, long n)
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

static struct scsi scsi;

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

/*
 * Like start_read(), for the guest. Only the source can say that it is held: a stock
 * kernel pins nothing.
 */
static void start_scsi_read(void)
{
	must_be_0(scsi_open(&scsi, map, FILE_PAGES * PAGE), "vhost-scsi");
	must_be_0(scsi_read_start(&scsi, map + P * PAGE, 2 * PAGE),
		  "read by vhost-scsi");
	must(wait_for(source_is_busy, NULL), "a read that is held");
}

#define NR_PINNED	(each == PAGE ? 2 : 1)

void pin(void)
{
	if (by_scsi)
		start_scsi_read();
	else if (!cpu)
		start_read(map + P * PAGE, 2 * each, PAGE - each, NR_PINNED);
}

void pin_clean(void)
{
	pin();
	must(!fsync(file), "fsync of what is pinned");
}

void arrive(void)
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

void let_go(void)
{
	must_be_0(source_release(0), "release of P");
	must_be_0(source_release(1), "release of Q");
}

void release(void)
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

void make_dirty(void)
{
	memcpy(buf, map + P * PAGE, 2 * PAGE);
	must(pwrite(file, buf, 2 * PAGE, P * PAGE) == 2 * PAGE, "write");
}

/* --- Ways to have it on the disk -------------------------------------------------- */

int do_sync(void)
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

#define EXPIRY		"/proc/sys/vm/dirty_expire_centisecs"
#define INTERVAL	"/proc/sys/vm/dirty_writeback_centisecs"

void start_flusher(void)
{
	must_be_0(write_text(EXPIRY, "1"), EXPIRY);
	/* It is woken up when the interval was 0 */
	must_be_0(write_text(INTERVAL, "0") ?: write_text(INTERVAL, "1"), INTERVAL);
}

void stop_flusher(void)
{
	must_be_0(write_text(EXPIRY, "3000") ?: write_text(INTERVAL, "500"),
		  "intervals as before");
}
