// SPDX-License-Identifier: GPL-2.0
/*
 * Whoever waits in a page fault holds up no other. A tenant pins memory of a FUSE
 * file whose server does not answer: that pin waits, with the mmap_lock, and so do
 * all in the process who want it. Others go on: puts, readers of longterm_pins,
 * pinstat.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include "test.h"

#define N	16UL
#define SIZE	(N * PAGE)

/* --- A FUSE server, with one file, that does not answer when it is read ---------- */

#define FILE_NODE	2

static void fuse_reply(int fd, const struct fuse_in_header *in, int error,
		       const void *data, size_t len)
{
	static char buf[sizeof(struct fuse_out_header) + MB];
	struct fuse_out_header *out = (void *)buf;

	out->unique = in->unique;
	out->error = error;
	out->len = sizeof(*out) + len;
	memcpy(out + 1, data, len);
	/* One that is no longer waited for is an error */
	if (write(fd, buf, out->len) < 0 && errno != ENOENT)
		_exit(1);
}

static struct fuse_attr fuse_attr_of(uint64_t node)
{
	return (struct fuse_attr) {
		.ino = node,
		.size = node == FILE_NODE ? SIZE : 0,
		.mode = node == FILE_NODE ? S_IFREG | 0644 : S_IFDIR | 0755,
		.nlink = 1,
		.blksize = PAGE,
	};
}

/* Tells the test of the first read, and answers when that says so */
static void fuse_read(int fd, int chan, const struct fuse_in_header *in,
		      const struct fuse_read_in *rd)
{
	static const char zeros[MB];
	static bool told;
	long go;

	if (!told && (chan_put(chan, 1) || read(chan, &go, sizeof(go)) <= 0))
		_exit(1);
	told = true;
	fuse_reply(fd, in, 0, zeros, rd->size < MB ? rd->size : MB);
}

static void fuse_serve(int fd, int chan)
{
	static char buf[2 * MB];
	const struct fuse_in_header *in = (void *)buf;
	const void *arg = in + 1;

	while (read(fd, buf, sizeof(buf)) > 0) {
		struct fuse_init_out init = {
			.major = FUSE_KERNEL_VERSION,
			.minor = FUSE_KERNEL_MINOR_VERSION,
			.max_readahead = 0,
			.max_write = PAGE,
		};
		struct fuse_attr_out attr = {
			.attr = fuse_attr_of(in->nodeid),
		};
		struct fuse_entry_out entry = {
			.nodeid = FILE_NODE,
			.attr = fuse_attr_of(FILE_NODE),
		};
		struct fuse_open_out open = {};

		switch (in->opcode) {
		case FUSE_INIT:
			fuse_reply(fd, in, 0, &init, sizeof(init));
			break;
		case FUSE_GETATTR:
			fuse_reply(fd, in, 0, &attr, sizeof(attr));
			break;
		case FUSE_LOOKUP:
			if (strcmp(arg, "ram"))
				fuse_reply(fd, in, -ENOENT, NULL, 0);
			else
				fuse_reply(fd, in, 0, &entry, sizeof(entry));
			break;
		case FUSE_OPEN:
			fuse_reply(fd, in, 0, &open, sizeof(open));
			break;
		case FUSE_READ:
			fuse_read(fd, chan, in, arg);
			break;
		case FUSE_FLUSH:
		case FUSE_RELEASE:
			fuse_reply(fd, in, 0, NULL, 0);
			break;
		case FUSE_FORGET:
		case FUSE_BATCH_FORGET:
		case FUSE_INTERRUPT:
			break;
		default:
			fuse_reply(fd, in, -ENOSYS, NULL, 0);
		}
	}
	_exit(0);
}

/* --- The tenant ------------------------------------------------------------------- */

enum part { PIN_SILENT, CHANGE_MAPPINGS, PIN_OTHER, PUT, NR_PARTS };

FIXTURE(silent)
{
	struct vfio v[3];	/* for the pin that waits, another, a put */
	struct snap before;
	char dir[32];
	int server_chan, chan[NR_PARTS];
	pid_t server, tenant;
	long tid[NR_PARTS];
};

/**
 * struct part_thread - a thread of the tenant
 * @self: the test
 * @part: its part
 * @mem: the memory that it is about
 * @chan: it says who it is, waits for an order, and says what came of it
 */
struct part_thread {
	FIXTURE_DATA(silent) *self;
	enum part part;
	void *mem;
	int chan;
};

static long play(struct part_thread *p)
{
	FIXTURE_DATA(silent) *self = p->self;

	switch (p->part) {
	case PIN_SILENT:
		return vfio_map(&self->v[0], p->mem, IOVA, SIZE, MAP_RW);
	case CHANGE_MAPPINGS:
		return munmap(p->mem, SIZE);
	case PIN_OTHER:
		return vfio_map(&self->v[1], p->mem, IOVA, SIZE, MAP_RW);
	default:
		return vfio_unmap(&self->v[2], IOVA, SIZE);
	}
}

static void *part_thread(void *arg)
{
	struct part_thread *p = arg;
	long go;

	/* The order comes when it comes */
	if (!chan_put(p->chan, gettid()) &&
	    read(p->chan, &go, sizeof(go)) == sizeof(go))
		chan_put(p->chan, play(p));
	return NULL;
}

/* Nothing here may allocate once the first thread has its order */
static void tenant(FIXTURE_DATA(silent) *self, const int *chan, int fd)
{
	static struct part_thread part[NR_PARTS];
	pthread_t thread[NR_PARTS];
	int i;

	if (set_memlock(64 * MB) || cap_drop(CAP_IPC_LOCK))
		_exit(1);
	for (i = 0; i < NR_PARTS; i++) {
		part[i] = (struct part_thread) {
			.self = self, .part = i, .chan = chan[i],
			.mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE |
				    (i == PIN_SILENT ? 0 : MAP_ANONYMOUS),
				    i == PIN_SILENT ? fd : -1, 0),
		};
		if (part[i].mem == MAP_FAILED)
			_exit(2);
		if (i != PIN_SILENT)
			memset(part[i].mem, i, SIZE);
	}
	if (vfio_map(&self->v[2], part[PUT].mem, IOVA, SIZE, MAP_RW))
		_exit(3);
	for (i = 0; i < NR_PARTS; i++) {
		if (pthread_create(&thread[i], NULL, part_thread, &part[i]))
			_exit(4);
	}
	for (i = 0; i < NR_PARTS; i++)
		pthread_join(thread[i], NULL);
	_exit(0);
}

FIXTURE_SETUP(silent)
{
	char options[96], path[64];
	int i, fd, sv[NR_PARTS + 1][2], theirs[NR_PARTS];

	NEED_DEVICES(3U);
	self->server = 0;
	self->tenant = 0;
	for (i = 0; i < 3; i++)
		self->v[i].fd = -1;
	ASSERT_EQ(0, snap(&self->before));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, vfio_open(&self->v[i], i));
	}
	for (i = 0; i <= NR_PARTS; i++) {
		ASSERT_EQ(0, chan_pair(sv[i]));
	}
	self->server_chan = sv[NR_PARTS][0];
	for (i = 0; i < NR_PARTS; i++) {
		self->chan[i] = sv[i][0];
		theirs[i] = sv[i][1];
	}

	strcpy(self->dir, "/tmp/silent.XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->dir));
	fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
	ASSERT_EQ(0, mount("silent", self->dir, "fuse", MS_NOSUID | MS_NODEV,
			   options));
	self->server = fork();
	ASSERT_LE(0, self->server);
	if (!self->server)
		fuse_serve(fd, sv[NR_PARTS][1]);
	/* If the server ends, so does the connection */
	close(fd);
	snprintf(path, sizeof(path), "%s/ram", self->dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);

	self->tenant = fork();
	ASSERT_LE(0, self->tenant);
	if (!self->tenant)
		tenant(self, theirs, fd);
	close(fd);
	for (i = 0; i < NR_PARTS; i++) {
		ASSERT_EQ(0, chan_get(self->chan[i], &self->tid[i]));
	}
}

FIXTURE_TEARDOWN(silent)
{
	int i, status;

	/* Whoever waits for the server gets an error */
	if (self->server) {
		kill(self->server, SIGKILL);
		EXPECT_EQ(0, reap(self->server, &status));
	}
	if (self->tenant) {
		kill(self->tenant, SIGKILL);
		EXPECT_EQ(0, reap(self->tenant, &status));
	}
	for (i = 0; i < 3; i++)
		vfio_close(&self->v[i]);
	EXPECT_EQ(0, umount(self->dir));
	EXPECT_EQ(0, rmdir(self->dir));
	EXPECT_BACK(&self->before);
}

/* Does it wait where only a fatal signal would wake it? */
static bool waits(void *arg)
{
	char path[64], *text, *state;
	bool found;

	snprintf(path, sizeof(path), "/proc/%ld/stat", *(long *)arg);
	text = slurp(path);
	state = text ? strrchr(text, ')') : NULL;
	found = state && !strncmp(state, ") D", 3);
	free(text);
	return found;
}

/* The first waits in its fault, the others in its mmap_lock */
static void let_them_wait(struct __test_metadata *_metadata,
			  FIXTURE_DATA(silent) *self)
{
	long told;
	int i;

	ASSERT_EQ(0, chan_put(self->chan[PIN_SILENT], 1));
	ASSERT_EQ(0, chan_get(self->server_chan, &told));
	for (i = CHANGE_MAPPINGS; i <= PIN_OTHER; i++) {
		ASSERT_EQ(0, chan_put(self->chan[i], 1));
		ASSERT_TRUE(wait_for(waits, &self->tid[i]));
	}
}

/* In the end all come through */
static void let_them_go(struct __test_metadata *_metadata,
			FIXTURE_DATA(silent) *self)
{
	long result;
	int i;

	ASSERT_EQ(0, chan_put(self->server_chan, 1));
	for (i = PIN_SILENT; i <= PIN_OTHER; i++) {
		ASSERT_EQ(0, chan_get(self->chan[i], &result));
		EXPECT_EQ(0, result) TH_LOG("part %d", i);
	}
}

/* A process that reads what it is told, and ends */
static int read_elsewhere(const char *path)
{
	int status = -1, ret;
	pid_t pid = fork();

	if (!pid)
		_exit(slurp(path) ? 0 : 1);
	ret = reap_within(pid, PATIENCE / 10, &status);
	if (ret)
		kill(pid, SIGKILL);
	return ret ?: status;
}

TEST_F(silent, readers_go_on)
{
	char path[64], *list;
	struct pins p;

	let_them_wait(_metadata, self);
	snprintf(path, sizeof(path), "/proc/%d/longterm_pins", self->tenant);
	EXPECT_EQ(0, read_elsewhere(path));
	EXPECT_EQ(0, read_elsewhere("/proc/longterm_pins"));
	ASSERT_EQ(0, pins_read(self->tenant, &p));
	EXPECT_EQ((long)N, pins_pages(&p)) TH_LOG("only what was pinned before");
	EXPECT_EQ((long)N, p.charge);
	list = slurp("/proc/longterm_pins");
	ASSERT_NE(NULL, list);
	EXPECT_NE(NULL, strstr(list, p.holder[0].name));
	free(list);
	let_them_go(_metadata, self);
}

TEST_F(silent, puts_go_on)
{
	struct pins p;
	long result;

	let_them_wait(_metadata, self);
	ASSERT_EQ(0, chan_put(self->chan[PUT], 1));
	ASSERT_EQ(0, chan_get(self->chan[PUT], &result));
	EXPECT_EQ((long)SIZE, result);
	ASSERT_EQ(0, pins_read(self->tenant, &p));
	EXPECT_EQ(0, p.charge);
	let_them_go(_metadata, self);
}

/* It reads the command line of a process, which the mmap_lock guards */
TEST_F(silent, pinstat_goes_on)
{
	int status, pipe_fd[2];
	char text[8192], pid_word[16];
	ssize_t n, len = 0;
	pid_t pid;

	let_them_wait(_metadata, self);
	ASSERT_EQ(0, pipe(pipe_fd));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		dup2(pipe_fd[1], 1);
		close(pipe_fd[0]);
		execlp("pinstat", "pinstat", NULL);
		_exit(127);
	}
	close(pipe_fd[1]);
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	while ((n = read(pipe_fd[0], text + len, sizeof(text) - 1 - len)) > 0)
		len += n;
	text[len] = 0;
	snprintf(pid_word, sizeof(pid_word), "%d", self->tenant);
	EXPECT_NE(NULL, strstr(text, pid_word)) TH_LOG("%s", text);
	close(pipe_fd[0]);
	let_them_go(_metadata, self);
}

/* FUSE waits for its server all the same. When that is gone, nothing stays. */
TEST_F(silent, killed_tenant_leaves_nothing)
{
	int status;

	let_them_wait(_metadata, self);
	ASSERT_EQ(0, kill(self->tenant, SIGKILL));
	ASSERT_EQ(0, kill(self->server, SIGKILL));
	EXPECT_EQ(0, reap(self->server, &status));
	self->server = 0;
	EXPECT_EQ(0, reap(self->tenant, &status));
	self->tenant = 0;
}

TEST_HARNESS_MAIN
