// SPDX-License-Identifier: GPL-2.0
/*
 * The ledger of long-term pins.
 *
 * A device that is assigned to a virtual machine keeps the machine's memory
 * pinned for hours. Several holders may pin the same memory: two devices, or a
 * device and a mediated one. The ledger of a mm counts the pins that all its
 * holders have on each folio, so that the memory is charged once and released
 * exactly when the last pin goes. The words are defined in
 * include/linux/user_pages.h.
 *
 * Rules
 *
 *  1. For each counter, charge(folio) = min(pins, pages of the folio). It is never below the
 *     number of distinct pages pinned and never above the size of the folio;
 *     it is exact when pins do not overlap or when one holder pins the whole
 *     folio, and an upper bound otherwise.
 *  2. The charge is the sum of all charge(folio), ledger->held the sum of the sizes
 *     of folios with any pin. Both are 0 when nothing is pinned, and then the ledger
 *     has no entry.
 *  3. The charge of pins that are part of VmLck counts against RLIMIT_MEMLOCK beside
 *     mm->locked_vm. It is mm->pin_charge, which mm_locked_pages() adds for all who
 *     compare. A pin computes the charge that there would be, compares it, and only
 *     then lets others see it: a batch that is refused refuses no other request.
 *  4. An entry changes only while its folio is pinned: before the first entry
 *     comes the pin, and the entry goes before the last unpin. A pinned folio
 *     is neither split nor freed, so folio and size found again are the same.
 *  5. Charging once takes away what bounded reference counts, the limit that N
 *     mappings of a page ran into. So pins are bounded here, to PIN_PAGE_MAX,
 *     PIN_FOLIO_MAX and PIN_REFCOUNT_MAX.
 *  6. Taking pins off never fails and never allocates. More than are there are
 *     not taken off: that is a bug of the holder, which is told.
 *  7. Pages of device memory, as device-dax has them, are counted but neither
 *     charged nor held: they are no memory that anybody else could use. When
 *     the device is taken away, so are its pages, and their pins with them: who
 *     puts them later finds that here, whatever has come to that place.
 *  8. Frames without a struct page, and all other reserved pages, are not
 *     counted. Holders that remember only PFNs may put them all the same. So no
 *     pin is given on them: nothing would end it.
 *  9. What is held is charged to the cgroup in which the ledger was made, before
 *     others see it, in steps: ledger->in_cgroup >= ledger->held_now. They are
 *     equal when each request has ended and each holder has settled. The cgroup
 *     stays the same, wherever processes go. Only a process that adopts the
 *     ledger brings its own, for what grows from then on. What shrinks is given
 *     back to that one first, and to the oldest last: so who pins and puts in turn
 *     does not come nearer to its limit.
 * 10. A limit refuses only what makes charge or held grow. What is pinned
 *     already may be pinned again.
 * 11. User space reads several counters, and RLIMIT_MEMLOCK is compared with one or
 *     the other. Each holder is part of those that it was part of before there were
 *     ledgers. The pins of each set of counters are in a plane of their own. A folio
 *     with pins in two planes counts once in a counter that both are part of, and
 *     is held once. So no counter shows more than it did. But a huge page that two
 *     processes register with one ring of io_uring counts for each: it counted once,
 *     and no more when the first buffer went. A second user of the process has no
 *     plane: see struct pin_second_user.
 * 12. Others add to mm->pinned_vm and to user_struct.locked_vm, too, without a lock.
 *     What the ledger adds there is compared and added in one step.
 *
 * Large folios have an entry each, order-0 pages a counter each. Counters come
 * in chunks: with an entry for each 4K page, the tree would cost a quarter of
 * the time that it takes to map memory for a device.
 *
 * Small pages of one chunk are counted in one step, also where they lie apart: all
 * but the counter of each page is done once. What a step does is inlined, the rare
 * cases are not.
 *
 * Locks: mmap_lock > pin_ledgers_lock > ledger->lock, which is a leaf: nobody
 * waits in it for memory, a page fault or user space. All who change
 * mm->locked_vm have mmap_lock for writing. So a pin whose limit is compared with
 * VmLck takes it for reading first, and the comparison is exact. A put needs
 * ledger->lock alone. Readers take no lock: accounts and ledgers are freed by RCU.
 */

#include <linux/export.h>
#include <linux/init.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/user.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/vmstat.h>

#include "pin_ledger.h"

/* Guards mm->pin_ledger while it changes */
DEFINE_MUTEX(pin_ledgers_lock);
/* All accounts, by id */
DEFINE_XARRAY(pin_accounts);

/**
 * struct pin_chunk - counters of small pages that are neighbours
 * @index: PFN of the first one >> PIN_CHUNK_SHIFT
 * @used: counters that are not 0; the chunk is freed when there are none
 * @pins: pins on each page
 */
struct pin_chunk {
	unsigned long index;
	u16 used;
	u16 pins[PIN_CHUNK_PAGES];
};

/**
 * struct pin_device_chunk - counters of pages of device memory
 * @index: PFN of the first one >> PIN_CHUNK_SHIFT
 * @used: counters that are not 0; the chunk is freed when there are none
 * @pins: pins on each page, also of a folio
 * @gone: pins on each page that was here before: it went with the device
 *
 * Device memory is alone in a chunk: it begins and ends at a multiple of that.
 */
struct pin_device_chunk {
	unsigned long index;
	u16 used;
	u16 pins[PIN_CHUNK_PAGES];
	u16 gone[PIN_CHUNK_PAGES];
};

/* kmalloc() would take twice the size for it */
static struct kmem_cache *pin_chunks, *pin_device_chunks;

static int __init pin_chunks_init(void)
{
	pin_chunks = KMEM_CACHE(pin_chunk, SLAB_PANIC | SLAB_ACCOUNT);
	pin_device_chunks = KMEM_CACHE(pin_device_chunk,
				       SLAB_PANIC | SLAB_ACCOUNT);
	return 0;
}
subsys_initcall(pin_chunks_init);

/* No reader is left */
static void ledger_free_work(struct work_struct *work)
{
	struct pin_ledger *ledger = container_of(to_rcu_work(work),
						 struct pin_ledger, free);

	mmdrop(ledger->mm);
	kfree(ledger);
}

/**
 * pin_ledger_get() - get the ledger of a mm, made if there is none
 * @mm: the mm; the caller keeps its mm_struct alive
 *
 * A new one is charged to the cgroup of the current process, of whatever mm it
 * is; that of kernel threads is the root.
 *
 * Context: Process context. May sleep; takes pin_ledgers_lock.
 * Return: the ledger with a reference, or NULL without memory.
 */
struct pin_ledger *pin_ledger_get(struct mm_struct *mm)
{
	struct pin_ledger *ledger = pin_ledger_find(mm), *new;
	static u64 last_number;	/* under pin_ledgers_lock */
	int i;

	if (ledger)
		return ledger;

	new = kzalloc(sizeof(*new), GFP_KERNEL_ACCOUNT);
	if (!new)
		return NULL;
	mutex_init(&new->lock);
	init_rwsem(&new->moving);
	refcount_set(&new->refs, 1);
	INIT_RCU_WORK(&new->free, ledger_free_work);
	for (i = 0; i < PIN_PLANE_NR; i++) {
		xa_init_flags(&new->planes[i].folios, XA_FLAGS_ACCOUNT);
		xa_init_flags(&new->planes[i].chunks, XA_FLAGS_ACCOUNT);
	}
	xa_init_flags(&new->devices, XA_FLAGS_ACCOUNT);
	INIT_LIST_HEAD(&new->accounts);
	INIT_LIST_HEAD(&new->second_users);
	INIT_LIST_HEAD(&new->past);
	new->mm = mm;
	new->cgroup = get_current_misc_cg();

	mutex_lock(&pin_ledgers_lock);
	ledger = rcu_dereference_protected(mm->pin_ledger,
					   lockdep_is_held(&pin_ledgers_lock));
	if (ledger) {
		/* The last reference goes under the lock */
		refcount_inc(&ledger->refs);
	} else {
		mmgrab(mm);
		new->number = ++last_number;
		rcu_assign_pointer(mm->pin_ledger, new);
		swap(ledger, new);
	}
	mutex_unlock(&pin_ledgers_lock);

	if (new) {
		put_misc_cg(new->cgroup);
		kfree(new);
	}
	return ledger;
}

/* Not xa_empty(): without memory, a store may leave nodes without entries */
static bool has_entries(struct xarray *xa)
{
	unsigned long index = 0;

	return xa_find(xa, &index, ULONG_MAX, XA_PRESENT);
}

/**
 * pin_ledger_find() - get the ledger of a mm if it has one
 * @mm: the mm; the caller keeps its mm_struct alive
 *
 * Context: Any context; does not sleep.
 * Return: the ledger with a reference, or NULL.
 */
struct pin_ledger *pin_ledger_find(struct mm_struct *mm)
{
	struct pin_ledger *ledger;

	guard(rcu)();
	ledger = rcu_dereference(mm->pin_ledger);
	return ledger && refcount_inc_not_zero(&ledger->refs) ? ledger : NULL;
}

/**
 * pin_ledger_put() - give back a reference on a ledger
 * @ledger: the ledger; freed with its last reference, when it is settled
 *
 * Context: Process context. May sleep; takes pin_ledgers_lock.
 */
void pin_ledger_put(struct pin_ledger *ledger)
{
	int i;

	if (!refcount_dec_and_mutex_lock(&ledger->refs, &pin_ledgers_lock))
		return;
	/* Without the lock, it may be the charge of the mm's next ledger */
	WARN_ON(ledger->mm->pin_charge);
	WARN_ON(ledger->published[PIN_COUNTER_PINNED] ||
		ledger->published[PIN_COUNTER_USER]);
	RCU_INIT_POINTER(ledger->mm->pin_ledger, NULL);
	mutex_unlock(&pin_ledgers_lock);

	WARN_ON(ledger->held || ledger->in_cgroup || ledger->uncounted ||
		!list_empty(&ledger->past));
	WARN_ON(ledger->twice[PIN_COUNTER_LOCKED] ||
		ledger->twice[PIN_COUNTER_PINNED] ||
		ledger->twice[PIN_COUNTER_USER]);
	for (i = 0; i < PIN_PLANE_NR; i++) {
		struct pin_plane *plane = &ledger->planes[i];

		WARN_ON(plane->pins || plane->charge ||
			has_entries(&plane->folios) ||
			has_entries(&plane->chunks));
		xa_destroy(&plane->folios);
		xa_destroy(&plane->chunks);
	}
	WARN_ON(ledger->device_pins || has_entries(&ledger->devices));
	xa_destroy(&ledger->devices);
	/* Who reads it has a reference on the ledger */
	put_misc_cg(ledger->cgroup);
	free_uid(ledger->user);
	queue_rcu_work(system_wq, &ledger->free);
}

/**
 * pin_ledger_cgroup() - get the cgroup that is charged for what grows
 * @ledger: the ledger; the caller has a reference, or an account
 *
 * Context: Any context; does not sleep.
 * Return: the cgroup, which the caller gives back with put_misc_cg(); or NULL in
 * a kernel without the misc controller.
 */
struct misc_cg *pin_ledger_cgroup(struct pin_ledger *ledger)
{
	struct misc_cg *cg;

	guard(rcu)();
	/* One that is given up has another in its place */
	do
		cg = READ_ONCE(ledger->cgroup);
	while (!pin_cgroup_tryget(cg));
	return cg;
}

/**
 * pin_account_counts() - tell whether pins on a frame are counted
 * @pfn: the page frame
 *
 * Others may be mapped for a device without a pin (rule 8). A frame that is
 * counted must not be: a put would take off the pin of somebody else.
 *
 * Idea: is_invalid_reserved_pfn() of vfio_iommu_type1.
 *
 * Context: Any context; does not sleep.
 * Return: true if they are.
 */
bool __flatten pin_account_counts(unsigned long pfn)
{
	struct page *page;

	if (!pfn_valid(pfn))
		return false;
	page = pfn_to_page(pfn);
	return !PageReserved(page) ||
	       (is_zone_device_page(page) && !is_pci_p2pdma_page(page));
}
EXPORT_SYMBOL_GPL(pin_account_counts);

/* Pages from @pfn on, at most @npages, that are in the same large folio */
static unsigned long pages_in_folio(struct folio *folio, unsigned long pfn,
				    unsigned long npages)
{
	return min(npages, folio_pfn(folio) + folio_nr_pages(folio) - pfn);
}

/* What page flags say of a small page that is counted: that it is one, and its zone */
#define PIN_SMALL_FLAGS	(BIT(PG_head) | BIT(PG_reserved) |		\
			 ZONEID_MASK << ZONEID_PGSHIFT)

static __always_inline unsigned long zone_flags(struct page *page)
{
	/* Others change flags meanwhile, but none that is looked at */
	return data_race(page->flags) & ZONEID_MASK << ZONEID_PGSHIFT;
}

/* Is it a small page of the node that zone_flags() was taken of? */
static __always_inline bool is_small(struct page *page, unsigned long zone)
{
	/* Not PageTail(): what only looks like a head has its flags, too */
	return (data_race(page->flags) & PIN_SMALL_FLAGS) == zone &&
	       !(READ_ONCE(page->compound_head) & 1);
}

/* Pages that a device gets one after the other are seldom far from each other */
static struct pin_chunk *chunk_find(struct pin_plane *plane, unsigned long pfn)
{
	unsigned long index = pfn >> PIN_CHUNK_SHIFT;
	struct pin_chunk *chunk = plane->last_chunk;

	if (chunk && chunk->index == index)
		return chunk;
	chunk = xa_load(&plane->chunks, index);
	if (chunk)
		plane->last_chunk = chunk;
	return chunk;
}

static noinline void chunk_free(struct pin_plane *plane,
				struct pin_chunk *chunk)
{
	if (plane->last_chunk == chunk)
		plane->last_chunk = NULL;
	xa_erase(&plane->chunks, chunk->index);
	kmem_cache_free(pin_chunks, chunk);
}

/* With @gfp for waiting, ledger->lock is not held */
static noinline struct pin_chunk *chunk_make(struct pin_plane *plane,
					     unsigned long index, gfp_t gfp)
{
	struct pin_chunk *chunk, *there;

	chunk = kmem_cache_zalloc(pin_chunks, gfp);
	if (!chunk)
		return NULL;
	chunk->index = index;
	there = xa_cmpxchg(&plane->chunks, index, NULL, chunk, gfp);
	if (!there)
		return chunk;
	/* A request without the lock has made it, see pin_ledger_reserve() */
	kmem_cache_free(pin_chunks, chunk);
	return xa_is_err(there) ? NULL : there;
}

static struct pin_chunk *chunk_get(struct pin_plane *plane, unsigned long pfn)
{
	return chunk_find(plane, pfn) ?:
	       chunk_make(plane, pfn >> PIN_CHUNK_SHIFT, PIN_GFP_LOCKED);
}

/**
 * pin_ledger_count_node() - count in NR_LONGTERM_PINNED what is to be counted there
 * @ledger: the ledger
 *
 * Context: Process context. ledger->lock is held.
 */
void pin_ledger_count_node(struct pin_ledger *ledger)
{
	/* A new ledger's node is 0, and a machine need not have that */
	if (!ledger->uncounted)
		return;
	mod_node_page_state(NODE_DATA(ledger->nid), NR_LONGTERM_PINNED,
			    ledger->uncounted);
	ledger->uncounted = 0;
}

/* The counter of a node takes as long as the entry of a page does, so less often */
static __always_inline void count_pinned(struct pin_ledger *ledger,
					 struct page *page, long more)
{
	/* As in zone_flags() */
	int nid = data_race(page_to_nid(page));

	if (unlikely(nid != ledger->nid)) {
		pin_ledger_count_node(ledger);
		ledger->nid = nid;
	}
	ledger->uncounted += more;
}

/* Most ledgers use one plane */
static __always_inline bool others_used(struct pin_ledger *ledger,
					enum pin_plane_id which)
{
	return unlikely(ledger->used & ~BIT(which));
}

/*
 * The charge of plane @which changes by @more pages, but that of a counter by
 * @joint[] pages, as other planes have pins on the same pages
 */
static void charge_joint(struct pin_ledger *ledger, enum pin_plane_id which,
			 long more, const long joint[PIN_COUNTER_NR])
{
	int i;

	for (i = 0; i < PIN_COUNTER_NR; i++)
		if (pin_counter_planes(i) & BIT(which))
			ledger->twice[i] += more - joint[i];
}

/* How the charge of a folio changes that has @others pins in other planes */
static long charge_change(unsigned long size, unsigned long others,
			  unsigned long old, unsigned long new)
{
	return min(others + new, size) - min(others + old, size);
}

/* The same for each counter, and held; returns the pins in all other planes */
static noinline unsigned long
charge_folio_joint(struct pin_ledger *ledger, enum pin_plane_id which,
		   struct folio *folio, unsigned long old, unsigned long new)
{
	unsigned long size = folio_nr_pages(folio), pins[PIN_PLANE_NR] = {};
	long joint[PIN_COUNTER_NR];
	unsigned long all = 0;
	int i, j;

	for (i = 0; i < PIN_PLANE_NR; i++) {
		void *entry = NULL;

		if (i != which && ledger->used & BIT(i))
			entry = xa_load(&ledger->planes[i].folios,
					folio_pfn(folio));
		if (entry)
			pins[i] = xa_to_value(entry);
		all += pins[i];
	}
	for (i = 0; all && i < PIN_COUNTER_NR; i++) {
		unsigned long others = 0;

		for (j = 0; j < PIN_PLANE_NR; j++)
			if (pin_counter_planes(i) & BIT(j))
				others += pins[j];
		joint[i] = charge_change(size, others, old, new);
	}
	if (all)
		charge_joint(ledger, which, charge_change(size, 0, old, new),
			     joint);
	return all;
}

static void charge_folio(struct pin_ledger *ledger, enum pin_plane_id which,
			 struct folio *folio, unsigned long old,
			 unsigned long new)
{
	unsigned long size = folio_nr_pages(folio), others = 0;
	long more = charge_change(size, 0, old, new);

	ledger->planes[which].charge += more;
	if (others_used(ledger, which))
		others = charge_folio_joint(ledger, which, folio, old, new);
	if (others)
		more = charge_change(size, others, old, new);
	else if (!old != !new)
		ledger->held += new ? size : -size;
	if (more)
		count_pinned(ledger, &folio->page, more);
}

/*
 * The counters from @first to @end in @chunk that have just become @value: charges
 * those whose page has a pin in another plane, and returns how many these are
 */
static noinline unsigned int
charge_small_joint(struct pin_ledger *ledger, enum pin_plane_id which,
		   struct pin_chunk *chunk, unsigned int first,
		   unsigned int end, u16 value, unsigned int changed)
{
	struct pin_chunk *others[PIN_PLANE_NR] = {};
	unsigned int with[PIN_COUNTER_NR] = {};
	long joint[PIN_COUNTER_NR];
	unsigned int seen = 0, i, j;
	bool any = false;

	for (i = 0; i < PIN_PLANE_NR; i++) {
		if (i == which || !(ledger->used & BIT(i)))
			continue;
		others[i] = chunk_find(&ledger->planes[i],
				       chunk->index << PIN_CHUNK_SHIFT);
		any |= !!others[i];
	}
	if (!any)
		return 0;

	for (i = first; i < end; i++) {
		unsigned int planes = 0;

		if (chunk->pins[i] != value)
			continue;
		for (j = 0; j < PIN_PLANE_NR; j++)
			if (others[j] && others[j]->pins[i])
				planes |= BIT(j);
		for (j = 0; j < PIN_COUNTER_NR; j++)
			with[j] += !!(planes & pin_counter_planes(j));
		seen += !!planes;
	}
	for (i = 0; i < PIN_COUNTER_NR; i++)
		joint[i] = value ? changed - with[i] : -(long)(changed - with[i]);
	charge_joint(ledger, which, value ? changed : -(long)changed, joint);
	return seen;
}

/*
 * Charge for a run of small pages that begins with @page, from @first to @end in
 * @chunk: @changed counters have just become @value, from 0 or to it
 */
static __always_inline void charge_small(struct pin_ledger *ledger,
					 enum pin_plane_id which,
					 struct pin_chunk *chunk,
					 struct page *page, unsigned int first,
					 unsigned int end, u16 value,
					 unsigned int changed)
{
	long more = value ? changed : -(long)changed;

	if (!changed)
		return;
	ledger->planes[which].charge += more;
	if (others_used(ledger, which)) {
		changed -= charge_small_joint(ledger, which, chunk, first, end,
					      value, changed);
		more = value ? changed : -(long)changed;
	}
	ledger->held += more;
	count_pinned(ledger, page, more);
}

/* Add a pin to @page, if it is small, of @zone, in @chunk at @i, and may have one more */
static __always_inline bool add_one(struct pin_chunk *chunk, unsigned long i,
				    struct page *page, unsigned long zone,
				    unsigned int *fresh)
{
	if (i >= PIN_CHUNK_PAGES || !is_small(page, zone) ||
	    chunk->pins[i] == PIN_PAGE_MAX ||
	    page_ref_count(page) > PIN_REFCOUNT_MAX)
		return false;
	if (!chunk->pins[i]++)
		(*fresh)++;
	return true;
}

/* Add a pin to each page of the run at @pfn; returns its length or an error */
static long add_small(struct pin_ledger *ledger, enum pin_plane_id which,
		      unsigned long pfn, unsigned long npages)
{
	struct pin_plane *plane = &ledger->planes[which];
	unsigned int first = pfn % PIN_CHUNK_PAGES, fresh = 0;
	struct pin_chunk *chunk = chunk_get(plane, pfn);
	struct page *start = pfn_to_page(pfn);
	unsigned long zone = zone_flags(start), n = 0;

	if (!chunk)
		return -ENOMEM;
	while (n < npages && add_one(chunk, first + n, start + n, zone, &fresh))
		n++;
	chunk->used += fresh;
	plane->pins += n;
	charge_small(ledger, which, chunk, start, first, first + n, 1, fresh);
	if (n)
		return n;
	if (!chunk->used)
		chunk_free(plane, chunk);
	return -EOVERFLOW;
}

/* With @gfp for waiting, ledger->lock is not held */
static struct pin_device_chunk *device_chunk_get(struct pin_ledger *ledger,
						 unsigned long pfn, gfp_t gfp)
{
	unsigned long index = pfn >> PIN_CHUNK_SHIFT;
	struct pin_device_chunk *chunk, *there;

	chunk = xa_load(&ledger->devices, index);
	if (chunk)
		return chunk;
	chunk = kmem_cache_zalloc(pin_device_chunks, gfp);
	if (!chunk)
		return NULL;
	chunk->index = index;
	there = xa_cmpxchg(&ledger->devices, index, NULL, chunk, gfp);
	if (!there)
		return chunk;
	kmem_cache_free(pin_device_chunks, chunk);
	return xa_is_err(there) ? NULL : there;
}

static void device_chunk_put(struct pin_ledger *ledger,
			     struct pin_device_chunk *chunk)
{
	if (chunk->used)
		return;
	xa_erase(&ledger->devices, chunk->index);
	kmem_cache_free(pin_device_chunks, chunk);
}

/*
 * Device memory, whose struct pages may go at any time, or no memory. RAM that is
 * pinned goes offline only if the hardware has failed there.
 */
static bool may_be_gone(unsigned long pfn)
{
	return !pfn_to_online_page(pfn);
}

/*
 * As add_small(), for pages of device memory, in folios of any size: each page is
 * counted, so that a put finds its pins by PFN when the page is no more. Pins on
 * what was there before count against the bound, so that all fit in one counter.
 * Returns 0 if the first page does not count.
 */
static noinline long add_device(struct pin_ledger *ledger, unsigned long pfn,
				unsigned long npages)
{
	unsigned int first = pfn % PIN_CHUNK_PAGES, i, end;
	struct pin_device_chunk *chunk;
	struct dev_pagemap *pgmap;
	struct folio *folio;
	struct page *page;
	bool large;

	/* Not while the device is taken away: longterm_pins_forget() was here */
	pgmap = get_dev_pagemap(pfn, NULL);
	if (!pgmap)
		return -EFAULT;
	if (!pin_account_counts(pfn)) {
		put_dev_pagemap(pgmap);
		return 0;
	}
	chunk = device_chunk_get(ledger, pfn, PIN_GFP_LOCKED);
	if (!chunk) {
		put_dev_pagemap(pgmap);
		return -ENOMEM;
	}

	page = pfn_to_page(pfn);
	folio = page_folio(page);
	large = folio_test_large(folio);
	/* Folios are small, or have all of a chunk */
	end = min(first + npages, PIN_CHUNK_PAGES);
	for (i = first; i < end; i++, page++) {
		if (chunk->pins[i] + chunk->gone[i] == PIN_PAGE_MAX ||
		    folio_ref_count(large ? folio : page_folio(page)) >
		    PIN_REFCOUNT_MAX)
			break;
		if (!chunk->pins[i]++ && !chunk->gone[i])
			chunk->used++;
	}
	WRITE_ONCE(ledger->device_pins, ledger->device_pins + i - first);
	device_chunk_put(ledger, chunk);
	put_dev_pagemap(pgmap);
	return i > first ? (long)(i - first) : -EOVERFLOW;
}

/*
 * The order of a folio's entry: of one slot, as high in the tree as the folio
 * reaches. Its own order would take up to 31 slots more, each of which is written.
 */
static unsigned int entry_order(struct folio *folio)
{
	return rounddown(folio_order(folio), XA_CHUNK_SHIFT);
}

static long add_large(struct pin_ledger *ledger, enum pin_plane_id which,
		      struct folio *folio, unsigned long npages)
{
	struct pin_plane *plane = &ledger->planes[which];
	XA_STATE_ORDER(xas, &plane->folios, folio_pfn(folio),
		       entry_order(folio));
	unsigned long old;

	do {
		void *entry;

		xas_lock(&xas);
		entry = xas_load(&xas);
		old = entry ? xa_to_value(entry) : 0;
		if (old + npages > PIN_FOLIO_MAX ||
		    folio_ref_count(folio) > PIN_REFCOUNT_MAX)
			xas_set_err(&xas, -EOVERFLOW);
		else
			xas_store(&xas, xa_mk_value(old + npages));
		xas_unlock(&xas);
	} while (xas_nomem(&xas, PIN_GFP_LOCKED));

	if (xas_error(&xas))
		return xas_error(&xas);
	plane->pins += npages;
	charge_folio(ledger, which, folio, old, old + npages);
	return npages;
}

/* An entry without pins, if there is none */
static int reserve_large(struct pin_plane *plane, struct folio *folio)
{
	XA_STATE_ORDER(xas, &plane->folios, folio_pfn(folio),
		       entry_order(folio));

	do {
		xas_lock(&xas);
		if (!xas_load(&xas))
			xas_store(&xas, xa_mk_value(0));
		xas_unlock(&xas);
	} while (xas_nomem(&xas, GFP_KERNEL_ACCOUNT));
	return xas_error(&xas);
}

/**
 * pin_ledger_reserve() - make entries for pages, and wait for memory if need be
 * @ledger: the ledger
 * @which: the plane, but for pages of device memory
 * @pfn: the first page frame; the pages are pinned
 * @npages: how many pages
 *
 * For who was told by pin_ledger_add() that there is no memory: to call it again
 * after this, and then pin_ledger_unreserve().
 *
 * Context: Process context. May sleep; ledger->lock is not held.
 * Return: 0, or -ENOMEM.
 */
int pin_ledger_reserve(struct pin_ledger *ledger, enum pin_plane_id which,
		       unsigned long pfn, unsigned long npages)
{
	struct pin_plane *plane = &ledger->planes[which];
	unsigned long end = pfn + npages;

	for (; pfn < end; cond_resched()) {
		unsigned long index = pfn >> PIN_CHUNK_SHIFT;
		struct folio *folio;

		if (may_be_gone(pfn)) {
			if (pfn_valid(pfn) &&
			    !device_chunk_get(ledger, pfn, GFP_KERNEL_ACCOUNT))
				return -ENOMEM;
			pfn++;
			continue;
		}
		if (!pin_account_counts(pfn)) {
			pfn++;
			continue;
		}
		folio = page_folio(pfn_to_page(pfn));
		if (PageReserved(pfn_to_page(pfn))) {
			if (!device_chunk_get(ledger, pfn, GFP_KERNEL_ACCOUNT))
				return -ENOMEM;
			pfn++;
		} else if (folio_test_large(folio)) {
			if (reserve_large(plane, folio))
				return -ENOMEM;
			pfn += pages_in_folio(folio, pfn, end - pfn);
		} else {
			if (!xa_load(&plane->chunks, index) &&
			    !chunk_make(plane, index, GFP_KERNEL_ACCOUNT))
				return -ENOMEM;
			pfn++;
		}
	}
	return 0;
}

/**
 * pin_ledger_unreserve() - free the entries that have no pins
 * @ledger: the ledger
 * @which: the plane, but for pages of device memory
 * @pfn: the first page frame; the pages are still pinned
 * @npages: how many pages
 *
 * Context: Process context. May sleep; ledger->lock is held.
 */
void pin_ledger_unreserve(struct pin_ledger *ledger, enum pin_plane_id which,
			  unsigned long pfn, unsigned long npages)
{
	struct pin_plane *plane = &ledger->planes[which];
	unsigned long end = pfn + npages;

	lockdep_assert_held(&ledger->lock);

	for (; pfn < end; cond_resched()) {
		struct pin_device_chunk *device;
		struct pin_chunk *chunk;
		struct folio *folio;

		/* The device may have been taken away meanwhile */
		device = xa_load(&ledger->devices, pfn >> PIN_CHUNK_SHIFT);
		if (device)
			device_chunk_put(ledger, device);
		if (may_be_gone(pfn) || !pin_account_counts(pfn)) {
			pfn++;
			continue;
		}
		folio = page_folio(pfn_to_page(pfn));
		if (PageReserved(pfn_to_page(pfn))) {
			pfn++;
		} else if (folio_test_large(folio)) {
			xa_cmpxchg(&plane->folios, folio_pfn(folio),
				   xa_mk_value(0), NULL, 0);
			pfn += pages_in_folio(folio, pfn, end - pfn);
		} else {
			chunk = chunk_find(plane, pfn);
			if (chunk && !chunk->used)
				chunk_free(plane, chunk);
			pfn++;
		}
	}
}

/**
 * pin_ledger_charges() - tell whether pins on a frame are charged
 * @pfn: the page frame, which is pinned
 *
 * Context: Any context; does not sleep.
 * Return: false if it counts nowhere, or is device memory.
 */
bool pin_ledger_charges(unsigned long pfn)
{
	return !may_be_gone(pfn) && !PageReserved(pfn_to_page(pfn));
}

/* Add a pin to each of the first pages of a kind; 0 if the first does not count */
static __always_inline long add_first(struct pin_ledger *ledger,
				      enum pin_plane_id which,
				      unsigned long pfn, unsigned long npages)
{
	struct folio *folio;

	if (may_be_gone(pfn))
		return pfn_valid(pfn) ? add_device(ledger, pfn, npages) : 0;
	if (!pin_account_counts(pfn))
		return 0;
	if (PageReserved(pfn_to_page(pfn)))
		return add_device(ledger, pfn, npages);
	folio = page_folio(pfn_to_page(pfn));
	if (folio_test_large(folio))
		return add_large(ledger, which, folio,
				 pages_in_folio(folio, pfn, npages));
	return add_small(ledger, which, pfn, npages);
}

/**
 * pin_ledger_add() - count a pin on each of some pages
 * @ledger: the ledger
 * @which: the plane, but for pages of device memory
 * @pfn: the first page frame; the pages are pinned
 * @npages: how many pages
 *
 * All or nothing. Others do not see it before pin_ledger_commit().
 *
 * Context: Process context. May sleep, but not for memory; ledger->lock is held.
 * Return: how many of the pages count (rule 8); or
 * -EOVERFLOW: a page or folio has as many pins as it may have (rule 5).
 * -ENOMEM: no memory for an entry at once; see pin_ledger_reserve().
 * -EFAULT: the memory is of a device that is being taken away.
 */
long __flatten pin_ledger_add(struct pin_ledger *ledger,
			      enum pin_plane_id which, unsigned long pfn,
			      unsigned long npages)
{
	unsigned long done = 0, counted = 0;

	lockdep_assert_held(&ledger->lock);

	ledger->used |= BIT(which);
	while (done < npages) {
		long n = add_first(ledger, which, pfn + done, npages - done);

		if (n < 0) {
			pin_ledger_undo_all(ledger, which, pfn, done);
			return n;
		}
		done += n ?: 1;
		counted += n;
		if (done < npages)
			cond_resched();
	}
	return counted;
}

/**
 * pin_ledger_add_small() - count a pin on each of the first pages of an array
 * @ledger: the ledger
 * @which: the plane
 * @pages: the pages, which need not lie together; they are pinned
 * @npages: how many pages, at least 1
 *
 * In one step, which ends with the chunk, and before what pin_ledger_add() has to
 * see to. Others do not see it before pin_ledger_commit().
 *
 * Context: Process context; does not sleep. ledger->lock is held.
 * Return: how many pages; it may be 0, if the first is not small or not RAM; or
 * -ENOMEM: no memory for an entry at once; see pin_ledger_reserve().
 */
long pin_ledger_add_small(struct pin_ledger *ledger, enum pin_plane_id which,
			  struct page **pages, unsigned long npages)
{
	unsigned long pfn = page_to_pfn(pages[0]), base, zone, n = 0;
	struct pin_plane *plane = &ledger->planes[which];
	unsigned int first = pfn % PIN_CHUNK_PAGES;
	unsigned int fresh = 0;
	struct pin_chunk *chunk;

	lockdep_assert_held(&ledger->lock);

	/* Where there is a chunk, there is RAM */
	chunk = chunk_find(plane, pfn);
	if (!chunk && may_be_gone(pfn))
		return 0;
	zone = zone_flags(pages[0]);
	if (!is_small(pages[0], zone))
		return 0;
	if (!chunk)
		chunk = chunk_make(plane, pfn >> PIN_CHUNK_SHIFT,
				   PIN_GFP_LOCKED);
	if (!chunk)
		return -ENOMEM;

	ledger->used |= BIT(which);
	/* What other planes have is compared by runs */
	if (others_used(ledger, which))
		npages = pin_contiguous(pages, npages);
	base = pfn - first;
	while (n < npages && add_one(chunk, page_to_pfn(pages[n]) - base,
				     pages[n], zone, &fresh))
		n++;
	chunk->used += fresh;
	plane->pins += n;
	charge_small(ledger, which, chunk, pages[0], first, first + n, 1, fresh);
	return n;
}

static __always_inline int zone_of(struct page *page)
{
	/* As in zone_flags() */
	return data_race(page_zone_id(page));
}

/*
 * Take a pin off @page, if it is of @zone and has one in @chunk at @i: then it is
 * small, as rule 4 says
 */
static __always_inline bool sub_one(struct pin_chunk *chunk, unsigned long i,
				    struct page *page, int zone,
				    unsigned int *gone)
{
	if (i >= PIN_CHUNK_PAGES || !chunk->pins[i] || zone_of(page) != zone)
		return false;
	if (!--chunk->pins[i])
		(*gone)++;
	return true;
}

static __always_inline unsigned long sub_small(struct pin_ledger *ledger,
					       enum pin_plane_id which,
					       unsigned long pfn,
					       unsigned long npages)
{
	struct pin_plane *plane = &ledger->planes[which];
	unsigned int first = pfn % PIN_CHUNK_PAGES, gone = 0;
	struct pin_chunk *chunk = chunk_find(plane, pfn);
	struct page *start = pfn_to_page(pfn);
	int zone = zone_of(start);
	unsigned long n = 0;

	if (!chunk)
		return 0;
	while (n < npages && sub_one(chunk, first + n, start + n, zone, &gone))
		n++;
	chunk->used -= gone;
	plane->pins -= n;
	charge_small(ledger, which, chunk, start, first, first + n, 0, gone);
	if (!chunk->used)
		chunk_free(plane, chunk);
	return n;
}

/**
 * pin_ledger_sub_small() - take a pin off each of some pages that lie alone
 * @ledger: the ledger
 * @which: the plane
 * @extents: the pages, which are still pinned
 * @nr: how many extents, at least 1
 * @flags: PIN_SUB_*
 * @pages: set to the pages, room for @nr
 *
 * In one step, which ends with the chunk, and before what pin_ledger_sub() has to
 * see to: extents of more pages, and all but small pages that are pinned.
 *
 * Context: Process context. ledger->lock is held.
 * Return: how many extents; it may be 0.
 */
unsigned int pin_ledger_sub_small(struct pin_ledger *ledger,
				  enum pin_plane_id which,
				  const struct pin_extent *extents,
				  unsigned int nr, unsigned int flags,
				  struct page **pages)
{
	struct pin_plane *plane = &ledger->planes[which];
	unsigned int first = extents[0].pfn % PIN_CHUNK_PAGES;
	unsigned long base = extents[0].pfn - first;
	unsigned int gone = 0, n = 0;
	struct pin_chunk *chunk;
	int zone;

	lockdep_assert_held(&ledger->lock);

	/* Pins that went with a device come first */
	if (extents[0].npages > 1 || (unlikely(ledger->gone_pins) && !flags))
		return 0;
	chunk = chunk_find(plane, extents[0].pfn);
	if (!chunk || !chunk->pins[first])
		return 0;

	/* As in pin_ledger_add_small() */
	if (others_used(ledger, which))
		nr = 1;
	zone = zone_of(pfn_to_page(extents[0].pfn));
	while (n < nr && extents[n].npages == 1) {
		pages[n] = pfn_to_page(extents[n].pfn);
		if (!sub_one(chunk, extents[n].pfn - base, pages[n], zone,
			     &gone))
			break;
		n++;
	}
	chunk->used -= gone;
	plane->pins -= n;
	charge_small(ledger, which, chunk, pages[0], first, first + n, 0, gone);
	if (!chunk->used)
		chunk_free(plane, chunk);
	return n;
}

/* By PFN alone. Takes pins of one kind: @gone, or not */
static unsigned long sub_device(struct pin_ledger *ledger, unsigned long pfn,
				unsigned long npages, bool gone)
{
	unsigned int first = pfn % PIN_CHUNK_PAGES, i, end;
	struct pin_device_chunk *chunk;
	u16 *pins, *others;

	chunk = xa_load(&ledger->devices, pfn >> PIN_CHUNK_SHIFT);
	if (!chunk)
		return 0;

	pins = gone ? chunk->gone : chunk->pins;
	others = gone ? chunk->pins : chunk->gone;
	end = min(first + npages, PIN_CHUNK_PAGES);
	for (i = first; i < end && pins[i]; i++)
		if (!--pins[i] && !others[i])
			chunk->used--;
	WRITE_ONCE(ledger->device_pins, ledger->device_pins - (i - first));
	if (gone)
		ledger->gone_pins -= i - first;
	device_chunk_put(ledger, chunk);
	return i - first;
}

static __always_inline unsigned long sub_large(struct pin_ledger *ledger,
					       enum pin_plane_id which,
					       struct folio *folio,
					       unsigned long npages)
{
	struct pin_plane *plane = &ledger->planes[which];
	XA_STATE_ORDER(xas, &plane->folios, folio_pfn(folio),
		       entry_order(folio));
	unsigned long old, new;
	void *entry;

	xas_lock(&xas);
	entry = xas_load(&xas);
	old = entry ? xa_to_value(entry) : 0;
	npages = min(npages, old);
	new = old - npages;
	if (npages)
		xas_store(&xas, new ? xa_mk_value(new) : NULL);
	xas_unlock(&xas);
	plane->pins -= npages;
	charge_folio(ledger, which, folio, old, new);
	return npages;
}

/*
 * The pins in a chunk of device memory go with its pages. Whoever has taken them
 * has not put them yet, so their number is kept.
 */
static void forget_chunk(struct pin_ledger *ledger,
			 struct pin_device_chunk *chunk,
			 struct pglist_data *pgdat)
{
	unsigned long pins = 0;
	unsigned int i;

	/* add_device() saw to it that they fit */
	for (i = 0; i < PIN_CHUNK_PAGES; i++) {
		pins += chunk->pins[i];
		chunk->gone[i] += chunk->pins[i];
		chunk->pins[i] = 0;
	}
	ledger->gone_pins += pins;
	ledger->went |= pins;
	mod_node_page_state(pgdat, NR_FOLL_PIN_RELEASED, pins);
}

/*
 * Pins on device memory. While it is taken away nobody may touch the pages any
 * more: then its pins go here, before longterm_pins_forget() comes.
 */
static noinline void take_device(struct pin_ledger *ledger, unsigned long pfn,
				 unsigned long npages, struct pin_step *step)
{
	struct pin_device_chunk *chunk;

	step->pgmap = get_dev_pagemap(pfn, NULL);
	if (step->pgmap) {
		step->counted = sub_device(ledger, pfn, npages, false);
		return;
	}
	chunk = xa_load(&ledger->devices, pfn >> PIN_CHUNK_SHIFT);
	if (chunk)
		forget_chunk(ledger, chunk, page_pgdat(pfn_to_page(pfn)));
	step->counted = sub_device(ledger, pfn, npages, true);
	step->gone = step->counted;
}

static noinline unsigned long take_gone(struct pin_ledger *ledger,
					unsigned long pfn, unsigned long npages,
					struct pin_step *step)
{
	step->counted = sub_device(ledger, pfn, npages, true);
	step->gone = step->counted;
	return step->counted;
}

/* Pages from @pfn on, at most @npages, that have no pins that went with a device */
static noinline unsigned long pages_before_gone(struct pin_ledger *ledger,
						unsigned long pfn,
						unsigned long npages)
{
	unsigned long at = pfn, end = pfn + npages, next;

	for (; at < end; at = next) {
		struct pin_device_chunk *chunk;

		next = min(ALIGN(at + 1, PIN_CHUNK_PAGES), end);
		chunk = xa_load(&ledger->devices, at >> PIN_CHUNK_SHIFT);
		for (; chunk && at < next; at++)
			if (chunk->gone[at % PIN_CHUNK_PAGES])
				return at - pfn;
		cond_resched();
	}
	return npages;
}

/* The rare cases of pin_ledger_sub(): there are fewer pins of that kind */
static noinline void sub_rare(struct pin_ledger *ledger,
			      enum pin_plane_id which, unsigned long pfn,
			      unsigned long npages, unsigned int flags,
			      struct pin_step *step)
{
	struct folio *folio = page_folio(pfn_to_page(pfn));
	enum pin_plane_id i;

	if (flags & PIN_SUB_UNDO) {
		if (!step->counted)
			take_gone(ledger, pfn, npages, step);
		return;
	}
	/*
	 * A holder whose pins had gone finds none of its kind, if one of another
	 * kind has put first and taken them
	 */
	for (i = 0; ledger->went && i < PIN_PLANE_NR; i++) {
		unsigned long left = npages - step->counted, n;

		if (i == which || !left)
			continue;
		/* Of small pages there is one here */
		n = folio_test_large(folio) ?
		    sub_large(ledger, i, folio, left) :
		    sub_small(ledger, i, pfn, left);
		step->counted += n;
		step->swapped |= n;
	}
}

/**
 * pin_ledger_sub() - take a pin off each of some pages, as far as one step goes
 * @ledger: the ledger
 * @which: the plane, but for pages of device memory
 * @pfn: the first page frame; the pages are still pinned
 * @npages: how many pages, at least 1
 * @flags: PIN_SUB_*
 * @step: set to what was taken off
 *
 * A step ends with the folio, or with a run of small pages that lie together, or
 * with one of frames that do not count, of which it has a batch at most.
 *
 * Pins that went with a device come first, whatever is in that place now: for who
 * may have such pins. If he has pinned that as well, it does not matter which he
 * puts first: the last unpins. PIN_SUB_UNDO takes pins on what is there, as its
 * caller has pinned just that and will unpin it by itself.
 *
 * Context: Process context. May sleep; ledger->lock is held.
 * Return: how many pages the step covers, at least 1.
 */
unsigned long __flatten pin_ledger_sub(struct pin_ledger *ledger,
				       enum pin_plane_id which,
				       unsigned long pfn, unsigned long npages,
				       unsigned int flags,
				       struct pin_step *step)
{
	unsigned long covered;
	struct folio *folio;
	struct page *page;

	lockdep_assert_held(&ledger->lock);

	step->counted = 0;
	step->gone = false;
	step->swapped = false;
	step->pgmap = NULL;
	if (unlikely(ledger->gone_pins) && !flags) {
		if (take_gone(ledger, pfn, npages, step))
			return step->counted;
		npages = pages_before_gone(ledger, pfn,
					   min(npages, PIN_BATCH_PAGES));
	}

	if (!pin_account_counts(pfn)) {
		if (unlikely(ledger->gone_pins) && !(flags & PIN_SUB_NOT_GONE)) {
			take_gone(ledger, pfn, npages, step);
			return max(step->counted, 1);
		}
		npages = min(npages, PIN_BATCH_PAGES);
		for (covered = 1; covered < npages; covered++)
			if (pin_account_counts(pfn + covered))
				break;
		return covered;
	}

	page = pfn_to_page(pfn);
	folio = page_folio(page);
	if (unlikely(PageReserved(page))) {
		take_device(ledger, pfn, npages, step);
		covered = max(step->counted, 1);
	} else if (folio_test_large(folio)) {
		covered = pages_in_folio(folio, pfn, npages);
		step->counted = sub_large(ledger, which, folio, covered);
	} else {
		step->counted = sub_small(ledger, which, pfn, npages);
		covered = max(step->counted, 1);
	}
	if (likely(step->counted == covered))
		return covered;
	sub_rare(ledger, which, pfn, covered, flags, step);
	WARN_ONCE(step->counted < covered,
		  "pin_ledger: %lu pages at PFN %#lx put but not pinned\n",
		  covered - step->counted, pfn + step->counted);
	return covered;
}

/**
 * pin_ledger_undo_all() - take off what pin_ledger_add() has just added
 * @ledger: the ledger
 * @which: the plane, but for pages of device memory
 * @pfn: the first page frame; the pages are still pinned
 * @npages: how many pages
 *
 * Context: Process context. May sleep; ledger->lock is held.
 */
void pin_ledger_undo_all(struct pin_ledger *ledger, enum pin_plane_id which,
			 unsigned long pfn, unsigned long npages)
{
	while (npages) {
		struct pin_step step;
		unsigned long n = 1;

		/* It has added nothing there; and no device goes meanwhile */
		if (pin_account_counts(pfn)) {
			n = pin_ledger_sub(ledger, which, pfn, npages,
					   PIN_SUB_UNDO, &step);
			put_dev_pagemap(step.pgmap);
		}
		pfn += n;
		npages -= n;
		cond_resched();
	}
}

/**
 * pin_ledger_any_gone() - tell whether pages have pins that went with a device
 * @ledger: the ledger
 * @pfn: the first page frame
 * @npages: how many pages
 *
 * Context: Process context. May sleep; ledger->lock is held.
 * Return: whether one of them has.
 */
bool pin_ledger_any_gone(struct pin_ledger *ledger, unsigned long pfn,
			 unsigned long npages)
{
	lockdep_assert_held(&ledger->lock);

	return ledger->gone_pins && pages_before_gone(ledger, pfn, npages) < npages;
}

#ifdef CONFIG_ZONE_DEVICE
static void ledger_forget(struct pin_ledger *ledger, unsigned long pfn,
			  unsigned long npages)
{
	unsigned long index, last = (pfn + npages - 1) >> PIN_CHUNK_SHIFT;
	struct pglist_data *pgdat = page_pgdat(pfn_to_page(pfn));
	struct pin_device_chunk *chunk;

	guard(mutex)(&ledger->lock);
	xa_for_each_range(&ledger->devices, index, chunk,
			  pfn >> PIN_CHUNK_SHIFT, last) {
		forget_chunk(ledger, chunk, pgdat);
		device_chunk_put(ledger, chunk);
		cond_resched();
	}
}

/* The account with that id or the next one, its ledger with a reference */
static struct pin_ledger *next_ledger(unsigned long *id)
{
	struct pin_account *acct;

	guard(rcu)();
	xa_for_each_start(&pin_accounts, *id, acct, *id) {
		if (READ_ONCE(acct->ledger->device_pins) &&
		    refcount_inc_not_zero(&acct->ledger->refs))
			return acct->ledger;
	}
	return NULL;
}

/**
 * longterm_pins_forget() - forget the pins on device memory that is taken away
 * @pfn: the first page frame; its page is still there
 * @npages: how many pages
 *
 * Pins do not keep a device: when it is unbound, its pages go. Nobody can get one
 * any more when this is called. So who puts such a page later unpins nothing:
 * not the page that is gone, and not what may have come to its place.
 *
 * Context: Process context. May sleep; takes ledger->lock of each ledger that has
 * device memory, one after the other.
 */
void longterm_pins_forget(unsigned long pfn, unsigned long npages)
{
	struct pin_ledger *ledger;
	unsigned long id = 0;

	while (npages && (ledger = next_ledger(&id))) {
		ledger_forget(ledger, pfn, npages);
		pin_ledger_put(ledger);
		id++;
		cond_resched();
	}
}
#endif

/* NULL where the limit is not compared here */
static bool limit_applies(const struct pin_owner *owner)
{
	return owner && !owner->lock_cap &&
	       task_rlimit(owner->task, RLIMIT_MEMLOCK) != RLIM_INFINITY;
}

/**
 * pin_ledger_lock() - lock a ledger, to pin for an owner
 * @ledger: the ledger
 * @owner: whose limit applies; NULL if no limit does
 * @locked: set to the mm whose mmap_lock was taken; NULL if it is not needed
 *
 * Context: Process context. May sleep; takes mmap_lock for reading, and in it
 * ledger->lock, until pin_ledger_unlock().
 * Return: 0; or -EINTR: a fatal signal came.
 */
int pin_ledger_lock(struct pin_ledger *ledger, const struct pin_owner *owner,
		    struct mm_struct **locked)
{
	struct mm_struct *mm;

	*locked = NULL;
	if (!limit_applies(owner)) {
		mutex_lock(&ledger->lock);
		return 0;
	}

	for (;;) {
		/* current keeps its own */
		rcu_read_lock();
		mm = READ_ONCE(ledger->mm);
		if (mm != current->mm)
			mmgrab(mm);
		rcu_read_unlock();
		if (mmap_read_lock_killable(mm)) {
			if (mm != current->mm)
				mmdrop(mm);
			return -EINTR;
		}
		mutex_lock(&ledger->lock);
		*locked = mm;
		if (likely(ledger->mm == mm))
			return 0;
		pin_ledger_unlock(ledger, mm);
	}
}

/**
 * pin_ledger_unlock() - undo pin_ledger_lock()
 * @ledger: the ledger
 * @locked: what that set
 *
 * Context: Process context.
 */
void pin_ledger_unlock(struct pin_ledger *ledger, struct mm_struct *locked)
{
	mutex_unlock(&ledger->lock);
	if (!locked)
		return;
	mmap_read_unlock(locked);
	if (locked != current->mm)
		mmdrop(locked);
}

/*
 * Charge the cgroup for what is held. Each charge walks all cgroups above. So as
 * far as the request goes, take a step where there is room; pin_ledger_settle()
 * gives back what is left of it, of memory that was held before. In a move, the
 * cgroups that both ledgers are in are charged already, by the other one.
 */
static int commit_held(struct pin_ledger *ledger, unsigned long left,
		       struct pin_move *move, struct misc_cg **full)
{
	struct misc_cg *end = move ? move->common : NULL;
	unsigned long need, step;
	int ret;

	if (ledger->held <= ledger->in_cgroup)
		return 0;
	need = ledger->held - ledger->in_cgroup;
	step = move ? need : max(need, min(left, PIN_CGROUP_STEP));
	ret = pin_cgroup_charge(ledger->cgroup, end, step, full);
	if (ret && step > need) {
		step = need;
		ret = pin_cgroup_charge(ledger->cgroup, end, step, full);
	}
	if (ret)
		return ret;
	WRITE_ONCE(ledger->in_cgroup, ledger->in_cgroup + step);
	if (move)
		move->owed += step;
	return 0;
}

/*
 * Add to a counter that others change as well, unless that would be more than
 * @max. What does not fit is not added for a moment either. Stock code may have
 * made it less than 0.
 */
static bool add_pinned(struct mm_struct *mm, long more, long max)
{
	s64 now = atomic64_read(&mm->pinned_vm);

	do {
		if (more > 0 && now + more > max)
			return false;
	} while (!atomic64_try_cmpxchg(&mm->pinned_vm, &now, now + more));
	return true;
}

static bool add_user(struct user_struct *user, long more, long max)
{
	atomic_long_t *counter = pin_user_counter(user);
	long now = atomic_long_read(counter);

	do {
		if (more > 0 && now + more > max)
			return false;
	} while (!atomic_long_try_cmpxchg(counter, &now, now + more));
	return true;
}

/* The most that RLIMIT_MEMLOCK allows, in pages */
static long owner_max(const struct pin_owner *owner)
{
	return limit_applies(owner) ?
	       task_rlimit(owner->task, RLIMIT_MEMLOCK) >> PAGE_SHIFT : LONG_MAX;
}

/* Publish what is part of @counter, unless that makes it more than @max */
static bool publish(struct pin_ledger *ledger, enum pin_counter counter,
		    long max)
{
	unsigned long due = pin_ledger_due(ledger, counter);
	long more = due - ledger->published[counter];
	bool done;

	if (!more)
		return true;
	done = counter == PIN_COUNTER_PINNED ?
	       add_pinned(ledger->mm, more, max) :
	       add_user(ledger->user, more, max);
	if (done)
		WRITE_ONCE(ledger->published[counter], due);
	return done;
}

/**
 * pin_ledger_publish_shared() - publish in the counters that others change as well
 * @ledger: the ledger
 *
 * Context: Process context. ledger->lock is held.
 */
void pin_ledger_publish_shared(struct pin_ledger *ledger)
{
	publish(ledger, PIN_COUNTER_PINNED, LONG_MAX);
	if (ledger->user)
		publish(ledger, PIN_COUNTER_USER, LONG_MAX);
}

/* Is there room for what was added, @npages for a second user? It changes nothing */
static bool has_room(struct pin_account *acct, const struct pin_owner *owner,
		     unsigned long npages)
{
	struct pin_ledger *ledger = acct->ledger;
	enum pin_counter limit = acct->limit;
	long more, now;

	if (!limit_applies(owner) ||
	    (limit == PIN_COUNTER_NR && !acct->second))
		return true;
	if (acct->second) {
		more = npages;
		now = atomic_long_read(pin_user_counter(acct->user));
	} else if (limit == PIN_COUNTER_LOCKED) {
		more = pin_ledger_due(ledger, limit) - ledger->mm->pin_charge;
		now = mm_locked_pages(ledger->mm);
	} else {
		more = pin_ledger_due(ledger, limit) - ledger->published[limit];
		now = limit == PIN_COUNTER_PINNED ?
		      atomic64_read(&ledger->mm->pinned_vm) :
		      atomic_long_read(pin_user_counter(ledger->user));
	}
	return more <= 0 || now + more <= owner_max(owner);
}

/* Publish where somebody else may have taken the room meanwhile */
static bool publish_limited(struct pin_account *acct,
			    const struct pin_owner *owner, unsigned long npages)
{
	if (acct->second)
		return add_user(acct->user, npages, owner_max(owner));
	/* mmap_lock keeps that of VmLck */
	if (acct->limit == PIN_COUNTER_LOCKED || acct->limit == PIN_COUNTER_NR)
		return true;
	return publish(acct->ledger, acct->limit, owner_max(owner));
}

/**
 * pin_user_uncharge() - count fewer pages for a user who is not the ledger's
 * @user: the user
 * @npages: how many pages
 *
 * Context: Any context; does not sleep.
 */
void pin_user_uncharge(struct user_struct *user, unsigned long npages)
{
	atomic_long_sub(npages, pin_user_counter(user));
}

/**
 * pin_ledger_commit() - compare what was added with the limits, and publish it
 * @acct: the account that added it to its ledger
 * @owner: whose RLIMIT_MEMLOCK applies, if there is a counter for it
 * @npages: pages that were added for the user of the account, if that is a second one
 * @left: pages that the request has yet to pin, and those just added
 * @move: of the move that adds them; or NULL
 * @full: set to the cgroup that has no room, if that is the reason
 *
 * If it fails, the caller takes off again what it added, before it unlocks, and
 * settles.
 *
 * Context: Process context; does not sleep. The locks of pin_ledger_lock() are
 * held.
 * Return: 0; or
 * -ENOMEM: RLIMIT_MEMLOCK does not allow it.
 * -EBUSY: the limit of the cgroup, or of one above it, does not allow it.
 */
int pin_ledger_commit(struct pin_account *acct, const struct pin_owner *owner,
		      unsigned long npages, unsigned long left,
		      struct pin_move *move, struct misc_cg **full)
{
	struct pin_ledger *ledger = acct->ledger;
	int ret;

	lockdep_assert_held(&ledger->lock);

	if (!has_room(acct, owner, npages))
		return -ENOMEM;
	ret = commit_held(ledger, left, move, full);
	if (ret)
		return ret;
	if (!publish_limited(acct, owner, npages))
		return -ENOMEM;
	pin_ledger_publish(ledger);
	return 0;
}

/*
 * A cgroup gets something back. What a move owes is given back only to those that
 * the other ledger is not in. One that is not below the common cgroup, since the
 * ledger was adopted meanwhile, owes nothing.
 */
static void uncharge(struct misc_cg *cg, unsigned long npages,
		     struct pin_move *move)
{
	unsigned long n = 0;

	if (move && pin_cgroup_common(cg, move->common) == move->common)
		n = min(npages, move->owed);
	if (n) {
		pin_cgroup_uncharge(cg, move->common, n);
		move->owed -= n;
	}
	pin_cgroup_uncharge(cg, NULL, npages - n);
}

static unsigned long in_past(struct pin_ledger *ledger)
{
	struct pin_past_cgroup *past;
	unsigned long npages = 0;

	list_for_each_entry(past, &ledger->past, list)
		npages += past->npages;
	return npages;
}

/* The cgroups of before an adoption get back @npages, the oldest last */
static void settle_past(struct pin_ledger *ledger, unsigned long npages,
			struct pin_move *move)
{
	struct pin_past_cgroup *past, *next;

	list_for_each_entry_safe_reverse(past, next, &ledger->past, list) {
		unsigned long n = min(npages, past->npages);

		uncharge(past->cgroup, n, move);
		npages -= n;
		past->npages -= n;
		if (past->npages)
			break;
		list_del(&past->list);
		put_misc_cg(past->cgroup);
		kfree(past);
	}
}

/**
 * pin_ledger_common_cgroup() - find the nearest cgroup above all that two ledgers
 *	are charged to
 * @from: a ledger; ledger->lock is held
 * @to: another one, or the same; it cannot be adopted meanwhile
 *
 * Context: Process context; does not sleep.
 * Return: that cgroup, which one of them may be in; or NULL.
 */
struct misc_cg *pin_ledger_common_cgroup(struct pin_ledger *from,
					 struct pin_ledger *to)
{
	struct misc_cg *common = pin_cgroup_common(from->cgroup, to->cgroup);
	struct pin_past_cgroup *past;

	lockdep_assert_held(&from->lock);

	list_for_each_entry(past, &from->past, list)
		common = pin_cgroup_common(common, past->cgroup);
	return common;
}

/**
 * pin_ledger_settle() - give the cgroup back what is no longer held
 * @ledger: the ledger
 * @move: of a move that has just taken pins out; or NULL
 *
 * Context: Process context. ledger->lock is held.
 */
void pin_ledger_settle(struct pin_ledger *ledger, struct pin_move *move)
{
	unsigned long npages, n;

	lockdep_assert_held(&ledger->lock);

	pin_ledger_count_node(ledger);
	if (ledger->in_cgroup == ledger->held)
		return;
	npages = ledger->in_cgroup - ledger->held;
	n = min(npages, ledger->in_cgroup - in_past(ledger));
	uncharge(ledger->cgroup, n, move);
	settle_past(ledger, npages - n, move);
	WRITE_ONCE(ledger->in_cgroup, ledger->held);
}

/**
 * pin_account_name_process() - let reports name the current process
 * @acct: the account; nobody knows it yet, or ledger->lock is held
 */
void pin_account_name_process(struct pin_account *acct)
{
	WRITE_ONCE(acct->pid, task_tgid_nr(current));
	get_task_comm(acct->comm, current->group_leader);
}

/*
 * Pins of other accounts in @counter, that nobody will have claimed when @mm has
 * @acct
 */
static unsigned long pins_unclaimed(struct pin_account *acct,
				    enum pin_counter counter,
				    struct mm_struct *mm)
{
	unsigned int planes = pin_counter_planes(counter);
	struct pin_ledger *ledger = acct->ledger;
	struct pin_account *other;
	unsigned long pins = 0;

	list_for_each_entry(other, &ledger->accounts, in_ledger)
		if (other != acct && planes & BIT(other->plane) &&
		    (other->unclaimed || ledger->mm != mm))
			pins += other->counted;
	return pins;
}

/* @unclaimed: pins in VmLck that nobody will have claimed */
static int may_adopt(struct pin_account *acct, const struct pin_owner *owner,
		     struct mm_struct *mm, unsigned long unclaimed)
{
	struct pin_ledger *ledger = acct->ledger;
	unsigned long due;

	if (ledger->mm != mm && pin_mm_has_process(ledger->mm))
		return -EBUSY;
	if (ledger->mm != mm && rcu_access_pointer(mm->pin_ledger))
		return -EEXIST;
	due = min(pin_ledger_charge(ledger, PIN_COUNTER_LOCKED),
		  pin_ledger_pins(ledger, PIN_COUNTER_LOCKED) - unclaimed);
	if (due > mm->pin_charge && limit_applies(owner) &&
	    due + mm->locked_vm > owner_max(owner))
		return -ENOMEM;
	return 0;
}

/* From now on, what grows is charged to the cgroup of the current process */
static void change_cgroup(struct pin_ledger *ledger,
			  struct pin_past_cgroup **spare)
{
	struct misc_cg *old = ledger->cgroup, *new = get_current_misc_cg();
	unsigned long npages = ledger->in_cgroup - in_past(ledger);
	struct pin_past_cgroup *past;

	if (new == old) {
		put_misc_cg(new);
		return;
	}
	WRITE_ONCE(ledger->cgroup, new);
	/* What it is charged from before is as what comes now */
	list_for_each_entry(past, &ledger->past, list) {
		if (past->cgroup == new) {
			list_del(&past->list);
			put_misc_cg(new);
			kfree(past);
			break;
		}
	}
	if (!npages) {
		put_misc_cg(old);
		return;
	}
	(*spare)->cgroup = old;
	(*spare)->npages = npages;
	list_add_tail(&(*spare)->list, &ledger->past);
	*spare = NULL;
}

static void give_ledger(struct pin_ledger *ledger, struct mm_struct *mm,
			struct pin_past_cgroup **spare)
{
	struct mm_struct *old = ledger->mm;
	struct pin_account *acct;

	list_for_each_entry(acct, &ledger->accounts, in_ledger)
		WRITE_ONCE(acct->unclaimed, true);
	mmgrab(mm);
	RCU_INIT_POINTER(old->pin_ledger, NULL);
	WRITE_ONCE(old->pin_charge, 0);
	add_pinned(old, -(long)ledger->published[PIN_COUNTER_PINNED], LONG_MAX);
	WRITE_ONCE(ledger->published[PIN_COUNTER_PINNED], 0);
	/* For pin_account_mm(): no account is of the new mm by mistake */
	smp_store_release(&ledger->mm, mm);
	rcu_assign_pointer(mm->pin_ledger, ledger);
	change_cgroup(ledger, spare);
}

/**
 * pin_ledger_adopt() - let another mm own an account, and its ledger
 * @acct: an account with whose mm no process runs any more
 * @owner: whose limit applies from now on
 * @mm: the new mm, which is current->mm
 *
 * The pins stay as they are, whatever their number; what is charged for those of
 * @acct to RLIMIT_MEMLOCK moves. Other accounts of the ledger come along, but are
 * not charged until they are adopted, too.
 *
 * Context: Process context. May sleep; takes the mmap_lock of @mm,
 * pin_ledgers_lock and ledger->lock.
 * Return: 0, also if @mm owns the account already; or, with nothing changed,
 * -EINVAL: the account is part of another counter than VmLck.
 * -EBUSY: a process runs with the ledger's mm, see pin_mm_has_process().
 * -EEXIST: @mm has another ledger.
 * -ENOMEM: RLIMIT_MEMLOCK does not allow it, or no memory.
 * -EINTR: a fatal signal came.
 */
int pin_ledger_adopt(struct pin_account *acct, const struct pin_owner *owner,
		     struct mm_struct *mm)
{
	struct pin_ledger *ledger = acct->ledger;
	struct pin_past_cgroup *spare;
	struct mm_struct *old;
	unsigned long unclaimed[PIN_COUNTER_NR] = {};
	int ret = 0;

	if (WARN_ON_ONCE(acct->limit != PIN_COUNTER_LOCKED ||
			 acct->plane != PIN_PLANE_LOCKED))
		return -EINVAL;
	spare = kmalloc(sizeof(*spare), GFP_KERNEL_ACCOUNT);
	if (!spare)
		return -ENOMEM;
	if (mmap_read_lock_killable(mm)) {
		kfree(spare);
		return -EINTR;
	}
	mutex_lock(&pin_ledgers_lock);
	mutex_lock(&ledger->lock);
	old = ledger->mm;
	if (old != mm || acct->unclaimed) {
		/* The user's counter stays as it is: it is no part of the mm */
		unclaimed[PIN_COUNTER_LOCKED] =
			pins_unclaimed(acct, PIN_COUNTER_LOCKED, mm);
		unclaimed[PIN_COUNTER_PINNED] =
			pins_unclaimed(acct, PIN_COUNTER_PINNED, mm);
		ret = may_adopt(acct, owner, mm, unclaimed[PIN_COUNTER_LOCKED]);
		if (!ret) {
			/* What has been put makes no room in the old cgroup */
			pin_ledger_settle(ledger, NULL);
			if (old != mm)
				give_ledger(ledger, mm, &spare);
			memcpy(ledger->unclaimed, unclaimed, sizeof(unclaimed));
			WRITE_ONCE(acct->unclaimed, false);
			pin_account_name_process(acct);
			pin_ledger_publish(ledger);
		}
	}
	mutex_unlock(&ledger->lock);
	mutex_unlock(&pin_ledgers_lock);
	mmap_read_unlock(mm);
	kfree(spare);

	if (old != mm && !ret) {
		/* A reader may still look at it */
		synchronize_rcu();
		mmdrop(old);
	}
	return ret;
}

#include "tests/pin_ledger_kunit.h"
