/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Disks that do what they are asked when the test says so, by device mapper and its
 * target "delay": what it holds is let go when it is suspended, and not by time. Its
 * control device is used without dmsetup, which would wait for udev.
 * All that fails returns -errno.
 */
#ifndef USERPIN_HOLD_LIB_H
#define USERPIN_HOLD_LIB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SECTOR	512UL

/*
 * The source is a disk of two pages that a device reads from. It holds each read of page
 * 0, and each of page 1, until source_release() of that page. One read of both is one
 * request: once page 0 is released, its data is there, and the memory of both is pinned.
 */
int source_open(const char *disk);
void source_close(void);
const char *source_path(void);
/* What the pages contain: below what holds them */
int source_fill(const void *pages);
int source_release(int page);

/* The same of the first two MiB of a disk, at @path: it is held by MiB, not by page */
#define WIDE	(1UL << 20)
int wide_open(const char *disk, char path[32]);
void wide_close(void);
/* What was held has come then */
int wide_release(int half);

/* The target is a whole disk, by another name */
int target_open(const char *disk);
void target_close(void);
const char *target_path(void);
uint64_t target_pages(void);
/* From now on, writes to these pages of it are held; to none, and what was held goes on */
int target_hold(uint64_t page, uint64_t pages);
int target_release(void);
/* How many writes are held */
unsigned int target_held(void);

#endif
