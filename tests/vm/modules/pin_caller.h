/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a program may ask of a pin_caller device, by ioctls on the VFIO device.
 * See pin_caller.c.
 */
#ifndef PIN_CALLER_H
#define PIN_CALLER_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* For writing: IOMMU_WRITE of vfio_pin_pages(), or write by vfio_dma_rw() */
#define PIN_CALLER_WRITE	(1U << 0)
/* Call from a kernel thread, which has no mm */
#define PIN_CALLER_KTHREAD	(1U << 1)
/* Copy through the struct page that is pinned at the IOVA, by the CPU */
#define PIN_CALLER_PAGE		(1U << 2)

/**
 * struct pin_caller_range - a range of IOVAs
 * @iova: its start, a multiple of the page size
 * @npages: pages
 * @flags: PIN_CALLER_WRITE, PIN_CALLER_KTHREAD
 */
struct pin_caller_range {
	__u64 iova;
	__u32 npages;
	__u32 flags;
};

/**
 * struct pin_caller_copy - bytes to copy
 * @iova: from or to which IOVA
 * @data: address of the program's buffer
 * @len: bytes, at most PIN_CALLER_COPY_MAX; with PIN_CALLER_PAGE within a page
 * @flags: PIN_CALLER_WRITE: from @data to @iova, else from @iova to @data;
 *	PIN_CALLER_KTHREAD; PIN_CALLER_PAGE
 */
struct pin_caller_copy {
	__u64 iova;
	__u64 data;
	__u32 len;
	__u32 flags;
};

#define PIN_CALLER_COPY_MAX	(1U << 20)

/**
 * struct pin_caller_stat - what the device holds
 * @pinned: pins that are held: calls of vfio_pin_pages() per page
 * @pages: IOVA pages with any pin
 * @unmaps: calls of dma_unmap() so far
 * @unmapped: pins that these ended
 */
struct pin_caller_stat {
	__u64 pinned;
	__u64 pages;
	__u64 unmaps;
	__u64 unmapped;
};

/*
 * Pin each page of a range with one vfio_pin_pages(), which takes at most
 * VFIO_PIN_PAGES_MAX_ENTRIES (512 on x86), else E2BIG. Returns the number of
 * pages, or fails as vfio_pin_pages() does. May be repeated for the same pages.
 */
#define PIN_CALLER_PIN		_IOW(';', 0xe0, struct pin_caller_range)
/*
 * Take one pin off each page of a range with one vfio_unpin_pages(). EINVAL and
 * nothing done unless all are pinned.
 */
#define PIN_CALLER_UNPIN	_IOW(';', 0xe1, struct pin_caller_range)
/* Copy with vfio_dma_rw(), or through a pinned page (EINVAL if it is not) */
#define PIN_CALLER_COPY		_IOW(';', 0xe2, struct pin_caller_copy)
#define PIN_CALLER_STAT		_IOR(';', 0xe3, struct pin_caller_stat)
/*
 * From now on, keep pages pinned when they are unmapped, which a driver must not
 * (1), or let them go (0)
 */
#define PIN_CALLER_KEEP		_IO(';', 0xe4)

#endif /* PIN_CALLER_H */
