// SPDX-License-Identifier: GPL-2.0-only
/*
 * vDPA devices that look whether the memory that they reach is pinned
 *
 * Two of them, without virtqueues that do anything: "watch-dma" is told of each
 * mapping (dma_map), "watch-map" of all of them together (set_map). Each time that
 * one is told of a change, it looks at the pages that it has been able to reach until
 * then. Nobody may have put them: they could be somebody else's by now.
 *
 * A real device has a domain of the platform's IOMMU instead. The module looks in the
 * same way when it stands between that domain and the IOMMU's driver.
 *
 *	insmod vdpa_watch.ko
 *	... /dev/vhost-vdpa-N ...
 *	echo 0000:00:1c.0 >/sys/module/vdpa_watch/parameters/domain_of
 *	cat /sys/module/vdpa_watch/parameters/exposed
 */

#include <linux/dma-mapping.h>
#include <linux/iommu.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/vdpa.h>
#include <linux/vhost_iotlb.h>
#include <linux/xarray.h>
#include <uapi/linux/virtio_config.h>
#include <uapi/linux/virtio_ids.h>

#define WATCH_VQS	1
#define WATCH_MAPS	4096

static unsigned long exposed;
module_param(exposed, ulong, 0644);
MODULE_PARM_DESC(exposed, "pages that a device could reach, and that nobody had pinned");

static unsigned int fail_in;
module_param(fail_in, uint, 0644);
MODULE_PARM_DESC(fail_in, "the map that fails: 1 is the next one, 0 is none");

static unsigned int fail_late;
module_param(fail_late, uint, 0644);
MODULE_PARM_DESC(fail_late, "the same for a set_map that fails when the device has the maps");

static unsigned int fail_unmap;
module_param(fail_unmap, uint, 0644);
MODULE_PARM_DESC(fail_unmap, "the same for an unmap: the device, or the IOMMU, keeps the mapping");

/**
 * struct watch - a device
 * @vdpa: as vDPA knows it
 * @reach: what it can reach
 * @features: of its driver
 * @status: as its driver has set it
 */
struct watch {
	struct vdpa_device vdpa;
	struct vhost_iotlb reach;
	u64 features;
	u8 status;
};

static struct watch *watches[2];

static struct watch *to_watch(struct vdpa_device *vdpa)
{
	return container_of(vdpa, struct watch, vdpa);
}

static void look_at(unsigned long pfn)
{
	struct folio *folio = pfn_folio(pfn);

	if (!folio_ref_count(folio) || !folio_maybe_dma_pinned(folio))
		exposed++;
}

/* As vhost-vdpa calls this, no other thread changes the mappings */
static void look(struct watch *w)
{
	struct vhost_iotlb_map *map;
	u64 addr;

	list_for_each_entry(map, &w->reach.list, link) {
		for (addr = map->addr; addr < map->addr + map->size;
		     addr += PAGE_SIZE)
			look_at(PHYS_PFN(addr));
	}
}

static bool fails(void)
{
	return fail_in && !--fail_in;
}

static bool unmap_fails(void)
{
	return fail_unmap && !--fail_unmap;
}

static int watch_dma_map(struct vdpa_device *vdpa, unsigned int asid, u64 iova,
			 u64 size, u64 pa, u32 perm, void *opaque)
{
	if (fails())
		return -ENOSPC;
	return vhost_iotlb_add_range(&to_watch(vdpa)->reach, iova,
				     iova + size - 1, pa, perm);
}

static int watch_dma_unmap(struct vdpa_device *vdpa, unsigned int asid,
			   u64 iova, u64 size)
{
	struct watch *w = to_watch(vdpa);

	look(w);
	if (unmap_fails())
		return -EIO;
	vhost_iotlb_del_range(&w->reach, iova, iova + size - 1);
	return 0;
}

static int watch_set_map(struct vdpa_device *vdpa, unsigned int asid,
			 struct vhost_iotlb *iotlb)
{
	struct watch *w = to_watch(vdpa);
	struct vhost_iotlb_map *map;

	look(w);
	/* What it had stays in use */
	if (fails())
		return -ENOSPC;
	vhost_iotlb_reset(&w->reach);
	list_for_each_entry(map, &iotlb->list, link) {
		int ret = vhost_iotlb_add_range(&w->reach, map->start,
						map->last, map->addr,
						map->perm);

		if (ret)
			return ret;
	}
	return fail_late && !--fail_late ? -ENOSPC : 0;
}

/* Without a driver there is no DMA; who is told of each mapping keeps them */
static int watch_reset(struct vdpa_device *vdpa)
{
	struct watch *w = to_watch(vdpa);

	w->status = 0;
	w->features = 0;
	if (vdpa->config->set_map) {
		look(w);
		vhost_iotlb_reset(&w->reach);
	}
	return 0;
}

static int watch_set_vq_address(struct vdpa_device *vdpa, u16 idx, u64 desc,
				u64 driver, u64 device)
{
	return 0;
}

static void watch_set_vq_num(struct vdpa_device *vdpa, u16 idx, u32 num)
{
}

static void watch_kick_vq(struct vdpa_device *vdpa, u16 idx)
{
}

static void watch_set_vq_cb(struct vdpa_device *vdpa, u16 idx,
			    struct vdpa_callback *cb)
{
}

static void watch_set_vq_ready(struct vdpa_device *vdpa, u16 idx, bool ready)
{
}

static bool watch_get_vq_ready(struct vdpa_device *vdpa, u16 idx)
{
	return false;
}

static int watch_set_vq_state(struct vdpa_device *vdpa, u16 idx,
			      const struct vdpa_vq_state *state)
{
	return 0;
}

static int watch_get_vq_state(struct vdpa_device *vdpa, u16 idx,
			      struct vdpa_vq_state *state)
{
	return 0;
}

static u32 watch_get_vq_align(struct vdpa_device *vdpa)
{
	return PAGE_SIZE;
}

static u64 watch_get_device_features(struct vdpa_device *vdpa)
{
	return BIT_ULL(VIRTIO_F_VERSION_1) | BIT_ULL(VIRTIO_F_ACCESS_PLATFORM);
}

static int watch_set_driver_features(struct vdpa_device *vdpa, u64 features)
{
	to_watch(vdpa)->features = features;
	return 0;
}

static u64 watch_get_driver_features(struct vdpa_device *vdpa)
{
	return to_watch(vdpa)->features;
}

static void watch_set_config_cb(struct vdpa_device *vdpa,
				struct vdpa_callback *cb)
{
}

static u16 watch_get_vq_num_max(struct vdpa_device *vdpa)
{
	return 16;
}

static u32 watch_get_device_id(struct vdpa_device *vdpa)
{
	return VIRTIO_ID_RNG;
}

static u32 watch_get_vendor_id(struct vdpa_device *vdpa)
{
	return 0;
}

static u8 watch_get_status(struct vdpa_device *vdpa)
{
	return to_watch(vdpa)->status;
}

static void watch_set_status(struct vdpa_device *vdpa, u8 status)
{
	to_watch(vdpa)->status = status;
}

static size_t watch_get_config_size(struct vdpa_device *vdpa)
{
	return 0;
}

static void watch_get_config(struct vdpa_device *vdpa, unsigned int offset,
			     void *buf, unsigned int len)
{
}

static void watch_set_config(struct vdpa_device *vdpa, unsigned int offset,
			     const void *buf, unsigned int len)
{
}

static void watch_free(struct vdpa_device *vdpa)
{
	vhost_iotlb_reset(&to_watch(vdpa)->reach);
}

#define WATCH_OPS						\
	.set_vq_address = watch_set_vq_address,			\
	.set_vq_num = watch_set_vq_num,				\
	.kick_vq = watch_kick_vq,				\
	.set_vq_cb = watch_set_vq_cb,				\
	.set_vq_ready = watch_set_vq_ready,			\
	.get_vq_ready = watch_get_vq_ready,			\
	.set_vq_state = watch_set_vq_state,			\
	.get_vq_state = watch_get_vq_state,			\
	.get_vq_align = watch_get_vq_align,			\
	.get_device_features = watch_get_device_features,	\
	.set_driver_features = watch_set_driver_features,	\
	.get_driver_features = watch_get_driver_features,	\
	.set_config_cb = watch_set_config_cb,			\
	.get_vq_num_max = watch_get_vq_num_max,			\
	.get_device_id = watch_get_device_id,			\
	.get_vendor_id = watch_get_vendor_id,			\
	.get_status = watch_get_status,				\
	.set_status = watch_set_status,				\
	.reset = watch_reset,					\
	.get_config_size = watch_get_config_size,		\
	.get_config = watch_get_config,				\
	.set_config = watch_set_config,				\
	.free = watch_free

static const struct vdpa_config_ops watch_dma_ops = {
	WATCH_OPS,
	.dma_map = watch_dma_map,
	.dma_unmap = watch_dma_unmap,
};

static const struct vdpa_config_ops watch_map_ops = {
	WATCH_OPS,
	.set_map = watch_set_map,
};

static struct watch *watch_add(const char *name,
			       const struct vdpa_config_ops *ops)
{
	struct watch *w;
	int ret;

	w = vdpa_alloc_device(struct watch, vdpa, NULL, ops, 1, 1, name, false);
	if (IS_ERR(w))
		return w;
	vhost_iotlb_init(&w->reach, WATCH_MAPS, 0);
	w->vdpa.dma_dev = &w->vdpa.dev;
	ret = vdpa_register_device(&w->vdpa, WATCH_VQS);
	if (ret) {
		put_device(&w->vdpa.dev);
		return ERR_PTR(ret);
	}
	return w;
}

/* --- A domain of the platform's IOMMU ------------------------------------------- */

/**
 * struct domain_watch - the one that is watched
 * @domain: it, or NULL
 * @real: of the IOMMU's driver
 * @ops: in its place
 * @reach: frames that the device can reach, by the address / PAGE_SIZE that it uses
 */
static struct domain_watch {
	struct iommu_domain *domain;
	const struct iommu_domain_ops *real;
	struct iommu_domain_ops ops;
	struct xarray reach;
} watched;

static void domain_look(void)
{
	unsigned long at;
	void *frame;

	xa_for_each(&watched.reach, at, frame)
		look_at(xa_to_value(frame));
}

/* What a map that failed has left in the IOMMU counts */
static void domain_forget(unsigned long iova, size_t size)
{
	unsigned long end = iova + size;

	for (; iova < end; iova += PAGE_SIZE) {
		if (!watched.real->iova_to_phys(watched.domain, iova))
			xa_erase(&watched.reach, PFN_DOWN(iova));
	}
}

static int domain_map_pages(struct iommu_domain *domain, unsigned long iova,
			    phys_addr_t pa, size_t pgsize, size_t pgcount,
			    int prot, gfp_t gfp, size_t *mapped)
{
	size_t size = pgsize * pgcount, done;
	int ret = 0;

	if (fails())
		return -ENOSPC;
	for (done = 0; done < size && !ret; done += PAGE_SIZE)
		ret = xa_err(xa_store(&watched.reach, PFN_DOWN(iova + done),
				      xa_mk_value(PHYS_PFN(pa + done)), gfp));
	if (!ret)
		ret = watched.real->map_pages(domain, iova, pa, pgsize, pgcount,
					      prot, gfp, mapped);
	if (ret)
		domain_forget(iova, size);
	return ret;
}

static size_t domain_unmap_pages(struct iommu_domain *domain,
				 unsigned long iova, size_t pgsize,
				 size_t pgcount,
				 struct iommu_iotlb_gather *gather)
{
	domain_look();
	if (unmap_fails())
		return 0;
	return watched.real->unmap_pages(domain, iova, pgsize, pgcount, gather);
}

/* Until this is done, the device may use what the IOMMU remembers */
static void domain_iotlb_sync(struct iommu_domain *domain,
			      struct iommu_iotlb_gather *gather)
{
	unsigned long start = gather->start, end = gather->end;

	domain_look();
	watched.real->iotlb_sync(domain, gather);
	if (start <= end)
		domain_forget(start, end - start + 1);
}

static void domain_release(void)
{
	watched.domain->ops = watched.real;
	watched.domain = NULL;
	xa_destroy(&watched.reach);
}

static void domain_free(struct iommu_domain *domain)
{
	domain_look();
	domain_release();
	domain->ops->free(domain);
}

/* Before anything is mapped: what is there already, nobody has told us of */
static int domain_set(const char *val, const struct kernel_param *kp)
{
	struct iommu_domain *domain;
	struct device *dev;
	char name[32];

	if (strscpy(name, val, sizeof(name)) < 0)
		return -EINVAL;
	if (watched.domain)
		return -EBUSY;
	dev = bus_find_device_by_name(&pci_bus_type, NULL, strim(name));
	if (!dev)
		return -ENODEV;
	domain = iommu_get_domain_for_dev(dev);
	put_device(dev);
	/* Not the kernel's own */
	if (!domain || domain->type != IOMMU_DOMAIN_UNMANAGED ||
	    !domain->ops->iotlb_sync)
		return -EINVAL;

	xa_init(&watched.reach);
	watched.real = domain->ops;
	watched.ops = *domain->ops;
	watched.ops.map_pages = domain_map_pages;
	watched.ops.unmap_pages = domain_unmap_pages;
	watched.ops.iotlb_sync = domain_iotlb_sync;
	watched.ops.free = domain_free;
	watched.domain = domain;
	domain->ops = &watched.ops;
	return 0;
}

static const struct kernel_param_ops domain_param_ops = { .set = domain_set };
module_param_cb(domain_of, &domain_param_ops, NULL, 0200);
MODULE_PARM_DESC(domain_of, "the PCI device whose domain is watched until it is freed");

static int __init watch_init(void)
{
	watches[0] = watch_add("watch-dma", &watch_dma_ops);
	if (IS_ERR(watches[0]))
		return PTR_ERR(watches[0]);
	watches[1] = watch_add("watch-map", &watch_map_ops);
	if (IS_ERR(watches[1])) {
		vdpa_unregister_device(&watches[0]->vdpa);
		return PTR_ERR(watches[1]);
	}
	return 0;
}
module_init(watch_init);

static void __exit watch_exit(void)
{
	if (watched.domain)
		domain_release();
	vdpa_unregister_device(&watches[1]->vdpa);
	vdpa_unregister_device(&watches[0]->vdpa);
}
module_exit(watch_exit);

MODULE_DESCRIPTION("vDPA devices that look whether the memory that they reach is pinned");
MODULE_LICENSE("GPL");
