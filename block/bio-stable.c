// SPDX-License-Identifier: GPL-2.0
/*
 * Writeback of pinned pages writes copies of them.
 *
 * A store by the CPU to a page under writeback waits for its end, where the file system
 * or the disk asks for that. A device that has pinned the page does not wait. Then a
 * checksum that was computed before the page was sent (btrfs, T10 PI,
 * dm-integrity, the journal of ext4) is wrong, legs and parity of a RAID differ, and
 * compressed data can be garbage. This is the bounce page of the 2019 put_user_pages
 * series. It is above the block layer: all that is below sees the copy.
 *
 * Invariants:
 *
 *  1. No holder of a pin writes to what is on its way to the disk. Of pins that are
 *     older than the writeback, the data are copied. Others wait for its end: see
 *     gup_wait_for_writeback() in mm/gup.c.
 *  2. The writeback is that of the file's page all the same. PG_writeback stays on it
 *     until its copy is written, and it goes through clean: mm/pin_writeback.c.
 *  3. What is pinned is always written, never skipped, and nobody waits for the unpin:
 *     that may be hours away.
 *  4. Nobody waits for a page of the pool while it has a copy that is not submitted.
 *     Those that are submitted come back when they are written. So writeback goes on
 *     when there is no memory.
 *  5. A buffer that is written without a writeback of its folio notes it, as the start
 *     of a writeback does: submit_bh_stable(), and invariant 3 of mm/pin_writeback.c.
 *
 * The machine has one pool. So when no page is free, and one disk with pinned pages does
 * not answer, writeback of pinned pages to other disks waits for it; and a loop device
 * whose own file has pinned pages waits for itself. btrfs looks up an extent while it
 * has copies that are not submitted, and may need memory for that, as it does with its
 * bios.
 *
 * The journal of ext4 with data=journal does not use the pool: its copies live until the
 * commit ends, and the same thread writes and frees them. Without memory it takes the
 * reserves (__GFP_NOFAIL): a journal that is aborted for want of a copy is worse.
 *
 * A copy may be torn, when the device writes just then. So may be what is on the disk
 * after a crash at any time. The page is noted, and is written again.
 *
 * When a pin is looked for: after PG_writeback was set, see mm/pin_writeback.c for the
 * barriers. A pin that has gone by then does not write any more. The journal of ext4 and
 * its checkpoint write buffers without PG_writeback. A new pin needs a write fault then,
 * which waits for the lock of the buffer, or for the end of BH_Shadow. Reiserfs, and who
 * maps a block device that has a file system, do not wait there: such a pin can come
 * while the buffer is on its way.
 *
 * Pins with FOLL_NOFAULT do not wait: their callers have locks of a file system. Direct
 * reads of btrfs and gfs2 begin with such a pin. Nor do those with FOLL_NOWAIT, which
 * ask for that.
 *
 * Sent as they are: bios of blk-crypto, atomic ones, and those of REQ_OP_ZONE_APPEND (but
 * btrfs copies before it chooses that). fscrypt and blk-crypto's fallback encrypt into
 * pages of their own, from the page as it is then.
 */
#include <linux/bio_stable.h>
#include <linux/blk-cgroup.h>
#include <linux/blk-crypto.h>
#include <linux/blkdev.h>
#include <linux/highmem.h>
#include <linux/init.h>
#include <linux/mempool.h>
#include <linux/vmstat.h>

/* Pages of one part of a bio, which has a bitmap of them; and of the pool */
#define STABLE_PAGES	32

/**
 * struct stable_bio - a part of a bio, some pages of which are copies
 * @copies: which of its pages are
 * @bio: the part
 */
struct stable_bio {
	u32 copies;
	struct bio bio;
};

static struct bio_set stable_bios;
static mempool_t stable_pages;

static void free_stable_page(struct page *page)
{
	dec_node_page_state(page, NR_WRITEBACK_TEMP);
	mempool_free(page, &stable_pages);
}

static struct page *stable_page(struct page *from, size_t offset, size_t len, gfp_t gfp)
{
	struct page *page = mempool_alloc(&stable_pages, gfp);

	if (page) {
		memcpy_page(page, offset, from, offset, len);
		count_vm_event(PIN_COPIED);
		inc_node_page_state(page, NR_WRITEBACK_TEMP);
	}
	return page;
}

static void stable_end_io(struct bio *part)
{
	struct stable_bio *s = container_of(part, struct stable_bio, bio);
	struct bio *bio = part->bi_private;
	unsigned int i;

	for (i = 0; i < part->bi_vcnt; i++)
		if (s->copies & BIT(i))
			free_stable_page(part->bi_io_vec[i].bv_page);
	if (part->bi_status && !bio->bi_status)
		bio->bi_status = part->bi_status;
	bio_put(part);
	bio_endio(bio);
}

/*
 * Make the next part of @bio. This waits for at most one page: a part ends before a second
 * one that is not to be had. Blocks of a disk are not larger than a page.
 */
static struct bio *stable_part(struct bio *bio, struct bvec_iter *iter)
{
	struct stable_bio *s;
	struct bio *part;

	part = bio_alloc_bioset(bio->bi_bdev, STABLE_PAGES, bio->bi_opf, GFP_NOIO,
				&stable_bios);
	part->bi_iter.bi_sector = iter->bi_sector;
	part->bi_ioprio = bio->bi_ioprio;
	part->bi_write_hint = bio->bi_write_hint;
	bio_clone_blkg_association(part, bio);
	part->bi_private = bio;
	part->bi_end_io = stable_end_io;
	s = container_of(part, struct stable_bio, bio);
	s->copies = 0;
	while (iter->bi_size && part->bi_vcnt < STABLE_PAGES) {
		struct bio_vec bv = bio_iter_iovec(bio, *iter);
		struct page *page = bv.bv_page;

		if (folio_maybe_dma_pinned(page_folio(page))) {
			gfp_t gfp = s->copies ? GFP_NOWAIT | __GFP_NOWARN : GFP_NOIO;

			page = stable_page(page, bv.bv_offset, bv.bv_len, gfp);
			if (!page)
				break;
			s->copies |= BIT(part->bi_vcnt);
		}
		bvec_set_page(&part->bi_io_vec[part->bi_vcnt++], page, bv.bv_len, bv.bv_offset);
		part->bi_iter.bi_size += bv.bv_len;
		bio_advance_iter_single(bio, iter, bv.bv_len);
	}
	return part;
}

static bool has_pinned(struct bio *bio)
{
	struct bvec_iter iter;
	struct bio_vec bv;

	bio_for_each_segment(bv, bio, iter)
		if (folio_maybe_dma_pinned(page_folio(bv.bv_page)))
			return true;
	return false;
}

void __submit_bio_stable(struct bio *bio)
{
	struct bvec_iter iter = bio->bi_iter;

	if (bio_op(bio) != REQ_OP_WRITE || bio->bi_opf & REQ_ATOMIC || bio_has_crypt_ctx(bio) ||
	    !has_pinned(bio)) {
		submit_bio(bio);
		return;
	}
	while (iter.bi_size) {
		struct bio *part = stable_part(bio, &iter);

		bio_inc_remaining(bio);
		submit_bio(part);
	}
	bio_endio(bio);
}
EXPORT_SYMBOL_GPL(__submit_bio_stable);

struct folio *__folio_stable_copy(struct folio *folio, size_t offset, size_t len, gfp_t gfp)
{
	struct page *page;

	if (!folio_maybe_dma_pinned(folio))
		return folio;
	page = stable_page(&folio->page, offset, len, gfp);
	if (!page)
		return NULL;
	page->index = folio->index;
	set_page_private(page, (unsigned long)folio);
	return page_folio(page);
}
EXPORT_SYMBOL_GPL(__folio_stable_copy);

struct folio *__folio_stable_put(struct folio *copy)
{
	struct folio *folio = folio_get_private(copy);

	copy->private = NULL;
	copy->index = 0;
	free_stable_page(&copy->page);
	return folio;
}
EXPORT_SYMBOL_GPL(__folio_stable_put);

static int __init bio_stable_init(void)
{
	if (mempool_init_page_pool(&stable_pages, STABLE_PAGES, 0) ||
	    bioset_init(&stable_bios, 4, offsetof(struct stable_bio, bio), BIOSET_NEED_BVECS))
		panic("bio-stable: no memory\n");
	return 0;
}
subsys_initcall(bio_stable_init);
