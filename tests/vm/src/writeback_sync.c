// SPDX-License-Identifier: GPL-2.0
/*
 * Rows of writeback: what a device writes to a page of a file is not lost, and is on the
 * disk when a sync of any kind returns, or an O_DIRECT read or swapon() looks there.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/swap.h>
#include <unistd.h>

#include "hold_lib.h"
#include "io_uring_lib.h"
#include "util.h"
#include "writeback_lib.h"
#include "writeback_rows.h"

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
const char *lost(void)
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
const char *fsync_while_pinned(void)
{
	bool found;

	pin_clean();
	arrive();
	must(!do_sync(), "sync of what has arrived");
	found = on_disk(NEW(P));
	release();
	return found ? HOLDS : NOT_ON_DISK;
}

const char *vhost_scsi(void)
{
	by_scsi = true;
	return how == WHILE_PINNED ? fsync_while_pinned() : lost();
}

/* The same for a file of an overlay, whose upper layer is in the file system */
const char *overlay(void)
{
	open_on_overlay();
	return fsync_while_pinned();
}

/* An O_DIRECT read sees what has arrived; if a file system is frozen, then before that */
const char *stale(void)
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

/*
 * The disk of a VM is read into its memory, both are files: into pages that nobody has
 * pinned yet
 */
const char *file_to_file(void)
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

/* While it is a swap file nothing of it may be written */
const char *swap_file(void)
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
