// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <linux/virtio_scsi.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kselftest.h"
#include "scsi_lib.h"
#include "util.h"

/* --- The target ------------------------------------------------------------------ */

#define CONFIGFS	"/sys/kernel/config"
#define TARGET		CONFIGFS "/target"
#define HBA		TARGET "/core/iblock_0"
#define DISK		HBA "/disk"
#define WWN		"naa.5001405000000001"
#define INITIATOR	"naa.5001405000000002"
#define FABRIC		TARGET "/vhost"
#define PORT		FABRIC "/" WWN
#define TPG		PORT "/tpgt_1"
#define LUN		TPG "/lun/lun_0"

/* In this order; removed in the other one */
static const char *const folders[] = { HBA, DISK, FABRIC, PORT, TPG, LUN };

int scsi_target_make(const char *path)
{
	char text[64];
	int i;
	int ret = 0;

	if (!file_exists(TARGET) && mount("configfs", CONFIGFS, "configfs", 0, NULL))
		return -errno;
	for (i = 0; !ret && i < (int)ARRAY_SIZE(folders); i++)
		ret = mkdir(folders[i], 0700) && errno != EEXIST ? -errno : 0;
	snprintf(text, sizeof(text), "udev_path=%s", path);
	ret = ret ?: write_text(DISK "/control", text);
	ret = ret ?: write_text(DISK "/enable", "1");
	ret = ret ?: write_text(TPG "/nexus", INITIATOR);
	if (!ret && symlink(DISK, LUN "/disk"))
		ret = -errno;
	if (ret)
		scsi_target_remove();
	return ret;
}

void scsi_target_remove(void)
{
	int i = ARRAY_SIZE(folders);

	write_text(TPG "/nexus", "NULL");
	unlink(LUN "/disk");
	while (i--)
		rmdir(folders[i]);
	umount(CONFIGFS);
}

/* --- A virtqueue ------------------------------------------------------------------ */

/* Where things lie in its page */
#define QUEUE	16
#define AVAIL	256
#define USED	512
#define REQUEST	1024
#define ANSWER	1280

/* Of control, events, requests */
#define REQUESTS	2

#define TEST_UNIT_READY	0x00
#define READ_10		0x28
#define BLOCK		512

static int call(int fd, unsigned long request, const void *arg)
{
	return ioctl(fd, request, arg) ? -errno : 0;
}

static int set_memory(int fd, char *page, char *mem, size_t size)
{
	struct {
		struct vhost_memory memory;
		struct vhost_memory_region region[2];
	} m = {
		.memory.nregions = 2,
		/* The guest's addresses are ours */
		.region = {
			{ (uintptr_t)page, PAGE, (uintptr_t)page },
			{ (uintptr_t)mem, size, (uintptr_t)mem },
		},
	};

	return call(fd, VHOST_SET_MEM_TABLE, &m);
}

static int set_queue(struct scsi *s)
{
	struct vhost_vring_state num = { REQUESTS, QUEUE }, base = { REQUESTS, 0 };
	struct vhost_vring_file kick = { REQUESTS, s->kick };
	struct vhost_vring_addr addr = {
		.index = REQUESTS,
		.desc_user_addr = (uintptr_t)s->page,
		.avail_user_addr = (uintptr_t)s->page + AVAIL,
		.used_user_addr = (uintptr_t)s->page + USED,
	};
	int ret;

	ret = call(s->fd, VHOST_SET_VRING_NUM, &num);
	ret = ret ?: call(s->fd, VHOST_SET_VRING_BASE, &base);
	ret = ret ?: call(s->fd, VHOST_SET_VRING_ADDR, &addr);
	return ret ?: call(s->fd, VHOST_SET_VRING_KICK, &kick);
}

/* A command that reads @len bytes to @to, or nothing */
static int submit(struct scsi *s, const unsigned char *cdb, size_t n, char *to,
		  size_t len)
{
	struct vring_desc *desc = (void *)s->page;
	volatile struct vring_avail *avail = (void *)(s->page + AVAIL);
	struct virtio_scsi_cmd_req *request = (void *)(s->page + REQUEST);
	struct virtio_scsi_cmd_resp *answer = (void *)(s->page + ANSWER);

	memset(request, 0, sizeof(*request));
	memset(answer, 0xff, sizeof(*answer));
	/* Single-level: its group is 1, and its number 0 */
	request->lun[0] = 1;
	request->lun[1] = 1;
	request->lun[2] = 0x40;
	memcpy(request->cdb, cdb, n);
	desc[0] = (struct vring_desc){
		(uintptr_t)request, sizeof(*request), VRING_DESC_F_NEXT, 1
	};
	desc[1] = (struct vring_desc){
		(uintptr_t)answer, sizeof(*answer),
		VRING_DESC_F_WRITE | (len ? VRING_DESC_F_NEXT : 0), 2
	};
	desc[2] = (struct vring_desc){
		(uintptr_t)to, len, VRING_DESC_F_WRITE, 0
	};
	avail->ring[s->done++ % QUEUE] = 0;
	__sync_synchronize();
	avail->idx = s->done;
	__sync_synchronize();
	return eventfd_write(s->kick, 1) ? -errno : 0;
}

static bool is_done(void *arg)
{
	struct scsi *s = arg;
	volatile struct vring_used *used = (void *)(s->page + USED);

	return used->idx == (uint16_t)s->done;
}

int scsi_read_start(struct scsi *s, char *to, size_t len)
{
	unsigned char cdb[10] = { READ_10, [8] = len / BLOCK };

	return submit(s, cdb, sizeof(cdb), to, len);
}

int scsi_read_end(struct scsi *s)
{
	struct virtio_scsi_cmd_resp *answer = (void *)(s->page + ANSWER);

	if (!wait_for(is_done, s))
		return -ETIMEDOUT;
	return answer->response || answer->status ? -EIO : 0;
}

int scsi_open(struct scsi *s, char *mem, size_t size)
{
	struct vhost_scsi_target target = { .vhost_wwpn = WWN, .vhost_tpgt = 1 };
	static const unsigned char ready[6] = { TEST_UNIT_READY };
	uint64_t features = 1ULL << VIRTIO_F_VERSION_1;
	int ret;

	*s = (struct scsi){ .kick = -1 };
	s->fd = open("/dev/vhost-scsi", O_RDWR | O_CLOEXEC);
	if (s->fd < 0)
		return -errno;
	s->page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (s->page == MAP_FAILED) {
		s->page = NULL;
		scsi_close(s);
		return -ENOMEM;
	}
	s->kick = eventfd(0, EFD_CLOEXEC);
	ret = call(s->fd, VHOST_SET_OWNER, NULL);
	ret = ret ?: call(s->fd, VHOST_SET_FEATURES, &features);
	ret = ret ?: set_memory(s->fd, s->page, mem, size);
	ret = ret ?: set_queue(s);
	ret = ret ?: call(s->fd, VHOST_SCSI_SET_ENDPOINT, &target);
	ret = ret ?: submit(s, ready, sizeof(ready), NULL, 0);
	ret = ret ?: scsi_read_end(s);
	if (ret)
		scsi_close(s);
	return ret;
}

void scsi_close(struct scsi *s)
{
	close(s->fd);
	if (s->kick >= 0)
		close(s->kick);
	if (s->page)
		munmap(s->page, PAGE);
}
