// SPDX-License-Identifier: GPL-2.0
/*
 * Memory regions of RDMA: what ib_umem_get() pins comes back, whatever ends the
 * region or keeps it from being made, and what the device wrote is not lost.
 * tests/vm/with_rxe sets the device up, soft RoCE, which pins as adapters do.
 */
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <linux/capability.h>
#include <signal.h>

#include "test.h"

#define DEVICE		"rxe0"

#define SIZE		(64 * MB)
#define N		((long)(SIZE / PAGE))
#define ACCESS_RW	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE)

/* --- Verbs ------------------------------------------------------------------ */

/* One end of a connection: a process and its queue pair. 0 or -errno. */
struct end {
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	struct ibv_comp_channel *events;
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	union ibv_gid gid;
	int gid_index;
};

/* The GID of an IPv4 address; a worker of the kernel adds it when it is set */
static bool find_gid(void *arg)
{
	static const uint8_t ipv4[12] = { [10] = 0xff, [11] = 0xff };
	struct ibv_port_attr port;
	struct end *e = arg;
	int i;

	if (ibv_query_port(e->ctx, 1, &port))
		return false;
	for (i = 0; i < port.gid_tbl_len; i++) {
		if (ibv_query_gid(e->ctx, 1, i, &e->gid) ||
		    memcmp(e->gid.raw, ipv4, sizeof(ipv4)))
			continue;
		e->gid_index = i;
		return true;
	}
	return false;
}

static void end_close(struct end *e)
{
	if (e->qp)
		ibv_destroy_qp(e->qp);
	if (e->cq)
		ibv_destroy_cq(e->cq);
	if (e->events)
		ibv_destroy_comp_channel(e->events);
	if (e->pd)
		ibv_dealloc_pd(e->pd);
	if (e->ctx)
		ibv_close_device(e->ctx);
	memset(e, 0, sizeof(*e));
}

static int end_open(struct end *e)
{
	struct ibv_qp_init_attr init = {
		.qp_type = IBV_QPT_RC,
		.cap = {
			.max_send_wr = 4,
			.max_recv_wr = 4,
			.max_send_sge = 1,
			.max_recv_sge = 1,
		},
	};
	struct ibv_device **list = ibv_get_device_list(NULL);
	int i;

	memset(e, 0, sizeof(*e));
	for (i = 0; list && list[i] && !e->ctx; i++)
		if (!strcmp(ibv_get_device_name(list[i]), DEVICE))
			e->ctx = ibv_open_device(list[i]);
	if (list)
		ibv_free_device_list(list);
	if (!e->ctx)
		return -ENODEV;
	e->pd = ibv_alloc_pd(e->ctx);
	e->events = ibv_create_comp_channel(e->ctx);
	if (e->pd && e->events)
		e->cq = ibv_create_cq(e->ctx, 16, NULL, e->events, 0);
	if (e->cq) {
		init.send_cq = e->cq;
		init.recv_cq = e->cq;
		e->qp = ibv_create_qp(e->pd, &init);
	}
	if (e->qp && wait_for(find_gid, e))
		return 0;
	end_close(e);
	return -EIO;
}

/* To the queue pair @qpn of the same device. No time-out: nothing gets lost. */
static int end_connect(struct end *e, uint32_t qpn)
{
	struct ibv_qp_attr init = {
		.qp_state = IBV_QPS_INIT,
		.port_num = 1,
		.qp_access_flags = IBV_ACCESS_REMOTE_WRITE,
	};
	struct ibv_qp_attr rtr = {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = IBV_MTU_1024,
		.dest_qp_num = qpn,
		.max_dest_rd_atomic = 1,
		.ah_attr = {
			.is_global = 1,
			.port_num = 1,
			.grh = {
				.dgid = e->gid,
				.sgid_index = e->gid_index,
				.hop_limit = 1,
			},
		},
	};
	struct ibv_qp_attr rts = {
		.qp_state = IBV_QPS_RTS,
		.retry_cnt = 7,
		.rnr_retry = 7,
		.max_rd_atomic = 1,
	};
	int ret;

	ret = ibv_modify_qp(e->qp, &init, IBV_QP_STATE | IBV_QP_PKEY_INDEX |
			    IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
	if (!ret)
		ret = ibv_modify_qp(e->qp, &rtr, IBV_QP_STATE | IBV_QP_AV |
				    IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
				    IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
				    IBV_QP_MIN_RNR_TIMER);
	if (!ret)
		ret = ibv_modify_qp(e->qp, &rts, IBV_QP_STATE | IBV_QP_TIMEOUT |
				    IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
				    IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
	return -ret;
}

/* Write @len bytes from @from, of @mr, to @to, and wait until they are there */
static int end_write(struct end *e, struct ibv_mr *mr, void *from, size_t len,
		     uint64_t to, uint32_t rkey)
{
	struct ibv_sge sge = {
		.addr = (uintptr_t)from,
		.length = len,
		.lkey = mr->lkey,
	};
	struct ibv_send_wr wr = {
		.opcode = IBV_WR_RDMA_WRITE,
		.send_flags = IBV_SEND_SIGNALED,
		.sg_list = &sge,
		.num_sge = 1,
		.wr.rdma = { .remote_addr = to, .rkey = rkey },
	}, *bad;
	struct ibv_cq *cq;
	struct ibv_wc wc;
	void *context;
	int ret;

	ret = ibv_req_notify_cq(e->cq, 0);
	if (!ret)
		ret = ibv_post_send(e->qp, &wr, &bad);
	if (ret)
		return -ret;
	if (ibv_get_cq_event(e->events, &cq, &context))
		return -errno;
	ibv_ack_cq_events(cq, 1);
	if (ibv_poll_cq(cq, 1, &wc) != 1)
		return -ENODATA;
	return wc.status == IBV_WC_SUCCESS ? 0 : -EIO;
}

/* --- What is pinned --------------------------------------------------------- */

struct count {
	long acquired, released, vmpin;
};

static void count(struct count *c)
{
	c->acquired = vmstat("nr_foll_pin_acquired");
	c->released = vmstat("nr_foll_pin_released");
	c->vmpin = status_pages(0, "VmPin:");
}

/*
 * Since @base so many pages were pinned, so many put, and VmPin is larger. Where a page
 * table changes just then, GUP-fast gives a pin back, and takes it again.
 */
#define EXPECT_COUNT(base, pinned, put, more)				\
	do {								\
		struct count __now;					\
		long __again;						\
									\
		count(&__now);						\
		__again = __now.acquired - (base)->acquired - (pinned);	\
		EXPECT_LE(0, __again)					\
			TH_LOG("nr_foll_pin_acquired, line %d", __LINE__); \
		EXPECT_EQ((put) + __again, __now.released - (base)->released) \
			TH_LOG("nr_foll_pin_released, line %d", __LINE__); \
		EXPECT_EQ(more, __now.vmpin - (base)->vmpin)		\
			TH_LOG("VmPin, line %d", __LINE__);		\
	} while (0)

FIXTURE(rdma)
{
	struct end e;
	struct snap before;
	struct count base;
};

FIXTURE_SETUP(rdma)
{
	ASSERT_EQ(0, end_open(&self->e))
		TH_LOG("no " DEVICE " with an address, see tests/vm/with_rxe");
	ASSERT_EQ(0, snap(&self->before));
	count(&self->base);
}

FIXTURE_TEARDOWN(rdma)
{
	EXPECT_BACK(&self->before);
	end_close(&self->e);
}

/* --- Regions come and go ---------------------------------------------------- */

/* @touched: the pages are there before, so that GUP-fast takes them */
static void come_and_go(struct __test_metadata *_metadata,
			FIXTURE_DATA(rdma) *self, enum kind kind,
			bool touched)
{
	struct ibv_mr *mr, *again;
	struct count base;
	char *mem;

	mem = untouched(kind, SIZE);
	ASSERT_NE(NULL, mem);
	if (touched)
		memset(mem, 1, SIZE);
	count(&base);
	mr = ibv_reg_mr(self->e.pd, mem, SIZE, ACCESS_RW);
	ASSERT_NE(NULL, mr) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(kind == THP || kind == HUGETLB, mapped_huge(mem));
	EXPECT_COUNT(&base, N, 0L, N);

	/* Each region pins for itself, parts of pages too */
	again = ibv_reg_mr(self->e.pd, mem + PAGE / 2, 3 * MB, ACCESS_RW);
	ASSERT_NE(NULL, again) TH_LOG("%s", strerror(errno));
	EXPECT_COUNT(&base, N + 769, 0L, N + 769);
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_COUNT(&base, N + 769, N, 769L);

	/* which outlive the memory */
	EXPECT_EQ(0, munmap(mem, SIZE));
	EXPECT_COUNT(&base, N + 769, N, 769L);
	EXPECT_EQ(0, ibv_dereg_mr(again));
	EXPECT_COUNT(&base, N + 769, N + 769, 0L);
}

TEST_F(rdma, small_pages)
{
	come_and_go(_metadata, self, ANON, true);
}

TEST_F(rdma, untouched_small_pages)
{
	come_and_go(_metadata, self, ANON, false);
}

TEST_F(rdma, thp)
{
	come_and_go(_metadata, self, THP, true);
}

TEST_F(rdma, hugetlb)
{
	come_and_go(_metadata, self, HUGETLB, true);
}

TEST_F(rdma, memfd)
{
	come_and_go(_metadata, self, MEMFD, true);
}

TEST_F(rdma, untouched_memfd)
{
	come_and_go(_metadata, self, MEMFD, false);
}

/* --- Processes that end with a region --------------------------------------- */

static void end_of_process(struct __test_metadata *_metadata,
			   FIXTURE_DATA(rdma) *self, int sig)
{
	struct count *base = &self->base;
	int sv[2], status;
	struct end e;
	char *mem;
	pid_t pid;
	long said;

	ASSERT_EQ(0, chan_pair(sv));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(sv[0]);
		mem = untouched(ANON, SIZE);
		if (!mem || end_open(&e) ||
		    !ibv_reg_mr(e.pd, mem, SIZE, ACCESS_RW))
			_exit(1);
		chan_put(sv[1], 1);
		chan_get(sv[1], NULL);
		_exit(0);
	}
	close(sv[1]);
	ASSERT_EQ(0, chan_get(sv[0], &said));
	EXPECT_EQ(N, status_pages(pid, "VmPin:"));
	EXPECT_COUNT(base, N, 0L, 0L);

	EXPECT_EQ(0, sig ? kill(pid, sig) : chan_put(sv[0], 1));
	ASSERT_EQ(0, reap(pid, &status));
	EXPECT_EQ(sig, WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	EXPECT_BACK(&self->before);
	EXPECT_COUNT(base, N, N, 0L);
	close(sv[0]);
}

TEST_F(rdma, killed_with_a_region)
{
	end_of_process(_metadata, self, SIGKILL);
}

TEST_F(rdma, exit_with_a_region)
{
	end_of_process(_metadata, self, 0);
}

/* --- Registrations that fail ------------------------------------------------ */

static int try_reg(FIXTURE_DATA(rdma) *self, void *mem, size_t len, int access)
{
	struct ibv_mr *mr = ibv_reg_mr(self->e.pd, mem, len, access);

	if (!mr)
		return -errno;
	return -ibv_dereg_mr(mr);
}

TEST_F(rdma, limit)
{
	const size_t room = 5000;
	char *mem = untouched(ANON, SIZE);
	struct ibv_mr *mr;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, set_memlock(room * PAGE));
	ASSERT_EQ(0, cap_drop(CAP_IPC_LOCK));
	EXPECT_EQ(-ENOMEM, try_reg(self, mem, (room + 1) * PAGE, ACCESS_RW));
	EXPECT_COUNT(&self->base, 0L, 0L, 0L);
	mr = ibv_reg_mr(self->e.pd, mem, (room - 1) * PAGE, ACCESS_RW);
	ASSERT_NE(NULL, mr);
	EXPECT_EQ(0, try_reg(self, mem, PAGE, ACCESS_RW));
	EXPECT_EQ(-ENOMEM, try_reg(self, mem, 2 * PAGE, ACCESS_RW));
	EXPECT_EQ((long)room - 1, status_pages(0, "VmPin:"));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_EQ(0, try_reg(self, mem, room * PAGE, ACCESS_RW));

	ASSERT_EQ(0, set_memlock(0));
	EXPECT_EQ(-EPERM, try_reg(self, mem, PAGE, ACCESS_RW));
}

/* Pages before one that is not there are given back */
TEST_F(rdma, hole)
{
	char *mem = untouched(ANON, SIZE);
	struct count base;

	ASSERT_NE(NULL, mem);
	memset(mem, 1, SIZE);
	count(&base);
	ASSERT_EQ(0, munmap(mem + SIZE - 3 * PAGE, PAGE));
	EXPECT_EQ(-EFAULT, try_reg(self, mem, SIZE, ACCESS_RW));
	EXPECT_BACK(&self->before);
	EXPECT_EQ(0, try_reg(self, mem, SIZE - 3 * PAGE, ACCESS_RW));
	EXPECT_EQ(0, try_reg(self, mem + SIZE - 2 * PAGE, 2 * PAGE, ACCESS_RW));
}

/* So are those before a file that must see each write */
TEST_F(rdma, file_that_tracks_writes)
{
	const char *dir = getenv("USERPIN_EXT4");
	char path[128], *mem = untouched(ANON, SIZE), *at;
	int fd;

	if (!dir)
		SKIP(return, "no file system on a disk, see USERPIN_EXT4");
	ASSERT_NE(NULL, mem);
	snprintf(path, sizeof(path), "%s/region", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	unlink(path);
	ASSERT_EQ(0, ftruncate(fd, MB));
	at = mmap(mem + SIZE - MB, MB, PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_FIXED, fd, 0);
	ASSERT_EQ(mem + SIZE - MB, at);
	memset(mem, 1, SIZE);
	EXPECT_EQ(-EFAULT, try_reg(self, mem, SIZE, ACCESS_RW));
	EXPECT_BACK(&self->before);
	EXPECT_EQ(0, try_reg(self, mem, SIZE - MB, ACCESS_RW));

	/* For reading, and as a private copy, it may be had */
	EXPECT_EQ(0, try_reg(self, mem, SIZE, 0));
	at = mmap(at, MB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd,
		  0);
	ASSERT_EQ(mem + SIZE - MB, at);
	EXPECT_EQ(0, try_reg(self, mem, SIZE, ACCESS_RW));
	close(fd);
}

/* Each allocation fails in turn, those for scattered pages among them */
TEST_F(rdma, allocations)
{
	const size_t size = 8 * MB;
	struct failing f = {};
	struct ibv_mr *mr;
	char *mem;
	size_t i;

	NEED_FAILING(f.fd);
	/* Neighbours in memory were not allocated one after the other */
	mem = untouched(ANON, SIZE);
	ASSERT_NE(NULL, mem);
	for (i = 0; i < size / PAGE; i += 2)
		mem[i * PAGE] = 1;
	for (i = 1; i < size / PAGE; i += 2)
		mem[i * PAGE] = 1;

	while (FAILING_NEXT(&f)) {
		failing_arm(&f);
		mr = ibv_reg_mr(self->e.pd, mem, size, ACCESS_RW);
		failing_disarm(&f, mr ? 0 : -errno);
		if (mr) {
			EXPECT_EQ((long)(size / PAGE),
				  status_pages(0, "VmPin:"));
			EXPECT_EQ(0, ibv_dereg_mr(mr));
		}
		EXPECT_BACK(&self->before);
	}
	/* The pages are scattered */
	EXPECT_FAILED_IN_TURN(&f, 11);
	close(f.fd);
}

/* --- What is written -------------------------------------------------------- */

/* A region that the device may write to is dirty afterwards, others are not */
TEST_F(rdma, written_pages_are_put_dirty)
{
	char *mem = untouched(ANON, SIZE);
	size_t i, dirty = 0;

	ASSERT_NE(NULL, mem);
	memset(mem, 1, SIZE);
	EXPECT_EQ(0, try_reg(self, mem, 64 * PAGE, 0));
	for (i = 0; i < 65; i++)
		dirty += !!(pfn_flags(pfn_of(mem + i * PAGE)) & PF_DIRTY);
	EXPECT_EQ(0UL, dirty);
	EXPECT_EQ(0, try_reg(self, mem, 64 * PAGE, ACCESS_RW));
	for (i = 0; i < 65; i++)
		dirty += !!(pfn_flags(pfn_of(mem + i * PAGE)) & PF_DIRTY);
	EXPECT_EQ(64UL, dirty);
}

TEST_F(rdma, written_huge_pages_are_put_dirty)
{
	char *mem = untouched(THP, SIZE);
	long n;

	ASSERT_NE(NULL, mem);
	memset(mem, 1, SIZE);
	ASSERT_TRUE(mapped_huge(mem));
	EXPECT_EQ(0, try_reg(self, mem + PAGE, 3 * MB, 0));
	EXPECT_EQ(0ULL, pfn_flags(folio_of(pfn_of(mem), &n)) & PF_DIRTY);
	EXPECT_EQ(512L, n);
	EXPECT_EQ(0, try_reg(self, mem + PAGE, 3 * MB, ACCESS_RW));
	EXPECT_NE(0ULL, pfn_flags(folio_of(pfn_of(mem), &n)) & PF_DIRTY);
	EXPECT_NE(0ULL, pfn_flags(folio_of(pfn_of(mem + 3 * MB), &n)) & PF_DIRTY);
	EXPECT_EQ(0ULL, pfn_flags(folio_of(pfn_of(mem + 4 * MB), &n)) & PF_DIRTY);
}

/*
 * Memory that the process gave up but has not lost yet (MADV_FREE). The CPU does
 * not see what the device writes there: without the mark that comes with the
 * put, reclaim drops the page instead of swapping it out.
 */
TEST_F(rdma, written_page_survives_reclaim)
{
	char *mem = anon_pages(PAGE), *from = anon_pages(PAGE);
	struct ibv_mr *mr, *source;
	uint64_t pfn;

	ASSERT_NE(NULL, mem);
	ASSERT_NE(NULL, from);
	fill(from, PAGE, 21);
	fill(mem, PAGE, 22);
	source = ibv_reg_mr(self->e.pd, from, PAGE, 0);
	ASSERT_NE(NULL, source);
	ASSERT_EQ(0, end_connect(&self->e, self->e.qp->qp_num));
	ASSERT_EQ(0, madvise(mem, PAGE, MADV_FREE));
	/* Pages wait for their list in batches; this sees to them */
	ASSERT_EQ(0, madvise(from, PAGE, MADV_PAGEOUT));
	pfn = pfn_of(mem);
	EXPECT_EQ(0ULL, pfn_flags(pfn) & PF_DIRTY);
	mr = ibv_reg_mr(self->e.pd, mem, PAGE, ACCESS_RW);
	ASSERT_NE(NULL, mr);
	EXPECT_EQ(0, end_write(&self->e, source, from, PAGE, (uintptr_t)mem,
			       mr->rkey));
	EXPECT_EQ(pfn, pfn_of(mem));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_NE(0ULL, pfn_flags(pfn) & PF_DIRTY);

	EXPECT_TRUE(wait_for(reclaimed, mem))
		TH_LOG("it was not reclaimed");
	EXPECT_TRUE(filled(mem, PAGE, 21));
	EXPECT_EQ(0, ibv_dereg_mr(source));
}

/* --- Two processes ---------------------------------------------------------- */

#define MESSAGE	MB

/* Lends memory, and looks at what the other has written; an exit code */
static int lender(int chan)
{
	char *mem = untouched(THP, SIZE);
	struct ibv_mr *mr;
	struct end e;
	long qpn;

	if (!mem || end_open(&e))
		return 1;
	mr = ibv_reg_mr(e.pd, mem, SIZE, ACCESS_RW);
	if (!mr || chan_put(chan, e.qp->qp_num) ||
	    chan_put(chan, (long)(uintptr_t)mem) || chan_put(chan, mr->rkey) ||
	    chan_get(chan, &qpn) || end_connect(&e, qpn) ||
	    chan_put(chan, 0) || chan_get(chan, NULL))
		return 2;
	if (!filled(mem + PAGE / 2, MESSAGE, 31))
		return 3;
	if (!filled(mem + SIZE - MESSAGE, MESSAGE, 32))
		return 4;
	if (mem[0] || mem[PAGE / 2 + MESSAGE] || mem[SIZE - MESSAGE - 1])
		return 5;
	if (ibv_dereg_mr(mr))
		return 6;
	end_close(&e);
	return 0;
}

TEST_F(rdma, written_by_another_process)
{
	char *from = anon_pages(2 * MESSAGE);
	long qpn, to, rkey;
	struct ibv_mr *mr;
	int sv[2], status;
	pid_t pid;

	ASSERT_NE(NULL, from);
	ASSERT_EQ(0, chan_pair(sv));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(sv[0]);
		_exit(lender(sv[1]));
	}
	close(sv[1]);
	ASSERT_EQ(0, chan_get(sv[0], &qpn));
	ASSERT_EQ(0, chan_get(sv[0], &to));
	ASSERT_EQ(0, chan_get(sv[0], &rkey));
	ASSERT_EQ(0, end_connect(&self->e, qpn));
	ASSERT_EQ(0, chan_put(sv[0], self->e.qp->qp_num));
	ASSERT_EQ(0, chan_get(sv[0], NULL));

	fill(from, MESSAGE, 31);
	fill(from + MESSAGE, MESSAGE, 32);
	mr = ibv_reg_mr(self->e.pd, from, 2 * MESSAGE, 0);
	ASSERT_NE(NULL, mr);
	EXPECT_COUNT(&self->base, N + (long)(2 * MESSAGE / PAGE), 0L,
		     (long)(2 * MESSAGE / PAGE));
	EXPECT_EQ(0, end_write(&self->e, mr, from, MESSAGE, to + PAGE / 2,
			       rkey));
	EXPECT_EQ(0, end_write(&self->e, mr, from + MESSAGE, MESSAGE,
			       to + SIZE - MESSAGE, rkey));
	EXPECT_EQ(0, chan_put(sv[0], 0));
	ASSERT_EQ(0, reap(pid, &status));
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	close(sv[0]);
}

/* A program that is not ours (Debian's ibverbs-utils) */
static pid_t pingpong(int gid_index, const char *host, int out)
{
	char index[16];
	pid_t pid = fork();

	if (pid)
		return pid;
	dup2(out, 1);
	dup2(out, 2);
	snprintf(index, sizeof(index), "%d", gid_index);
	execlp("ibv_rc_pingpong", "ibv_rc_pingpong", "-c", "-e", "-d", DEVICE,
	       "-g", index, "-s", "4096", "-n", "100", host, NULL);
	_exit(127);
}

/* Somebody listens on the port of ibv_rc_pingpong, 18515 */
static bool listening(void *arg)
{
	char *text = slurp("/proc/net/tcp");
	bool yes = text && strstr(text, ":4853 00000000:0000 0A");

	(void)arg;
	free(text);
	return yes;
}

struct pingpong {
	pid_t pid[2];
	int status[2];
};

/* When one fails, the other waits for it for ever: then it is killed */
static bool have_ended(void *arg)
{
	struct pingpong *p = arg;
	unsigned int i;

	for (i = 0; i < 2; i++) {
		if (!p->pid[i] || waitpid(p->pid[i], &p->status[i], WNOHANG) != p->pid[i])
			continue;
		p->pid[i] = 0;
		if (p->status[i] && p->pid[!i])
			kill(p->pid[!i], SIGKILL);
	}
	return !p->pid[0] && !p->pid[1];
}

/*
 * It gives up when seven times 67 ms pass without an answer to a message. Small messages
 * are answered many times faster than that, also on the debug kernel.
 */
TEST_F(rdma, pingpong)
{
	int gid = self->e.gid_index, out;
	struct pingpong p = {};
	char said[4096];
	ssize_t n;

	out = memfd_create("said", MFD_CLOEXEC);
	ASSERT_LE(0, out);
	p.pid[0] = pingpong(gid, NULL, out);
	ASSERT_LE(0, p.pid[0]);
	EXPECT_TRUE(wait_for(listening, NULL));
	p.pid[1] = pingpong(gid, "127.0.0.1", out);
	ASSERT_LE(0, p.pid[1]);
	EXPECT_TRUE(wait_for(have_ended, &p));
	n = pread(out, said, sizeof(said) - 1, 0);
	ASSERT_LT(0, n);
	said[n] = 0;
	EXPECT_EQ(0, p.status[0]) TH_LOG("%s", said);
	EXPECT_EQ(0, p.status[1]);
	EXPECT_EQ(NULL, strstr(said, "invalid data")) TH_LOG("%s", said);
	EXPECT_NE(NULL, strstr(said, "100 iters in")) TH_LOG("%s", said);
	close(out);
}

TEST_HARNESS_MAIN
