/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a program may ask of /dev/kvm_caller, one map or set of regions for
 * each open file. See kvm_caller.c.
 */
#ifndef KVM_CALLER_H
#define KVM_CALLER_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * struct kvm_caller_map - a page of guest memory to map
 * @gpa: guest physical address; its page is mapped
 * @vcpu: file descriptor of a vCPU of the calling process's VM
 * @readonly: 1: only to read it
 * @pinned: out: 1 if the page has a pin, 0 if it has none to take
 * @reserved: 0
 */
struct kvm_caller_map {
	__u64 gpa;
	__s32 vcpu;
	__u32 readonly;
	__u32 pinned;
	__u32 reserved;
};

/**
 * struct kvm_caller_copy - bytes to copy into or out of the mapped page
 * @data: address of the program's buffer
 * @offset: in the page, bytes
 * @len: bytes
 * @write: 1: from @data into the page
 * @reserved: 0
 */
struct kvm_caller_copy {
	__u64 data;
	__u32 offset;
	__u32 len;
	__u32 write;
	__u32 reserved;
};

/* How to unmap: as written to, and with preemption off */
#define KVM_CALLER_DIRTY	(1U << 0)
#define KVM_CALLER_ATOMIC	(1U << 1)

/**
 * struct kvm_caller_region - a range of the calling process's memory
 * @addr: where it starts
 * @size: bytes
 */
struct kvm_caller_region {
	__u64 addr;
	__u64 size;
};

/* kvm_vcpu_map() or kvm_vcpu_map_readonly(); EBUSY if the file has a map already */
#define KVM_CALLER_MAP		_IOWR(';', 0xf0, struct kvm_caller_map)
#define KVM_CALLER_COPY		_IOW(';', 0xf1, struct kvm_caller_copy)
/* kvm_vcpu_unmap() or kvm_vcpu_unmap_atomic(), flags as the argument */
#define KVM_CALLER_UNMAP	_IO(';', 0xf2)
/* kvm_pin_region(), kvm_put_region() of one that was pinned like that */
#define KVM_CALLER_PIN		_IOW(';', 0xf3, struct kvm_caller_region)
#define KVM_CALLER_PUT		_IOW(';', 0xf4, struct kvm_caller_region)
/* Take over all regions of another file of this device, whose fd is the argument */
#define KVM_CALLER_TAKE		_IO(';', 0xf5)
/* References on the page that mmap() of the file maps */
#define KVM_CALLER_REFS		_IO(';', 0xf6)

#endif /* KVM_CALLER_H */
