/* SPDX-License-Identifier: GPL-2.0 */
/*
 * io_uring by system calls alone: rings and what they pin. All that fails returns -errno.
 */
#ifndef USERPIN_IO_URING_LIB_H
#define USERPIN_IO_URING_LIB_H

#include <linux/io_uring.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define RING_ENTRIES	64	/* its queues take a page each */

struct ring {
	int fd;
	struct io_uring_params p;
	char *queues;			/* mapped */
	size_t size;
	struct io_uring_sqe *sqes;
};

/* A ring whose queues the kernel allocates; one whose queues are at @mem, two pages */
int ring_open(struct ring *r);
int ring_open_at(struct ring *r, char *mem);
void ring_close(struct ring *r);

/* A buffer; room for @n buffers, and what comes there; all of another ring's */
int ring_buffer(struct ring *r, void *mem, size_t len);
int ring_no_buffers(struct ring *r);
int ring_slots(struct ring *r, unsigned int n);
int ring_slot(struct ring *r, unsigned int i, void *mem, size_t len);
int ring_clone(struct ring *to, struct ring *from);

/* A ring of provided buffers at @mem, @n pages: a power of 2, at most 128 */
int ring_provided(struct ring *r, int group, void *mem, long n);
int ring_not_provided(struct ring *r, int group);

/* One request, which ends when it likes, unless one is waited for */
int ring_submit(struct ring *r, int op, int fd, void *mem, size_t len, int wait);
/* One request with buffer 0, and its result */
int ring_request(struct ring *r, int op, int fd, void *mem, size_t len);

/*
 * Has the user @used locked pages? No file shows it: with a limit of so many, one page
 * more is refused (one line in the log, unless it is 0), and with one more it is not.
 */
bool user_has(uid_t uid, long used);

#endif
