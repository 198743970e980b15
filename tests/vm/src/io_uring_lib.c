// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <linux/capability.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "io_uring_lib.h"
#include "pins.h"
#include "util.h"

void ring_close(struct ring *r)
{
	if (r->queues)
		munmap(r->queues, r->size);
	if (r->sqes)
		munmap(r->sqes, RING_ENTRIES * sizeof(*r->sqes));
	if (r->fd >= 0)
		close(r->fd);
	memset(r, 0, sizeof(*r));
	r->fd = -1;
}

int ring_open(struct ring *r)
{
	void *map;

	memset(r, 0, sizeof(*r));
	r->fd = syscall(__NR_io_uring_setup, RING_ENTRIES, &r->p);
	if (r->fd < 0)
		return -errno;
	r->size = r->p.cq_off.cqes + r->p.cq_entries * sizeof(struct io_uring_cqe);
	map = mmap(NULL, r->size, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
		   IORING_OFF_SQ_RING);
	if (map != MAP_FAILED)
		r->queues = map;
	map = mmap(NULL, RING_ENTRIES * sizeof(*r->sqes), PROT_READ | PROT_WRITE,
		   MAP_SHARED, r->fd, IORING_OFF_SQES);
	if (map != MAP_FAILED)
		r->sqes = map;
	if (r->queues && r->sqes)
		return 0;
	ring_close(r);
	return -ENOMEM;
}

int ring_open_at(struct ring *r, char *mem)
{
	memset(r, 0, sizeof(*r));
	r->p.flags = IORING_SETUP_NO_MMAP;
	r->p.cq_off.user_addr = (uintptr_t)mem;
	r->p.sq_off.user_addr = (uintptr_t)(mem + PAGE);
	r->fd = syscall(__NR_io_uring_setup, RING_ENTRIES, &r->p);
	return r->fd < 0 ? -errno : 0;
}

static int ring_register(struct ring *r, unsigned int op, void *arg,
			 unsigned int n)
{
	return syscall(__NR_io_uring_register, r->fd, op, arg, n) < 0 ?
	       -errno : 0;
}

int ring_buffer(struct ring *r, void *mem, size_t len)
{
	struct iovec iov = { mem, len };

	return ring_register(r, IORING_REGISTER_BUFFERS, &iov, 1);
}

int ring_no_buffers(struct ring *r)
{
	return ring_register(r, IORING_UNREGISTER_BUFFERS, NULL, 0);
}

int ring_slots(struct ring *r, unsigned int n)
{
	struct io_uring_rsrc_register reg = {
		.nr = n,
		.flags = IORING_RSRC_REGISTER_SPARSE,
	};

	return ring_register(r, IORING_REGISTER_BUFFERS2, &reg, sizeof(reg));
}

int ring_slot(struct ring *r, unsigned int i, void *mem, size_t len)
{
	struct iovec iov = { mem, len };
	struct io_uring_rsrc_update2 up = {
		.offset = i,
		.data = (uintptr_t)&iov,
		.nr = 1,
	};

	return ring_register(r, IORING_REGISTER_BUFFERS_UPDATE, &up, sizeof(up));
}

int ring_clone(struct ring *to, struct ring *from)
{
	struct io_uring_clone_buffers c = { .src_fd = from->fd };

	return ring_register(to, IORING_REGISTER_CLONE_BUFFERS, &c, 1);
}

int ring_provided(struct ring *r, int group, void *mem, long n)
{
	struct io_uring_buf_reg reg = {
		.ring_addr = (uintptr_t)mem,
		.ring_entries = n * PAGE / sizeof(struct io_uring_buf),
		.bgid = group,
	};

	return ring_register(r, IORING_REGISTER_PBUF_RING, &reg, 1);
}

int ring_not_provided(struct ring *r, int group)
{
	struct io_uring_buf_reg reg = { .bgid = group };

	return ring_register(r, IORING_UNREGISTER_PBUF_RING, &reg, 1);
}

int ring_submit(struct ring *r, int op, int fd, void *mem, size_t len, int wait)
{
	unsigned int *tail = (unsigned int *)(r->queues + r->p.sq_off.tail);
	unsigned int *array = (unsigned int *)(r->queues + r->p.sq_off.array);
	unsigned int at = *tail % RING_ENTRIES;

	r->sqes[at] = (struct io_uring_sqe) {
		.opcode = op,
		.fd = fd,
		.addr = (uintptr_t)mem,
		.len = len,
	};
	array[at] = at;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	if (syscall(__NR_io_uring_enter, r->fd, 1, wait,
		    wait ? IORING_ENTER_GETEVENTS : 0, NULL, 0) != 1)
		return -errno;
	return 0;
}

int ring_request(struct ring *r, int op, int fd, void *mem, size_t len)
{
	unsigned int *head = (unsigned int *)(r->queues + r->p.cq_off.head);
	struct io_uring_cqe *cqes = (void *)(r->queues + r->p.cq_off.cqes);
	int res;

	res = ring_submit(r, op, fd, mem, len, 1);
	if (res)
		return res;
	res = cqes[*head % r->p.cq_entries].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return res;
}

/* --- The user's counter ------------------------------------------------------- */

struct probe {
	uid_t uid;
	long used;
	bool so;
};

static void *try_a_page(void *arg)
{
	struct probe *p = arg;
	char *page = small_pages(PAGE);
	struct ring r;

	/* By system calls of their own, these are the thread's and not the process's */
	if (!page || syscall(SYS_setresuid, p->uid, 0, 0) ||
	    cap_drop(CAP_IPC_LOCK) || ring_open(&r))
		return NULL;
	p->so = !set_memlock((p->used + 1) * PAGE) &&
		!ring_buffer(&r, page, PAGE) && !ring_no_buffers(&r);
	/* Nothing is within a limit of 0, whatever else there is */
	if (p->so && p->used)
		p->so = !set_memlock(p->used * PAGE) &&
			ring_buffer(&r, page, PAGE) == -ENOMEM;
	ring_close(&r);
	munmap(page, PAGE);
	return NULL;
}

static bool has_holders(void *arg)
{
	static struct pins now;

	return !pins_supported() ||
	       (!pins_read(0, &now) && now.nr <= *(int *)arg);
}

bool user_has(uid_t uid, long used)
{
	struct probe p = { .uid = uid, .used = used };
	static struct pins before;
	struct rlimit was;
	pthread_t thread;

	if ((pins_supported() && pins_read(0, &before)) ||
	    getrlimit(RLIMIT_MEMLOCK, &was) ||
	    pthread_create(&thread, NULL, try_a_page, &p))
		return false;
	pthread_join(thread, NULL);
	set_memlock(was.rlim_cur);
	return wait_for(has_holders, &before.nr) && p.so;
}
