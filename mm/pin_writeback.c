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
 * This is the special handling of the 2019 put_user_pages series, without its
 * bounce pages: those are about what is written being stable, not about what is
 * lost.
 *
 * Words:
 *
 *   pinned	folio_maybe_dma_pinned(), in a file that was prepared. Readers'
 *		pins and 1024 references look the same: that costs a write of the
 *		page, no more.
 *   prepared	a file of which a page was pinned for writing at some time. Its
 *		address_space points to a struct pin_writeback.
 *   noted	a folio that is clean and has PAGECACHE_TAG_TOWRITE, but not the
 *		dirty tag: a device may have written to it since its writeback
 *		began.
 *   to notice	to make a noted folio dirty the way a store by the CPU does: by
 *		page_mkwrite()
 *
 * Invariants:
 *
 *  1. A folio that is pinned keeps its place in the file and its private data,
 *     but for truncation and its like. (filemap_release_folio(),
 *     invalidate_complete_folio2())
 *  2. A folio in a prepared file is dirty by page_mkwrite() only, each time.
 *     (pin_writeback_dirty())
 *  3. A pinned folio is dirty or noted. It is dirty when it gets pinned, since a
 *     writable PTE says so; and when its writeback starts, it is noted. A put
 *     by a holder that has written notes it as well. (pin_writeback_start())
 *  4. A noted folio is not reclaimed. (__remove_mapping())
 *  5. While there is a noted or pinned folio, there is a file by which it can be
 *     noticed: of a mapping, or pin_writeback->file, which the last mapping
 *     leaves behind. (pin_writeback_unmap())
 *  6. A prepared file with a noted folio is on noted_files, and has work queued.
 *
 * To note a folio takes no memory, once its file is prepared. So no put can fail.
 *
 * Not right yet: a folio of several blocks that is dirty in part counts as dirty, so
 * what a device writes to another block of it is forgotten. docs/pinned-files.md has
 * what else a review found. That is why this is off.
 *
 * PAGECACHE_TAG_TOWRITE is free for this. A walk of writeback for data integrity
 * gives it to folios that have the dirty tag, looks at those that have it, and
 * passes over what is clean. The start of a writeback takes both off. ext4 starts
 * one for clean folios, too, to get rid of tags: then this one stays. The dirty tag
 * would not do for a note: the flusher looks at each folio that has it, again and
 * again, and others take it for the number of dirty pages.
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
 *   folio lock -> xa_lock (irq)
 *   folio lock -> noted_lock -> inode->i_lock
 */
#include <linux/backing-dev.h>
#include <linux/dax.h>
#include <linux/file.h>
#include <linux/init.h>
#include <linux/list.h>
#include <linux/moduleparam.h>
#include <linux/pagevec.h>
#include <linux/pin_writeback.h>
#include <linux/rcupdate_wait.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include <linux/workqueue.h>
#include <linux/writeback.h>

#define CREATE_TRACE_POINTS
#include <trace/events/pin_writeback.h>

/**
 * struct pin_writeback - a file that is prepared for pins
 * @mapping: its pages; NULL in the cursor of a walk
 * @node: in noted_files, if a folio is noted
 * @noted: how many times one was, so that a pass sees that it missed one
 * @file: keeps the file open, or NULL
 * @page_mkwrite: of the mapping that left @file
 * @delay: jiffies until the next look, while there is @file
 * @work: notices
 */
struct pin_writeback {
	struct address_space *mapping;
	struct list_head node;
	unsigned long noted;
	struct file *file;
	vm_fault_t (*page_mkwrite)(struct vm_fault *vmf);
	unsigned long delay;
	struct delayed_work work;
};

/* By whom a folio is noticed */
struct writer {
	struct file *file;
	/* Not its vm_ops: coda frees them with the mapping */
	vm_fault_t (*page_mkwrite)(struct vm_fault *vmf);
};

DEFINE_STATIC_KEY_FALSE(pin_writeback_on);

/* All that changes in a struct pin_writeback */
static DEFINE_SPINLOCK(noted_lock);
static LIST_HEAD(noted_files);
static struct workqueue_struct *pin_writeback_wq;

/* Until the first look at pins that outlive their last mapping */
#define FIRST_DELAY	(HZ / 100 + 1)

/* As long as pages that the CPU writes stay dirty, more or less: 10 s to 30 s */
static unsigned long notice_delay(void)
{
	return clamp(dirty_expire_interval, 1000U, 3000U) * HZ / 100;
}

/* A folio is noted already, or will be looked at */
static void note_file(struct pin_writeback *pw, unsigned long delay)
{
	spin_lock(&noted_lock);
	pw->noted++;
	if (list_empty(&pw->node))
		/* A walk does not come across what is noted meanwhile */
		list_add(&pw->node, &noted_files);
	spin_unlock(&noted_lock);
	/* Never later than it was to be */
	if (!delay || (timer_pending(&pw->work.timer) &&
		       time_after(pw->work.timer.expires, jiffies + delay)))
		mod_delayed_work(pin_writeback_wq, &pw->work, delay);
	else
		queue_delayed_work(pin_writeback_wq, &pw->work, delay);
}

bool __pin_writeback_start(struct xa_state *xas, struct folio *folio)
{
	/* folio_test_set_writeback() was the barrier */
	if (folio_maybe_dma_pinned(folio)) {
		xas_set_mark(xas, PAGECACHE_TAG_TOWRITE);
		count_vm_events(PIN_NOTED, folio_nr_pages(folio));
		trace_pin_noted(folio);
		return true;
	}
	return !xas_get_mark(xas, PAGECACHE_TAG_DIRTY) &&
	       xas_get_mark(xas, PAGECACHE_TAG_TOWRITE);
}

void __pin_writeback_started(struct address_space *mapping)
{
	note_file(mapping->pin_writeback, notice_delay());
}

/* Of a clean folio: the dirty tag can be an old one */
static void tag_folio(struct folio *folio, bool towrite)
{
	struct address_space *mapping = folio->mapping;
	unsigned long flags;

	xa_lock_irqsave(&mapping->i_pages, flags);
	if (towrite)
		__xa_set_mark(&mapping->i_pages, folio->index, PAGECACHE_TAG_TOWRITE);
	else
		__xa_clear_mark(&mapping->i_pages, folio->index, PAGECACHE_TAG_TOWRITE);
	__xa_clear_mark(&mapping->i_pages, folio->index, PAGECACHE_TAG_DIRTY);
	xa_unlock_irqrestore(&mapping->i_pages, flags);
}

bool __folio_noted(struct address_space *mapping, struct folio *folio)
{
	return !folio_test_dirty(folio) &&
	       xa_get_mark(&mapping->i_pages, folio->index, PAGECACHE_TAG_TOWRITE) &&
	       !xa_get_mark(&mapping->i_pages, folio->index, PAGECACHE_TAG_DIRTY);
}
EXPORT_SYMBOL_GPL(__folio_noted);

bool __pin_writeback_dirty(struct folio *folio)
{
	VM_WARN_ON_FOLIO(!folio_test_locked(folio), folio);
	/*
	 * The lock keeps the start of a writeback away: if the folio is dirty, what
	 * was written to it goes to the disk, and if not, the tag stays.
	 */
	if (folio_test_dirty(folio))
		return true;
	tag_folio(folio, true);
	count_vm_events(PIN_NOTED, folio_nr_pages(folio));
	trace_pin_noted(folio);
	note_file(folio->mapping->pin_writeback, 0);
	return true;
}
EXPORT_SYMBOL_GPL(__pin_writeback_dirty);

bool __pin_writeback_dirty_unlocked(struct folio *folio)
{
	struct address_space *mapping = READ_ONCE(folio->mapping);
	unsigned long flags;

	/* It was truncated since the caller looked */
	if (!mapping)
		return true;
	xa_lock_irqsave(&mapping->i_pages, flags);
	/* It leaves the page cache under this lock */
	if (folio->mapping == mapping)
		__xa_set_mark(&mapping->i_pages, folio->index, PAGECACHE_TAG_TOWRITE);
	xa_unlock_irqrestore(&mapping->i_pages, flags);
	return true;
}
EXPORT_SYMBOL_GPL(__pin_writeback_dirty_unlocked);

/* Does the file system have to hear of what is written to the pages? */
static bool wants_notice(struct vm_area_struct *vma, struct address_space *mapping)
{
	struct inode *inode = mapping->host;

	/*
	 * Cluster locks of gfs2 and ocfs2 write and drop pages without us; bcachefs
	 * tries again until it can drop them.
	 */
	if (inode && (!strcmp(inode->i_sb->s_type->name, "gfs2") ||
		      !strcmp(inode->i_sb->s_type->name, "ocfs2") ||
		      !strcmp(inode->i_sb->s_type->name, "bcachefs")))
		return false;
	return inode && (S_ISREG(inode->i_mode) || S_ISBLK(inode->i_mode)) &&
	       !dax_mapping(mapping) && !is_vm_hugetlb_page(vma) &&
	       mapping_can_writeback(mapping) && vma->vm_ops && vma->vm_ops->page_mkwrite;
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

	vm_flags_init(&vma, VM_SHARED | VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE);
	return w->page_mkwrite(&vmf);
}

/* Is it noted still? What is outside the file, or swap space, is not written. */
static bool still_noted(struct address_space *mapping, struct folio *folio)
{
	bool noted;

	folio_lock(folio);
	noted = folio->mapping == mapping && __folio_noted(mapping, folio);
	if (noted && (IS_SWAPFILE(mapping->host) ||
		      folio_pos(folio) >= i_size_read(mapping->host))) {
		tag_folio(folio, false);
		noted = false;
	}
	folio_unlock(folio);
	return noted;
}

/* Count, and tell who asks for the file's errors */
static int noticed(struct address_space *mapping, struct folio *folio, vm_fault_t ret)
{
	int err = 0;

	if (ret & VM_FAULT_OOM)
		err = -ENOMEM;
	else if (ret & VM_FAULT_ERROR)
		err = -EIO;
	if (err == -EIO)
		mapping_set_error(mapping, err);
	count_vm_events(err ? PIN_NOTICE_FAILED : PIN_NOTICED, folio_nr_pages(folio));
	trace_pin_noticed(mapping->host, folio, err);
	return err;
}

/* 0 if it is not noted any more, -EAGAIN if that may take time */
static int notice_folio(struct pin_writeback *pw, struct writer *w, struct folio *folio, bool wait)
{
	struct address_space *mapping = pw->mapping;
	struct super_block *sb = mapping->host->i_sb;

	while (still_noted(mapping, folio)) {
		vm_fault_t ret;

		/*
		 * Its mapping goes just now, and leaves a file behind. Or there was
		 * none: a plain reference, which nobody sees, has ended. Then this
		 * is all that can be done.
		 */
		if (!get_writer(pw, w)) {
			folio_lock(folio);
			if (folio->mapping == mapping)
				folio_mark_dirty(folio);
			folio_unlock(folio);
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
		if (!(ret & (VM_FAULT_ERROR | VM_FAULT_NOPAGE | VM_FAULT_RETRY))) {
			if (!(ret & VM_FAULT_LOCKED))
				folio_lock(folio);
			if (folio->mapping == mapping)
				folio_mark_dirty(folio);
			folio_unlock(folio);
		}
		sb_end_write(sb);
		if (!(ret & (VM_FAULT_NOPAGE | VM_FAULT_RETRY)))
			return noticed(mapping, folio, ret);
		/* It was truncated, or the file system cannot do it just now */
		if (!wait)
			return -EAGAIN;
		if (schedule_timeout_killable(1))
			return -EINTR;
	}
	return 0;
}

/* Notice folios of a range, in pages. @left: some still need a file to be noticed by. */
static int notice_range(struct pin_writeback *pw, struct writer *w, pgoff_t first, pgoff_t last,
			bool wait, bool *left)
{
	struct folio_batch fbatch;
	int ret = 0;
	unsigned int i;

	folio_batch_init(&fbatch);
	while (filemap_get_folios_tag(pw->mapping, &first, last, PAGECACHE_TAG_TOWRITE, &fbatch)) {
		for (i = 0; i < folio_batch_count(&fbatch) && ret != -EINTR; i++) {
			struct folio *folio = fbatch.folios[i];
			bool pinned = folio_maybe_dma_pinned(folio);
			int err = 0;

			/* A put makes it dirty or notes it, and then unpins */
			smp_rmb();
			if (!folio_test_dirty(folio))
				err = notice_folio(pw, w, folio, wait);
			if (pinned || err)
				*left = true;
			if (err && err != -EAGAIN && (!ret || err == -EINTR))
				ret = err;
		}
		folio_batch_release(&fbatch);
		cond_resched();
		if (ret == -EINTR || (wait && fatal_signal_pending(current)))
			return -EINTR;
	}
	return ret;
}

/*
 * Notice what can be noticed now. *@file is not needed any more then, if there is one:
 * it and that of @w may be the last that keep the inode.
 * Return: whether nothing is noted or pinned any more. Under noted_lock.
 */
static bool notice_file(struct pin_writeback *pw, struct writer *w, struct file **file)
	__acquires(&noted_lock)
{
	unsigned long noted;
	bool left = false;

	spin_lock(&noted_lock);
	noted = pw->noted;
	spin_unlock(&noted_lock);
	notice_range(pw, w, 0, ULONG_MAX, false, &left);
	spin_lock(&noted_lock);
	left |= noted != pw->noted;
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

	if (notice_file(pw, &w, &file)) {
		/* On the list while it keeps a mount busy: umount() waits for it */
		if (w.file || file)
			queue_delayed_work(pin_writeback_wq, &pw->work, 0);
		else
			list_del_init(&pw->node);
	} else {
		if (pw->file) {
			delay = min(pw->delay, delay);
			pw->delay = delay * 2;
		}
		queue_delayed_work(pin_writeback_wq, &pw->work, delay);
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
	struct writer w = { };
	bool left = false;
	int ret;

	ret = notice_range(mapping->pin_writeback, &w, start >> PAGE_SHIFT,
			   end >> PAGE_SHIFT, wait, &left);
	if (w.file)
		fput(w.file);
	return ret;
}
EXPORT_SYMBOL_GPL(__pin_writeback_notice);

static bool noted_at(struct xa_state *xas, struct folio *folio)
{
	return !folio_test_dirty(folio) && xas_get_mark(xas, PAGECACHE_TAG_TOWRITE) &&
	       !xas_get_mark(xas, PAGECACHE_TAG_DIRTY);
}

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
		found = folio_maybe_dma_pinned(folio) || noted_at(&xas, folio);
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

/* Is it a file of this file system, or kept open by way of it (overlayfs, a device)? */
static bool keeps_busy(struct pin_writeback *pw, struct super_block *sb)
{
	return pw->mapping->host->i_sb == sb ||
	       (pw->file && file_user_path(pw->file)->mnt->mnt_sb == sb);
}

/**
 * pin_writeback_sync() - make noted folios dirty, of all files of a file system
 * @sb: the file system, or NULL: of all
 *
 * Files that are kept open for folios which are not pinned any more are closed.
 * A frozen file system is left alone.
 *
 * Context: Process context. May sleep; no lock of a file system may be held.
 */
void pin_writeback_sync(struct super_block *sb)
{
	struct pin_writeback cursor = { };
	struct inode *inode;

	spin_lock(&noted_lock);
	list_add(&cursor.node, &noted_files);
	while (!list_is_last(&cursor.node, &noted_files)) {
		struct pin_writeback *pw = list_next_entry(&cursor, node);
		struct writer w = { };
		struct file *file;

		list_move(&cursor.node, &pw->node);
		if (!pw->mapping || (sb && !keeps_busy(pw, sb)))
			continue;
		/* A server that does not answer keeps nobody from writing the rest */
		if (!sb && !(pw->mapping->host->i_sb->s_type->fs_flags & FS_REQUIRES_DEV) &&
		    !S_ISBLK(pw->mapping->host->i_mode)) {
			mod_delayed_work(pin_writeback_wq, &pw->work, 0);
			continue;
		}
		inode = igrab(pw->mapping->host);
		if (!inode)
			continue;
		spin_unlock(&noted_lock);
		notice_file(pw, &w, &file);
		spin_unlock(&noted_lock);
		/* A caller that unmounts cannot wait for the return to user space */
		if (w.file)
			__fput_sync(w.file);
		if (file)
			__fput_sync(file);
		if (sb)
			flush_work(&pw->work.work);
		iput(inode);
		cond_resched();
		spin_lock(&noted_lock);
	}
	list_del(&cursor.node);
	spin_unlock(&noted_lock);
}
EXPORT_SYMBOL_GPL(pin_writeback_sync);

/* Note pinned folios of a range that have @tag; is there one, or one that is noted? */
static bool note_pinned(struct address_space *mapping, pgoff_t first, pgoff_t last, xa_mark_t tag)
{
	XA_STATE(xas, &mapping->i_pages, first);
	unsigned int seen = 0;
	struct folio *folio;
	bool found = false;

	xas_lock_irq(&xas);
	xas_for_each_marked(&xas, folio, last, tag) {
		if (folio_maybe_dma_pinned(folio)) {
			xas_set_mark(&xas, PAGECACHE_TAG_TOWRITE);
			found = true;
		} else if (noted_at(&xas, folio)) {
			found = true;
		}
		if (++seen % XA_CHECK_SCHED)
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
	/* By invariant 3 a pinned folio has one of these tags */
	found = note_pinned(mapping, first, last, PAGECACHE_TAG_DIRTY);
	found |= note_pinned(mapping, first, last, PAGECACHE_TAG_TOWRITE);
	if (!found)
		return;
	spin_lock(&noted_lock);
	if (!pw->file) {
		pw->file = get_file(vma->vm_file);
		pw->page_mkwrite = vma->vm_ops->page_mkwrite;
	}
	pw->delay = FIRST_DELAY;
	spin_unlock(&noted_lock);
	note_file(pw, FIRST_DELAY);
}

void __pin_writeback_evict(struct address_space *mapping)
{
	struct pin_writeback *pw = mapping->pin_writeback;

	mapping->pin_writeback = NULL;
	if (pw == PIN_WRITEBACK_NONE)
		return;
	/* The work may have had the last file */
	if (current_work() == &pw->work.work)
		cancel_delayed_work(&pw->work);
	else
		cancel_delayed_work_sync(&pw->work);
	spin_lock(&noted_lock);
	list_del(&pw->node);
	spin_unlock(&noted_lock);
	WARN_ON_ONCE(pw->file);
	kfree(pw);
}

static bool pin_writeback_wanted;
core_param(pin_writeback, pin_writeback_wanted, bool, 0444);

static int __init pin_writeback_init(void)
{
	/* An inode that is evicted by reclaim waits for its work */
	pin_writeback_wq = alloc_workqueue("pin_writeback", WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	if (!pin_writeback_wq)
		return -ENOMEM;
	if (pin_writeback_wanted)
		static_branch_enable(&pin_writeback_on);
	return 0;
}
core_initcall(pin_writeback_init);
