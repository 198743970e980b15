// SPDX-License-Identifier: GPL-2.0
/*
 * Writeback of file pages that are pinned for writing.
 *
 * A file system hears of each page that becomes dirty, by page_mkwrite(): it
 * reserves space, breaks the sharing of blocks, waits while it is frozen. After
 * writeback the page is clean and mapped read-only, so that the next write is
 * heard of, too. A pin gets around that. A device that writes to the page after
 * writeback tells nobody, and the put marks the page dirty behind the file
 * system's back: some lose the data, some write it over blocks that other files
 * share. docs/behaviour.md has what stock kernels do.
 *
 * This is the special handling of the 2019 put_user_pages series. Its bounce pages are
 * another thing: they keep what is written from changing on its way, and this file
 * keeps it from being lost. See block/bio-stable.c.
 *
 * Words:
 *
 *   pinned	folio_maybe_dma_pinned(), in a file that was prepared. Readers'
 *		pins and 1024 references look the same, once the page was dirty:
 *		nothing is lost, but the page is written again and again, and
 *		others get EBUSY.
 *   prepared	a file of which a page was pinned for writing at some time. Its
 *		address_space points to a struct pin_writeback.
 *   noted	a folio with PAGECACHE_TAG_NOTED: a device may have written to it,
 *		and no writeback that began later wrote all of it
 *   to notice	to make all of a noted folio dirty the way a store by the CPU does:
 *		by page_mkwrite()
 *
 * Invariants:
 *
 *  1. A folio that is pinned for writing keeps its place in the file, but for
 *     truncation and its like. (invalidate_inode_pages2_range()) Its private data
 *     may go: page_mkwrite() makes it anew.
 *  2. A put makes no folio of a prepared file dirty: page_mkwrite() does, each
 *     time. (pin_writeback_dirty())
 *  3. A pinned folio is noted, or all of its blocks are dirty. They are when it gets
 *     pinned, since a writable PTE says so; and when a writeback starts, it is
 *     noted (pin_writeback_start()). So what a put finds clean, or dirty by
 *     something else than a pin, it notes. PG_dirty alone says nothing: a write()
 *     to another block sets it, too.
 *  4. A noted folio is not reclaimed. (__remove_mapping())
 *  5. While there is a noted or pinned folio, there is a file by which it can be
 *     noticed: of a mapping, or pin_writeback->file, which the last mapping
 *     leaves behind. (pin_writeback_unmap())
 *  6. A prepared file with a noted folio is in late_files or noted_files, and has
 *     work queued. The first takes no lock, the second can be walked.
 *  7. A folio stops being noted when it leaves the page cache; or under its lock,
 *     when it is not pinned, and all of it is dirty (dirty_folio()), or its file
 *     system will not take it (noticed()).
 *
 * To note a folio takes no memory, once its file is prepared. So no put can fail.
 * The tag is one of its own. The dirty tag would not do: the flusher looks at each
 * folio that has it, again and again, and others take it for the number of dirty
 * pages. PAGECACHE_TAG_TOWRITE would not either: each writeback takes it off, also
 * one that writes other blocks of the folio.
 *
 * A pin and a writeback that race: GUP-fast pins, and then looks at the PTE again.
 * Writeback makes the PTE read-only (folio_mkclean()), sets PG_writeback, and then
 * looks at the pins. Both have a full barrier in between. So either GUP-fast sees
 * that the PTE has changed and gives the pin back, or writeback sees the pin. Slow
 * GUP has the lock of the page table, which folio_mkclean() takes.
 *
 * Locks: page_mkwrite() takes the folio's lock, invalidate_lock for reading and
 * what its file system has for faults. So a folio is noticed at the entries of
 * system calls, where none of these is held, and in work items. sb_start_write()
 * is held around it, mostly by trylock: then no fault waits for a file system to
 * thaw, and no work item does.
 *
 *   folio lock -> xa_lock (irq), under which files get into late_files
 *   noted_lock -> inode->i_lock
 */
#include <linux/backing-dev.h>
#include <linux/cred.h>
#include <linux/dax.h>
#include <linux/file.h>
#include <linux/highuid.h>
#include <linux/init.h>
#include <linux/list.h>
#include <linux/llist.h>
#include <linux/moduleparam.h>
#include <linux/pagevec.h>
#include <linux/pin_writeback.h>
#include <linux/rcupdate_wait.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/statfs.h>
#include <linux/swap.h>
#include <linux/workqueue.h>
#include <linux/writeback.h>

#define CREATE_TRACE_POINTS
#include <trace/events/pin_writeback.h>

/**
 * struct pin_writeback - a file that is prepared for pins
 * @mapping: its pages; NULL in the cursor of a walk
 * @node: in noted_files, if a folio is noted
 * @late: in late_files until somebody has noted_lock
 * @noted: how many times a folio was, so that a pass sees that it missed one
 * @file: keeps the file open, or NULL
 * @page_mkwrite: of the mapping that left @file
 * @delay: jiffies until the next look, while there is @file
 * @pinned_at: when pinned folios were noticed last, in jiffies
 * @failed_at: since when its file system does not take it, in jiffies; or 0
 * @resume: where a pass ended that met too many errors, a page index
 * @dying: its inode goes
 * @work: notices
 */
struct pin_writeback {
	struct address_space *mapping;
	struct list_head node;
	struct llist_node late;
	unsigned long noted;
	struct file *file;
	vm_fault_t (*page_mkwrite)(struct vm_fault *vmf);
	unsigned long delay;
	unsigned long pinned_at;
	unsigned long failed_at;
	pgoff_t resume;
	bool dying;
	struct delayed_work work;
};

/* By whom a folio is noticed */
struct writer {
	struct file *file;
	/* Not its vm_ops: coda frees them with the mapping */
	vm_fault_t (*page_mkwrite)(struct vm_fault *vmf);
	/* What the file system does not take is lost; only for an I/O error */
	bool give_up, give_up_eio;
	/* How many pages were lost */
	unsigned long given_up;
};

DEFINE_STATIC_KEY_TRUE(pin_writeback_on);

/* All that changes in a struct pin_writeback */
static DEFINE_SPINLOCK(noted_lock);
static LIST_HEAD(noted_files);
static LLIST_HEAD(late_files);
static struct workqueue_struct *pin_writeback_wq;
/* Without rights: what a file system keeps for root is not for devices */
static struct cred *notice_cred;

/* While pins outlive their last mapping: until the first look, and between others */
#define FIRST_DELAY	(HZ / 100 + 1)
#define KEPT_DELAY	HZ
/* Nobody has it mapped any more, and its file system does not take it */
#define GIVE_UP		(300 * HZ)
/* How long a pass may give up: who unmounts waits for its end */
#define GIVE_UP_PASS	(5 * HZ)
/* Each may cost a transaction: then a pass ends, but for one that fsync() waits for */
#define MAX_ERRORS	16

/* As long as pages that the CPU writes stay dirty, more or less: 10 s to 30 s */
static unsigned long notice_delay(void)
{
	return clamp(dirty_expire_interval, 1000U, 3000U) * HZ / 100;
}

static void list_file(struct pin_writeback *pw)
{
	lockdep_assert_held(&noted_lock);
	pw->noted++;
	if (list_empty(&pw->node))
		/* A walk does not come across what is noted meanwhile */
		list_add(&pw->node, &noted_files);
}

static void list_late_files(void)
{
	struct pin_writeback *pw, *next;

	llist_for_each_entry_safe(pw, next, llist_del_all(&late_files), late) {
		list_file(pw);
		init_llist_node(&pw->late);
	}
	/* Who finds it in late_files still has noted a folio before: see note_at() */
	smp_mb();
}

static void lock_noted(void)
	__acquires(&noted_lock)
{
	spin_lock(&noted_lock);
	list_late_files();
}

/* Never later than it was to be */
static void queue_look(struct pin_writeback *pw, unsigned long delay)
{
	if (timer_pending(&pw->work.timer) &&
	    time_after(pw->work.timer.expires, jiffies + delay))
		mod_delayed_work(pin_writeback_wq, &pw->work, delay);
	else
		queue_delayed_work(pin_writeback_wq, &pw->work, delay);
}

/* Has the lock of the page cache, so that the inode stays */
static void note_at(struct address_space *mapping, struct xa_state *xas, struct folio *folio,
		    unsigned long delay)
{
	struct pin_writeback *pw = mapping->pin_writeback;

	if (!xas_get_mark(xas, PAGECACHE_TAG_NOTED)) {
		xas_set_mark(xas, PAGECACHE_TAG_NOTED);
		count_vm_events(PIN_NOTED, folio_nr_pages(folio));
		trace_pin_noted(folio);
	}
	/* The note before late_files, where a pass looks first: see list_late_files() */
	smp_mb();
	if (!llist_on_list(&pw->late))
		llist_add(&pw->late, &late_files);
	queue_look(pw, delay);
}

void __pin_writeback_start(struct address_space *mapping, struct xa_state *xas,
			   struct folio *folio)
{
	/* folio_test_set_writeback() was the barrier */
	if (folio_maybe_dma_pinned(folio))
		note_at(mapping, xas, folio, notice_delay());
}

bool __folio_noted(struct address_space *mapping, struct folio *folio)
{
	return xa_get_mark(&mapping->i_pages, folio->index, PAGECACHE_TAG_NOTED);
}
EXPORT_SYMBOL_GPL(__folio_noted);

/* Unless it was truncated: it leaves the page cache under this lock */
static void note_folio(struct address_space *mapping, struct folio *folio)
{
	XA_STATE(xas, &mapping->i_pages, folio->index);
	unsigned long flags;

	xas_lock_irqsave(&xas, flags);
	if (folio->mapping == mapping) {
		xas_load(&xas);
		/* Not at once: the work looks at all that is noted */
		note_at(mapping, &xas, folio, 1);
	}
	xas_unlock_irqrestore(&xas, flags);
}

bool __pin_writeback_dirty(struct folio *folio)
{
	VM_WARN_ON_FOLIO(!folio_test_locked(folio), folio);
	/*
	 * The lock keeps the start of a writeback away. What is pinned, dirty and not
	 * noted is dirty as a whole; what is noted and dirty is looked at in time.
	 */
	if (!folio_test_dirty(folio) ||
	    (!folio_maybe_dma_pinned(folio) && !__folio_noted(folio->mapping, folio)))
		note_folio(folio->mapping, folio);
	return true;
}
EXPORT_SYMBOL_GPL(__pin_writeback_dirty);

bool __pin_writeback_dirty_unlocked(struct folio *folio)
{
	struct address_space *mapping = READ_ONCE(folio->mapping);

	/* It was truncated since the caller looked */
	if (mapping)
		note_folio(mapping, folio);
	return true;
}
EXPORT_SYMBOL_GPL(__pin_writeback_dirty_unlocked);

/*
 * Does the file system have to hear of what is written to the pages? Not those of
 * servers: they drop pages as they like, and may not answer. So do the locks of
 * clusters. bcachefs tries again until it can drop them.
 */
static bool wants_notice(struct vm_area_struct *vma, struct address_space *mapping)
{
	static const char *const others[] = { "bcachefs", "fuseblk", "gfs2", "ocfs2" };
	struct inode *inode = mapping->host;
	struct file_system_type *type;

	if (!inode || dax_mapping(mapping) || is_vm_hugetlb_page(vma) ||
	    !mapping_can_writeback(mapping) || !vma->vm_ops || !vma->vm_ops->page_mkwrite)
		return false;
	if (S_ISBLK(inode->i_mode))
		return true;
	type = inode->i_sb->s_type;
	return S_ISREG(inode->i_mode) && type->fs_flags & FS_REQUIRES_DEV &&
	       match_string(others, ARRAY_SIZE(others), type->name) < 0;
}

static void pin_writeback_work(struct work_struct *work);

int __pin_writeback_prepare(struct vm_area_struct *vma, bool nofault)
{
	struct address_space *mapping = vma->vm_file->f_mapping;
	struct pin_writeback *pw = PIN_WRITEBACK_NONE;

	if (wants_notice(vma, mapping)) {
		pw = kzalloc(sizeof(*pw), nofault ? GFP_NOWAIT : GFP_KERNEL_ACCOUNT);
		if (!pw)
			return nofault ? -EFAULT : -ENOMEM;
		pw->mapping = mapping;
		INIT_LIST_HEAD(&pw->node);
		init_llist_node(&pw->late);
		pw->pinned_at = jiffies;
		INIT_DELAYED_WORK(&pw->work, pin_writeback_work);
	}
	/* Before the pin: who sees that sees this */
	if (cmpxchg(&mapping->pin_writeback, NULL, pw) && pw != PIN_WRITEBACK_NONE)
		kfree(pw);
	return 0;
}

/* A writable mapping of the file; any, as only its file is of interest */
static bool get_writer(struct pin_writeback *pw, struct writer *w)
{
	struct address_space *mapping = pw->mapping;
	struct vm_area_struct *vma;

	if (w->file)
		return true;
	if (!mapping_writably_mapped(mapping))
		goto kept;
	i_mmap_lock_read(mapping);
	vma_interval_tree_foreach(vma, &mapping->i_mmap, 0, ULONG_MAX) {
		if ((vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) != (VM_SHARED | VM_MAYWRITE) ||
		    !vma->vm_ops || !vma->vm_ops->page_mkwrite)
			continue;
		w->file = get_file(vma->vm_file);
		w->page_mkwrite = vma->vm_ops->page_mkwrite;
		break;
	}
	i_mmap_unlock_read(mapping);
	if (w->file)
		return true;
kept:
	spin_lock(&noted_lock);
	if (pw->file) {
		w->file = get_file(pw->file);
		w->page_mkwrite = pw->page_mkwrite;
	}
	spin_unlock(&noted_lock);
	return w->file;
}

static vm_fault_t pretend_fault(struct writer *w, struct folio *folio)
{
	struct vm_area_struct vma = {
		.vm_file = w->file,
		/* exfat looks at the range */
		.vm_pgoff = folio->index,
		.vm_end = folio_size(folio),
	};
	struct vm_fault vmf = {
		.vma = &vma,
		.gfp_mask = mapping_gfp_mask(folio->mapping) | __GFP_FS | __GFP_IO,
		.pgoff = folio->index,
		.flags = FAULT_FLAG_WRITE | FAULT_FLAG_MKWRITE,
		.page = &folio->page,
	};
	const struct cred *old;
	vm_fault_t ret;

	vm_flags_init(&vma, VM_SHARED | VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE);
	old = override_creds(notice_cred);
	ret = w->page_mkwrite(&vmf);
	revert_creds(old);
	return ret;
}

/* Under the folio's lock */
static void forget_note(struct folio *folio)
{
	struct xarray *pages = &folio->mapping->i_pages;
	unsigned long flags;

	xa_lock_irqsave(pages, flags);
	__xa_clear_mark(pages, folio->index, PAGECACHE_TAG_NOTED);
	xa_unlock_irqrestore(pages, flags);
}

/* All of it becomes dirty. The lock keeps writeback away: a later one writes it. */
static void dirty_folio(struct folio *folio)
{
	bool pinned = folio_maybe_dma_pinned(folio);

	/* Who unpins a folio has written to it before */
	smp_rmb();
	folio_mark_dirty(folio);
	if (!pinned)
		forget_note(folio);
}

/* Is it noted still? What is outside the file, or swap space, is not written. */
static bool still_noted(struct address_space *mapping, struct folio *folio)
{
	bool noted;

	folio_lock(folio);
	noted = folio->mapping == mapping && __folio_noted(mapping, folio);
	if (noted && (IS_SWAPFILE(mapping->host) ||
		      folio_pos(folio) >= i_size_read(mapping->host))) {
		forget_note(folio);
		noted = false;
	}
	folio_unlock(folio);
	return noted;
}

/* page_mkwrite() says SIGBUS for all that is not a lack of memory */
static int fault_error(struct writer *w, struct folio *folio, vm_fault_t ret)
{
	struct kstatfs st;

	if (!(ret & VM_FAULT_ERROR))
		return 0;
	if (ret & VM_FAULT_OOM)
		return -ENOMEM;
	/* Some is left, but not for this: metadata need space, too */
	if (!vfs_statfs(&w->file->f_path, &st) && st.f_blocks &&
	    st.f_bavail * st.f_bsize < folio_size(folio) + SZ_1M)
		return -ENOSPC;
	return -EIO;
}

/* Count, and tell who asks for the file's errors */
static int noticed(struct address_space *mapping, struct writer *w, struct folio *folio, int err)
{
	if (err && err != -ENOMEM)
		mapping_set_error(mapping, err);
	/* Who has mapped it meanwhile can make room */
	if (((err && err != -ENOMEM && w->give_up) || (err == -EIO && w->give_up_eio)) &&
	    !mapping_writably_mapped(mapping)) {
		folio_lock(folio);
		if (folio->mapping == mapping && !folio_maybe_dma_pinned(folio)) {
			forget_note(folio);
			w->given_up += folio_nr_pages(folio);
		}
		folio_unlock(folio);
	}
	count_vm_events(err ? PIN_NOTICE_FAILED : PIN_NOTICED, folio_nr_pages(folio));
	trace_pin_noticed(mapping->host, folio, err);
	return err;
}

/* The locked folio, unless it was truncated */
static void dirty_and_unlock(struct address_space *mapping, struct folio *folio)
{
	if (folio->mapping == mapping)
		dirty_folio(folio);
	folio_unlock(folio);
}

/*
 * It became immutable after the pin, and is written all the same: these file systems
 * refuse for that alone, and no other file has its blocks
 */
static bool refuses_immutable(struct inode *inode)
{
	static const char *const refuse[] = { "ext4", "f2fs" };

	return IS_IMMUTABLE(inode) &&
	       match_string(refuse, ARRAY_SIZE(refuse), inode->i_sb->s_type->name) >= 0;
}

/* 0 if it is dirty now or not noted any more, -EAGAIN if that may take time */
static int notice_folio(struct pin_writeback *pw, struct writer *w, struct folio *folio, bool wait)
{
	struct address_space *mapping = pw->mapping;
	struct super_block *sb = mapping->host->i_sb;
	unsigned int tries = 0;

	while (still_noted(mapping, folio)) {
		vm_fault_t ret;

		/* A device has no blocks to reserve; its node may be on what is frozen */
		if (S_ISBLK(mapping->host->i_mode)) {
			folio_lock(folio);
			dirty_and_unlock(mapping, folio);
			return noticed(mapping, w, folio, 0);
		}
		/*
		 * Its mapping goes just now, and leaves a file behind. Or there was
		 * none: a plain reference, which nobody sees, has ended. Then this
		 * is all that can be done.
		 */
		if (!get_writer(pw, w)) {
			folio_lock(folio);
			dirty_and_unlock(mapping, folio);
			return 0;
		}
		if (!sb_start_write_trylock(sb)) {
			if (!wait)
				return -EAGAIN;
			if (schedule_timeout_killable(FIRST_DELAY))
				return -EINTR;
			continue;
		}
		ret = pretend_fault(w, folio);
		if (ret & VM_FAULT_SIGBUS && refuses_immutable(mapping->host)) {
			folio_lock(folio);
			ret = VM_FAULT_LOCKED;
		}
		if (!(ret & (VM_FAULT_ERROR | VM_FAULT_NOPAGE | VM_FAULT_RETRY))) {
			if (!(ret & VM_FAULT_LOCKED))
				folio_lock(folio);
			dirty_and_unlock(mapping, folio);
		}
		sb_end_write(sb);
		if (!(ret & (VM_FAULT_NOPAGE | VM_FAULT_RETRY)))
			return noticed(mapping, w, folio, fault_error(w, folio, ret));
		/* It was truncated, or the file system cannot do it just now */
		if (!wait && ++tries == 3)
			return -EAGAIN;
		if (schedule_timeout_killable(1))
			return -EINTR;
	}
	return 0;
}

/*
 * Notice folios of a range, in pages; pinned ones only if @pinned. After that *@first is
 * behind what was looked at. @left: some are noted still.
 */
static int notice_range(struct pin_writeback *pw, struct writer *w, pgoff_t *first, pgoff_t last,
			bool pinned, bool wait, bool *left)
{
	unsigned long end = jiffies + GIVE_UP_PASS;
	unsigned int i, errors = 0;
	struct folio_batch fbatch;
	int ret = 0;

	folio_batch_init(&fbatch);
	while (ret != -EINTR && errors < MAX_ERRORS &&
	       !(w->give_up && time_after(jiffies, end)) &&
	       filemap_get_folios_tag(pw->mapping, first, last, PAGECACHE_TAG_NOTED, &fbatch)) {
		for (i = 0; i < folio_batch_count(&fbatch) && ret != -EINTR; i++) {
			struct folio *folio = fbatch.folios[i];
			bool noted;
			int err = 0;

			if (pinned || !folio_maybe_dma_pinned(folio))
				err = notice_folio(pw, w, folio, wait);
			noted = __folio_noted(pw->mapping, folio);
			*left |= noted;
			if (err && (!ret || ret == -EAGAIN || err == -EINTR))
				ret = err;
			/* Not if it was given up */
			errors += !wait && noted && err && err != -EAGAIN;
		}
		folio_batch_release(&fbatch);
		cond_resched();
		if (fatal_signal_pending(current))
			ret = -EINTR;
	}
	return ret;
}

/*
 * Notice what can be noticed now; pinned folios once in a while, or if @all. *@file is
 * not needed any more then, if there is one: it and that of @w may be the last that
 * keep the inode.
 * Return: whether nothing is noted any more. Under noted_lock.
 */
static bool notice_file(struct pin_writeback *pw, struct writer *w, bool all,
			struct file **file)
	__acquires(&noted_lock)
{
	pgoff_t first, resumed;
	unsigned long noted;
	bool left;
	int err;

	lock_noted();
	noted = pw->noted;
	/* As long as it is mapped, there is somebody who can make room */
	if (!pw->file || mapping_writably_mapped(pw->mapping)) {
		pw->failed_at = 0;
		w->give_up_eio = false;
	}
	w->give_up = pw->failed_at && time_after(jiffies, pw->failed_at + GIVE_UP);
	/* Who unmounts waits for all of it */
	first = w->give_up_eio ? 0 : pw->resume;
	resumed = first;
	left = resumed;
	if (time_after_eq(jiffies, pw->pinned_at + notice_delay()))
		all = true;
	if (all)
		pw->pinned_at = jiffies;
	spin_unlock(&noted_lock);
	err = notice_range(pw, w, &first, ULONG_MAX, all, false, &left);
	lock_noted();
	/* It ends before that after too many errors, or a fatal signal */
	left |= first != ULONG_MAX || noted != pw->noted;
	pw->resume = first == ULONG_MAX ? 0 : first;
	/* Behind a pass that failed, one without an error says nothing */
	if ((!err && !resumed) || err == -EAGAIN || err == -EINTR)
		pw->failed_at = 0;
	else if (err && err != -ENOMEM && !pw->failed_at)
		pw->failed_at = jiffies | 1;
	if (w->given_up)
		pr_warn_ratelimited("pin_writeback: %pD4: %lu pages that a device has written are lost, as the file system does not take them\n",
				    w->file, w->given_up);
	*file = NULL;
	if (!left)
		swap(*file, pw->file);
	return !left;
}

static void pin_writeback_work(struct work_struct *work)
{
	struct pin_writeback *pw = container_of(to_delayed_work(work), struct pin_writeback, work);
	unsigned long delay = notice_delay();
	struct writer w = { };
	struct file *file;

	if (notice_file(pw, &w, false, &file)) {
		/* On the list while it keeps a mount busy: umount() waits for it */
		if (w.file || file)
			queue_delayed_work(pin_writeback_wq, &pw->work, 0);
		else
			list_del_init(&pw->node);
	} else {
		if (pw->file && !pw->failed_at) {
			delay = pw->delay;
			pw->delay = min(delay * 2, KEPT_DELAY);
		}
		if (!pw->dying) {
			list_file(pw);
			queue_delayed_work(pin_writeback_wq, &pw->work, delay);
		}
	}
	spin_unlock(&noted_lock);
	/* The last thing: it may evict the inode, and free @pw */
	if (w.file)
		__fput_sync(w.file);
	if (file)
		__fput_sync(file);
}

int __pin_writeback_notice(struct address_space *mapping, loff_t start, loff_t end, bool wait)
{
	pgoff_t first = start >> PAGE_SHIFT;
	struct writer w = { };
	bool left = false;
	int ret;

	ret = notice_range(mapping->pin_writeback, &w, &first, end >> PAGE_SHIFT, true, wait,
			   &left);
	if (w.file)
		fput(w.file);
	return ret;
}
EXPORT_SYMBOL_GPL(__pin_writeback_notice);

bool __pin_writeback_range(struct address_space *mapping, loff_t start, loff_t end)
{
	XA_STATE(xas, &mapping->i_pages, start >> PAGE_SHIFT);
	bool found = false;
	unsigned int seen = 0;
	struct folio *folio;

	rcu_read_lock();
	xas_for_each(&xas, folio, end >> PAGE_SHIFT) {
		if (xas_retry(&xas, folio) || xa_is_value(folio))
			continue;
		found = xas_get_mark(&xas, PAGECACHE_TAG_NOTED) ||
			(xas_get_mark(&xas, PAGECACHE_TAG_DIRTY) &&
			 folio_maybe_dma_pinned(folio));
		if (found)
			break;
		if (++seen % XA_CHECK_SCHED == 0) {
			xas_pause(&xas);
			cond_resched_rcu();
		}
	}
	rcu_read_unlock();
	return found;
}
EXPORT_SYMBOL_GPL(__pin_writeback_range);

int __pin_writeback_may_drop(struct address_space *mapping, loff_t pos, loff_t len)
{
	/* If that is before, XFS drops pages from the end of the file on */
	loff_t start = min(pos, i_size_read(mapping->host));
	loff_t end = len ? pos + len - 1 : LLONG_MAX;
	int ret = __pin_writeback_notice(mapping, start, end, true);

	return ret ?: __pin_writeback_range(mapping, start, end) ? -EBUSY : 0;
}

void __pin_writeback_truncate(struct address_space *mapping, loff_t size)
{
	__pin_writeback_notice(mapping, size, size, false);
	if (__pin_writeback_range(mapping, size, size))
		filemap_write_and_wait_range(mapping, size, size);
}

/* Is it a file of this file system, or kept open by way of it (overlayfs, a device)? */
static bool keeps_busy(struct pin_writeback *pw, struct super_block *sb)
{
	return pw->mapping->host->i_sb == sb ||
	       (pw->file && file_user_path(pw->file)->mnt->mnt_sb == sb);
}

/*
 * The inode of a file, so that it can be looked at without noted_lock. Where the caller
 * does not hold the file system, s_umount does, as in iterate_supers(). NULL if it goes.
 */
static struct inode *get_host(struct pin_writeback *pw, bool lock)
	__must_hold(&noted_lock)
{
	struct super_block *sb = pw->mapping->host->i_sb;
	struct inode *inode;

	if (lock && !down_read_trylock(&sb->s_umount))
		return atomic_read(&sb->s_active) ? ERR_PTR(-EAGAIN) : NULL;
	inode = igrab(pw->mapping->host);
	if (!inode && lock)
		up_read(&sb->s_umount);
	return inode;
}

static void put_host(struct inode *inode, bool lock)
{
	struct super_block *sb = inode->i_sb;

	iput(inode);
	if (lock)
		up_read(&sb->s_umount);
}

/*
 * Notice in all files of @sb, or of all file systems; in the first case the caller holds
 * it. @all: pinned folios, too. @flush: no work has a reference to a file afterwards.
 * @busy: this mount was busy; what cannot be written is given up. See pin_writeback_umount().
 * Return: whether a file was closed that had been kept open.
 */
static bool notice_files(struct super_block *sb, bool all, bool flush,
			 const struct vfsmount *busy)
{
	struct pin_writeback cursor = { };
	unsigned int seen = 0;
	bool closed = false;

	lock_noted();
	list_add(&cursor.node, &noted_files);
	while (!list_is_last(&cursor.node, &noted_files)) {
		struct pin_writeback *pw;
		struct writer w = { };
		struct inode *inode;
		struct file *file;

		if (++seen % 64 == 0 && cond_resched_lock(&noted_lock))
			continue;
		pw = list_next_entry(&cursor, node);
		if (!pw->mapping || (sb && !keeps_busy(pw, sb))) {
			list_move(&cursor.node, &pw->node);
			continue;
		}
		inode = get_host(pw, !sb);
		if (IS_ERR(inode)) {
			/* It is remounted or frozen just now, or goes */
			spin_unlock(&noted_lock);
			schedule_timeout_uninterruptible(1);
			spin_lock(&noted_lock);
			continue;
		}
		list_move(&cursor.node, &pw->node);
		if (!inode)
			continue;
		w.give_up_eio = busy && pw->file && file_user_path(pw->file)->mnt == busy;
		spin_unlock(&noted_lock);
		if (!notice_file(pw, &w, all, &file) && w.give_up_eio && pw->file)
			pr_info_ratelimited("pin_writeback: %s: %pD4 stays open, as pages of it are pinned or cannot be written\n",
					    sb->s_id, pw->file);
		spin_unlock(&noted_lock);
		if (file)
			closed = true;
		if (flush) {
			/* Where it waits for its turn, it need not */
			cancel_delayed_work(&pw->work);
			flush_work(&pw->work.work);
			queue_look(pw, KEPT_DELAY);
		}
		put_host(inode, !sb);
		/* Not under s_umount. Who unmounts cannot wait for the return to user space */
		if (w.file)
			__fput_sync(w.file);
		if (file)
			__fput_sync(file);
		cond_resched();
		spin_lock(&noted_lock);
	}
	list_del(&cursor.node);
	spin_unlock(&noted_lock);
	return closed;
}

/**
 * pin_writeback_sync() - make noted folios dirty, of all files of a file system
 * @sb: the file system, which the caller holds; or NULL: of all
 *
 * Files that are kept open for folios which are not pinned any more are closed.
 * A frozen file system is left alone.
 *
 * Context: Process context. May sleep; no lock of a file system may be held.
 */
void pin_writeback_sync(struct super_block *sb)
{
	notice_files(sb, true, false, NULL);
}
EXPORT_SYMBOL_GPL(pin_writeback_sync);

/**
 * pin_writeback_umount() - close files that are kept open for no pin any more
 * @sb: a file system that is to be unmounted, or to become read-only
 * @busy: NULL; or this mount of it was busy
 *
 * With @busy, what devices have written to files of that mount which nobody has mapped
 * is given up if the file system has an error; and the log names files that stay open.
 *
 * Context: As for pin_writeback_sync().
 * Return: whether a file was closed, so that it may be less busy now.
 */
bool pin_writeback_umount(struct super_block *sb, const struct vfsmount *busy)
{
	return notice_files(sb, false, true, busy);
}

/* Note pinned folios of a range that have @tag; is there one, or one that is noted? */
static bool note_pinned(struct address_space *mapping, pgoff_t first, pgoff_t last, xa_mark_t tag)
{
	XA_STATE(xas, &mapping->i_pages, first);
	unsigned int seen = 0;
	struct folio *folio;
	bool found = false;

	xas_lock_irq(&xas);
	xas_for_each_marked(&xas, folio, last, tag) {
		if (folio_maybe_dma_pinned(folio))
			note_at(mapping, &xas, folio, notice_delay());
		if (xas_get_mark(&xas, PAGECACHE_TAG_NOTED))
			found = true;
		/* Each is a cache miss */
		if (++seen % 256)
			continue;
		xas_pause(&xas);
		xas_unlock_irq(&xas);
		cond_resched();
		xas_lock_irq(&xas);
	}
	xas_unlock_irq(&xas);
	return found;
}

void __pin_writeback_unmap(struct vm_area_struct *vma)
{
	struct address_space *mapping = vma->vm_file->f_mapping;
	struct pin_writeback *pw = mapping->pin_writeback;
	pgoff_t first = vma->vm_pgoff, last = first + vma_pages(vma) - 1;
	bool found;

	if ((vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) != (VM_SHARED | VM_MAYWRITE) ||
	    !vma->vm_ops || !vma->vm_ops->page_mkwrite)
		return;
	/* By invariant 3 a pinned folio is dirty or noted */
	found = note_pinned(mapping, first, last, PAGECACHE_TAG_DIRTY);
	if (!found)
		found = note_pinned(mapping, first, last, PAGECACHE_TAG_NOTED);
	if (!found)
		return;
	spin_lock(&noted_lock);
	if (!pw->file) {
		pw->file = get_file(vma->vm_file);
		pw->page_mkwrite = vma->vm_ops->page_mkwrite;
	}
	/* It is the last mapping that counts: see GIVE_UP */
	pw->failed_at = 0;
	pw->delay = FIRST_DELAY;
	list_file(pw);
	spin_unlock(&noted_lock);
	queue_look(pw, FIRST_DELAY);
}

void __pin_writeback_evict(struct address_space *mapping)
{
	struct pin_writeback *pw = mapping->pin_writeback;

	mapping->pin_writeback = NULL;
	if (pw == PIN_WRITEBACK_NONE)
		return;
	/* Nobody finds it any more, and then nothing queues the work */
	lock_noted();
	pw->dying = true;
	list_del_init(&pw->node);
	spin_unlock(&noted_lock);
	/* The work may have had the last file */
	if (current_work() == &pw->work.work)
		cancel_delayed_work(&pw->work);
	else
		cancel_delayed_work_sync(&pw->work);
	WARN_ON_ONCE(pw->file);
	kfree(pw);
}

static bool pin_writeback_wanted = true;
core_param(pin_writeback, pin_writeback_wanted, bool, 0444);

static int __init pin_writeback_init(void)
{
	/* An inode that is evicted by reclaim waits for its work */
	pin_writeback_wq = alloc_workqueue("pin_writeback",
					   WQ_UNBOUND | WQ_MEM_RECLAIM | WQ_FREEZABLE, 0);
	notice_cred = prepare_kernel_cred(&init_task);
	if (!pin_writeback_wq || !notice_cred) {
		static_branch_disable(&pin_writeback_on);
		return -ENOMEM;
	}
	cap_clear(notice_cred->cap_effective);
	notice_cred->fsuid = make_kuid(&init_user_ns, DEFAULT_OVERFLOWUID);
	notice_cred->fsgid = make_kgid(&init_user_ns, DEFAULT_OVERFLOWGID);
	if (!pin_writeback_wanted)
		static_branch_disable(&pin_writeback_on);
	return 0;
}
core_initcall(pin_writeback_init);
