// SPDX-License-Identifier: GPL-2.0
/*
 * Nested guests: each VMLOAD, VMRUN, exit and VMSAVE of L1 maps the VMCB by
 * kvm_vcpu_map(). On the library of KVM's selftests, which can build a guest.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>

#include "kvm_util.h"
#include "processor.h"
#include "svm_util.h"
#include "test_util.h"

#include "test.h"

#define FOREVER		(~0UL)
#define VMMCALL_LEN	3

/* Maps for each time that L2 is entered: VMLOAD, VMRUN, the exit, VMSAVE */
#define MAPS		4

static void l2_code(void)
{
	for (;;)
		vmmcall();
}

/*
 * Enters L2 @times times, and writes a page of data each time. The VMCB may
 * vanish meanwhile, so it is set up again when L2 could not be entered. Tells
 * how often.
 */
static void l1_code(struct svm_test_data *svm, uint64_t times,
		    volatile uint64_t *data)
{
	unsigned long stack[64];
	uint64_t i, again = 0;

	generic_svm_setup(svm, l2_code, &stack[64]);
	for (i = 0; i < times; i++) {
		run_guest(svm->vmcb, svm->vmcb_gpa);
		*data = i;
		if (svm->vmcb->control.exit_code == SVM_EXIT_VMMCALL) {
			svm->vmcb->save.rip += VMMCALL_LEN;
			continue;
		}
		generic_svm_setup(svm, l2_code, &stack[64]);
		again++;
	}
	GUEST_SYNC(again);
	GUEST_DONE();
}

struct nested {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	char *vmcb;		/* the page, here */
	char *data;
	pthread_t thread;
	volatile bool stop;
	int stopped;		/* why the thread did: 0, or errno of KVM_RUN */
	uint64_t again;		/* what L1 told */
};

static void nested_create(struct nested *n, uint64_t times)
{
	struct svm_test_data *svm;
	vm_vaddr_t svm_gva, data;

	memset(n, 0, sizeof(*n));
	/* The guest's code is loaded from there */
	program_invocation_name = "/proc/self/exe";
	n->vm = vm_create_with_one_vcpu(&n->vcpu, l1_code);
	svm = vcpu_alloc_svm(n->vm, &svm_gva);
	data = vm_vaddr_alloc_page(n->vm);
	vcpu_args_set(n->vcpu, 3, svm_gva, times, data);
	n->vmcb = svm->vmcb_hva;
	n->data = addr_gva2hva(n->vm, data);
}

/* Until L1 is done (0), or cannot go on: -errno */
static int nested_run(struct nested *n)
{
	struct ucall uc;

	while (!n->stop) {
		if (__vcpu_run(n->vcpu)) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (n->vcpu->run->exit_reason != KVM_EXIT_IO)
			return -EPROTO;
		switch (get_ucall(n->vcpu, &uc)) {
		case UCALL_SYNC:
			n->again = uc.args[1];
			break;
		case UCALL_DONE:
			return 0;
		default:
			return -EPROTO;
		}
	}
	return -EINTR;
}

static void *nested_thread(void *arg)
{
	struct nested *n = arg;

	n->stopped = nested_run(n);
	return NULL;
}

static void kick(int sig)
{
	(void)sig;
}

static int nested_start(struct nested *n)
{
	struct sigaction act = { .sa_handler = kick };

	sigaction(SIGUSR1, &act, NULL);
	return -pthread_create(&n->thread, NULL, nested_thread, n);
}

static void nested_stop(struct nested *n)
{
	n->stop = true;
	n->vcpu->run->immediate_exit = 1;
	pthread_kill(n->thread, SIGUSR1);
	pthread_join(n->thread, NULL);
}

static long acquired(void)
{
	return vmstat("nr_foll_pin_acquired");
}

struct more {
	long since, count;
};

static bool acquired_more(void *arg)
{
	struct more *m = arg;

	return acquired() - m->since >= m->count;
}

/* Has the guest mapped so many pages since? */
static bool runs(long since, long count)
{
	struct more m = { since, count };

	return wait_for(acquired_more, &m);
}

FIXTURE(kvm_nested)
{
	struct snap before;
	struct nested n;
};

FIXTURE_SETUP(kvm_nested)
{
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_SVM));
	ASSERT_TRUE(pins_supported());
	ASSERT_EQ(0, snap(&self->before));
}

FIXTURE_TEARDOWN(kvm_nested)
{
	if (self->n.vm)
		kvm_vm_free(self->n.vm);
	EXPECT_BACK(&self->before);
}

/* --- All that was pinned is put ------------------------------------------------- */

/* 100,000 times; on the slow debug kernel, a tenth of that */
TEST_F(kvm_nested, balance_of_100000_vmruns)
{
	const char *flavour = getenv("USERPIN_FLAVOUR");
	const long times = flavour && strstr(flavour, "debug") ? 10000 : 100000;
	long start = acquired();

	nested_create(&self->n, times);
	ASSERT_EQ(0, nested_run(&self->n));
	EXPECT_EQ(0, self->n.again);
	EXPECT_LE(MAPS * times, acquired() - start)
		TH_LOG("maps are not pinned");
	EXPECT_GT(MAPS * times + 1000, acquired() - start);
	EXPECT_BACK(&self->before);
}

TEST_F(kvm_nested, killed_mid_way)
{
	int i, status;

	for (i = 0; i < 10 && !_metadata->exit_code; i++) {
		long start = acquired();
		pid_t pid = fork();

		ASSERT_LE(0, pid);
		if (!pid) {
			nested_create(&self->n, FOREVER);
			nested_run(&self->n);
			_exit(1);
		}
		EXPECT_TRUE(runs(start, 200));
		sleep_ms(i * 7);
		kill(pid, SIGKILL);
		ASSERT_EQ(0, reap(pid, &status));
		EXPECT_TRUE(WIFSIGNALED(status));
		EXPECT_BACK(&self->before);
	}
}

/* --- The VMCB is a page of a file ------------------------------------------------ */

static int map_file(struct nested *n, const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || ftruncate(fd, PAGE) ||
	    mmap(n->vmcb, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		 fd, 0) == MAP_FAILED)
		return -errno;
	return fd;
}

/*
 * What was written by the last exits is on the disk, though it is written back
 * all the while
 */
static void vmcb_on_file(struct __test_metadata *_metadata,
			 FIXTURE_DATA(kvm_nested) *self, const char *where)
{
	const char *dir = getenv(where);
	char path[256];
	long start, syncs = 0;
	void *page;
	int fd;

	ASSERT_NE(NULL, dir);
	snprintf(path, sizeof(path), "%s/vmcb", dir);
	nested_create(&self->n, FOREVER);
	fd = map_file(&self->n, path);
	ASSERT_LE(0, fd);
	start = acquired();
	ASSERT_EQ(0, nested_start(&self->n));
	while (acquired() - start < 4000) {
		ASSERT_EQ(0, fsync(fd));
		syncs++;
		ASSERT_EQ(0, self->n.stopped) TH_LOG("the guest has stopped");
	}
	nested_stop(&self->n);
	EXPECT_EQ(-EINTR, self->n.stopped);
	TH_LOG("%ld syncs", syncs);

	ASSERT_EQ(0, fsync(fd));
	close(fd);
	fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	ASSERT_LE(0, fd);
	page = aligned_alloc(PAGE, PAGE);
	ASSERT_NE(NULL, page);
	ASSERT_EQ((ssize_t)PAGE, pread(fd, page, PAGE, 0));
	EXPECT_EQ(0, memcmp(page, self->n.vmcb, PAGE))
		TH_LOG("the disk has an older VMCB");
	free(page);
	close(fd);
	unlink(path);
}

TEST_F(kvm_nested, vmcb_on_ext4)
{
	vmcb_on_file(_metadata, self, "USERPIN_EXT4");
}

TEST_F(kvm_nested, vmcb_on_xfs)
{
	vmcb_on_file(_metadata, self, "USERPIN_XFS");
}

TEST_F(kvm_nested, vmcb_on_fsdax)
{
	vmcb_on_file(_metadata, self, "USERPIN_DAX_EXT4");
}

/* --- Memory vanishes while vCPUs run --------------------------------------------- */

/*
 * @go is done to the VMCB and to a page that L1 writes, again and again. A guest
 * that survives it is to go on; one that does not is started anew.
 */
static void vanish(struct __test_metadata *_metadata,
		   FIXTURE_DATA(kvm_nested) *self,
		   int (*go)(struct nested *n, char *page), bool survives)
{
	int round, i;

	for (round = 0; round < (survives ? 2 : 6); round++) {
		long start = acquired();

		nested_create(&self->n, FOREVER);
		ASSERT_EQ(0, nested_start(&self->n));
		ASSERT_TRUE(runs(start, 100)) TH_LOG("the guest does not run");
		for (i = 0; i < (survives ? 40 : 1) && !_metadata->exit_code;
		     i++) {
			EXPECT_EQ(0, go(&self->n, self->n.vmcb));
			if (survives) {
				EXPECT_TRUE(runs(acquired(), 3))
					TH_LOG("the guest has stopped: %d",
					       self->n.stopped);
			}
			EXPECT_EQ(0, go(&self->n, self->n.data));
		}
		if (!survives)
			sleep_ms(50);
		nested_stop(&self->n);
		if (survives)
			EXPECT_EQ(-EINTR, self->n.stopped);
		kvm_vm_free(self->n.vm);
		self->n.vm = NULL;
		EXPECT_BACK(&self->before);
		if (_metadata->exit_code)
			return;
	}
}

static int go_dontneed(struct nested *n, char *page)
{
	(void)n;
	return madvise(page, PAGE, MADV_DONTNEED) ? -errno : 0;
}

TEST_F(kvm_nested, dontneed)
{
	vanish(_metadata, self, go_dontneed, true);
}

/* Another page of another kind in its place */
static int go_tmpfs(struct nested *n, char *page)
{
	int fd = memfd_create("vmcb", MFD_CLOEXEC);

	(void)n;
	if (fd < 0 || ftruncate(fd, PAGE) ||
	    mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
		 0) == MAP_FAILED)
		return -errno;
	close(fd);
	return madvise(page, PAGE, MADV_REMOVE) ? -errno : 0;
}

TEST_F(kvm_nested, remove_and_remap)
{
	vanish(_metadata, self, go_tmpfs, true);
}

static int go_migrate(struct nested *n, char *page)
{
	long ret = move_to(page, 1, PAGE, !node_of(page));

	(void)n;
	/* A page that is mapped at the moment stays */
	return ret < 0 ? ret : 0;
}

TEST_F(kvm_nested, migration)
{
	long before = vmstat("pgmigrate_success");

	vanish(_metadata, self, go_migrate, true);
	EXPECT_LT(before, vmstat("pgmigrate_success"))
		TH_LOG("nothing was moved, so this shows nothing");
}

static long full_scans(void)
{
	return read_long(KSM "/full_scans", 0);
}

static bool scanned(void *since)
{
	return full_scans() > *(long *)since + 1;
}

/* A twin of the page as it is now: ksmd has something to merge, and has seen it */
static int go_merge(struct nested *n, char *page)
{
	static char *twin;
	long since;

	(void)n;
	if (!twin)
		twin = anon_pages(PAGE);
	memcpy(twin, page, PAGE);
	if (madvise(twin, PAGE, MADV_MERGEABLE) ||
	    madvise(page, PAGE, MADV_MERGEABLE))
		return -errno;
	since = full_scans();
	return wait_for(scanned, &since) ? 0 : -ETIMEDOUT;
}

TEST_F(kvm_nested, ksm)
{
	ASSERT_EQ(0, ksm_start());
	vanish(_metadata, self, go_merge, true);
	EXPECT_EQ(0, write_text(KSM "/run", "2"));
}

static int go_unmap(struct nested *n, char *page)
{
	(void)n;
	return munmap(page, PAGE) ? -errno : 0;
}

TEST_F(kvm_nested, munmap)
{
	vanish(_metadata, self, go_unmap, false);
}

static void ignore(int sig)
{
	(void)sig;
}

static int go_poison(struct nested *n, char *page)
{
	(void)n;
	signal(SIGBUS, ignore);
	return madvise(page, PAGE, MADV_HWPOISON) ? -errno : 0;
}

TEST_F(kvm_nested, poison)
{
	vanish(_metadata, self, go_poison, false);
}

TEST_HARNESS_MAIN
