/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pinned user memory of a VFIO container: who pays for it, how it comes into
 * an IOMMU and out again. The rules are on top of vfio_pin.c.
 */
#ifndef __VFIO_PIN_H
#define __VFIO_PIN_H

#include <linux/iommu.h>
#include <linux/list.h>
#include <linux/types.h>
#include <linux/user_pages.h>

struct mm_struct;
struct page;
struct scatterlist;
struct vfio_pin_account;

/* Extents of a batch that has no memory for more, or no need */
#define VFIO_PIN_FEW	16

/**
 * struct vfio_pinner - on whose behalf, and from where, a vfio_dma pins
 * @account: what its pins are charged to
 * @mm: the address space that its vaddr belongs to; a reference on the
 *	mm_struct, not on its memory
 * @owner: whose limit applies; holds a reference on the task
 * @runs: of struct vfio_run_block: the pages that are mapped for IOMMUs, those
 *	that are pinned by IOVA not
 *
 * While @mm lives, @account is an account for @mm. When it is dead, nothing
 * more can be pinned, and the account may have been adopted by another mm:
 * also by that of another container. That is why @mm is kept here: what an
 * account is charged to does not say what a vaddr means.
 */
struct vfio_pinner {
	struct vfio_pin_account *account;
	struct mm_struct *mm;
	struct pin_owner owner;
	struct list_head runs;
};

/**
 * struct vfio_pin_batch - physically contiguous pages between pin and map
 * @pinner: who pinned them
 * @prot: IOMMU_READ and IOMMU_WRITE, as they are pinned and to be mapped
 * @pfnmap: they are of VM_PFNMAP mappings and not pinned, or those before were
 * @stuck: an IOMMU still maps some of those that are ready
 * @max: the most extents that it takes; 1: pages that lie together are not merged
 * @nr: extents that are pinned and not mapped yet
 * @ready: how many of these, from the first on, are to be mapped now
 * @spare: struct vfio_run_block, empty: room to remember those
 * @extents: the pages, in the order of their IOVA
 * @sgl: room for a scatterlist of all extents that are ready; or NULL
 * @few: @extents where there is no memory for more, or no need
 */
struct vfio_pin_batch {
	struct vfio_pinner *pinner;
	int prot;
	bool pfnmap;
	bool stuck;
	unsigned int max;
	unsigned int nr;
	unsigned int ready;
	struct list_head spare;
	struct pin_extent *extents;
	struct scatterlist *sgl;
	struct pin_extent few[VFIO_PIN_FEW];
};

int vfio_pinner_init(struct vfio_pinner *pinner, struct list_head *accounts);
void vfio_pinner_fini(struct vfio_pinner *pinner);
void vfio_pin_release(struct list_head *accounts);
int vfio_pinner_change_owner(struct vfio_pinner *pinner,
			     struct list_head *accounts);
void vfio_pin_settle(struct list_head *accounts);

long vfio_pinner_pin(struct vfio_pinner *pinner, unsigned long vaddr,
		     unsigned long npages, int prot, unsigned long *pfn,
		     struct page **pages);
void vfio_pinner_put(struct vfio_pinner *pinner, unsigned long pfn,
		     unsigned long npages, int prot);

void vfio_pin_batch_init(struct vfio_pin_batch *batch, unsigned long npages,
			 bool merge);
long vfio_pin_batch_fill(struct vfio_pin_batch *batch,
			 struct vfio_pinner *pinner, dma_addr_t iova,
			 unsigned long vaddr, unsigned long npages, int prot);
int vfio_pin_batch_map(struct vfio_pin_batch *batch,
		       struct iommu_domain *domain, dma_addr_t iova);
void vfio_pin_batch_unmap(struct vfio_pin_batch *batch,
			  struct iommu_domain *domain, dma_addr_t iova);
void vfio_pin_batch_mapped(struct vfio_pin_batch *batch);
void vfio_pin_batch_fini(struct vfio_pin_batch *batch);

int vfio_pinner_map(struct vfio_pinner *pinner, struct iommu_domain *domain,
		    dma_addr_t iova, int prot);
void vfio_pinner_unmap(struct vfio_pinner *pinner, dma_addr_t iova, int prot,
		       bool (*unmap)(void *data, dma_addr_t iova, size_t size),
		       void *data);
bool vfio_pin_unmap(struct iommu_domain *domain, dma_addr_t iova, size_t size);

#endif /* __VFIO_PIN_H */
