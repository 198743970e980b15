/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The source of a copy-on-write fault on a page of a DAX file.
 *
 * vm_normal_page() does not return such a page, so a fault has no reference to
 * it, and copies it by its user address. That is an address of current->mm, which
 * need not be the one of the fault: GUP faults for others, too.
 *
 * The page has a struct page, though. A reference that is taken under the page
 * table lock lets a fault copy it like any other page. Until that reference ends,
 * the file system gives the block to nobody else: truncation first unmaps a page,
 * then waits for its references. So a page table entry that is the same after the
 * copy maps the page that was copied.
 */
#ifndef _MM_DAX_COW_H
#define _MM_DAX_COW_H

#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/pgtable.h>

/**
 * dax_cow_get() - get the DAX page that a copy-on-write fault has to copy
 * @vmf: the fault; vmf->orig_pte is what it is about, vmf->pte is not mapped
 * @page: set to the page; to NULL if it is not one of a DAX file
 *
 * dax_cow_put() ends it, after the last look at the page table.
 *
 * Context: Process context; takes the page table lock.
 * Return: 0; or, and @page is NULL,
 * VM_FAULT_NOPAGE: another page is mapped now; the fault may come again.
 * VM_FAULT_SIGBUS: the device is being removed.
 */
static inline vm_fault_t dax_cow_get(struct vm_fault *vmf, struct page **page)
{
	vm_fault_t ret = VM_FAULT_NOPAGE;

	*page = NULL;
	if (vmf->page || !pte_devmap(vmf->orig_pte))
		return 0;

	vmf->pte = pte_offset_map_lock(vmf->vma->vm_mm, vmf->pmd, vmf->address,
				       &vmf->ptl);
	if (!vmf->pte)
		return ret;
	if (!pte_same(ptep_get(vmf->pte), vmf->orig_pte)) {
		update_mmu_tlb(vmf->vma, vmf->address, vmf->pte);
	} else if (!get_dev_pagemap(pte_pfn(vmf->orig_pte), NULL)) {
		ret = VM_FAULT_SIGBUS;
	} else {
		*page = pte_page(vmf->orig_pte);
		get_page(*page);
		ret = 0;
	}
	pte_unmap_unlock(vmf->pte, vmf->ptl);
	return ret;
}

/**
 * dax_cow_put() - end what dax_cow_get() began
 * @page: the page, or NULL
 *
 * Context: Process context.
 */
static inline void dax_cow_put(struct page *page)
{
	struct dev_pagemap *pgmap;

	if (!page)
		return;
	pgmap = page->pgmap;
	put_page(page);
	put_dev_pagemap(pgmap);
}

#endif /* _MM_DAX_COW_H */
