/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * For mm/gup.c of the debug kernel: pages that cannot be made accessible
 *
 * Only s390 has them, in protected guests, and QEMU does not emulate these. Here a
 * page that begins with INACCESSIBLE is one. The test is `inaccessible`.
 */
#ifndef USERPIN_INACCESSIBLE_H
#define USERPIN_INACCESSIBLE_H

#define INACCESSIBLE	"This page cannot be made accessible."

#ifdef __KERNEL__
#define HAVE_ARCH_MAKE_FOLIO_ACCESSIBLE
#include <linux/mm.h>
#include <linux/string.h>

static inline int arch_make_folio_accessible(struct folio *folio)
{
	return strcmp(folio_address(folio), INACCESSIBLE) ? 0 : -EFAULT;
}
#endif /* __KERNEL__ */

#endif
