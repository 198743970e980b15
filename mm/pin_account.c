// SPDX-License-Identifier: GPL-2.0
/*
 * Holders of long-term pins.
 *
 * A holder makes an account for each mm whose pages it pins, pins and puts
 * through it, and settles at the end of each operation of its own. The account
 * does GUP, keeps the ledger (mm/pin_ledger.c) and its limits, and on failure
 * finds out the reason (mm/pin_refusal.c).
 *
 * Pinning: GUP, then the ledger, then the limit. Putting: the ledger's entry and
 * the charge while the pages are still pinned, then the unpin, a folio or a run
 * at a time; the cgroup's charge goes last. A put never fails and allocates
 * nothing.
 */

#include <linux/err.h>
#include <linux/export.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/ratelimit.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/user.h>
#include <linux/slab.h>
#include <trace/events/user_pages.h>

#include "internal.h"
#include "pin_ledger.h"

/* May the ledger have another user? The first has pinned nothing, and will not */
static bool user_is_free(struct pin_ledger *ledger)
{
	struct pin_account *acct;

	list_for_each_entry(acct, &ledger->accounts, in_ledger)
		if (PIN_PLANES_USER & BIT(acct->plane))
			return false;
	return !pin_ledger_pins(ledger, PIN_COUNTER_USER);
}

/* Which plane counts what is part of these counters */
static enum pin_plane_id plane_of(unsigned int flags, bool second)
{
	switch (flags & PIN_COUNT_MASK) {
	case 0:
		return PIN_PLANE_HELD;
	case PIN_COUNT_LOCKED:
		return PIN_PLANE_LOCKED;
	case PIN_COUNT_PINNED:
		return PIN_PLANE_PINNED;
	case PIN_COUNT_LOCKED | PIN_COUNT_PINNED:
		return PIN_PLANE_LOCKED_PINNED;
	case PIN_COUNT_USER:
		return second ? PIN_PLANE_HELD : PIN_PLANE_USER;
	default:
		return second ? PIN_PLANE_PINNED : PIN_PLANE_USER_PINNED;
	}
}

static enum pin_counter limit_of(struct pin_account *acct)
{
	/* What a second user is charged is compared as it is counted, see commit() */
	if (acct->flags & PIN_COUNT_USER)
		return acct->second ? PIN_COUNTER_NR : PIN_COUNTER_USER;
	if (acct->flags & PIN_COUNT_LOCKED)
		return PIN_COUNTER_LOCKED;
	if (acct->flags & PIN_COUNT_PINNED)
		return PIN_COUNTER_PINNED;
	return PIN_COUNTER_NR;
}

static struct pin_second_user *new_second_user(struct user_struct *user)
{
	struct pin_second_user *second = kzalloc(sizeof(*second),
						 GFP_KERNEL_ACCOUNT);

	if (second) {
		second->user = get_uid(user);
		xa_init_flags(&second->folios, XA_FLAGS_ACCOUNT);
	}
	return second;
}

static void free_second_user(struct pin_second_user *second)
{
	if (!second)
		return;
	free_uid(second->user);
	xa_destroy(&second->folios);
	kfree(second);
}

static struct pin_second_user *find_second_user(struct pin_ledger *ledger,
						struct user_struct *user)
{
	struct pin_second_user *second;

	list_for_each_entry(second, &ledger->second_users, list)
		if (second->user == user)
			return second;
	return NULL;
}

/*
 * A user's counter has planes as long as it is the only one. What is pinned for
 * another user, since the process has changed its uid, is counted for that one beside
 * the planes, and otherwise in a plane without a user. A user who has begun so goes on
 * so, for what is counted in two ways would count twice.
 *
 * @spare: for the first account of a second user; NULL when it was needed
 */
static void set_plane(struct pin_account *acct, struct pin_second_user **spare)
{
	struct pin_ledger *ledger = acct->ledger;
	struct pin_second_user *second;

	lockdep_assert_held(&ledger->lock);

	second = find_second_user(ledger, acct->user);
	if (!second && acct->user && acct->user != ledger->user) {
		if (user_is_free(ledger)) {
			free_uid(ledger->user);
			ledger->user = get_uid(acct->user);
		} else {
			second = *spare;
			*spare = NULL;
			list_add(&second->list, &ledger->second_users);
		}
	}
	if (second)
		second->accounts++;
	acct->second = second;
	acct->plane = plane_of(acct->flags, second);
	acct->limit = limit_of(acct);
}

static struct pin_account *new_account(const char *name, unsigned int flags,
				       const void *key, struct user_struct *user)
{
	static atomic_long_t last_id = ATOMIC_LONG_INIT(0);
	struct pin_account *acct;
	size_t size;

	size = strlen(name) + sizeof(".18446744073709551615");
	acct = kzalloc(struct_size(acct, name, size), GFP_KERNEL_ACCOUNT);
	if (!acct)
		return NULL;
	acct->id = atomic_long_inc_return(&last_id);
	snprintf(acct->name, size, "%s.%lu", name, acct->id);
	acct->flags = flags;
	acct->key = key;
	acct->user = user ? get_uid(user) : NULL;
	refcount_set(&acct->refs, 1);
	pin_account_name_process(acct);
	return acct;
}

/* By id, which two threads may have got in another order */
static void list_in_order(struct pin_account *acct)
{
	struct list_head *head = &acct->ledger->accounts, *at = head->prev;

	while (at != head &&
	       list_entry(at, struct pin_account, in_ledger)->id > acct->id)
		at = at->prev;
	list_add_rcu(&acct->in_ledger, at);
}

static void free_account(struct pin_account *acct)
{
	if (acct->user)
		free_uid(acct->user);
	kfree_rcu(acct, free);
}

/* The account that somebody has got for the same; ledger->lock is held */
static struct pin_account *find_account(struct pin_ledger *ledger,
					const void *key, unsigned int flags,
					struct user_struct *user)
{
	struct pin_account *acct;

	if (!key)
		return NULL;
	list_for_each_entry(acct, &ledger->accounts, in_ledger)
		if (acct->key == key && acct->flags == flags &&
		    acct->user == user && !acct->unclaimed &&
		    refcount_inc_not_zero(&acct->refs))
			return acct;
	return NULL;
}

/* The same, of a mm that may have no ledger yet */
static struct pin_account *find_account_of(struct mm_struct *mm,
					   const void *key, unsigned int flags,
					   struct user_struct *user)
{
	struct pin_ledger *ledger = key ? pin_ledger_find(mm) : NULL;
	struct pin_account *acct;

	if (!ledger)
		return NULL;
	mutex_lock(&ledger->lock);
	acct = find_account(ledger, key, flags, user);
	mutex_unlock(&ledger->lock);
	pin_ledger_put(ledger);
	return acct;
}

/**
 * pin_account_get() - get the account of long-term pins for an object
 * @mm: whose memory is pinned; a process runs with it throughout the call, or its
 *	ledger could be adopted meanwhile. The account keeps its mm_struct afterwards,
 *	but not its memory
 * @key: the object, a ring for instance, which may pin memory of several mms and
 *	for several users; NULL for an account that nobody else gets. If a new object
 *	comes to its place while the account lives, that gets the account, too
 * @name: what kind of holder this is, one word
 * @flags: PIN_ACCOUNT_* and PIN_COUNT_*
 * @user: whose counter is meant, with PIN_COUNT_USER; or NULL
 *
 * All who ask for the same get the same account. Reports name the process that
 * was first as the one that the account is for.
 *
 * Idea: RFC of vm_account, 2023, which charged per holder and so charged twice.
 *
 * Context: Process context. May sleep.
 * Return: the account with a reference, for pin_account_put(); or
 * ERR_PTR(-ENOMEM); or ERR_PTR(-EINVAL): there are no such counters, or flags
 * that exclude each other.
 */
struct pin_account *pin_account_get(struct mm_struct *mm, const void *key,
				    const char *name, unsigned int flags,
				    struct user_struct *user)
{
	struct pin_second_user *spare = NULL;
	struct pin_account *acct, *there;

	if (WARN_ON_ONCE(!user != !(flags & PIN_COUNT_USER)))
		return ERR_PTR(-EINVAL);
	if (WARN_ON_ONCE(user && flags & PIN_COUNT_LOCKED))
		return ERR_PTR(-EINVAL);
	/* Who waits lets mmap_lock go, and files may be mapped meanwhile */
	if (WARN_ON_ONCE(flags & PIN_ACCOUNT_WRITES && flags & PIN_ACCOUNT_WAITS))
		return ERR_PTR(-EINVAL);

	there = find_account_of(mm, key, flags, user);
	if (there)
		return there;

	acct = new_account(name, flags, key, user);
	if (!acct)
		return ERR_PTR(-ENOMEM);
	acct->ledger = pin_ledger_get(mm);
	if (!acct->ledger)
		goto err_free;
	if (user) {
		spare = new_second_user(user);
		if (!spare)
			goto err_ledger;
	}
	if (xa_reserve(&pin_accounts, acct->id, GFP_KERNEL_ACCOUNT))
		goto err_ledger;

	mutex_lock(&acct->ledger->lock);
	there = find_account(acct->ledger, key, flags, user);
	if (!there) {
		set_plane(acct, &spare);
		list_in_order(acct);
		xa_store(&pin_accounts, acct->id, acct, 0);
	}
	mutex_unlock(&acct->ledger->lock);
	free_second_user(spare);
	if (!there)
		return acct;

	xa_release(&pin_accounts, acct->id);
	pin_ledger_put(acct->ledger);
	free_account(acct);
	return there;

err_ledger:
	free_second_user(spare);
	pin_ledger_put(acct->ledger);
err_free:
	free_account(acct);
	return ERR_PTR(-ENOMEM);
}
EXPORT_SYMBOL_GPL(pin_account_get);

/* The large folio of @pfn, or NULL; and how many of @npages there are in it */
static struct folio *large_folio(unsigned long pfn, unsigned long npages,
				 unsigned long *n)
{
	struct folio *folio;

	*n = 1;
	if (!pin_ledger_charges(pfn))
		return NULL;
	folio = page_folio(pfn_to_page(pfn));
	if (!folio_test_large(folio))
		return NULL;
	*n = min(npages, folio_pfn(folio) + folio_nr_pages(folio) - pfn);
	return folio;
}

/*
 * Add pins on these frames to those for a second user, or take them off: a large
 * folio counts with its size at most, as in each other counter. Of device memory there
 * is nothing in it. If they cannot be told apart any more, since memory has failed and
 * gone offline, the end of the user's last account makes up for it.
 *
 * Returns how many pages the user has more or less; or -ENOMEM, and nothing has changed.
 */
static long count_second(struct pin_second_user *second, unsigned long pfn,
			 unsigned long npages, bool add)
{
	unsigned long done = 0, n;
	long pages = 0;

	for (; done < npages; done += n) {
		struct folio *folio = large_folio(pfn + done, npages - done, &n);
		unsigned long pins, now, size;
		void *entry;

		if (!folio) {
			pages += pin_ledger_charges(pfn + done);
			continue;
		}
		entry = xa_load(&second->folios, folio_pfn(folio));
		pins = entry ? xa_to_value(entry) : 0;
		size = folio_nr_pages(folio);
		/* Whose pins went with a device may have got those of another */
		now = add ? pins + n : pins - min(pins, n);
		entry = now ? xa_mk_value(now) : NULL;
		if (xa_err(xa_store(&second->folios, folio_pfn(folio), entry,
				    PIN_GFP_LOCKED))) {
			count_second(second, pfn, done, false);
			return -ENOMEM;
		}
		pages += abs_diff(min(now, size), min(pins, size));
	}
	return pages;
}

/* The same of an array of pages, or without @pages of contiguous frames */
static long count_pages_second(struct pin_second_user *second,
			       struct page **pages, unsigned long pfn,
			       unsigned long npages, bool add)
{
	unsigned long done = 0, n;
	long sum = 0, ret;

	if (!pages)
		return count_second(second, pfn, npages, add);
	for (; done < npages; done += n) {
		n = pin_contiguous(pages + done, npages - done);
		ret = count_second(second, page_to_pfn(pages[done]), n, add);
		if (ret < 0) {
			count_pages_second(second, pages, 0, done, false);
			return ret;
		}
		sum += ret;
	}
	return sum;
}

/* Of an account whose pins others count, or nobody */
static void release_unclaimed(struct pin_account *acct, unsigned long npages)
{
	int i;

	for (i = 0; acct->unclaimed && i < PIN_COUNTER_USER; i++)
		if (pin_counter_planes(i) & BIT(acct->plane))
			acct->ledger->unclaimed[i] -= npages;
}

/* Readers take no lock */
static void charge_second(struct pin_account *acct, long npages)
{
	struct pin_ledger *ledger = acct->ledger;

	acct->second->charged += npages;
	WRITE_ONCE(ledger->second_charged, ledger->second_charged + npages);
}

static void uncharge_second(struct pin_account *acct, unsigned long npages)
{
	charge_second(acct, -npages);
	pin_user_uncharge(acct->user, npages);
}

/* An account of a second user ends; ledger->lock is held */
static void leave_second_user(struct pin_account *acct)
{
	struct pin_second_user *second = acct->second;

	if (!second || --second->accounts)
		return;
	uncharge_second(acct, second->charged);
	list_del(&second->list);
	free_second_user(second);
}

/* In place of a frame: small pages, which need not lie together */
#define PIN_SMALL_PAGES	ULONG_MAX

/* Of an account that is in no simple case */
static noinline void released_elsewhere(struct pin_account *acct,
					unsigned long pfn, unsigned long npages)
{
	release_unclaimed(acct, npages);
	if (!acct->second)
		return;
	if (pfn != PIN_SMALL_PAGES)
		npages = count_second(acct->second, pfn, npages, false);
	uncharge_second(acct, npages);
}

/**
 * pin_account_put() - give back a reference on an account
 * @acct: the account; with the last reference it ends
 *
 * All that was pinned through it has been put. If not, because a device keeps pages
 * mapped, the account does not end: they stay charged, reports say whose they are,
 * and the ledger, its mm_struct and its cgroup stay for ever, too.
 *
 * Context: Process context. May sleep.
 */
void pin_account_put(struct pin_account *acct)
{
	struct pin_ledger *ledger = acct->ledger;

	if (!refcount_dec_and_test(&acct->refs))
		return;

	if (WARN(acct->pages, "%s ends with %llu pages pinned\n", acct->name,
		 acct->pages)) {
		mutex_lock(&ledger->lock);
		/* Another object may come to the place of this one */
		acct->key = NULL;
		pin_ledger_settle(ledger, NULL);
		mutex_unlock(&ledger->lock);
		refcount_set(&acct->refs, 1);
		return;
	}

	xa_erase(&pin_accounts, acct->id);
	mutex_lock(&ledger->lock);
	release_unclaimed(acct, acct->counted);
	leave_second_user(acct);
	list_del_rcu(&acct->in_ledger);
	pin_ledger_settle(ledger, NULL);
	mutex_unlock(&ledger->lock);

	/* Of an account that a reader has, it may read the ledger as well */
	free_account(acct);
	pin_ledger_put(ledger);
}
EXPORT_SYMBOL_GPL(pin_account_put);

/**
 * pin_account_is_for() - tell whether an account pins the memory of a mm
 * @acct: the account
 * @mm: the mm
 *
 * Context: Any context; does not sleep.
 * Return: true if it does, and will as long as a process runs with @mm: an account
 * leaves no such mm.
 */
bool pin_account_is_for(struct pin_account *acct, struct mm_struct *mm)
{
	/* Pairs with give_ledger() */
	return smp_load_acquire(&acct->ledger->mm) == mm &&
	       !READ_ONCE(acct->unclaimed);
}
EXPORT_SYMBOL_GPL(pin_account_is_for);

/**
 * pin_account_is_dead() - tell whether nobody runs with the memory of an account
 * @acct: the account
 *
 * Context: Any context; does not sleep.
 * Return: true if no process does; another may adopt the account.
 */
bool pin_account_is_dead(struct pin_account *acct)
{
	/* No mmget(): its mmput() could be the last, and free all of the memory */
	guard(rcu)();
	return READ_ONCE(acct->unclaimed) ||
	       !pin_mm_has_process(READ_ONCE(acct->ledger->mm));
}
EXPORT_SYMBOL_GPL(pin_account_is_dead);

/**
 * pin_account_is_idle() - tell whether an account only keeps a ledger for its mm
 * @acct: the account
 *
 * If the last reference to it is put, the mm can adopt another one.
 *
 * Context: Process context. May sleep; takes ledger->lock.
 * Return: whether it has no pins, and no other holder an account in its ledger.
 */
bool pin_account_is_idle(struct pin_account *acct)
{
	guard(mutex)(&acct->ledger->lock);
	return !acct->pages && list_is_singular(&acct->ledger->accounts);
}
EXPORT_SYMBOL_GPL(pin_account_is_idle);

/**
 * pin_account_mm() - get the memory of an account
 * @acct: the account
 *
 * Context: Any context; does not sleep.
 * Return: the mm, which the caller gives back with mmput(); or NULL if it is dead,
 * or has lost the account with its ledger to another one.
 */
struct mm_struct *pin_account_mm(struct pin_account *acct)
{
	struct mm_struct *mm;

	guard(rcu)();
	/* Pairs with give_ledger(): the mm that has adopted is not @acct's */
	mm = smp_load_acquire(&acct->ledger->mm);
	if (READ_ONCE(acct->unclaimed))
		return NULL;
	return mmget_not_zero(mm) ? mm : NULL;
}

/* Pins of all accounts that are counted with those of @acct */
static unsigned long plane_pins(struct pin_account *acct)
{
	return acct->ledger->planes[acct->plane].pins;
}

/* @before: plane_pins() before they were added. Readers take no lock */
static void account_acquired(struct pin_account *acct, unsigned long npages,
			     unsigned long before)
{
	unsigned long counted = plane_pins(acct) - before;

	acct->counted += counted;
	if (unlikely(counted < npages))
		acct->had_devices = true;
	WRITE_ONCE(acct->pages, acct->pages + npages);
	WRITE_ONCE(acct->acquired, acct->acquired + npages);
	WRITE_ONCE(acct->peak, max(acct->peak, acct->pages));
}

/* Only who has pins of device memory can have some that went with a device */
static inline unsigned int sub_flags(struct pin_account *acct)
{
	return likely(!acct->had_devices) ? PIN_SUB_NOT_GONE : 0;
}

/* It has put what went with a device for others, who put its own pins for that */
static noinline void drop_counted(struct pin_account *acct)
{
	unsigned long more = acct->counted - acct->pages;

	acct->counted -= more;
	release_unclaimed(acct, more);
}

static inline void account_released(struct pin_account *acct, unsigned long pfn,
				    const struct pin_step *step)
{
	/* Not of device memory. There are fewer if others have put them: drop_counted() */
	if (likely(!step->gone && !step->swapped && !step->pgmap)) {
		unsigned long counted = min(acct->counted, step->counted);

		acct->counted -= counted;
		if (unlikely(acct->unclaimed || acct->second))
			released_elsewhere(acct, pfn, counted);
	}
	WRITE_ONCE(acct->pages, acct->pages - step->counted);
	WRITE_ONCE(acct->released, acct->released + step->counted);
	if (unlikely(acct->counted > acct->pages))
		drop_counted(acct);
}

static void unaccount_pages(struct pin_account *acct, struct page **pages,
			    unsigned long npages)
{
	unsigned long n;

	for (; npages; pages += n, npages -= n) {
		n = pin_contiguous(pages, npages);
		pin_ledger_undo_all(acct->ledger, acct->plane,
				    page_to_pfn(pages[0]), n);
	}
}

/**
 * struct pin_request - pages that a holder asks for
 * @acct: the holder
 * @owner: whose limit applies
 * @start: address of the first page
 * @npages: how many pages
 * @gup_flags: FOLL_*
 * @move: nothing is pinned, but moved from another account; or NULL
 * @done: how many of them are pinned
 * @waited: milliseconds that it has waited for pages that have to move
 * @extents: receives what is pinned; or NULL
 * @nr_extents: how many there are
 * @reason: why the next ones are refused; PIN_REASON_NR where the mapping tells
 * @full: for PIN_REASON_CGROUP, the cgroup that has no room, with a reference
 */
struct pin_request {
	struct pin_account *acct;
	const struct pin_owner *owner;
	unsigned long start;
	unsigned long npages;
	unsigned int gup_flags;
	struct pin_move *move;
	unsigned long done;
	unsigned int waited;
	struct pin_extent *extents;
	unsigned int nr_extents;
	enum pin_reason reason;
	struct misc_cg *full;
};

static void append_extent(struct pin_request *req, unsigned long pfn,
			  unsigned long npages)
{
	struct pin_extent *next = req->extents + req->nr_extents;

	if (req->nr_extents && next[-1].pfn + next[-1].npages == pfn) {
		next[-1].npages += npages;
	} else {
		*next = (struct pin_extent){ pfn, npages };
		req->nr_extents++;
	}
}

static void append_pages(struct pin_request *req, struct page **pages,
			 unsigned long npages)
{
	unsigned long n;

	for (; npages; pages += n, npages -= n) {
		n = pin_contiguous(pages, npages);
		append_extent(req, page_to_pfn(pages[0]), n);
	}
}

/* Only who changes VmLck under a limit needs mmap_lock */
static const struct pin_owner *locking_owner(struct pin_request *req)
{
	return req->acct->limit == PIN_COUNTER_LOCKED ? req->owner : NULL;
}

/* As count_pages_second() wants them: those that were added */
static int commit(struct pin_request *req, struct page **pages,
		  unsigned long pfn, unsigned long npages)
{
	struct pin_account *acct = req->acct;
	struct misc_cg *full = NULL;
	long more = 0;
	int ret;

	if (unlikely(acct->second)) {
		more = count_pages_second(acct->second, pages, pfn, npages, true);
		if (more < 0) {
			req->reason = PIN_REASON_NOMEM;
			return more;
		}
	}
	ret = pin_ledger_commit(acct, req->owner, more, req->npages - req->done,
				req->move, &full);
	if (unlikely(acct->second)) {
		if (!ret)
			charge_second(acct, more);
		else
			count_pages_second(acct->second, pages, pfn, npages, false);
	}
	if (likely(!ret))
		return 0;

	if (ret == -EBUSY) {
		req->reason = PIN_REASON_CGROUP;
		/* Who adopts the ledger may let it go before it is told */
		if (pin_cgroup_tryget(full))
			req->full = full;
	} else {
		req->reason = PIN_REASON_MEMLOCK;
	}
	return ret;
}

/* What the ledger says, with the reason */
static long with_reason(struct pin_request *req, long ret)
{
	if (ret == -EOVERFLOW)
		req->reason = PIN_REASON_OVERFLOW;
	else if (ret == -ENOMEM)
		req->reason = PIN_REASON_NOMEM;
	else if (ret < 0)
		req->reason = PIN_REASON_FAULT;
	return ret;
}

/* Add contiguous frames; returns how many of them are counted, or an error */
static long try_run(struct pin_request *req, unsigned long pfn,
		    unsigned long npages)
{
	struct pin_account *acct = req->acct;
	unsigned long before = plane_pins(acct);
	long counted;
	int ret;

	counted = with_reason(req, pin_ledger_add(acct->ledger, acct->plane,
						  pfn, npages));
	if (counted < 0)
		return counted;
	/* What is moved has been pinned: the device has been taken away since */
	if (unlikely(req->move && counted < npages)) {
		req->reason = PIN_REASON_FAULT;
		ret = -EFAULT;
	} else {
		ret = commit(req, NULL, pfn, npages);
	}
	if (ret) {
		pin_ledger_undo_all(acct->ledger, acct->plane, pfn,
				    npages);
		return ret;
	}
	account_acquired(acct, counted, before);
	return counted;
}

/*
 * Add pinned pages. What cannot be counted is refused: a put would not end its
 * pin.
 */
static long try_pages(struct pin_request *req, struct page **pages,
		      unsigned long npages)
{
	struct pin_account *acct = req->acct;
	unsigned long before = plane_pins(acct);
	unsigned long done = 0, n;
	long ret;

	for (; done < npages; done += n) {
		/* Small pages first, others by runs */
		ret = pin_ledger_add_small(acct->ledger, acct->plane,
					   pages + done, npages - done);
		n = ret;
		if (!ret) {
			n = pin_contiguous(pages + done, npages - done);
			ret = pin_ledger_add(acct->ledger, acct->plane,
					     page_to_pfn(pages[done]), n);
		}
		if (with_reason(req, ret) < 0)
			goto undo;
		if (unlikely(ret < n)) {
			done += n;
			req->reason = PIN_REASON_PFNMAP;
			ret = -EFAULT;
			goto undo;
		}
	}

	ret = commit(req, pages, 0, npages);
	if (ret)
		goto undo;
	account_acquired(acct, npages, before);
	return npages;

undo:
	unaccount_pages(acct, pages, done);
	return ret;
}

static int reserve_run(struct pin_account *acct, unsigned long pfn,
		       unsigned long npages)
{
	unsigned long end = pfn + npages, n;
	int ret = pin_ledger_reserve(acct->ledger, acct->plane, pfn, npages);

	for (; acct->second && pfn < end && !ret; pfn += n) {
		struct folio *folio = large_folio(pfn, end - pfn, &n);

		if (folio)
			ret = xa_reserve(&acct->second->folios, folio_pfn(folio),
					 GFP_KERNEL_ACCOUNT);
	}
	return ret;
}

static void unreserve_run(struct pin_account *acct, unsigned long pfn,
			  unsigned long npages)
{
	unsigned long end = pfn + npages, n;

	pin_ledger_unreserve(acct->ledger, acct->plane, pfn, npages);
	for (; acct->second && pfn < end; pfn += n) {
		struct folio *folio = large_folio(pfn, end - pfn, &n);

		if (folio)
			xa_release(&acct->second->folios, folio_pfn(folio));
	}
}

/* Entries for some pages, or without @pages for contiguous frames from @pfn on */
static int reserve(struct pin_account *acct, struct page **pages,
		   unsigned long pfn, unsigned long npages)
{
	unsigned long n;
	int ret = 0;

	if (!pages)
		return reserve_run(acct, pfn, npages);
	for (; npages && !ret; pages += n, npages -= n) {
		n = pin_contiguous(pages, npages);
		ret = reserve_run(acct, page_to_pfn(pages[0]), n);
	}
	return ret;
}

static void unreserve(struct pin_account *acct, struct page **pages,
		      unsigned long pfn, unsigned long npages)
{
	unsigned long n;

	if (!pages)
		unreserve_run(acct, pfn, npages);
	for (; pages && npages; pages += n, npages -= n) {
		n = pin_contiguous(pages, npages);
		unreserve_run(acct, page_to_pfn(pages[0]), n);
	}
}

/*
 * Enter pinned pages in the ledger, or without @pages contiguous frames from @pfn
 * on. Memory for entries is seldom waited for, and not under the lock.
 *
 * Returns how many of them are counted, or an error, and @req has its reason.
 */
static long account(struct pin_request *req, struct page **pages,
		    unsigned long pfn, unsigned long npages)
{
	struct pin_ledger *ledger = req->acct->ledger;
	bool reserved = false;
	enum pin_reason reason = req->reason;
	struct mm_struct *locked;
	long ret;

	for (;;) {
		ret = pin_ledger_lock(ledger, locking_owner(req), &locked);
		if (ret)
			break;
		if (unlikely(req->acct->unclaimed))
			ret = -ESRCH;
		else if (pages)
			ret = try_pages(req, pages, npages);
		else
			ret = try_run(req, pfn, npages);
		/* What is not held all the same is no longer charged */
		if (unlikely(ret < 0))
			pin_ledger_settle(ledger, req->move);
		if (unlikely(reserved))
			unreserve(req->acct, pages, pfn, npages);
		pin_ledger_unlock(ledger, locked);

		if (likely(ret >= 0) || req->reason != PIN_REASON_NOMEM)
			return ret;
		reserved = true;
		ret = reserve(req->acct, pages, pfn, npages);
		if (ret)
			break;
		req->reason = reason;
	}

	/* Without memory, or killed */
	if (reserved) {
		guard(mutex)(&ledger->lock);
		unreserve(req->acct, pages, pfn, npages);
	}
	return ret;
}

/*
 * GUP-fast does not see the mapping. For reading it would take what is there of
 * one that the process may not read, and refuse the page beside it. The account
 * cannot leave the mm that current runs with.
 */
static bool fast_is_right(struct pin_account *acct, unsigned int gup_flags)
{
	return gup_flags & FOLL_WRITE && current->mm &&
	       pin_account_is_for(acct, current->mm);
}

/*
 * The pages from @start on, at most @npages, before a mapping through which a
 * file would be written that must see each write. GUP looks for that only if
 * the holder writes itself. The mmap_lock is held until they are pinned.
 */
static unsigned long pages_before_file(struct mm_struct *mm,
				       unsigned long start,
				       unsigned long npages)
{
	struct vma_iterator vmi;
	struct vm_area_struct *vma;
	unsigned long end;

	start = untagged_addr_remote(mm, start);
	end = start + (npages << PAGE_SHIFT);
	vma_iter_init(&vmi, mm, start);
	for_each_vma_range(vmi, vma, end) {
		if (vma_needs_dirty_tracking(vma)) {
			end = max(start, vma->vm_start);
			break;
		}
	}
	return (end - start) >> PAGE_SHIFT;
}

/* GUP with the mmap_lock, which it may let go if @locked is not NULL */
static long gup_locked(struct pin_account *acct, struct mm_struct *mm,
		       unsigned long start, unsigned long npages,
		       unsigned int gup_flags, struct page **pages, int *locked)
{
	if (acct->flags & PIN_ACCOUNT_WRITES && !(gup_flags & FOLL_WRITE))
		npages = pages_before_file(mm, start, npages);
	if (!npages)
		return -EFAULT;
	if (mm == current->mm && !(acct->flags & PIN_ACCOUNT_FOREIGN))
		return pin_user_pages(start, npages, gup_flags, pages);
	return pin_user_pages_remote(mm, start, npages, gup_flags, pages,
				     locked);
}

/*
 * GUP, of which it takes the locks. With @wait a fault may take as long as user
 * space, or a file server, likes; without, it fails or is short.
 */
static long gup_slow(struct pin_account *acct, unsigned long start,
		     unsigned long npages, unsigned int gup_flags,
		     struct page **pages, bool wait)
{
	struct mm_struct *mm = pin_account_mm(acct);
	int locked = 1;
	long ret;

	if (!mm)
		return -ESRCH;
	if (wait && mm == current->mm) {
		ret = pin_user_pages_unlocked(start, npages, pages, gup_flags);
	} else {
		ret = mmap_read_lock_killable(mm);
		if (!ret)
			ret = gup_locked(acct, mm, start, npages, gup_flags,
					 pages, wait ? &locked : NULL);
		else
			locked = 0;
		if (locked)
			mmap_read_unlock(mm);
	}
	mmput(mm);
	return ret ?: -EFAULT;
}

/* Milliseconds: between two attempts to move pages, and for all of a request */
#define MOVE_DELAY_MAX	256U
#define MOVE_WAIT_MAX	10000U
/* Attempts to move pages that nobody holds */
#define MOVE_AGAIN_MAX	3

/* A page that is mapped there: must it move, and does somebody hold it up? */
struct page_look {
	bool mapped;
	bool must_move;
	bool held;
};

static struct page_look look_at_page(struct mm_struct *mm, unsigned long addr)
{
	struct page_look look = {};
	struct folio *folio;
	struct page *page;

	if (get_user_pages_remote(mm, addr, 1, FOLL_NOFAULT, &page, NULL) != 1)
		return look;
	folio = page_folio(page);
	look.mapped = true;
	look.must_move = !folio_is_longterm_pinnable(folio) &&
			 !folio_is_fsdax(folio);
	/* One reference is ours */
	look.held = look.must_move &&
		    folio_ref_count(folio) > folio_expected_ref_count(folio) + 1;
	put_user_page_ref(page);
	return look;
}

static bool first_must_move(struct pin_account *acct, unsigned long start)
{
	struct mm_struct *mm = pin_account_mm(acct);
	bool must_move = false;

	if (!mm)
		return false;
	if (!mmap_read_lock_killable(mm)) {
		must_move = look_at_page(mm, start).must_move;
		mmap_read_unlock(mm);
	}
	mmput(mm);
	return must_move;
}

/* Does somebody hold a page of the batch up? @first: its first one is mapped */
static bool batch_is_held(struct pin_account *acct, unsigned long start,
			  unsigned long npages, bool *first)
{
	struct mm_struct *mm = pin_account_mm(acct);
	struct page_look look;
	bool held = false;
	unsigned long i;

	*first = false;
	if (!mm)
		return false;
	if (!mmap_read_lock_killable(mm)) {
		look = look_at_page(mm, start);
		*first = look.mapped;
		held = look.held;
		for (i = 1; i < npages && !held; i++)
			held = look_at_page(mm, start + (i << PAGE_SHIFT)).held;
		mmap_read_unlock(mm);
	}
	mmput(mm);
	return held;
}

/*
 * A page in CMA or movable memory cannot move while somebody has a reference to
 * it, such as direct I/O. Then wait a moment; the mmap_lock is free meanwhile, the
 * caller's own locks are not.
 *
 * If nobody holds a page now, another holder may have moved them in the meantime.
 * GUP had all of them, so the first is mapped, unless it was the one that could
 * not be faulted in. Otherwise there is no memory to move them to.
 *
 * Returns whether to try again, which fails at once if a fatal signal came or the
 * memory has gone.
 */
static bool may_move_now(struct pin_request *req, unsigned long start,
			 unsigned long npages, unsigned int *delay,
			 unsigned int *again)
{
	bool first;

	if (!batch_is_held(req->acct, start, npages, &first))
		return first && (*again)++ < MOVE_AGAIN_MAX;
	if (req->waited >= MOVE_WAIT_MAX)
		return false;
	schedule_timeout_killable(msecs_to_jiffies(*delay));
	req->waited += *delay;
	*delay = min(2 * *delay, MOVE_DELAY_MAX);
	return true;
}

/*
 * GUP has a reference to each page before it knows that some must move. So two
 * holders of the same pages would make each other fail: @alone pins pages that must
 * move, or may have to.
 */
static long gup_moving(struct pin_account *acct, unsigned long start,
		       unsigned long npages, unsigned int gup_flags,
		       struct page **pages, bool alone)
{
	struct rw_semaphore *moving = &acct->ledger->moving;
	long ret;

	if (alone ? down_write_killable(moving) : down_read_killable(moving))
		return -EINTR;
	/* Nobody waits for user space while others wait for this lock */
	if (acct->flags & PIN_ACCOUNT_WAITS)
		gup_flags |= FOLL_NOFAULT;
	ret = gup_slow(acct, start, npages, gup_flags, pages, false);
	if (alone)
		up_write(moving);
	else
		up_read(moving);
	return ret;
}

/* GUP for one batch */
static long gup_batch(struct pin_request *req, unsigned long start,
		      unsigned long npages, struct page **pages)
{
	unsigned int gup_flags = req->gup_flags | FOLL_LONGTERM;
	struct pin_account *acct = req->acct;
	bool waits = acct->flags & PIN_ACCOUNT_WAITS, alone;
	unsigned int delay = 1, again = 0;
	long ret;

	if (fast_is_right(acct, gup_flags)) {
		ret = pin_user_pages_fast_only(start, npages, gup_flags, pages);
		if (ret > 0)
			return ret;
		/*
		 * The rest is for the slow form: it waits for the process's own
		 * userfaultfd only if that is asked for.
		 */
	}

	alone = first_must_move(acct, start);
	for (;;) {
		if (waits && !alone)
			ret = gup_slow(acct, start, npages, gup_flags, pages,
				       true);
		else
			ret = gup_moving(acct, start, npages, gup_flags, pages,
					 alone);
		/* A page has to come first, from wherever it takes */
		if (waits && alone && ret == -EFAULT &&
		    again++ < MOVE_AGAIN_MAX) {
			alone = false;
			continue;
		}
		if ((ret != -ENOMEM && ret != -EBUSY) ||
		    !may_move_now(req, start, npages, &delay, &again))
			return ret;
		alone = true;
	}
}

/*
 * Pin and account for what one leaf of a huge page maps, into an extent. Returns
 * 0 where there is none, or where GUP-fast leaves it to others.
 */
static long pin_leaf(struct pin_request *req)
{
	unsigned long start = req->start + (req->done << PAGE_SHIFT);
	long pinned, ret;
	struct page *page;

	if (!fast_is_right(req->acct, req->gup_flags))
		return 0;
	pinned = pin_user_leaf_fast(start, req->npages - req->done,
				    req->gup_flags, &page);
	if (pinned <= 0)
		return 0;

	/* No huge page is reserved: all of it counts */
	ret = account(req, NULL, page_to_pfn(page), pinned);
	if (ret < 0) {
		unpin_user_page_range_dirty_lock(page, pinned, false);
		return ret;
	}
	append_extent(req, page_to_pfn(page), pinned);
	req->done += pinned;
	return pinned;
}

/* Pins do not keep a device: if it has been taken away, its pages may be gone */
static void put_refused(struct page **pages, unsigned long npages)
{
	unsigned long n;

	for (; npages; pages += n, npages -= n) {
		unsigned long pfn = page_to_pfn(pages[0]);
		struct dev_pagemap *pgmap = get_dev_pagemap(pfn, NULL);

		n = pin_contiguous(pages, npages);
		if (pgmap || (pfn_to_online_page(pfn) &&
			      !is_zone_device_page(pages[0])))
			put_user_pages(pages, n);
		put_dev_pagemap(pgmap);
	}
}

/*
 * Pin and account for at most what one page table maps: GUP-fast does not look
 * for signals, so a caller would go on for as long as there is memory.
 */
static long pin_batch(struct pin_request *req, struct page **pages)
{
	unsigned long start = req->start + (req->done << PAGE_SHIFT);
	unsigned long table = PMD_SIZE - (start & ~PMD_MASK), npages;
	long pinned, ret;

	npages = min3(req->npages - req->done, table >> PAGE_SHIFT,
		      PIN_BATCH_PAGES);
	pinned = gup_batch(req, start, npages, pages);
	if (pinned < 0)
		return pinned;

	ret = account(req, pages, 0, pinned);
	if (ret < 0) {
		put_refused(pages, pinned);
		return ret;
	}
	if (req->extents)
		append_pages(req, pages, pinned);
	req->done += pinned;
	return pinned;
}

/* Pin the next pages of a request; @pages is for a batch of them */
static long pin_next(struct pin_request *req, struct page **pages)
{
	cond_resched();
	if (fatal_signal_pending(current))
		return -EINTR;
	return (req->extents ? pin_leaf(req) : 0) ?: pin_batch(req, pages);
}

static long refused(struct pin_request *req, unsigned long npages, long ret)
{
	if (req->full)
		pin_cgroup_refused(req->full);
	return pin_refuse(req->acct, req->owner, req->start, npages,
			  req->gup_flags, ret, req->reason, req->full);
}

/* What the holder is told when the last batch gave @ret */
static long pin_result(struct pin_request *req, long ret)
{
	struct pin_ledger *ledger = req->acct->ledger;

	/* What is left of a step */
	if (READ_ONCE(ledger->in_cgroup) != READ_ONCE(ledger->held_now))
		pin_account_settle(req->acct);
	if (req->done) {
		ret = req->done;
		if (trace_longterm_pin_enabled()) {
			unsigned long charge;

			charge = pin_ledger_published(ledger,
						      PIN_COUNTER_LOCKED);
			trace_longterm_pin(req->acct->name, req->start, ret,
					   charge,
					   READ_ONCE(ledger->held_now));
		}
	} else if (ret) {
		ret = refused(req, req->npages, ret);
	}
	put_misc_cg(req->full);
	return ret;
}

/**
 * pin_user_pages_account() - pin pages for long, into an array
 * @acct: the holder; pages of its mm are pinned
 * @owner: whose limit applies
 * @start: address of the first page in that mm
 * @npages: how many pages
 * @gup_flags: FOLL_WRITE if they will be written, and other flags of
 *	pin_user_pages_fast(); FOLL_LONGTERM is implied
 * @pages: receives the pages, room for @npages
 *
 * As all of GUP, this may pin fewer pages than asked; the next call, for the
 * rest, tells why. When it returns an error nothing is pinned or charged. The
 * caller ends its operation with pin_account_settle().
 *
 * Idea: iommufd's pfn_reader_user_pin(), with the accounting inside.
 *
 * Context: Process context. May sleep; takes the mmap_lock of the account's mm.
 * Return: pages pinned, more than 0 if @npages is; or
 * -EOPNOTSUPP: refused, for reason fsdax or file.
 * -EFAULT: refused, for reason secretmem, pfnmap, fault, eof, nospace or
 *	nohugetlb.
 * -ENOMEM: refused, for reason memlock, migrate or nomem.
 * -EBUSY: refused, for reason cgroup; or migrate, for memory of a device.
 * -EOVERFLOW: refused, for reason overflow.
 * -ESRCH: pin_account_mm() has none.
 * -EINTR: a fatal signal came.
 * Or another error of pin_user_pages_remote().
 */
long pin_user_pages_account(struct pin_account *acct,
			    const struct pin_owner *owner, unsigned long start,
			    unsigned long npages, unsigned int gup_flags,
			    struct page **pages)
{
	struct pin_request req = {
		.acct = acct,
		.owner = owner,
		.start = start,
		.npages = npages,
		.gup_flags = gup_flags,
		.reason = PIN_REASON_NR,
	};
	long ret = 0;

	while (req.done < npages && ret >= 0)
		ret = pin_next(&req, pages + req.done);
	return pin_result(&req, ret);
}
EXPORT_SYMBOL_GPL(pin_user_pages_account);

/* Up to so many pages are pinned without an allocation */
#define PIN_FEW_PAGES	8

/**
 * pin_user_extents_account() - pin pages for long, into contiguous extents
 * @acct: the holder; pages of its mm are pinned
 * @owner: whose limit applies
 * @start: address of the first page in that mm
 * @npages: how many pages
 * @gup_flags: as for pin_user_pages_account()
 * @extents: receives what was pinned, in the order of addresses; pages that
 *	follow each other physically are in one extent
 * @max_extents: room there, at least PIN_EXTENTS_MIN or @npages
 * @nr_extents: set to how many extents were filled in
 *
 * For holders that remember no struct page: they put the pages by PFN, with
 * put_user_pfns_account(). Returns early when the array may not hold another
 * batch; all else is as in pin_user_pages_account().
 *
 * Context: Process context. May sleep; takes the mmap_lock of the account's mm.
 * Return: as pin_user_pages_account(); or
 * -EINVAL: @max_extents is too small.
 */
long pin_user_extents_account(struct pin_account *acct,
			      const struct pin_owner *owner,
			      unsigned long start, unsigned long npages,
			      unsigned int gup_flags,
			      struct pin_extent *extents,
			      unsigned int max_extents,
			      unsigned int *nr_extents)
{
	struct pin_request req = {
		.acct = acct,
		.owner = owner,
		.start = start,
		.npages = npages,
		.gup_flags = gup_flags,
		.extents = extents,
		.reason = PIN_REASON_NR,
	};
	struct page *few[PIN_FEW_PAGES], **pages = few;
	long ret = 0;

	*nr_extents = 0;
	if (WARN_ON_ONCE(max_extents < min(npages, PIN_EXTENTS_MIN)))
		return -EINVAL;

	if (npages > PIN_FEW_PAGES)
		pages = kmalloc_array(min(npages, PIN_BATCH_PAGES),
				      sizeof(*pages), GFP_KERNEL);
	if (!pages) {
		req.reason = PIN_REASON_NOMEM;
		ret = -ENOMEM;
	}

	/* In a batch each page may become an extent */
	while (pages && req.done < npages && ret >= 0 &&
	       max_extents - req.nr_extents >= min(npages - req.done,
						   PIN_BATCH_PAGES))
		ret = pin_next(&req, pages);
	if (pages != few)
		kfree(pages);

	*nr_extents = req.nr_extents;
	return pin_result(&req, ret);
}
EXPORT_SYMBOL_GPL(pin_user_extents_account);

/*
 * Take pins off the first pages of @extent, or off all of them, and move its
 * beginning. Returns how many of them counted; @unpin is set to those that are to be
 * unpinned, @pgmap as in struct pin_step.
 */
static __always_inline unsigned long
put_step(struct pin_account *acct, struct pin_extent *extent,
	 struct pin_extent *unpin, struct dev_pagemap **pgmap)
{
	unsigned long covered;
	struct pin_step step;

	covered = pin_ledger_sub(acct->ledger, acct->plane, extent->pfn,
				 extent->npages, sub_flags(acct), &step);
	account_released(acct, extent->pfn, &step);
	unpin->pfn = extent->pfn;
	unpin->npages = step.gone ? 0 : step.counted;
	*pgmap = step.pgmap;
	extent->pfn += covered;
	extent->npages -= covered;
	return step.counted;
}

/* As put_step(), for the first extents if each is a page that lies alone */
static __always_inline unsigned int
put_alone(struct pin_account *acct, const struct pin_extent *extents,
	  unsigned int nr, struct page **pages)
{
	struct pin_step step = {};

	step.counted = pin_ledger_sub_small(acct->ledger, acct->plane, extents,
					    nr, sub_flags(acct), pages);
	account_released(acct, PIN_SMALL_PAGES, &step);
	return step.counted;
}

static void unpin_runs(const struct pin_extent *run, unsigned int nr,
		       bool make_dirty)
{
	for (; nr; run++, nr--)
		if (run->npages)
			unpin_user_page_range_dirty_lock(pfn_to_page(run->pfn),
							 run->npages,
							 make_dirty);
}

/*
 * Put the pages of at most PIN_PUT_EXTENTS extents, which are changed; returns how
 * many of them counted. Some steps share a lock, for scattered pages: but no more
 * pages than one pin adds at once.
 */
static unsigned long put_extents(struct pin_account *acct,
				 struct pin_extent *extent, unsigned int nr,
				 bool make_dirty)
{
	struct pin_ledger *ledger = acct->ledger;
	struct pin_extent runs[PIN_PUT_EXTENTS];
	struct page *alone[PIN_PUT_EXTENTS];
	struct pin_extent *end = extent + nr;
	unsigned long total = 0;

	while (extent < end) {
		unsigned int nr_alone = 0, nr_runs = 0, n;
		struct dev_pagemap *pgmap = NULL;
		unsigned long counted = 0;

		mutex_lock(&ledger->lock);
		do {
			n = put_alone(acct, extent, end - extent,
				      alone + nr_alone);
			if (n) {
				nr_alone += n;
				counted += n;
				extent += n;
				continue;
			}
			counted += put_step(acct, extent, &runs[nr_runs++],
					    &pgmap);
			if (!extent->npages)
				extent++;
		} while (extent < end && nr_runs < PIN_PUT_EXTENTS && !pgmap &&
			 counted < PIN_BATCH_PAGES);
		pin_ledger_publish(ledger);
		/* At once: else who has adopted pins in the old cgroup's room */
		if (unlikely(!list_empty(&ledger->past)))
			pin_ledger_settle(ledger, NULL);
		mutex_unlock(&ledger->lock);

		if (nr_alone)
			unpin_user_pages_dirty_lock(alone, nr_alone,
						    make_dirty);
		unpin_runs(runs, nr_runs, make_dirty);
		put_dev_pagemap(pgmap);
		total += counted;
		if (extent < end)
			cond_resched();
	}
	return total;
}

static void trace_put_pages(struct pin_account *acct, unsigned long npages)
{
	struct pin_ledger *ledger = acct->ledger;

	if (trace_longterm_put_enabled())
		trace_longterm_put(acct->name, npages,
				   pin_ledger_published(ledger,
							PIN_COUNTER_LOCKED),
				   READ_ONCE(ledger->held_now));
}

/**
 * pin_put_begin() - begin to put pages that need not lie together
 * @put: on the stack of the caller
 * @acct: the holder that pinned them
 * @make_dirty: they may have been written
 *
 * Context: Any context.
 */
void pin_put_begin(struct pin_put *put, struct pin_account *acct,
		   bool make_dirty)
{
	put->acct = acct;
	put->make_dirty = make_dirty;
	put->done = 0;
	put->nr = 0;
}
EXPORT_SYMBOL_GPL(pin_put_begin);

/* Not inlined: pin_put_add() is short, but for this */
static noinline void put_waiting(struct pin_put *put)
{
	put->done += put_extents(put->acct, put->extents, put->nr,
				 put->make_dirty);
	put->nr = 0;
}

/**
 * pin_put_add() - put contiguous pages that were pinned for long, perhaps later
 * @put: what pin_put_begin() began
 * @pfn: the first page frame
 * @npages: how many pages, at least 1
 *
 * As put_user_pfns_account(), but for a lock that some extents share.
 *
 * Context: Process context. May sleep.
 */
void pin_put_add(struct pin_put *put, unsigned long pfn, unsigned long npages)
{
	if (put->nr && put->extents[put->nr - 1].pfn +
		       put->extents[put->nr - 1].npages == pfn) {
		put->extents[put->nr - 1].npages += npages;
		return;
	}
	put->extents[put->nr++] = (struct pin_extent){ pfn, npages };
	if (put->nr == PIN_PUT_EXTENTS)
		put_waiting(put);
}
EXPORT_SYMBOL_GPL(pin_put_add);

/**
 * pin_put_end() - put what pin_put_add() has not put yet
 * @put: what pin_put_begin() began
 *
 * Context: Process context. May sleep.
 */
void pin_put_end(struct pin_put *put)
{
	put_waiting(put);
	trace_put_pages(put->acct, put->done);
}
EXPORT_SYMBOL_GPL(pin_put_end);

/**
 * put_user_pages_account() - put pages that were pinned for long
 * @acct: the holder that pinned them
 * @pages: the pages
 * @npages: how many pages
 * @make_dirty: they may have been written
 *
 * The caller ends its operation with pin_account_settle(). Works also when the
 * account's mm is dead.
 *
 * Context: Process context. May sleep.
 */
void put_user_pages_account(struct pin_account *acct, struct page **pages,
			    unsigned long npages, bool make_dirty)
{
	struct pin_put put;
	unsigned long n;

	pin_put_begin(&put, acct, make_dirty);
	for (; npages; pages += n, npages -= n) {
		n = pin_contiguous(pages, npages);
		pin_put_add(&put, page_to_pfn(pages[0]), n);
	}
	pin_put_end(&put);
}
EXPORT_SYMBOL_GPL(put_user_pages_account);

/**
 * put_user_pfns_account() - put contiguous pages that were pinned for long
 * @acct: the holder that pinned them
 * @pfn: the first page frame
 * @npages: how many pages
 * @make_dirty: they may have been written
 *
 * For holders that remember only PFNs. Frames whose pins are not counted are
 * passed over, see pin_account_counts(). The caller ends its operation with
 * pin_account_settle(). Works also when the account's mm is dead.
 *
 * Idea: unpin_user_page_range_dirty_lock().
 *
 * Context: Process context. May sleep.
 */
void put_user_pfns_account(struct pin_account *acct, unsigned long pfn,
			   unsigned long npages, bool make_dirty)
{
	struct pin_extent extent = { pfn, npages };

	trace_put_pages(acct, put_extents(acct, &extent, npages > 0,
					  make_dirty));
}
EXPORT_SYMBOL_GPL(put_user_pfns_account);

/**
 * pin_account_settle() - end an operation of pins or puts
 * @acct: the holder
 *
 * Gives the cgroup back what is no longer held, which a put leaves charged:
 * that is a walk over all cgroups above.
 *
 * Context: Process context. May sleep.
 */
void pin_account_settle(struct pin_account *acct)
{
	guard(mutex)(&acct->ledger->lock);
	pin_ledger_settle(acct->ledger, NULL);
}
EXPORT_SYMBOL_GPL(pin_account_settle);

/**
 * pin_account_refused() - report that memory could not be pinned
 * @acct: the holder
 * @owner: on whose behalf
 * @start: address of the first page
 * @npages: how many pages
 * @gup_flags: as for pin_user_pages_account()
 * @err: the error
 * @reason: PIN_REASON_PFNMAP, or PIN_REASON_MEMLOCK
 *
 * For holders with PIN_ACCOUNT_PFNMAP, when they could not map VM_PFNMAP memory
 * by themselves either; and for those with no counter, when they do not
 * pin because of the limit. All other refusals are reported where they happen.
 *
 * Context: Process context. May sleep; takes the mmap_lock of the account's mm.
 */
void pin_account_refused(struct pin_account *acct,
			 const struct pin_owner *owner, unsigned long start,
			 unsigned long npages, unsigned int gup_flags, int err,
			 enum pin_reason reason)
{
	pin_refuse(acct, owner, start, npages, gup_flags, err, reason, NULL);
}
EXPORT_SYMBOL_GPL(pin_account_refused);

/**
 * pin_account_adopt() - let another mm own an account
 * @acct: an account with whose mm no process runs any more
 * @owner: the new owner
 * @mm: its mm, which is current->mm
 *
 * After exec(), and when a process takes over from one that ended. Takes the same
 * time however much is pinned, since the whole ledger changes its owner. But only
 * pins of @acct are charged to @mm: the holders of other accounts have not asked
 * yet, and it may not be @mm for which they will. What is held stays charged to
 * the cgroup that it was charged to; what is added is charged to the adopter's.
 *
 * Context: Process context. May sleep; takes the mmap_lock of @mm.
 * Return: 0, also if @mm owns the account already; or, with nothing changed,
 * -EINVAL: the account is part of another counter than VmLck.
 * -EBUSY: a process runs with the account's mm. In a kernel without memory cgroups, also
 *	if somebody just reads that memory by /proc.
 * -EEXIST: @mm has a ledger of its own.
 * -ENOMEM: RLIMIT_MEMLOCK does not allow it, or no memory.
 * -EINTR: a fatal signal came.
 * Except for -EINTR, there is pin_move_begin().
 */
int pin_account_adopt(struct pin_account *acct, const struct pin_owner *owner,
		      struct mm_struct *mm)
{
	return pin_ledger_adopt(acct, owner, mm);
}
EXPORT_SYMBOL_GPL(pin_account_adopt);

/**
 * pin_account_taken_over() - let reports name the current process for an account
 * @acct: the account
 *
 * When the current process gets what @acct has pinned, but not the account.
 *
 * Context: Process context. May sleep.
 */
void pin_account_taken_over(struct pin_account *acct)
{
	guard(mutex)(&acct->ledger->lock);
	pin_account_name_process(acct);
}
EXPORT_SYMBOL_GPL(pin_account_taken_over);

/* Pages of a step of a move: a lock of either ledger is held no longer */
#define MOVE_STEP	1024UL

/**
 * pin_move_begin() - begin to move pins from one account to another
 * @move: the move
 * @from: the account that has the pins
 * @to: the account that gets them; a process runs with its mm until pin_move_end()
 * @owner: the owner of @to, whose limit applies
 *
 * A move has two phases. First pin_move_in() charges @to, range by range, which
 * may fail; then pin_move_undo() takes back what it has. Once all ranges are in,
 * pin_move_out() takes them out of @from, which cannot fail. pin_move_end() is
 * last in either case. The caller keeps the pages pinned throughout.
 *
 * Cgroups that are above both ledgers need no room: they are charged for the
 * pages once, before and meanwhile; and after, see pin_move_end().
 *
 * Context: Process context. May sleep.
 */
void pin_move_begin(struct pin_move *move, struct pin_account *from,
		    struct pin_account *to, const struct pin_owner *owner)
{
	guard(mutex)(&from->ledger->lock);
	*move = (struct pin_move) {
		.from = from,
		.to = to,
		.owner = owner,
		.common = pin_ledger_common_cgroup(from->ledger, to->ledger),
	};
}
EXPORT_SYMBOL_GPL(pin_move_begin);

/* There may be other pages now, which @acct has not pinned */
static bool any_gone(struct pin_account *acct, unsigned long pfn,
		     unsigned long npages)
{
	guard(mutex)(&acct->ledger->lock);
	return pin_ledger_any_gone(acct->ledger, pfn, npages);
}

/**
 * pin_move_in() - charge the account that gets pins
 * @move: the move
 * @pfn: the first page frame
 * @npages: how many pages
 *
 * A refusal is counted and logged as that of a pin.
 *
 * Context: Process context. May sleep; takes the mmap_lock of the account's mm.
 * Return: 0; or, with nothing changed,
 * -ENOMEM: RLIMIT_MEMLOCK does not allow it, or no memory for the ledger.
 * -EBUSY: the limit of a cgroup of @to's does not allow it.
 * -EOVERFLOW: a page has as many pins as it may have.
 * -EFAULT: pages are of a device that was taken away, or is being.
 * -EINTR: a fatal signal came.
 */
int pin_move_in(struct pin_move *move, unsigned long pfn, unsigned long npages)
{
	struct pin_request req = {
		.acct = move->to,
		.owner = move->owner,
		.move = move,
		.reason = PIN_REASON_NR,
	};
	unsigned long done = 0;
	long ret = 0;

	if (any_gone(move->from, pfn, npages)) {
		req.reason = PIN_REASON_FAULT;
		return refused(&req, npages, -EFAULT);
	}

	while (done < npages && ret >= 0) {
		req.npages = min(npages - done, MOVE_STEP);
		ret = account(&req, NULL, pfn + done, req.npages);
		if (ret >= 0)
			done += req.npages;
		cond_resched();
	}
	/* And not meanwhile */
	if (ret >= 0 && any_gone(move->from, pfn, npages)) {
		req.reason = PIN_REASON_FAULT;
		ret = -EFAULT;
	}
	if (ret >= 0)
		return 0;
	pin_move_undo(move, pfn, done);
	/* Which address that is in the new mm, only the holder knows */
	ret = refused(&req, npages, ret);
	put_misc_cg(req.full);
	return ret;
}
EXPORT_SYMBOL_GPL(pin_move_in);

/*
 * What is not held any more is settled at once: if it were not, other pins of the
 * ledger could take the room that the move owes.
 */
static void take_out(struct pin_move *move, struct pin_account *acct,
		     unsigned long pfn, unsigned long npages, bool undo)
{
	struct pin_ledger *ledger = acct->ledger;

	while (npages) {
		struct pin_step step;
		unsigned long covered;

		mutex_lock(&ledger->lock);
		covered = pin_ledger_sub(ledger, acct->plane, pfn, npages,
					 undo ? PIN_SUB_UNDO : sub_flags(acct),
					 &step);
		account_released(acct, pfn, &step);
		pin_ledger_publish(ledger);
		pin_ledger_settle(ledger, move);
		mutex_unlock(&ledger->lock);
		put_dev_pagemap(step.pgmap);

		pfn += covered;
		npages -= covered;
		cond_resched();
	}
}

/**
 * pin_move_undo() - take out of the account that gets pins what it got
 * @move: the move
 * @pfn: the first page frame
 * @npages: how many pages
 *
 * Context: Process context. May sleep.
 */
void pin_move_undo(struct pin_move *move, unsigned long pfn,
		   unsigned long npages)
{
	take_out(move, move->to, pfn, npages, true);
}
EXPORT_SYMBOL_GPL(pin_move_undo);

/**
 * pin_move_out() - take pins out of the account that had them
 * @move: the move
 * @pfn: the first page frame
 * @npages: how many pages
 *
 * The second phase, when all are in the other account.
 *
 * Context: Process context. May sleep.
 */
void pin_move_out(struct pin_move *move, unsigned long pfn,
		  unsigned long npages)
{
	take_out(move, move->from, pfn, npages, false);
}
EXPORT_SYMBOL_GPL(pin_move_out);

/**
 * pin_move_end() - end a move, or one that was undone
 * @move: the move
 *
 * Settles both accounts. If the ledger that lost the pages holds them all the same,
 * for another holder, then both do now, and cgroups above are charged for both,
 * beyond their limits if need be: no more is pinned than before.
 *
 * Context: Process context. May sleep.
 */
void pin_move_end(struct pin_move *move)
{
	if (move->owed)
		pin_cgroup_force(move->common, move->owed);
	move->owed = 0;
	pin_account_settle(move->from);
	pin_account_settle(move->to);
}
EXPORT_SYMBOL_GPL(pin_move_end);

#include "tests/pin_account_kunit.h"
#include "tests/pin_bench_kunit.h"
