// SPDX-License-Identifier: GPL-2.0-only
/*
 * A mediated device that pins what it is told to pin
 *
 * For tests of vfio_pin_pages(), vfio_unpin_pages() and vfio_dma_rw(), which the
 * sample devices of the kernel do not call. It has no regions and no interrupts,
 * only the ioctls of pin_caller.h. To use it:
 *
 *	modprobe mdev; insmod pin_caller.ko
 *	U=$(cat /proc/sys/kernel/random/uuid)
 *	T=/sys/class/pin_caller/pin_caller/mdev_supported_types/pin_caller-pin
 *	echo $U >$T/create
 *	readlink /sys/bus/mdev/devices/$U/iommu_group	# ends with the group's number
 *	... open /dev/vfio/<number>, VFIO_GROUP_SET_CONTAINER, VFIO_SET_IOMMU,
 *	VFIO_GROUP_GET_DEVICE_FD with $U, then PIN_CALLER_* on that fd ...
 *	echo 1 >/sys/bus/mdev/devices/$U/remove
 *
 * The container may have devices with an IOMMU too, and several of these.
 * When memory with pins is unmapped, the device unpins it, as it must; when it
 * is closed, all that is left.
 */

#include <linux/highmem.h>
#include <linux/iommu.h>
#include <linux/mdev.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vfio.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "pin_caller.h"

/**
 * struct pin_caller - a device
 * @vdev: as VFIO knows it
 * @lock: protects what follows; taken inside VFIO's lock of the container's
 *	devices, outside of that of its mappings
 * @pins: struct pin by IOVA >> PAGE_SHIFT
 * @stat: what is pinned and what has been
 * @keep: what is unmapped stays pinned
 */
struct pin_caller {
	struct vfio_device vdev;
	struct mutex lock;	/* also for calls, so that @pins is true */
	struct xarray pins;
	struct pin_caller_stat stat;
	bool keep;
};

/**
 * struct pin - the pins on an IOVA page
 * @page: the page there
 * @count: pins
 */
struct pin {
	struct page *page;
	unsigned long count;
};

/* A call, maybe made by a kernel thread */
struct call {
	struct work_struct work;
	void (*fn)(struct call *call);
	struct pin_caller *pc;
	u64 iova;
	u32 npages;
	bool write;
	struct page **pages;
	void *data;
	size_t len;
	int ret;
};

static void call_work(struct work_struct *work)
{
	struct call *call = container_of(work, struct call, work);

	call->fn(call);
}

static int call_do(struct call *call, u32 flags)
{
	if (!(flags & PIN_CALLER_KTHREAD)) {
		call->fn(call);
		return call->ret;
	}

	INIT_WORK_ONSTACK(&call->work, call_work);
	queue_work(system_unbound_wq, &call->work);
	flush_work(&call->work);
	destroy_work_on_stack(&call->work);
	return call->ret;
}

static void call_pin(struct call *call)
{
	call->ret = vfio_pin_pages(&call->pc->vdev, call->iova, call->npages,
				   call->write ? IOMMU_READ | IOMMU_WRITE :
						 IOMMU_READ, call->pages);
}

static void call_unpin(struct call *call)
{
	vfio_unpin_pages(&call->pc->vdev, call->iova, call->npages);
	call->ret = 0;
}

static void call_rw(struct call *call)
{
	call->ret = vfio_dma_rw(&call->pc->vdev, call->iova, call->data,
				call->len, call->write);
}

/* Note a pin; there is an entry for it already */
static void pin_add(struct pin_caller *pc, unsigned long index,
		    struct page *page)
{
	struct pin *pin = xa_load(&pc->pins, index);

	WARN_ON(pin->count && pin->page != page);
	pin->page = page;
	if (!pin->count++)
		pc->stat.pages++;
	pc->stat.pinned++;
}

static void pin_sub(struct pin_caller *pc, unsigned long index)
{
	struct pin *pin = xa_load(&pc->pins, index);

	pc->stat.pinned--;
	if (!--pin->count)
		pc->stat.pages--;
}

/* Make the entries that pin_add() needs */
static int pins_prepare(struct pin_caller *pc, unsigned long index, u32 npages)
{
	for (; npages; npages--, index++) {
		struct pin *pin;
		int ret;

		if (xa_load(&pc->pins, index))
			continue;
		pin = kzalloc(sizeof(*pin), GFP_KERNEL);
		if (!pin)
			return -ENOMEM;
		ret = xa_err(xa_store(&pc->pins, index, pin, GFP_KERNEL));
		if (ret) {
			kfree(pin);
			return ret;
		}
	}
	return 0;
}

static long pc_pin(struct pin_caller *pc, const struct pin_caller_range *range)
{
	unsigned long index = range->iova >> PAGE_SHIFT;
	struct call call = {
		.fn = call_pin,
		.pc = pc,
		.iova = range->iova,
		.npages = range->npages,
		.write = range->flags & PIN_CALLER_WRITE,
	};
	int ret, i;

	if (range->npages > 2 * VFIO_PIN_PAGES_MAX_ENTRIES)
		return -E2BIG;
	call.pages = kcalloc(range->npages, sizeof(*call.pages), GFP_KERNEL);
	if (!call.pages)
		return -ENOMEM;

	ret = pins_prepare(pc, index, range->npages);
	if (!ret)
		ret = call_do(&call, range->flags);
	for (i = 0; i < ret; i++)
		pin_add(pc, index + i, call.pages[i]);

	kfree(call.pages);
	return ret;
}

static long pc_unpin(struct pin_caller *pc,
		     const struct pin_caller_range *range)
{
	unsigned long index = range->iova >> PAGE_SHIFT;
	struct call call = {
		.fn = call_unpin,
		.pc = pc,
		.iova = range->iova,
		.npages = range->npages,
	};
	u32 i;

	if (range->npages > INT_MAX)
		return -EINVAL;
	for (i = 0; i < range->npages; i++) {
		struct pin *pin = xa_load(&pc->pins, index + i);

		if (!pin || !pin->count)
			return -EINVAL;
	}
	for (i = 0; i < range->npages; i++)
		pin_sub(pc, index + i);
	return call_do(&call, range->flags);
}

static int copy_through_page(struct pin_caller *pc,
			     const struct pin_caller_copy *copy, void *data)
{
	struct pin *pin = xa_load(&pc->pins, copy->iova >> PAGE_SHIFT);
	size_t offset = offset_in_page(copy->iova);

	if (!pin || !pin->count || offset + copy->len > PAGE_SIZE)
		return -EINVAL;
	if (copy->flags & PIN_CALLER_WRITE)
		memcpy_to_page(pin->page, offset, data, copy->len);
	else
		memcpy_from_page(data, pin->page, offset, copy->len);
	return 0;
}

static long pc_copy(struct pin_caller *pc, const struct pin_caller_copy *copy)
{
	void __user *user = u64_to_user_ptr(copy->data);
	struct call call = {
		.fn = call_rw,
		.pc = pc,
		.iova = copy->iova,
		.write = copy->flags & PIN_CALLER_WRITE,
		.len = copy->len,
	};
	long ret;

	if (!copy->len || copy->len > PIN_CALLER_COPY_MAX)
		return -EINVAL;
	if (call.write)
		call.data = vmemdup_user(user, copy->len);
	else
		call.data = kvzalloc(copy->len, GFP_KERNEL) ?:
			    ERR_PTR(-ENOMEM);
	if (IS_ERR(call.data))
		return PTR_ERR(call.data);

	if (copy->flags & PIN_CALLER_PAGE)
		ret = copy_through_page(pc, copy, call.data);
	else
		ret = call_do(&call, copy->flags);
	if (!ret && !call.write && copy_to_user(user, call.data, copy->len))
		ret = -EFAULT;

	kvfree(call.data);
	return ret;
}

static long pc_ioctl(struct vfio_device *vdev, unsigned int cmd,
		     unsigned long arg)
{
	struct pin_caller *pc = container_of(vdev, struct pin_caller, vdev);
	void __user *user = (void __user *)arg;
	struct pin_caller_range range;
	struct pin_caller_copy copy;

	guard(mutex)(&pc->lock);
	switch (cmd) {
	case PIN_CALLER_PIN:
	case PIN_CALLER_UNPIN:
		if (copy_from_user(&range, user, sizeof(range)))
			return -EFAULT;
		if (!range.npages || range.iova & ~PAGE_MASK)
			return -EINVAL;
		return cmd == PIN_CALLER_PIN ? pc_pin(pc, &range) :
					       pc_unpin(pc, &range);
	case PIN_CALLER_COPY:
		if (copy_from_user(&copy, user, sizeof(copy)))
			return -EFAULT;
		return pc_copy(pc, &copy);
	case PIN_CALLER_STAT:
		return copy_to_user(user, &pc->stat, sizeof(pc->stat)) ?
			-EFAULT : 0;
	case PIN_CALLER_KEEP:
		pc->keep = arg;
		return 0;
	default:
		return -ENOTTY;
	}
}

/* Unpin all that is pinned in a range of pages; returns how many pins went */
static u64 unpin_all(struct pin_caller *pc, unsigned long first,
		     unsigned long last)
{
	unsigned long index;
	struct pin *pin;
	u64 n = 0;

	xa_for_each_range(&pc->pins, index, pin, first, last) {
		while (pin->count) {
			vfio_unpin_pages(&pc->vdev, (u64)index << PAGE_SHIFT, 1);
			pin_sub(pc, index);
			n++;
		}
		xa_erase(&pc->pins, index);
		kfree(pin);
	}
	return n;
}

static void pc_dma_unmap(struct vfio_device *vdev, u64 iova, u64 length)
{
	struct pin_caller *pc = container_of(vdev, struct pin_caller, vdev);

	guard(mutex)(&pc->lock);
	pc->stat.unmaps++;
	if (pc->keep)
		return;
	pc->stat.unmapped += unpin_all(pc, iova >> PAGE_SHIFT,
				       (iova + length - 1) >> PAGE_SHIFT);
}

static void pc_close(struct vfio_device *vdev)
{
	struct pin_caller *pc = container_of(vdev, struct pin_caller, vdev);

	guard(mutex)(&pc->lock);
	unpin_all(pc, 0, ULONG_MAX);
}

static int pc_init(struct vfio_device *vdev)
{
	struct pin_caller *pc = container_of(vdev, struct pin_caller, vdev);

	mutex_init(&pc->lock);
	xa_init(&pc->pins);
	return 0;
}

static void pc_release(struct vfio_device *vdev)
{
	struct pin_caller *pc = container_of(vdev, struct pin_caller, vdev);

	mutex_destroy(&pc->lock);
}

static const struct vfio_device_ops pc_ops = {
	.name = "pin_caller",
	.init = pc_init,
	.release = pc_release,
	.close_device = pc_close,
	.ioctl = pc_ioctl,
	.dma_unmap = pc_dma_unmap,
	.bind_iommufd = vfio_iommufd_emulated_bind,
	.unbind_iommufd = vfio_iommufd_emulated_unbind,
	.attach_ioas = vfio_iommufd_emulated_attach_ioas,
	.detach_ioas = vfio_iommufd_emulated_detach_ioas,
};

static int pc_probe(struct mdev_device *mdev)
{
	struct pin_caller *pc;
	int ret;

	pc = vfio_alloc_device(pin_caller, vdev, &mdev->dev, &pc_ops);
	if (IS_ERR(pc))
		return PTR_ERR(pc);

	ret = vfio_register_emulated_iommu_dev(&pc->vdev);
	if (ret) {
		vfio_put_device(&pc->vdev);
		return ret;
	}
	dev_set_drvdata(&mdev->dev, pc);
	return 0;
}

static void pc_remove(struct mdev_device *mdev)
{
	struct pin_caller *pc = dev_get_drvdata(&mdev->dev);

	vfio_unregister_group_dev(&pc->vdev);
	vfio_put_device(&pc->vdev);
}

static struct mdev_driver pc_driver = {
	.device_api = "pin_caller",
	.max_instances = 16,
	.probe = pc_probe,
	.remove = pc_remove,
	.driver = {
		.name = "pin_caller",
		.owner = THIS_MODULE,
		.mod_name = KBUILD_MODNAME,
	},
};

static struct mdev_type pc_type = {
	.sysfs_name = "pin",
	.pretty_name = "pins what it is told to pin",
};

static struct mdev_type *pc_types[] = { &pc_type };
static struct mdev_parent pc_parent;
static struct class *pc_class;
static struct device *pc_device;

static int __init pc_module_init(void)
{
	int ret;

	ret = mdev_register_driver(&pc_driver);
	if (ret)
		return ret;

	pc_class = class_create("pin_caller");
	if (IS_ERR(pc_class)) {
		ret = PTR_ERR(pc_class);
		goto err_driver;
	}
	pc_device = device_create(pc_class, NULL, 0, NULL, "pin_caller");
	if (IS_ERR(pc_device)) {
		ret = PTR_ERR(pc_device);
		goto err_class;
	}
	ret = mdev_register_parent(&pc_parent, pc_device, &pc_driver, pc_types,
				   ARRAY_SIZE(pc_types));
	if (ret)
		goto err_device;
	return 0;

err_device:
	device_unregister(pc_device);
err_class:
	class_destroy(pc_class);
err_driver:
	mdev_unregister_driver(&pc_driver);
	return ret;
}

static void __exit pc_module_exit(void)
{
	mdev_unregister_parent(&pc_parent);
	device_unregister(pc_device);
	class_destroy(pc_class);
	mdev_unregister_driver(&pc_driver);
}

module_init(pc_module_init);
module_exit(pc_module_exit);

MODULE_DESCRIPTION("Test caller of vfio_pin_pages()");
MODULE_LICENSE("GPL");
