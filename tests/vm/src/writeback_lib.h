/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the rows of writeback share: the case that runs, its files and its file system, the
 * device that pins pages of a file and writes to them, and the ways to have that on the
 * disk. Each case has a process of its own, and with it all of these variables.
 */
#ifndef USERPIN_WRITEBACK_LIB_H
#define USERPIN_WRITEBACK_LIB_H

#include <linux/aio_abi.h>
#include <linux/fiemap.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "kselftest.h"
#include "pins.h"
#include "stack_lib.h"
#include "util.h"

#define DIR		"/tmp/writeback"
#define FILE_PAGES	16UL
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

struct fs_kind {
	const char *name, *type, *mkfs, *options;
	size_t block;		/* of which a folio has several */
};

extern const struct fs_kind fs_table[NR_FS];

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
	/* race(), in_flight*(): what the file system is on */
	ON_INTEGRITY, ON_T10_PI, ON_ZONED, ON_RAID1, ON_RAID5,
};

/* writeback.c sets these before the case starts */
extern enum fs fs;
extern enum how how;
extern bool cpu;		/* the CPU stores what a device would write */
extern unsigned int seed;	/* contents are those of no other case */
extern const char *disk;	/* below the target */
extern enum stack stack;	/* above it */
extern char fs_disk[32];	/* where the file system is */

/* The process of the case sets these */
extern int say;			/* to the process that started it */
extern char path[64], other_path[64];
extern int file;
extern char *map;
extern char *buf;		/* two pages for I/O */
extern bool by_scsi;		/* the device is a guest's */

#define OLD(page)	(seed + (page))
#define NEW(page)	(seed + 100 + (page))
#define WRITTEN		(seed + 200)

void __noreturn __printf(1, 2) end_case(const char *fmt, ...);
/* It takes long: whoever waits for its end has patience anew */
void go_on(void);
/* If this is not so, the case ends as broken, which is no verdict */
void must(bool so, const char *what);
void must_be_0(int ret, const char *what);
/* So many small pages of anonymous memory */
char *pages(size_t n);

/* --- Files ------------------------------------------------------------------------ */

int open_file(const char *name, int flags);
/* Old data at @name, on the disk and clean */
void make_file(const char *name);
void map_file(void);
void open_map(void);
void close_map(void);
void close_file(void);
void drop_caches(void);
/* What does the file have at @page? NULL for @content, or what it is instead */
const char *differs(const char *name, unsigned long page, unsigned int content);
/* The file is one of an overlay then: its upper layer is in the file system */
void open_on_overlay(void);
/* Make a copy of the file, in the way that @how says; it is at @other_path then */
void copy(void);

void mount_fs(void);
bool unmounts(void *arg);
/* The kernel may have it open for a moment yet, to write what came last */
void mount_again(void);

/* Is what the device wrote in the file, @by pages further on? Of @n pages from P */
const char *survived_at(unsigned long n, unsigned long by);
const char *survived(void);
/* And what fsync() said */
const char *and_error(const char *what, int error);
const char *survived_and(int error);
int fsync_error(void);

/* Is this page anywhere on the disk? Below all caches. */
bool on_disk(unsigned int content);
/* What of the disk P is in */
struct fiemap_extent extent_of_p(void);
/* Where P is on the disk */
uint64_t place_of_p(void);
/* Is this at that place of the disk? Below all caches. */
bool is_at(uint64_t place, size_t len, unsigned int content);

/* --- The device ------------------------------------------------------------------- */

void aio_start(struct iocb *cb);
/* The result of the next that ends */
long aio_end(void);
/* The same as aio_start(), for a thread */
void *submit(void *cb);

/* Are so many pages pinned (a number)? Nobody else pins anything here. */
bool pinned(void *pages);
void must_be_pinned(long n);

/* Each of the source's pages that is released is so many bytes, one behind the other */
void device_writes(size_t n);
/* Read @len bytes at @from of the source; it is held, and then @n pages are pinned */
void start_read(void *to, size_t len, off_t from, long n);
/* The device is to write to P and Q, or to P only */
void pin(void);
/* Both are pinned, and their pages clean */
void pin_clean(void);
/* It has written to P; all is pinned */
void arrive(void);
void let_go(void);
/* It has written all, and nothing is pinned any more */
void release(void);
/*
 * Both are dirty by write(), which changes nothing: then the put need not say anything
 * to anybody, and the kernel looks at them when it thinks that it is time.
 */
void make_dirty(void);

/* --- Ways to have it on the disk -------------------------------------------------- */

/* In the way that @how says; 0, unless it fails */
int do_sync(void);
/* What is dirty is written in between, though nobody asks for it */
void start_flusher(void);
void stop_flusher(void);

#endif
