// SPDX-License-Identifier: GPL-2.0
/*
 * Eight threads map and unmap on two containers, others open, read and change
 * what they map. At the end nothing is left.
 *
 *	stress [seconds] [options of the harness]
 */
#include <pthread.h>

#include "test.h"

#define THREADS		8
#define WINDOW		GB	/* of IOVA, for each thread */
#define MAX_PAGES	600	/* of one map */
#define MAX_MAPS	6	/* of one thread at a time */

static unsigned int seconds = 10;

struct shared {
	struct vfio v[2];
	struct area area[8];
	const struct backing *kind[8];
	unsigned int areas;
	volatile bool stop;
};

struct worker {
	pthread_t thread;
	struct shared *all;
	unsigned int id;
	unsigned int seed;
	unsigned long maps, refused;
	char error[200];
};

static unsigned int pick(struct worker *w, unsigned int n)
{
	return rand_r(&w->seed) % n;
}

/* Map a part of one of the areas; the error that comes must be the right one */
static bool map_some(struct worker *w, struct vfio *v, uint64_t iova,
		     size_t *size)
{
	unsigned int which = pick(w, w->all->areas);
	const struct backing *b = w->all->kind[which];
	struct area *a = &w->all->area[which];
	size_t pages = a->size / PAGE, n = 1 + pick(w, MAX_PAGES), at;
	unsigned int flags = pick(w, 4) ? MAP_RW : MAP_R;
	int ret, want = -b->err;

	/* A device that only reads may read files */
	if (flags == MAP_R)
		want = 0;
	if (n > pages)
		n = pages;
	at = pick(w, pages - n + 1);
	ret = vfio_map(v, a->addr + at * PAGE, iova, n * PAGE, flags);
	if (ret == want) {
		w->maps += !ret;
		w->refused += !!ret;
		*size = ret ? 0 : n * PAGE;
		return true;
	}
	snprintf(w->error, sizeof(w->error), "map of %s, %zu pages: %s",
		 b->name, n, strerror(-ret));
	return false;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct vfio *v = &w->all->v[w->id % 2];
	uint64_t base = IOVA_FAR + w->id * WINDOW;
	size_t size[MAX_MAPS] = {};
	unsigned int slot;
	long ret;

	while (!w->all->stop && !*w->error) {
		uint64_t iova;

		slot = pick(w, MAX_MAPS);
		iova = base + slot * MAX_PAGES * PAGE;
		if (!size[slot]) {
			map_some(w, v, iova, &size[slot]);
			continue;
		}
		ret = vfio_unmap(v, iova, size[slot]);
		if (ret != (long)size[slot])
			snprintf(w->error, sizeof(w->error),
				 "unmap of %zu: %ld", size[slot], ret);
		size[slot] = 0;
	}
	/* Half of them leave their mappings to the end of the container */
	for (slot = 0; slot < MAX_MAPS && w->id % 4 < 2; slot++)
		if (size[slot])
			vfio_unmap(v, base + slot * MAX_PAGES * PAGE,
				   size[slot]);
	return NULL;
}

/* Split and merge large folios, as far as pins allow it */
static void change_folios(struct worker *w, struct area *a)
{
	char *at = a->addr + pick(w, a->size / (2 * MB)) * 2 * MB, text[96];

	switch (pick(w, 4)) {
	case 0:
		snprintf(text, sizeof(text), "%d,0x%lx,0x%lx", getpid(),
			 (unsigned long)at, (unsigned long)at + 2 * MB);
		write_text("/sys/kernel/debug/split_huge_pages", text);
		break;
	case 1:
		madvise(at, 2 * MB, MADV_COLLAPSE);
		break;
	case 2:
		madvise(at, 2 * MB, MADV_DONTNEED);
		break;
	default:
		madvise(at + pick(w, 512) * PAGE, PAGE, MADV_DONTNEED);
	}
}

/* Give addresses other pages under the feet of those who map */
static void *disturb(void *arg)
{
	struct worker *w = arg;

	while (!w->all->stop) {
		unsigned int which = pick(w, w->all->areas);
		struct area *a = &w->all->area[which];
		char *at = a->addr + pick(w, a->size / PAGE) * PAGE;

		switch (w->all->kind[which]->kind) {
		case ANON:
			madvise(at, PAGE, MADV_DONTNEED);
			break;
		case MEMFD:
			madvise(at, PAGE, MADV_REMOVE);
			break;
		case THP:
			change_folios(w, a);
			break;
		default:
			continue;
		}
		w->maps++;
		sleep_ms(1);
	}
	return NULL;
}

/* The third device's container is opened, used, and closed with mappings */
static void *reopen(void *arg)
{
	struct worker *w = arg;
	struct vfio v;
	size_t size;
	int ret, i;

	while (!w->all->stop && !*w->error) {
		ret = vfio_open(&v, 2);
		if (ret) {
			snprintf(w->error, sizeof(w->error), "open: %s",
				 strerror(-ret));
			break;
		}
		for (i = 0; i < MAX_MAPS; i++)
			map_some(w, &v, IOVA_FAR + i * MAX_PAGES * PAGE, &size);
		vfio_close(&v);
	}
	return NULL;
}

/* Whoever looks at any time finds that no more is charged than is held */
static void *look(void *arg)
{
	struct worker *w = arg;
	struct pins *p = malloc(sizeof(*p));
	int ret;

	while (p && !w->all->stop && !*w->error) {
		ret = pins_read(0, p);
		if (ret)
			snprintf(w->error, sizeof(w->error), "longterm_pins: %s",
				 strerror(-ret));
		/* The holders' lines are of other moments than these two */
		else if (p->charge > p->held)
			snprintf(w->error, sizeof(w->error),
				 "pages %ld, charge %ld, held %ld",
				 pins_pages(p), p->charge, p->held);
		ret = pins_read_all(p);
		if (ret && !*w->error)
			snprintf(w->error, sizeof(w->error), "the list: %s",
				 strerror(-ret));
		w->maps++;
		sleep_ms(2);
	}
	free(p);
	return NULL;
}

struct workers {
	struct worker *w;
	unsigned int n;
};

static bool all_worked(void *arg)
{
	struct workers *all = arg;
	unsigned int i;

	for (i = 0; i < all->n; i++)
		if (!all->w[i].maps && !*all->w[i].error)
			return false;
	return true;
}

TEST(threads)
{
	static const char *const names[] = {
		"anon-4k", "thp", "hugetlb-2m", "memfd", "ext4-private",
		"ext4-shared", "dax-ext4-private",
	};
	static struct shared all;
	static struct snap before;
	void *(*role[])(void *) = { disturb, look, reopen };
	struct worker w[THREADS + 3] = {};
	struct workers workers = { .w = w };
	unsigned long maps = 0, refused = 0;
	unsigned int i, n;

	NEED_DEVICES(2U);
	ASSERT_EQ(0, snap(&before));
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		struct backing *big = malloc(sizeof(*big));

		*big = *backing_find(names[i]);
		if (big->size < 4 * MB)
			big->size = 4 * MB;
		all.kind[all.areas] = big;
		if (area_open(big, &all.area[all.areas], NULL, NULL))
			TH_LOG("without %s: %s", names[i],
			       all.area[all.areas].why);
		else
			all.areas++;
	}
	ASSERT_LE(2U, all.areas);
	ASSERT_EQ(0, vfio_open(&all.v[0], 0));
	ASSERT_EQ(0, vfio_open(&all.v[1], 1));
	n = THREADS + (vfio_count() > 2 ? 3 : 2);
	for (i = 0; i < n; i++) {
		w[i].all = &all;
		w[i].id = i;
		w[i].seed = 1000 + i;
		ASSERT_EQ(0, pthread_create(&w[i].thread, NULL,
					    i < THREADS ? work :
					    role[i - THREADS], &w[i]));
	}
	sleep_ms(seconds * 1000);
	workers.n = n;
	EXPECT_TRUE(wait_for(all_worked, &workers));
	all.stop = true;
	for (i = 0; i < n; i++) {
		pthread_join(w[i].thread, NULL);
		EXPECT_STREQ("", w[i].error) TH_LOG("thread %u", i);
		EXPECT_LT(0UL, w[i].maps)
			TH_LOG("thread %u did nothing", i);
		if (i < THREADS) {
			maps += w[i].maps;
			refused += w[i].refused;
		}
	}
	TH_LOG("%lu maps and %lu refusals in %u s", maps, refused, seconds);
	EXPECT_GT(vfio_unmap_all(&all.v[0]) + vfio_unmap_all(&all.v[1]), -1L);
	EXPECT_BACK(&before);
	vfio_close(&all.v[0]);
	vfio_close(&all.v[1]);
	for (i = 0; i < all.areas; i++)
		area_close(&all.area[i]);
	EXPECT_BACK(&before);
}

int main(int argc, char **argv)
{
	if (argc > 1 && atoi(argv[1]) > 0) {
		seconds = atoi(argv[1]);
		argv[1] = argv[0];
		argc--;
		argv++;
	}
	return test_harness_run(argc, argv);
}
