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
#include <inttypes.h>
#include <libsmartcols/libsmartcols.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "columns.h"
#include "judge.h"
#include "processes.h"
#include "sysroot.h"

#define BACKING_DIR	"/var/lib/libvirt/qemu/ram"

struct options {
	bool json, device, qemu_given;
	const char *backing_dir;
	const char *what;	/* file or PID */
};

static void usage(FILE *out)
{
	fputs("Usage: pinstat check [options] DOMAIN.xml    a domain of libvirt; -: from stdin\n"
	      "       pinstat check [options] PID           a QEMU that runs\n"
	      "\n"
	      " -J, --json             JSON; sizes in bytes\n"
	      " -q, --qemu WHICH       patched, stock, or auto: what its program is (default)\n"
	      " -b, --backing-dir DIR  where libvirt puts memory in files (default: see qemu.conf)\n"
	      " -d, --device           as if one more device were assigned\n"
	      " -h, --help             this\n"
	      "\n"
	      "Exit codes: 0 devices can pin all memory, 1 it cannot be told, 2 wrong usage or input,\n"
	      "3 QEMU falls back to anonymous memory, 4 QEMU or a device is refused.\n", out);
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

/* Does the program know the property? It is not run: its name is untrusted. */
static bool program_knows(const char *path, bool *known)
{
	static const char property[] = "ram-pin-fallback";
	struct stat st;
	bool found = false;
	char *text;
	int fd = -1;

	*known = false;
	if (!stat(path, &st) && S_ISREG(st.st_mode))
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return false;
	text = st.st_size ? mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0) :
			    MAP_FAILED;
	close(fd);
	if (text == MAP_FAILED)
		return false;
	found = memmem(text, st.st_size, property, strlen(property));
	*known = true;
	munmap(text, st.st_size);
	return found;
}

static bool qemu_is_patched(const struct vm *vm)
{
	char *path, *name;
	bool patched, known;

	path = vm->pid ? sysroot_path("/proc/%ld/exe", vm->pid) :
			 sysroot_path("%s", vm->emulator ?: "");
	patched = program_knows(path, &known);
	if (!known && vm->policy_set) {
		patched = true;		/* whoever set it will know */
	} else if (!known) {
		name = escape(path, strlen(path));
		warnx("%s: cannot be read, and is taken for an unpatched QEMU; see --qemu",
		      name);
		free(name);
	}
	free(path);
	return patched;
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

/* "Max locked memory  SOFT  HARD  bytes" */
static bool read_limit(long pid, uint64_t *limit)
{
	static const char field[] = "\nMax locked memory";
	char *text = sysroot_read(NULL, "/proc/%ld/limits", pid);
	char *at = text ? strstr(text, field) : NULL, *word;
	bool ok = false;

	if (at) {
		at += strlen(field);
		at += strspn(at, " ");
		word = strsep(&at, " \n");
		*limit = MEMLOCK_NONE;
		ok = !strcmp(word, "unlimited") || parse_number(word, limit);
	}
	free(text);

	text = sysroot_read(NULL, "/proc/%ld/status", pid);
	if (ok && process_ignores_limit(pid, text))
		*limit = MEMLOCK_NONE;
	free(text);
	return ok;
}

static void read_process(struct vm *vm, long pid)
{
	char **argv = NULL, *text, *at, *wrong;
	size_t len, argc = 0;

	text = sysroot_read(&len, "/proc/%ld/cmdline", pid);
	if (!text)
		err(1, "process %ld", pid);
	for (at = text; at < text + len; at += strlen(at) + 1) {
		argv = reallocarray(argv, argc + 1, sizeof(*argv));
		if (!argv)
			err(2, "no memory");
		argv[argc++] = at;
	}
	if (!argc || !is_qemu(argv[0]))
		errx(1, "process %ld is no QEMU", pid);
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
	[OUTCOME_FALLS_BACK] = "falls back",
	[OUTCOME_MOVED] = "fell back",
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

static void backend_line(struct libscols_table *table, const struct vm *vm,
			 const struct backend *b, const struct verdict *v)
{
	struct libscols_line *line = scols_table_new_line(table, NULL);
	char *cells[] = {
		xstrdup(b->name), human_size(b->size), file_text(b),
		xasprintf("%s%s", fs_text(b, v), dax_text(v)),
		xstrdup(b->share ? "on" : "off"), pin_text(v),
		xstrdup(outcome_text(vm, v)), xstrdup(v->now ?: "-"),
	};
	size_t i;

	if (!line)
		err(2, "no memory");
	for (i = 0; i < sizeof(cells) / sizeof(*cells) - !vm->pid; i++)
		if (scols_line_refer_data(line, i, cells[i]))
			err(2, "no memory");
	if (!vm->pid)
		free(cells[i]);
}

static void print_table(const struct vm *vm, const struct judgement *j)
{
	static const char * const names[] = {
		"BACKEND", "SIZE", "FILE", "FS", "SHARE", "PIN", "QEMU", "NOW",
	};
	struct libscols_table *table = scols_new_table();
	size_t i;

	if (!table)
		err(2, "no memory");
	/* All texts are escaped already */
	scols_table_enable_noencoding(table, 1);
	for (i = 0; i < sizeof(names) / sizeof(*names) - !vm->pid; i++)
		if (!scols_table_new_column(table, names[i], 0, i == 1 ?
					    SCOLS_FL_RIGHT : 0))
			err(2, "no memory");
	for (i = 0; i < vm->nr; i++)
		backend_line(table, vm, &vm->backends[i], &j->verdicts[i]);
	if (scols_print_table(table))
		err(2, "cannot print the table");
	scols_unref_table(table);
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
	print_count(&comma, vm->sev, "encrypted guest (SEV)");
	printf("%s%s\n\n", *comma ? "" : "none; the table is for one that would be assigned",
	       *comma && (vm->viommu[0] || vm->viommu[1]) ?
	       ", behind a virtual IOMMU" : "");
}

static void print_bytes(const char *what, uint64_t bytes, bool xml)
{
	char *human = human_size(bytes);

	printf("  %-16s %" PRIu64 " (%s)", what, bytes, human);
	if (xml)
		printf("  <hard_limit unit='KiB'>%" PRIu64 "</hard_limit>",
		       bytes / 1024 + !!(bytes % 1024));
	putchar('\n');
	free(human);
}

static void print_limit(const struct vm *vm, const struct host *host,
			const struct memlock *m, const struct process *now)
{
	static const struct {
		const char *by, *text;
	} sets[] = {
		{ "hard_limit", "<hard_limit>" }, { "locked", "<locked/>" },
		{ "libvirt", "libvirt sets" }, { "process", "it has" },
	};
	const char *by = "libvirt sets";
	size_t i;

	if (!m->stock && !m->set_by)
		return;
	for (i = 0; m->set_by && i < sizeof(sets) / sizeof(*sets); i++)
		if (!strcmp(sets[i].by, m->set_by))
			by = sets[i].text;
	printf("\nRLIMIT_MEMLOCK%s\n", m->stock ?
	       ": what is needed, with 1G for what is not RAM" : "");
	if (m->stock) {
		print_bytes("stock kernel", m->stock, vm->libvirt);
		print_bytes("with the ledger", m->ledger, vm->libvirt);
	}
	if (m->set == MEMLOCK_NONE)
		printf("  %-16s unlimited\n", by);
	else if (m->set_by)
		print_bytes(by, m->set, false);
	else if (vm->libvirt)
		printf("  %-16s nothing: the limit stays as libvirtd's\n", by);
	if (now && now->pins.nr) {
		print_bytes("charged now", now->pins.charge, false);
		print_bytes("held now", now->pins.held, false);
		print_bytes("VmLck", now->vmlck, false);
	}
	if (m->low)
		printf("  Too low for the %s kernel: pins will be refused (ENOMEM).\n",
		       host->kernel ? "userpin" : "stock");
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
		       const struct judgement *j, const struct process *now)
{
	bool first = true;
	size_t i;

	print_heading(vm, host);
	print_table(vm, j);
	for (i = 0; i < vm->nr; i++) {
		if (!j->verdicts[i].why)
			continue;
		printf("%s%s: %s.\n", first ? "\n" : "", vm->backends[i].name,
		       j->verdicts[i].why);
		first = false;
	}
	print_limit(vm, host, &j->memlock, now);
	print_advices("To do (for each backend, one of its lines is enough)", &j->todo);
	print_advices("Notes", &j->notes);
}

/* --- JSON ---------------------------------------------------------------------- */

/* All texts are escaped, or our own: line ends are what else there is */
static void json_text(const char *text)
{
	if (!text) {
		printf("null");
		return;
	}
	putchar('"');
	for (; *text; text++)
		if (*text == '\n')
			printf("\\n");
		else
			printf("%s%c", strchr("\"\\", *text) ? "\\" : "", *text);
	putchar('"');
}

static void json_pair(const char *key, const char *text, const char *end)
{
	printf("\"%s\": ", key);
	json_text(text);
	printf("%s", end);
}

static void json_backend(const struct vm *vm, const struct backend *b,
			 const struct verdict *v)
{
	static const char * const pins[] = {
		[PIN_YES] = "true", [PIN_NO] = "false", [PIN_UNKNOWN] = "null",
	};
	char *file = b->path ? file_text(b) : NULL;

	printf("      {");
	json_pair("name", b->name, ", ");
	json_pair("use", use_name(b->use), ", ");
	printf("\"size\": %" PRIu64 ", ", b->size);
	json_pair("kind", b->kind == BACKEND_FILE ? "file" :
			  b->kind == BACKEND_MEMFD ? "memfd" : "anonymous", ", ");
	json_pair("file", file, ", ");
	json_pair("fs", strcmp(fs_text(b, v), "-") ? fs_text(b, v) : NULL, ", ");
	printf("\"dax\": %s, \"share\": %s, \"pin\": %s, ",
	       v->file.kind == FILE_DAX ? "true" : "false",
	       b->share ? "true" : "false", pins[v->pin]);
	json_pair("reason", v->reason, ", ");
	json_pair("qemu", outcome_text(vm, v), ", ");
	json_pair("why", v->why, vm->pid ? ", " : "}");
	if (vm->pid)
		json_pair("now", v->now, "}");
	free(file);
}

static void json_advices(const char *key, const struct advices *list,
			 const char *end)
{
	size_t i;

	printf("    \"%s\": [", key);
	for (i = 0; i < list->nr; i++) {
		printf("%s      {", i ? ",\n" : "\n");
		json_pair("text", list->list[i].text, ", ");
		json_pair("code", list->list[i].code, "}");
	}
	printf("%s]%s\n", list->nr ? "\n    " : "", end);
}

static void print_json(const struct vm *vm, const struct host *host,
		       const struct judgement *j, const struct process *now)
{
	const struct pinners *a = &vm->pinners[0], *b = &vm->pinners[1];
	const struct memlock *m = &j->memlock;
	size_t i;

	printf("{\n  \"check\": {\n    ");
	json_pair("vm", vm->name, ",\n    ");
	if (vm->pid)
		printf("\"pid\": %ld,\n    ", vm->pid);
	json_pair("kernel", host->kernel ? "userpin" : "stock", ",\n    ");
	json_pair("qemu", host->qemu ? "patched" : "stock", ",\n    ");
	json_pair("ram-pin-fallback", host->qemu ? policies[vm->policy] : NULL,
		  ",\n    ");
	json_pair("ram-pin-fallback-from", !host->qemu ? NULL :
		  host->policy_file ? "host" :
		  vm->policy_set ? "machine" : "default", ",\n    ");
	printf("\"devices\": {\"vfio\": %u, \"iommufd\": %u, \"mdev\": %u, \"nvme\": %u, \"vdpa\": %u},\n",
	       a->vfio + b->vfio, a->iommufd + b->iommufd, a->mdev + b->mdev,
	       a->nvme + b->nvme, a->vdpa + b->vdpa);
	printf("    \"viommu\": %s,\n    \"sev\": %s,\n    ",
	       vm->viommu[0] || vm->viommu[1] ? "true" : "false",
	       vm->sev ? "true" : "false");
	json_pair("result", m->low ? "refused" :
		  j->worst >= OUTCOME_FAILS ? "refused" :
		  j->worst == OUTCOME_UNKNOWN ? "unknown" :
		  j->worst >= OUTCOME_FALLS_BACK ? "fallback" : "ok", ",\n");
	printf("    \"backends\": [");
	for (i = 0; i < vm->nr; i++) {
		printf("%s\n", i ? "," : "");
		json_backend(vm, &vm->backends[i], &j->verdicts[i]);
	}
	printf("%s],\n    \"memlock\": {", vm->nr ? "\n    " : "");
	printf("\"stock\": %" PRIu64 ", \"ledger\": %" PRIu64 ", ", m->stock,
	       m->ledger);
	if (m->set == MEMLOCK_NONE || !m->set_by)
		printf("\"set\": null, ");
	else
		printf("\"set\": %" PRIu64 ", ", m->set);
	json_pair("set-by", m->set_by, ", ");
	printf("\"unlimited\": %s, \"low\": %s},\n",
	       m->set == MEMLOCK_NONE ? "true" : "false",
	       m->low ? "true" : "false");
	if (now)
		printf("    \"now\": {\"charge\": %" PRIu64 ", \"held\": %" PRIu64
		       ", \"vmlck\": %" PRIu64 "},\n", now->pins.charge,
		       now->pins.held, now->vmlck);
	json_advices("todo", &j->todo, ",");
	json_advices("notes", &j->notes, "");
	printf("  }\n}\n");
}

/* --------------------------------------------------------------------------------- */

static void parse(struct options *o, struct host *host, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "json", no_argument, NULL, 'J' },
		{ "qemu", required_argument, NULL, 'q' },
		{ "backing-dir", required_argument, NULL, 'b' },
		{ "device", no_argument, NULL, 'd' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL }
	};
	int c;

	while ((c = getopt_long(argc, argv, "Jq:b:dh", longs, NULL)) >= 0) {
		switch (c) {
		case 'J':
			o->json = true;
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
		     "one domain or PID at a time");
	o->what = argv[optind];
}

static int exit_code(const struct judgement *j)
{
	switch (j->worst) {
	case OUTCOME_STARTS:
		return 0;
	case OUTCOME_FALLS_BACK:
	case OUTCOME_MOVED:
		return 3;
	case OUTCOME_UNKNOWN:
		return 1;
	default:
		return 4;
	}
}

int check_main(int argc, char **argv)
{
	struct options o = { 0 };
	struct host host = { 0 };
	struct process now;
	struct judgement j;
	struct vm vm = { 0 };
	uint64_t pid = 0;
	char *maps = NULL;
	bool has_now = false;
	int ret;

	parse(&o, &host, argc, argv);
	if (!o.what[strspn(o.what, "0123456789")] &&
	    (!parse_number(o.what, &pid) || !pid || pid > INT_MAX))
		errx(2, "'%s' is no process ID", o.what);
	if (!mounts_read(&host.mounts, pid))
		err(1, "%s/proc/self/mountinfo", sysroot);
	host.kernel = sysroot_exists("/proc/self/longterm_pins") ||
		      (pid && sysroot_exists("/proc/%ld/longterm_pins",
					     (long)pid));
	if (pid) {
		read_process(&vm, pid);
		maps = sysroot_read(NULL, "/proc/%ld/maps", (long)pid);
		host.maps = maps;
		host.limited = read_limit(pid, &host.limit);
		has_now = process_read(&now, pid);
	} else {
		read_domain(&vm, &o, &host.mounts);
	}
	if (!o.qemu_given)
		host.qemu = qemu_is_patched(&vm);
	read_policy(&vm, &host);
	if (o.device)
		vm.pinners[0].vfio++;

	judge(&j, &vm, &host);
	(o.json ? print_json : print_text)(&vm, &host, &j,
					   has_now ? &now : NULL);
	ret = exit_code(&j);

	judgement_free(&j, &vm);
	if (has_now)
		process_free(&now);
	free(maps);
	mounts_free(&host.mounts);
	vm_free(&vm);
	return ret;
}
