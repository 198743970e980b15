/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vDPA devices as their user sees them, by vhost-vdpa: memory that is mapped for
 * them, and a disk that does DMA. tests/vm/with_vdpa makes the devices. What fails
 * returns -errno.
 */
#ifndef USERPIN_VDPA_LIB_H
#define USERPIN_VDPA_LIB_H

#include <linux/vhost_types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VDPA_R	VHOST_ACCESS_RO		/* the device reads */
#define VDPA_W	VHOST_ACCESS_WO		/* the device writes */
#define VDPA_RW	VHOST_ACCESS_RW

struct vdpa {
	int fd;		/* /dev/vhost-vdpa-N; the opener is its owner */
};

int vdpa_open(struct vdpa *v, const char *name);
void vdpa_close(struct vdpa *v);
int vdpa_map(struct vdpa *v, const void *addr, uint64_t iova, size_t size,
	     unsigned int perm);
int vdpa_unmap(struct vdpa *v, uint64_t iova, size_t size);
/* What comes in between, the device may be told of at the end */
int vdpa_batch_begin(struct vdpa *v);
int vdpa_batch_end(struct vdpa *v);

/*
 * The virtqueue of a disk, in a page that is mapped for it at @iova. A request
 * reads or writes @len bytes at the disk's start: the virtio status, or -errno.
 */
#define DISK_SECTOR	512UL

struct disk {
	struct vdpa *v;
	char *page;
	uint64_t iova;
	int kick, call;
	unsigned int done;
};

int disk_start(struct disk *d, struct vdpa *v, uint64_t iova);
void disk_stop(struct disk *d);
int disk_request(struct disk *d, bool write, uint64_t iova, size_t len);

#endif
