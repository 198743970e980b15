// SPDX-License-Identifier: GPL-2.0
/*
 * Who may see the pins of whom, and whether what is seen is true: the file in
 * /proc, the list of all holders, the log, tracepoints and counters. Names that
 * users choose must not look like anything else.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <locale.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <wchar.h>
#include <wctype.h>

/* The kernel's own */
#include <../../../mm/gup_test.h>

#include "test.h"

#define NOBODY	65534
#define N	24L
#define SIZE	(N * PAGE)
#define LIST	"/proc/longterm_pins"
#define LOG_HOST 50	/* lines of refusals in five seconds, of all users */

FIXTURE(who)
{
	struct vfio v;
	struct snap before, base;
	char *mem;
	char comm[16];
};

FIXTURE_SETUP(who)
{
	NEED_DEVICES(1U);
	/* For what is UTF-8 */
	ASSERT_NE(NULL, setlocale(LC_CTYPE, "C.UTF-8"));
	self->v.fd = -1;
	self->mem = anon_pages(SIZE);
	ASSERT_NE(NULL, self->mem);
	ASSERT_EQ(0, snap(&self->before));
}

FIXTURE_TEARDOWN(who)
{
	vfio_close(&self->v);
	EXPECT_BACK(&self->before);
}

static void open_and_map(struct __test_metadata *_metadata,
			 FIXTURE_DATA(who) *self)
{
	ASSERT_EQ(0, vfio_open(&self->v, 0));
	ASSERT_EQ(0, vfio_map(&self->v, self->mem, IOVA, SIZE, MAP_RW));
	ASSERT_EQ(0, snap(&self->base));
}

/* --- Rights ----------------------------------------------------------------- */

static int may_open(pid_t pid, const char *file)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static int become_nobody(bool dumpable)
{
	if (setresgid(NOBODY, NOBODY, NOBODY) ||
	    setresuid(NOBODY, NOBODY, NOBODY))
		return -errno;
	return prctl(PR_SET_DUMPABLE, dumpable) ? -errno : 0;
}

/* What opening both files gives a process of the other uid, as an exit code */
static int as_nobody(pid_t target, bool *same)
{
	int sv[2], status, ret;
	long pins, smaps;
	pid_t pid;

	if (chan_pair(sv))
		return -EIO;
	pid = fork();
	if (!pid) {
		if (become_nobody(true))
			_exit(1);
		chan_put(sv[1], may_open(target, "longterm_pins"));
		chan_put(sv[1], may_open(target, "smaps"));
		_exit(0);
	}
	ret = chan_get(sv[0], &pins);
	if (!ret)
		ret = chan_get(sv[0], &smaps);
	reap(pid, &status);
	close(sv[0]);
	close(sv[1]);
	*same = !ret && pins == smaps;
	return ret ? -EIO : pins;
}

TEST_F(who, another_user_may_not)
{
	bool same;

	open_and_map(_metadata, self);
	EXPECT_EQ(-EACCES, as_nobody(getpid(), &same));
	EXPECT_TRUE(same);
}

static pid_t sleeper(bool dumpable)
{
	int sv[2];
	pid_t pid;

	if (chan_pair(sv))
		return -1;
	pid = fork();
	if (!pid) {
		if (chan_put(sv[1], become_nobody(dumpable)))
			_exit(1);
		for (;;)
			pause();
	}
	if (pid > 0 && chan_get(sv[0], NULL))
		pid = -1;
	close(sv[0]);
	close(sv[1]);
	return pid;
}

TEST_F(who, the_same_user_may)
{
	pid_t pid = sleeper(true);
	int status;
	bool same;

	ASSERT_LT(0, pid);
	EXPECT_EQ(0, as_nobody(pid, &same));
	EXPECT_TRUE(same);
	EXPECT_EQ(0, may_open(pid, "longterm_pins")) TH_LOG("and so may root");
	kill(pid, SIGKILL);
	EXPECT_EQ(0, reap(pid, &status));
}

TEST_F(who, not_if_it_may_not_be_dumped)
{
	pid_t pid = sleeper(false);
	int status;
	bool same;

	ASSERT_LT(0, pid);
	EXPECT_EQ(-EACCES, as_nobody(pid, &same));
	EXPECT_TRUE(same);
	EXPECT_EQ(0, may_open(pid, "longterm_pins"));
	kill(pid, SIGKILL);
	EXPECT_EQ(0, reap(pid, &status));
}

/* What is said of a process that has no memory */
static void expect_zeros(struct __test_metadata *_metadata, pid_t pid)
{
	struct pins p;

	EXPECT_EQ(may_open(pid, "smaps"), may_open(pid, "longterm_pins"))
		TH_LOG("process %d", pid);
	EXPECT_EQ(0, pins_read(pid, &p)) TH_LOG("process %d", pid);
	EXPECT_EQ(0, p.nr);
	EXPECT_EQ(0, p.charge);
	EXPECT_EQ(0, p.held);
	EXPECT_LT(0, p.limit);
}

TEST_F(who, no_memory)
{
	siginfo_t info;
	int status;
	pid_t pid;

	open_and_map(_metadata, self);
	expect_zeros(_metadata, 2);	/* a kernel thread */
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(0);
	ASSERT_EQ(0, waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
	expect_zeros(_metadata, pid);	/* a zombie */
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(-ENOENT, may_open(pid, "longterm_pins"));
}

/* Who opened the file while it could goes on reading after the process's end */
TEST_F(who, process_ends_while_the_file_is_open)
{
	char path[64], text[1024] = "";
	struct pins p;
	int fd, status;
	pid_t pid;

	pid = sleeper(true);
	ASSERT_LT(0, pid);
	snprintf(path, sizeof(path), "/proc/%d/longterm_pins", pid);
	fd = open(path, O_RDONLY);
	ASSERT_LE(0, fd);
	kill(pid, SIGKILL);
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_LT(0, read(fd, text, sizeof(text) - 1));
	EXPECT_EQ(0, pins_parse(text, &p));
	EXPECT_EQ(0, p.nr);
	EXPECT_EQ(0, p.charge);
	EXPECT_EQ(NO_LIMIT, p.limit);
	close(fd);
}

TEST_F(who, modes)
{
	struct stat st;

	ASSERT_EQ(0, stat("/proc/self/longterm_pins", &st));
	EXPECT_EQ((mode_t)(S_IFREG | 0444), st.st_mode);
	ASSERT_EQ(0, stat(LIST, &st));
	EXPECT_EQ((mode_t)(S_IFREG | 0400), st.st_mode);
	EXPECT_EQ(0U, st.st_uid);
}

TEST_F(who, list_is_for_root)
{
	int status;
	pid_t pid = fork();

	ASSERT_LE(0, pid);
	if (!pid) {
		/* Root of a container has no such capability */
		if (cap_drop(CAP_SYS_ADMIN) || open(LIST, O_RDONLY) >= 0 ||
		    errno != EPERM)
			_exit(3);
		if (become_nobody(true))
			_exit(1);
		_exit(open(LIST, O_RDONLY) >= 0 || errno != EACCES ? 2 : 0);
	}
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
}

/* --- Format ----------------------------------------------------------------- */

TEST_F(who, format)
{
	char want[1024], cgroup[256], *text;
	struct pins p;
	const char *name;
	int fd, n, got;

	text = slurp("/proc/self/longterm_pins");
	ASSERT_NE(NULL, text);
	EXPECT_EQ(0, pins_parse(text, &p));
	EXPECT_EQ(0, p.nr);
	EXPECT_STREQ("-", p.cgroup);
	free(text);
	text = slurp("/proc/self/cgroup");
	ASSERT_NE(NULL, text);
	ASSERT_EQ(1, sscanf(text, "0::%255s", cgroup));
	free(text);

	ASSERT_EQ(0, set_memlock(1000 * PAGE + 123));
	open_and_map(_metadata, self);
	ASSERT_EQ(1, self->base.pins.nr);
	name = self->base.pins.holder[0].name;
	EXPECT_EQ(0, strncmp(name, "vfio.", 5));
	n = snprintf(want, sizeof(want),
		     "holder pages peak acquired released fsdax file secretmem pfnmap memlock cgroup migrate overflow nomem fault eof nospace nohugetlb\n"
		     "%s %ld %ld %ld 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
		     "charge %ld\nheld %ld\npinned 0\nuser 0\nlimit 1000\ncgroup %s\n",
		     name, N, N, N, N, N, cgroup);
	text = slurp("/proc/self/longterm_pins");
	ASSERT_NE(NULL, text);
	EXPECT_STREQ(want, text);
	free(text);

	/* Read in small pieces it is the same */
	text = calloc(1, n + 16);
	fd = open("/proc/self/longterm_pins", O_RDONLY);
	ASSERT_LE(0, fd);
	for (got = 0; got < n + 8;) {
		ssize_t len = read(fd, text + got, 7);

		ASSERT_LE(0, len);
		if (!len)
			break;
		got += len;
	}
	EXPECT_STREQ(want, text);
	close(fd);
	free(text);
}

TEST_F(who, unlimited)
{
	struct rlimit {
		unsigned long cur, max;
	} none = { ~0UL, ~0UL };
	struct pins p;

	ASSERT_EQ(0, syscall(160 /* setrlimit */, 8 /* MEMLOCK */, &none));
	EXPECT_EQ(0, pins_read(0, &p));
	EXPECT_EQ(UNLIMITED, p.limit);
}

TEST_F(who, counters)
{
	const struct holder *h;
	struct pins p;

	ASSERT_EQ(0, vfio_open(&self->v, 0));
	ASSERT_EQ(0, vfio_map(&self->v, self->mem, IOVA, 10 * PAGE, MAP_RW));
	ASSERT_EQ(0, vfio_map(&self->v, self->mem + 8 * PAGE, IOVA_FAR,
			      8 * PAGE, MAP_RW));
	EXPECT_EQ(10 * (long)PAGE, vfio_unmap(&self->v, IOVA, 10 * PAGE));
	ASSERT_EQ(0, vfio_map(&self->v, self->mem, IOVA, PAGE, MAP_RW));
	ASSERT_EQ(0, pins_read(0, &p));
	ASSERT_EQ(1, p.nr);
	h = &p.holder[0];
	EXPECT_EQ(9, h->pages);
	EXPECT_EQ(18, h->peak);
	EXPECT_EQ(19, h->acquired);
	EXPECT_EQ(10, h->released);
	EXPECT_EQ(h->pages, h->acquired - h->released);
	EXPECT_EQ(9, p.charge);
	EXPECT_EQ(9, p.held);
}

/* Since @before, each of both nodes has @more */
static void expect_nodes(struct __test_metadata *_metadata,
			 const long before[2], const char *key, long more)
{
	int node;

	for (node = 0; node < 2; node++) {
		EXPECT_EQ(more, vmstat_of_node(node, key) - before[node])
			TH_LOG("node %d, %s", node, key);
	}
}

/* Pins are counted together as long as the pages are of one node: this has two */
TEST_F(who, counters_of_nodes)
{
	long acquired[2], released[2], pinned[2];
	int node;

	for (node = 0; node < 2; node++) {
		char *half = self->mem + node * N / 2 * PAGE;

		ASSERT_EQ(0, bind_to_node(node, half, N / 2 * PAGE));
		acquired[node] = vmstat_of_node(node, "nr_foll_pin_acquired");
		released[node] = vmstat_of_node(node, "nr_foll_pin_released");
		pinned[node] = vmstat_of_node(node, "nr_longterm_pinned");
		ASSERT_LE(0, acquired[node]);
	}
	ASSERT_EQ(0, vfio_open(&self->v, 0));
	ASSERT_EQ(0, vfio_map(&self->v, self->mem, IOVA, SIZE, MAP_RW));
	expect_nodes(_metadata, acquired, "nr_foll_pin_acquired", N / 2);
	expect_nodes(_metadata, pinned, "nr_longterm_pinned", N / 2);
	ASSERT_EQ((long)SIZE, vfio_unmap(&self->v, IOVA, SIZE));
	expect_nodes(_metadata, released, "nr_foll_pin_released", N / 2);
	expect_nodes(_metadata, pinned, "nr_longterm_pinned", 0);
}

/* What was never written has the zero page, of which no pin is counted */
TEST_F(who, counters_of_zero_pages)
{
	struct pin_longterm_test pin = {
		.size = SIZE,
		.flags = PIN_LONGTERM_TEST_FLAG_USE_FAST,
	};
	struct snap before;
	char *mem;
	int fd;

	mem = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, madvise(mem, SIZE, MADV_NOHUGEPAGE));
	ASSERT_EQ(0, madvise(mem, SIZE, MADV_POPULATE_READ));
	pin.addr = (unsigned long)mem;
	fd = open("/sys/kernel/debug/gup_test", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, snap(&before));
	ASSERT_EQ(0, ioctl(fd, PIN_LONGTERM_TEST_START, &pin));
	ASSERT_EQ(0, ioctl(fd, PIN_LONGTERM_TEST_STOP));
	EXPECT_BACK(&before);
	close(fd);
	munmap(mem, SIZE);
}

/* What does not stay mapped is not counted as pinned, or is released again */
TEST_F(who, counters_after_a_refusal)
{
	const struct holder *h;
	struct pins p;
	char *hole;

	open_and_map(_metadata, self);
	hole = anon_pages(1024 * PAGE);
	ASSERT_EQ(0, munmap(hole + 1000 * PAGE, PAGE));
	EXPECT_EQ(-EFAULT, vfio_map(&self->v, hole, IOVA_FAR, 1024 * PAGE,
				    MAP_RW));
	ASSERT_EQ(0, pins_read(0, &p));
	h = &p.holder[0];
	EXPECT_EQ(N, h->pages);
	EXPECT_EQ(N, h->acquired - h->released);
	EXPECT_REFUSED(&self->base, FAULT, 1);
	EXPECT_STATE(&self->base, 0, 0, 0);
}

/* What was refused, and why, can be read when nothing is mapped (any more) */
TEST_F(who, refusals_stay)
{
	struct pins p;
	char *hole;
	int i;

	ASSERT_EQ(0, vfio_open(&self->v, 0));
	hole = anon_pages(PAGE);
	ASSERT_EQ(0, munmap(hole, PAGE));
	EXPECT_EQ(-EFAULT, vfio_map(&self->v, hole, IOVA, PAGE, MAP_RW));
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, pins_read(0, &p));
		ASSERT_EQ(1, p.nr);
		EXPECT_EQ(1, p.holder[0].refused[FAULT]);
		EXPECT_EQ(0, p.holder[0].pages);
		EXPECT_EQ(i * N, p.holder[0].acquired);
		EXPECT_EQ(i * N, p.holder[0].released);
		ASSERT_EQ(0, vfio_map(&self->v, self->mem, IOVA, SIZE, MAP_RW));
		EXPECT_EQ((long)SIZE, vfio_unmap(&self->v, IOVA, SIZE));
	}
	vfio_close(&self->v);
	ASSERT_EQ(0, pins_read(0, &p));
	EXPECT_EQ(0, p.nr);
}

/* The list of all says the same as the file of each */
TEST_F(who, list_agrees)
{
	static struct pins all;
	long nodes = 0, counted;
	int i, node, found = 0;
	char path[96], *text, *at;
	const struct holder *own;

	open_and_map(_metadata, self);
	own = &self->base.pins.holder[0];
	ASSERT_EQ(0, pins_read_all(&all));
	for (i = 0; i < all.nr; i++) {
		const struct holder *h = &all.holder[i];

		if (h->pid != getpid())
			continue;
		found++;
		EXPECT_STREQ(own->name, h->name);
		EXPECT_STREQ("alive", h->state);
		EXPECT_STREQ("who", h->comm);
		EXPECT_EQ(own->pages, h->pages);
		EXPECT_EQ(own->peak, h->peak);
		EXPECT_EQ(own->acquired, h->acquired);
		EXPECT_EQ(own->released, h->released);
		EXPECT_EQ(self->base.pins.charge, h->charge);
		EXPECT_EQ(self->base.pins.held, h->held);
	}
	EXPECT_EQ(1, found);

	/* The nodes' counters and the host's are one */
	counted = vmstat("nr_longterm_pinned");
	for (node = 0; node < 8; node++) {
		snprintf(path, sizeof(path),
			 "/sys/devices/system/node/node%d/vmstat", node);
		text = slurp(path);
		at = text ? strstr(text, "nr_longterm_pinned ") : NULL;
		if (at)
			nodes += atol(at + strlen("nr_longterm_pinned "));
		free(text);
	}
	if (file_exists("/sys/devices/system/node/node0"))
		EXPECT_EQ(counted, nodes);
	EXPECT_EQ(N, counted - self->before.counted);
}

/* --- Names that users choose ------------------------------------------------ */

#define FORGED	"FORGED"

/* The first byte of a text that is no UTF-8, or a control character; or 0 */
static unsigned char odd_byte(const char *text)
{
	size_t left = strlen(text), n;
	mbstate_t state = { 0 };
	wchar_t c;

	for (; left; text += n, left -= n) {
		n = mbrtowc(&c, text, left, &state);
		if (n > left || (iswcntrl(c) && c != '\n' && c != '\t'))
			return *text;
	}
	return 0;
}

/* Undo the kernel's escapes up to the first @stop, or to the end, and return it */
static const char *unescape(const char *text, char stop, char *to)
{
	unsigned int byte;
	int n;

	for (; *text && *text != stop; text += n, to++) {
		*to = *text;
		n = 1;
		if (*text == '\\' && strspn(text + 1, "01234567") >= 3 &&
		    text[1] <= '3') {
			sscanf(text + 1, "%3o", &byte);
			*to = byte;
			n = 4;
		}
	}
	*to = 0;
	return text;
}

static void check_words(struct __test_metadata *_metadata, size_t which,
			const char *name)
{
	char want[16] = "?", got[64] = "";
	static struct pins all;
	int i, found = 0;
	char *text;

	ASSERT_EQ(0, pins_read_all(&all)) TH_LOG("the list is torn");
	for (i = 0; i < all.nr; i++) {
		if (all.holder[i].pid != getpid())
			continue;
		found++;
		/* It can be told which name it was, and from all others */
		unescape(all.holder[i].comm, 0, got);
	}
	EXPECT_EQ(1, found);
	if (*name)
		snprintf(want, sizeof(want), "%s", name);
	EXPECT_STREQ(want, got) TH_LOG("name %zu", which);
	text = slurp(LIST);
	ASSERT_NE(NULL, text);
	EXPECT_EQ(0, odd_byte(text)) TH_LOG("in the list, of name %zu", which);
	EXPECT_EQ(NULL, strstr(text, "\n" FORGED));
	free(text);
}

/* It stands in the list as it is, and can be pasted */
TEST_F(who, harmless_process_name)
{
	static const char name[] = "qemu\\x2d1 m\xc3\xb6" "b";
	static const char text[] = " qemu\\x2d1\\040m\xc3\xb6" "b ";
	char *list;

	prctl(PR_SET_NAME, name);
	open_and_map(_metadata, self);
	list = slurp(LIST);
	ASSERT_NE(NULL, list);
	EXPECT_NE(NULL, strstr(list, text)) TH_LOG("%s", list);
	free(list);
}

TEST_F(who, process_names)
{
	static const char *const names[] = {
		"a b c", "a\n" FORGED " 1 2", "\n" FORGED "\n", "q\"\\\"'%s%n",
		"\t\x01\x7f\x1b[31m", "\xff\xfe\x80x", "", "\\n\\040", " ",
		"\xc2\x9b" "31m", "m\xc3\xb6" "bel", "qemu\\x2d1",
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		prctl(PR_SET_NAME, names[i]);
		open_and_map(_metadata, self);
		check_words(_metadata, i, names[i]);
		vfio_close(&self->v);
	}
}

/* A line that begins with this, after its level and time */
static bool begins(const char *log, const char *what)
{
	const char *at = log;
	size_t n = strlen(what);

	for (; (at = strstr(at, what)); at += n) {
		if (at == log || at[-1] == '\n' ||
		    (at - log >= 2 && at[-2] == ']'))
			return true;
	}
	return false;
}

TEST_F(who, log_line)
{
	const char *dir = getenv("USERPIN_EXT4");
	char path[256], text[96], *log, *mem, *hole;
	const char *name;
	int fd;

	if (!dir)
		SKIP(return, "no USERPIN_EXT4 here");
	prctl(PR_SET_NAME, "logger");
	open_and_map(_metadata, self);
	name = self->base.pins.holder[0].name;
	snprintf(path, sizeof(path), "%s/pin-me.%d", dir, getpid());
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, SIZE));
	mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, (void *)mem);
	log_room(2);
	EXPECT_EQ(-EOPNOTSUPP, vfio_map(&self->v, mem, IOVA_FAR, SIZE,
					MAP_RW));

	/* Everything that one wants to know, in one line */
	log = kernel_log();
	ASSERT_NE(NULL, log);
	EXPECT_TRUE(logged(log, "refused", name));
	EXPECT_TRUE(logged(log, name, "file"));
	EXPECT_TRUE(logged(log, name, path)) TH_LOG("%s", path);
	EXPECT_TRUE(logged(log, name, "ext4"));
	EXPECT_TRUE(logged(log, name, "logger"));
	snprintf(text, sizeof(text), "%d", getpid());
	EXPECT_TRUE(logged(log, name, text));
	EXPECT_TRUE(logged(log, name, ", uid 0, cgroup \"/"));
	/* Where memory lies is for the trace event, which only root may read */
	snprintf(text, sizeof(text), "%lx", (unsigned long)mem);
	EXPECT_FALSE(logged(log, name, text)) TH_LOG("%s", text);
	free(log);

	/* The other reasons have their word, too */
	hole = anon_pages(PAGE);
	munmap(hole, PAGE);
	EXPECT_EQ(-EFAULT, vfio_map(&self->v, hole, IOVA_FAR, PAGE, MAP_RW));
	log = kernel_log();
	EXPECT_TRUE(logged(log, name, "fault"));
	free(log);
	unlink(path);
	close(fd);
}

/* What VFIO used to say without a process */
TEST_F(who, log_line_of_a_limit)
{
	char want[768], *log, *mem = anon_pages(PAGE);

	ASSERT_NE(NULL, mem);
	prctl(PR_SET_NAME, "logger");
	ASSERT_EQ(0, set_memlock(N * PAGE));
	ASSERT_EQ(0, cap_drop(CAP_IPC_LOCK));
	open_and_map(_metadata, self);
	log_room(1);
	EXPECT_EQ(-ENOMEM, vfio_map(&self->v, mem, IOVA_FAR, PAGE, MAP_RW));
	snprintf(want, sizeof(want),
		 "longterm_pin: refused memlock: %s of \"logger\" [%d], uid 0, cgroup \"%s\": the process would exceed RLIMIT_MEMLOCK",
		 self->base.pins.holder[0].name, getpid(),
		 self->base.pins.cgroup);
	log = kernel_log();
	ASSERT_NE(NULL, log);
	EXPECT_NE(NULL, strstr(log, want)) TH_LOG("%s", want);
	free(log);
}

static long refused_since_boot(const char *reason)
{
	char want[64], *text = slurp(LIST), *at;
	long n = -1;

	snprintf(want, sizeof(want), "\nrefused %s ", reason);
	at = text ? strstr(text, want) : NULL;
	if (at)
		n = atol(at + strlen(want));
	free(text);
	return n;
}

/* Lines of the log that have both */
static int count_lines(const char *log, const char *a, const char *b)
{
	const char *at, *end;
	char line[2048];
	int n = 0;

	for (at = log; *at; at = *end ? end + 1 : end) {
		end = strchrnul(at, '\n');
		snprintf(line, sizeof(line), "%.*s", (int)(end - at), at);
		n += strstr(line, a) && strstr(line, b);
	}
	return n;
}

/* A user who is refused again and again does not flood the log: with any holder */
TEST_F(who, log_is_limited)
{
	char *hole, *log, want[64];
	uint64_t start;
	int i, k, lines, windows;
	struct pins p;

	prctl(PR_SET_NAME, "flood");
	hole = anon_pages(PAGE);
	ASSERT_EQ(0, mprotect(hole, PAGE, PROT_NONE));
	log_room(1);
	start = now_ms();
	for (i = 0; i < 20; i++) {
		open_and_map(_metadata, self);
		for (k = 0; k < 10; k++) {
			EXPECT_EQ(-EFAULT, vfio_map(&self->v, hole, IOVA_FAR,
						    PAGE, MAP_RW));
		}
		EXPECT_EQ(0, pins_read(0, &p));
		EXPECT_EQ(10, p.holder[0].refused[FAULT]);
		vfio_close(&self->v);
	}
	/* The first may have begun before */
	windows = (now_ms() - start) / 5000 + 2;
	log = kernel_log();
	ASSERT_NE(NULL, log);
	snprintf(want, sizeof(want), "of \"flood\" [%d]", getpid());
	lines = count_lines(log, "refused fault", want);
	EXPECT_LE(1, lines);
	EXPECT_GE(LOG_LINES * windows, lines);
	free(log);
}

/* Of @uid, @n maps are refused; so many lines of that are in the log */
static int flood(struct __test_metadata *_metadata, FIXTURE_DATA(who) *self,
		 uid_t uid, int n)
{
	char *hole = mmap(NULL, PAGE, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char want[32];

	EXPECT_NE(MAP_FAILED, (void *)hole);
	EXPECT_EQ(0, setresuid(uid, 0, 0));
	while (n--) {
		EXPECT_EQ(-EFAULT, vfio_map(&self->v, hole, IOVA_FAR, PAGE,
					    MAP_RW));
	}
	EXPECT_EQ(0, setresuid(0, 0, 0));
	munmap(hole, PAGE);
	snprintf(want, sizeof(want), " [%d], uid %u, ", getpid(), uid);
	return log_lines("refused fault", want);
}

/* Most windows of the log's limits since then; the kernel counts in jiffies */
static long log_windows(uint64_t start)
{
	return (now_ms() - start + 100) / 5000 + 1;
}

/* Nor does one user's flood take the lines that others have */
TEST_F(who, log_of_another_user)
{
	uint64_t start;
	int lines;

	open_and_map(_metadata, self);
	log_room(LOG_LINES);
	start = now_ms();
	lines = flood(_metadata, self, SOMEBODY, 200);
	EXPECT_LE(LOG_LINES, lines);
	EXPECT_GE(LOG_LINES * log_windows(start), lines);
	EXPECT_EQ(LOG_LINES, flood(_metadata, self, ANOTHER, LOG_LINES));
}

/* All together have a limit, too. Neighbours in number do not share one */
TEST_F(who, log_of_many_users)
{
	uint64_t start;
	int i, lines = 0;

	open_and_map(_metadata, self);
	log_room(LOG_LINES);
	start = now_ms();
	for (i = 0; i < 16; i++)
		lines += flood(_metadata, self, 5000 + i, LOG_LINES);
	EXPECT_LE(LOG_HOST, lines);
	EXPECT_GE(LOG_HOST * log_windows(start), lines);
}

/* Refusals since boot, also of holders that have gone */
TEST_F(who, refusals_of_the_host)
{
	char *hole = anon_pages(PAGE);
	long before, after;

	ASSERT_EQ(0, mprotect(hole, PAGE, PROT_NONE));
	open_and_map(_metadata, self);
	before = refused_since_boot("fault");
	EXPECT_LE(0, before);
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(-EFAULT, vfio_map(&self->v, hole, IOVA_FAR, PAGE,
					    MAP_RW));
	}
	vfio_close(&self->v);
	after = refused_since_boot("fault");
	EXPECT_EQ(before + 3, after);
}

TEST_F(who, file_names)
{
	static const char *const names[] = {
		"\n" FORGED "1 longterm_pin: refused\n",
		"a\r" FORGED "2\x1b[2K", "\"q\" on xfs: \\ %s%d%n", "\xff\x80\x01",
		"\\042\\134", "vm\\x2d1 m\xc3\xb6" "bel",
	};
	const char *dir = getenv("USERPIN_EXT4"), *at, *end;
	char path[300], got[1100], *log, *mem;
	size_t i;
	int fd;

	if (!dir)
		SKIP(return, "no USERPIN_EXT4 here");
	prctl(PR_SET_NAME, "x\n" FORGED "3\x1b");
	open_and_map(_metadata, self);
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, ftruncate(fd, SIZE));
		mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			   0);
		ASSERT_NE(MAP_FAILED, (void *)mem);
		log_room(1);
		EXPECT_EQ(-EOPNOTSUPP, vfio_map(&self->v, mem, IOVA_FAR, SIZE,
						MAP_RW));
		munmap(mem, SIZE);
		unlink(path);
		close(fd);

		/* The name in the last line of the log is this one */
		log = kernel_log();
		ASSERT_NE(NULL, log);
		for (at = NULL, end = log; (end = strstr(end, "file \""));)
			at = end += strlen("file \"");
		ASSERT_NE(NULL, at);
		end = unescape(at, '"', got);
		EXPECT_EQ(0, strncmp(end, "\" on ext4: ", 11));
		EXPECT_STREQ(path, got);
		free(log);
	}
	log = kernel_log();
	ASSERT_NE(NULL, log);
	/* The last one does no harm, and can be pasted */
	EXPECT_NE(NULL, strstr(log, path));
	EXPECT_NE(NULL, strstr(log, FORGED "1"))
		TH_LOG("the names did not get into the log");
	EXPECT_FALSE(begins(log, FORGED));
	EXPECT_EQ(NULL, strstr(log, "\n" FORGED));
	EXPECT_EQ(0, odd_byte(log)) TH_LOG("in the log");
	free(log);
}

/* --- Tracepoints ------------------------------------------------------------ */

TEST_F(who, tracepoints)
{
	char *text, *hole = anon_pages(PAGE), want[64];
	pid_t pid = getpid();
	long sum;

	ASSERT_TRUE(trace_supported());
	ASSERT_EQ(0, vfio_open(&self->v, 0));
	ASSERT_EQ(0, trace_on());
	ASSERT_EQ(0, vfio_map(&self->v, self->mem, IOVA, SIZE, MAP_RW));
	munmap(hole, PAGE);
	EXPECT_EQ(-EFAULT, vfio_map(&self->v, hole, IOVA_FAR, PAGE, MAP_RW));
	ASSERT_EQ(0, snap(&self->base));
	ASSERT_EQ((long)SIZE, vfio_unmap(&self->v, IOVA, SIZE));
	trace_off();
	text = trace_read();
	ASSERT_NE(NULL, text);

	EXPECT_LE(1, trace_count(text, "longterm_pin", pid, "npages", &sum));
	EXPECT_EQ(N, sum);
	EXPECT_LE(1, trace_count(text, "longterm_put", pid, "npages", &sum));
	EXPECT_EQ(N, sum);
	EXPECT_EQ(1, trace_count(text, "longterm_refuse", pid, "npages", &sum));
	EXPECT_EQ(1, sum);
	EXPECT_EQ(1, trace_count(text, "longterm_refuse", pid, "err", &sum));
	EXPECT_EQ(-EFAULT, sum);
	EXPECT_TRUE(logged(text, ": longterm_refuse: ", "reason=fault"));
	snprintf(want, sizeof(want), "holder=%s ",
		 self->base.pins.holder[0].name);
	EXPECT_TRUE(logged(text, ": longterm_pin: ", want));
	EXPECT_TRUE(logged(text, ": longterm_put: ", want));
	EXPECT_TRUE(logged(text, ": longterm_refuse: ", want));
	snprintf(want, sizeof(want), "charge=%ld held=%ld", N, N);
	EXPECT_TRUE(logged(text, ": longterm_pin: ", want));
	EXPECT_TRUE(logged(text, ": longterm_put: ", "charge=0 held=0"));
	snprintf(want, sizeof(want), "start=0x%lx", (unsigned long)self->mem);
	EXPECT_TRUE(logged(text, ": longterm_pin: ", want));
	free(text);

	/* Switched off they are silent */
	close(open("/sys/kernel/tracing/trace", O_WRONLY | O_TRUNC));
	ASSERT_EQ(0, vfio_map(&self->v, self->mem, IOVA, SIZE, MAP_RW));
	text = trace_read();
	EXPECT_EQ(0, trace_count(text, "longterm_pin", pid, NULL, NULL));
	free(text);
}

TEST_HARNESS_MAIN
