// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/vhost.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util.h"
#include "vdpa_lib.h"

static int call(int fd, unsigned long what, void *arg)
{
	return ioctl(fd, what, arg) < 0 ? -errno : 0;
}

int vdpa_open(struct vdpa *v, const char *name)
{
	uint64_t features = 1ULL << VHOST_BACKEND_F_IOTLB_MSG_V2 |
			    1ULL << VHOST_BACKEND_F_IOTLB_BATCH;
	char path[128];
	glob_t found;
	int ret;

	snprintf(path, sizeof(path), "/sys/bus/vdpa/devices/%s/vhost-vdpa-*",
		 name);
	v->fd = -1;
	if (glob(path, 0, NULL, &found))
		return -ENODEV;
	snprintf(path, sizeof(path), "/dev/%s",
		 strrchr(found.gl_pathv[0], '/') + 1);
	globfree(&found);
	v->fd = open(path, O_RDWR | O_CLOEXEC);
	if (v->fd < 0)
		return -errno;
	ret = call(v->fd, VHOST_SET_OWNER, NULL);
	if (!ret)
		ret = call(v->fd, VHOST_SET_BACKEND_FEATURES, &features);
	if (ret)
		vdpa_close(v);
	return ret;
}

void vdpa_close(struct vdpa *v)
{
	if (v->fd >= 0)
		close(v->fd);
	v->fd = -1;
}

static int message(struct vdpa *v, const struct vhost_iotlb_msg *iotlb)
{
	struct vhost_msg_v2 msg = {
		.type = VHOST_IOTLB_MSG_V2,
		.iotlb = *iotlb,
	};
	ssize_t n = write(v->fd, &msg, sizeof(msg));

	return n == sizeof(msg) ? 0 : n < 0 ? -errno : -EIO;
}

int vdpa_map(struct vdpa *v, const void *addr, uint64_t iova, size_t size,
	     unsigned int perm)
{
	return message(v, &(struct vhost_iotlb_msg) {
		.iova = iova,
		.size = size,
		.uaddr = (uintptr_t)addr,
		.perm = perm,
		.type = VHOST_IOTLB_UPDATE,
	});
}

int vdpa_unmap(struct vdpa *v, uint64_t iova, size_t size)
{
	return message(v, &(struct vhost_iotlb_msg) {
		.iova = iova,
		.size = size,
		.type = VHOST_IOTLB_INVALIDATE,
	});
}

int vdpa_batch_begin(struct vdpa *v)
{
	return message(v, &(struct vhost_iotlb_msg) {
		.type = VHOST_IOTLB_BATCH_BEGIN,
	});
}

int vdpa_batch_end(struct vdpa *v)
{
	return message(v, &(struct vhost_iotlb_msg) {
		.type = VHOST_IOTLB_BATCH_END,
	});
}

/* --- A disk ------------------------------------------------------------------- */

/* Where things lie in the page of the virtqueue */
#define QUEUE	16
#define AVAIL	256
#define USED	512
#define HEADER	1024
#define STATUS	1040

static int set_status(struct vdpa *v, uint8_t status)
{
	return call(v->fd, VHOST_VDPA_SET_STATUS, &status);
}

int disk_start(struct disk *d, struct vdpa *v, uint64_t iova)
{
	uint64_t features = 1ULL << VIRTIO_F_VERSION_1 |
			    1ULL << VIRTIO_F_ACCESS_PLATFORM;
	struct vhost_vring_addr addr = {
		.desc_user_addr = iova,
		.avail_user_addr = iova + AVAIL,
		.used_user_addr = iova + USED,
	};
	struct vhost_vring_state num = { 0, QUEUE }, base = { 0, 0 };
	struct vhost_vring_state on = { 0, 1 };
	struct vhost_vring_file kick = { 0, -1 }, done = { 0, -1 };
	uint8_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
	int ret;

	*d = (struct disk){ .v = v, .iova = iova, .kick = -1, .call = -1 };
	d->page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (d->page == MAP_FAILED) {
		d->page = NULL;
		return -ENOMEM;
	}
	d->kick = eventfd(0, EFD_CLOEXEC);
	d->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	kick.fd = d->kick;
	done.fd = d->call;

	ret = vdpa_map(v, d->page, iova, PAGE, VDPA_RW);
	ret = ret ?: set_status(v, status);
	ret = ret ?: call(v->fd, VHOST_SET_FEATURES, &features);
	status |= VIRTIO_CONFIG_S_FEATURES_OK;
	ret = ret ?: set_status(v, status);
	ret = ret ?: call(v->fd, VHOST_SET_VRING_NUM, &num);
	ret = ret ?: call(v->fd, VHOST_SET_VRING_BASE, &base);
	ret = ret ?: call(v->fd, VHOST_SET_VRING_ADDR, &addr);
	ret = ret ?: call(v->fd, VHOST_SET_VRING_KICK, &kick);
	ret = ret ?: call(v->fd, VHOST_SET_VRING_CALL, &done);
	ret = ret ?: call(v->fd, VHOST_VDPA_SET_VRING_ENABLE, &on);
	status |= VIRTIO_CONFIG_S_DRIVER_OK;
	ret = ret ?: set_status(v, status);
	if (ret)
		disk_stop(d);
	return ret;
}

void disk_stop(struct disk *d)
{
	set_status(d->v, 0);
	vdpa_unmap(d->v, d->iova, PAGE);
	if (d->page)
		munmap(d->page, PAGE);
	if (d->kick >= 0)
		close(d->kick);
	if (d->call >= 0)
		close(d->call);
}

static bool is_done(void *arg)
{
	struct disk *d = arg;
	volatile struct vring_used *used = (void *)(d->page + USED);

	return used->idx == (uint16_t)d->done;
}

int disk_request(struct disk *d, bool write, uint64_t iova, size_t len)
{
	struct vring_desc *desc = (void *)d->page;
	volatile struct vring_avail *avail = (void *)(d->page + AVAIL);
	struct virtio_blk_outhdr *header = (void *)(d->page + HEADER);
	volatile uint8_t *status = (void *)(d->page + STATUS);

	header->type = write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
	header->sector = 0;
	*status = 0xff;
	desc[0] = (struct vring_desc){
		d->iova + HEADER, sizeof(*header), VRING_DESC_F_NEXT, 1
	};
	desc[1] = (struct vring_desc){
		iova, len, VRING_DESC_F_NEXT | (write ? 0 : VRING_DESC_F_WRITE), 2
	};
	desc[2] = (struct vring_desc){
		d->iova + STATUS, 1, VRING_DESC_F_WRITE, 0
	};
	avail->ring[d->done++ % QUEUE] = 0;
	__sync_synchronize();
	avail->idx = d->done;
	__sync_synchronize();
	if (eventfd_write(d->kick, 1))
		return -errno;
	if (!wait_for(is_done, d))
		return -ETIMEDOUT;
	return *status;
}
