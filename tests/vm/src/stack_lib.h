/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Disks that compute something of what is written to them: a checksum, a second leg,
 * parity. hold_lib's target is below them, but for T10_PI and ZONED. All that fails returns
 * -errno.
 */
#ifndef USERPIN_STACK_LIB_H
#define USERPIN_STACK_LIB_H

#include <stdbool.h>
#include <stdint.h>

enum stack {
	PLAIN,			/* the target itself */
	INTEGRITY,		/* dm-integrity, without a journal: crc32c of each sector */
	T10_PI,			/* scsi_debug: the host computes, the disk looks */
	ZONED,			/* scsi_debug: a zone is written from its beginning on */
	RAID1,			/* md: two legs on the target, one behind the other */
	RAID5,			/* three, and pages are sent without a copy (skip_copy) */
};

/*
 * In @path, of 32 bytes, where it is then. INTEGRITY, T10_PI and ZONED are all zeroes; others have
 * what the target has. Parity need not be right before: with three legs md reads the
 * other data, and not the parity, where it writes a part of a stripe.
 */
int stack_open(enum stack stack, char *path);
void stack_close(enum stack stack);

/* Pages of a leg */
uint64_t stack_leg(enum stack stack);
/* The page of each leg that has page @page of a RAID5, or belongs to it */
uint64_t stack_stripe(uint64_t page);

/* T10_PI, ZONED: each command takes so long from now on. They do one at a time. */
int stack_slow(unsigned int jiffies);

#endif
