// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kvm_lib.h"

static int ret_errno(int ret)
{
	return ret < 0 ? -errno : ret;
}

int guest_open(struct guest *g)
{
	int ret;

	g->vm = -1;
	g->vcpu = -1;
	g->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (g->kvm < 0)
		return -errno;
	g->vm = ioctl(g->kvm, KVM_CREATE_VM, 0UL);
	if (g->vm >= 0)
		g->vcpu = ioctl(g->vm, KVM_CREATE_VCPU, 0UL);
	if (g->vcpu >= 0)
		return 0;
	ret = -errno;
	guest_close(g);
	return ret;
}

void guest_close(struct guest *g)
{
	if (g->vcpu >= 0)
		close(g->vcpu);
	if (g->vm >= 0)
		close(g->vm);
	if (g->kvm >= 0)
		close(g->kvm);
	g->kvm = -1;
	g->vm = -1;
	g->vcpu = -1;
}

static int set_slot(struct guest *g, unsigned int slot, uint64_t gpa, void *hva,
		    size_t size, unsigned int flags)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)hva,
	};

	return ret_errno(ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &region));
}

int guest_slot(struct guest *g, unsigned int slot, uint64_t gpa, void *hva,
	       size_t size, bool readonly)
{
	return set_slot(g, slot, gpa, hva, size,
			readonly ? KVM_MEM_READONLY : 0);
}

int guest_logged_slot(struct guest *g, unsigned int slot, uint64_t gpa,
		      void *hva, size_t size)
{
	return set_slot(g, slot, gpa, hva, size, KVM_MEM_LOG_DIRTY_PAGES);
}

int guest_written(struct guest *g, unsigned int slot, uint64_t *pages)
{
	struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = pages };

	return ret_errno(ioctl(g->vm, KVM_GET_DIRTY_LOG, &log));
}

int caller_open(void)
{
	return ret_errno(open("/dev/kvm_caller", O_RDWR | O_CLOEXEC));
}

static int map(int fd, struct guest *g, uint64_t gpa, bool readonly)
{
	struct kvm_caller_map arg = {
		.gpa = gpa,
		.vcpu = g->vcpu,
		.readonly = readonly,
	};

	return ioctl(fd, KVM_CALLER_MAP, &arg) < 0 ? -errno : (int)arg.pinned;
}

int caller_map(int fd, struct guest *g, uint64_t gpa)
{
	return map(fd, g, gpa, false);
}

int caller_map_readonly(int fd, struct guest *g, uint64_t gpa)
{
	return map(fd, g, gpa, true);
}

static int copy(int fd, size_t offset, const void *data, size_t len, bool write)
{
	struct kvm_caller_copy arg = {
		.data = (uintptr_t)data,
		.offset = offset,
		.len = len,
		.write = write,
	};

	return ret_errno(ioctl(fd, KVM_CALLER_COPY, &arg));
}

int caller_write(int fd, size_t offset, const void *data, size_t len)
{
	return copy(fd, offset, data, len, true);
}

int caller_read(int fd, size_t offset, void *data, size_t len)
{
	return copy(fd, offset, data, len, false);
}

int caller_unmap(int fd, unsigned int how)
{
	return ret_errno(ioctl(fd, KVM_CALLER_UNMAP, (unsigned long)how));
}

static int region(int fd, unsigned long what, const void *addr, size_t size)
{
	struct kvm_caller_region arg = {
		.addr = (uintptr_t)addr,
		.size = size,
	};

	return ret_errno(ioctl(fd, what, &arg));
}

int caller_pin(int fd, const void *addr, size_t size)
{
	return region(fd, KVM_CALLER_PIN, addr, size);
}

int caller_put(int fd, const void *addr, size_t size)
{
	return region(fd, KVM_CALLER_PUT, addr, size);
}

int caller_take(int fd, int from)
{
	return ret_errno(ioctl(fd, KVM_CALLER_TAKE, (unsigned long)from));
}

int caller_refs(int fd)
{
	return ret_errno(ioctl(fd, KVM_CALLER_REFS));
}
