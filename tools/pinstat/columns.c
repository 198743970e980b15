// SPDX-License-Identifier: GPL-2.0
#include "columns.h"

#include <err.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "sysroot.h"

enum kind { TEXT, NUMBER, BYTES };

/* Which columns a table has unless told otherwise */
enum shown { NEVER, ALWAYS, LIVE };

struct column {
	const char *name;
	enum subject subject;
	enum kind kind;
	enum shown shown;
	double width;
	const char *help;
};

static const struct column columns[NR_COLUMNS] = {
	[COL_PID] = { "PID", PROCESSES, NUMBER, ALWAYS, 5,
		"process" },
	[COL_COMMAND] = { "COMMAND", PROCESSES, TEXT, ALWAYS, 15,
		"its name" },
	[COL_VM] = { "VM", PROCESSES, TEXT, ALWAYS, 8,
		"the virtual machine, of a QEMU that was given -name" },
	[COL_STATE] = { "STATE", PROCESSES, TEXT, NEVER, 5,
		"gone: it has ended or executed another program, and its holders still exist" },
	[COL_HOLDERS] = { "HOLDERS", PROCESSES, NUMBER, ALWAYS, 3,
		"number of holders: VFIO containers and others that keep pins" },
	[COL_CHARGE] = { "CHARGE", PROCESSES, BYTES, ALWAYS, 6,
		"of VMLCK, the memory that holders have pinned, once for all" },
	[COL_HELD] = { "HELD", PROCESSES, BYTES, ALWAYS, 6,
		"memory that cannot move: whole pages of any size with a pin" },
	[COL_LIMIT] = { "LIMIT", PROCESSES, BYTES, ALWAYS, 6,
		"RLIMIT_MEMLOCK; unlimited with CAP_IPC_LOCK, in JSON null then" },
	[COL_USE] = { "USE%", PROCESSES, NUMBER, ALWAYS, 4,
		"VMLCK in percent of LIMIT" },
	[COL_UNTRACKED] = { "UNTRACKED", PROCESSES, BYTES, ALWAYS, 6,
		"pins outside the ledger (VmPin): RDMA, for instance" },
	[COL_REFUSED] = { "REFUSED", PROCESSES, NUMBER, ALWAYS, 3,
		"requests that were refused, of holders that still exist" },
	[COL_PROCESS_PINNED] = { "PINNED", PROCESSES, BYTES, NEVER, 6,
		"pins of all holders; a page that two have pinned is two" },
	[COL_VMLCK] = { "VMLCK", PROCESSES, BYTES, NEVER, 6,
		"CHARGE, and what the process has locked by mlock()" },
	[COL_PROCESS_CGROUP] = { "CGROUP", PROCESSES, TEXT, NEVER, 20,
		"the cgroup in which HELD counts" },

	[COL_HOLDER] = { "HOLDER", HOLDERS, TEXT, ALWAYS, 8,
		"vfio.N a VFIO container, iommufd.N, vdpa.N, vduse.N, io_uring.N; kvm-sev.N an encrypted guest; UNTRACKED as above" },
	[COL_PINNED] = { "PINNED", HOLDERS, BYTES, ALWAYS, 6,
		"pins that it keeps" },
	[COL_PEAK] = { "PEAK", HOLDERS, BYTES, ALWAYS, 6,
		"the most that it has kept" },
	[COL_ACQUIRED] = { "ACQUIRED", HOLDERS, BYTES, ALWAYS, 6,
		"pins taken since it exists" },
	[COL_RELEASED] = { "RELEASED", HOLDERS, BYTES, ALWAYS, 6,
		"pins given back since" },
	[COL_PIN_RATE] = { "PIN/S", HOLDERS, BYTES, LIVE, 6,
		"pins taken in a second of the interval" },
	[COL_PUT_RATE] = { "PUT/S", HOLDERS, BYTES, LIVE, 6,
		"pins given back in a second of it" },
	[COL_HOLDER_REFUSED] = { "REFUSED", HOLDERS, NUMBER, ALWAYS, 3,
		"requests that were refused" },
	[COL_REASONS] = { "REASONS", HOLDERS, TEXT, ALWAYS, 8,
		"why, and how often" },

	[COL_CGROUP] = { "CGROUP", CGROUPS, TEXT, ALWAYS, 20,
		"its path" },
	[COL_CURRENT] = { "CURRENT", CGROUPS, BYTES, ALWAYS, 6,
		"memory that cannot move, charged to it and its children" },
	[COL_MAX] = { "MAX", CGROUPS, BYTES, ALWAYS, 6,
		"misc.max; in JSON null if there is none" },
	[COL_CGROUP_PEAK] = { "PEAK", CGROUPS, BYTES, ALWAYS, 6,
		"the most that CURRENT has been" },
	[COL_CGROUP_USE] = { "USE%", CGROUPS, NUMBER, ALWAYS, 4,
		"CURRENT in percent of MAX" },
	[COL_CGROUP_REFUSED] = { "REFUSED", CGROUPS, NUMBER, ALWAYS, 3,
		"how often the limit of this cgroup, or of one below it, has refused" },

	[COL_BACKEND] = { "BACKEND", BACKENDS, TEXT, ALWAYS, 7,
		"a part of the VM's memory, as QEMU names it" },
	[COL_BACKEND_USE] = { "USE", BACKENDS, TEXT, NEVER, 3,
		"ram, virtio-mem, nvdimm, virtio-pmem or ivshmem" },
	[COL_SIZE] = { "SIZE", BACKENDS, BYTES, ALWAYS, 4,
		"its size" },
	[COL_FILE] = { "FILE", BACKENDS, TEXT, ALWAYS, 4,
		"the file that it is in, or the folder of a file; memfd" },
	[COL_FS] = { "FS", BACKENDS, TEXT, ALWAYS, 2,
		"the type of that file's file system" },
	[COL_SHARE] = { "SHARE", BACKENDS, TEXT, ALWAYS, 5,
		"on: what the guest writes is in the file" },
	[COL_PIN] = { "PIN", BACKENDS, TEXT, ALWAYS, 3,
		"can a device pin it? If not, the kernel's reason" },
	[COL_QEMU] = { "QEMU", BACKENDS, TEXT, ALWAYS, 4,
		"starts, runs; moves, moved; refuses; device fails; unknown" },
	[COL_NOW] = { "NOW", BACKENDS, TEXT, LIVE, 3,
		"where the memory of a QEMU that runs is: memory, memfd, file, moved" },
	[COL_WHY] = { "WHY", BACKENDS, TEXT, NEVER, 3,
		"the reason, as a sentence" },
};

static const char *const subject_names[NR_SUBJECTS] = {
	"processes", "holders", "cgroups", "backends"
};

static const char *const subject_help[NR_SUBJECTS] = {
	"pinstat:", "pinstat PID:", "pinstat --cgroup:", "pinstat check:"
};

static int column_find(enum subject subject, const char *name, size_t len)
{
	int id;

	for (id = 0; id < NR_COLUMNS; id++)
		if (columns[id].subject == subject &&
		    strlen(columns[id].name) == len &&
		    !strncasecmp(columns[id].name, name, len))
			return id;
	errx(2, "no column '%.*s' in a table of %s; pinstat --list-columns lists them",
	     (int)len, name, subject_names[subject]);
}

static void column_add(struct table *t, enum column_id id)
{
	if (t->nr == NR_COLUMNS)
		errx(2, "too many columns");
	t->columns[t->nr++] = id;
}

static void columns_choose(struct table *t, enum subject subject, bool live)
{
	const char *at = t->format->output;
	int id;

	if (at && *at != '+') {
		for (;;) {
			size_t len = strcspn(at, ",");

			column_add(t, column_find(subject, at, len));
			if (!at[len])
				return;
			at += len + 1;
		}
	}
	for (id = 0; id < NR_COLUMNS; id++) {
		const struct column *c = &columns[id];

		if (c->subject == subject &&
		    (c->shown == ALWAYS || (c->shown == LIVE && live) ||
		     t->format->output_all))
			column_add(t, id);
	}
	while (at && *at) {
		size_t len = strcspn(++at, ",");

		column_add(t, column_find(subject, at, len));
		at += len;
	}
}

static int compare(struct libscols_cell *a, struct libscols_cell *b, void *down)
{
	const struct value *x = scols_cell_get_userdata(a);
	const struct value *y = scols_cell_get_userdata(b);
	int order;

	if (x && y)
		order = (x->number > y->number) - (x->number < y->number);
	else if (x || y)
		order = x ? 1 : -1;	/* what is not known comes first */
	else
		order = strcmp(scols_cell_get_data(a) ?: "",
			       scols_cell_get_data(b) ?: "");
	return down ? -order : order;
}

void table_start(struct table *t, const struct format *format,
		 enum subject subject, bool live)
{
	int sort = -1;
	size_t i;

	memset(t, 0, sizeof(*t));
	t->format = format;
	columns_choose(t, subject, live);
	if (format->sort) {
		const char *name = format->sort;

		t->sort_down = *name == '-';
		name += t->sort_down;
		sort = column_find(subject, name, strlen(name));
		if (!table_has(t, sort))
			errx(2, "--sort: the column %s is not in the output",
			     columns[sort].name);
	}

	t->scols = scols_new_table();
	if (!t->scols)
		err(2, "no memory");
	scols_table_enable_json(t->scols, format->json);
	scols_table_enable_noheadings(t->scols, format->noheadings);
	/* All texts are escaped. The library would do it to \x2d, too */
	scols_table_enable_noencoding(t->scols, 1);
	scols_table_set_name(t->scols, subject_names[subject]);
	for (i = 0; i < t->nr; i++) {
		const struct column *c = &columns[t->columns[i]];
		struct libscols_column *sc;

		sc = scols_table_new_column(t->scols, c->name, c->width,
					    c->kind == TEXT ? 0 :
							      SCOLS_FL_RIGHT);
		if (!sc)
			err(2, "no memory");
		scols_column_set_json_type(sc, c->kind == TEXT ?
					   SCOLS_JSON_STRING :
					   SCOLS_JSON_NUMBER);
		if ((int)t->columns[i] == sort) {
			scols_column_set_cmpfunc(sc, compare,
						 t->sort_down ? t : NULL);
			t->sort = sc;
		}
	}
}

void table_line(struct table *t)
{
	t->line = scols_table_new_line(t->scols, NULL);
	if (!t->line)
		err(2, "no memory");
}

bool table_has(const struct table *t, enum column_id id)
{
	size_t i;

	for (i = 0; i < t->nr; i++)
		if (t->columns[i] == id)
			return true;
	return false;
}

static void cell_set(struct table *t, enum column_id id, const char *text,
		     const uint64_t *value)
{
	size_t i;

	for (i = 0; i < t->nr; i++) {
		struct libscols_cell *cell;

		if (t->columns[i] != id)
			continue;
		cell = scols_line_get_cell(t->line, i);
		if (value) {
			struct value *v = xcalloc(1, sizeof(*v));

			*v = (struct value){ t->values, *value };
			t->values = v;
			scols_cell_set_userdata(cell, v);
		}
		if (scols_cell_set_data(cell, text))
			err(2, "no memory");
	}
}

void cell_text(struct table *t, enum column_id id, const char *text)
{
	char *copy = NULL;

	if (text && !*text)
		text = NULL;
	if (text && t->format->json)
		text = copy = json_text(text);
	/* Who cuts lines into words counts on each; in JSON it is null */
	cell_set(t, id, text || t->format->json ? text : "-", NULL);
	free(copy);
}

void cell_number(struct table *t, enum column_id id, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	cell_set(t, id, text, &value);
}

char *human_size(uint64_t bytes)
{
	static const char units[] = "BKMGTPE";
	unsigned int u = 0, tenths;
	uint64_t rest = 0;

	while (bytes >= 1024) {
		rest = bytes % 1024;
		bytes /= 1024;
		u++;
	}
	tenths = (rest * 10 + 512) / 1024;
	if (tenths == 10) {
		bytes++;
		tenths = 0;
	}
	if (!u)
		return xasprintf("%" PRIu64, bytes);
	if (tenths && bytes < 100)
		return xasprintf("%" PRIu64 ".%u%c", bytes, tenths, units[u]);
	return xasprintf("%" PRIu64 "%c", bytes, units[u]);
}

void cell_bytes(struct table *t, enum column_id id, uint64_t bytes)
{
	char *text;

	/* Programs want to calculate */
	if (t->format->bytes || t->format->json)
		return cell_number(t, id, bytes);
	text = human_size(bytes);
	cell_set(t, id, text, &bytes);
	free(text);
}

static void raw_word(const char *word, const char *end)
{
	for (; *word; word++)
		if (*word == ' ')
			printf("\\x20");
		else
			putchar(*word);
	printf("%s", end);
}

/* As the library would, but it has escapes of its own */
static void print_raw(struct table *t)
{
	struct libscols_iter *lines = scols_new_iter(SCOLS_ITER_FORWARD);
	struct libscols_line *line;
	size_t i;

	if (!lines)
		err(2, "no memory");
	for (i = 0; !t->format->noheadings && i < t->nr; i++)
		raw_word(columns[t->columns[i]].name,
			 i + 1 < t->nr ? " " : "\n");
	while (!scols_table_next_line(t->scols, lines, &line))
		for (i = 0; i < t->nr; i++)
			raw_word(scols_cell_get_data(scols_line_get_cell(line,
									 i)),
				 i + 1 < t->nr ? " " : "\n");
	scols_free_iter(lines);
}

void table_print(struct table *t)
{
	struct value *v;

	if (t->sort && scols_sort_table(t->scols, t->sort))
		err(2, "cannot sort");
	if (t->format->raw)
		print_raw(t);
	else if (scols_print_table(t->scols))
		err(2, "cannot print the table");
	scols_unref_table(t->scols);
	while ((v = t->values)) {
		t->values = v->next;
		free(v);
	}
}

void columns_help(FILE *out)
{
	int s, id;

	for (s = 0; s < NR_SUBJECTS; s++) {
		fprintf(out, "%sColumns of %s\n", s ? "\n" : "",
			subject_help[s]);
		for (id = 0; id < NR_COLUMNS; id++)
			if (columns[id].subject == (enum subject)s)
				fprintf(out, " %c%-10s %s\n",
					columns[id].shown ? '*' : ' ',
					columns[id].name, columns[id].help);
	}
	fputs("\nThose with * are shown unless --output says otherwise.\n",
	      out);
}
