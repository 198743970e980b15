// SPDX-License-Identifier: GPL-2.0
/*
 * pinstat: who holds long-term pins, how much, under which limit, and what was
 * refused. See pinstat(8).
 */
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cgroups.h"
#include "check.h"
#include "columns.h"
#include "metrics.h"
#include "processes.h"
#include "selftest.h"
#include "sysroot.h"

#define MAX_PIDS	1024

struct request {
	struct format format;
	bool cgroups, metrics, per_holder;
	long pids[MAX_PIDS];	/* of --pid */
	size_t npids;
	long pid;		/* whose holders to show, or 0 */
	double interval;	/* seconds; 0: no rates */
};

static void usage(FILE *out)
{
	fputs("Usage: pinstat [options]           processes that hold long-term pins\n"
	      "       pinstat [options] PID       the holders of one\n"
	      "       pinstat [options] --cgroup  cgroups, and their limits\n"
	      "       pinstat --metrics           all of it for Prometheus\n"
	      "       pinstat check ...           can a VM's memory be pinned? (see pinstat check --help)\n"
	      "       pinstat selftest [GROUP]    are this host's counters right? (see pinstat selftest --help)\n"
	      "\n"
	      " -J, --json            JSON; sizes in bytes\n"
	      " -o, --output LIST     columns, with commas; +LIST: these as well\n"
	      "     --output-all      all columns\n"
	      " -b, --bytes           sizes in bytes\n"
	      " -n, --noheadings      no headings\n"
	      " -r, --raw             one space between columns, spaces in them escaped\n"
	      " -x, --sort COLUMN     in the order of a column; -COLUMN: the largest first\n"
	      " -p, --pid LIST        these processes only\n"
	      " -c, --cgroup          cgroups\n"
	      " -i, --interval SECS   what rates are measured over, 0: not at all (default 1)\n"
	      " -m, --metrics         for node_exporter's textfile collector (Prometheus text format)\n"
	      "     --per-holder      metrics of each holder and reason as well: many\n"
	      " -s, --sysroot DIR     a folder that pinstat-record has made, instead of the system\n"
	      " -H, --list-columns    the columns of each table\n"
	      " -h, --help            this\n"
	      " -V, --version         version\n", out);
}

static long parse_pid(const char *text)
{
	uint64_t pid;

	if (!parse_number(text, &pid) || !pid || pid > INT32_MAX)
		errx(2, "'%s' is not a process ID", text);
	return pid;
}

static void parse_pids(struct request *r, const char *list)
{
	char *copy = xstrdup(list), *at = copy, *word;

	while ((word = strsep(&at, ","))) {
		if (r->npids == MAX_PIDS)
			errx(2, "--pid: more than %d processes", MAX_PIDS);
		r->pids[r->npids++] = parse_pid(word);
	}
	free(copy);
}

static double parse_interval(const char *text)
{
	char *end;
	double secs = strtod(text, &end);

	/* NaN, too */
	if (*end || end == text || !(secs >= 0 && secs <= 86400))
		errx(2, "--interval: '%s' is not a number of seconds up to a day",
		     text);
	return secs;
}

static uint64_t percent(uint64_t part, uint64_t whole)
{
	return (long double)part * 100 / whole;
}

/* How much of the limit is used up, if there is one */
static void use_cell(struct table *t, enum column_id id, uint64_t part,
		     uint64_t whole, bool limited)
{
	if (limited && whole)
		cell_number(t, id, percent(part, whole));
	else
		cell_text(t, id, NULL);
}

static void limit_cell(struct table *t, enum column_id id, uint64_t limit,
		       const char *none)
{
	if (limit < LIMIT_UNKNOWN)
		cell_bytes(t, id, limit);
	else
		cell_text(t, id, limit == LIMIT_UNKNOWN ||
			  t->format->json ? NULL : none);
}

/* A path, and whether it is that of a cgroup which is gone */
static char *cgroup_text(const struct pins *pins)
{
	return pins->cgroup ? xasprintf("%s%s", pins->cgroup,
					pins->cgroup_removed ? " (removed)" :
							       "") : NULL;
}

static void process_line(struct table *t, const struct process *p)
{
	char *cgroup = cgroup_text(&p->pins);

	table_line(t);
	cell_number(t, COL_PID, p->pid);
	cell_text(t, COL_COMMAND, p->command);
	cell_text(t, COL_VM, p->vm);
	cell_text(t, COL_STATE, p->gone ? "gone" : "alive");
	cell_number(t, COL_HOLDERS, p->pins.nr);
	cell_bytes(t, COL_CHARGE, p->pins.charge);
	cell_bytes(t, COL_HELD, p->pins.held);
	limit_cell(t, COL_LIMIT, p->pins.limit, "unlimited");
	use_cell(t, COL_USE, p->vmlck, p->pins.limit,
		 p->pins.limit < LIMIT_UNKNOWN);
	cell_bytes(t, COL_UNTRACKED, p->untracked);
	cell_number(t, COL_REFUSED, process_refused(p));
	cell_bytes(t, COL_PROCESS_PINNED, process_pinned(p));
	cell_bytes(t, COL_VMLCK, p->vmlck);
	cell_text(t, COL_PROCESS_CGROUP, cgroup);
	free(cgroup);
}

/* Who may read what we may not */
static const char *who_may(void)
{
	return geteuid() ? "root may" : "a security module (SELinux, AppArmor) denies it to this program";
}

/* What is not in the table, and why; 1 if some is missing or cannot be trusted */
static int tell_missing(const struct processes *ps, size_t npids)
{
	size_t i, gone = 0;

	if (!npids && !processes_supported(ps))
		errx(1, "no process has a report of its pins (%s/proc/PID/longterm_pins): "
		     "this kernel is not a userpin kernel", sysroot);
	if (ps->denied)
		warnx("%zu process%s may not be read; %s", ps->denied,
		      ps->denied == 1 ? "" : "es", who_may());
	for (i = 0; i < ps->nr; i++)
		gone += ps->list[i].gone;
	if (gone)
		warnx("%zu of these ha%s ended; another process still has the files open, so the memory stays pinned (column STATE)",
		      gone, gone == 1 ? "s" : "ve");
	return ps->broken || ps->denied ? 1 : 0;
}

static int show_processes(const struct request *r)
{
	struct processes ps;
	struct table t;
	size_t i, n;
	int ret;

	table_start(&t, &r->format, PROCESSES, false);
	processes_read(&ps, r->pids, r->npids);
	ret = tell_missing(&ps, r->npids);
	for (i = 0; i < ps.nr; i++)
		process_line(&t, &ps.list[i]);
	table_print(&t);
	/* Asked for by number, and not there at all */
	for (n = 0; n < r->npids; n++) {
		if (sysroot_exists("/proc/%ld", r->pids[n]))
			continue;
		for (i = 0; i < ps.nr; i++)
			if (ps.list[i].pid == r->pids[n])
				break;
		if (i == ps.nr) {
			warnx("there is no process %ld", r->pids[n]);
			ret = 1;
		}
	}
	processes_free(&ps);
	return ret;
}

static char *reasons_text(const struct holder *h, const struct reasons *r)
{
	char *text = xstrdup(""), *more;
	size_t i;

	for (i = 0; i < r->nr; i++) {
		if (!h->refused[i])
			continue;
		more = xasprintf("%s%s%s %" PRIu64, text, *text ? ", " : "",
				 r->names[i], h->refused[i]);
		free(text);
		text = more;
	}
	return text;
}

static const struct holder *holder_find(const struct processes *ps,
					const char *name)
{
	size_t n, i;

	for (n = 0; n < ps->nr; n++)
		for (i = 0; i < ps->list[n].pins.nr; i++)
			if (!strcmp(ps->list[n].pins.holders[i].name, name))
				return &ps->list[n].pins.holders[i];
	return NULL;
}

/* @before: the same holder @secs ago, or NULL if there was none */
static void rate_cells(struct table *t, const struct holder *h,
		       const struct holder *before, double secs)
{
	uint64_t pin = h->acquired - (before ? before->acquired : 0);
	uint64_t put = h->released - (before ? before->released : 0);

	if (secs > 0 && (!before || (h->acquired >= before->acquired &&
				     h->released >= before->released))) {
		cell_bytes(t, COL_PIN_RATE, pin / secs);
		cell_bytes(t, COL_PUT_RATE, put / secs);
	} else {
		cell_text(t, COL_PIN_RATE, NULL);
		cell_text(t, COL_PUT_RATE, NULL);
	}
}

static void summary(const struct process *p)
{
	char *charge = human_size(p->pins.charge);
	char *held = human_size(p->pins.held);
	char *vmlck = human_size(p->vmlck);
	char *cgroup = cgroup_text(&p->pins);
	char *limit = p->pins.limit < LIMIT_UNKNOWN ?
		human_size(p->pins.limit) :
		xstrdup(p->pins.limit == LIMIT_UNLIMITED ? "unlimited" : "-");

	printf("%ld %s", p->pid, p->command ?: "-");
	if (p->vm)
		printf(" (VM %s)", p->vm);
	printf("%s: charge %s, held %s, VmLck %s, limit %s", p->gone ?
	       " (gone)" : "", charge, held, vmlck, limit);
	if (cgroup)
		printf(", cgroup %s", cgroup);
	putchar('\n');
	free(cgroup);
	free(charge);
	free(held);
	free(vmlck);
	free(limit);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void sleep_for(double secs)
{
	struct timespec ts = { .tv_sec = secs };

	ts.tv_nsec = (secs - ts.tv_sec) * 1e9;
	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

/*
 * One process, and what it was before it executed another program; exits with
 * the reason if there is none, or nothing to see
 */
static void the_process(struct processes *ps, long pid)
{
	struct process p;
	char *text;
	size_t len;

	processes_read(ps, &pid, 1);
	if (ps->nr)
		return;
	if (ps->broken)
		exit(1);
	if (ps->denied)
		errx(1, "the pins of process %ld may not be read; %s", pid,
		     who_may());
	if (!sysroot_exists("/proc/%ld", pid))
		errx(1, "there is no process %ld", pid);
	if (!ps->reports && !process_read(&p, pid))
		errx(1, "%s/proc/%ld/longterm_pins: %s%s", sysroot, pid,
		     strerror(errno), errno == ENOENT ?
		     "; this kernel is not a userpin kernel" : "");
	text = sysroot_read(&len, "/proc/%ld/comm", pid);
	if (text && len && text[len - 1] == '\n')
		len--;
	errx(1, "process %ld (%s) holds no long-term pins", pid,
	     text ? escape(text, len) : "?");
}

/* @before: what there was @secs ago */
static void holder_lines(struct table *t, const struct process *p,
			 const struct processes *before, double secs)
{
	size_t i;

	for (i = 0; i < p->pins.nr; i++) {
		const struct holder *h = &p->pins.holders[i];
		char *reasons = reasons_text(h, &p->pins.reasons);

		table_line(t);
		cell_text(t, COL_HOLDER, h->name);
		cell_bytes(t, COL_PINNED, h->pages);
		cell_bytes(t, COL_PEAK, h->peak);
		cell_bytes(t, COL_ACQUIRED, h->acquired);
		cell_bytes(t, COL_RELEASED, h->released);
		rate_cells(t, h, holder_find(before, h->name), secs);
		cell_number(t, COL_HOLDER_REFUSED,
			    holder_refused(h, &p->pins.reasons));
		cell_text(t, COL_REASONS, reasons);
		free(reasons);
	}
	if (p->untracked) {
		table_line(t);
		cell_text(t, COL_HOLDER, "UNTRACKED");
		cell_bytes(t, COL_PINNED, p->untracked);
		for (i = COL_PEAK; i <= COL_REASONS; i++)
			cell_text(t, i, NULL);
	}
}

static int show_holders(const struct request *r)
{
	struct processes before = { 0 }, after;
	double since = now();
	struct table t;
	size_t n;
	int ret;

	table_start(&t, &r->format, HOLDERS, r->interval > 0);
	if (r->interval > 0) {
		the_process(&before, r->pid);
		sleep_for(r->interval);
		since = now() - since;
	} else {
		since = 0;
	}
	the_process(&after, r->pid);
	ret = after.broken ? 1 : 0;

	for (n = 0; n < after.nr; n++) {
		if (!r->format.json && !r->format.raw && !r->format.noheadings)
			summary(&after.list[n]);
		holder_lines(&t, &after.list[n], &before, since);
	}
	table_print(&t);
	processes_free(&before);
	processes_free(&after);
	return ret;
}

static int show_cgroups(const struct request *r)
{
	struct cgroups cgs;
	struct table t;
	size_t i;

	table_start(&t, &r->format, CGROUPS, false);
	cgroups_read(&cgs);
	if (!cgs.seen && !cgs.broken)
		errx(1, "no cgroup counts longterm_pin: the misc controller is not enabled "
		     "(echo +misc >/sys/fs/cgroup/cgroup.subtree_control), or this is not a userpin kernel");
	for (i = 0; i < cgs.nr; i++) {
		const struct cgroup *cg = &cgs.list[i];

		table_line(&t);
		cell_text(&t, COL_CGROUP, cg->path);
		cell_bytes(&t, COL_CURRENT, cg->current);
		limit_cell(&t, COL_MAX, cg->max, "max");
		cell_bytes(&t, COL_CGROUP_PEAK, cg->peak);
		use_cell(&t, COL_CGROUP_USE, cg->current, cg->max,
			 cg->max != CGROUP_MAX);
		if (cg->counts)
			cell_number(&t, COL_CGROUP_REFUSED, cg->refused);
		else
			cell_text(&t, COL_CGROUP_REFUSED, NULL);
	}
	table_print(&t);
	cgroups_free(&cgs);
	return cgs.broken ? 1 : 0;
}

static int show_metrics(const struct request *r)
{
	struct processes ps;
	struct cgroups cgs;
	int ret;

	processes_read(&ps, r->pids, r->npids);
	/* So that the figures of another kernel do not stay where they were */
	if (!processes_supported(&ps)) {
		metrics_print_none();
		return 0;
	}
	/* One of the metrics counts processes that may not be read */
	tell_missing(&ps, r->npids);
	ret = ps.broken ? 1 : 0;
	cgroups_read(&cgs);
	metrics_print(&ps, &cgs, r->per_holder);
	ret |= cgs.broken ? 1 : 0;
	cgroups_free(&cgs);
	processes_free(&ps);
	return ret;
}

/* What was printed and did not arrive is an error, too */
static int finish(int ret)
{
	if (fflush(stdout) || ferror(stdout))
		err(2, "cannot write");
	return ret;
}

static void set_sysroot(const char *dir)
{
	size_t len = strlen(dir);
	char *copy;

	while (len && dir[len - 1] == '/')
		len--;
	copy = strndup(dir, len);
	if (!copy)
		err(2, "no memory");
	sysroot = copy;
	if (!sysroot_exists("/proc"))
		errx(2, "--sysroot: %s/proc: %s", copy, strerror(errno));
}

static int parse(struct request *r, int argc, char **argv)
{
	enum { OUTPUT_ALL = 256, PER_HOLDER };
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'J' },
		{ "output", required_argument, NULL, 'o' },
		{ "output-all", no_argument, NULL, OUTPUT_ALL },
		{ "bytes", no_argument, NULL, 'b' },
		{ "noheadings", no_argument, NULL, 'n' },
		{ "raw", no_argument, NULL, 'r' },
		{ "sort", required_argument, NULL, 'x' },
		{ "pid", required_argument, NULL, 'p' },
		{ "cgroup", no_argument, NULL, 'c' },
		{ "interval", required_argument, NULL, 'i' },
		{ "metrics", no_argument, NULL, 'm' },
		{ "per-holder", no_argument, NULL, PER_HOLDER },
		{ "sysroot", required_argument, NULL, 's' },
		{ "list-columns", no_argument, NULL, 'H' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL }
	};
	int c;

	/* +: what follows `check` is its own */
	while ((c = getopt_long(argc, argv, "+Jo:bnrx:p:ci:ms:HhV", options,
				NULL)) >= 0) {
		switch (c) {
		case 'J':
			r->format.json = true;
			break;
		case 'o':
			r->format.output = optarg;
			break;
		case OUTPUT_ALL:
			r->format.output_all = true;
			break;
		case 'b':
			r->format.bytes = true;
			break;
		case 'n':
			r->format.noheadings = true;
			break;
		case 'r':
			r->format.raw = true;
			break;
		case 'x':
			r->format.sort = optarg;
			break;
		case 'p':
			parse_pids(r, optarg);
			break;
		case 'c':
			r->cgroups = true;
			break;
		case 'i':
			r->interval = parse_interval(optarg);
			break;
		case 'm':
			r->metrics = true;
			break;
		case PER_HOLDER:
			r->per_holder = true;
			break;
		case 's':
			set_sysroot(optarg);
			break;
		case 'H':
			columns_help(stdout);
			exit(finish(0));
		case 'h':
			usage(stdout);
			exit(finish(0));
		case 'V':
			puts("pinstat " PINSTAT_VERSION);
			exit(finish(0));
		default:
			fputs("See pinstat --help.\n", stderr);
			exit(2);
		}
	}
	return optind;
}

int main(int argc, char **argv)
{
	struct request r = { .interval = -1 };
	int at;

	/* Names are UTF-8 whatever the user speaks, and as wide as their letters */
	setlocale(LC_CTYPE, "C.UTF-8");
	at = parse(&r, argc, argv);
	/* Options may also follow the PID, but not what follows `check` */
	if (at < argc && !strcmp(argv[at], "check")) {
		if (r.npids || r.cgroups || r.metrics || r.per_holder ||
		    r.interval >= 0)
			errx(2, "check takes of these options only --json, --output, --output-all, --bytes, --noheadings, --raw, --sort and --sysroot");
		argc -= at;
		argv += at;
		optind = 0;
		return finish(check_main(argc, argv, &r.format));
	}
	if (at < argc && !strcmp(argv[at], "selftest")) {
		argc -= at;
		argv += at;
		optind = 0;
		return finish(selftest_main(argc, argv));
	}
	while (at < argc) {
		if (r.pid)
			errx(2, "give one PID only ('%s' is a second one); --pid takes a list",
			     argv[at]);
		r.pid = parse_pid(argv[at]);
		optind = at + 1;
		at = parse(&r, argc, argv);
	}
	/* A record does not move */
	if (r.interval < 0)
		r.interval = *sysroot ? 0 : 1;
	if (r.format.json && r.format.raw)
		errx(2, "--json and --raw exclude each other");
	if (r.format.output && *r.format.output != '+' && r.format.output_all)
		errx(2, "--output and --output-all exclude each other");
	if (!!r.pid + r.cgroups + r.metrics > 1)
		errx(2, "PID, --cgroup and --metrics exclude each other");
	if (r.per_holder && !r.metrics)
		errx(2, "--per-holder works only with --metrics");
	if (r.npids && (r.pid || r.cgroups))
		errx(2, "--pid works only with the list of processes");

	if (r.metrics)
		return finish(show_metrics(&r));
	if (r.cgroups)
		return finish(show_cgroups(&r));
	if (r.pid)
		return finish(show_holders(&r));
	return finish(show_processes(&r));
}
