// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pinned user memory of an io_uring
 *
 * A ring pins the buffers that are registered with it, rings of provided buffers
 * that user space has allocated, and its own queues if they are in memory of user
 * space (IORING_SETUP_NO_MMAP). All of it is pinned through accounts, see
 * include/linux/user_pages.h. The ledger behind them counts and limits, so there is
 * no counting here.
 *
 * Rules
 *
 *  1. Who registers memory pins pages of its own. So the account is for
 *     current->mm: a ring that is inherited or passed on has one for each process
 *     that registers.
 *  2. Whatever is pinned has a reference on its account. Cloned buffers belong to
 *     several rings, and may outlive the one that pinned them.
 *  3. The ring has one more, on the account that it used first: what that says of
 *     refusals is asked for after the registration has failed.
 *  4. Buffers and rings have accounts of their own, since they are in different
 *     counters where the ring was made with CAP_IPC_LOCK.
 *  5. A buffer that a request has read into is put dirty: those who write to a bvec
 *     leave the mark to its owner.
 *  6. All pins of a large folio are kept. The ledger counts them in one step.
 *
 * uring_lock is held, or nobody else has the ring yet or any more. Locks taken:
 * mmap_lock, and those of the account.
 */

#include <linux/bvec.h>
#include <linux/io_uring_types.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/user_pages.h>

#include "io_uring.h"
#include "rsrc.h"
#include "pin.h"

/* A batch of extents beside the one that is being filled */
#define IO_PIN_EXTENTS	(2 * PIN_EXTENTS_MIN)

/* Buffers of so many pages are pinned without an allocation */
#define IO_PIN_FEW	8

/**
 * struct io_extents - pinned pages of a buffer, in the order of its addresses
 * @at: the extents; no two of them lie together
 * @nr: how many
 * @max: room for so many
 * @few: room for those of a small buffer
 */
struct io_extents {
	struct pin_extent *at;
	unsigned int nr;
	unsigned int max;
	struct pin_extent few[IO_PIN_FEW];
};

/**
 * struct io_pin_account - an account that a ring, buffers and clones of them share
 * @refs: how many have it; to get one more by pin_account_get() takes as long as to
 *	pin twenty pages
 * @acct: the account
 */
struct io_pin_account {
	refcount_t refs;
	struct pin_account *acct;
};

/*
 * Where the ring keeps its account is the key. A ring that is made in the memory of
 * one that has gone gets that one's account if cloned buffers have kept it: to the
 * reader, both are one holder.
 */
static struct io_pin_account *account_new(struct io_ring_ctx *ctx,
					  enum io_pin_kind kind)
{
	static const char *const name[] = {
		[IO_PIN_BUFFERS] = "io_uring",
		[IO_PIN_RINGS] = "io_uring-ring",
	};
	struct io_pin_account *account;
	struct pin_account *acct;
	unsigned int flags = PIN_ACCOUNT_WAITS;

	/* 6.12 has no counter for rings, later kernels the user's, and never VmPin */
	if (kind == IO_PIN_BUFFERS)
		flags |= PIN_COUNT_PINNED;
	if (ctx->user)
		flags |= PIN_COUNT_USER;

	account = kmalloc(sizeof(*account), GFP_KERNEL_ACCOUNT);
	if (!account)
		return ERR_PTR(-ENOMEM);
	acct = pin_account_get(current->mm, &ctx->pin_account[kind], name[kind],
			       flags, ctx->user);
	if (IS_ERR(acct)) {
		kfree(account);
		return ERR_CAST(acct);
	}
	refcount_set(&account->refs, 1);
	account->acct = acct;
	return account;
}

static void account_put(struct io_pin_account *account)
{
	if (!refcount_dec_and_test(&account->refs))
		return;
	pin_account_put(account->acct);
	kfree(account);
}

/* For current->mm, with a reference */
static struct io_pin_account *account_get(struct io_ring_ctx *ctx,
					  enum io_pin_kind kind)
{
	struct io_pin_account *first = ctx->pin_account[kind];

	if (!first) {
		first = account_new(ctx, kind);
		if (IS_ERR(first))
			return first;
		ctx->pin_account[kind] = first;
	}
	if (!pin_account_is_for(first->acct, current->mm))
		return account_new(ctx, kind);
	refcount_inc(&first->refs);
	return first;
}

/**
 * io_pin_accounts_put() - let go of the accounts that a ring keeps
 * @ctx: the ring, which ends
 *
 * Context: Process context. May sleep.
 */
void io_pin_accounts_put(struct io_ring_ctx *ctx)
{
	int kind;

	for (kind = 0; kind < IO_PIN_NR; kind++)
		if (ctx->pin_account[kind])
			account_put(ctx->pin_account[kind]);
}

/* The limit is that of who registers; CAP_IPC_LOCK lifts it when the ring is made */
static struct pin_owner owner_of(struct io_ring_ctx *ctx)
{
	return (struct pin_owner) {
		.task = current,
		.lock_cap = !ctx->user,
	};
}

/* --- Buffers ----------------------------------------------------------------- */

/* If what huge pages need does not suffice, there are as many extents as pages */
static int make_room(struct io_extents *x, unsigned long npages)
{
	unsigned int max = x->nr + npages;
	struct pin_extent *at;

	if (x->max - x->nr >= min(npages, PIN_EXTENTS_MIN))
		return 0;
	if (!x->max)
		max = min(max, IO_PIN_EXTENTS);
	at = kvrealloc(x->at, array_size(max, sizeof(*at)), GFP_KERNEL_ACCOUNT);
	if (!at)
		return -ENOMEM;
	x->at = at;
	x->max = max;
	return 0;
}

/* @more extents have come; the first may continue the one before */
static void append(struct io_extents *x, unsigned int more)
{
	struct pin_extent *new = x->at + x->nr;

	x->nr += more;
	if (new == x->at || new[-1].pfn + new[-1].npages != new->pfn)
		return;
	new[-1].npages += new->npages;
	memmove(new, new + 1, (more - 1) * sizeof(*new));
	x->nr--;
}

static void put_extents(struct pin_account *acct, struct io_extents *x)
{
	struct pin_put put;
	unsigned int i;

	pin_put_begin(&put, acct, false);
	for (i = 0; i < x->nr; i++)
		pin_put_add(&put, x->at[i].pfn, x->at[i].npages);
	pin_put_end(&put);
}

/* The same as pin_extents(), for a small buffer */
static int pin_few(struct io_ring_ctx *ctx, struct pin_account *acct,
		   unsigned long start, unsigned long npages,
		   struct io_extents *x)
{
	struct pin_owner owner = owner_of(ctx);
	struct page *pages[IO_PIN_FEW];
	long ret, i;

	x->at = x->few;
	while (npages) {
		ret = pin_user_pages_account(acct, &owner, start, npages,
					     FOLL_WRITE, pages);
		if (ret < 0)
			return ret;
		for (i = 0; i < ret; i++) {
			x->at[x->nr] = (struct pin_extent) {
				.pfn = page_to_pfn(pages[i]),
				.npages = 1,
			};
			append(x, 1);
		}
		start += ret << PAGE_SHIFT;
		npages -= ret;
	}
	return 0;
}

/* If it fails, pages may be in @x */
static int pin_extents(struct io_ring_ctx *ctx, struct pin_account *acct,
		       unsigned long start, unsigned long npages,
		       struct io_extents *x)
{
	struct pin_owner owner = owner_of(ctx);
	unsigned int more;
	long ret;

	while (npages) {
		ret = make_room(x, npages);
		if (ret)
			return ret;
		ret = pin_user_extents_account(acct, &owner, start, npages,
					       FOLL_WRITE, x->at + x->nr,
					       x->max - x->nr, &more);
		if (ret < 0)
			return ret;
		append(x, more);
		start += ret << PAGE_SHIFT;
		npages -= ret;
	}
	return 0;
}

/*
 * io_import_fixed() wants bvecs of one size, but for the first and the last. They
 * can be large folios, all of one size and whole, but for the first and the last;
 * else they are pages. Returns how many, and in @shift their size.
 */
static unsigned int count_bvecs(const struct io_extents *x,
				unsigned long npages, unsigned int *shift)
{
	struct folio *folio = page_folio(pfn_to_page(x->at[0].pfn));
	unsigned long size = folio_nr_pages(folio), done = 0;
	unsigned int i, nr = 0;

	*shift = PAGE_SHIFT;
	if (size == 1)
		return npages;

	for (i = 0; i < x->nr; i++) {
		unsigned long pfn = x->at[i].pfn, left = x->at[i].npages;

		while (left) {
			unsigned long at, n;

			folio = page_folio(pfn_to_page(pfn));
			at = pfn - folio_pfn(folio);
			n = min(left, size - at);
			if (folio_nr_pages(folio) != size || (nr && at) ||
			    (done + n < npages && at + n < size))
				return npages;
			pfn += n;
			left -= n;
			done += n;
			nr++;
		}
	}
	*shift = folio_shift(folio);
	return nr;
}

/* @off: where the buffer begins in the first page */
static void fill_bvecs(struct io_mapped_ubuf *imu, const struct io_extents *x,
		       unsigned long off)
{
	unsigned long size = imu->len, step = 1UL << imu->folio_shift;
	struct bio_vec *bv = imu->bvec;
	unsigned int i;

	for (i = 0; i < x->nr; i++) {
		unsigned long pfn = x->at[i].pfn;
		unsigned long end = pfn + x->at[i].npages;

		while (pfn < end) {
			struct page *page = pfn_to_page(pfn);
			unsigned long len;

			if (step > PAGE_SIZE) {
				page = compound_head(page);
				off += (pfn - page_to_pfn(page)) << PAGE_SHIFT;
				pfn = page_to_pfn(page);
			}
			len = min(size, step - off);
			bvec_set_page(bv++, page, len, off);
			pfn += step >> PAGE_SHIFT;
			size -= len;
			off = 0;
		}
	}
}

/**
 * io_pin_buffer() - pin a buffer that is to be registered
 * @ctx: the ring
 * @uaddr: where the buffer is
 * @len: its length, at least 1
 *
 * Context: Process context. May sleep; takes the mmap_lock.
 * Return: the buffer, for io_put_buffer(); or, with nothing pinned, an error:
 * -ENOMEM: RLIMIT_MEMLOCK does not allow it, or no memory.
 * -EBUSY: the limit of a cgroup does not allow it.
 * -EOPNOTSUPP: it is in a file that must see each write.
 * Or another error of pin_user_extents_account().
 */
struct io_mapped_ubuf *io_pin_buffer(struct io_ring_ctx *ctx,
				     unsigned long uaddr, unsigned int len)
{
	unsigned long off = offset_in_page(uaddr);
	unsigned long npages = DIV_ROUND_UP(off + len, PAGE_SIZE);
	struct io_mapped_ubuf *imu = NULL;
	struct io_pin_account *account;
	unsigned int nr, shift;
	struct io_extents x;
	int ret;

	account = account_get(ctx, IO_PIN_BUFFERS);
	if (IS_ERR(account))
		return ERR_CAST(account);

	x.at = NULL;
	x.nr = 0;
	x.max = 0;
	if (npages <= IO_PIN_FEW)
		ret = pin_few(ctx, account->acct, uaddr & PAGE_MASK, npages,
			      &x);
	else
		ret = pin_extents(ctx, account->acct, uaddr & PAGE_MASK, npages,
				  &x);
	if (!ret) {
		nr = count_bvecs(&x, npages, &shift);
		imu = kvmalloc(struct_size(imu, bvec, nr), GFP_KERNEL_ACCOUNT);
		if (!imu)
			ret = -ENOMEM;
	}
	if (ret) {
		put_extents(account->acct, &x);
	} else {
		imu->ubuf = uaddr;
		imu->len = len;
		imu->nr_bvecs = nr;
		imu->folio_shift = shift;
		imu->acct_pages = 0;
		imu->account = account;
		imu->was_read_into = false;
		refcount_set(&imu->refs, 1);
		fill_bvecs(imu, &x, off);
	}
	if (x.at != x.few)
		kvfree(x.at);
	pin_account_settle(account->acct);
	if (!ret)
		return imu;
	account_put(account);
	return ERR_PTR(ret);
}

/**
 * io_put_buffer() - put what a buffer has pinned, and free it
 * @imu: the buffer, which no ring has any more
 *
 * Context: Process context. May sleep.
 */
void io_put_buffer(struct io_mapped_ubuf *imu)
{
	struct pin_account *acct = imu->account->acct;
	struct pin_put put;
	unsigned int i;

	pin_put_begin(&put, acct, imu->was_read_into);
	for (i = 0; i < imu->nr_bvecs; i++) {
		const struct bio_vec *bv = &imu->bvec[i];

		pin_put_add(&put, page_to_pfn(bv->bv_page) +
				  (bv->bv_offset >> PAGE_SHIFT),
			    DIV_ROUND_UP(offset_in_page(bv->bv_offset) +
					 bv->bv_len, PAGE_SIZE));
	}
	pin_put_end(&put);
	pin_account_settle(acct);
	account_put(imu->account);
	kvfree(imu);
}

/* --- Rings in memory of user space ------------------------------------------- */

/**
 * io_pin_ring() - pin memory that user space and the kernel have in common
 * @ctx: the ring
 * @uaddr: where it begins
 * @len: its length, at least 1
 * @npages: set to how many pages that are
 * @account: set to their account, with a reference
 *
 * Context: Process context. May sleep; takes the mmap_lock.
 * Return: the pages, for io_put_ring(); or, with nothing pinned, an error:
 * -EOVERFLOW: no such addresses.
 * Or one of those of io_pin_buffer().
 */
struct page **io_pin_ring(struct io_ring_ctx *ctx, unsigned long uaddr,
			  unsigned long len, int *npages,
			  struct io_pin_account **account)
{
	unsigned long start = uaddr & PAGE_MASK, end, total, done = 0;
	struct pin_owner owner = owner_of(ctx);
	struct io_pin_account *new;
	struct page **pages;
	long ret = 0;

	if (check_add_overflow(uaddr, len, &end) ||
	    check_add_overflow(end, PAGE_SIZE - 1, &end))
		return ERR_PTR(-EOVERFLOW);
	total = (end - start) >> PAGE_SHIFT;

	new = account_get(ctx, IO_PIN_RINGS);
	if (IS_ERR(new))
		return ERR_CAST(new);
	pages = kvmalloc_array(total, sizeof(*pages), GFP_KERNEL);
	if (!pages)
		ret = -ENOMEM;
	while (ret >= 0 && done < total) {
		ret = pin_user_pages_account(new->acct, &owner,
					     start + (done << PAGE_SHIFT),
					     total - done, FOLL_WRITE,
					     pages + done);
		if (ret > 0)
			done += ret;
	}
	if (ret < 0) {
		io_put_ring(&pages, done, &new);
		return ERR_PTR(ret);
	}
	pin_account_settle(new->acct);
	*account = new;
	*npages = total;
	return pages;
}

/**
 * io_put_ring() - put what io_pin_ring() has pinned
 * @pages: the pages, which the kernel has no mapping of any more; or NULL
 * @npages: how many
 * @account: their account, which is let go; or NULL
 *
 * Context: Process context. May sleep.
 */
void io_put_ring(struct page ***pages, int npages,
		 struct io_pin_account **account)
{
	if (*account) {
		put_user_pages_account((*account)->acct, *pages, npages, false);
		pin_account_settle((*account)->acct);
		account_put(*account);
	}
	*account = NULL;
	kvfree(*pages);
	*pages = NULL;
}
