/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Between the ledger, the accounts, and what reports on them. The rules are
 * on top of mm/pin_ledger.c.
 */
#ifndef _MM_PIN_LEDGER_H
#define _MM_PIN_LEDGER_H

#include <linux/bits.h>
#include <linux/list.h>
#include <linux/lockdep.h>
#include <linux/log2.h>
#include <linux/minmax.h>
#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/sched/user.h>
#include <linux/sizes.h>
#include <linux/user_pages.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "pin_cgroup.h"

struct dev_pagemap;
struct pin_chunk;

/*
 * Counters of small pages come in chunks. A chunk covers 2 MiB: of that, all or
 * nothing has struct pages, whatever memory is plugged in.
 */
#define PIN_CHUNK_SHIFT		(ilog2(SZ_2M) - PAGE_SHIFT)
#define PIN_CHUNK_PAGES		BIT(PIN_CHUNK_SHIFT)

/* Most pins that the ledger gives on one small page, and on one large folio */
#define PIN_PAGE_MAX		U16_MAX
#define PIN_FOLIO_MAX		BIT(29)

/* No pins on a folio that has more references than this */
#define PIN_REFCOUNT_MAX	(INT_MAX / 2)

/*
 * Pages pinned by one call of GUP, at most what one page table maps, and what
 * the holder's array of extents has room for. PTRS_PER_PTE is a variable on some
 * architectures, and an int on others.
 */
#define PIN_BATCH_PAGES							\
	MIN((unsigned long)PTRS_PER_PTE, PIN_EXTENTS_MIN)

/**
 * enum pin_counter - a number of pages to which RLIMIT_MEMLOCK applies
 * @PIN_COUNTER_LOCKED: mm->pin_charge, beside mm->locked_vm
 * @PIN_COUNTER_PINNED: mm->pinned_vm, to which others add as well
 * @PIN_COUNTER_USER: user_struct.locked_vm of ledger->user, likewise
 * @PIN_COUNTER_NR: number of counters; or none of them
 */
enum pin_counter {
	PIN_COUNTER_LOCKED,
	PIN_COUNTER_PINNED,
	PIN_COUNTER_USER,
	PIN_COUNTER_NR,
};

/**
 * enum pin_plane_id - pins that are counted apart: those of each set of counters
 * @PIN_PLANE_LOCKED: VFIO's containers
 * @PIN_PLANE_HELD: in no counter; their holder compares them with a limit by
 *	itself, or struct pin_second_user counts them
 * @PIN_PLANE_PINNED: holders that only VmPin has, as vDPA; and what accounts count
 *	for users that are not ledger->user
 * @PIN_PLANE_LOCKED_PINNED: iommufd, as it counts for a process
 * @PIN_PLANE_USER_PINNED: iommufd, as it counts for a user; buffers of io_uring
 * @PIN_PLANE_USER: rings of io_uring
 * @PIN_PLANE_NR: number of planes
 */
enum pin_plane_id {
	PIN_PLANE_LOCKED,
	PIN_PLANE_HELD,
	PIN_PLANE_PINNED,
	PIN_PLANE_LOCKED_PINNED,
	PIN_PLANE_USER_PINNED,
	PIN_PLANE_USER,
	PIN_PLANE_NR,
};

/* Planes whose pins are part of each counter */
#define PIN_PLANES_PINNED	(BIT(PIN_PLANE_PINNED) | \
				 BIT(PIN_PLANE_LOCKED_PINNED) | \
				 BIT(PIN_PLANE_USER_PINNED))
#define PIN_PLANES_LOCKED	(BIT(PIN_PLANE_LOCKED) | \
				 BIT(PIN_PLANE_LOCKED_PINNED))
#define PIN_PLANES_USER		(BIT(PIN_PLANE_USER_PINNED) | \
				 BIT(PIN_PLANE_USER))
/* Of counters that others change as well */
#define PIN_PLANES_SHARED	(PIN_PLANES_PINNED | PIN_PLANES_USER)

/**
 * pin_counter_planes() - tell whose pins are part of a counter
 * @counter: the counter
 *
 * Context: Any context; does not sleep.
 * Return: a mask of planes.
 */
static inline unsigned int pin_counter_planes(enum pin_counter counter)
{
	switch (counter) {
	case PIN_COUNTER_LOCKED:
		return PIN_PLANES_LOCKED;
	case PIN_COUNTER_PINNED:
		return PIN_PLANES_PINNED;
	case PIN_COUNTER_USER:
		return PIN_PLANES_USER;
	default:
		return 0;
	}
}

/**
 * struct pin_plane - pins of one kind
 * @folios: pins on each large folio, by the PFN of its head
 * @chunks: struct pin_chunk of small pages, by PFN >> PIN_CHUNK_SHIFT
 * @last_chunk: the one that was found last; or NULL
 * @pins: all pins
 * @charge: pages, sum over folios of min(pins, pages of the folio)
 */
struct pin_plane {
	struct xarray folios;
	struct xarray chunks;
	struct pin_chunk *last_chunk;
	unsigned long pins;
	unsigned long charge;
};

/**
 * struct pin_past_cgroup - what a ledger is charged to from before an adoption
 * @list: in the ledger's list
 * @cgroup: the cgroup, with a reference
 * @npages: pages charged to it, more than 0
 */
struct pin_past_cgroup {
	struct list_head list;
	struct misc_cg *cgroup;
	unsigned long npages;
};

/**
 * struct pin_second_user - what is pinned for a user who is not the ledger's
 * @list: in the ledger's list
 * @user: whose counter has @charged, with a reference
 * @accounts: how many accounts are for that user; it ends with the last
 * @charged: pages: each pin of these accounts on a small page, and min(their pins,
 *	pages of the folio) of each large folio, as stock counts at most
 * @folios: their pins on each large folio, by the PFN of its head
 *
 * A process has such users if it has changed its uid while the first user's holders
 * were there. ledger->lock protects it.
 */
struct pin_second_user {
	struct list_head list;
	struct user_struct *user;
	unsigned int accounts;
	unsigned long charged;
	struct xarray folios;
};

/**
 * struct pin_ledger - what the holders of one mm pin, each folio once
 * @lock: protects what has no other rule. A leaf: whoever has it waits neither
 *	for memory nor for another lock that may sleep
 * @moving: for writing, by who pins pages that must move; for reading, by who
 *	pins others. mmap_lock is taken inside it
 * @number: no other ledger has had it since boot; never changes
 * @refs: accounts and readers; the last goes under pin_ledgers_lock
 * @mm: whose memory this is; a reference on the mm_struct, not on its memory.
 *	Changes under pin_ledgers_lock and @lock; who reads it in a RCU section may
 *	use it there.
 *	Whoever sees a new one sees which accounts are unclaimed
 * @planes: the pins
 * @used: planes in which pins have ever been, or should have been
 * @devices: struct pin_device_chunk of device memory, whoever pins it, by PFN >>
 *	PIN_CHUNK_SHIFT
 * @device_pins: all pins there
 * @gone_pins: those of them whose pages went with the device
 * @went: there have been such
 * @twice: pages that the planes of a counter have in their charge more than once:
 *	what pin_ledger_charge() takes off their sum
 * @unclaimed: pins in a counter that nobody has claimed since the ledger was
 *	adopted, see pin_account_adopt()
 * @published: what the counters have of this ledger; but for PIN_COUNTER_LOCKED,
 *	which is mm->pin_charge
 * @user: whose counter PIN_COUNTER_USER is, with a reference: the first user of an
 *	account with that counter; NULL before
 * @uncounted: pages that NR_LONGTERM_PINNED of node @nid has not got yet; 0 when a
 *	request has ended
 * @nid: the node
 * @held: pages, sum over folios with any pin of their whole size
 * @held_now: @held as others see it, which is only what the limits have allowed;
 *	as mm->pin_charge is of pin_ledger_due()
 * @cgroup: of the process that made the ledger or has adopted it; NULL in a
 *	kernel without the misc controller; changes as @mm does, see
 *	pin_ledger_cgroup()
 * @past: cgroups that it was of before, and that are charged yet; the oldest
 *	first, which gets something back last
 * @in_cgroup: pages charged to all of these; at least @held_now
 * @accounts: the holders; readers go by RCU
 * @second_users: struct pin_second_user of other users than @user
 * @second_charged: pages that their counters have
 * @free: of RCU
 */
struct pin_ledger {
	struct mutex lock;	/* a leaf */
	struct rw_semaphore moving;
	u64 number;
	refcount_t refs;
	struct mm_struct *mm;
	struct pin_plane planes[PIN_PLANE_NR];
	unsigned int used;
	struct xarray devices;
	unsigned long device_pins;
	unsigned long gone_pins;
	bool went;
	unsigned long twice[PIN_COUNTER_NR];
	unsigned long unclaimed[PIN_COUNTER_NR];
	unsigned long published[PIN_COUNTER_NR];
	struct user_struct *user;
	long uncounted;
	int nid;
	unsigned long held;
	unsigned long held_now;
	struct misc_cg *cgroup;
	struct list_head past;
	unsigned long in_cgroup;
	struct list_head accounts;
	struct list_head second_users;
	unsigned long second_charged;
	struct rcu_work free;
};

/**
 * struct pin_account - a holder of long-term pins, for one mm
 * @ledger: never changes; its mm may, see pin_account_adopt()
 * @in_ledger: in the ledger's list
 * @id: in pin_accounts; no other account has had it since boot
 * @flags: PIN_ACCOUNT_* and PIN_COUNT_*
 * @plane: where its pins are counted, but for pages of device memory
 * @limit: the counter of the ledger that RLIMIT_MEMLOCK applies to, PIN_COUNTER_NR
 *	if none; with @second it applies to the counter of @user
 * @refs: of those who got it by pin_account_get(); or one that nobody has, which
 *	keeps it as pages of it stay pinned for ever
 * @key: for whom, with @user; or NULL
 * @user: whose counter is part of it, with a reference; or NULL
 * @second: where its pins are counted for @user, who is not the user of the ledger;
 *	or NULL
 * @unclaimed: another mm than its own has adopted the ledger, and its
 *	holder has not asked for that; changes as ledger->mm does
 * @pid: of the process that set the account up, or got what it has pinned;
 *	changes under ledger->lock
 * @comm: its name then, likewise
 * @counted: pins in @plane, which are less than @pages if it pins device memory. Where
 *	memory has come to the place of a device that went while it was pinned, a put
 *	of one holder may count for another: then this is off by as much until both
 *	have put
 * @had_devices: it has pinned such memory, which may have gone with its device
 * @pages: pins that the holder keeps now
 * @peak: the most that @pages has been
 * @acquired: pins taken since the account was made
 * @released: pins given back since
 * @refused: requests that were refused, by reason
 * @free: of RCU
 * @name: who pins, with @id
 *
 * The counters are in pages and change under the ledger's lock. Readers take
 * none, and find an account and its ledger in a RCU section.
 */
struct pin_account {
	struct pin_ledger *ledger;
	struct list_head in_ledger;
	unsigned long id;
	unsigned int flags;
	enum pin_plane_id plane;
	enum pin_counter limit;
	refcount_t refs;
	const void *key;
	struct user_struct *user;
	struct pin_second_user *second;
	bool unclaimed;
	pid_t pid;
	char comm[TASK_COMM_LEN];
	unsigned long counted;
	bool had_devices;
	u64 pages;
	u64 peak;
	u64 acquired;
	u64 released;
	u64 refused[PIN_REASON_NR];
	struct rcu_head free;
	char name[];
};

/* For entries: nobody waits for memory while ledger->lock is held */
#define PIN_GFP_LOCKED	(GFP_NOWAIT | __GFP_NOWARN | __GFP_ACCOUNT)

/*
 * How pins are taken off. UNDO: they are those that pin_ledger_add() has just added.
 * NOT_GONE: none of them can have gone with a device.
 */
#define PIN_SUB_UNDO		BIT(0)
#define PIN_SUB_NOT_GONE	BIT(1)

/**
 * struct pin_step - pins that were taken off the ledger by one step
 * @counted: how many of the pages, from the first on, had a pin taken off
 * @gone: their pages went with the device: there is nothing to be unpinned
 * @swapped: they were of another holder, who has taken some that had gone
 * @pgmap: of device memory, with a reference: put_dev_pagemap() when the pages are
 *	unpinned, so that they stay until then; else NULL
 */
struct pin_step {
	unsigned long counted;
	bool gone;
	bool swapped;
	struct dev_pagemap *pgmap;
};

/*
 * Protects mm->pin_ledger while it changes. All processes share it, so nothing
 * waits for memory or for a mmap_lock in it.
 */
extern struct mutex pin_ledgers_lock;
extern struct xarray pin_accounts;

/**
 * pin_mm_has_process() - tell whether a process runs with a mm
 * @mm: the mm; the caller keeps its mm_struct
 *
 * Who only reads its memory, by /proc for instance, has a reference as well. Without
 * mm->owner that cannot be told apart.
 *
 * Context: Any context; does not sleep.
 * Return: true if one does; in a kernel without memory cgroups also if somebody reads
 * the memory. Once false, it stays so.
 */
static inline bool pin_mm_has_process(struct mm_struct *mm)
{
	if (!atomic_read(&mm->mm_users))
		return false;
#ifdef CONFIG_MEMCG
	return rcu_access_pointer(mm->owner);
#else
	return true;
#endif
}

/**
 * pin_ledger_charge() - count the pages that are part of a counter
 * @ledger: the ledger
 * @counter: the counter
 *
 * Context: Process context. ledger->lock is held.
 * Return: pages, each folio once.
 */
static __always_inline unsigned long pin_ledger_charge(struct pin_ledger *ledger,
						       enum pin_counter counter)
{
	unsigned int planes = pin_counter_planes(counter);
	unsigned long charge = 0;

	if (planes & BIT(PIN_PLANE_LOCKED))
		charge += ledger->planes[PIN_PLANE_LOCKED].charge;
	if (planes & BIT(PIN_PLANE_PINNED))
		charge += ledger->planes[PIN_PLANE_PINNED].charge;
	if (planes & BIT(PIN_PLANE_LOCKED_PINNED))
		charge += ledger->planes[PIN_PLANE_LOCKED_PINNED].charge;
	if (planes & BIT(PIN_PLANE_USER_PINNED))
		charge += ledger->planes[PIN_PLANE_USER_PINNED].charge;
	if (planes & BIT(PIN_PLANE_USER))
		charge += ledger->planes[PIN_PLANE_USER].charge;
	return charge - ledger->twice[counter];
}

/**
 * pin_ledger_pins() - count the pins that are part of a counter
 * @ledger: the ledger
 * @counter: the counter
 *
 * Context: Process context. ledger->lock is held.
 * Return: pins.
 */
static inline unsigned long pin_ledger_pins(struct pin_ledger *ledger,
					    enum pin_counter counter)
{
	unsigned long pins = 0;
	int i;

	for (i = 0; i < PIN_PLANE_NR; i++)
		if (pin_counter_planes(counter) & BIT(i))
			pins += ledger->planes[i].pins;
	return pins;
}

/**
 * pin_ledger_due() - count what a counter is to have of a ledger
 * @ledger: the ledger
 * @counter: the counter
 *
 * Of accounts that nobody has claimed, nothing counts. Pins of a folio have no
 * names, so this is an upper bound: at most the pins that somebody has claimed.
 *
 * Context: Process context. ledger->lock is held.
 * Return: pages.
 */
static __always_inline unsigned long pin_ledger_due(struct pin_ledger *ledger,
						    enum pin_counter counter)
{
	unsigned long charge;

	lockdep_assert_held(&ledger->lock);

	charge = pin_ledger_charge(ledger, counter);
	if (likely(!ledger->unclaimed[counter]))
		return charge;
	return min(charge, pin_ledger_pins(ledger, counter) -
			   ledger->unclaimed[counter]);
}

/**
 * pin_ledger_published() - read what a counter has of a ledger
 * @ledger: the ledger; its reader has a reference, or is in a RCU section
 * @counter: the counter
 *
 * Context: Any context; does not sleep.
 * Return: pages.
 */
static inline unsigned long pin_ledger_published(struct pin_ledger *ledger,
						 enum pin_counter counter)
{
	if (counter != PIN_COUNTER_LOCKED)
		return READ_ONCE(ledger->published[counter]);
	guard(rcu)();
	return READ_ONCE(READ_ONCE(ledger->mm)->pin_charge);
}

/**
 * pin_user_counter() - get the counter of a user's locked pages
 * @user: the user
 *
 * The field is not there in every kernel, but where holders use it.
 *
 * Context: Any context; does not sleep.
 * Return: the counter, in pages.
 */
static inline atomic_long_t *pin_user_counter(struct user_struct *user)
{
#if defined(CONFIG_NET) || defined(CONFIG_IO_URING) || \
	IS_ENABLED(CONFIG_IOMMUFD)
	return &user->locked_vm;
#else
	static atomic_long_t none;

	return &none;
#endif
}

/**
 * pin_contiguous() - count the pages at the start of an array that lie together
 * @pages: the pages
 * @npages: how many pages, at least 1
 *
 * Context: Any context; does not sleep.
 * Return: how many have page frames that follow each other.
 */
static inline unsigned long pin_contiguous(struct page **pages,
					   unsigned long npages)
{
	unsigned long pfn = page_to_pfn(pages[0]), n = 1;

	while (n < npages && page_to_pfn(pages[n]) == pfn + n)
		n++;
	return n;
}

void pin_ledger_count_node(struct pin_ledger *ledger);
void pin_ledger_publish_shared(struct pin_ledger *ledger);

/**
 * pin_ledger_publish() - let others see what was added or taken off
 * @ledger: the ledger
 *
 * Context: Process context. ledger->lock is held.
 */
static inline void pin_ledger_publish(struct pin_ledger *ledger)
{
	lockdep_assert_held(&ledger->lock);

	/* Who looks never finds that more is charged than is held */
	if (ledger->held > ledger->held_now) {
		WRITE_ONCE(ledger->held_now, ledger->held);
		/* What is held before the charge */
		smp_wmb();
	}
	WRITE_ONCE(ledger->mm->pin_charge,
		   pin_ledger_due(ledger, PIN_COUNTER_LOCKED));
	/* The charge before what is held */
	smp_wmb();
	WRITE_ONCE(ledger->held_now, ledger->held);
	if (ledger->uncounted)
		pin_ledger_count_node(ledger);
	if (unlikely(ledger->used & PIN_PLANES_SHARED))
		pin_ledger_publish_shared(ledger);
}

struct pin_ledger *pin_ledger_get(struct mm_struct *mm);
struct pin_ledger *pin_ledger_find(struct mm_struct *mm);
void pin_ledger_put(struct pin_ledger *ledger);
struct misc_cg *pin_ledger_cgroup(struct pin_ledger *ledger);
long pin_ledger_add(struct pin_ledger *ledger, enum pin_plane_id plane,
		    unsigned long pfn, unsigned long npages);
long pin_ledger_add_small(struct pin_ledger *ledger, enum pin_plane_id plane,
			  struct page **pages, unsigned long npages);
unsigned long pin_ledger_sub(struct pin_ledger *ledger, enum pin_plane_id plane,
			     unsigned long pfn, unsigned long npages,
			     unsigned int flags, struct pin_step *step);
unsigned int pin_ledger_sub_small(struct pin_ledger *ledger,
				  enum pin_plane_id plane,
				  const struct pin_extent *extents,
				  unsigned int nr, unsigned int flags,
				  struct page **pages);
void pin_ledger_undo_all(struct pin_ledger *ledger, enum pin_plane_id plane,
			 unsigned long pfn, unsigned long npages);
bool pin_ledger_any_gone(struct pin_ledger *ledger, unsigned long pfn,
			 unsigned long npages);
int pin_ledger_lock(struct pin_ledger *ledger, const struct pin_owner *owner,
		    struct mm_struct **locked);
void pin_ledger_unlock(struct pin_ledger *ledger, struct mm_struct *locked);
int pin_ledger_commit(struct pin_account *acct, const struct pin_owner *owner,
		      unsigned long npages, unsigned long left,
		      struct pin_move *move, struct misc_cg **full);
void pin_user_uncharge(struct user_struct *user, unsigned long npages);
void pin_ledger_settle(struct pin_ledger *ledger, struct pin_move *move);
struct misc_cg *pin_ledger_common_cgroup(struct pin_ledger *from,
					 struct pin_ledger *to);
bool pin_ledger_charges(unsigned long pfn);
int pin_ledger_reserve(struct pin_ledger *ledger, enum pin_plane_id plane,
		       unsigned long pfn, unsigned long npages);
void pin_ledger_unreserve(struct pin_ledger *ledger, enum pin_plane_id plane,
			  unsigned long pfn, unsigned long npages);
int pin_ledger_adopt(struct pin_account *acct, const struct pin_owner *owner,
		     struct mm_struct *mm);
void pin_account_name_process(struct pin_account *acct);
struct mm_struct *pin_account_mm(struct pin_account *acct);

int pin_refuse(struct pin_account *acct, const struct pin_owner *owner,
	       unsigned long start, unsigned long npages,
	       unsigned int gup_flags, int err, enum pin_reason reason,
	       struct misc_cg *full);
size_t pin_escape(char *buf, size_t size, const char *name, const char *more);

extern const char * const pin_reason_names[PIN_REASON_NR];
extern atomic_long_t pin_refused[PIN_REASON_NR];

#endif /* _MM_PIN_LEDGER_H */
