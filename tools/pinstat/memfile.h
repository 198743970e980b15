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

struct mount {
	char *dir;
	char *fs;		/* its type, escaped */
	char *source;
	char *options;		/* those of the mount, and of the file system */
};

struct mounts {
	struct mount *list;
	size_t nr;
	long pid;		/* whose they are, 0: our own */
};

enum file_kind {
	FILE_UNKNOWN,
	FILE_MEMORY,		/* tmpfs, hugetlbfs, ramfs */
	FILE_TRACKED,		/* the file system must see each write */
	FILE_DAX,
	FILE_DEVDAX,		/* memory, but not the kernel's */
	FILE_DISK,		/* a block device */
};

/* Who makes it */
enum file_maker {
	MAKER_UNKNOWN,
	MAKER_QEMU,		/* it is not there yet, or a folder to make it in */
	MAKER_OTHER,		/* it is there, with content or without */
};

struct memfile {
	const char *fs;		/* of the mounts; NULL if unknown */
	enum file_kind kind;
	enum file_maker maker;
};

/* False, and errno, if there is nothing to read */
bool mounts_read(struct mounts *m, long pid);
/* The same of a text; lines that are not understood are left out */
void mounts_parse(struct mounts *m, const char *text);
void mounts_free(struct mounts *m);
struct memfile memfile_look(const struct mounts *m, const char *path);
/* The folder of a hugetlbfs for pages of this size, 0: any; NULL if there is none */
const char *hugetlbfs_dir(const struct mounts *m, uint64_t pagesize);

#endif
