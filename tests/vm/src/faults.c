// SPDX-License-Identifier: GPL-2.0
/*
 * Each allocation of each operation is made to fail, one after the other, until
 * the operation comes through without (Documentation/fault-injection, fail-nth).
 * Whatever failed, everything is as before afterwards.
 */
#include <fcntl.h>

#include "kvm_lib.h"
#include "mdev_lib.h"
#include "test.h"

#define VICTIMS	4096	/* pages that somebody takes, to get one that was put */

#define N	48UL
#define SIZE	(N * PAGE)

FIXTURE(faults)
{
	struct vfio v, other;
	struct snap before;
	char uuid[UUID_SIZE];	/* of a mediated device, or empty */
	struct guest g;
	int caller;		/* of KVM, or -1 */
	char *mem;
	int nth;		/* failing_open() */
	int memfd;
};

FIXTURE_SETUP(faults)
{
	NEED_FAILING(self->nth);
	NEED_DEVICES(2U);
	self->v.fd = -1;
	self->other.fd = -1;
	self->g = (struct guest) { -1, -1, -1 };
	self->caller = -1;
	self->mem = anon_pages(SIZE);
	ASSERT_NE(NULL, self->mem);
	self->memfd = memfd_create("faults", MFD_CLOEXEC);
	ASSERT_LE(0, self->memfd);
	ASSERT_EQ(0, ftruncate(self->memfd, SIZE));
	ASSERT_EQ(0, snap(&self->before));
}

FIXTURE_TEARDOWN(faults)
{
	if (self->caller >= 0)
		close(self->caller);
	guest_close(&self->g);
	vfio_close(&self->other);
	vfio_close(&self->v);
	EXPECT_BACK(&self->before);
	if (*self->uuid)
		EXPECT_EQ(0, mdev_remove(self->uuid));
}

/*
 * prepare() sets the stage, act() is what fails, undo() is told whether it did.
 * Each returns 0 or -errno.
 */
struct sweep {
	int (*prepare)(FIXTURE_DATA(faults) *self);
	int (*act)(FIXTURE_DATA(faults) *self);
	int (*undo)(FIXTURE_DATA(faults) *self, int ret);
	bool never_fails;
};

static void sweep(struct __test_metadata *_metadata,
		  FIXTURE_DATA(faults) *self, const struct sweep *s)
{
	struct failing f = { .fd = self->nth };
	static struct snap start;
	int ret;

	ASSERT_EQ(0, snap(&start));
	while (FAILING_NEXT(&f)) {
		if (s->prepare)
			ASSERT_EQ(0, s->prepare(self)) TH_LOG("at %d", f.n);
		failing_arm(&f);
		ret = s->act(self);
		failing_disarm(&f, ret);
		if (s->never_fails)
			EXPECT_EQ(0, ret);
		EXPECT_EQ(0, s->undo(self, ret));
		EXPECT_BACK(&start);
	}
	EXPECT_FAILED_IN_TURN(&f, s->never_fails ? 0 : 1);
}

/* --- MAP_DMA ---------------------------------------------------------------- */

static int open_container(FIXTURE_DATA(faults) *self)
{
	return self->v.fd >= 0 ? 0 : vfio_open(&self->v, 0);
}

static int map_all(FIXTURE_DATA(faults) *self)
{
	return vfio_map(&self->v, self->mem, IOVA, SIZE, MAP_RW);
}

static int unmap_all(FIXTURE_DATA(faults) *self, int ret)
{
	long n = vfio_unmap_all(&self->v);

	if (n < 0)
		return n;
	return n == (ret ? 0 : (long)SIZE) ? 0 : -EIO;
}

/* A mapping that was there before stays, and so does its holder */
TEST_F(faults, map)
{
	static const struct sweep s = { NULL, map_all, unmap_all, false };

	ASSERT_EQ(0, open_container(self));
	sweep(_metadata, self, &s);
}

static int give_away(FIXTURE_DATA(faults) *self)
{
	return madvise(self->mem, SIZE, MADV_DONTNEED) ? -errno : 0;
}

/* The pages come with the pins, page tables and all */
TEST_F(faults, map_untouched)
{
	static const struct sweep s = { give_away, map_all, unmap_all, false };

	ASSERT_EQ(0, open_container(self));
	sweep(_metadata, self, &s);
}

/* Pages in another order than their addresses: an extent for each */
TEST_F(faults, map_scattered)
{
	static const struct sweep s = { NULL, map_all, unmap_all, false };
	unsigned long i, at = 0;

	self->mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
			 self->memfd, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->mem);
	for (i = 0; i < N; i++, at = (at + 29) % N)
		self->mem[at * PAGE] = i;
	ASSERT_EQ(0, open_container(self));
	sweep(_metadata, self, &s);
}

static void map_backing(struct __test_metadata *_metadata,
			FIXTURE_DATA(faults) *self, const char *name)
{
	static const struct sweep s = { NULL, map_all, unmap_all, false };
	struct area a;

	if (area_open(backing_find(name), &a, NULL, NULL))
		SKIP(return, "%s", a.why);
	self->mem = a.addr + 100 * PAGE;
	ASSERT_EQ(0, open_container(self));
	sweep(_metadata, self, &s);
	area_close(&a);
}

TEST_F(faults, map_thp)
{
	map_backing(_metadata, self, "thp");
}

TEST_F(faults, map_hugetlb)
{
	map_backing(_metadata, self, "hugetlb-2m");
}

/* Reserved pages, which count but are not charged */
TEST_F(faults, map_devdax)
{
	map_backing(_metadata, self, "devdax");
}

/* Memory without pages, which VFIO maps by itself */
TEST_F(faults, map_bar)
{
	static const struct sweep s = { NULL, map_all, unmap_all, false };

	ASSERT_EQ(0, vfio_open(&self->other, 1));
	ASSERT_LE(SIZE, self->other.dev[0].bar_size);
	self->mem = vfio_bar_map(&self->other.dev[0], NULL, NULL);
	ASSERT_NE(NULL, self->mem);
	ASSERT_EQ(0, open_container(self));
	sweep(_metadata, self, &s);
	munmap(self->mem, self->other.dev[0].bar_size);
}

static int to_movable(FIXTURE_DATA(faults) *self)
{
	int ret = give_away(self);

	if (!ret)
		memset(self->mem, 1, SIZE);
	return ret;
}

/* Pages that must be moved before they can be pinned */
TEST_F(faults, map_movable)
{
	static const struct sweep s = { to_movable, map_all, unmap_all, false };
	const char *node = getenv("USERPIN_MEM_NODE");

	if (!node)
		SKIP(return, "no movable memory, see USERPIN_MEM_NODE");
	ASSERT_EQ(0, bind_to_node(atoi(node), self->mem, SIZE));
	ASSERT_EQ(0, open_container(self));
	sweep(_metadata, self, &s);
}

static int map_refused(FIXTURE_DATA(faults) *self)
{
	int ret = vfio_map(&self->v, self->mem, IOVA, SIZE, MAP_RW);

	/* It must not succeed, and with no failure it has its own errno */
	return ret == -EOPNOTSUPP ? 0 : ret ? ret : -EIO;
}

static int nothing_mapped(FIXTURE_DATA(faults) *self,
			  int ret __attribute__((unused)))
{
	return vfio_unmap_all(&self->v) ? -EIO : 0;
}

/* The report of a refusal allocates, too */
TEST_F(faults, map_refused)
{
	static const struct sweep s = {
		NULL, map_refused, nothing_mapped, false
	};
	struct backing b = *backing_find("ext4-shared");
	struct area a;

	b.size = SIZE;
	if (area_open(&b, &a, NULL, NULL))
		SKIP(return, "%s", a.why);
	self->mem = a.addr;
	ASSERT_EQ(0, open_container(self));
	sweep(_metadata, self, &s);
	area_close(&a);
}

/* A holder that is there already, and memory that another one pins */
static int map_other(FIXTURE_DATA(faults) *self)
{
	return vfio_map(&self->v, self->mem, IOVA_FAR, SIZE, MAP_RW);
}

static int unmap_other(FIXTURE_DATA(faults) *self, int ret)
{
	long n = vfio_unmap(&self->v, IOVA_FAR, SIZE);

	return n == (ret ? 0 : (long)SIZE) ? 0 : -EIO;
}

TEST_F(faults, map_again)
{
	static const struct sweep s = { NULL, map_other, unmap_other, false };

	ASSERT_EQ(0, open_container(self));
	ASSERT_EQ(0, map_all(self));
	sweep(_metadata, self, &s);
	EXPECT_EQ(0, edu_check(&self->v.dev[0], self->mem, IOVA, SIZE));
	EXPECT_EQ(0, unmap_all(self, 0));
}

/* --- UNMAP_DMA -------------------------------------------------------------- */

static int unmap_one(FIXTURE_DATA(faults) *self)
{
	long n = vfio_unmap(&self->v, IOVA, SIZE);

	/* The arguments of the ioctl may fail to be read or to be written */
	if (n == (long)SIZE || n == -EFAULT)
		return 0;
	return n < 0 ? n : -EIO;
}

static int unmap_rest(FIXTURE_DATA(faults) *self, int ret)
{
	return vfio_unmap_all(&self->v) < 0 ? -EIO : ret;
}

static int nothing(FIXTURE_DATA(faults) *self __attribute__((unused)), int ret)
{
	return ret;
}

static int prepare_unmap(FIXTURE_DATA(faults) *self)
{
	int ret = open_container(self);

	return ret ? ret : map_all(self);
}

/* What is mapped can always be unmapped */
TEST_F(faults, unmap)
{
	static const struct sweep s = {
		prepare_unmap, unmap_one, unmap_rest, true
	};

	sweep(_metadata, self, &s);
}

static int prepare_tracked(FIXTURE_DATA(faults) *self)
{
	int ret = prepare_unmap(self);

	return ret ? ret : vfio_dirty(&self->v, true);
}

static int unmap_tracked(FIXTURE_DATA(faults) *self)
{
	static uint64_t bits;
	long n = vfio_unmap_dirty(&self->v, IOVA, SIZE, &bits);

	return n == (long)SIZE || n == -EFAULT ? 0 : n < 0 ? n : -EIO;
}

TEST_F(faults, unmap_with_dirty_bitmap)
{
	static const struct sweep s = {
		prepare_tracked, unmap_tracked, unmap_rest, true
	};

	sweep(_metadata, self, &s);
}

/* Not the device: ACPI uses memory after it was freed when it lacks some */
static int prepare_close(FIXTURE_DATA(faults) *self)
{
	int ret = prepare_unmap(self);

	if (!ret)
		vfio_stop(&self->v);
	return ret;
}

static int close_it(FIXTURE_DATA(faults) *self)
{
	vfio_close(&self->v);
	return 0;
}

TEST_F(faults, close_with_mappings)
{
	static const struct sweep s = { prepare_close, close_it, nothing, true };

	sweep(_metadata, self, &s);
}

/* --- The container ---------------------------------------------------------- */

static int open_it(FIXTURE_DATA(faults) *self)
{
	int ret = vfio_container(&self->v);

	return ret ? ret : vfio_attach(&self->v, 0);
}

static int closed(FIXTURE_DATA(faults) *self,
		  int ret __attribute__((unused)))
{
	vfio_close(&self->v);
	return 0;
}

TEST_F(faults, open)
{
	static const struct sweep s = { NULL, open_it, closed, false };

	sweep(_metadata, self, &s);
}

static int add_group(FIXTURE_DATA(faults) *self)
{
	return vfio_attach(&self->v, 1);
}

/* A second group comes to a container that has mappings */
TEST_F(faults, add_group)
{
	static const struct sweep s = {
		prepare_unmap, add_group, closed, false
	};

	sweep(_metadata, self, &s);
}

/* How many page tables of @v get a mapping of @mem */
static int domains(struct vfio *v, char *mem)
{
	struct iommu_pieces p;

	if (iommu_trace_start() ||
	    vfio_map(v, mem, IOVA_FAR, PAGE, MAP_RW) ||
	    vfio_unmap(v, IOVA_FAR, PAGE) != (long)PAGE)
		return -EIO;
	iommu_trace_stop(&p, IOVA_FAR, PAGE);
	return p.maps == p.unmaps ? p.maps : -EILSEQ;
}

/*
 * The second device joins @v, and the next allocation of @f fails meanwhile. How
 * many page tables there are then; 0 if it has not joined, or nothing failed
 */
static int join_failing(struct vfio *v, char *mem, struct failing *f)
{
	int ret;

	failing_arm(f);
	ret = vfio_attach(v, 1);
	failing_disarm(f, ret);
	if (ret)
		return 0;
	ret = vfio_start(v);
	if (ret)
		return ret;
	return f->injected ? domains(v, mem) : 0;
}

static void check_two_domains(struct __test_metadata *_metadata,
			      FIXTURE_DATA(faults) *self,
			      const struct snap *base)
{
	struct vfio_dev first;

	EXPECT_STATE(base, N, N, N);
	EXPECT_EQ(0, edu_check_once(&self->v.dev[0], self->mem, IOVA, SIZE));
	EXPECT_EQ(0, edu_check_once(&self->v.dev[1], self->mem, IOVA, SIZE));

	/* What is mapped now is in both, and pinned once */
	EXPECT_EQ(0, vfio_map(&self->v, self->mem, IOVA + SIZE, SIZE, MAP_RW));
	EXPECT_STATE(base, 2 * N, N, N);
	EXPECT_EQ(0, edu_check_once(&self->v.dev[1], self->mem, IOVA + SIZE,
				    SIZE));
	EXPECT_EQ((long)SIZE, vfio_unmap(&self->v, IOVA + SIZE, SIZE));
	EXPECT_STATE(base, N, N, N);

	/* The first page table goes with its device, and the pins stay */
	first = self->v.dev[0];
	self->v.dev[0] = self->v.dev[1];
	self->v.dev[1] = first;
	vfio_remove(&self->v);
	EXPECT_STATE(base, N, N, N);
	EXPECT_EQ(0, edu_check_once(&self->v.dev[0], self->mem, IOVA, SIZE));
	EXPECT_EQ((long)SIZE, vfio_unmap(&self->v, IOVA, SIZE));
	EXPECT_BACK(base);
}

/*
 * All devices here can share a page table, and then they do. When the second
 * device's attach to that of the first one fails, it gets one of its own, to
 * which all mappings are replayed.
 */
TEST_F(faults, two_domains)
{
	struct failing f = { .fd = self->nth };
	int found = 0, both;
	struct snap base;

	ASSERT_EQ(0, snap(&base));
	while (!found && FAILING_NEXT(&f)) {
		ASSERT_EQ(0, prepare_unmap(self)) TH_LOG("at %d", f.n);
		both = join_failing(&self->v, self->mem, &f);
		ASSERT_LE(0, both) TH_LOG("at %d", f.n);
		if (both == 2) {
			check_two_domains(_metadata, self, &base);
			found++;
		}
		vfio_close(&self->v);
		EXPECT_BACK(&base);
	}
	if (!found && file_exists("/sys/class/iommu/ivhd0"))
		SKIP(return, "AMD's IOMMU attaches to a page table without an allocation");
	EXPECT_LT(0, found) TH_LOG("no failure led to two page tables");
}

static int dirty_start(FIXTURE_DATA(faults) *self)
{
	return vfio_dirty(&self->v, true);
}

static int dirty_stop(FIXTURE_DATA(faults) *self,
		      int ret __attribute__((unused)))
{
	return vfio_dirty(&self->v, false);
}

TEST_F(faults, dirty_tracking)
{
	static const struct sweep s = { NULL, dirty_start, dirty_stop, false };

	ASSERT_EQ(0, prepare_unmap(self));
	sweep(_metadata, self, &s);
	EXPECT_EQ(0, unmap_all(self, 0));
}

static int map_tracked(FIXTURE_DATA(faults) *self)
{
	return map_other(self);
}

TEST_F(faults, map_with_dirty_tracking)
{
	static const struct sweep s = { NULL, map_tracked, unmap_other, false };

	ASSERT_EQ(0, prepare_unmap(self));
	ASSERT_EQ(0, vfio_dirty(&self->v, true));
	sweep(_metadata, self, &s);
	EXPECT_EQ(0, vfio_dirty(&self->v, false));
	EXPECT_EQ(0, unmap_all(self, 0));
}

/* --- Mediated devices -------------------------------------------------------- */

/* A container with one, which has a mapping with no pins yet */
static void open_mdev(struct __test_metadata *_metadata,
		      FIXTURE_DATA(faults) *self)
{
	ASSERT_TRUE(mdev_supported()) TH_LOG("pin_caller.ko is not loaded");
	ASSERT_EQ(0, mdev_create(self->uuid));
	ASSERT_EQ(0, vfio_open_mdev(&self->v, self->uuid));
	ASSERT_EQ(0, map_all(self));
}

static int mdev_pin(FIXTURE_DATA(faults) *self)
{
	int ret = pc_pin(self->v.dev[0].fd, IOVA, 8, PIN_CALLER_WRITE);

	return ret == 8 ? 0 : ret < 0 ? ret : -EIO;
}

static int mdev_unpin(FIXTURE_DATA(faults) *self, int ret)
{
	return ret ? 0 : pc_unpin(self->v.dev[0].fd, IOVA, 8);
}

TEST_F(faults, mdev_pin)
{
	static const struct sweep s = { NULL, mdev_pin, mdev_unpin, false };

	open_mdev(_metadata, self);
	sweep(_metadata, self, &s);
}

static int mdev_prepare_unpin(FIXTURE_DATA(faults) *self)
{
	return mdev_pin(self);
}

/* The arguments of the ioctl may fail to be read: then all is as before */
static int mdev_unpin_act(FIXTURE_DATA(faults) *self)
{
	int ret = pc_unpin(self->v.dev[0].fd, IOVA, 8);

	return ret == -EFAULT ? pc_unpin(self->v.dev[0].fd, IOVA, 8) : ret;
}

TEST_F(faults, mdev_unpin)
{
	static const struct sweep s = {
		mdev_prepare_unpin, mdev_unpin_act, nothing, true
	};

	open_mdev(_metadata, self);
	sweep(_metadata, self, &s);
}

static int join(FIXTURE_DATA(faults) *self)
{
	return vfio_attach(&self->v, 0);
}

static int leave(FIXTURE_DATA(faults) *self, int ret)
{
	if (!ret)
		vfio_remove(&self->v);
	return 0;
}

/* A real device joins, and all mappings are pinned and mapped for it */
TEST_F(faults, mdev_joined)
{
	static const struct sweep s = { NULL, join, leave, false };

	open_mdev(_metadata, self);
	ASSERT_EQ(0, map_other(self));
	ASSERT_EQ(0, mdev_pin(self));
	sweep(_metadata, self, &s);
	EXPECT_EQ(0, mdev_unpin(self, 0));
}

/* --- Live update ------------------------------------------------------------ */

/*
 * A child takes the mapping over while something fails in the child; the result
 * of the ioctl, and whether something failed, are the exit code.
 */
#define TAKEN		0
#define NOT_TAKEN	1
#define NO_FAILURE	2

static int take_over(FIXTURE_DATA(faults) *self, int n)
{
	int status, ret, nth;
	bool injected;
	pid_t pid;

	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid) {
		struct pins p;

		/* the file of this task, not that of its parent */
		nth = open("/proc/thread-self/fail-nth", O_RDWR);
		if (nth < 0)
			_exit(20);
		arm(nth, n);
		ret = vfio_vaddr_set(&self->v, self->mem, IOVA, SIZE);
		injected = disarm(nth);
		if (!injected && ret)
			_exit(21);
		if (pins_read(0, &p))
			_exit(22);
		if (p.charge != (ret ? 0 : (long)N) ||
		    p.held != (ret ? 0 : (long)N) ||
		    status_pages(0, "VmLck:") != p.charge)
			_exit(23);
		_exit(ret ? NOT_TAKEN : injected ? TAKEN : NO_FAILURE);
	}
	ret = reap(pid, &status);
	if (ret)
		return ret;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EIO;
}

TEST_F(faults, live_update)
{
	int n, code = TAKEN, failed = 0;
	struct snap base;

	self->mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
			 self->memfd, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->mem);
	memset(self->mem, 1, SIZE);
	ASSERT_EQ(0, open_container(self));
	ASSERT_EQ(0, snap(&base));
	for (n = 1; n < FAILING_MOST && code != NO_FAILURE; n++) {
		ASSERT_EQ(0, map_all(self));
		ASSERT_EQ(0, vfio_vaddr_drop(&self->v, IOVA, SIZE));
		code = take_over(self, n);
		ASSERT_LE(0, code);
		ASSERT_GE(NO_FAILURE, code) TH_LOG("at %d", n);
		if (code == NOT_TAKEN) {
			/* The old owner has all of it, as before */
			failed++;
			EXPECT_STATE(&base, N, N, N);
			EXPECT_EQ(0, vfio_vaddr_set(&self->v, self->mem, IOVA,
						    SIZE));
		}
		EXPECT_EQ((long)SIZE, vfio_unmap_all(&self->v));
		EXPECT_BACK(&base);
		if (_metadata->exit_code) {
			TH_LOG("failure %d", n);
			return;
		}
	}
	EXPECT_EQ(NO_FAILURE, code);
	EXPECT_LT(0, failed);
	TH_LOG("%d allocations, %d of them mattered", n - 2, failed);
}

/* --- KVM -------------------------------------------------------------------- */

static int kvm_map_page(FIXTURE_DATA(faults) *self)
{
	int ret = caller_map(self->caller, &self->g, GPA);

	return ret == 1 ? 0 : ret ?: -EPROTO;
}

/* EFAULT: the copy of the request failed */
static int kvm_unmap_page(FIXTURE_DATA(faults) *self, int ret)
{
	if (ret)
		return ret == -EINVAL || ret == -EFAULT ? 0 : ret;
	return caller_unmap(self->caller, KVM_CALLER_DIRTY);
}

/* kvm_vcpu_map() of a page that comes with the pin */
TEST_F(faults, kvm_map)
{
	static const struct sweep s = { give_away, kvm_map_page,
					kvm_unmap_page, false };

	self->caller = caller_open();
	ASSERT_LE(0, self->caller);
	ASSERT_EQ(0, guest_open(&self->g));
	ASSERT_EQ(0, guest_slot(&self->g, 0, GPA, self->mem, SIZE, false));
	sweep(_metadata, self, &s);
}

static int kvm_pin(FIXTURE_DATA(faults) *self)
{
	return caller_pin(self->caller, self->mem, SIZE);
}

static int kvm_put(FIXTURE_DATA(faults) *self, int ret)
{
	if (ret)
		return ret == -ENOMEM || ret == -EFAULT ? 0 : ret;
	return caller_put(self->caller, self->mem, SIZE);
}

/* A region, holder and all; the file is opened anew, so there is none yet */
static int kvm_reopen(FIXTURE_DATA(faults) *self)
{
	if (self->caller >= 0)
		close(self->caller);
	self->caller = caller_open();
	return self->caller < 0 ? self->caller : give_away(self);
}

TEST_F(faults, kvm_region)
{
	static const struct sweep s = { kvm_reopen, kvm_pin, kvm_put, false };

	sweep(_metadata, self, &s);
}

/* --- IOMMUs that fail to unmap: a VM of its own, as pages stay pinned for ever ----- */

FIXTURE(stuck)
{
	struct vfio v;
	char *mem;	/* two pages, at IOVA of both devices */
	int nth;	/* failing_open() */
};

FIXTURE_SETUP(stuck)
{
	NEED_FAILING(self->nth);
	if (file_exists("/sys/class/iommu/dmar0") ||
	    file_exists("/sys/class/iommu/ivhd0"))
		SKIP(return, "this IOMMU unmaps without an allocation");
	NEED_DEVICES(2U);
	self->v.fd = -1;
	self->mem = small_pages(2 * PAGE);
	ASSERT_NE(NULL, self->mem);
}

FIXTURE_TEARDOWN(stuck)
{
	vfio_close(&self->v);
}

/* Does what device @which writes to @iova come to @page? */
static bool reaches(FIXTURE_DATA(stuck) *self, int which, char *page,
		    uint64_t iova)
{
	static unsigned int seed = 5000;

	fill(self->mem, EDU_LEN, ++seed);
	memset(page, 0, EDU_LEN);
	return !edu_copy(&self->v.dev[which], iova, IOVA, EDU_LEN) &&
	       filled(page, EDU_LEN, seed);
}

/* Each device gets a page table of its own, as in two_domains */
static int open_apart(FIXTURE_DATA(stuck) *self)
{
	struct failing f = { .fd = self->nth };
	int ret;

	while (failing_next(&f)) {
		ret = vfio_open(&self->v, 0) ?:
		      vfio_map(&self->v, self->mem, IOVA, 2 * PAGE, MAP_RW);
		if (ret)
			return ret;
		ret = join_failing(&self->v, self->mem, &f);
		if (ret == 2)
			return 0;
		if (ret < 0)
			return ret;
		vfio_close(&self->v);
	}
	return -ENOENT;
}

/*
 * Each allocation of an unmap fails in turn. If that is one of an IOMMU, its device
 * still reaches the page: then it stays pinned and charged. The other IOMMU unmaps.
 */
TEST_F(stuck, pages_that_an_iommu_keeps_stay_pinned)
{
	uint64_t iova = IOVA + 2 * PAGE, pfn[3] = {};
	struct failing f = { .fd = self->nth };
	int n, i, kept = 0, kept_by[2] = {};
	struct snap base;
	bool reach[2];
	long ret;
	char *page;

	ASSERT_EQ(0, run_on(0));
	ASSERT_EQ(0, open_apart(self));
	ASSERT_EQ(0, snap(&base));
	for (; FAILING_NEXT(&f); iova += PAGE) {
		page = small_pages(PAGE);
		ASSERT_NE(NULL, page);
		ASSERT_EQ(0, vfio_map(&self->v, page, iova, PAGE, MAP_RW));
		EXPECT_TRUE(reaches(self, 0, page, iova));
		EXPECT_TRUE(reaches(self, 1, page, iova));

		failing_arm(&f);
		ret = vfio_unmap(&self->v, iova, PAGE);
		failing_disarm(&f, ret < 0 ? ret : 0);
		/* The ioctl may have failed to read its arguments */
		vfio_unmap(&self->v, iova, PAGE);

		for (i = 0; i < 2; i++) {
			reach[i] = reaches(self, i, page, iova);
			kept_by[i] += reach[i];
		}
		EXPECT_FALSE(reach[0] && reach[1]);
		if (reach[0] || reach[1]) {
			ASSERT_GT(ARRAY_SIZE(pfn), (size_t)kept);
			pfn[kept++] = pfn_of(page);
		}
		EXPECT_STATE(&base, kept, kept, kept);
		munmap(page, PAGE);
	}
	EXPECT_EQ(1, kept_by[0]);
	EXPECT_EQ(1, kept_by[1]);

	/* Nobody else gets them, also when the container is closed */
	vfio_close(&self->v);
	page = small_pages(VICTIMS * PAGE);
	ASSERT_NE(NULL, page);
	for (i = 0; i < VICTIMS; i++) {
		page[i * PAGE] = 2;
		for (n = 0; n < kept; n++) {
			EXPECT_NE(pfn[n], pfn_of(page + i * PAGE));
		}
	}
}

TEST_HARNESS_MAIN
