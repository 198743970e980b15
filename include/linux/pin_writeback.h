/* SPDX-License-Identifier: GPL-2.0 */
/*
 * File pages that somebody has pinned for writing: writeback does not lose what
 * a device writes to them. The design is on top of mm/pin_writeback.c.
 */
#ifndef _LINUX_PIN_WRITEBACK_H
#define _LINUX_PIN_WRITEBACK_H

#include <linux/fs.h>
#include <linux/jump_label.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/xarray.h>

struct pin_writeback;

/* In address_space->pin_writeback: GUP has asked, and there is nothing to do */
#define PIN_WRITEBACK_NONE	((struct pin_writeback *)1)

#ifdef CONFIG_PIN_WRITEBACK

DECLARE_STATIC_KEY_TRUE(pin_writeback_on);

int __pin_writeback_prepare(struct vm_area_struct *vma, bool nofault);
void __pin_writeback_start(struct address_space *mapping, struct xa_state *xas,
			   struct folio *folio);
bool __folio_noted(struct address_space *mapping, struct folio *folio);
bool __pin_writeback_dirty(struct folio *folio);
bool __pin_writeback_dirty_unlocked(struct folio *folio);
int __pin_writeback_notice(struct address_space *mapping, loff_t start, loff_t end, bool wait);
bool __pin_writeback_range(struct address_space *mapping, loff_t start, loff_t end);
int __pin_writeback_may_drop(struct address_space *mapping, loff_t pos, loff_t len);
void __pin_writeback_truncate(struct address_space *mapping, loff_t size);
void __pin_writeback_unmap(struct vm_area_struct *vma);
void __pin_writeback_evict(struct address_space *mapping);
void pin_writeback_sync(struct super_block *sb);
bool pin_writeback_umount(struct super_block *sb, const struct vfsmount *busy);

/* Was a page of the file pinned for writing, and does that matter? */
static inline bool mapping_prepared(struct address_space *mapping)
{
	return unlikely((unsigned long)READ_ONCE(mapping->pin_writeback) >
			(unsigned long)PIN_WRITEBACK_NONE);
}

/* The same for the file that a folio is of, if it is a file's */
static inline bool folio_prepared(struct folio *folio)
{
	struct address_space *mapping = READ_ONCE(folio->mapping);

	return mapping && !((unsigned long)mapping & PAGE_MAPPING_FLAGS) &&
	       mapping_prepared(mapping);
}

/**
 * pin_writeback_enabled() - tell whether it is built, and not switched off
 *
 * Context: Any context; does not sleep.
 */
static inline bool pin_writeback_enabled(void)
{
	return static_branch_likely(&pin_writeback_on);
}

/**
 * pin_writeback_prepare() - let pages of a mapping be pinned for writing
 * @vma: the mapping
 * @nofault: the caller has locks of a file system: it asks for FOLL_NOFAULT
 *
 * Context: Process context, mmap_lock held. May sleep without @nofault.
 * Return: 0, or -ENOMEM; with @nofault -EFAULT, so that it tries again.
 */
static inline int pin_writeback_prepare(struct vm_area_struct *vma, bool nofault)
{
	if (!(vma->vm_flags & VM_SHARED) || !vma->vm_file ||
	    READ_ONCE(vma->vm_file->f_mapping->pin_writeback) ||
	    !pin_writeback_enabled())
		return 0;
	return __pin_writeback_prepare(vma, nofault);
}

/**
 * pin_writeback_prepared() - ask whether GUP-fast may pin pages of a file
 * @mapping: the file's
 *
 * GUP-fast looks at the page table again after this.
 *
 * Context: Any context; does not sleep.
 * Return: false if the slow path has to prepare the file first.
 */
static inline bool pin_writeback_prepared(struct address_space *mapping)
{
	return READ_ONCE(mapping->pin_writeback) || !pin_writeback_enabled();
}

/**
 * pin_writeback_start() - note a pinned folio whose writeback starts
 * @mapping: the file's
 * @xas: at the folio, the lock of the page cache held; PG_writeback is set
 * @folio: the folio
 *
 * Context: Any context; does not sleep.
 */
static inline void pin_writeback_start(struct address_space *mapping, struct xa_state *xas,
				       struct folio *folio)
{
	if (mapping_prepared(mapping))
		__pin_writeback_start(mapping, xas, folio);
}

/**
 * folio_pinned_in_file() - ask whether a folio has to stay where it is
 * @folio: a locked folio
 *
 * Context: Any context; does not sleep.
 * Return: true if it is a file's and may be pinned for writing, or what was
 * written to it by way of a pin is known to nobody but pin_writeback.
 */
static inline bool folio_pinned_in_file(struct folio *folio)
{
	return folio_prepared(folio) &&
	       (folio_maybe_dma_pinned(folio) || __folio_noted(folio->mapping, folio));
}

/**
 * folio_pin_dirty() - ask whether a folio may have what is not on the disk, by a pin
 * @folio: a locked folio
 *
 * A reader's pin does not count.
 *
 * Context: Any context; does not sleep.
 */
static inline bool folio_pin_dirty(struct folio *folio)
{
	return folio_prepared(folio) &&
	       (__folio_noted(folio->mapping, folio) ||
		(folio_test_dirty(folio) && folio_maybe_dma_pinned(folio)));
}

/**
 * folio_pin_waits() - ask whether a pin for writing has to wait for a writeback
 * @folio: a folio that the caller has just pinned for writing
 *
 * If not, a writeback that begins later sees the pin, and writes a copy.
 *
 * Context: Any context; does not sleep.
 */
static inline bool folio_pin_waits(struct folio *folio)
{
	if (!folio_prepared(folio))
		return false;
	/* The pin before PG_writeback; a writeback has them the other way round */
	smp_mb__after_atomic();
	return folio_test_writeback(folio);
}

/**
 * folio_pinned_for_write() - ask whether somebody may write to a folio by way of a pin
 * @folio: a folio, of which the caller has a reference or a buffer
 *
 * Context: Any context; does not sleep.
 */
static inline bool folio_pinned_for_write(struct folio *folio)
{
	bool ret;

	/* Buffers of jbd2 have no file */
	if (folio_test_slab(folio))
		return false;
	/* Inodes are freed by RCU */
	rcu_read_lock();
	ret = folio_prepared(folio) && folio_maybe_dma_pinned(folio);
	rcu_read_unlock();
	return ret;
}

/**
 * pin_writeback_dirty() - note that somebody has written to a folio that was pinned
 * @folio: a locked folio, which is pinned still
 *
 * Context: Process context; does not sleep.
 * Return: false if folio_mark_dirty() is the right thing to do.
 */
static inline bool pin_writeback_dirty(struct folio *folio)
{
	return folio_prepared(folio) && __pin_writeback_dirty(folio);
}

/**
 * pin_writeback_dirty_unlocked() - the same without the folio's lock
 * @folio: a folio, which is pinned still
 *
 * For callers that cannot wait for the lock, and have no memory to do it later.
 * If somebody is compressing the folio just now, what was written to it last may
 * wait for the next write.
 *
 * Context: Any context; does not sleep.
 * Return: false if folio_mark_dirty() is the right thing to do.
 */
static inline bool pin_writeback_dirty_unlocked(struct folio *folio)
{
	bool ret;

	/* Inodes are freed by RCU */
	rcu_read_lock();
	ret = folio_prepared(folio) && __pin_writeback_dirty_unlocked(folio);
	rcu_read_unlock();
	return ret;
}

/**
 * pin_writeback_notice() - make noted folios of a file dirty
 * @mapping: the file's
 * @start: first byte
 * @end: last byte
 *
 * Context: Process context. May sleep, and waits while the file system is frozen:
 * no lock may be held that a writer of it takes.
 * Return: 0, -ENOSPC, -EIO, -ENOMEM, or -EINTR after a fatal signal.
 */
static inline int pin_writeback_notice(struct address_space *mapping, loff_t start, loff_t end)
{
	if (!mapping_prepared(mapping))
		return 0;
	return __pin_writeback_notice(mapping, start, end, true);
}

/**
 * pin_writeback_notice_locked() - make noted folios of a file dirty
 * @mapping: the file's
 * @start: first byte
 * @end: last byte
 *
 * As pin_writeback_notice(), for callers that have the inode's lock.
 *
 * Context: Process context. May sleep. The inode's lock may be held, invalidate_lock
 * may not.
 * Return: 0, -EAGAIN if the file system is frozen or cannot do it just now, or as
 * pin_writeback_notice().
 */
static inline int pin_writeback_notice_locked(struct address_space *mapping, loff_t start,
					      loff_t end)
{
	if (!mapping_prepared(mapping))
		return 0;
	return __pin_writeback_notice(mapping, start, end, false);
}

/**
 * pin_writeback_range() - ask whether a range has folios that are folio_pin_dirty()
 * @mapping: the file's
 * @start: first byte
 * @end: last byte
 *
 * Context: Process context; does not sleep.
 */
static inline bool pin_writeback_range(struct address_space *mapping, loff_t start, loff_t end)
{
	return mapping_prepared(mapping) && __pin_writeback_range(mapping, start, end);
}

/**
 * pin_writeback_may_change() - ask whether somebody may write to a range by way of a pin
 * @mapping: the file's
 * @start: first byte
 * @end: last byte
 *
 * The caller has locked the folios, and no page table maps them for writing any more.
 *
 * Context: Process context; does not sleep.
 */
static inline bool pin_writeback_may_change(struct address_space *mapping, loff_t start,
					    loff_t end)
{
	/* Page tables before pins: GUP-fast has them the other way round */
	smp_mb();
	return pin_writeback_range(mapping, start, end);
}

/**
 * pin_writeback_may_drop() - make noted folios dirty before others take their place
 * @file: the file
 * @pos: first byte of the range that gets other content
 * @len: its bytes; 0: up to the end of the file
 *
 * A device that still writes to a folio would write to one that is nobody's.
 *
 * Context: As for pin_writeback_notice().
 * Return: 0, -EBUSY if folios are pinned, or as pin_writeback_notice().
 */
static inline int pin_writeback_may_drop(struct file *file, loff_t pos, loff_t len)
{
	if (!mapping_prepared(file->f_mapping))
		return 0;
	return __pin_writeback_may_drop(file->f_mapping, pos, len);
}

/**
 * pin_writeback_truncate() - a file gets another size
 * @mapping: the file's
 * @size: in bytes
 *
 * A pinned folio is dropped as a whole, so the rest of it goes to the disk.
 *
 * Context: Process context. May sleep. The inode's lock may be held, invalidate_lock
 * may not.
 */
static inline void pin_writeback_truncate(struct address_space *mapping, loff_t size)
{
	if (mapping_prepared(mapping))
		__pin_writeback_truncate(mapping, size);
}

/**
 * pin_writeback_unmap() - a mapping of a file is about to go
 * @vma: the mapping, whose page tables are empty, still in the file's i_mmap
 *
 * Context: Process context. May sleep.
 */
static inline void pin_writeback_unmap(struct vm_area_struct *vma)
{
	if (vma->vm_file && mapping_prepared(vma->vm_file->f_mapping))
		__pin_writeback_unmap(vma);
}

/**
 * pin_writeback_evict() - an inode goes, and its pages have gone
 * @mapping: its own
 *
 * Context: Process context. May sleep.
 */
static inline void pin_writeback_evict(struct address_space *mapping)
{
	if (unlikely(mapping->pin_writeback))
		__pin_writeback_evict(mapping);
}

#else

static inline bool mapping_prepared(struct address_space *mapping)
{
	return false;
}

static inline bool folio_prepared(struct folio *folio)
{
	return false;
}

static inline bool pin_writeback_enabled(void)
{
	return false;
}

static inline int pin_writeback_prepare(struct vm_area_struct *vma, bool nofault)
{
	return 0;
}

static inline bool pin_writeback_prepared(struct address_space *mapping)
{
	return true;
}

static inline void pin_writeback_start(struct address_space *mapping, struct xa_state *xas,
				       struct folio *folio) {}

static inline bool folio_pinned_in_file(struct folio *folio)
{
	return false;
}

static inline bool folio_pin_dirty(struct folio *folio)
{
	return false;
}

static inline bool folio_pin_waits(struct folio *folio)
{
	return false;
}

static inline bool folio_pinned_for_write(struct folio *folio)
{
	return false;
}

static inline bool pin_writeback_dirty(struct folio *folio)
{
	return false;
}

static inline bool pin_writeback_dirty_unlocked(struct folio *folio)
{
	return false;
}

static inline int pin_writeback_notice(struct address_space *mapping, loff_t start, loff_t end)
{
	return 0;
}

static inline int pin_writeback_notice_locked(struct address_space *mapping, loff_t start,
					      loff_t end)
{
	return 0;
}

static inline bool pin_writeback_range(struct address_space *mapping, loff_t start, loff_t end)
{
	return false;
}

static inline bool pin_writeback_may_change(struct address_space *mapping, loff_t start,
					    loff_t end)
{
	return false;
}

static inline int pin_writeback_may_drop(struct file *file, loff_t pos, loff_t len)
{
	return 0;
}

static inline void pin_writeback_truncate(struct address_space *mapping, loff_t size) {}
static inline void pin_writeback_unmap(struct vm_area_struct *vma) {}
static inline void pin_writeback_evict(struct address_space *mapping) {}
static inline void pin_writeback_sync(struct super_block *sb) {}

static inline bool pin_writeback_umount(struct super_block *sb, const struct vfsmount *busy)
{
	return false;
}

#endif
#endif
