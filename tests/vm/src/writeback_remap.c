// SPDX-License-Identifier: GPL-2.0
/*
 * Rows of writeback: while a device writes to a page of a file, blocks of the file get
 * shared with a clone or a snapshot, are compared with those of another file (dedupe), are
 * exchanged with them, or move to another place of the file.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "hold_lib.h"
#include "util.h"
#include "writeback_lib.h"
#include "writeback_rows.h"

/* --- Clones and snapshots --------------------------------------------------------- */

static bool flushed(void *arg)
{
	(void)arg;
	return is_at(place_of_p(), PAGE, NEW(P));
}

/* What is dirty is written, though nobody asks for it */
static void let_flusher_write(void)
{
	start_flusher();
	must(wait_for(flushed, NULL), "write by the flusher");
	stop_flusher();
}

/* A copy that was made before the device writes has the old data */
const char *clone_before(void)
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

/*
 * The read has pinned P, and waits for memory of a userfaultfd, so that the device does
 * not know of it yet; meanwhile P is cloned, which makes it clean
 */
const char *clone_in_submit(void)
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
const char *clone_after(void)
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

/* --- Dedupe ----------------------------------------------------------------------- */

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
const char *dedupe(void)
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
const char *dedupe_done(void)
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

/* --- Blocks that move ------------------------------------------------------------- */

/*
 * What has arrived moves with its range, or the file system refuses as it is pinned. The
 * page before the range has its place.
 */
const char *shift(void)
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

/* Of ext4, for a file whose blocks are to lie elsewhere: not in its header for programs */
struct move_extent {
	uint32_t reserved, donor_fd;
	uint64_t orig_start, donor_start, len, moved_len;
};

#define EXT4_IOC_MOVE_EXT	_IOWR('f', 15, struct move_extent)

/* The file gets the blocks of another, and keeps what has arrived */
const char *move(void)
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
const char *exchange(void)
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
const char *swap_extents(void)
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
const char *swap_boot(void)
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
