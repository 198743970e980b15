// SPDX-License-Identifier: GPL-2.0-only
/*
 * Calls what KVM's modules call, when a program says so
 *
 * kvm_vcpu_map() is there for nested VMRUN, which maps for microseconds; here a
 * test holds the map for as long as it wants, writes through it, and has it
 * unmapped with preemption off as a GHCB is. Regions of memory are pinned as
 * for SEV, which needs a CPU that no emulator offers.
 *
 *	insmod kvm_caller.ko
 *	... open /dev/kvm_caller, KVM_CALLER_* ...
 *
 * The file can be mapped: a page with references, as a VM_PFNMAP mapping, which
 * KVM takes where GUP does not. When the file is closed, the map is unmapped and
 * the regions are put.
 */

#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kvm_host.h>
#include <linux/kvm_pin.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "kvm_caller.h"

/**
 * struct kvm_caller - an open file
 * @lock: protects what follows
 * @vcpu: the vCPU's file while there is a map, with a reference; or NULL
 * @map: the map
 * @regions: the regions
 * @page: what the file maps
 */
struct kvm_caller {
	struct mutex lock;	/* also for calls */
	struct file *vcpu;
	struct kvm_host_map map;
	struct kvm_pinned_regions regions;
	struct page *page;
};

static const struct file_operations kvm_caller_fops;

static struct kvm_vcpu *vcpu_of(struct file *file)
{
	return file->private_data;
}

static bool is_vcpu(struct file *file)
{
	return !strncmp(file->f_path.dentry->d_name.name, "kvm-vcpu:",
			strlen("kvm-vcpu:"));
}

/* As KVM_RUN does it: the vCPU is loaded, and memslots stay as they are */
static int enter(struct kvm_vcpu *vcpu)
{
	mutex_lock(&vcpu->mutex);
	vcpu_load(vcpu);
	return srcu_read_lock(&vcpu->kvm->srcu);
}

static void leave(struct kvm_vcpu *vcpu, int idx)
{
	srcu_read_unlock(&vcpu->kvm->srcu, idx);
	vcpu_put(vcpu);
	mutex_unlock(&vcpu->mutex);
}

static int caller_unmap(struct kvm_caller *kc, unsigned long flags)
{
	bool dirty = flags & KVM_CALLER_DIRTY;
	struct kvm_vcpu *vcpu;
	int idx;

	if (!kc->vcpu)
		return -ENXIO;
	vcpu = vcpu_of(kc->vcpu);
	idx = enter(vcpu);
	if (flags & KVM_CALLER_ATOMIC) {
		preempt_disable();
		kvm_vcpu_unmap_atomic(vcpu, &kc->map, dirty);
		preempt_enable();
	} else {
		kvm_vcpu_unmap(vcpu, &kc->map, dirty);
	}
	leave(vcpu, idx);
	fput(kc->vcpu);
	kc->vcpu = NULL;
	return 0;
}

static int caller_map(struct kvm_caller *kc, void __user *argp)
{
	struct kvm_caller_map arg;
	struct kvm_vcpu *vcpu;
	struct file *file;
	int idx, ret;

	if (copy_from_user(&arg, argp, sizeof(arg)))
		return -EFAULT;
	if (kc->vcpu)
		return -EBUSY;
	file = fget(arg.vcpu);
	if (!file)
		return -EBADF;
	ret = -EINVAL;
	vcpu = vcpu_of(file);
	if (!is_vcpu(file) || vcpu->kvm->mm != current->mm)
		goto err;
	idx = enter(vcpu);
	if (arg.readonly)
		ret = kvm_vcpu_map_readonly(vcpu, gpa_to_gfn(arg.gpa),
					    &kc->map);
	else
		ret = kvm_vcpu_map(vcpu, gpa_to_gfn(arg.gpa), &kc->map);
	leave(vcpu, idx);
	if (ret)
		goto err;

	kc->vcpu = file;
	arg.pinned = !!kc->map.pinned_page;
	if (copy_to_user(argp, &arg, sizeof(arg))) {
		caller_unmap(kc, 0);
		return -EFAULT;
	}
	return 0;

err:
	fput(file);
	return ret;
}

static int caller_copy(struct kvm_caller *kc, void __user *argp)
{
	struct kvm_caller_copy arg;
	void __user *data;
	u32 word;

	if (copy_from_user(&arg, argp, sizeof(arg)))
		return -EFAULT;
	if (!kc->vcpu)
		return -ENXIO;
	if (arg.offset > PAGE_SIZE || arg.len > PAGE_SIZE - arg.offset)
		return -EINVAL;
	data = u64_to_user_ptr(arg.data);
	if (arg.write)
		return copy_from_user(kc->map.hva + arg.offset, data, arg.len) ?
		       -EFAULT : 0;
	if (arg.len == sizeof(word)) {
		/* Registers of devices are read as a whole */
		word = READ_ONCE(*(u32 *)(kc->map.hva + arg.offset));
		return copy_to_user(data, &word, sizeof(word)) ? -EFAULT : 0;
	}
	return copy_to_user(data, kc->map.hva + arg.offset, arg.len) ?
	       -EFAULT : 0;
}

static int caller_pin(struct kvm_caller *kc, void __user *argp)
{
	struct kvm_caller_region arg;

	if (copy_from_user(&arg, argp, sizeof(arg)))
		return -EFAULT;
	return PTR_ERR_OR_ZERO(kvm_pin_region(&kc->regions, arg.addr,
					      arg.size));
}

static int caller_put(struct kvm_caller *kc, void __user *argp)
{
	struct kvm_pinned_region *region;
	struct kvm_caller_region arg;

	if (copy_from_user(&arg, argp, sizeof(arg)))
		return -EFAULT;
	region = kvm_find_pinned_region(&kc->regions, arg.addr, arg.size);
	if (!region)
		return -EINVAL;
	kvm_put_region(&kc->regions, region);
	return 0;
}

/* Nobody takes from each other here at once, so the order of locks is free */
static int caller_take(struct kvm_caller *kc, int fd)
{
	struct kvm_caller *from;
	struct file *file;
	int ret = -EINVAL;

	file = fget(fd);
	if (!file)
		return -EBADF;
	from = file->private_data;
	if (file->f_op != &kvm_caller_fops || from == kc ||
	    !list_empty(&kc->regions.holders))
		goto out;
	mutex_lock_nested(&from->lock, SINGLE_DEPTH_NESTING);
	kvm_move_regions(&kc->regions, &from->regions);
	ret = 0;
	mutex_unlock(&from->lock);
out:
	fput(file);
	return ret;
}

static long kvm_caller_ioctl(struct file *file, unsigned int cmd,
			     unsigned long arg)
{
	struct kvm_caller *kc = file->private_data;
	void __user *argp = (void __user *)arg;

	guard(mutex)(&kc->lock);
	switch (cmd) {
	case KVM_CALLER_MAP:
		return caller_map(kc, argp);
	case KVM_CALLER_COPY:
		return caller_copy(kc, argp);
	case KVM_CALLER_UNMAP:
		return caller_unmap(kc, arg);
	case KVM_CALLER_PIN:
		return caller_pin(kc, argp);
	case KVM_CALLER_PUT:
		return caller_put(kc, argp);
	case KVM_CALLER_TAKE:
		return caller_take(kc, arg);
	case KVM_CALLER_REFS:
		return page_count(kc->page);
	}
	return -ENOTTY;
}

static int kvm_caller_open(struct inode *inode, struct file *file)
{
	struct kvm_caller *kc = kzalloc(sizeof(*kc), GFP_KERNEL);

	if (!kc)
		return -ENOMEM;
	kc->page = alloc_page(GFP_KERNEL | __GFP_ZERO);
	if (!kc->page) {
		kfree(kc);
		return -ENOMEM;
	}
	mutex_init(&kc->lock);
	kvm_pinned_regions_init(&kc->regions, "kvm-test");
	file->private_data = kc;
	return 0;
}

static int kvm_caller_release(struct inode *inode, struct file *file)
{
	struct kvm_caller *kc = file->private_data;

	caller_unmap(kc, 0);
	kvm_pinned_regions_destroy(&kc->regions);
	__free_page(kc->page);
	kfree(kc);
	return 0;
}

static int kvm_caller_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct kvm_caller *kc = file->private_data;

	if (vma->vm_end - vma->vm_start != PAGE_SIZE)
		return -EINVAL;
	return remap_pfn_range(vma, vma->vm_start, page_to_pfn(kc->page),
			       PAGE_SIZE, vma->vm_page_prot);
}

static const struct file_operations kvm_caller_fops = {
	.owner		= THIS_MODULE,
	.open		= kvm_caller_open,
	.release	= kvm_caller_release,
	.mmap		= kvm_caller_mmap,
	.unlocked_ioctl	= kvm_caller_ioctl,
};

static struct miscdevice kvm_caller_dev = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "kvm_caller",
	.fops	= &kvm_caller_fops,
};
module_misc_device(kvm_caller_dev);

MODULE_DESCRIPTION("Test caller of kvm_vcpu_map() and kvm_pin_region()");
MODULE_LICENSE("GPL");
