/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Disks by device mapper, by its control device: dmsetup would wait for udev. All that
 * fails returns -errno.
 */
#ifndef USERPIN_DM_LIB_H
#define USERPIN_DM_LIB_H

#include <stddef.h>
#include <stdint.h>

/* One behind the other */
struct part {
	uint64_t sectors;
	const char *target;
	char how[280];
};

/* In @path, of 32 bytes, where it is then */
int dm_make(const char *name, const struct part *part, int n, char *path);
/* It consists of other parts from now on */
int dm_load(const char *name, const struct part *part, int n);
/* Waits for what is on its way, and has the target let go what it holds */
int dm_suspend(const char *name);
int dm_resume(const char *name);
void dm_remove(const char *name);
/* What the first target of this kind says of itself */
int dm_status(const char *name, const char *target, char *text, size_t size);

#endif
