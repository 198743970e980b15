/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pinned user memory of an iommufd. See pin.c.
 */
#ifndef __IOMMUFD_PIN_H
#define __IOMMUFD_PIN_H

#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/types.h>
#include <linux/user_pages.h>

struct iommu_domain;
struct iommufd_ctx;
struct iopt_pages;

/**
 * struct iommufd_pins - the accounts of an iommufd
 * @lock: guards the list, and who uses what is in it; innermost
 * @accounts: of struct iommufd_pin_account
 */
struct iommufd_pins {
	struct mutex lock;	/* of the list and of what is in it */
	struct list_head accounts;
};

void iommufd_pins_init(struct iommufd_pins *pins);
void iommufd_pins_destroy(struct iommufd_pins *pins);

int iopt_pages_init_pins(struct iopt_pages *pages, struct iommufd_ctx *ictx);
void iopt_pages_fini_pins(struct iopt_pages *pages);

long iopt_pages_pin_extents(struct iopt_pages *pages, unsigned long index,
			    unsigned long npages, struct pin_extent *extents,
			    unsigned int max_extents, unsigned int *nr_extents);
int iopt_pages_pin_array(struct iopt_pages *pages, unsigned long index,
			 unsigned long npages, struct page **out_pages);
long iopt_pages_pin_for_copy(struct iopt_pages *pages, unsigned long index,
			     struct pin_extent *extent);

void iopt_pages_put_begin(struct iopt_pages *pages, struct pin_put *put,
			  bool make_dirty);
void iopt_pages_put(struct pin_put *put, unsigned long pfn,
		    unsigned long npages, bool for_copy);
void iopt_pages_put_array(struct iopt_pages *pages, struct page **page_list,
			  unsigned long npages);
void iopt_pages_settle(struct iopt_pages *pages);

int iopt_map_runs(struct iommu_domain *domain, unsigned long iova,
		  unsigned long size, const unsigned long *pfns,
		  const u32 *npfns, unsigned int offset, int prot);

#endif
