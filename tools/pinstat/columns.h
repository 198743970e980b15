/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The columns of all tables. One description of each drives header, width, help,
 * the types in JSON, and sorting.
 */
#ifndef PINSTAT_COLUMNS_H
#define PINSTAT_COLUMNS_H

#include <libsmartcols/libsmartcols.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* What a line of the table is about */
enum subject { PROCESSES, HOLDERS, CGROUPS, BACKENDS, NR_SUBJECTS };

enum column_id {
	/* Processes */
	COL_PID, COL_COMMAND, COL_VM, COL_STATE, COL_HOLDERS, COL_CHARGE,
	COL_HELD, COL_LIMIT, COL_USE, COL_UNTRACKED, COL_REFUSED,
	COL_PROCESS_PINNED, COL_VMLCK, COL_PROCESS_CGROUP,
	/* Holders */
	COL_HOLDER, COL_PINNED, COL_PEAK, COL_ACQUIRED, COL_RELEASED,
	COL_PIN_RATE, COL_PUT_RATE, COL_HOLDER_REFUSED, COL_REASONS,
	/* Cgroups */
	COL_CGROUP, COL_CURRENT, COL_MAX, COL_CGROUP_PEAK, COL_CGROUP_USE,
	COL_CGROUP_REFUSED,
	/* Memory backends of a VM */
	COL_BACKEND, COL_BACKEND_USE, COL_SIZE, COL_FILE, COL_FS, COL_SHARE,
	COL_PIN, COL_QEMU, COL_NOW, COL_WHY,
	NR_COLUMNS
};

struct format {
	bool json, bytes, noheadings, raw, output_all;
	const char *output;	/* columns, or NULL */
	const char *sort;	/* column, or NULL */
};

/* What a cell is sorted by */
struct value {
	struct value *next;
	uint64_t number;
};

struct table {
	struct libscols_table *scols;
	const struct format *format;
	enum column_id columns[NR_COLUMNS];
	size_t nr;
	struct libscols_line *line;	/* that cells go to */
	struct value *values;
	struct libscols_column *sort;
	bool sort_down;
};

/*
 * Exits with a message if a column is unknown. @live: with the columns of what is
 * going on now, rates and the like
 */
void table_start(struct table *t, const struct format *format,
		 enum subject subject, bool live);
void table_line(struct table *t);
/* A cell of the current line, if the table has the column; NULL: nothing there */
void cell_text(struct table *t, enum column_id id, const char *text);
void cell_number(struct table *t, enum column_id id, uint64_t value);
void cell_bytes(struct table *t, enum column_id id, uint64_t bytes);
bool table_has(const struct table *t, enum column_id id);
void table_print(struct table *t);

char *human_size(uint64_t bytes);	/* for free() */
void columns_help(FILE *out);

#endif
