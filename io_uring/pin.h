/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Pinned user memory of an io_uring, see pin.c. Without CONFIG_LONGTERM_PIN, all is
 * as upstream has it.
 */
#ifndef IOU_PIN_H
#define IOU_PIN_H

#include <linux/io_uring_types.h>

#include "memmap.h"

struct io_mapped_ubuf;
struct io_pin_account;

#ifdef CONFIG_LONGTERM_PIN

void io_pin_accounts_put(struct io_ring_ctx *ctx);

struct io_mapped_ubuf *io_pin_buffer(struct io_ring_ctx *ctx,
				     unsigned long uaddr, unsigned int len);
void io_put_buffer(struct io_mapped_ubuf *imu);

struct page **io_pin_ring(struct io_ring_ctx *ctx, unsigned long uaddr,
			  unsigned long len, int *npages,
			  struct io_pin_account **account);
void io_put_ring(struct page ***pages, int npages,
		 struct io_pin_account **account);

#else /* !CONFIG_LONGTERM_PIN */

static inline void io_pin_accounts_put(struct io_ring_ctx *ctx)
{
}

/* Nobody calls these two */
struct io_mapped_ubuf *io_pin_buffer(struct io_ring_ctx *ctx,
				     unsigned long uaddr, unsigned int len);
void io_put_buffer(struct io_mapped_ubuf *imu);

static inline struct page **io_pin_ring(struct io_ring_ctx *ctx,
					unsigned long uaddr, unsigned long len,
					int *npages, struct io_pin_account **account)
{
	return io_pin_pages(uaddr, len, npages);
}

static inline void io_put_ring(struct page ***pages, int npages,
			       struct io_pin_account **account)
{
	io_pages_free(pages, npages);
}

#endif /* !CONFIG_LONGTERM_PIN */

#endif
