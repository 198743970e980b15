/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A VFIO container (VFIO_TYPE1v2_IOMMU) with one or more of QEMU's edu devices,
 * and real DMA by these devices. What fails returns -errno.
 */
#ifndef USERPIN_VFIO_LIB_H
#define USERPIN_VFIO_LIB_H

#include <linux/vfio.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAP_R	VFIO_DMA_MAP_FLAG_READ		/* the device reads */
#define MAP_W	VFIO_DMA_MAP_FLAG_WRITE		/* the device writes */
#define MAP_RW	(MAP_R | MAP_W)

/*
 * The edu device reaches 28 bits, so what it is to access lies below 256 MiB.
 * IOVA_FAR is for mappings that are only mapped, and above the window of MSIs.
 */
#define IOVA_SCRATCH	0x00800000UL
#define IOVA		0x01000000UL
#define IOVA_FAR	(4UL << 30)
#define EDU_REACH	(1UL << 28)

/* One DMA of the edu device; its own buffer is 4 KiB (and QEMU 7.2 is off by one) */
#define EDU_LEN		2048UL

#define VFIO_MAX_DEVS	4

struct vfio_dev {
	char name[40];		/* PCI address, or UUID */
	int group;		/* fd of /dev/vfio/<group> */
	int fd;
	volatile uint8_t *bar;	/* BAR 0, mapped */
	size_t bar_size;
};

struct vfio {
	int fd;			/* container */
	int type;		/* VFIO_TYPE1v2_IOMMU, or VFIO_TYPE1_IOMMU */
	unsigned int nr_devs;
	struct vfio_dev dev[VFIO_MAX_DEVS];
};

/* The PCI addresses in USERPIN_VFIO_DEVS */
unsigned int vfio_count(void);
/* A file of the device's in sysfs, without a container; or -errno */
int vfio_file(unsigned int which, const char *name);

int vfio_open(struct vfio *v, unsigned int which);
int vfio_open_type(struct vfio *v, unsigned int which, int type);
int vfio_add(struct vfio *v, unsigned int which);
/*
 * The same step by step: a container, a group in it, the device started. And
 * the devices stopped, which leaves groups and mappings as they are.
 */
int vfio_container(struct vfio *v);
int vfio_attach(struct vfio *v, unsigned int which);
int vfio_start(struct vfio *v);
void vfio_stop(struct vfio *v);
/* Mediated devices have no BAR and do no DMA */
int vfio_open_mdev(struct vfio *v, const char *uuid);
int vfio_add_mdev(struct vfio *v, const char *uuid);
/* Take the last device, and its group, out of the container */
void vfio_remove(struct vfio *v);
void vfio_close(struct vfio *v);

int vfio_map(struct vfio *v, const void *addr, uint64_t iova, size_t size,
	     unsigned int flags);
long vfio_unmap(struct vfio *v, uint64_t iova, size_t size);
long vfio_unmap_all(struct vfio *v);
int vfio_vaddr_drop(struct vfio *v, uint64_t iova, size_t size);
int vfio_vaddr_set(struct vfio *v, const void *addr, uint64_t iova,
		   size_t size);
int vfio_dirty(struct vfio *v, bool start);
int vfio_dirty_get(struct vfio *v, uint64_t iova, size_t size, uint64_t *bits);
/* Unmap, and learn which pages were dirty */
long vfio_unmap_dirty(struct vfio *v, uint64_t iova, size_t size,
		      uint64_t *bits);

/* A capability of VFIO_IOMMU_GET_INFO, to be freed with *@info; or NULL */
void *vfio_info_cap(struct vfio *v, unsigned int id,
		    struct vfio_iommu_type1_info **info);
/*
 * Where the container can map, as it says: ranges in their order, to be freed with
 * *@info; or NULL
 */
struct vfio_iommu_type1_info_cap_iova_range *
vfio_ranges(struct vfio *v, struct vfio_iommu_type1_info **info);
/*
 * Of IOVAs that are multiples of @size, the first from @iova on with room for
 * @size bytes; or VFIO_NOWHERE, as the IOMMU does not reach so far
 */
#define VFIO_NOWHERE	(~0ULL)
uint64_t vfio_room(struct vfio *v, uint64_t iova, uint64_t size);
/* How many more mappings the container may have */
long vfio_dma_avail(struct vfio *v);

/*
 * A container that iommufd provides: the same ioctls on /dev/iommu. With @v->type,
 * and the group of a device or of a mediated one
 */
int vfio_container_of_iommufd(struct vfio *v);

/* The same by iommufd: a device, and what it sees */
struct iommufd {
	int fd;			/* /dev/iommu */
	int dev;		/* the device's own file */
	uint32_t ioas;
};

/*
 * All, or step by step: /dev/iommu, what of it counts against RLIMIT_MEMLOCK
 * (IOMMU_OPTION_RLIMIT_MODE), a device that sees a new IOAS. And its end.
 */
int iommufd_open(struct iommufd *i, unsigned int which, unsigned int mode);
int iommufd_new(struct iommufd *i);
int iommufd_rlimit_mode(struct iommufd *i, unsigned int mode);
int iommufd_attach(struct iommufd *i, unsigned int which);
/* One more device that sees what @first does, by a page table of its own */
int iommufd_attach_apart(struct iommufd *i, const struct iommufd *first,
			 unsigned int which);
void iommufd_close(struct iommufd *i);
/* Let the device of @i do DMA: as one of struct vfio, until iommufd_stop() */
int iommufd_start(struct iommufd *i, struct vfio_dev *d);
void iommufd_stop(struct vfio_dev *d);
int iommufd_map(struct iommufd *i, const void *addr, uint64_t iova,
		size_t size);
long iommufd_unmap(struct iommufd *i, uint64_t iova, size_t size);

/*
 * A device with a large BAR (USERPIN_BAR_DEV) joins @v. Its BAR, at a multiple of
 * its size with as much room behind it, and in @pfn where it is for the CPU; NULL on
 * failure
 */
void *vfio_add_bar(struct vfio *v, size_t *size, uint64_t *pfn);

/* mmap() of BAR 0 of @d, at @at or anywhere; NULL on failure */
void *vfio_bar_map(struct vfio_dev *d, void *at, size_t *size);

/* DMA of up to EDU_LEN bytes between memory and the device's own buffer */
int edu_from_ram(struct vfio_dev *d, uint64_t iova, size_t len);
int edu_to_ram(struct vfio_dev *d, uint64_t iova, size_t len);
/* from memory through the device to memory */
int edu_copy(struct vfio_dev *d, uint64_t to, uint64_t from, size_t len);

/*
 * Does the device see what the CPU wrote to [addr, addr + size), mapped for
 * both at @iova, and the CPU what the device wrote? Both ends of the range, as
 * far as the device reaches, are tried. 0 when so, -EILSEQ when contents differ.
 */
int edu_check(struct vfio_dev *d, void *addr, uint64_t iova, size_t size);

/*
 * The same in one direction: the device reads at the beginning and writes at the
 * end. Each DMA takes 100 ms, so this is for where there are many of them.
 */
int edu_check_once(struct vfio_dev *d, void *addr, uint64_t iova, size_t size);

/*
 * As edu_check() for memory that the device may only read. @scratch is mapped for
 * both at @scratch_iova and is one page. Also tried: that a write by the device
 * does not reach the memory.
 */
int edu_check_ro(struct vfio_dev *d, const void *addr, uint64_t iova,
		 size_t size, void *scratch, uint64_t scratch_iova);

#endif
