// SPDX-License-Identifier: GPL-2.0
/*
 * Rows of writeback: a device writes to a page of a file system that is full or frozen, or
 * that somebody unmounts, makes read-only or shuts down. And how long the kernel keeps a
 * file that nobody else has any more.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <sched.h>
#include <stdint.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "hold_lib.h"
#include "util.h"
#include "writeback_lib.h"
#include "writeback_rows.h"

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

/* --- Full ------------------------------------------------------------------------- */

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
const char *full(void)
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

/* --- Frozen ----------------------------------------------------------------------- */

/* Nothing is written to a frozen file system */
const char *frozen(void)
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
const char *frozen_immutable(void)
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
const char *frozen_aio(void)
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

/* --- Unmounted, and read-only ----------------------------------------------------- */

/* When a file system is unmounted, what has arrived is on the disk */
const char *unmounted(void)
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
const char *remounted(void)
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
const char *remounted_at_once(void)
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

/* --- Shut down -------------------------------------------------------------------- */

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

const char *shut_down(void)
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
const char *shut_down_many(void)
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

/* --- What the kernel keeps -------------------------------------------------------- */

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
const char *room_never(void)
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
const char *locked(void)
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
