/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Kinds of memory that a user may map for a device, and what is to come of it.
 * One table for the tests and for the demonstration.
 */
#ifndef USERPIN_BACKING_H
#define USERPIN_BACKING_H

#include <stddef.h>

#include "pins.h"
#include "vfio_lib.h"

enum kind {
	ANON,
	THP,
	HUGETLB,
	MEMFD,
	FILEBACK,
	DEVDAX,
	SECRET,
	BAR,
	HOLE,
};

/* struct backing, how */
#define HOW_SHARED	0x1	/* MAP_SHARED */
#define HOW_RO		0x2	/* PROT_READ, and the file opened so */
#define HOW_DAX		0x4	/* the file must be a DAX file */
#define HOW_FREE	0x8	/* maps without a charge: reserved or no pages */
#define HOW_NOPIN	0x10	/* maps without a pin: no pages */
#define HOW_LEAKS	0x20	/* stock 6.12 never gives the pins back */

struct backing {
	const char *name;
	const char *access;	/* how it is mapped, in words */
	enum kind kind;
	const char *where;	/* environment variable that names the place */
	unsigned int how;	/* HOW_* */
	unsigned int flags;	/* MAP_R or MAP_RW */
	size_t size;		/* of the area */
	size_t folio;		/* bytes that one pin holds; 0: a page or more */
	int err;		/* errno of VFIO_IOMMU_MAP_DMA, 0 = maps */
	enum reason reason;
	const char *stock;	/* stock 6.12 (docs/behaviour.md): errno or "ok" */
};

extern const struct backing backing_table[];
extern const unsigned int nr_backings;

const struct backing *backing_find(const char *name);

struct area {
	char *addr;
	size_t size;
	size_t folio;		/* as in struct backing, from the system itself */
	char why[160];		/* why it cannot be had */
	void *base;		/* what was reserved */
	size_t reserved;
	int fd;
};

/*
 * Make an area of kind @b. 0, or -errno with a reason in @a->why. @bar is a
 * device whose BAR kind BAR maps. @at, when not NULL, is where to put it, over
 * what was reserved there (aligned for the kind).
 */
int area_open(const struct backing *b, struct area *a, struct vfio_dev *bar,
	      void *at);
void area_close(struct area *a);

/* Reserve address space, aligned; pair with munmap() of *base, *reserved */
void *reserve(size_t size, size_t align, void **base, size_t *reserved);

/* Anonymous memory in pages of 4 KiB, written to; NULL on failure */
char *anon_pages(size_t size);

/*
 * @size bytes at a multiple of 2 MiB, of kind ANON, THP, HUGETLB (private, of 2 MiB each) or
 * MEMFD. No page is there yet; huge ones may not be had. NULL on failure
 */
char *untouched(enum kind kind, size_t size);

#endif
