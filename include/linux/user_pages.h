/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Release of pinned user pages, and holders of long-term pins.
 *
 * The names are those of the put_user_pages series of 2019, "mm: introduce
 * put_user_page*(), placeholder versions". Linux 5.6 took in that family under
 * other names:
 *
 *	put_user_page()			unpin_user_page()
 *	put_user_pages()		unpin_user_pages()
 *	put_user_pages_dirty()		none: most callers can wait for the lock
 *					that makes a page dirty
 *	put_user_pages_dirty_lock()	unpin_user_pages_dirty_lock(…, true)
 *
 * Two are younger, for pages that are known by the first of them:
 *
 *	put_user_page_range()		unpin_user_page_range_dirty_lock(…, false)
 *	put_user_page_range_dirty_lock()	the same with true
 *
 * Words used here and in mm/pin_ledger.c:
 *
 *   pin	one FOLL_PIN | FOLL_LONGTERM reference on one base page, taken
 *		for one holder
 *   holder	the object that keeps pins, for one mm: struct pin_account
 *   ledger	per mm, what all its holders pin, each folio once
 *   counter	a number of pages that user space reads or RLIMIT_MEMLOCK bounds:
 *		VmLck, VmPin, the locked pages of a user
 *   charge	the ledger's part of such a counter, in base pages
 *   held	the whole size of folios with any pin: what cannot move
 *   refusal	a pin that was not given, with a reason
 *
 * All counts here are in base pages (PAGE_SIZE) unless the text says bytes.
 */
#ifndef _LINUX_USER_PAGES_H
#define _LINUX_USER_PAGES_H

#include <linux/bits.h>
#include <linux/mm.h>

struct misc_cg;
struct pin_account;
struct seq_file;
struct task_struct;
struct user_struct;

/**
 * mm_locked_pages() - count what RLIMIT_MEMLOCK is compared with
 * @mm: the mm
 *
 * Context: Any context; does not sleep. Whoever has mmap_lock for writing sees no
 * charge come that a limit applies to.
 * Return: pages: those of mlock() and of other users of mm->locked_vm, and the
 * charge of long-term pins.
 */
static inline unsigned long mm_locked_pages(const struct mm_struct *mm)
{
	unsigned long pages = READ_ONCE(mm->locked_vm);

#ifdef CONFIG_LONGTERM_PIN
	pages += READ_ONCE(mm->pin_charge);
#endif
	return pages;
}

/* What pin_user_pages*() took */
void put_user_page(struct page *page);
void put_user_pages(struct page **pages, unsigned long npages);
void put_user_pages_dirty(struct page **pages, unsigned long npages);
void put_user_pages_dirty_lock(struct page **pages, unsigned long npages);
void put_user_page_range(struct page *page, unsigned long npages);
void put_user_page_range_dirty_lock(struct page *page, unsigned long npages);

/**
 * put_user_page_ref() - give back a plain reference on a user page
 * @page: a page that get_user_pages*() returned
 *
 * For users that a mmu notifier tells when to let go of the page, CASE 3 of
 * Documentation/core-api/pin_user_pages.rst: they hold no pin, and file
 * systems need not know of them. The name tells such a reference from the
 * others.
 *
 * Idea: CASE 3 of pin_user_pages.rst, which leaves it at put_page().
 *
 * Context: Any context; does not sleep.
 */
static inline void put_user_page_ref(struct page *page)
{
	put_page(page);
}

/**
 * enum pin_reason - why a long-term pin was refused
 * @PIN_REASON_FSDAX: a file of a DAX file system; its blocks would be pinned
 * @PIN_REASON_FILE: a writable shared mapping of a file whose file system must
 *	be told of each write
 * @PIN_REASON_SECRETMEM: memfd_secret() memory, which has no kernel mapping
 * @PIN_REASON_PFNMAP: a mapping without struct pages, or with reserved ones:
 *	memory of devices and drivers
 * @PIN_REASON_MEMLOCK: RLIMIT_MEMLOCK
 * @PIN_REASON_CGROUP: the cgroup's limit of what pins hold, see mm/pin_cgroup.c
 * @PIN_REASON_MIGRATE: the page is in memory that must stay movable and could
 *	not be moved out of it
 * @PIN_REASON_OVERFLOW: the page or folio has as many pins as can be counted
 * @PIN_REASON_NOMEM: no memory, for the page itself or for the ledger
 * @PIN_REASON_FAULT: nothing is mapped there, or not with these rights; or the
 *	page cannot be read
 * @PIN_REASON_EOF: the file is shorter than its mapping
 * @PIN_REASON_NOSPACE: tmpfs has no room for the page
 * @PIN_REASON_NOHUGETLB: hugetlbfs has no huge page for it
 * @PIN_REASON_NR: number of reasons
 */
enum pin_reason {
	PIN_REASON_FSDAX,
	PIN_REASON_FILE,
	PIN_REASON_SECRETMEM,
	PIN_REASON_PFNMAP,
	PIN_REASON_MEMLOCK,
	PIN_REASON_CGROUP,
	PIN_REASON_MIGRATE,
	PIN_REASON_OVERFLOW,
	PIN_REASON_NOMEM,
	PIN_REASON_FAULT,
	PIN_REASON_EOF,
	PIN_REASON_NOSPACE,
	PIN_REASON_NOHUGETLB,
	PIN_REASON_NR,
};

/**
 * struct pin_owner - on whose behalf pages are pinned
 * @task: the task whose RLIMIT_MEMLOCK applies; the caller keeps it alive
 * @lock_cap: that limit does not apply, as capable(CAP_IPC_LOCK) said when the
 *	mapping was set up
 */
struct pin_owner {
	struct task_struct *task;
	bool lock_cap;
};

/**
 * struct pin_extent - physically contiguous pinned pages
 * @pfn: the first page frame
 * @npages: how many pages
 */
struct pin_extent {
	unsigned long pfn;
	unsigned long npages;
};

/* Extents, or pages that lie alone, that are put under one lock */
#define PIN_PUT_EXTENTS		16

/**
 * struct pin_put - pages that are being put
 * @acct: the holder that pinned them
 * @make_dirty: they may have been written
 * @done: pages that were put
 * @nr: how many extents wait
 * @extents: these
 *
 * On the stack of the caller, see pin_put_begin().
 */
struct pin_put {
	struct pin_account *acct;
	bool make_dirty;
	unsigned long done;
	unsigned int nr;
	struct pin_extent extents[PIN_PUT_EXTENTS];
};

/**
 * struct pin_move - pins that change from one account to another
 * @from: the account that has them
 * @to: the account that gets them
 * @owner: the owner of @to, whose limit applies
 * @common: the nearest cgroup that both ledgers are below or in; NULL if there is
 *	none. It and those above have been charged once, for @from's ledger
 * @owed: pages that they have not been charged for @to's ledger
 *
 * On the stack of the caller, see pin_move_begin().
 */
struct pin_move {
	struct pin_account *from;
	struct pin_account *to;
	const struct pin_owner *owner;
	struct misc_cg *common;
	unsigned long owed;
};

/*
 * An array of this many extents, or of one for each page, always suffices for
 * progress; larger ones need fewer calls.
 */
#define PIN_EXTENTS_MIN		512

/*
 * The holder maps VM_PFNMAP memory by itself, or its callers try to and can do
 * without: so finding it is no refusal yet
 */
#define PIN_ACCOUNT_PFNMAP	BIT(0)
/*
 * What the holder pins for reading is written all the same, by the guest: files
 * that must see each write are refused as if it were pinned for writing
 */
#define PIN_ACCOUNT_WRITES	BIT(1)
/*
 * A pin waits until the process's own userfaultfd has filled a page, or a server a
 * file's, as pin_user_pages_fast() does; it can be killed meanwhile. Not with
 * PIN_ACCOUNT_WRITES
 */
#define PIN_ACCOUNT_WAITS	BIT(5)
/* Callers know no other errno than EFAULT for a file that must see each write */
#define PIN_ACCOUNT_EFAULT	BIT(6)
/*
 * Protection keys of the thread that pins do not matter: the device uses the memory,
 * and no thread
 */
#define PIN_ACCOUNT_FOREIGN	BIT(7)
/*
 * The counters that the holder's pins are part of. In each, all holders of a mm
 * count a folio once. RLIMIT_MEMLOCK applies to one of them: to the user's if it is
 * there, else to VmLck, else to VmPin. With none, the pins are only held, and the
 * holder compares them with a limit by itself. A user's counter goes with VmPin or
 * alone.
 */
#define PIN_COUNT_LOCKED	BIT(2)	/* mm->pin_charge, which is part of VmLck */
#define PIN_COUNT_PINNED	BIT(3)	/* mm->pinned_vm: VmPin */
#define PIN_COUNT_USER		BIT(4)	/* user_struct.locked_vm */
#define PIN_COUNT_MASK		(PIN_COUNT_LOCKED | PIN_COUNT_PINNED | \
				 PIN_COUNT_USER)

struct pin_account *pin_account_get(struct mm_struct *mm, const void *key,
				    const char *name, unsigned int flags,
				    struct user_struct *user);
void pin_account_put(struct pin_account *acct);
bool pin_account_is_for(struct pin_account *acct, struct mm_struct *mm);
bool pin_account_is_dead(struct pin_account *acct);
bool pin_account_is_idle(struct pin_account *acct);
bool pin_account_counts(unsigned long pfn);

long pin_user_pages_account(struct pin_account *acct,
			    const struct pin_owner *owner, unsigned long start,
			    unsigned long npages, unsigned int gup_flags,
			    struct page **pages);
long pin_user_extents_account(struct pin_account *acct,
			      const struct pin_owner *owner,
			      unsigned long start, unsigned long npages,
			      unsigned int gup_flags,
			      struct pin_extent *extents,
			      unsigned int max_extents,
			      unsigned int *nr_extents);
void put_user_pages_account(struct pin_account *acct, struct page **pages,
			    unsigned long npages, bool make_dirty);
void put_user_pfns_account(struct pin_account *acct, unsigned long pfn,
			   unsigned long npages, bool make_dirty);
void pin_put_begin(struct pin_put *put, struct pin_account *acct,
		   bool make_dirty);
void pin_put_add(struct pin_put *put, unsigned long pfn, unsigned long npages);
void pin_put_end(struct pin_put *put);
void pin_account_settle(struct pin_account *acct);
void pin_account_refused(struct pin_account *acct,
			 const struct pin_owner *owner, unsigned long start,
			 unsigned long npages, unsigned int gup_flags, int err,
			 enum pin_reason reason);

/* Change of owner: the pins stay, what is charged for them moves */
int pin_account_adopt(struct pin_account *acct, const struct pin_owner *owner,
		      struct mm_struct *mm);
void pin_account_taken_over(struct pin_account *acct);
void pin_move_begin(struct pin_move *move, struct pin_account *from,
		    struct pin_account *to, const struct pin_owner *owner);
int pin_move_in(struct pin_move *move, unsigned long pfn,
		unsigned long npages);
void pin_move_undo(struct pin_move *move, unsigned long pfn,
		   unsigned long npages);
void pin_move_out(struct pin_move *move, unsigned long pfn,
		  unsigned long npages);
void pin_move_end(struct pin_move *move);

void longterm_pins_show(struct seq_file *m, struct mm_struct *mm,
			struct task_struct *task);

#ifdef CONFIG_LONGTERM_PIN
void longterm_pins_forget(unsigned long pfn, unsigned long npages);
#else
static inline void longterm_pins_forget(unsigned long pfn, unsigned long npages)
{
}
#endif

#endif /* _LINUX_USER_PAGES_H */
