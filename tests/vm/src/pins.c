// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <time.h>
#include <unistd.h>

#include "pins.h"
#include "util.h"

#define LIST		"/proc/longterm_pins"

const char *const reason_name[NR_REASONS + 1] = {
	[FSDAX]		= "fsdax",
	[FILEMAP]	= "file",
	[SECRETMEM]	= "secretmem",
	[PFNMAP]	= "pfnmap",
	[MEMLOCK]	= "memlock",
	[CGROUP]	= "cgroup",
	[MIGRATE]	= "migrate",
	[OVERFLOW_]	= "overflow",
	[NOMEM]		= "nomem",
	[FAULT]		= "fault",
	[EOF_]		= "eof",
	[NOSPACE]	= "nospace",
	[NOHUGETLB]	= "nohugetlb",
	[NO_REASON]	= "-",
};

#define MAX_WORDS	32

/* Split a line, which ends at a newline, in place */
static int split(char *line, char *word[])
{
	int n = 0;
	char *save;

	for (word[n] = strtok_r(line, " \t", &save); word[n];
	     word[n] = strtok_r(NULL, " \t", &save))
		if (++n == MAX_WORDS)
			return -EBADMSG;
	return n;
}

static int number(const char *word, long *value)
{
	char *end;

	if (*word < '0' || *word > '9')
		return -EBADMSG;
	errno = 0;
	*value = strtol(word, &end, 10);
	return *end || errno ? -EBADMSG : 0;
}

/* holder pages peak acquired released <reasons> */
static int holder_columns(char *word[], struct holder *h)
{
	int i, ret = 0;

	if (strlen(word[0]) >= sizeof(h->name))
		return -EBADMSG;
	strcpy(h->name, word[0]);
	ret |= number(word[1], &h->pages);
	ret |= number(word[2], &h->peak);
	ret |= number(word[3], &h->acquired);
	ret |= number(word[4], &h->released);
	for (i = 0; i < NR_REASONS; i++)
		ret |= number(word[5 + i], &h->refused[i]);
	return ret ? -EBADMSG : 0;
}

static int header_columns(char *word[])
{
	static const char *const first[] = {
		"holder", "pages", "peak", "acquired", "released"
	};
	int i;

	for (i = 0; i < 5; i++)
		if (strcmp(word[i], first[i]))
			return -EBADMSG;
	for (i = 0; i < NR_REASONS; i++)
		if (strcmp(word[5 + i], reason_name[i]))
			return -EBADMSG;
	return 0;
}

static int total(char *word[], int n, const char *key, long *value)
{
	if (n != 2 || strcmp(word[0], key))
		return -EBADMSG;
	if (!strcmp(key, "limit") && !strcmp(word[1], "unlimited")) {
		*value = UNLIMITED;
		return 0;
	}
	if (!strcmp(key, "limit") && !strcmp(word[1], "-")) {
		*value = NO_LIMIT;
		return 0;
	}
	return number(word[1], value);
}

/* cgroup PATH, which may have blanks; cgroup-state removed */
static int cgroup_line(const char *line, struct pins *p)
{
	static const char key[] = "cgroup ";
	const char *path = line + strlen(key);

	if (*p->cgroup) {
		if (p->removed || strcmp(line, "cgroup-state removed"))
			return -EBADMSG;
		p->removed = true;
		return 0;
	}
	if (strncmp(line, key, strlen(key)) || !*path ||
	    strlen(path) >= sizeof(p->cgroup))
		return -EBADMSG;
	strcpy(p->cgroup, path);
	return 0;
}

int pins_parse(const char *text, struct pins *p)
{
	static const char *const key[] = { "charge", "held", "pinned", "user",
					   "limit" };
	long *value[] = { &p->charge, &p->held, &p->pinned, &p->user,
			  &p->limit };
	const int last = sizeof(key) / sizeof(*key);
	char *copy, *line, *next, *word[MAX_WORDS + 1];
	int n, ret = -EBADMSG, totals = 0, lines = 0;

	memset(p, 0, sizeof(*p));
	copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	for (line = copy; *line; line = next, lines++) {
		next = strchr(line, '\n');
		if (!next)
			goto out;
		*next++ = 0;
		if (totals == last) {
			if (cgroup_line(line, p))
				goto out;
			continue;
		}
		n = split(line, word);
		if (!lines) {
			if (n != 5 + NR_REASONS || header_columns(word))
				goto out;
		} else if (n == 5 + NR_REASONS) {
			if (totals || p->nr == MAX_HOLDERS ||
			    holder_columns(word, &p->holder[p->nr++]))
				goto out;
		} else {
			if (total(word, n, key[totals], value[totals]))
				goto out;
			totals++;
		}
	}
	if (*p->cgroup)
		ret = 0;
out:
	free(copy);
	return ret;
}

int pins_read(pid_t pid, struct pins *p)
{
	char path[64], *text;
	int ret;

	if (pid)
		snprintf(path, sizeof(path), "/proc/%d/longterm_pins", pid);
	else
		strcpy(path, "/proc/self/longterm_pins");
	text = slurp(path);
	if (!text)
		return -errno;
	ret = pins_parse(text, p);
	free(text);
	return ret;
}

/* pid comm state <as above> charge held ledger */
static int all_columns(char *word[], struct holder *h)
{
	long pid;

	if (number(word[0], &pid) || strlen(word[1]) >= sizeof(h->comm) ||
	    strlen(word[2]) >= sizeof(h->state))
		return -EBADMSG;
	h->pid = pid;
	strcpy(h->comm, word[1]);
	strcpy(h->state, word[2]);
	if (strcmp(h->state, "alive") && strcmp(h->state, "gone"))
		return -EBADMSG;
	if (holder_columns(word + 3, h) ||
	    number(word[8 + NR_REASONS], &h->charge) ||
	    number(word[9 + NR_REASONS], &h->held) ||
	    number(word[10 + NR_REASONS], &h->ledger))
		return -EBADMSG;
	return 0;
}

int pins_read_all(struct pins *p)
{
	char *text, *line, *next, *word[MAX_WORDS + 1];
	int n, ret = -EBADMSG, lines = 0;

	memset(p, 0, sizeof(*p));
	text = slurp(LIST);
	if (!text)
		return -errno;
	for (line = text; *line; line = next, lines++) {
		next = strchr(line, '\n');
		if (!next)
			goto out;
		*next++ = 0;
		n = split(line, word);
		/* Those since boot */
		if (n == 3 && lines && !strcmp(word[0], "refused"))
			continue;
		if (n != 11 + NR_REASONS)
			goto out;
		if (!lines) {
			if (strcmp(word[0], "pid") || strcmp(word[1], "comm") ||
			    strcmp(word[2], "state") ||
			    header_columns(word + 3) ||
			    strcmp(word[8 + NR_REASONS], "charge") ||
			    strcmp(word[9 + NR_REASONS], "held") ||
			    strcmp(word[10 + NR_REASONS], "ledger"))
				goto out;
		} else if (p->nr == MAX_HOLDERS ||
			   all_columns(word, &p->holder[p->nr++])) {
			goto out;
		}
	}
	if (lines)
		ret = 0;
out:
	free(text);
	return ret;
}

bool on_stock;

void stock_option(int *argc, char **argv)
{
	if (*argc < 2 || strcmp(argv[1], "--stock"))
		return;
	on_stock = true;
	--*argc;
	memmove(argv + 1, argv + 2, *argc * sizeof(*argv));
}

bool pins_supported(void)
{
	return file_exists("/proc/self/longterm_pins");
}

long pins_pages(const struct pins *p)
{
	long sum = 0;
	int i;

	for (i = 0; i < p->nr; i++)
		sum += p->holder[i].pages;
	return sum;
}

long pins_refused(const struct pins *p, enum reason why)
{
	long sum = 0;
	int i;

	for (i = 0; i < p->nr; i++)
		sum += p->holder[i].refused[why];
	return sum;
}

long pins_of_the_dead(void)
{
	static struct pins p;
	long pages = 0;
	int i;

	if (pins_read_all(&p))
		return -1;
	for (i = 0; i < p.nr; i++)
		if (!strcmp(p.holder[i].state, "gone"))
			pages += p.holder[i].pages;
	return pages;
}

int holders_of(pid_t pid)
{
	static struct pins all;
	int i, n = 0;

	if (pins_read_all(&all))
		return -1;
	for (i = 0; i < all.nr; i++)
		n += all.holder[i].pid == pid;
	return n;
}

long pins_refused_ever(enum reason why)
{
	char key[32];

	snprintf(key, sizeof(key), "refused %s", reason_name[why]);
	return cgroup_value("/proc", "longterm_pins", key);
}

long status_pages(pid_t pid, const char *key)
{
	char path[64], *text, *at;
	long value = -1;

	if (pid)
		snprintf(path, sizeof(path), "/proc/%d/status", pid);
	else
		strcpy(path, "/proc/self/status");
	text = slurp(path);
	if (!text)
		return -1;
	at = strstr(text, key);
	if (at)
		value = strtol(at + strlen(key), NULL, 10) / 4;
	free(text);
	return value;
}

static long vmstat_of(const char *path, const char *key)
{
	size_t len = strlen(key);
	char *text, *at;
	long value = -1;

	/* Bring home what CPUs have not yet told */
	write_text("/proc/sys/vm/stat_refresh", "1");
	text = slurp(path);
	if (!text)
		return -1;
	for (at = text; at; at = strchr(at, '\n')) {
		at += *at == '\n';
		if (!strncmp(at, key, len) && at[len] == ' ') {
			value = strtol(at + len, NULL, 10);
			break;
		}
	}
	free(text);
	return value;
}

long vmstat(const char *key)
{
	return vmstat_of("/proc/vmstat", key);
}

long vmstat_of_node(int node, const char *key)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/vmstat",
		 node);
	return vmstat_of(path, key);
}

long cgroup_value(const char *dir, const char *file, const char *key)
{
	char path[512], *text, *at;
	size_t len = strlen(key);
	long value = -1;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	text = slurp(path);
	if (!text)
		return -1;
	for (at = text; at; at = strchr(at, '\n')) {
		at += *at == '\n';
		if (strncmp(at, key, len) || at[len] != ' ')
			continue;
		at += len + 1;
		value = !strncmp(at, "max", 3) ? LONG_MAX : atol(at);
		break;
	}
	free(text);
	return value;
}

long cgroup_held(const char *dir)
{
	long bytes = cgroup_value(dir, "misc.current", "longterm_pin");

	return bytes < 0 ? -1 : bytes / (long)PAGE;
}

const char *cgroup_root(void)
{
	return getenv("USERPIN_CGROUP") ?: "/sys/fs/cgroup";
}

int snap(struct snap *s)
{
	int ret = 0;

	/* A stock kernel has the other counters */
	if (pins_supported())
		ret = pins_read(0, &s->pins);
	else
		memset(&s->pins, 0, sizeof(s->pins));

	s->vmlck = status_pages(0, "VmLck:");
	s->vmpin = status_pages(0, "VmPin:");
	s->counted = vmstat("nr_longterm_pinned");
	s->foll = vmstat("nr_foll_pin_acquired") -
		  vmstat("nr_foll_pin_released");
	s->cgroups = cgroup_held(cgroup_root());
	return ret;
}

const char *snap_differs(const struct snap *a, const struct snap *b)
{
	static char text[800];
	const struct {
		const char *what;
		long a, b;
	} part[] = {
		{ "pages", pins_pages(&a->pins), pins_pages(&b->pins) },
		{ "charge", a->pins.charge, b->pins.charge },
		{ "held", a->pins.held, b->pins.held },
		{ "pinned", a->pins.pinned, b->pins.pinned },
		{ "user", a->pins.user, b->pins.user },
		{ "VmLck", a->vmlck, b->vmlck },
		{ "VmPin", a->vmpin, b->vmpin },
		{ "nr_longterm_pinned", a->counted, b->counted },
		{ "nr_foll_pin", a->foll, b->foll },
		{ "misc.current", a->cgroups, b->cgroups },
	};
	size_t i, len = 0;

	for (i = 0; i < sizeof(part) / sizeof(part[0]); i++) {
		if (part[i].a != part[i].b)
			len += sprintf(text + len, "%s%s is %ld, not %ld",
				       len ? ", " : "", part[i].what, part[i].b,
				       part[i].a);
	}
	return len ? text : NULL;
}

/* What is given back a moment later, by RCU or a worker: looks (util.h) */
#define SETTLE	2000

const char *snap_settles(const struct snap *a)
{
	const char *diff;
	struct snap *b = malloc(sizeof(*b));
	unsigned int look;

	if (!b)
		return "no memory";
	for (look = 1;; look++) {
		diff = snap(b) ? "longterm_pins cannot be read" :
				 snap_differs(a, b);
		if (!diff || look == SETTLE)
			break;
		before_next_look();
	}
	free(b);
	return diff;
}

char *kernel_log(void)
{
	int len, size = klogctl(10 /* size of the buffer */, NULL, 0);
	char *buf;

	if (size <= 0)
		return NULL;
	buf = malloc(size + 1);
	if (!buf)
		return NULL;
	len = klogctl(3 /* read all */, buf, size);
	if (len < 0) {
		free(buf);
		return NULL;
	}
	buf[len] = 0;
	return buf;
}

/* Refusals that the log has, of the last seconds */
static int refused_lately(int seconds)
{
	char *log = kernel_log(), *at, *time;
	struct timespec now;
	int n = 0;

	if (!log)
		return 0;
	clock_gettime(CLOCK_BOOTTIME, &now);
	for (at = log; (at = strstr(at, "] longterm_pin: refused")); at++) {
		for (time = at; time > log && *time != '['; time--)
			;
		n += atof(time + 1) > now.tv_sec - seconds;
	}
	free(log);
	return n;
}

void log_room(int lines)
{
	while (refused_lately(7) + lines > LOG_LINES)
		usleep(200000);
}

bool logged(const char *log, const char *a, const char *b)
{
	const char *at, *end;
	char line[2048];

	for (at = log; *at; at = *end ? end + 1 : end) {
		end = strchrnul(at, '\n');
		snprintf(line, sizeof(line), "%.*s", (int)(end - at), at);
		if (strstr(line, a) && strstr(line, b))
			return true;
	}
	return false;
}

int log_lines(const char *a, const char *b)
{
	char *log = kernel_log(), *line, *save;
	int n = 0;

	for (line = log ? strtok_r(log, "\n", &save) : NULL; line;
	     line = strtok_r(NULL, "\n", &save))
		n += strstr(line, a) && strstr(line, b);
	free(log);
	return n;
}

bool trace_supported(void)
{
	return file_exists(TRACEFS "/events/user_pages/enable");
}

int trace_on(void)
{
	int ret = write_text(TRACEFS "/trace", "");

	/* Opening for writing without O_TRUNC does not empty it */
	close(open(TRACEFS "/trace", O_WRONLY | O_TRUNC | O_CLOEXEC));
	if (!ret)
		ret = write_text(TRACEFS "/events/user_pages/enable", "1");
	if (!ret)
		ret = write_text(TRACEFS "/tracing_on", "1");
	return ret;
}

void trace_off(void)
{
	write_text(TRACEFS "/events/user_pages/enable", "0");
}

int trace_mark(const char *text)
{
	return write_text(TRACEFS "/trace_marker", text);
}

char *trace_read(void)
{
	return slurp(TRACEFS "/trace");
}

int trace_count(const char *text, const char *event, pid_t pid,
		const char *field, long *sum)
{
	char name[32], task[16], key[32], line[1024];
	const char *at, *end, *value;
	int n = 0;

	/* "   comm-123   [001] d..1.  12.345678: longterm_pin: holder=... pages=4" */
	snprintf(name, sizeof(name), ": %s: ", event);
	snprintf(task, sizeof(task), "-%d ", pid);
	if (field)
		snprintf(key, sizeof(key), " %s=", field);
	if (sum)
		*sum = 0;
	for (at = text; at && *at; at = *end ? end + 1 : end) {
		end = strchrnul(at, '\n');
		snprintf(line, sizeof(line), "%.*s", (int)(end - at), at);
		if (*line == '#' || !strstr(line, name) ||
		    (pid && !strstr(line, task)))
			continue;
		n++;
		value = field ? strstr(line, key) : NULL;
		if (value && sum)
			*sum += strtol(value + strlen(key), NULL, 0);
	}
	return n;
}

int iommu_trace_start(void)
{
	int ret = write_text(TRACEFS "/buffer_size_kb", "4096");

	close(open(TRACEFS "/trace", O_WRONLY | O_TRUNC | O_CLOEXEC));
	if (!ret)
		ret = write_text(TRACEFS "/events/iommu/map/enable", "1");
	if (!ret)
		ret = write_text(TRACEFS "/events/iommu/unmap/enable", "1");
	if (!ret)
		ret = write_text(TRACEFS "/tracing_on", "1");
	return ret;
}

/* "... map: IOMMU: iova=0x1000 - 0x2000 paddr=0x3000 size=4096", and likewise */
static long iommu_event(const char *line, const char *event, const char *field,
			uint64_t iova, size_t size)
{
	char name[32];
	const char *at;
	uint64_t start;

	snprintf(name, sizeof(name), ": %s: IOMMU: iova=", event);
	at = strstr(line, name);
	if (!at)
		return 0;
	start = strtoull(at + strlen(name), NULL, 16);
	if (start < iova || start >= iova + size)
		return 0;
	at = strstr(at, field);
	return at ? atol(at + strlen(field)) : 0;
}

void iommu_trace_stop(struct iommu_pieces *p, uint64_t iova, size_t size)
{
	char *text, *line, *save;
	long len;

	write_text(TRACEFS "/events/iommu/map/enable", "0");
	write_text(TRACEFS "/events/iommu/unmap/enable", "0");
	*p = (struct iommu_pieces){ .least = LONG_MAX };
	text = trace_read();
	for (line = text ? strtok_r(text, "\n", &save) : NULL; line;
	     line = strtok_r(NULL, "\n", &save)) {
		len = iommu_event(line, "map", " size=", iova, size);
		if (len) {
			p->maps++;
			p->mapped += len;
			p->most = len > p->most ? len : p->most;
			p->least = len < p->least ? len : p->least;
		}
		len = iommu_event(line, "unmap", " unmapped_size=", iova, size);
		if (len) {
			p->unmaps++;
			p->unmapped += len;
		}
	}
	free(text);
}

void iommu_trace_frames(uint64_t iova, uint64_t *pfn, size_t npages)
{
	char *text, *line, *save, *at;
	unsigned long start, phys;
	size_t i, n;

	memset(pfn, 0, npages * sizeof(*pfn));
	text = trace_read();
	for (line = text ? strtok_r(text, "\n", &save) : NULL; line;
	     line = strtok_r(NULL, "\n", &save)) {
		n = iommu_event(line, "map", " size=", iova, npages * PAGE);
		at = strstr(line, " iova=");
		if (!n || sscanf(at, " iova=%lx - %*x paddr=%lx", &start,
				 &phys) != 2)
			continue;
		for (i = 0; i < n / PAGE; i++)
			if (start / PAGE - iova / PAGE + i < npages)
				pfn[start / PAGE - iova / PAGE + i] =
					phys / PAGE + i;
	}
	free(text);
}
