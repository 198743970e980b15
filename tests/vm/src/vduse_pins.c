// SPDX-License-Identifier: GPL-2.0
/*
 * Disks that are a program (VDUSE). The memory that it registers takes the place of the
 * kernel's bounce buffer, and is pinned for that: what is counted, refused and given
 * back. tests/vm/with_vduse loads the modules; `vdpa dev add` makes vDPA devices of them,
 * and the kernel's own driver of disks uses them, by virtio_vdpa. There is a bounce
 * buffer from the driver's first request on.
 */
#include <fcntl.h>
#include <glob.h>
#include <linux/capability.h>
#include <linux/vduse.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "test.h"

#define CONTROL	"/dev/vduse/control"
#define BOUNCE	MB		/* the least that there is */
#define N	((long)(BOUNCE / PAGE))
#define QUEUE	16
#define SECTORS	2048UL
#define SECTOR	512UL

/* --- The device ----------------------------------------------------------------- */

/**
 * struct vduse - a disk
 * @name: of the device
 * @disk: what its driver makes of it, in /dev
 * @fd: /dev/vduse/NAME
 * @umem: memory that is registered and in use; NULL without any
 * @bounce: the kernel's own bounce buffer, which takes its place then
 * @kick: the driver says so when there is a request
 * @stop: the thread that serves the device ends
 * @thread: that thread
 * @served: requests that were read from the disk
 * @ring: the virtqueue, once the driver has made it
 * @ring_iova: where it begins
 * @info: of it
 * @seen: requests of the ring that have been served
 */
struct vduse {
	char name[32];
	char disk[32];
	int fd;
	char *volatile umem;
	char *bounce;
	int kick, stop;
	pthread_t thread;
	volatile unsigned long served;
	char *ring;
	uint64_t ring_iova;
	struct vduse_vq_info info;
	uint16_t seen;
};

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

/* Open a device that exists */
static int vduse_open(struct vduse *d, const char *name)
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
	snprintf(text, sizeof(text), "%lu", BOUNCE);
	ret = write_text(path, text) ?: vduse_open(d, name);
	ret = ret ?: call(d->fd, VDUSE_VQ_SETUP, &vq);
	if (!ret && run("vdpa dev add name %s mgmtdev vduse", name))
		ret = -EIO;
	return ret;
}

static int reg(struct vduse *d, void *mem)
{
	struct vduse_iova_umem umem = {
		.uaddr = (uintptr_t)mem,
		.size = BOUNCE,
	};

	return call(d->fd, VDUSE_IOTLB_REG_UMEM, &umem);
}

static int dereg(struct vduse *d)
{
	struct vduse_iova_umem umem = { .size = BOUNCE };

	return call(d->fd, VDUSE_IOTLB_DEREG_UMEM, &umem);
}

/* --- It serves requests --------------------------------------------------------- */

/* The content of the disk: each sector is filled from its number on */
static void read_sectors(char *to, size_t len, uint64_t sector)
{
	for (; len >= SECTOR; len -= SECTOR, to += SECTOR)
		fill(to, SECTOR, sector++ + 1);
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
			read_sectors(at_iova(d, desc[at].addr), desc[at].len,
				     sector);
			sector += desc[at].len / SECTOR;
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

static void vduse_close(struct vduse *d)
{
	serve_stop(d);
	if (d->fd >= 0)
		close(d->fd);
	d->fd = -1;
}

static int vduse_destroy(struct vduse *d)
{
	char name[VDUSE_NAME_MAX] = "";

	if (!*d->name)
		return 0;
	if (run("vdpa dev del %s", d->name))
		return -EIO;
	vduse_close(d);
	strcpy(name, d->name);
	return control(VDUSE_DESTROY_DEV, name);
}

/* --- Its driver ----------------------------------------------------------------- */

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

static int drivers_start(void)
{
	char module[200];

	snprintf(module, sizeof(module), "%s/drivers/virtio/virtio_vdpa.ko",
		 getenv("USERPIN_OBJ"));
	return run("insmod %s", module);
}

static int drivers_stop(void)
{
	return run("%s", "rmmod virtio_vdpa");
}

/* --- Tests ---------------------------------------------------------------------- */

FIXTURE(vduse)
{
	struct vduse a, b;
	struct vfio v;
	struct snap before;
	char *mem;
};

FIXTURE_SETUP(vduse)
{
	self->v.fd = -1;
	self->mem = small_pages(BOUNCE);
	ASSERT_NE(NULL, self->mem);
	ASSERT_EQ(0, vduse_create(&self->a, "disk-a"))
		TH_LOG("see tests/vm/with_vduse");
	ASSERT_EQ(0, vduse_create(&self->b, "disk-b"));
	ASSERT_EQ(0, serve_start(&self->a));
	ASSERT_EQ(0, serve_start(&self->b));
	ASSERT_EQ(0, drivers_start());
	ASSERT_TRUE(wait_for(has_disk, &self->a));
	ASSERT_TRUE(wait_for(has_disk, &self->b));
	ASSERT_EQ(0, snap(&self->before));
}

FIXTURE_TEARDOWN(vduse)
{
	vfio_close(&self->v);
	/* A driver that goes tells the device */
	if (self->a.fd < 0) {
		EXPECT_EQ(0, vduse_open(&self->a, "disk-a"));
		EXPECT_EQ(0, serve_start(&self->a));
	}
	EXPECT_EQ(0, drivers_stop());
	EXPECT_EQ(0, vduse_destroy(&self->a));
	EXPECT_EQ(0, vduse_destroy(&self->b));
	EXPECT_BACK(&self->before);
}

/* So many pins since the start, so much in VmPin, charged (VmLck), and held */
#define EXPECT_PINS(pages, vmpin, charge, held)				\
	__expect_pins(_metadata, __LINE__, &self->before, pages, vmpin,	\
		      charge, held)

static void __expect_pins(struct __test_metadata *_metadata, int line,
			  const struct snap *base, long pages, long vmpin,
			  long charge, long held)
{
	static struct snap now;

	EXPECT_EQ(0, snap(&now));
	EXPECT_EQ(vmpin, now.vmpin - base->vmpin) TH_LOG("VmPin, line %d", line);
	EXPECT_EQ(charge, now.vmlck - base->vmlck) TH_LOG("VmLck, line %d", line);
	EXPECT_EQ(pages, now.foll - base->foll)
		TH_LOG("nr_foll_pin, line %d", line);
	EXPECT_EQ(pages, pins_pages(&now.pins) - pins_pages(&base->pins))
		TH_LOG("pages of holders, line %d", line);
	EXPECT_EQ(vmpin, now.pins.pinned - base->pins.pinned)
		TH_LOG("pinned, line %d", line);
	EXPECT_EQ(held, now.pins.held - base->pins.held)
		TH_LOG("held, line %d", line);
	EXPECT_EQ(held, now.cgroups - base->cgroups)
		TH_LOG("misc.current, line %d", line);
}

TEST_F(vduse, registered)
{
	char *other = small_pages(BOUNCE);
	struct pins p;

	ASSERT_NE(NULL, other);
	EXPECT_EQ(0, reg(&self->a, self->mem));
	EXPECT_PINS(N, N, 0, N);
	EXPECT_EQ(0, pins_read(0, &p));
	ASSERT_EQ(1, p.nr);
	EXPECT_EQ(0, strncmp(p.holder[0].name, "vduse.", 6));
	EXPECT_EQ(-EEXIST, reg(&self->a, other));
	EXPECT_PINS(N, N, 0, N);
	EXPECT_EQ(0, dereg(&self->a));
	EXPECT_BACK(&self->before);
	EXPECT_EQ(-ENOENT, dereg(&self->a));

	/* The holder is the same each time */
	EXPECT_EQ(0, reg(&self->a, other));
	EXPECT_EQ(0, pins_read(0, &p));
	ASSERT_EQ(1, p.nr);
	EXPECT_EQ(N, p.holder[0].pages);
	EXPECT_EQ(2 * N, p.holder[0].acquired);
	vduse_close(&self->a);
	EXPECT_BACK(&self->before);
}

TEST_F(vduse, two_devices_count_once)
{
	EXPECT_EQ(0, reg(&self->a, self->mem));
	EXPECT_EQ(0, reg(&self->b, self->mem));
	EXPECT_PINS(2 * N, N, 0, N);
	EXPECT_EQ(0, dereg(&self->a));
	EXPECT_PINS(N, N, 0, N);
	EXPECT_EQ(0, dereg(&self->b));
	EXPECT_BACK(&self->before);
}

TEST_F(vduse, beside_a_container)
{
	NEED_DEVICES(1U);
	ASSERT_EQ(0, vfio_open(&self->v, 0));
	EXPECT_EQ(0, vfio_map(&self->v, self->mem, IOVA, BOUNCE, MAP_RW));
	EXPECT_EQ(0, reg(&self->a, self->mem));
	EXPECT_PINS(2 * N, N, N, N);
	EXPECT_EQ((long)BOUNCE, vfio_unmap(&self->v, IOVA, BOUNCE));
	EXPECT_PINS(N, N, 0, N);
	EXPECT_EQ(0, dereg(&self->a));
	EXPECT_BACK(&self->before);
}

/* Nobody is exempt: root with CAP_IPC_LOCK is not */
TEST_F(vduse, limit_to_the_page)
{
	char *other = small_pages(BOUNCE), want[160], *log;
	struct pins p;

	ASSERT_NE(NULL, other);
	prctl(PR_SET_NAME, "limited");
	ASSERT_EQ(0, set_memlock(BOUNCE - PAGE));
	log_room(1);
	EXPECT_EQ(-ENOMEM, reg(&self->a, self->mem));
	EXPECT_BACK(&self->before);
	EXPECT_REFUSED(&self->before, MEMLOCK, 1);
	EXPECT_EQ(0, pins_read(0, &p));
	ASSERT_EQ(1, p.nr);
	snprintf(want, sizeof(want), "%s of \"limited\" [%d], uid 0",
		 p.holder[0].name, getpid());
	log = kernel_log();
	ASSERT_NE(NULL, log);
	EXPECT_TRUE(logged(log, want, "refused memlock")) TH_LOG("%s", want);
	free(log);

	ASSERT_EQ(0, set_memlock(BOUNCE));
	EXPECT_EQ(0, reg(&self->a, self->mem));
	EXPECT_EQ(-ENOMEM, reg(&self->b, other));
	EXPECT_PINS(N, N, 0, N);
	/* It is counted already */
	EXPECT_EQ(0, reg(&self->b, self->mem));
}

/* As on stock: ENOMEM if some of it was there */
TEST_F(vduse, memory_with_a_hole)
{
	ASSERT_EQ(0, munmap(self->mem + BOUNCE / 2, PAGE));
	EXPECT_EQ(-ENOMEM, reg(&self->a, self->mem));
	EXPECT_BACK(&self->before);
	ASSERT_EQ(0, munmap(self->mem, PAGE));
	EXPECT_EQ(-EFAULT, reg(&self->a, self->mem));
	EXPECT_REFUSED(&self->before, FAULT, 2);
	EXPECT_BACK(&self->before);
}

TEST_F(vduse, file_that_tracks_writes)
{
	const char *dir = getenv("USERPIN_EXT4");
	char path[128], *mem, *log;
	int fd;

	if (!dir)
		SKIP(return, "no file system on a disk, see USERPIN_EXT4");
	snprintf(path, sizeof(path), "%s/vduse-%d", dir, getpid());
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, BOUNCE));
	mem = mmap(NULL, BOUNCE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, (void *)mem);
	log_room(1);
	EXPECT_EQ(-EOPNOTSUPP, reg(&self->a, mem));
	EXPECT_BACK(&self->before);
	EXPECT_REFUSED(&self->before, FILEMAP, 1);
	log = kernel_log();
	ASSERT_NE(NULL, log);
	EXPECT_TRUE(logged(log, "refused file", path));
	free(log);
	unlink(path);
	close(fd);
}

/* As vdpa_pins has it for vhost-vdpa */
struct rival {
	struct vduse *d;
	char *mem;
	pthread_barrier_t *start;
	int ret;
};

static void *reg_at_once(void *arg)
{
	struct rival *r = arg;

	pthread_barrier_wait(r->start);
	r->ret = reg(r->d, r->mem);
	return NULL;
}

TEST_F(vduse, two_threads_at_the_limit)
{
	struct rival r[2] = {
		{ .d = &self->a, .mem = self->mem },
		{ .d = &self->b, .mem = small_pages(BOUNCE) },
	};
	int round, i, passed, refused = 0, mapped = 0;
	pthread_barrier_t start;
	pthread_t thread[2];

	ASSERT_NE(NULL, r[1].mem);
	ASSERT_EQ(0, set_memlock(BOUNCE));
	ASSERT_EQ(0, pthread_barrier_init(&start, NULL, 2));
	for (round = 0; round < 5; round++) {
		for (i = 0; i < 2; i++) {
			ASSERT_EQ(0, madvise(r[i].mem, BOUNCE, MADV_DONTNEED));
			r[i].start = &start;
			ASSERT_EQ(0, pthread_create(thread + i, NULL,
						    reg_at_once, r + i));
		}
		for (passed = 0, i = 0; i < 2; i++) {
			pthread_join(thread[i], NULL);
			passed += !r[i].ret;
			refused += r[i].ret == -ENOMEM;
		}
		mapped += passed;
		EXPECT_GE(1, passed) TH_LOG("round %d", round);
		EXPECT_GE(N, status_pages(0, "VmPin:") - self->before.vmpin);
		for (i = 0; i < 2; i++) {
			if (!r[i].ret)
				EXPECT_EQ(0, dereg(r[i].d));
		}
	}
	EXPECT_EQ(10, mapped + refused);
	EXPECT_BACK(&self->before);
}

TEST_F(vduse, limit_of_the_cgroup)
{
	char own[256], dir[160], home[384], path[400], limit[64], *text;

	text = slurp("/proc/self/cgroup");
	ASSERT_NE(NULL, text);
	ASSERT_EQ(1, sscanf(text, "0::%255s", own));
	free(text);
	snprintf(home, sizeof(home), "%s%s/cgroup.procs", cgroup_root(), own);
	snprintf(dir, sizeof(dir), "%s/vduse-%d", cgroup_root(), getpid());
	ASSERT_EQ(0, mkdir(dir, 0755));
	snprintf(path, sizeof(path), "%s/misc.max", dir);
	snprintf(limit, sizeof(limit), "longterm_pin %lu", BOUNCE - PAGE);
	ASSERT_EQ(0, write_text(path, limit));
	snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	ASSERT_EQ(0, write_text(path, "0"));
	EXPECT_EQ(-EBUSY, reg(&self->a, self->mem));
	EXPECT_BACK(&self->before);
	EXPECT_EQ(0, cgroup_held(dir));
	EXPECT_REFUSED(&self->before, CGROUP, 1);
	snprintf(path, sizeof(path), "%s/misc.max", dir);
	ASSERT_EQ(0, write_text(path, "longterm_pin max"));
	EXPECT_EQ(0, reg(&self->a, self->mem));
	EXPECT_EQ(N, cgroup_held(dir));
	vduse_close(&self->a);
	EXPECT_EQ(0, cgroup_held(dir));
	EXPECT_EQ(0, write_text(home, "0"));
	EXPECT_EQ(0, remove_cgroup(dir));
}

/* Another process registers its memory, and ends */
static void end_of_process(struct __test_metadata *_metadata,
			   FIXTURE_DATA(vduse) *self, int sig)
{
	int sv[2], status;
	pid_t pid;
	long said;

	vduse_close(&self->a);
	ASSERT_EQ(0, chan_pair(sv));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct vduse d;

		close(sv[0]);
		if (vduse_open(&d, "disk-a") || reg(&d, self->mem))
			_exit(1);
		chan_put(sv[1], 1);
		chan_get(sv[1], NULL);
		_exit(0);
	}
	close(sv[1]);
	ASSERT_EQ(0, chan_get(sv[0], &said));
	EXPECT_EQ(N, status_pages(pid, "VmPin:"));
	EXPECT_EQ(N, vmstat("nr_foll_pin_acquired") -
		     vmstat("nr_foll_pin_released") - self->before.foll);
	EXPECT_EQ(0, sig ? kill(pid, sig) : chan_put(sv[0], 1));
	ASSERT_EQ(0, reap(pid, &status));
	EXPECT_EQ(sig, WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	EXPECT_BACK(&self->before);
	close(sv[0]);
}

TEST_F(vduse, killed)
{
	end_of_process(_metadata, self, SIGKILL);
}

TEST_F(vduse, exits)
{
	end_of_process(_metadata, self, 0);
}

/* A child may use the file: its own memory is pinned, and counted with it */
TEST_F(vduse, registered_by_a_child)
{
	int sv[2], status;
	pid_t pid;
	long said;

	EXPECT_EQ(0, reg(&self->a, self->mem));
	EXPECT_EQ(0, dereg(&self->a));
	ASSERT_EQ(0, chan_pair(sv));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct pins p;

		close(sv[0]);
		chan_put(sv[1], reg(&self->a, self->mem));
		if (pins_read(0, &p) || p.nr != 1 || p.holder[0].pages != N ||
		    status_pages(0, "VmPin:") != N)
			_exit(1);
		_exit(0);
	}
	close(sv[1]);
	ASSERT_EQ(0, chan_get(sv[0], &said));
	EXPECT_EQ(0, said);
	ASSERT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	/* The file is open here, so the memory of the child is registered still */
	EXPECT_EQ(0, status_pages(0, "VmPin:") - self->before.vmpin);
	EXPECT_EQ(N, vmstat("nr_foll_pin_acquired") -
		     vmstat("nr_foll_pin_released") - self->before.foll);
	EXPECT_EQ(0, dereg(&self->a));
	EXPECT_BACK(&self->before);
	EXPECT_EQ(0, reg(&self->a, self->mem));
	EXPECT_PINS(N, N, 0, N);
	close(sv[0]);
}

TEST_F(vduse, allocations)
{
	int fd, n, ret, failures = 0;
	bool failed = true;

	if (!failing_supported())
		SKIP(return, "this kernel has no fault injection");
	fd = failing_open();
	ASSERT_LE(0, fd);
	memset(self->mem, 1, BOUNCE);
	for (n = 1; failed && n < 10000; n++) {
		arm(fd, n);
		ret = reg(&self->a, self->mem);
		failed = disarm(fd);
		failures += !!ret;
		if (!ret) {
			EXPECT_PINS(N, N, 0, N);
			EXPECT_EQ(0, dereg(&self->a));
		}
		EXPECT_BACK(&self->before);
		if (_metadata->exit_code) {
			TH_LOG("failure %d: %s", n, strerror(-ret));
			break;
		}
	}
	EXPECT_FALSE(failed) TH_LOG("no end after %d failures", n);
	EXPECT_LT(3, failures);
	close(fd);
}

/*
 * What the kernel reads from the disk is what this process has written to its own memory,
 * as the registered pages are the bounce buffer. Without them it is the kernel's.
 */
TEST_F(vduse, disk_that_the_kernel_reads)
{
	char *got = aligned_alloc(PAGE, BOUNCE / 4), *want = malloc(BOUNCE / 4);
	unsigned long served;
	int fd, round;

	ASSERT_NE(NULL, got);
	ASSERT_NE(NULL, want);
	fd = open(self->a.disk, O_RDONLY | O_DIRECT | O_CLOEXEC);
	ASSERT_LE(0, fd) TH_LOG("%s", self->a.disk);
	for (round = 0; round < 3; round++) {
		if (round == 1) {
			ASSERT_EQ(0, reg(&self->a, self->mem));
			self->a.umem = self->mem;
			EXPECT_PINS(N, N, 0, N);
		} else if (round == 2) {
			self->a.umem = NULL;
			EXPECT_EQ(0, dereg(&self->a));
		}
		served = self->a.served;
		read_sectors(want, BOUNCE / 4, round * BOUNCE / 4 / SECTOR);
		EXPECT_EQ((long)BOUNCE / 4, pread(fd, got, BOUNCE / 4,
						  round * BOUNCE / 4));
		EXPECT_EQ(0, memcmp(got, want, BOUNCE / 4))
			TH_LOG("round %d", round);
		EXPECT_LT(served, self->a.served);
	}
	EXPECT_BACK(&self->before);
	close(fd);
	free(got);
	free(want);
}

TEST_HARNESS_MAIN
