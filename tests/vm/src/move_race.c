// SPDX-License-Identifier: GPL-2.0
/*
 * Two containers map the same movable memory at once, while direct I/O reads
 * into it: each page has to move before it can be pinned, and cannot while
 * somebody else has a reference to it. Says how many maps failed, and how often
 * a page could not be moved. Runs on a stock kernel, too.
 */
#include <fcntl.h>
#include <pthread.h>

#include "test.h"

#define ROUNDS	120
#define SIZE	(8 * MB)
#define CHUNK	(64 * KB)

struct mapper {
	struct vfio v;
	pthread_barrier_t *start;
	char *mem;
	int ret;
};

static void *map_all(void *arg)
{
	struct mapper *m = arg;

	pthread_barrier_wait(m->start);
	m->ret = vfio_map(&m->v, m->mem, IOVA, SIZE, MAP_RW);
	return NULL;
}

struct reader {
	pthread_barrier_t *start;
	char *mem;
	int fd;
	volatile bool stop;
	long reads;
	int error;
};

static void *read_all(void *arg)
{
	struct reader *r = arg;
	size_t at;

	pthread_barrier_wait(r->start);
	while (!r->stop) {
		for (at = 0; at < SIZE && !r->stop; at += CHUNK, r->reads++)
			if (pread(r->fd, r->mem + at, CHUNK, at) !=
			    (ssize_t)CHUNK)
				r->error = errno ?: EIO;
	}
	return NULL;
}

/* A file of SIZE for direct I/O, filled; or -errno */
static int direct_file(const char *dir)
{
	char path[256], *text = small_pages(SIZE);
	int fd;

	if (!dir || !text)
		return -ENOENT;
	fill(text, SIZE, 1);
	snprintf(path, sizeof(path), "%s/move_race", dir);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	unlink(path);
	if (pwrite(fd, text, SIZE, 0) != (ssize_t)SIZE)
		return -EIO;
	munmap(text, SIZE);
	return fd;
}

TEST(maps_of_movable_memory)
{
	const char *node = getenv("USERPIN_MEM_NODE");
	long fails = vmstat("pgmigrate_fail"), moves = vmstat("pgmigrate_success");
	struct mapper m[2] = { 0 };
	struct reader r = { 0 };
	pthread_barrier_t start;
	pthread_t thread[3];
	long refused = 0;
	int round, i;

	ASSERT_NE(NULL, node);
	ASSERT_LE(2U, vfio_count());
	r.fd = direct_file(getenv("USERPIN_EXT4"));
	ASSERT_LE(0, r.fd);
	r.start = &start;
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, vfio_open(&m[i].v, i));
		m[i].start = &start;
	}

	for (round = 0; round < ROUNDS; round++) {
		char *mem = small_pages(SIZE);

		ASSERT_NE(NULL, mem);
		ASSERT_EQ(0, bind_to_node(atoi(node), mem, SIZE));
		fill(mem, SIZE, 1);
		r.mem = mem;
		r.stop = false;
		ASSERT_EQ(0, pthread_barrier_init(&start, NULL, 3));
		ASSERT_EQ(0, pthread_create(&thread[2], NULL, read_all, &r));
		for (i = 0; i < 2; i++) {
			m[i].mem = mem;
			ASSERT_EQ(0, pthread_create(&thread[i], NULL, map_all,
						    &m[i]));
		}
		for (i = 0; i < 2; i++) {
			ASSERT_EQ(0, pthread_join(thread[i], NULL));
		}
		r.stop = true;
		ASSERT_EQ(0, pthread_join(thread[2], NULL));
		ASSERT_TRUE(filled(mem, SIZE, 1));
		for (i = 0; i < 2; i++) {
			refused += !!m[i].ret;
			ASSERT_EQ(m[i].ret ? 0 : (long)SIZE,
				  vfio_unmap_all(&m[i].v));
		}
		munmap(mem, SIZE);
	}
	TH_LOG("%d maps: %ld failed; pages: %ld moved, %ld times not; %ld reads",
	       2 * ROUNDS, refused, vmstat("pgmigrate_success") - moves,
	       vmstat("pgmigrate_fail") - fails, r.reads);
	EXPECT_EQ(0, refused);
	EXPECT_EQ(0, r.error);
	for (i = 0; i < 2; i++)
		vfio_close(&m[i].v);
}

TEST_HARNESS_MAIN
