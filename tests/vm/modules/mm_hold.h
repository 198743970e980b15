/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a program may ask of /dev/mm_hold. See mm_hold.c.
 */
#ifndef MM_HOLD_H
#define MM_HOLD_H

#include <linux/ioctl.h>

/* Take a reference to the page at this address, as direct I/O does */
#define MM_HOLD_PAGE		_IO(';', 0xd0)
/* Put the references that this file took */
#define MM_HOLD_PUT_PAGES	_IO(';', 0xd1)

/*
 * The next copy-on-write fault of this thread stops between the copy and the
 * last look at the page table, until MM_HOLD_GO. Once a file.
 */
#define MM_HOLD_FAULT		_IO(';', 0xd2)
/* Wait until that fault has stopped; ECANCELED if MM_HOLD_GO came first */
#define MM_HOLD_WAIT		_IO(';', 0xd3)
#define MM_HOLD_GO		_IO(';', 0xd4)

/* References that a file may take */
#define MM_HOLD_PAGES_MAX	64

#endif /* MM_HOLD_H */
