// SPDX-License-Identifier: GPL-2.0
/*
 * Pins on guest pages that the CPU, the hardware or KVM accesses behind the back
 * of the page tables.
 *
 * Rules
 *
 *  1. The pin is FOLL_PIN and never FOLL_LONGTERM: guests whose memory is a
 *     file keep working, and the file system sees which page may change.
 *  2. What may be written is taken for writing, so the fault that a file system
 *     wants to see has been there. It may write the page back all the same
 *     while it is pinned; so the put marks it dirty again, under the page's
 *     lock, or writeback would never hear of what was written last. Some file
 *     systems write only what a write fault has told them, NFS for one. If
 *     pin_writeback does not tell them, the put does.
 *  3. What is only read is taken for reading, and put clean. The process need
 *     not be able to write there, and a clean page of a file stays clean.
 *  4. VM_PFNMAP memory is mapped as KVM always has: there may be no page, and
 *     nothing to be dirtied. hva_to_pfn_remapped() takes a reference if there
 *     is one to take, and kvm_release_pfn() knows.
 */

#include <linux/kvm_host.h>
#include <linux/kvm_pin.h>
#include <linux/mm.h>
#include <linux/pin_writeback.h>
#include <linux/user_pages.h>

#include "kvm_mm.h"

/* As hva_to_pfn() does where GUP finds no page (rule 4) */
static noinline kvm_pfn_t remapped_pfn(unsigned long hva, bool write)
{
	kvm_pfn_t pfn = KVM_PFN_ERR_FAULT;
	struct vm_area_struct *vma;
	int ret;

	do {
		ret = -EFAULT;
		mmap_read_lock(current->mm);
		vma = vma_lookup(current->mm, hva);
		if (vma && vma->vm_flags & (VM_IO | VM_PFNMAP))
			ret = hva_to_pfn_remapped(vma, hva, write, NULL, &pfn);
		mmap_read_unlock(current->mm);
	} while (ret == -EAGAIN);
	return ret ? KVM_PFN_ERR_FAULT : pfn;
}

/**
 * kvm_pin_gfn() - pin a page of guest memory that is accessed without the MMU
 * @slot: the memslot of @gfn, or NULL if there is none
 * @gfn: guest frame number
 * @write: the page may be written; else it is only read
 * @page: set to the pinned page, or to NULL if it is VM_PFNMAP memory
 *
 * By the VM's own process. The caller ends it with kvm_put_pinned() or
 * kvm_put_pinned_atomic(), to which it gives both the PFN and @page; without
 * @write, never as dirty.
 *
 * A page that is taken for reading is what the guest sees now. In a private
 * mapping of a file, the guest has another one once it writes there. So use it
 * at once.
 *
 * Idea: upstream's kvm_vcpu_map() of 6.13, which knows FOLL_PIN.
 *
 * Context: Process context. May sleep; takes the mmap_lock of current->mm.
 * Return: the PFN; or an error PFN (is_error_noslot_pfn()), and nothing is to
 * be put.
 */
kvm_pfn_t kvm_pin_gfn(struct kvm_memory_slot *slot, gfn_t gfn, bool write,
		      struct page **page)
{
	/* NUMA hinting faults as in hva_to_pfn_slow(): the vCPU uses the page */
	unsigned int flags = FOLL_HONOR_NUMA_FAULT | (write ? FOLL_WRITE : 0);
	unsigned long hva;
	bool writable;

	*page = NULL;
	hva = gfn_to_hva_memslot_prot(slot, gfn, &writable);
	if (kvm_is_error_hva(hva))
		return KVM_PFN_NOSLOT;
	if (write && !writable)
		return KVM_PFN_ERR_RO_FAULT;

	if (pin_user_pages_fast(hva, 1, flags, page) == 1)
		return page_to_pfn(*page);
	*page = NULL;
	return remapped_pfn(hva, write);
}

/* Of a file that pin_writeback does not look after: only write faults tell of writes */
static bool needs_write_fault(struct folio *folio)
{
	/* The file's inode may go */
	guard(rcu)();
	return !folio_test_anon(folio) && !folio_test_swapbacked(folio) &&
	       !folio_test_hugetlb(folio) && !folio_prepared(folio);
}

/*
 * If the page was written back, it is mapped read-only: then GUP makes the fault that a
 * store of the guest would make, before the last pin goes. If the mapping has another
 * page now, it was truncated or dropped, and what was written is lost as a store's is.
 */
static void make_write_fault(struct kvm *kvm, gfn_t gfn)
{
	unsigned long hva = gfn_to_hva(kvm, gfn);
	struct page *page;

	if (current->mm != kvm->mm || kvm_is_error_hva(hva))
		return;
	if (pin_user_pages_fast(hva, 1, FOLL_WRITE, &page) == 1)
		put_user_page(page);
}

/**
 * kvm_put_pinned() - put a page of guest memory
 * @kvm: the VM
 * @gfn: its guest frame number
 * @pfn: what kvm_pin_gfn() returned
 * @page: what it set
 * @dirty: the page may have been written
 *
 * Most are dirty already: VMCBs are written at each exit. That the page was in
 * use has GUP told its LRU list.
 *
 * Context: Process context. May sleep; takes the mmap_lock of current->mm. Memslots
 * stay as they are: kvm->srcu is held, or nobody else has the VM any more.
 */
void kvm_put_pinned(struct kvm *kvm, gfn_t gfn, kvm_pfn_t pfn,
		    struct page *page, bool dirty)
{
	if (!page) {
		kvm_release_pfn(pfn, dirty);
		return;
	}
	/* PG_dirty may be of another part of the page */
	if (dirty && needs_write_fault(page_folio(page)))
		make_write_fault(kvm, gfn);
	if (dirty && !PageDirty(page))
		put_user_pages_dirty_lock(&page, 1);
	else
		put_user_page(page);
}

/**
 * kvm_put_pinned_atomic() - put a page of guest memory without sleeping
 * @pfn: what kvm_pin_gfn() returned
 * @page: what it set
 * @dirty: the page may have been written
 *
 * If somebody else has a page locked that is to become dirty, it stays pinned
 * until a kernel thread has had the lock. It makes no write fault: what only such a
 * fault tells of is lost, if it was written back since the pin.
 *
 * Context: As put_user_pages_dirty(). The GHCB's unmap, where preemption is off, is
 * wrong with PREEMPT_RT, as it always was.
 */
void kvm_put_pinned_atomic(kvm_pfn_t pfn, struct page *page, bool dirty)
{
	if (!page) {
		kvm_release_pfn(pfn, dirty);
		return;
	}
	if (dirty && !PageDirty(page))
		put_user_pages_dirty(&page, 1);
	else
		put_user_page(page);
}
