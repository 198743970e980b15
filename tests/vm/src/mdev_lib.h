/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Mediated devices of tests/vm/modules/pin_caller.c, which pin what they are
 * told to pin. The stanzas in tests.conf load it and mdev.ko. What fails returns
 * -errno.
 */
#ifndef USERPIN_MDEV_LIB_H
#define USERPIN_MDEV_LIB_H

#include <stdbool.h>
#include <stdint.h>

#include "../modules/pin_caller.h"

/* Room for a UUID */
#define UUID_SIZE	40

bool mdev_supported(void);
int mdev_create(char uuid[UUID_SIZE]);
int mdev_remove(const char *uuid);

/* @fd is the device's. Flags are PIN_CALLER_*. pc_pin() returns pages. */
int pc_pin(int fd, uint64_t iova, unsigned int npages, unsigned int flags);
int pc_unpin(int fd, uint64_t iova, unsigned int npages);
int pc_copy(int fd, uint64_t iova, void *data, unsigned int len,
	    unsigned int flags);
int pc_keep(int fd, bool keep);
int pc_stat(int fd, struct pin_caller_stat *stat);

#endif
