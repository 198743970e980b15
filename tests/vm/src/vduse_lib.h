/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Disks that are a program (VDUSE). tests/vm/with_vduse loads the modules; `vdpa dev add`
 * makes vDPA devices of them, and the kernel's own driver of disks uses them, by
 * virtio_vdpa. There is a bounce buffer from the driver's first request on: the memory
 * that the program registers takes its place. All that fails returns -errno.
 */
#ifndef USERPIN_VDUSE_LIB_H
#define USERPIN_VDUSE_LIB_H

#include <linux/vduse.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "util.h"

#define VDUSE_SIZE	MB	/* of the bounce buffer: the least that there is */
#define VDUSE_SECTOR	512UL

/**
 * struct vduse - a disk
 * @name: of the device
 * @disk: what its driver makes of it, in /dev
 * @fd: /dev/vduse/NAME
 * @umem: memory that is registered and in use; NULL without any
 * @bounce: the kernel's own bounce buffer, which takes its place then
 * @kick: the driver says so when there is a request
 * @stop: the thread that serves the device ends
 * @thread: that thread
 * @served: requests that were read from the disk
 * @ring: the virtqueue, once the driver has made it
 * @ring_iova: where it begins
 * @info: of it
 * @seen: requests of the ring that have been served
 */
struct vduse {
	char name[32];
	char disk[32];
	int fd;
	char *volatile umem;
	char *bounce;
	int kick, stop;
	pthread_t thread;
	volatile unsigned long served;
	char *ring;
	uint64_t ring_iova;
	struct vduse_vq_info info;
	uint16_t seen;
};

/*
 * disk-a and disk-b, served by this process, and their drivers. One that was closed is
 * served again at the end, as a driver that goes tells the device.
 */
int vduse_pair_start(struct vduse d[2]);
int vduse_pair_stop(struct vduse d[2]);

/* A device that exists; it is not served */
int vduse_open(struct vduse *d, const char *name);
void vduse_close(struct vduse *d);

/* The memory takes the place of the bounce buffer */
int vduse_reg(struct vduse *d, void *mem);
int vduse_dereg(struct vduse *d);

/* Content of the disk: each sector is filled from its number on */
void vduse_sectors(char *to, size_t len, uint64_t sector);

#endif
