/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Files that memory is in: on which file system, and may devices pin it? Judged by
 * the mount that a path is on, since the file itself may not be there yet.
 */
#ifndef PINSTAT_MEMFILE_H
#define PINSTAT_MEMFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct libmnt_table;

struct mounts {
	struct libmnt_table *table;
	long pid;		/* whose they are, 0: our own */
};

enum file_kind {
	FILE_UNKNOWN,
	FILE_MEMORY,		/* tmpfs, hugetlbfs, ramfs */
	FILE_TRACKED,		/* the file system must see each write */
	FILE_DAX,
	FILE_DEVDAX,		/* memory, but not the kernel's */
	FILE_DISK,		/* a block device */
	FILE_DEVICE,		/* of some driver, which decides */
};

/* Who makes it */
enum file_maker {
	MAKER_UNKNOWN,
	MAKER_QEMU,		/* it is not there yet, or a folder to make it in */
	MAKER_OTHER,		/* it is there, with content or without */
};

struct memfile {
	char *fs;		/* escaped; NULL if unknown */
	char *dir;		/* where that is mounted, not escaped */
	uint64_t pagesize;	/* of a hugetlbfs, or 0 */
	enum file_kind kind;
	enum file_maker maker;
	bool late;		/* its file system does not answer: fs may be another */
	uint64_t there;		/* bytes of it that have their memory, or their disk */
};

/* False, and errno, if there is nothing to read */
bool mounts_read(struct mounts *m, long pid);
/* The same of a text; lines that are not understood are left out */
void mounts_of_text(struct mounts *m, char *text, size_t len);
void mounts_free(struct mounts *m);
/* For memfile_free() */
struct memfile memfile_look(const struct mounts *m, const char *path);
void memfile_free(struct memfile *f);
/* How much fits into the tmpfs that it is on; false: it is on none, or has no limit */
bool memfile_room(const struct mounts *m, const struct memfile *f,
		  uint64_t *bytes);
/*
 * The folder of the first file system of this type; of a hugetlbfs, for pages of
 * this size, 0: any. NULL if there is none; for free().
 */
char *mount_dir(const struct mounts *m, const char *fs, uint64_t pagesize);

#endif
