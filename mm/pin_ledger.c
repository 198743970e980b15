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
 *  1. charge(folio) = min(pins, pages of the folio). It is never below the
 *     number of distinct pages pinned and never above the size of the folio;
 *     it is exact when pins do not overlap or when one holder pins the whole
 *     folio, and an upper bound otherwise.
 *  2. ledger->charge is the sum of all charge(folio), ledger->held the sum of
 *     the sizes of folios with any pin. Both are 0 when nothing is pinned, and
 *     then the ledger has no entry.
 *  3. The charge is part of mm->locked_vm, so that every other check of
 *     RLIMIT_MEMLOCK stays right. It is committed there in steps, to take
 *     mmap_lock seldom: ledger->committed >= ledger->charge whenever no pin is
 *     under way, and they are equal when each holder has settled.
 *  4. An entry changes only while its folio is pinned: before the first entry
 *     comes the pin, and the entry goes before the last unpin. A pinned folio
 *     is neither split nor freed, so folio and size found again are the same.
 *  5. Charging once takes away what bounded reference counts, the limit that N
 *     mappings of a page ran into. So pins are bounded here, to PIN_PAGE_MAX,
 *     PIN_FOLIO_MAX and PIN_REFCOUNT_MAX.
 *  6. Taking pins off never fails and never allocates. More than are there are
 *     not taken off: that is a bug of the holder, which is told.
 *  7. Pages of device memory, as device-dax has them, are counted but neither
 *     charged nor held: they are no memory that anybody else could use.
 *  8. Frames without a struct page, and all other reserved pages, are not
 *     counted. Holders that remember only PFNs may put them all the same. So no
 *     pin is given on them: nothing would end it.
 *  9. What is held is charged to the cgroup in which the ledger was made, in
 *     steps: ledger->in_cgroup >= ledger->held whenever no pin is under way, and
 *     they are equal when each holder has settled. The cgroup stays the same,
 *     wherever processes go.
 * 10. A limit refuses only what makes charge or held grow. What is pinned
 *     already may be pinned again.
 *
 * Large folios have an entry each, order-0 pages a counter each. Counters come
 * in chunks: with an entry for each 4K page, the tree would cost a quarter of
 * the time that it takes to map memory for a device.
 *
 * Locks: ledger->lock > mmap_lock, and ledger->lock > pin_ledgers_lock, in which
 * nothing is waited for. A pin or a put takes nothing that another ledger has,
 * but for a spinlock once in a step that is charged to the cgroups.
 */

#include <linux/export.h>
#include <linux/init.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/vmstat.h>

#include "pin_ledger.h"

/* Guards mm->pin_ledger, references of ledgers, and the list of accounts */
DEFINE_MUTEX(pin_ledgers_lock);
LIST_HEAD(pin_accounts);

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

/* kmalloc() would take twice the size for it */
static struct kmem_cache *pin_chunks;

static int __init pin_chunks_init(void)
{
	pin_chunks = KMEM_CACHE(pin_chunk, SLAB_PANIC | SLAB_ACCOUNT);
	return 0;
}
subsys_initcall(pin_chunks_init);

static void ledger_free(struct pin_ledger *ledger)
{
	put_misc_cg(ledger->cgroup);
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

	if (ledger)
		return ledger;

	new = kzalloc(sizeof(*new), GFP_KERNEL_ACCOUNT);
	if (!new)
		return NULL;
	mutex_init(&new->lock);
	init_rwsem(&new->moving);
	xa_init_flags(&new->folios, XA_FLAGS_ACCOUNT);
	xa_init_flags(&new->chunks, XA_FLAGS_ACCOUNT);
	INIT_LIST_HEAD(&new->accounts);
	new->mm = mm;
	new->cgroup = get_current_misc_cg();

	mutex_lock(&pin_ledgers_lock);
	ledger = mm->pin_ledger;
	if (!ledger) {
		mmgrab(mm);
		new->number = ++last_number;
		mm->pin_ledger = new;
		swap(ledger, new);
	}
	ledger->refs++;
	mutex_unlock(&pin_ledgers_lock);

	if (new)
		ledger_free(new);
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
 * Context: Process context. May sleep; takes pin_ledgers_lock.
 * Return: the ledger with a reference, or NULL.
 */
struct pin_ledger *pin_ledger_find(struct mm_struct *mm)
{
	struct pin_ledger *ledger;

	guard(mutex)(&pin_ledgers_lock);
	ledger = mm->pin_ledger;
	if (ledger)
		ledger->refs++;
	return ledger;
}

/**
 * pin_ledger_put() - give back a reference on a ledger
 * @ledger: the ledger; freed with its last reference, when it is settled
 *
 * Context: Process context. May sleep; takes pin_ledgers_lock.
 */
void pin_ledger_put(struct pin_ledger *ledger)
{
	mutex_lock(&pin_ledgers_lock);
	if (--ledger->refs) {
		mutex_unlock(&pin_ledgers_lock);
		return;
	}
	ledger->mm->pin_ledger = NULL;
	mutex_unlock(&pin_ledgers_lock);

	WARN_ON(ledger->charge || ledger->held || ledger->committed ||
		ledger->in_cgroup);
	WARN_ON(has_entries(&ledger->folios) || has_entries(&ledger->chunks));
	xa_destroy(&ledger->folios);
	xa_destroy(&ledger->chunks);
	mmdrop(ledger->mm);
	ledger_free(ledger);
}

/**
 * pin_ledger_mm() - get the memory that a ledger is about
 * @ledger: the ledger
 *
 * Context: Process context. May sleep; takes ledger->lock.
 * Return: the mm, which the caller gives back with mmput(); or NULL if it is
 * dead.
 */
struct mm_struct *pin_ledger_mm(struct pin_ledger *ledger)
{
	guard(mutex)(&ledger->lock);
	return mmget_not_zero(ledger->mm) ? ledger->mm : NULL;
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
bool pin_account_counts(unsigned long pfn)
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

/*
 * How many small pages, at most @max, from @first on are of one node. Pages of
 * device memory, which are all reserved, are a run each. Page flags have the
 * zone, so one look at them says nearly all.
 */
static unsigned int run_length(struct page *first, unsigned int max)
{
	const int zone = page_zone_id(first);
	unsigned int n = 1;

	if (PageReserved(first))
		return 1;
	for (; n < max; n++) {
		struct page *page = first + n;

		if (page->flags & (BIT(PG_head) | BIT(PG_reserved)) ||
		    page_zone_id(page) != zone || PageTail(page))
			break;
	}
	return n;
}

/* Charge for @npages more pages of the run that begins with @first */
static void charge_small(struct pin_ledger *ledger, struct page *first,
			 long npages)
{
	if (!npages || PageReserved(first))
		return;
	ledger->charge += npages;
	ledger->held += npages;
	mod_node_page_state(page_pgdat(first), NR_LONGTERM_PINNED, npages);
}

static void charge_folio(struct pin_ledger *ledger, struct folio *folio,
			 unsigned long old, unsigned long new)
{
	unsigned long size = folio_nr_pages(folio);
	long more = min(new, size) - min(old, size);

	if (folio_test_reserved(folio))
		return;
	if (!old != !new)
		ledger->held += new ? size : -size;
	if (!more)
		return;
	ledger->charge += more;
	node_stat_mod_folio(folio, NR_LONGTERM_PINNED, more);
}

/* Pages that a device gets one after the other are seldom far from each other */
static struct pin_chunk *chunk_find(struct pin_ledger *ledger,
				    unsigned long pfn)
{
	unsigned long index = pfn >> PIN_CHUNK_SHIFT;
	struct pin_chunk *chunk = ledger->last_chunk;

	if (chunk && chunk->index == index)
		return chunk;
	chunk = xa_load(&ledger->chunks, index);
	if (chunk)
		ledger->last_chunk = chunk;
	return chunk;
}

static void chunk_free(struct pin_ledger *ledger, struct pin_chunk *chunk)
{
	if (ledger->last_chunk == chunk)
		ledger->last_chunk = NULL;
	xa_erase(&ledger->chunks, chunk->index);
	kmem_cache_free(pin_chunks, chunk);
}

static struct pin_chunk *chunk_get(struct pin_ledger *ledger, unsigned long pfn)
{
	struct pin_chunk *chunk = chunk_find(ledger, pfn);

	if (chunk)
		return chunk;

	chunk = kmem_cache_zalloc(pin_chunks, GFP_KERNEL);
	if (!chunk)
		return NULL;
	chunk->index = pfn >> PIN_CHUNK_SHIFT;
	if (xa_err(xa_store(&ledger->chunks, chunk->index, chunk,
			    GFP_KERNEL_ACCOUNT))) {
		kmem_cache_free(pin_chunks, chunk);
		return NULL;
	}
	return chunk;
}

/* Add a pin to each page of the run at @pfn; returns its length or an error */
static long add_small(struct pin_ledger *ledger, unsigned long pfn,
		      unsigned long npages)
{
	unsigned int first = pfn % PIN_CHUNK_PAGES, i, end;
	struct page *start = pfn_to_page(pfn), *page = start;
	struct pin_chunk *chunk;
	unsigned int fresh = 0;

	chunk = chunk_get(ledger, pfn);
	if (!chunk)
		return -ENOMEM;

	end = first + run_length(start, min(npages, PIN_CHUNK_PAGES - first));
	for (i = first; i < end; i++, page++) {
		if (chunk->pins[i] == PIN_PAGE_MAX ||
		    page_ref_count(page) > PIN_REFCOUNT_MAX)
			break;
		if (!chunk->pins[i]++)
			fresh++;
	}
	chunk->used += fresh;
	charge_small(ledger, start, fresh);
	if (i > first)
		return i - first;
	if (!chunk->used)
		chunk_free(ledger, chunk);
	return -EOVERFLOW;
}

static long add_large(struct pin_ledger *ledger, struct folio *folio,
		      unsigned long npages)
{
	XA_STATE_ORDER(xas, &ledger->folios, folio_pfn(folio),
		       folio_order(folio));
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
	} while (xas_nomem(&xas, GFP_KERNEL_ACCOUNT));

	if (xas_error(&xas))
		return xas_error(&xas);
	charge_folio(ledger, folio, old, old + npages);
	return npages;
}

/**
 * pin_ledger_add() - count a pin on each of some pages
 * @ledger: the ledger
 * @pfn: the first page frame; the pages are pinned
 * @npages: how many pages
 *
 * All or nothing. The charge may exceed what is committed afterwards: see
 * pin_ledger_commit().
 *
 * Context: Process context. May sleep; ledger->lock is held.
 * Return: how many of the pages count (rule 8); or
 * -EOVERFLOW: a page or folio has as many pins as it may have (rule 5).
 * -ENOMEM: no memory for an entry.
 */
long pin_ledger_add(struct pin_ledger *ledger, unsigned long pfn,
		    unsigned long npages)
{
	unsigned long done = 0, counted = 0;

	lockdep_assert_held(&ledger->lock);

	while (done < npages) {
		struct folio *folio;
		long n;

		if (!pin_account_counts(pfn + done)) {
			done++;
			continue;
		}
		folio = page_folio(pfn_to_page(pfn + done));
		if (folio_test_large(folio))
			n = add_large(ledger, folio,
				      pages_in_folio(folio, pfn + done,
						     npages - done));
		else
			n = add_small(ledger, pfn + done, npages - done);
		if (n < 0) {
			pin_ledger_sub_all(ledger, pfn, done);
			return n;
		}
		done += n;
		counted += n;
	}
	return counted;
}

static unsigned long sub_small(struct pin_ledger *ledger, unsigned long pfn,
			       unsigned long npages)
{
	unsigned int first = pfn % PIN_CHUNK_PAGES, i, end;
	struct page *start = pfn_to_page(pfn);
	struct pin_chunk *chunk;
	unsigned int gone = 0;

	chunk = chunk_find(ledger, pfn);
	if (!chunk)
		return 0;

	end = first + run_length(start, min(npages, PIN_CHUNK_PAGES - first));
	for (i = first; i < end; i++) {
		if (!chunk->pins[i])
			break;
		if (!--chunk->pins[i])
			gone++;
	}
	chunk->used -= gone;
	charge_small(ledger, start, -(long)gone);
	if (!chunk->used)
		chunk_free(ledger, chunk);
	return i - first;
}

static unsigned long sub_large(struct pin_ledger *ledger, struct folio *folio,
			       unsigned long npages)
{
	XA_STATE_ORDER(xas, &ledger->folios, folio_pfn(folio),
		       folio_order(folio));
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
	charge_folio(ledger, folio, old, new);
	return npages;
}

/**
 * pin_ledger_sub() - take a pin off each of some pages, as far as one step goes
 * @ledger: the ledger
 * @pfn: the first page frame; the pages are still pinned
 * @npages: how many pages, at least 1
 * @counted: set to how many of the pages, from @pfn on, had a pin taken off;
 *	just these may be unpinned
 *
 * A step ends with the folio, or with a run of small pages that lie together, or
 * with one of frames that do not count, of which it has a batch at most.
 *
 * Context: Process context. ledger->lock is held.
 * Return: how many pages the step covers, at least 1.
 */
unsigned long pin_ledger_sub(struct pin_ledger *ledger, unsigned long pfn,
			     unsigned long npages, unsigned long *counted)
{
	unsigned long covered;
	struct folio *folio;

	lockdep_assert_held(&ledger->lock);

	*counted = 0;
	if (!pin_account_counts(pfn)) {
		npages = min(npages, PIN_BATCH_PAGES);
		for (covered = 1; covered < npages; covered++)
			if (pin_account_counts(pfn + covered))
				break;
		return covered;
	}

	folio = page_folio(pfn_to_page(pfn));
	if (folio_test_large(folio)) {
		covered = pages_in_folio(folio, pfn, npages);
		*counted = sub_large(ledger, folio, covered);
	} else {
		*counted = sub_small(ledger, pfn, npages);
		covered = max(*counted, 1);
	}
	WARN_ONCE(*counted < covered,
		  "pin_ledger: %lu pages at PFN %#lx put but not pinned\n",
		  covered - *counted, pfn + *counted);
	return covered;
}

/**
 * pin_ledger_sub_all() - take a pin off each of some pages
 * @ledger: the ledger
 * @pfn: the first page frame; the pages are still pinned
 * @npages: how many pages
 *
 * Context: Process context. ledger->lock is held.
 */
void pin_ledger_sub_all(struct pin_ledger *ledger, unsigned long pfn,
			unsigned long npages)
{
	while (npages) {
		unsigned long counted, n;

		n = pin_ledger_sub(ledger, pfn, npages, &counted);
		pfn += n;
		npages -= n;
	}
}

static bool within_limit(struct mm_struct *mm, const struct pin_owner *owner,
			 unsigned long spare)
{
	unsigned long limit = task_rlimit(owner->task, RLIMIT_MEMLOCK);

	return owner->lock_cap ||
	       READ_ONCE(mm->locked_vm) - spare <= limit >> PAGE_SHIFT;
}

/**
 * pin_ledger_commit() - charge mm->locked_vm for what was added to the ledger
 * @ledger: the ledger
 * @owner: whose limit applies
 *
 * For a whole batch, takes a step where the limit allows, so that the next
 * batches need not take mmap_lock; pin_ledger_settle() gives back what is left.
 *
 * Context: Process context. May sleep; ledger->lock is held, takes mmap_lock.
 * Return: 0; or
 * -ENOMEM: RLIMIT_MEMLOCK does not allow it.
 * -EINTR: a fatal signal came.
 */
int pin_ledger_commit(struct pin_ledger *ledger, const struct pin_owner *owner)
{
	struct mm_struct *mm = ledger->mm;
	unsigned long missing, n;
	int ret;

	lockdep_assert_held(&ledger->lock);

	/* A step that a privileged holder took is not for others to use up */
	if (ledger->charge <= ledger->committed)
		return within_limit(mm, owner,
				    ledger->committed - ledger->charge) ?
			0 : -ENOMEM;

	/* Small requests take what they need: their next step is to settle */
	missing = ledger->charge - ledger->committed;
	n = missing < PIN_BATCH_PAGES ? missing : max(missing, PIN_COMMIT_STEP);
	if (mmap_write_lock_killable(mm))
		return -EINTR;
	ret = __account_locked_vm(mm, n, true, owner->task, owner->lock_cap);
	if (ret) {
		n = missing;
		ret = __account_locked_vm(mm, n, true, owner->task,
					  owner->lock_cap);
	}
	mmap_write_unlock(mm);
	if (!ret)
		ledger->committed += n;
	return ret;
}

/**
 * pin_ledger_commit_held() - charge the ledger's cgroup for what it holds
 * @ledger: the ledger
 * @npages: pages that the request has yet to pin, and those just added
 * @quiet: a failure is no refusal yet
 *
 * As far as the request goes, takes a step where the limit allows, since each
 * charge walks all cgroups above; pin_ledger_settle() gives back what is left,
 * of memory that was held before.
 *
 * Context: Process context. ledger->lock is held.
 * Return: 0; or
 * -EBUSY: the limit of the cgroup, or of one above it, does not allow it.
 */
int pin_ledger_commit_held(struct pin_ledger *ledger, unsigned long npages,
			   bool quiet)
{
	long ret;

	lockdep_assert_held(&ledger->lock);

	if (ledger->held <= ledger->in_cgroup)
		return 0;
	ret = pin_cgroup_charge(ledger->cgroup,
				ledger->held - ledger->in_cgroup,
				min(npages, PIN_CGROUP_STEP), quiet);
	if (ret < 0)
		return ret;
	ledger->in_cgroup += ret;
	return 0;
}

/**
 * pin_ledger_settle() - give back what is committed beyond charge and held
 * @ledger: the ledger
 *
 * Context: Process context. May sleep; ledger->lock is held, takes mmap_lock.
 */
void pin_ledger_settle(struct pin_ledger *ledger)
{
	unsigned long spare = ledger->committed - ledger->charge;
	struct mm_struct *mm = ledger->mm;

	lockdep_assert_held(&ledger->lock);

	if (ledger->in_cgroup > ledger->held) {
		pin_cgroup_uncharge(ledger->cgroup,
				    ledger->in_cgroup - ledger->held);
		ledger->in_cgroup = ledger->held;
	}
	if (!spare)
		return;
	mmap_write_lock(mm);
	__account_locked_vm(mm, spare, false, current, true);
	mmap_write_unlock(mm);
	ledger->committed = ledger->charge;
}

/**
 * pin_account_name_process() - let reports name the current process
 * @acct: the account; not in a list yet, or pin_ledgers_lock and ledger->lock
 *	are held
 */
void pin_account_name_process(struct pin_account *acct)
{
	acct->pid = task_tgid_nr(current);
	get_task_comm(acct->comm, current->group_leader);
}

/**
 * pin_ledger_adopt() - let another mm own a ledger
 * @ledger: a ledger whose mm is dead
 * @owner: whose limit applies from now on
 * @mm: the new mm
 *
 * The pins stay as they are, whatever their number; what is charged for them
 * to RLIMIT_MEMLOCK moves. The cgroup stays.
 *
 * Context: Process context. May sleep; takes ledger->lock, and in it the
 * mmap_lock of @mm and pin_ledgers_lock.
 * Return: 0, also if @mm owns the ledger already; or, with nothing changed,
 * -EBUSY: the ledger's mm is alive.
 * -EEXIST: @mm has another ledger.
 * -ENOMEM: RLIMIT_MEMLOCK does not allow it.
 * -EINTR: a fatal signal came.
 */
int pin_ledger_adopt(struct pin_ledger *ledger, const struct pin_owner *owner,
		     struct mm_struct *mm)
{
	struct pin_account *acct;
	struct mm_struct *old;
	int ret;

	guard(mutex)(&ledger->lock);

	old = ledger->mm;
	if (old == mm)
		return 0;
	if (atomic_read(&old->mm_users))
		return -EBUSY;
	if (READ_ONCE(mm->pin_ledger))
		return -EEXIST;

	if (mmap_write_lock_killable(mm))
		return -EINTR;
	ret = __account_locked_vm(mm, ledger->charge, true, owner->task,
				  owner->lock_cap);
	mmap_write_unlock(mm);
	if (ret)
		return ret;

	mutex_lock(&pin_ledgers_lock);
	if (mm->pin_ledger) {
		/* Another thread of the new owner was faster */
		mutex_unlock(&pin_ledgers_lock);
		account_locked_vm(mm, ledger->charge, false);
		return -EEXIST;
	}
	/* Nobody looks at the old mm's locked_vm any more */
	old->pin_ledger = NULL;
	mmgrab(mm);
	WRITE_ONCE(ledger->mm, mm);
	mm->pin_ledger = ledger;
	ledger->committed = ledger->charge;
	list_for_each_entry(acct, &ledger->accounts, in_ledger)
		pin_account_name_process(acct);
	mutex_unlock(&pin_ledgers_lock);

	mmdrop(old);
	return 0;
}

#include "tests/pin_ledger_kunit.h"
