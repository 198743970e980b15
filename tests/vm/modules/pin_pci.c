// SPDX-License-Identifier: GPL-2.0-only
/*
 * A mediated PCI device that pins the page its guest names
 *
 * To QEMU it is a PCI device (device_api vfio-pci), as those of vendors are, with a
 * config space and one BAR (pin_pci.h), and no interrupts. To use it:
 *
 *	insmod mdev.ko; insmod pin_pci.ko
 *	U=$(cat /proc/sys/kernel/random/uuid)
 *	T=/sys/class/pin_pci/pin_pci/mdev_supported_types/pin_pci-pin
 *	echo $U >$T/create
 *	... -device vfio-pci,sysfsdev=/sys/bus/mdev/devices/$U ...
 *	echo 1 >/sys/bus/mdev/devices/$U/remove
 *
 * pin_caller.c is the same for programs that have no guest.
 */

#include <linux/highmem.h>
#include <linux/iommu.h>
#include <linux/mdev.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci_regs.h>
#include <linux/uaccess.h>
#include <linux/unaligned.h>
#include <linux/vfio.h>

#include "pin_pci.h"

#define CONFIG_SIZE	256
/* Where a region begins in the file */
#define REGION_SHIFT	20
#define REGION_OFFSET(i) ((u64)(i) << REGION_SHIFT)

/**
 * struct pin_pci - a device
 * @vdev: as VFIO knows it
 * @lock: protects what follows; taken inside VFIO's lock of the container's devices
 * @config: the config space, as the host's QEMU reads it
 * @page: the page that is pinned, or NULL
 * @iova: its address, in bytes
 * @state: PIN_PCI_STATE
 */
struct pin_pci {
	struct vfio_device vdev;
	struct mutex lock;	/* also for accesses, so that @state is true */
	u8 config[CONFIG_SIZE];
	struct page *page;
	u64 iova;
	s32 state;
};

static void pp_unpin(struct pin_pci *pp)
{
	if (pp->page)
		vfio_unpin_pages(&pp->vdev, pp->iova, 1);
	pp->page = NULL;
	pp->state = 0;
}

static void pp_pin(struct pin_pci *pp, u64 iova)
{
	u8 *at;
	int ret;

	pp_unpin(pp);
	if (!PAGE_ALIGNED(iova)) {
		pp->state = -EINVAL;
		return;
	}
	ret = vfio_pin_pages(&pp->vdev, iova, 1, IOMMU_READ | IOMMU_WRITE,
			     &pp->page);
	if (ret != 1) {
		pp->page = NULL;
		pp->state = ret;
		return;
	}
	pp->iova = iova;
	pp->state = 1;
	at = kmap_local_page(pp->page);
	for (unsigned int i = 0; i < PAGE_SIZE; i++)
		at[i] ^= 0xff;
	kunmap_local(at);
}

static ssize_t pp_read(struct vfio_device *vdev, char __user *buf, size_t count,
		       loff_t *ppos)
{
	struct pin_pci *pp = container_of(vdev, struct pin_pci, vdev);
	u32 at = *ppos & (REGION_OFFSET(1) - 1);
	u8 bar[PIN_PCI_STATE + 4] = {};

	guard(mutex)(&pp->lock);
	switch (*ppos >> REGION_SHIFT) {
	case VFIO_PCI_CONFIG_REGION_INDEX:
		if (at + count > CONFIG_SIZE)
			return -EINVAL;
		return copy_to_user(buf, pp->config + at, count) ? -EFAULT : count;
	case VFIO_PCI_BAR0_REGION_INDEX:
		if (at + count > sizeof(bar))
			return -EINVAL;
		put_unaligned_le32(pp->state, bar + PIN_PCI_STATE);
		return copy_to_user(buf, bar + at, count) ? -EFAULT : count;
	default:
		return -EINVAL;
	}
}

static ssize_t pp_write(struct vfio_device *vdev, const char __user *buf,
			size_t count, loff_t *ppos)
{
	struct pin_pci *pp = container_of(vdev, struct pin_pci, vdev);
	u32 at = *ppos & (REGION_OFFSET(1) - 1);
	u64 iova;

	guard(mutex)(&pp->lock);
	switch (*ppos >> REGION_SHIFT) {
	case VFIO_PCI_CONFIG_REGION_INDEX:
		/* Where the BAR is, and whether it is on, QEMU knows */
		return count;
	case VFIO_PCI_BAR0_REGION_INDEX:
		if (at != PIN_PCI_ADDRESS || count != sizeof(iova))
			return -EINVAL;
		if (copy_from_user(&iova, buf, sizeof(iova)))
			return -EFAULT;
		pp_pin(pp, iova);
		return count;
	default:
		return -EINVAL;
	}
}

static long pp_info(void __user *user)
{
	struct vfio_device_info info = {
		.argsz = sizeof(info),
		.flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET,
		.num_regions = VFIO_PCI_NUM_REGIONS,
		.num_irqs = VFIO_PCI_NUM_IRQS,
	};

	return copy_to_user(user, &info, offsetofend(struct vfio_device_info, num_irqs)) ?
		-EFAULT : 0;
}

static long pp_region_info(void __user *user)
{
	struct vfio_region_info info;

	if (copy_from_user(&info, user, sizeof(info)))
		return -EFAULT;
	if (info.argsz < sizeof(info) || info.index >= VFIO_PCI_NUM_REGIONS)
		return -EINVAL;
	info.offset = REGION_OFFSET(info.index);
	info.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	switch (info.index) {
	case VFIO_PCI_CONFIG_REGION_INDEX:
		info.size = CONFIG_SIZE;
		break;
	case VFIO_PCI_BAR0_REGION_INDEX:
		info.size = PAGE_SIZE;
		break;
	default:
		info.size = 0;
		info.flags = 0;
	}
	return copy_to_user(user, &info, sizeof(info)) ? -EFAULT : 0;
}

static long pp_irq_info(void __user *user)
{
	struct vfio_irq_info info;

	if (copy_from_user(&info, user, sizeof(info)))
		return -EFAULT;
	if (info.argsz < sizeof(info) || info.index >= VFIO_PCI_NUM_IRQS)
		return -EINVAL;
	info.count = 0;
	info.flags = 0;
	return copy_to_user(user, &info, sizeof(info)) ? -EFAULT : 0;
}

static long pp_ioctl(struct vfio_device *vdev, unsigned int cmd,
		     unsigned long arg)
{
	struct pin_pci *pp = container_of(vdev, struct pin_pci, vdev);
	void __user *user = (void __user *)arg;

	switch (cmd) {
	case VFIO_DEVICE_GET_INFO:
		return pp_info(user);
	case VFIO_DEVICE_GET_REGION_INFO:
		return pp_region_info(user);
	case VFIO_DEVICE_GET_IRQ_INFO:
		return pp_irq_info(user);
	case VFIO_DEVICE_SET_IRQS:
		return 0;
	case VFIO_DEVICE_RESET:
		mutex_lock(&pp->lock);
		pp_unpin(pp);
		mutex_unlock(&pp->lock);
		return 0;
	default:
		return -ENOTTY;
	}
}

static void pp_dma_unmap(struct vfio_device *vdev, u64 iova, u64 length)
{
	struct pin_pci *pp = container_of(vdev, struct pin_pci, vdev);

	guard(mutex)(&pp->lock);
	if (pp->page && pp->iova >= iova && pp->iova - iova < length)
		pp_unpin(pp);
}

static void pp_close(struct vfio_device *vdev)
{
	struct pin_pci *pp = container_of(vdev, struct pin_pci, vdev);

	guard(mutex)(&pp->lock);
	pp_unpin(pp);
}

static int pp_init(struct vfio_device *vdev)
{
	struct pin_pci *pp = container_of(vdev, struct pin_pci, vdev);

	mutex_init(&pp->lock);
	put_unaligned_le16(PIN_PCI_VENDOR, pp->config + PCI_VENDOR_ID);
	put_unaligned_le16(PIN_PCI_DEVICE, pp->config + PCI_DEVICE_ID);
	pp->config[PCI_CLASS_DEVICE + 1] = 0xff;	/* of no class */
	return 0;
}

static void pp_release(struct vfio_device *vdev)
{
	struct pin_pci *pp = container_of(vdev, struct pin_pci, vdev);

	mutex_destroy(&pp->lock);
}

static const struct vfio_device_ops pp_ops = {
	.name = "pin_pci",
	.init = pp_init,
	.release = pp_release,
	.close_device = pp_close,
	.read = pp_read,
	.write = pp_write,
	.ioctl = pp_ioctl,
	.dma_unmap = pp_dma_unmap,
	.bind_iommufd = vfio_iommufd_emulated_bind,
	.unbind_iommufd = vfio_iommufd_emulated_unbind,
	.attach_ioas = vfio_iommufd_emulated_attach_ioas,
	.detach_ioas = vfio_iommufd_emulated_detach_ioas,
};

static int pp_probe(struct mdev_device *mdev)
{
	struct pin_pci *pp;
	int ret;

	pp = vfio_alloc_device(pin_pci, vdev, &mdev->dev, &pp_ops);
	if (IS_ERR(pp))
		return PTR_ERR(pp);

	ret = vfio_register_emulated_iommu_dev(&pp->vdev);
	if (ret) {
		vfio_put_device(&pp->vdev);
		return ret;
	}
	dev_set_drvdata(&mdev->dev, pp);
	return 0;
}

static void pp_remove(struct mdev_device *mdev)
{
	struct pin_pci *pp = dev_get_drvdata(&mdev->dev);

	vfio_unregister_group_dev(&pp->vdev);
	vfio_put_device(&pp->vdev);
}

static struct mdev_driver pp_driver = {
	.device_api = VFIO_DEVICE_API_PCI_STRING,
	.max_instances = 16,
	.probe = pp_probe,
	.remove = pp_remove,
	.driver = {
		.name = "pin_pci",
		.owner = THIS_MODULE,
		.mod_name = KBUILD_MODNAME,
	},
};

static struct mdev_type pp_type = {
	.sysfs_name = "pin",
	.pretty_name = "pins a page that its guest names",
};

static struct mdev_type *pp_types[] = { &pp_type };
static struct mdev_parent pp_parent;
static struct class *pp_class;
static struct device *pp_device;

static int __init pp_module_init(void)
{
	int ret;

	ret = mdev_register_driver(&pp_driver);
	if (ret)
		return ret;

	pp_class = class_create("pin_pci");
	if (IS_ERR(pp_class)) {
		ret = PTR_ERR(pp_class);
		goto err_driver;
	}
	pp_device = device_create(pp_class, NULL, 0, NULL, "pin_pci");
	if (IS_ERR(pp_device)) {
		ret = PTR_ERR(pp_device);
		goto err_class;
	}
	ret = mdev_register_parent(&pp_parent, pp_device, &pp_driver, pp_types,
				   ARRAY_SIZE(pp_types));
	if (ret)
		goto err_device;
	return 0;

err_device:
	device_unregister(pp_device);
err_class:
	class_destroy(pp_class);
err_driver:
	mdev_unregister_driver(&pp_driver);
	return ret;
}

static void __exit pp_module_exit(void)
{
	mdev_unregister_parent(&pp_parent);
	device_unregister(pp_device);
	class_destroy(pp_class);
	mdev_unregister_driver(&pp_driver);
}

module_init(pp_module_init);
module_exit(pp_module_exit);

MODULE_DESCRIPTION("Test device for guests that calls vfio_pin_pages()");
MODULE_LICENSE("GPL");
