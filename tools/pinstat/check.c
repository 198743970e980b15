// SPDX-License-Identifier: GPL-2.0
/*
 * pinstat check: before a VM is started, can its memory be pinned by devices, and
 * is its limit of locked memory high enough? The exit codes are in usage().
 */
#include "check.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <glob.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "columns.h"
#include "judge.h"
#include "processes.h"
#include "sysroot.h"

#define BACKING_DIR	"/var/lib/libvirt/qemu/ram"

struct options {
	struct format *format;
	bool device, qemu_given;
	unsigned int libvirt;	/* 0: that of this system */
	const char *backing_dir;
	const char *what;	/* file or PID */
};

static void usage(FILE *out)
{
	fputs("Usage: pinstat check [options] DOMAIN.xml    a domain of libvirt; -: from stdin\n"
	      "       pinstat check [options] PID           a QEMU that runs\n"
	      "\n"
	      " -J, --json             JSON; sizes in bytes\n"
	      " -o, --output LIST      only the table, with these columns (pinstat -H lists them)\n"
	      " -n, --noheadings       only the table, without headings\n"
	      " -r, --raw              only the table, with one space between columns\n"
	      " -q, --qemu WHICH       patched, stock, or auto: look into its program (default)\n"
	      " -l, --libvirt VERSION  such as 11.3, or auto: what is installed (default)\n"
	      " -b, --backing-dir DIR  where libvirt puts memory in files (default: see qemu.conf)\n"
	      " -d, --device           assume one more assigned device\n"
	      " -h, --help             this\n"
	      "\n"
	      "Exit codes: 0 devices can pin all memory, 1 pinstat cannot tell, 2 wrong usage or input,\n"
	      "3 QEMU moves some of it to anonymous memory, 4 QEMU or a device is refused, 5 there is a\n"
	      "warning. The worst counts, in the order 0, 3, 5, 1, 4.\n", out);
}

/* --- What there is ----------------------------------------------------------- */

/* Of qemu.conf: the value of memory_backing_dir; NULL if it is not set */
static char *conf_backing_dir(const char *conf)
{
	static const char key[] = "memory_backing_dir";
	char *copy = xstrdup(conf), *at = copy, *line, *dir = NULL;

	while ((line = strsep(&at, "\n"))) {
		line += strspn(line, " \t");
		if (strncmp(line, key, strlen(key)))
			continue;
		line += strlen(key);
		line += strspn(line, " \t");
		if (*line++ != '=')
			continue;
		line += strspn(line, " \t");
		if (*line != '"' && *line != '\'')
			continue;
		line[1 + strcspn(line + 1, *line == '"' ? "\"" : "'")] = '\0';
		free(dir);
		dir = xstrdup(line + 1);
	}
	free(copy);
	return dir;
}

static char *backing_dir(const struct options *o)
{
	char *conf, *dir, *full;

	if (o->backing_dir)
		return xstrdup(o->backing_dir);
	conf = sysroot_read(NULL, "/etc/libvirt/qemu.conf");
	dir = conf ? conf_backing_dir(conf) : NULL;
	free(conf);
	if (!dir)
		return xstrdup(BACKING_DIR);
	full = xasprintf("%s/libvirt/qemu", dir);
	free(dir);
	return full;
}

/* A QEMU is smaller */
#define PROGRAM_MAX	(256u << 20)

/* To read all of it may take longer */
#define PROGRAM_PATIENCE	5000

struct program {
	bool known, patched;
};

/*
 * Does the program know the property? It is not run, and what else it may be is
 * not read for long: its name is untrusted.
 */
static void look_into(void *answer, const void *path)
{
	static const char property[] = "ram-pin-fallback";
	struct program *p = answer;
	char buf[1 << 16];
	size_t have = 0, all = 0, keep = strlen(property) - 1;
	struct stat st;
	ssize_t n;
	int fd = -1;

	if (!stat(path, &st) && S_ISREG(st.st_mode))
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return;
	while (!p->patched && all < PROGRAM_MAX &&
	       (n = read(fd, buf + have, sizeof(buf) - have)) > 0) {
		/* /sys has files of this kind that are registers of devices */
		if (!all && (n < 4 || memcmp(buf, "\177ELF", 4)))
			break;
		all += n;
		have += n;
		p->known = true;
		p->patched = memmem(buf, have, property, keep + 1);
		/* It may lie across two pieces */
		if (have > keep) {
			memmove(buf, buf + have - keep, keep);
			have = keep;
		}
	}
	close(fd);
}

static bool qemu_is_patched(const struct vm *vm)
{
	struct program p = { false };
	char *path, *name;

	path = vm->pid ? sysroot_path("/proc/%ld/exe", vm->pid) :
			 sysroot_path("%s", vm->emulator ?: "");
	in_time(&p, sizeof(p), PROGRAM_PATIENCE, look_into, path);
	if (!p.known && vm->policy_set) {
		p.patched = true;	/* whoever set it will know */
	} else if (!p.known) {
		name = escape(path, strlen(path));
		warnx("%s: pinstat cannot read it, and assumes an unpatched QEMU; see --qemu",
		      name);
		free(name);
	}
	free(path);
	return p.patched;
}

/* The host's policy, if the machine option has none */
static void read_policy(struct vm *vm, struct host *host)
{
	/* As g_strstrip() */
	static const char space[] = " \t\n\f\r";
	char *text, *word;
	size_t len;

	if (!host->qemu || vm->policy_set)
		return;
	text = sysroot_read(NULL, POLICY_FILE);
	if (!text && (errno == ENOENT || errno == ENOTDIR))
		return;
	host->policy_file = true;
	if (!text) {
		host->policy_wrong = "cannot be read";
	} else {
		word = text + strspn(text, space);
		for (len = strlen(word); len && strchr(space, word[len - 1]); len--)
			word[len - 1] = '\0';
		if (!policy_parse(&vm->policy, word))
			host->policy_wrong = "has none of off, auto and on in it";
	}
	/* As QEMU takes it: nothing moves then that was to stay */
	if (host->policy_wrong)
		vm->policy = POLICY_OFF;
	free(text);
}

static void read_domain(struct vm *vm, const struct options *o,
			const struct mounts *mounts)
{
	bool standard_input = !strcmp(o->what, "-");
	char *dir = backing_dir(o), *xml, *wrong, *name;
	size_t len;
	int fd;

	name = standard_input ? xstrdup("stdin") : escape(o->what,
							  strlen(o->what));
	fd = standard_input ? STDIN_FILENO : open(o->what,
						  O_RDONLY | O_CLOEXEC);
	xml = fd < 0 ? NULL : read_fd(&len, fd);
	if (!xml)
		err(2, "%s", name);
	if (!standard_input)
		close(fd);
	wrong = domain_parse(vm, xml, len, name, dir, mounts);
	if (wrong)
		errx(2, "%s", wrong);
	free(xml);
	free(dir);
	free(name);
}

#define WAITS	"its memory could not be read in time; the process waits, for a page of a file for instance"

/* Of a process: what may not be read makes the answer one that cannot be told */
static char *read_of(struct host *host, long pid, const char *file)
{
	size_t len;
	char *text = sysroot_read_memory(&len, pid, file);

	if (!text && errno == ETIMEDOUT) {
		warnx("/proc/%ld/%s: " WAITS, pid, file);
		host->unreadable = true;
	} else if (!text && (errno == EACCES || errno == EPERM)) {
		warnx("/proc/%ld/%s: %s%s", pid, file, strerror(errno),
		      geteuid() ? "; root may read it" :
		      "; a security module (SELinux, AppArmor) denies it to this program");
		host->unreadable = true;
	}
	return text;
}

/* "Max locked memory  SOFT  HARD  bytes" */
static bool read_limit(struct host *host, long pid)
{
	static const char field[] = "\nMax locked memory";
	char *text = read_of(host, pid, "limits");
	char *at = text ? strstr(text, field) : NULL, *word;
	bool ok = false;

	if (at) {
		at += strlen(field);
		at += strspn(at, " ");
		word = strsep(&at, " \n");
		host->limit = MEMLOCK_NONE;
		ok = !strcmp(word, "unlimited") ||
		     parse_number(word, &host->limit);
	}
	free(text);

	text = sysroot_read(NULL, "/proc/%ld/status", pid);
	if (ok && process_ignores_limit(pid, text))
		host->limit = MEMLOCK_NONE;
	free(text);
	return ok;
}

static unsigned int holders_of(const struct pins *pins, const char *kind)
{
	unsigned int n = 0;
	size_t i;

	for (i = 0; i < pins->nr; i++)
		n += !strncmp(pins->holders[i].name, kind, strlen(kind));
	return n;
}

static unsigned int less(unsigned int a, unsigned int b)
{
	return a > b ? a - b : 0;
}

/*
 * The command line shows some; how many more are there at least? An iommufd has a
 * line for each set of counters. A QEMU that changes its user does so when all on
 * its command line is set up: what is mapped by that later has another line. What
 * is hot-plugged has one, as it comes after that.
 */
static unsigned int hidden_iommufds(const struct pins *pins,
				    const struct vm *vm)
{
	unsigned int each = vm->changes_user ? 2 : 1;
	unsigned int more = less(holders_of(pins, "iommufd."),
				 each * vm->iommufds);

	return vm->config_file ? (more + each - 1) / each : more;
}

/* What the kernel knows of its devices, and the command line does not show */
static struct pinners hidden_devices(const struct pins *pins,
				     const struct vm *vm)
{
	struct pinners p = pinners_sum(vm), hidden = { 0 };
	unsigned int containers = p.nvme;

	if (p.vfio + p.mdev)
		containers += vm->viommu[0] ? p.vfio + p.mdev : 1;
	hidden.vfio = less(holders_of(pins, "vfio."), containers);
	hidden.iommufd = hidden_iommufds(pins, vm);
	hidden.vdpa = less(holders_of(pins, "vdpa."), p.vdpa);
	/* Is it libvirt's? Then it is in VmLck, and nothing in the user's pages */
	if (pins->user || !pins->charge)
		hidden.by_user = hidden.iommufd;
	return hidden;
}

static bool read_pins(struct process *now, struct vm *vm, struct host *host)
{
	struct pinners *more = &vm->pinners[1];

	if (!process_read(now, vm->pid)) {
		if (errno == EACCES || errno == EPERM)
			free(read_of(host, vm->pid, "longterm_pins"));
		host->unreadable |= errno == EBADMSG;
		return false;
	}
	host->hidden = hidden_devices(&now->pins, vm);
	more->vfio += host->hidden.vfio;
	more->iommufd += host->hidden.iommufd;
	more->by_user += host->hidden.by_user;
	more->vdpa += host->hidden.vdpa;
	host->vduse = holders_of(&now->pins, "vduse.");
	host->untracked = now->untracked;
	host->held = now->pins.held;
	return true;
}

/* Pins stay charged to the cgroup of the first one; without any, it is that of the process */
static char *read_cgroup(const struct process *now, long pid)
{
	char *text, *at, *line, *path = NULL;

	if (now && now->pins.cgroup)
		return unescape(xstrdup(now->pins.cgroup));
	text = at = sysroot_read(NULL, "/proc/%ld/cgroup", pid);
	while (at && !path && (line = strsep(&at, "\n")))
		if (!strncmp(line, "0::/", 4))
			path = xstrdup(line + 3);
	free(text);
	return path;
}

/* 11.3 is 11003, as in the name of its library; 0: none is installed */
static unsigned int libvirt_version(void)
{
	static const char * const places[] = {
		"/usr/lib/*/libvirt.so.0.*", "/usr/lib64/libvirt.so.0.*",
		"/usr/lib/libvirt.so.0.*",
	};
	unsigned int newest = 0, version;
	glob_t found;
	char *path;
	size_t i, k;

	for (i = 0; i < sizeof(places) / sizeof(*places); i++) {
		path = sysroot_path("%s", places[i]);
		if (!glob(path, 0, NULL, &found)) {
			for (k = 0; k < found.gl_pathc; k++) {
				const char *at = strstr(found.gl_pathv[k],
							".so.0.");

				if (sscanf(at + 6, "%u.", &version) == 1 &&
				    version > newest)
					newest = version;
			}
			globfree(&found);
		}
		free(path);
	}
	return newest;
}

static unsigned int parse_version(const char *text)
{
	unsigned int major, minor;
	int used = 0;

	if (!strcmp(text, "auto"))
		return 0;
	/* 11.3, or 11.3.0 */
	if (sscanf(text, "%3u.%3u%n", &major, &minor, &used) != 2 || !major ||
	    text[strspn(text, "0123456789.")] || text[0] == '.' ||
	    (text[used] && text[used] != '.'))
		errx(2, "--libvirt: '%s' is not a version such as 11.3", text);
	return major * 1000 + minor;
}

static void read_process(struct vm *vm, long pid)
{
	char **argv = NULL, *text, *at, *wrong;
	size_t len, argc = 0;

	text = sysroot_read_memory(&len, pid, "cmdline");
	if (!text && errno == ETIMEDOUT)
		errx(1, "process %ld: " WAITS, pid);
	if (!text)
		err(1, "process %ld", pid);
	for (at = text; at < text + len; at += strlen(at) + 1) {
		argv = reallocarray(argv, argc + 1, sizeof(*argv));
		if (!argv)
			err(2, "no memory");
		argv[argc++] = at;
	}
	if (!argc || !is_qemu(argv[0]))
		errx(1, "process %ld is not a QEMU", pid);
	vm->pid = pid;
	wrong = qemu_parse(vm, argv + 1, argc - 1, false);
	if (wrong)
		errx(2, "process %ld: %s", pid, wrong);
	free(argv);
	free(text);
}

/* --- Text ---------------------------------------------------------------------- */

static const char * const outcomes[] = {
	[OUTCOME_STARTS] = "starts",
	[OUTCOME_MOVES] = "moves",
	[OUTCOME_MOVED] = "moved",
	[OUTCOME_UNKNOWN] = "unknown",
	[OUTCOME_FAILS] = "device fails",
	[OUTCOME_REFUSES] = "refuses",
};

static const char * const policies[] = {
	[POLICY_AUTO] = "auto", [POLICY_ON] = "on", [POLICY_OFF] = "off",
};

static const char *outcome_text(const struct vm *vm, const struct verdict *v)
{
	return vm->pid && v->outcome == OUTCOME_STARTS ? "runs" :
							 outcomes[v->outcome];
}

static char *pin_text(const struct verdict *v)
{
	return v->pin == PIN_YES ? xstrdup("yes") :
	       v->pin == PIN_UNKNOWN ? xstrdup("unknown") :
	       xasprintf("no (%s)", v->reason);
}

static char *file_text(const struct backend *b)
{
	if (b->path)
		return escape(b->path, strlen(b->path));
	return xstrdup(b->kind == BACKEND_MEMFD ? "memfd" : "-");
}

static const char *fs_text(const struct backend *b, const struct verdict *v)
{
	if (b->hugetlb)
		return "hugetlbfs";
	return v->file.fs ?: "-";
}

static const char *dax_text(const struct verdict *v)
{
	return v->file.kind == FILE_DAX ? " dax" : "";
}

static void print_table(const struct vm *vm, const struct judgement *j,
			const struct format *format)
{
	struct table t;
	size_t i;

	table_start(&t, format, BACKENDS, vm->pid);
	for (i = 0; i < vm->nr; i++) {
		const struct backend *b = &vm->backends[i];
		const struct verdict *v = &j->verdicts[i];
		char *file = file_text(b), *pin = pin_text(v);
		char *fs = xasprintf("%s%s", fs_text(b, v), dax_text(v));

		table_line(&t);
		cell_text(&t, COL_BACKEND, b->name);
		cell_text(&t, COL_BACKEND_USE, use_name(b->use));
		cell_bytes(&t, COL_SIZE, b->size);
		cell_text(&t, COL_FILE, file);
		cell_text(&t, COL_FS, fs);
		cell_text(&t, COL_SHARE, b->share ? "on" : "off");
		cell_text(&t, COL_PIN, pin);
		cell_text(&t, COL_QEMU, outcome_text(vm, v));
		cell_text(&t, COL_NOW, v->now);
		cell_text(&t, COL_WHY, v->why);
		free(fs);
		free(pin);
		free(file);
	}
	table_print(&t);
}

static void print_count(const char **comma, unsigned int n, const char *what)
{
	if (!n)
		return;
	printf("%s%u %s", *comma, n, what);
	*comma = ", ";
}

static void print_heading(const struct vm *vm, const struct host *host)
{
	const struct pinners *a = &vm->pinners[0], *b = &vm->pinners[1];
	const char *comma = "";

	printf("VM %s: kernel %s, QEMU %s", vm->name ?: "-", host->kernel ?
	       "of userpin" : "stock", host->qemu ? "patched" : "stock");
	if (host->qemu)
		printf(" (ram-pin-fallback=%s%s)", policies[vm->policy],
		       host->policy_file ? ", from " POLICY_FILE :
		       vm->policy_set ? ", from the machine option" : "");
	printf("\nDevices that pin: ");
	print_count(&comma, a->vfio + b->vfio, "VFIO");
	print_count(&comma, a->iommufd + b->iommufd, "VFIO by iommufd");
	print_count(&comma, a->mdev + b->mdev, "mediated");
	print_count(&comma, a->nvme + b->nvme, "nvme:// drive");
	print_count(&comma, a->vdpa + b->vdpa, "vhost-vdpa");
	print_count(&comma, vm->secret == SECRET_SEV, "encrypted guest (SEV)");
	printf("%s%s\n", *comma ? "" : host->untracked || host->held ? "some that its command line does not show" :
	       "none (the table shows what happens if you assign one)",
	       *comma && (vm->viommu[0] || vm->viommu[1]) ?
	       ", behind a virtual IOMMU" : "");
	if (vm->secret > SECRET_SEV)
		printf("Encrypted guest: %s, whose memory is in a guest_memfd\n",
		       secret_name(vm->secret));
	putchar('\n');
}

static void print_bytes(const char *what, uint64_t bytes)
{
	char *human = human_size(bytes);

	printf("  %-16s %" PRIu64 " (%s)\n", what, bytes, human);
	free(human);
}

/* The need has 1G of room, which may not all be used: so there are two figures */
static void print_low(const struct vm *vm, const struct host *host,
		      const struct memlock *m)
{
	const char *kernel = host->kernel ? "userpin" : "stock";
	const char *pins = vm->pid ? "further pins" : "to pin the memory";
	char *low = human_size(m->least - m->set);
	char *room = human_size((host->kernel ? m->ledger : m->stock) - m->set);

	if (m->set_by)
		printf("  The limit is %s lower than needed, and %s lower than the least that may do: the %s kernel will refuse %s (ENOMEM).\n",
		       room, low, kernel, pins);
	else
		printf("  That is too low, as the VM needs %s at least: the %s kernel will refuse %s (ENOMEM).\n",
		       low, kernel, pins);
	free(low);
	free(room);
}

static void print_limit(const struct vm *vm, const struct host *host,
			const struct memlock *m, const struct process *now)
{
	static const struct {
		const char *by, *text;
	} sets[] = {
		{ "hard_limit", "<hard_limit>" }, { "locked", "<locked/>" },
		{ "libvirt", "libvirt sets" }, { "process", "the VM has" },
	};
	const char *by = "libvirt sets";
	size_t i;

	if (!m->stock && !m->set_by)
		return;
	for (i = 0; m->set_by && i < sizeof(sets) / sizeof(*sets); i++)
		if (!strcmp(sets[i].by, m->set_by))
			by = sets[i].text;
	printf("\nRLIMIT_MEMLOCK%s\n", m->stock ?
	       " that the VM needs (RAM, and 1G for firmware, ROMs and video memory)" : "");
	if (m->stock) {
		print_bytes("stock kernel", m->stock);
		print_bytes("with the ledger", m->ledger);
	}
	if (m->set == MEMLOCK_NONE)
		printf("  %-16s unlimited\n", by);
	else if (m->set_by)
		print_bytes(by, m->set);
	else if (vm->libvirt)
		printf("  %-16s no limit: QEMU gets that of libvirtd\n", by);
	if (now && now->pins.nr) {
		print_bytes("charged now", now->pins.charge);
		print_bytes("held now", now->pins.held);
		print_bytes("VmLck", now->vmlck);
	}
	if (m->low)
		print_low(vm, host, m);
}

static void print_advices(const char *title, const struct advices *list)
{
	size_t i;

	if (list->nr)
		printf("\n%s\n", title);
	for (i = 0; i < list->nr; i++) {
		char *code = list->list[i].code, *at = code, *copy, *line;

		printf("  %s\n", list->list[i].text);
		if (!code)
			continue;
		at = copy = xstrdup(code);
		while ((line = strsep(&at, "\n")))
			printf("      %s\n", line);
		free(copy);
	}
}

static void print_text(const struct vm *vm, const struct host *host,
		       const struct judgement *j, const struct process *now,
		       const struct format *format)
{
	bool first = true;
	size_t i;

	const struct format plain = { .bytes = format->bytes };

	print_heading(vm, host);
	if (vm->nr)
		print_table(vm, j, &plain);
	for (i = 0; i < vm->nr; i++) {
		if (!j->verdicts[i].why)
			continue;
		printf("%s%s: %s.\n", first ? "\n" : "", vm->backends[i].name,
		       j->verdicts[i].why);
		first = false;
	}
	print_limit(vm, host, &j->memlock, now);
	print_advices("Warnings", &j->warnings);
	print_advices("To do (one line for each backend is enough)", &j->todo);
	print_advices("Notes", &j->notes);
}

/* --- JSON ---------------------------------------------------------------------- */

/* Takes @value */
static void json_set(json_object *object, const char *key, json_object *value)
{
	if (json_object_object_add(object, key, value))
		err(2, "no memory");
}

/* Of texts that are escaped, or our own; NULL is null */
static void json_string(json_object *object, const char *key, const char *text)
{
	char *plain = text ? json_text(text) : NULL;

	json_set(object, key, plain ? json_object_new_string(plain) : NULL);
	free(plain);
}

static void json_number(json_object *object, const char *key, uint64_t n)
{
	json_set(object, key, json_object_new_uint64(n));
}

static void json_truth(json_object *object, const char *key, bool b)
{
	json_set(object, key, json_object_new_boolean(b));
}

static json_object *json_backend(const struct vm *vm, const struct backend *b,
				 const struct verdict *v)
{
	json_object *o = json_object_new_object();
	char *file = b->path ? file_text(b) : NULL;

	json_string(o, "name", b->name);
	json_string(o, "use", use_name(b->use));
	json_number(o, "size", b->size);
	json_string(o, "kind", b->kind == BACKEND_FILE ? "file" :
			       b->kind == BACKEND_MEMFD ? "memfd" : "anonymous");
	json_string(o, "file", file);
	json_string(o, "fs", strcmp(fs_text(b, v), "-") ? fs_text(b, v) : NULL);
	json_truth(o, "dax", v->file.kind == FILE_DAX);
	json_truth(o, "share", b->share);
	if (v->pin == PIN_UNKNOWN)
		json_set(o, "pin", NULL);
	else
		json_truth(o, "pin", v->pin == PIN_YES);
	json_string(o, "reason", v->reason);
	json_string(o, "qemu", outcome_text(vm, v));
	json_string(o, "why", v->why);
	if (vm->pid)
		json_string(o, "now", v->now);
	free(file);
	return o;
}

static void json_advices(json_object *object, const char *key,
			 const struct advices *list)
{
	json_object *array = json_object_new_array(), *o;
	size_t i;

	for (i = 0; i < list->nr; i++) {
		o = json_object_new_object();
		json_string(o, "text", list->list[i].text);
		json_string(o, "code", list->list[i].code);
		json_object_array_add(array, o);
	}
	json_set(object, key, array);
}

static json_object *json_memlock(const struct memlock *m)
{
	json_object *o = json_object_new_object();

	json_number(o, "stock", m->stock);
	json_number(o, "ledger", m->ledger);
	if (m->set == MEMLOCK_NONE || !m->set_by)
		json_set(o, "set", NULL);
	else
		json_number(o, "set", m->set);
	json_string(o, "set-by", m->set_by);
	json_truth(o, "unlimited", m->set == MEMLOCK_NONE);
	json_truth(o, "low", m->low);
	if (m->low)
		json_number(o, "low-by", m->least - m->set);
	json_number(o, "memory-max", m->memory);
	return o;
}

static const char *result_text(const struct judgement *j)
{
	switch (j->worst) {
	case OUTCOME_STARTS:
		return "ok";
	case OUTCOME_MOVES:
	case OUTCOME_MOVED:
		return "moves";
	case OUTCOME_WARNS:
		return "warning";
	case OUTCOME_UNKNOWN:
		return "unknown";
	default:
		return "refused";
	}
}

static void print_json(const struct vm *vm, const struct host *host,
		       const struct judgement *j, const struct process *now)
{
	json_object *all = json_object_new_object(), *o, *part;
	struct pinners p = pinners_sum(vm);
	size_t i;

	o = json_object_new_object();
	json_set(all, "check", o);
	json_string(o, "vm", vm->name);
	if (vm->pid)
		json_number(o, "pid", vm->pid);
	json_string(o, "kernel", host->kernel ? "userpin" : "stock");
	json_string(o, "qemu", host->qemu ? "patched" : "stock");
	json_string(o, "ram-pin-fallback", host->qemu ? policies[vm->policy] :
							NULL);
	json_string(o, "ram-pin-fallback-from", !host->qemu ? NULL :
		    host->policy_file ? "host" :
		    vm->policy_set ? "machine" : "default");
	part = json_object_new_object();
	json_set(o, "devices", part);
	json_number(part, "vfio", p.vfio);
	json_number(part, "iommufd", p.iommufd);
	json_number(part, "mdev", p.mdev);
	json_number(part, "nvme", p.nvme);
	json_number(part, "vdpa", p.vdpa);
	json_truth(o, "viommu", vm->viommu[0] || vm->viommu[1]);
	json_truth(o, "sev", vm->secret == SECRET_SEV);
	json_string(o, "encrypted", secret_name(vm->secret));
	json_string(o, "result", result_text(j));
	part = json_object_new_array();
	json_set(o, "backends", part);
	for (i = 0; i < vm->nr; i++)
		json_object_array_add(part, json_backend(vm, &vm->backends[i],
							 &j->verdicts[i]));
	json_set(o, "memlock", json_memlock(&j->memlock));
	if (now) {
		part = json_object_new_object();
		json_set(o, "now", part);
		json_number(part, "charge", now->pins.charge);
		json_number(part, "held", now->pins.held);
		json_number(part, "vmlck", now->vmlck);
	}
	json_advices(o, "todo", &j->todo);
	json_advices(o, "warnings", &j->warnings);
	json_advices(o, "notes", &j->notes);
	puts(json_object_to_json_string_ext(all, JSON_C_TO_STRING_PRETTY |
					    JSON_C_TO_STRING_SPACED |
					    JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(all);
}

/* --------------------------------------------------------------------------------- */

static bool only_table(const struct format *f)
{
	return f->output || f->output_all || f->noheadings || f->raw || f->sort;
}

static void parse(struct options *o, struct host *host, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "json", no_argument, NULL, 'J' },
		{ "output", required_argument, NULL, 'o' },
		{ "noheadings", no_argument, NULL, 'n' },
		{ "raw", no_argument, NULL, 'r' },
		{ "libvirt", required_argument, NULL, 'l' },
		{ "qemu", required_argument, NULL, 'q' },
		{ "backing-dir", required_argument, NULL, 'b' },
		{ "device", no_argument, NULL, 'd' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL }
	};
	int c;

	while ((c = getopt_long(argc, argv, "Jo:nrq:l:b:dh", longs, NULL)) >= 0) {
		switch (c) {
		case 'J':
			o->format->json = true;
			break;
		case 'o':
			o->format->output = optarg;
			break;
		case 'n':
			o->format->noheadings = true;
			break;
		case 'r':
			o->format->raw = true;
			break;
		case 'l':
			o->libvirt = parse_version(optarg);
			break;
		case 'q':
			o->qemu_given = strcmp(optarg, "auto");
			host->qemu = !strcmp(optarg, "patched");
			if (o->qemu_given && !host->qemu &&
			    strcmp(optarg, "stock"))
				errx(2, "--qemu: patched, stock or auto");
			break;
		case 'b':
			if (*optarg != '/')
				errx(2, "--backing-dir: not an absolute path");
			o->backing_dir = optarg;
			break;
		case 'd':
			o->device = true;
			break;
		case 'h':
			usage(stdout);
			exit(fflush(stdout) || ferror(stdout) ? 2 : 0);
		default:
			fputs("See pinstat check --help.\n", stderr);
			exit(2);
		}
	}
	if (optind + 1 != argc)
		errx(2, "%s", optind == argc ?
		     "the XML of a domain is needed, or a PID; see pinstat check --help" :
		     "give one domain, or one PID");
	o->what = argv[optind];
	if (o->format->json && only_table(o->format))
		errx(2, "--json has all of it: no --output, --noheadings, --raw and --sort");
}

static int exit_code(const struct judgement *j)
{
	switch (j->worst) {
	case OUTCOME_STARTS:
		return 0;
	case OUTCOME_MOVES:
	case OUTCOME_MOVED:
		return 3;
	case OUTCOME_WARNS:
		return 5;
	case OUTCOME_UNKNOWN:
		return 1;
	default:
		return 4;
	}
}

int check_main(int argc, char **argv, struct format *format)
{
	struct options o = { .format = format };
	struct host host = { 0 };
	struct process now;
	struct judgement j;
	struct vm vm = { 0 };
	uint64_t pid = 0;
	char *maps = NULL, *cgroup = NULL;
	bool has_now = false;
	int ret;

	parse(&o, &host, argc, argv);
	if (!o.what[strspn(o.what, "0123456789")] &&
	    (!parse_number(o.what, &pid) || !pid || pid > INT_MAX))
		errx(2, "'%s' is not a process ID", o.what);
	if (!mounts_read(&host.mounts, pid))
		err(1, "%s/proc/self/mountinfo", sysroot);
	host.libvirt = vm.libvirt_version = o.libvirt ?: libvirt_version();
	host.kernel = sysroot_exists("/proc/self/longterm_pins") ||
		      (pid && sysroot_exists("/proc/%ld/longterm_pins",
					     (long)pid));
	if (pid) {
		read_process(&vm, pid);
		maps = read_of(&host, pid, "maps");
		host.maps = maps;
		host.limited = read_limit(&host, pid);
		has_now = read_pins(&now, &vm, &host);
		host.cgroup = cgroup = read_cgroup(has_now ? &now : NULL, pid);
	} else {
		read_domain(&vm, &o, &host.mounts);
	}
	if (!o.qemu_given)
		host.qemu = qemu_is_patched(&vm);
	read_policy(&vm, &host);
	if (o.device)
		vm.pinners[0].vfio++;

	judge(&j, &vm, &host);
	if (format->json)
		print_json(&vm, &host, &j, has_now ? &now : NULL);
	else if (only_table(format))
		print_table(&vm, &j, format);
	else
		print_text(&vm, &host, &j, has_now ? &now : NULL, format);
	ret = exit_code(&j);

	judgement_free(&j, &vm);
	if (has_now)
		process_free(&now);
	free(maps);
	free(cgroup);
	mounts_free(&host.mounts);
	vm_free(&vm);
	return ret;
}
