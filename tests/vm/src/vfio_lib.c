// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/iommufd.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util.h"
#include "vfio_lib.h"

/* QEMU, docs/specs/edu */
#define EDU_DMA_SRC	0x80
#define EDU_DMA_DST	0x88
#define EDU_DMA_COUNT	0x90
#define EDU_DMA_CMD	0x98
#define EDU_DMA_RUN	0x1
#define EDU_DMA_TO_RAM	0x2
#define EDU_BUFFER	0x40000


static int bdf_of(unsigned int which, char *bdf, size_t len)
{
	const char *list = getenv("USERPIN_VFIO_DEVS");
	size_t n;

	for (; list && *(list += strspn(list, " \t\n")); list += n) {
		n = strcspn(list, " \t\n");
		if (which--)
			continue;
		if (n >= len)
			return -ENAMETOOLONG;
		memcpy(bdf, list, n);
		bdf[n] = 0;
		return 0;
	}
	return -ENODEV;
}

unsigned int vfio_count(void)
{
	unsigned int n = 0;
	char bdf[16];

	while (!bdf_of(n, bdf, sizeof(bdf)))
		n++;
	return n;
}

int vfio_file(unsigned int which, const char *name)
{
	char path[128], bdf[16];
	int fd, ret = bdf_of(which, bdf, sizeof(bdf));

	if (ret)
		return ret;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", bdf, name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int group_open(const char *bus, const char *name)
{
	char path[128], link[64];
	const char *group;
	ssize_t n;
	int fd, try;

	snprintf(path, sizeof(path), "/sys/bus/%s/devices/%s/iommu_group", bus,
		 name);
	n = readlink(path, link, sizeof(link) - 1);
	if (n < 0)
		return -errno;
	link[n] = 0;
	group = strrchr(link, '/');
	snprintf(path, sizeof(path), "/dev/vfio/%s", group ? group + 1 : link);

	/* A group is free again a moment after the last user's exit */
	for (try = 0; try < PATIENCE; try++) {
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd >= 0)
			return fd;
		if (errno != EBUSY)
			break;
		before_next_look();
	}
	return -errno;
}

/* Let the device answer to accesses, and make some of its own */
static int dev_enable(struct vfio_dev *d)
{
	struct vfio_region_info cfg = {
		.argsz = sizeof(cfg),
		.index = VFIO_PCI_CONFIG_REGION_INDEX,
	};
	uint16_t command;
	off_t at;

	if (ioctl(d->fd, VFIO_DEVICE_GET_REGION_INFO, &cfg))
		return -errno;
	at = cfg.offset + PCI_COMMAND;
	if (pread(d->fd, &command, 2, at) != 2)
		return -EIO;
	command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	return pwrite(d->fd, &command, 2, at) == 2 ? 0 : -EIO;
}

static int dev_start(struct vfio_dev *d)
{
	struct vfio_region_info bar = {
		.argsz = sizeof(bar),
		.index = VFIO_PCI_BAR0_REGION_INDEX,
	};
	int ret;

	if (ioctl(d->fd, VFIO_DEVICE_GET_REGION_INFO, &bar))
		return -errno;
	ret = dev_enable(d);
	if (ret)
		return ret;

	d->bar_size = bar.size;
	d->bar = vfio_bar_map(d, NULL, NULL);
	return d->bar ? 0 : -ENXIO;
}

static void dev_stop(struct vfio_dev *d)
{
	/* A mapping that stays would keep the device open */
	if (d->bar && munmap((void *)d->bar, d->bar_size))
		munmap((void *)d->bar, d->bar_size);
	if (d->fd >= 0)
		close(d->fd);
	d->bar = NULL;
	d->fd = -1;
}

static void dev_close(struct vfio_dev *d)
{
	dev_stop(d);
	if (d->group >= 0)
		close(d->group);
	d->group = -1;
}

void *vfio_bar_map(struct vfio_dev *d, void *at, size_t *size)
{
	struct vfio_region_info bar = {
		.argsz = sizeof(bar),
		.index = VFIO_PCI_BAR0_REGION_INDEX,
	};
	void *addr;

	if (ioctl(d->fd, VFIO_DEVICE_GET_REGION_INFO, &bar) ||
	    !(bar.flags & VFIO_REGION_INFO_FLAG_MMAP))
		return NULL;
	addr = mmap(at, bar.size, PROT_READ | PROT_WRITE,
		    MAP_SHARED | (at ? MAP_FIXED : 0), d->fd, bar.offset);
	if (addr == MAP_FAILED)
		return NULL;
	if (size)
		*size = bar.size;
	return addr;
}

static int attach(struct vfio *v, const char *bus, const char *name)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	struct vfio_dev *d = &v->dev[v->nr_devs];
	int ret;

	if (v->nr_devs == VFIO_MAX_DEVS)
		return -ENOSPC;

	memset(d, 0, sizeof(*d));
	d->group = -1;
	d->fd = -1;
	snprintf(d->name, sizeof(d->name), "%s", name);
	d->group = group_open(bus, name);
	if (d->group < 0)
		return d->group;

	ret = -EPERM;
	if (ioctl(d->group, VFIO_GROUP_GET_STATUS, &status) ||
	    !(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		goto fail;
	if (ioctl(d->group, VFIO_GROUP_SET_CONTAINER, &v->fd))
		goto fail_errno;
	if (!v->nr_devs && ioctl(v->fd, VFIO_SET_IOMMU, v->type))
		goto fail_errno;
	v->nr_devs++;
	return 0;

fail_errno:
	ret = -errno;
fail:
	dev_close(d);
	return ret;
}

static int dev_open(struct vfio *v, bool pci)
{
	struct vfio_dev *d = &v->dev[v->nr_devs - 1];
	int ret;

	d->fd = ioctl(d->group, VFIO_GROUP_GET_DEVICE_FD, d->name);
	if (d->fd < 0) {
		ret = -errno;
	} else {
		fcntl(d->fd, F_SETFD, FD_CLOEXEC);
		ret = pci ? dev_start(d) : 0;
	}
	if (ret)
		vfio_remove(v);
	return ret;
}

int vfio_attach(struct vfio *v, unsigned int which)
{
	char bdf[16];
	int ret = bdf_of(which, bdf, sizeof(bdf));

	return ret ? ret : attach(v, "pci", bdf);
}

int vfio_start(struct vfio *v)
{
	return dev_open(v, true);
}

/* Line @bar of the device's file `resource` begins with it */
static uint64_t bar_start(const char *bdf, int bar)
{
	unsigned long long start = 0;
	char path[128], *text, *line;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource", bdf);
	text = slurp(path);
	for (line = text; line && bar--; )
		line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL;
	if (line)
		sscanf(line, "%llx", &start);
	free(text);
	return start;
}

void *vfio_add_bar(struct vfio *v, size_t *size, uint64_t *pfn)
{
	struct vfio_region_info bar = {
		.argsz = sizeof(bar),
		.index = VFIO_PCI_BAR2_REGION_INDEX,
	};
	const char *bdf = getenv("USERPIN_BAR_DEV");
	struct vfio_dev *d;
	char *room, *at;

	if (!bdf || attach(v, "pci", bdf))
		return NULL;
	d = &v->dev[v->nr_devs - 1];
	d->fd = ioctl(d->group, VFIO_GROUP_GET_DEVICE_FD, d->name);
	if (d->fd < 0 || dev_enable(d) ||
	    ioctl(d->fd, VFIO_DEVICE_GET_REGION_INFO, &bar))
		return NULL;
	room = mmap(NULL, 3 * bar.size, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		return NULL;
	at = (char *)ROUND_UP((uintptr_t)room, bar.size);
	if (mmap(at, bar.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		 d->fd, bar.offset) == MAP_FAILED)
		return NULL;
	*size = bar.size;
	*pfn = bar_start(bdf, 2) / PAGE;
	return at;
}

void vfio_stop(struct vfio *v)
{
	unsigned int i;

	for (i = 0; i < v->nr_devs; i++)
		dev_stop(&v->dev[i]);
}

int vfio_add(struct vfio *v, unsigned int which)
{
	int ret = vfio_attach(v, which);

	return ret ? ret : vfio_start(v);
}

int vfio_add_mdev(struct vfio *v, const char *uuid)
{
	int ret = attach(v, "mdev", uuid);

	return ret ? ret : dev_open(v, false);
}

int vfio_container(struct vfio *v)
{
	memset(v, 0, sizeof(*v));
	v->type = VFIO_TYPE1v2_IOMMU;
	v->fd = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	return v->fd < 0 ? -errno : 0;
}

int vfio_container_of_iommufd(struct vfio *v)
{
	memset(v, 0, sizeof(*v));
	v->type = VFIO_TYPE1v2_IOMMU;
	v->fd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	return v->fd < 0 ? -errno : 0;
}

int vfio_open_type(struct vfio *v, unsigned int which, int type)
{
	int ret = vfio_container(v);

	v->type = type;
	if (!ret)
		ret = vfio_add(v, which);
	if (ret)
		vfio_close(v);
	return ret;
}

int vfio_open(struct vfio *v, unsigned int which)
{
	return vfio_open_type(v, which, VFIO_TYPE1v2_IOMMU);
}

int vfio_open_mdev(struct vfio *v, const char *uuid)
{
	int ret = vfio_container(v);

	if (!ret)
		ret = vfio_add_mdev(v, uuid);
	if (ret)
		vfio_close(v);
	return ret;
}

void vfio_remove(struct vfio *v)
{
	dev_close(&v->dev[--v->nr_devs]);
}

void vfio_close(struct vfio *v)
{
	while (v->nr_devs)
		vfio_remove(v);
	if (v->fd >= 0)
		close(v->fd);
	v->fd = -1;
}

static int dma_map(struct vfio *v, const void *addr, uint64_t iova, size_t size,
		   unsigned int flags)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = flags,
		.vaddr = (uintptr_t)addr,
		.iova = iova,
		.size = size,
	};

	return ioctl(v->fd, VFIO_IOMMU_MAP_DMA, &map) ? -errno : 0;
}

static long dma_unmap(struct vfio *v, uint64_t iova, size_t size,
		      unsigned int flags)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.flags = flags,
		.iova = iova,
		.size = size,
	};

	if (ioctl(v->fd, VFIO_IOMMU_UNMAP_DMA, &unmap))
		return -errno;
	return unmap.size;
}

int vfio_map(struct vfio *v, const void *addr, uint64_t iova, size_t size,
	     unsigned int flags)
{
	return dma_map(v, addr, iova, size, flags);
}

long vfio_unmap(struct vfio *v, uint64_t iova, size_t size)
{
	return dma_unmap(v, iova, size, 0);
}

long vfio_unmap_all(struct vfio *v)
{
	return dma_unmap(v, 0, 0, VFIO_DMA_UNMAP_FLAG_ALL);
}

int vfio_vaddr_drop(struct vfio *v, uint64_t iova, size_t size)
{
	long n = dma_unmap(v, iova, size, VFIO_DMA_UNMAP_FLAG_VADDR);

	return n < 0 ? n : 0;
}

int vfio_vaddr_set(struct vfio *v, const void *addr, uint64_t iova,
		   size_t size)
{
	return dma_map(v, addr, iova, size, VFIO_DMA_MAP_FLAG_VADDR);
}

int vfio_dirty(struct vfio *v, bool start)
{
	struct vfio_iommu_type1_dirty_bitmap dirty = {
		.argsz = sizeof(dirty),
		.flags = start ? VFIO_IOMMU_DIRTY_PAGES_FLAG_START :
				 VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP,
	};

	return ioctl(v->fd, VFIO_IOMMU_DIRTY_PAGES, &dirty) ? -errno : 0;
}

int vfio_dirty_get(struct vfio *v, uint64_t iova, size_t size, uint64_t *bits)
{
	struct {
		struct vfio_iommu_type1_dirty_bitmap head;
		struct vfio_iommu_type1_dirty_bitmap_get get;
	} dirty = {
		.head = {
			.argsz = sizeof(dirty),
			.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP,
		},
		.get = {
			.iova = iova,
			.size = size,
			.bitmap = {
				.pgsize = PAGE,
				.size = ROUND_UP(size / PAGE, 64) / 8,
				.data = (void *)bits,
			},
		},
	};

	return ioctl(v->fd, VFIO_IOMMU_DIRTY_PAGES, &dirty) ? -errno : 0;
}

long vfio_unmap_dirty(struct vfio *v, uint64_t iova, size_t size,
		      uint64_t *bits)
{
	struct {
		struct vfio_iommu_type1_dma_unmap head;
		struct vfio_bitmap bitmap;
	} unmap = {
		.head = {
			.argsz = sizeof(unmap),
			.flags = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
			.iova = iova,
			.size = size,
		},
		.bitmap = {
			.pgsize = PAGE,
			.size = ROUND_UP(size / PAGE, 64) / 8,
			.data = (void *)bits,
		},
	};

	if (ioctl(v->fd, VFIO_IOMMU_UNMAP_DMA, &unmap))
		return -errno;
	return unmap.head.size;
}

void *vfio_info_cap(struct vfio *v, unsigned int id,
		    struct vfio_iommu_type1_info **info)
{
	struct vfio_iommu_type1_info *i = calloc(1, 4 * KB);
	struct vfio_info_cap_header *cap;
	unsigned int at;

	*info = i;
	i->argsz = 4 * KB;
	if (ioctl(v->fd, VFIO_IOMMU_GET_INFO, i) ||
	    !(i->flags & VFIO_IOMMU_INFO_CAPS))
		return NULL;
	for (at = i->cap_offset; at; at = cap->next) {
		cap = (void *)i + at;
		if (cap->id == id)
			return cap;
	}
	return NULL;
}

struct vfio_iommu_type1_info_cap_iova_range *
vfio_ranges(struct vfio *v, struct vfio_iommu_type1_info **info)
{
	return vfio_info_cap(v, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, info);
}

uint64_t vfio_room(struct vfio *v, uint64_t iova, uint64_t size)
{
	struct vfio_iommu_type1_info_cap_iova_range *cap;
	struct vfio_iommu_type1_info *info;
	uint64_t from, at, found = VFIO_NOWHERE;
	unsigned int i;

	cap = vfio_ranges(v, &info);
	for (i = 0; cap && i < cap->nr_iovas; i++) {
		from = cap->iova_ranges[i].start;
		if (from < iova)
			from = iova;
		at = ROUND_UP(from, size);
		if (at >= from && at <= cap->iova_ranges[i].end &&
		    cap->iova_ranges[i].end - at >= size - 1) {
			found = at;
			break;
		}
	}
	free(info);
	return found;
}

long vfio_dma_avail(struct vfio *v)
{
	struct vfio_iommu_type1_info_dma_avail *cap;
	struct vfio_iommu_type1_info *info;
	long avail;

	cap = vfio_info_cap(v, VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, &info);
	avail = cap ? (long)cap->avail : -1;
	free(info);
	return avail;
}

static void edu_set(struct vfio_dev *d, unsigned int reg, uint64_t value)
{
	*(volatile uint64_t *)(d->bar + reg) = value;
}

static bool edu_idle(void *arg)
{
	struct vfio_dev *d = arg;

	return !(*(volatile uint64_t *)(d->bar + EDU_DMA_CMD) & EDU_DMA_RUN);
}

static int edu_dma(struct vfio_dev *d, uint64_t iova, size_t len, bool to_ram)
{
	if (!len || len > EDU_LEN)
		return -EINVAL;
	if (!wait_for(edu_idle, d))
		return -EBUSY;
	edu_set(d, EDU_DMA_SRC, to_ram ? EDU_BUFFER : iova);
	edu_set(d, EDU_DMA_DST, to_ram ? iova : EDU_BUFFER);
	edu_set(d, EDU_DMA_COUNT, len);
	edu_set(d, EDU_DMA_CMD, EDU_DMA_RUN | (to_ram ? EDU_DMA_TO_RAM : 0));
	return wait_for(edu_idle, d) ? 0 : -ETIMEDOUT;
}

int edu_from_ram(struct vfio_dev *d, uint64_t iova, size_t len)
{
	return edu_dma(d, iova, len, false);
}

int edu_to_ram(struct vfio_dev *d, uint64_t iova, size_t len)
{
	return edu_dma(d, iova, len, true);
}

int edu_copy(struct vfio_dev *d, uint64_t to, uint64_t from, size_t len)
{
	int ret = edu_from_ram(d, from, len);

	return ret ? ret : edu_to_ram(d, to, len);
}

static size_t reach(uint64_t iova, size_t size)
{
	return iova + size > EDU_REACH ? EDU_REACH - iova : size;
}

int edu_check(struct vfio_dev *d, void *addr, uint64_t iova, size_t size)
{
	size_t first = 0, last = reach(iova, size) - EDU_LEN;
	static unsigned int seed;
	char *mem = addr;
	int ret;

	if (size < 2 * EDU_LEN || iova + 2 * EDU_LEN > EDU_REACH)
		return -EINVAL;

	fill(mem + first, EDU_LEN, ++seed);
	memset(mem + last, 0, EDU_LEN);
	ret = edu_copy(d, iova + last, iova + first, EDU_LEN);
	if (ret)
		return ret;
	if (!filled(mem + last, EDU_LEN, seed) ||
	    !filled(mem + first, EDU_LEN, seed))
		return -EILSEQ;

	fill(mem + last, EDU_LEN, ++seed);
	ret = edu_copy(d, iova + first, iova + last, EDU_LEN);
	if (ret)
		return ret;
	return filled(mem + first, EDU_LEN, seed) ? 0 : -EILSEQ;
}

int edu_check_once(struct vfio_dev *d, void *addr, uint64_t iova, size_t size)
{
	static unsigned int seed = 1000;
	char *mem = addr;
	size_t last;
	int ret;

	if (size < 2 * EDU_LEN || iova + 2 * EDU_LEN > EDU_REACH)
		return -EINVAL;

	last = reach(iova, size) - EDU_LEN;
	fill(mem, EDU_LEN, ++seed);
	memset(mem + last, 0, EDU_LEN);
	ret = edu_copy(d, iova + last, iova, EDU_LEN);
	if (ret)
		return ret;
	return filled(mem + last, EDU_LEN, seed) ? 0 : -EILSEQ;
}

int edu_check_ro(struct vfio_dev *d, const void *addr, uint64_t iova,
		 size_t size, void *scratch, uint64_t scratch_iova)
{
	size_t at[2] = { 0, reach(iova, size) - EDU_LEN };
	const char *mem = addr;
	char before[EDU_LEN];
	unsigned int i;
	int ret;

	for (i = 0; i < 2; i++) {
		memcpy(before, mem + at[i], EDU_LEN);
		memset(scratch, 0, EDU_LEN);
		ret = edu_copy(d, scratch_iova, iova + at[i], EDU_LEN);
		if (ret)
			return ret;
		if (memcmp(scratch, before, EDU_LEN))
			return -EILSEQ;
	}

	fill(scratch, EDU_LEN, 77);
	ret = edu_copy(d, iova + at[1], scratch_iova, EDU_LEN);
	if (ret)
		return ret;
	return memcmp(mem + at[1], before, EDU_LEN) ? -EPERM : 0;
}

int iommufd_new(struct iommufd *i)
{
	*i = (struct iommufd){ .dev = -1 };
	i->fd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	return i->fd < 0 ? -errno : 0;
}

int iommufd_rlimit_mode(struct iommufd *i, unsigned int mode)
{
	struct iommu_option option = {
		.size = sizeof(option),
		.option_id = IOMMU_OPTION_RLIMIT_MODE,
		.op = IOMMU_OPTION_OP_SET,
		.val64 = mode,
	};

	return ioctl(i->fd, IOMMU_OPTION, &option) ? -errno : 0;
}

/* The file of a device, without its group */
static int cdev_open(unsigned int which)
{
	char bdf[16], path[128];
	glob_t found;
	int fd, ret;

	ret = bdf_of(which, bdf, sizeof(bdf));
	if (ret)
		return ret;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev/vfio*",
		 bdf);
	if (glob(path, 0, NULL, &found))
		return -ENODEV;
	snprintf(path, sizeof(path), "/dev/vfio/devices/%s",
		 strrchr(found.gl_pathv[0], '/') + 1);
	globfree(&found);
	fd = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* Device @which of @i, on IOAS i->ioas; @apart: with a domain of its own */
static int iommufd_join(struct iommufd *i, unsigned int which, bool apart)
{
	struct vfio_device_attach_iommufd_pt attach = {
		.argsz = sizeof(attach),
		.pt_id = i->ioas,
	};
	struct vfio_device_bind_iommufd bind = {
		.argsz = sizeof(bind),
		.iommufd = i->fd,
	};
	struct iommu_hwpt_alloc hwpt = {
		.size = sizeof(hwpt),
		.pt_id = i->ioas,
	};
	int ret;

	i->dev = cdev_open(which);
	if (i->dev < 0)
		return i->dev;
	if (ioctl(i->dev, VFIO_DEVICE_BIND_IOMMUFD, &bind))
		goto fail;
	hwpt.dev_id = bind.out_devid;
	if (apart) {
		if (ioctl(i->fd, IOMMU_HWPT_ALLOC, &hwpt))
			goto fail;
		attach.pt_id = hwpt.out_hwpt_id;
	}
	if (ioctl(i->dev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach))
		goto fail;
	return 0;

fail:
	ret = -errno;
	close(i->dev);
	i->dev = -1;
	return ret;
}

int iommufd_attach(struct iommufd *i, unsigned int which)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };

	if (ioctl(i->fd, IOMMU_IOAS_ALLOC, &alloc))
		return -errno;
	i->ioas = alloc.out_ioas_id;
	return iommufd_join(i, which, false);
}

int iommufd_attach_apart(struct iommufd *i, const struct iommufd *first,
			 unsigned int which)
{
	*i = *first;
	return iommufd_join(i, which, true);
}

int iommufd_open(struct iommufd *i, unsigned int which, unsigned int mode)
{
	int ret = iommufd_new(i);

	if (!ret && mode)
		ret = iommufd_rlimit_mode(i, mode);
	if (!ret)
		ret = iommufd_attach(i, which);
	if (ret)
		iommufd_close(i);
	return ret;
}

void iommufd_close(struct iommufd *i)
{
	if (i->dev >= 0)
		close(i->dev);
	if (i->fd >= 0)
		close(i->fd);
	i->dev = -1;
	i->fd = -1;
}

int iommufd_start(struct iommufd *i, struct vfio_dev *d)
{
	memset(d, 0, sizeof(*d));
	d->group = -1;
	d->fd = dup(i->dev);
	return d->fd < 0 ? -errno : dev_start(d);
}

void iommufd_stop(struct vfio_dev *d)
{
	dev_stop(d);
}

int iommufd_map(struct iommufd *i, const void *addr, uint64_t iova,
		size_t size)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
			 IOMMU_IOAS_MAP_WRITEABLE,
		.ioas_id = i->ioas,
		.user_va = (uintptr_t)addr,
		.length = size,
		.iova = iova,
	};

	return ioctl(i->fd, IOMMU_IOAS_MAP, &map) ? -errno : 0;
}

long iommufd_unmap(struct iommufd *i, uint64_t iova, size_t size)
{
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap),
		.ioas_id = i->ioas,
		.iova = iova,
		.length = size,
	};

	return ioctl(i->fd, IOMMU_IOAS_UNMAP, &unmap) ? -errno :
							(long)unmap.length;
}
