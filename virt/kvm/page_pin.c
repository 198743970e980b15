// SPDX-License-Identifier: GPL-2.0
/*
 * Pins on guest pages that the CPU or the hardware writes through.
 *
 * Rules
 *
 *  1. The pin is FOLL_PIN and never FOLL_LONGTERM: guests whose memory is a
 *     file keep working, and the file system sees which page may change.
 *  2. The page is taken for writing, so the fault that a file system wants to
 *     see has been there. It may write the page back all the same while it is
 *     pinned; so the put marks it dirty again, under the page's lock, or
 *     writeback would never hear of what was written last.
 *  3. VM_PFNMAP memory is mapped as KVM always has: there may be no page, and
 *     nothing to be dirtied. hva_to_pfn_remapped() takes a reference if there
 *     is one to take, and kvm_release_pfn() knows.
 */

#include <linux/kvm_host.h>
#include <linux/kvm_pin.h>
#include <linux/mm.h>
#include <linux/user_pages.h>

#include "kvm_mm.h"

/* As hva_to_pfn() does where GUP finds no page (rule 3) */
static noinline kvm_pfn_t remapped_pfn(unsigned long hva)
{
	kvm_pfn_t pfn = KVM_PFN_ERR_FAULT;
	struct vm_area_struct *vma;
	int ret;

	do {
		ret = -EFAULT;
		mmap_read_lock(current->mm);
		vma = vma_lookup(current->mm, hva);
		if (vma && vma->vm_flags & (VM_IO | VM_PFNMAP))
			ret = hva_to_pfn_remapped(vma, hva, true, NULL, &pfn);
		mmap_read_unlock(current->mm);
	} while (ret == -EAGAIN);
	return ret ? KVM_PFN_ERR_FAULT : pfn;
}

/**
 * kvm_pin_gfn() - pin a page of guest memory for the CPU to write through
 * @slot: the memslot of @gfn, or NULL if there is none
 * @gfn: guest frame number
 * @page: set to the pinned page, or to NULL if it is VM_PFNMAP memory
 *
 * For writing, and by the VM's own process. The caller ends it with
 * kvm_put_pinned() or kvm_put_pinned_atomic(), to which it gives both the PFN
 * and @page.
 *
 * Idea: upstream's kvm_vcpu_map() of 6.13, which knows FOLL_PIN.
 *
 * Context: Process context. May sleep; takes the mmap_lock of current->mm.
 * Return: the PFN; or an error PFN (is_error_noslot_pfn()), and nothing is to
 * be put.
 */
kvm_pfn_t kvm_pin_gfn(struct kvm_memory_slot *slot, gfn_t gfn,
		      struct page **page)
{
	unsigned long hva = gfn_to_hva_memslot(slot, gfn);

	*page = NULL;
	if (hva == KVM_HVA_ERR_RO_BAD)
		return KVM_PFN_ERR_RO_FAULT;
	if (kvm_is_error_hva(hva))
		return KVM_PFN_NOSLOT;

	/* NUMA hinting faults as in hva_to_pfn_slow(): the vCPU uses the page */
	if (pin_user_pages_fast(hva, 1, FOLL_WRITE | FOLL_HONOR_NUMA_FAULT,
				page) == 1)
		return page_to_pfn(*page);
	*page = NULL;
	return remapped_pfn(hva);
}

/**
 * kvm_put_pinned() - put a page of guest memory
 * @pfn: what kvm_pin_gfn() returned
 * @page: what it set
 * @dirty: the page may have been written
 *
 * Most are dirty already: VMCBs are written at each exit. That the page was in
 * use has GUP told its LRU list.
 *
 * Context: Process context. May sleep.
 */
void kvm_put_pinned(kvm_pfn_t pfn, struct page *page, bool dirty)
{
	if (!page) {
		kvm_release_pfn(pfn, dirty);
		return;
	}
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
 * until a kernel thread has had the lock.
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
