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
 *
 * This file has the table, and runs each case. writeback_rows.h says which file has the
 * function of a row, and writeback_lib.h what all of them share.
 */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hold_lib.h"
#include "kselftest.h"
#include "scsi_lib.h"
#include "stack_lib.h"
#include "util.h"
#include "writeback_lib.h"
#include "writeback_rows.h"

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
	  { NOT_ON_DISK, NOT_ON_DISK, NOT_ON_DISK, [EXT4_JOURNAL] = HOLDS } },
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
	  { HOLDS, HOLDS, LOST, LOST, [EXT4_JOURNAL] = HOLDS } },
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
	{ "remount.at-once", remounted_at_once, MOUNT, false,
	  { HOLDS, HOLDS, HOLDS, [EXT4_JOURNAL] = HOLDS } },
	{ "remount.fsconfig", remounted_at_once, FSCONFIG, false,
	  { HOLDS, HOLDS, HOLDS, [EXT4_JOURNAL] = HOLDS } },
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
	{ "in-flight.zoned", in_flight_zoned, ON_ZONED, false, { [BTRFS] = UNREADABLE } },
	{ "in-flight.cgroup", of_cgroup, 0, false, { HOLDS, HOLDS, "lost, EUCLEAN" } },
	{ "checkpoint", checkpoint, 0, true, { [EXT4_JOURNAL] = HOLDS } },
	{ "in-flight.compressed", compressed, 0, false, { [BTRFS] = "compressed" } },
	{ "in-flight.no-memory", copies_without_memory, 0, false,
	  { "no copies", "no copies", "no copies", "no copies",
	    [EXT4_JOURNAL] = "no copies" } },
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

/* What was mounted there is closed, which is not always done when umount() returns */
static bool is_free(void *name)
{
	int fd = open(name, O_RDWR | O_EXCL | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd >= 0 || errno != EBUSY;
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
		if (!wait_for(is_free, fs_disk) || system(command))
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
	case ON_ZONED:
		return ZONED;
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
