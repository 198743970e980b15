/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Writeback of pages that are pinned for writing writes copies of them, so that what
 * goes to the disk does not change on its way. The design is on top of
 * block/bio-stable.c.
 */
#ifndef _LINUX_BIO_STABLE_H
#define _LINUX_BIO_STABLE_H

#include <linux/bio.h>
#include <linux/pin_writeback.h>

#ifdef CONFIG_PIN_WRITEBACK

void __submit_bio_stable(struct bio *bio);
struct folio *__folio_stable_copy(struct folio *folio, size_t offset, size_t len, gfp_t gfp);
struct folio *__folio_stable_put(struct folio *copy);

/**
 * submit_bio_stable() - submit a write of data from the page cache of one file
 * @bio: as for submit_bio(), not one that was cloned; its folios are under writeback
 * @mapping: the file's; or NULL, if the pages are not of a file
 *
 * Pages that are pinned for writing are copied, and the copies are written. @bio ends
 * as it would have, when all is written.
 *
 * Context: Process context. May sleep, and waits for writes that were submitted
 * before. Not below submit_bio(). The caller has no bio of its own that is not
 * submitted and has copies.
 */
static inline void submit_bio_stable(struct bio *bio, struct address_space *mapping)
{
	if (mapping && mapping_prepared(mapping))
		__submit_bio_stable(bio);
	else
		submit_bio(bio);
}

/**
 * submit_bh_stable() - submit a bio of one buffer
 * @bio: a read, or a write as for submit_bio_stable(), but for that its folio need not be
 *	 under writeback: the buffer is locked
 * @folio: what the buffer is in: of a file, a block device, or nobody's
 *
 * The checkpoint of a journal writes buffers of files, and no writeback starts. So a
 * folio that is pinned is noted here.
 *
 * Context: As for submit_bio_stable().
 */
static inline void submit_bh_stable(struct bio *bio, struct folio *folio)
{
	if (!op_is_write(bio_op(bio)) || !folio_pinned_for_write(folio)) {
		submit_bio(bio);
		return;
	}
	/* Before the copy: what is written later than that is written again */
	if (!folio_test_writeback(folio))
		pin_writeback_dirty_unlocked(folio);
	__submit_bio_stable(bio);
}

/**
 * folio_stable_copy() - get what a file system that computes checksums is to write
 * @folio: a folio of one page, under writeback
 * @offset: first byte of it
 * @len: in bytes
 * @gfp: GFP_NOFS; or GFP_NOWAIT while the caller has a bio with copies that it has not
 *	 submitted
 *
 * Context: Process context. May sleep with GFP_NOFS, and waits for writes then.
 * Return: @folio if it is not pinned for writing. Else a copy of these bytes, at the same
 * offset, with the same index; folio_stable_put() when they are on the disk. NULL if
 * there is no memory, with GFP_NOWAIT only.
 */
static inline struct folio *folio_stable_copy(struct folio *folio, size_t offset, size_t len,
					      gfp_t gfp)
{
	if (!folio_prepared(folio))
		return folio;
	return __folio_stable_copy(folio, offset, len, gfp);
}

/**
 * folio_stable_put() - free a copy
 * @folio: a folio of a bio that has ended: what folio_stable_copy() returned
 *
 * Context: Any context; does not sleep.
 * Return: the folio of the file.
 */
static inline struct folio *folio_stable_put(struct folio *folio)
{
	/* A file's folio keeps its mapping under writeback, so one without it is a copy */
	return folio->mapping ? folio : __folio_stable_put(folio);
}

#else

static inline void submit_bio_stable(struct bio *bio, struct address_space *mapping)
{
	submit_bio(bio);
}

static inline void submit_bh_stable(struct bio *bio, struct folio *folio)
{
	submit_bio(bio);
}

static inline struct folio *folio_stable_copy(struct folio *folio, size_t offset, size_t len,
					      gfp_t gfp)
{
	return folio;
}

static inline struct folio *folio_stable_put(struct folio *folio)
{
	return folio;
}

#endif
#endif
