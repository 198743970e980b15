// SPDX-License-Identifier: GPL-2.0
/*
 * Rows of writeback: somebody else writes to a part of the page or the folio that a device
 * writes to, takes the page, or cuts it off the file.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "hold_lib.h"
#include "util.h"
#include "writeback_lib.h"
#include "writeback_rows.h"

/* What a file system keeps with a page stays while it is pinned */
const char *buffers(void)
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
const char *beside(void)
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
const char *clone_beside(void)
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

static bool written_to(void *place)
{
	return is_at(*(uint64_t *)place, PAGE, WRITTEN);
}

/*
 * A page that is pinned, and clean, when an O_DIRECT write to it and to the next ends:
 * it stays, and the write is no error
 */
const char *pin_in_write(void)
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

/* --- What is cut off -------------------------------------------------------------- */

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
const char *cut(void)
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

/* A folio is cut in part, and dropped as it is pinned: what has arrived is on the disk */
const char *cut_arrived(void)
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
