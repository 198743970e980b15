/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A VM with one vCPU and what memory a test gives it, and the module that calls
 * what KVM calls (tests/vm/modules/kvm_caller.c). What fails returns -errno.
 */
#ifndef USERPIN_KVM_LIB_H
#define USERPIN_KVM_LIB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../modules/kvm_caller.h"

/* Where memory of a guest begins here */
#define GPA	0x100000UL

struct guest {
	int kvm, vm, vcpu;
};

int guest_open(struct guest *g);
void guest_close(struct guest *g);
/* Memslot @slot of @size bytes at @gpa is @hva; size 0 takes it away */
int guest_slot(struct guest *g, unsigned int slot, uint64_t gpa, void *hva,
	       size_t size, bool readonly);
/* The same for writing, and KVM logs what is written */
int guest_logged_slot(struct guest *g, unsigned int slot, uint64_t gpa,
		      void *hva, size_t size);
/* Which of its pages, 64 at most, were written since the last call */
int guest_written(struct guest *g, unsigned int slot, uint64_t *pages);

/* The module; each file has one map and a set of regions */
int caller_open(void);
/* Maps the page; returns 1 if it is pinned, 0 if there is none to be pinned */
int caller_map(int fd, struct guest *g, uint64_t gpa);
int caller_map_readonly(int fd, struct guest *g, uint64_t gpa);
int caller_write(int fd, size_t offset, const void *data, size_t len);
int caller_read(int fd, size_t offset, void *data, size_t len);
/* @how: KVM_CALLER_DIRTY, KVM_CALLER_ATOMIC */
int caller_unmap(int fd, unsigned int how);
int caller_pin(int fd, const void *addr, size_t size);
int caller_put(int fd, const void *addr, size_t size);
int caller_take(int fd, int from);
int caller_refs(int fd);

#endif
