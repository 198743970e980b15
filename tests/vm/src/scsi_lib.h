/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A disk of the host as a guest's virtio-scsi disk, by vhost-scsi: the kernel reads it
 * into memory of this process, as into a guest's. All that fails returns -errno.
 */
#ifndef USERPIN_SCSI_LIB_H
#define USERPIN_SCSI_LIB_H

#include <stdbool.h>
#include <stddef.h>

/* The target, for block device @path; there is one. */
int scsi_target_make(const char *path);
void scsi_target_remove(void);

struct scsi {
	int fd, kick;
	char *page;		/* of the virtqueue */
	unsigned int done;
};

/* Its guest has just this memory */
int scsi_open(struct scsi *s, char *mem, size_t size);
/* Closing waits for the requests */
void scsi_close(struct scsi *s);
/* Read @len bytes at the disk's start to @to, which is in that memory */
int scsi_read_start(struct scsi *s, char *to, size_t len);
/* Wait for its end: 0, or -EIO */
int scsi_read_end(struct scsi *s);

#endif
