// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/vduse.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util.h"
#include "vduse_lib.h"

#define CONTROL		"/dev/vduse/control"
#define AUTOPROBE	"/sys/bus/vdpa/drivers_autoprobe"
#define QUEUE		16
#define SECTORS		2048UL

static int call(int fd, unsigned long what, void *arg)
{
	int ret = ioctl(fd, what, arg);

	return ret < 0 ? -errno : ret;
}

static int run(const char *format, const char *arg)
{
	char command[320];

	snprintf(command, sizeof(command), format, arg);
	return system(command);
}

static int control(unsigned long what, void *arg)
{
	uint64_t version = VDUSE_API_VERSION;
	int fd = open(CONTROL, O_RDWR | O_CLOEXEC), ret;

	if (fd < 0)
		return -errno;
	ret = call(fd, VDUSE_SET_API_VERSION, &version) ?: call(fd, what, arg);
	close(fd);
	return ret;
}

int vduse_open(struct vduse *d, const char *name)
{
	char path[64];

	memset(d, 0, sizeof(*d));
	strcpy(d->name, name);
	d->stop = -1;
	snprintf(path, sizeof(path), "/dev/vduse/%s", name);
	d->fd = open(path, O_RDWR | O_CLOEXEC);
	return d->fd < 0 ? -errno : 0;
}

static int vduse_create(struct vduse *d, const char *name)
{
	const size_t size = sizeof(struct virtio_blk_config);
	struct vduse_vq_config vq = { .index = 0, .max_size = QUEUE };
	struct vduse_dev_config *config = calloc(1, sizeof(*config) + size);
	struct virtio_blk_config *blk = (void *)config->config;
	char path[96], text[32];
	int ret;

	strcpy(config->name, name);
	config->device_id = VIRTIO_ID_BLOCK;
	config->features = 1ULL << VIRTIO_F_VERSION_1 |
			   1ULL << VIRTIO_F_ACCESS_PLATFORM;
	config->vq_num = 1;
	config->vq_align = PAGE;
	config->config_size = size;
	blk->capacity = SECTORS;
	ret = control(VDUSE_CREATE_DEV, config);
	free(config);
	if (ret)
		return ret;
	snprintf(path, sizeof(path), "/sys/class/vduse/%s/bounce_size", name);
	snprintf(text, sizeof(text), "%lu", VDUSE_SIZE);
	ret = write_text(path, text) ?: vduse_open(d, name);
	ret = ret ?: call(d->fd, VDUSE_VQ_SETUP, &vq);
	if (!ret && run("vdpa dev add name %s mgmtdev vduse", name))
		ret = -EIO;
	return ret;
}

int vduse_reg(struct vduse *d, void *mem)
{
	struct vduse_iova_umem umem = {
		.uaddr = (uintptr_t)mem,
		.size = VDUSE_SIZE,
	};

	return call(d->fd, VDUSE_IOTLB_REG_UMEM, &umem);
}

int vduse_dereg(struct vduse *d)
{
	struct vduse_iova_umem umem = { .size = VDUSE_SIZE };

	return call(d->fd, VDUSE_IOTLB_DEREG_UMEM, &umem);
}

/* --- It serves requests --------------------------------------------------------- */

void vduse_sectors(char *to, size_t len, uint64_t sector)
{
	for (; len >= VDUSE_SECTOR; len -= VDUSE_SECTOR, to += VDUSE_SECTOR)
		fill(to, VDUSE_SECTOR, sector++ + 1);
}

/* The memory of the kernel's that has @iova; in *@start, where it begins. Or NULL */
static char *kernel_memory(struct vduse *d, uint64_t iova, uint64_t *start)
{
	struct vduse_iotlb_entry entry = { .start = iova, .last = iova + 1 };
	int fd = call(d->fd, VDUSE_IOTLB_GET_FD, &entry);
	void *mem;

	if (fd < 0)
		return NULL;
	mem = mmap(NULL, entry.last - entry.start + 1, PROT_READ | PROT_WRITE,
		   MAP_SHARED, fd, entry.offset);
	close(fd);
	*start = entry.start;
	return mem == MAP_FAILED ? NULL : mem;
}

static bool find_ring(struct vduse *d)
{
	uint64_t start;

	d->info.index = 0;
	if (call(d->fd, VDUSE_VQ_GET_INFO, &d->info) || !d->info.ready)
		return false;
	d->bounce = kernel_memory(d, 0, &start);
	if (!d->bounce || start)
		return false;
	d->ring = kernel_memory(d, d->info.desc_addr, &d->ring_iova);
	return d->ring;
}

/* Requests and data lie in the bounce buffer */
static char *at_iova(struct vduse *d, uint64_t iova)
{
	return (d->umem ?: d->bounce) + iova;
}

static void serve_ring(struct vduse *d)
{
	struct vring_desc *desc;
	volatile struct vring_avail *avail;
	volatile struct vring_used *used;
	uint32_t index = 0;

	if (!d->ring && !find_ring(d))
		return;
	desc = (void *)(d->ring + d->info.desc_addr - d->ring_iova);
	avail = (void *)(d->ring + d->info.driver_addr - d->ring_iova);
	used = (void *)(d->ring + d->info.device_addr - d->ring_iova);
	while (d->seen != avail->idx) {
		uint16_t head = avail->ring[d->seen % d->info.num], at = head;
		struct virtio_blk_outhdr *header =
			(void *)at_iova(d, desc[at].addr);
		uint64_t sector = header->sector;
		uint32_t len = 0;

		for (at = desc[at].next; desc[at].flags & VRING_DESC_F_NEXT;
		     at = desc[at].next) {
			if (header->type != VIRTIO_BLK_T_IN)
				continue;
			vduse_sectors(at_iova(d, desc[at].addr), desc[at].len,
				      sector);
			sector += desc[at].len / VDUSE_SECTOR;
			len += desc[at].len;
			d->served++;
		}
		*at_iova(d, desc[at].addr) = header->type == VIRTIO_BLK_T_IN ?
					     VIRTIO_BLK_S_OK :
					     VIRTIO_BLK_S_UNSUPP;
		used->ring[d->seen % d->info.num].id = head;
		used->ring[d->seen % d->info.num].len = len + 1;
		__sync_synchronize();
		used->idx = ++d->seen;
		call(d->fd, VDUSE_VQ_INJECT_IRQ, &index);
	}
}

static void answer(struct vduse *d)
{
	struct vduse_dev_response response = { .result = VDUSE_REQ_RESULT_OK };
	struct vduse_vq_eventfd kick = { .index = 0, .fd = d->kick };
	struct vduse_dev_request request;

	if (read(d->fd, &request, sizeof(request)) != sizeof(request))
		return;
	response.request_id = request.request_id;
	if (request.type == VDUSE_GET_VQ_STATE) {
		response.vq_state.index = request.vq_state.index;
		response.vq_state.split.avail_index = d->seen;
	}
	if (request.type == VDUSE_SET_STATUS &&
	    request.s.status & VIRTIO_CONFIG_S_DRIVER_OK)
		call(d->fd, VDUSE_VQ_SETUP_KICKFD, &kick);
	if (write(d->fd, &response, sizeof(response)) != sizeof(response))
		return;
}

static void *serve(void *arg)
{
	struct vduse *d = arg;
	struct pollfd p[] = {
		{ d->fd, POLLIN, 0 }, { d->kick, POLLIN, 0 },
		{ d->stop, POLLIN, 0 },
	};
	eventfd_t n;

	while (poll(p, 3, -1) > 0 && !p[2].revents) {
		if (p[0].revents)
			answer(d);
		if (p[1].revents && !eventfd_read(d->kick, &n))
			serve_ring(d);
	}
	return NULL;
}

static int serve_start(struct vduse *d)
{
	d->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	d->stop = eventfd(0, EFD_CLOEXEC);
	return -pthread_create(&d->thread, NULL, serve, d);
}

static void serve_stop(struct vduse *d)
{
	if (d->stop < 0)
		return;
	eventfd_write(d->stop, 1);
	pthread_join(d->thread, NULL);
	close(d->stop);
	close(d->kick);
	d->stop = -1;
}

void vduse_close(struct vduse *d)
{
	serve_stop(d);
	if (d->fd >= 0)
		close(d->fd);
	d->fd = -1;
}

static int vduse_destroy(struct vduse *d)
{
	char name[VDUSE_NAME_MAX] = "";

	if (run("vdpa dev del %s", d->name))
		return -EIO;
	vduse_close(d);
	strcpy(name, d->name);
	return control(VDUSE_DESTROY_DEV, name);
}

/* --- Its driver ---------------------------------------------------------------- */

static bool has_disk(void *arg)
{
	struct vduse *d = arg;
	char pattern[96];
	glob_t found;
	int ret;

	snprintf(pattern, sizeof(pattern),
		 "/sys/bus/vdpa/devices/%s/virtio*/block/*", d->name);
	ret = glob(pattern, 0, NULL, &found);
	if (!ret)
		snprintf(d->disk, sizeof(d->disk), "/dev/%s",
			 strrchr(found.gl_pathv[0], '/') + 1);
	globfree(&found);
	return !ret;
}

int vduse_pair_start(struct vduse d[2])
{
	char module[200];
	int ret;

	snprintf(module, sizeof(module), "%s/drivers/virtio/virtio_vdpa.ko",
		 getenv("USERPIN_OBJ"));
	/* Not vhost-vdpa's, if that is there */
	ret = write_text(AUTOPROBE, "0") ?:
	      vduse_create(&d[0], "disk-a") ?: vduse_create(&d[1], "disk-b") ?:
	      write_text(AUTOPROBE, "1") ?:
	      serve_start(&d[0]) ?: serve_start(&d[1]);
	if (ret)
		return ret;
	if (run("insmod %s", module))
		return -EIO;
	return wait_for(has_disk, &d[0]) && wait_for(has_disk, &d[1]) ?
	       0 : -ENODEV;
}

int vduse_pair_stop(struct vduse d[2])
{
	char name[32];
	int i, ret = 0;

	for (i = 0; i < 2; i++) {
		if (d[i].fd >= 0)
			continue;
		strcpy(name, d[i].name);
		ret = ret ?: vduse_open(&d[i], name) ?: serve_start(&d[i]);
	}
	if (!ret && run("%s", "rmmod virtio_vdpa"))
		ret = -EIO;
	return ret ?: vduse_destroy(&d[0]) ?: vduse_destroy(&d[1]);
}
