// SPDX-License-Identifier: GPL-2.0
/*
 * One screen: the memory that assigned devices pin and who holds it, the charge
 * for two devices that map the same memory, and what comes of each kind of
 * memory, next to what a stock kernel does. Everything is measured here and now,
 * with real DMA.
 */
#include <errno.h>
#include <getopt.h>
#include <libsmartcols/libsmartcols.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "backing.h"
#include "pins.h"
#include "util.h"
#include "vfio_lib.h"

#define GUEST	(16 * MB)	/* memory that both devices map */

/* What is shown of the table of backings */
static const char *const shown[] = {
	"anon-4k", "thp", "hugetlb-2m", "memfd", "tmpfs", "ext4-shared",
	"ext4-private", "ext4-ro", "xfs-shared", "dax-ext4-shared",
	"dax-ext4-private", "dax-ext4-private-r", "devdax", "secretmem",
	"pci-bar", "unmapped",
};

#define NR_SHOWN	(sizeof(shown) / sizeof(shown[0]))

/* What happened to one kind of memory; pages */
struct outcome {
	bool known;
	char why[160];		/* if it could not be tried */
	int err;
	enum reason reason;
	long size, charge, held;
	long left;		/* pins that its unmap left behind */
	char dma[8];		/* "rw", "r", "no" (wrong content), "-" */
};

struct figures {
	char kernel[65];
	bool measured;
	long mapped, charged;	/* pages, for two devices */
	struct outcome of[NR_SHOWN];
};

struct demo {
	struct vfio a, b;
	char *scratch, *guest;
	struct pins pins;
	bool ours;		/* a kernel with ledgers */
	bool json;
};

static const char *errno_name(int err)
{
	static char number[16];

	switch (err) {
	case 0:
		return "ok";
	case EFAULT:
		return "EFAULT";
	case EOPNOTSUPP:
		return "EOPNOTSUPP";
	case ENOMEM:
		return "ENOMEM";
	case EOVERFLOW:
		return "EOVERFLOW";
	case EINVAL:
		return "EINVAL";
	}
	snprintf(number, sizeof(number), "errno-%d", err);
	return number;
}

static int errno_value(const char *name)
{
	static const int value[] = {
		0, EFAULT, EOPNOTSUPP, ENOMEM, EOVERFLOW, EINVAL
	};
	size_t i;

	for (i = 0; i < sizeof(value) / sizeof(value[0]); i++)
		if (!strcmp(name, errno_name(value[i])))
			return value[i];
	return sscanf(name, "errno-%zu", &i) == 1 ? (int)i : -1;
}

static enum reason reason_value(const char *name)
{
	int r;

	for (r = 0; r < NR_REASONS; r++)
		if (!strcmp(name, reason_name[r]))
			break;
	return r;
}

/* --- Measuring -------------------------------------------------------------- */

/* VmLck is there on every kernel, and is the charge */
static int look(const struct demo *d, struct snap *s)
{
	memset(s, 0, sizeof(*s));
	s->vmlck = status_pages(0, "VmLck:");
	s->foll = vmstat("nr_foll_pin_acquired") -
		  vmstat("nr_foll_pin_released");
	return d->ours ? pins_read(0, &s->pins) : 0;
}

static void try_dma(struct demo *d, const struct backing *b, struct area *a,
		    char *result)
{
	struct vfio_dev *dev = &d->a.dev[0];
	int ret;

	if (b->kind == BAR) {
		/* The first register of the other device says what it is */
		ret = edu_copy(dev, IOVA_SCRATCH, IOVA, 4);
		if (!ret && *(uint32_t *)d->scratch != 0x010000edU)
			ret = -EILSEQ;
		strcpy(result, ret ? "no" : "r");
	} else if (b->flags & MAP_W) {
		ret = edu_check(dev, a->addr, IOVA, a->size);
		strcpy(result, ret ? "no" : "rw");
	} else {
		ret = edu_check_ro(dev, a->addr, IOVA, a->size, d->scratch,
				   IOVA_SCRATCH);
		strcpy(result, ret ? "no" : "r");
	}
}

static void measure_one(struct demo *d, const struct backing *b,
			struct outcome *o)
{
	struct snap before, after;
	struct area area;
	int r;

	o->reason = NO_REASON;
	strcpy(o->dma, "-");
	if (area_open(b, &area, &d->b.dev[0], NULL)) {
		snprintf(o->why, sizeof(o->why), "%s", area.why);
		return;
	}
	o->known = true;
	o->size = area.size / PAGE;
	look(d, &before);
	o->err = -vfio_map(&d->a, area.addr, IOVA, area.size, b->flags);
	look(d, &after);
	o->charge = after.vmlck - before.vmlck;
	o->held = d->ours ? after.pins.held - before.pins.held : -1;
	for (r = 0; r < NR_REASONS; r++)
		if (pins_refused(&after.pins, r) >
		    pins_refused(&before.pins, r))
			o->reason = r;
	if (!o->err) {
		try_dma(d, b, &area, o->dma);
		vfio_unmap(&d->a, IOVA, area.size);
		look(d, &after);
		o->left = after.foll - before.foll;
	}
	area_close(&area);
}

static int measure(struct demo *d, struct figures *f)
{
	struct utsname name;
	struct snap none, both;
	unsigned int i;
	int ret;

	uname(&name);
	snprintf(f->kernel, sizeof(f->kernel), "%s", name.release);
	f->measured = true;

	d->ours = pins_supported();
	d->scratch = anon_pages(PAGE);
	d->guest = anon_pages(GUEST);
	if (!d->scratch || !d->guest)
		return -ENOMEM;
	look(d, &none);
	ret = vfio_open(&d->a, 0);
	if (!ret)
		ret = vfio_open(&d->b, 1);
	if (!ret)
		ret = vfio_map(&d->a, d->guest, IOVA, GUEST, MAP_RW);
	if (!ret)
		ret = vfio_map(&d->b, d->guest, IOVA, GUEST, MAP_RW);
	if (!ret)
		ret = edu_check(&d->a.dev[0], d->guest, IOVA, GUEST);
	if (!ret)
		ret = edu_check(&d->b.dev[0], d->guest, IOVA, GUEST);
	if (!ret)
		ret = look(d, &both);
	if (ret)
		return ret;
	f->mapped = GUEST / PAGE;
	f->charged = both.vmlck - none.vmlck;
	d->pins = both.pins;

	vfio_unmap_all(&d->a);
	vfio_unmap_all(&d->b);
	ret = vfio_map(&d->a, d->scratch, IOVA_SCRATCH, PAGE, MAP_RW);
	for (i = 0; i < NR_SHOWN && !ret; i++)
		measure_one(d, backing_find(shown[i]), &f->of[i]);
	return ret;
}

/* One word a column, for --stock of another run */
static void print_rows(const struct figures *f)
{
	unsigned int i;

	printf("kernel %s\n", f->kernel);
	printf("sharing %ld %ld\n", f->mapped, f->charged);
	for (i = 0; i < NR_SHOWN; i++) {
		const struct outcome *o = &f->of[i];

		if (!o->known) {
			printf("# %s: %s\n", shown[i], o->why);
			continue;
		}
		printf("backing %s %s %s %ld %ld %ld %ld %s\n", shown[i],
		       errno_name(o->err), reason_name[o->reason], o->size,
		       o->charge, o->held, o->left, o->dma);
	}
}

static int read_row(struct figures *f, char *line)
{
	char name[32], result[32], reason[16], dma[8];
	struct outcome o = { .known = true };
	unsigned int i;

	if (*line == '#' || *line == '\n')
		return 0;
	if (sscanf(line, "kernel %64s", f->kernel) == 1)
		return 0;
	if (sscanf(line, "sharing %ld %ld", &f->mapped, &f->charged) == 2)
		return 0;
	if (sscanf(line, "backing %31s %31s %15s %ld %ld %ld %ld %7s", name,
		   result, reason, &o.size, &o.charge, &o.held, &o.left,
		   dma) != 8)
		return -EBADMSG;
	o.err = errno_value(result);
	o.reason = reason_value(reason);
	strcpy(o.dma, dma);
	for (i = 0; i < NR_SHOWN; i++)
		if (!strcmp(shown[i], name))
			f->of[i] = o;
	return o.err < 0 ? -EBADMSG : 0;
}

static int read_stock(const char *path, struct figures *f)
{
	FILE *file = fopen(path, "r");
	char line[256];
	int ret = 0;

	if (!file)
		return -errno;
	while (!ret && fgets(line, sizeof(line), file))
		ret = read_row(f, line);
	fclose(file);
	if (!ret && !f->mapped)
		ret = -ENODATA;
	f->measured = true;
	return ret;
}

/* As docs/behaviour.md has it: measured on 6.12.117 */
static void document_stock(struct figures *f, const struct figures *here)
{
	unsigned int i;

	snprintf(f->kernel, sizeof(f->kernel), "6.12");
	f->mapped = here->mapped;
	f->charged = 2 * here->mapped;
	for (i = 0; i < NR_SHOWN; i++) {
		const struct backing *b = backing_find(shown[i]);

		f->of[i].known = true;
		f->of[i].err = errno_value(b->stock);
		f->of[i].reason = NO_REASON;
		f->of[i].size = here->of[i].size;
		if (!f->of[i].err && !(b->how & HOW_FREE))
			f->of[i].charge = f->of[i].size;
		if (b->how & HOW_LEAKS)
			f->of[i].left = f->of[i].size;
	}
}

/* --- Showing ---------------------------------------------------------------- */

/* Bytes for programs, a short figure for people */
static const char *amount(const struct demo *d, long pages)
{
	static char text[8][24];
	static unsigned int n;
	char *buf = text[n++ % 8];

	if (pages < 0)
		return d->json ? "null" : "-";
	if (d->json)
		snprintf(buf, sizeof(text[0]), "%lu", pages * PAGE);
	else if (pages && pages % (GB / PAGE) == 0)
		snprintf(buf, sizeof(text[0]), "%luG", pages / (GB / PAGE));
	else if (pages && pages % (MB / PAGE) == 0)
		snprintf(buf, sizeof(text[0]), "%luM", pages / (MB / PAGE));
	else if (pages)
		snprintf(buf, sizeof(text[0]), "%luK", pages * (PAGE / KB));
	else
		strcpy(buf, "0");
	return buf;
}

struct column {
	const char *name;
	int flags;
	int type;		/* in JSON */
};

#define TEXT(_name)	{ _name, 0, SCOLS_JSON_STRING }
#define NUMBER(_name)	{ _name, SCOLS_FL_RIGHT, SCOLS_JSON_NUMBER }

static const struct column holder_columns[] = {
	TEXT("holder"), TEXT("device"), NUMBER("pinned"), NUMBER("peak"),
	NUMBER("acquired"), NUMBER("released"),
};

static const struct column sharing_columns[] = {
	TEXT("kernel"), NUMBER("mapped"), NUMBER("devices"), NUMBER("charged"),
	TEXT("source"),
};

static const struct column backing_columns[] = {
	TEXT("backing"), TEXT("mapping"), TEXT("dev"), NUMBER("size"),
	TEXT("result"), TEXT("reason"), NUMBER("charge"), NUMBER("held"),
	TEXT("dma"), TEXT("stock"), NUMBER("stock-charge"),
};

#define NR(_columns)	(sizeof(_columns) / sizeof(_columns[0]))

static struct libscols_table *table(const struct demo *d, const char *name,
				    const struct column *c, size_t n)
{
	struct libscols_table *t = scols_new_table();
	struct libscols_column *col;
	char upper[32];
	size_t i, k;

	if (!t)
		return NULL;
	scols_table_set_name(t, name);
	scols_table_enable_json(t, d->json);
	for (i = 0; i < n; i++) {
		for (k = 0; c[i].name[k] && k < sizeof(upper) - 1; k++)
			upper[k] = c[i].name[k] >= 'a' && c[i].name[k] <= 'z' ?
				   c[i].name[k] - 'a' + 'A' : c[i].name[k];
		upper[k] = 0;
		col = scols_table_new_column(t, upper, 0, c[i].flags);
		if (!col)
			return NULL;
		scols_column_set_json_type(col, c[i].type);
	}
	return t;
}

static void add_line(struct libscols_table *t, const char *const *cell,
		     size_t n)
{
	struct libscols_line *line = scols_table_new_line(t, NULL);
	size_t i;

	for (i = 0; line && i < n; i++)
		scols_line_set_data(line, i, cell[i]);
}

/* Plain text as it is; of JSON what is inside the outer braces */
static void print_table(const struct demo *d, struct libscols_table *t,
			const char *comma)
{
	char *text = NULL, *from, *to;

	if (!t || scols_print_table_to_string(t, &text))
		return;
	from = text;
	if (d->json) {
		from = strchr(text, '{');
		to = strrchr(text, '}');
		if (from && to) {
			from++;
			*to = 0;
		}
		for (to = text + strlen(text); to > from && to[-1] == '\n';)
			*--to = 0;
		while (*from == '\n')
			from++;
		printf("%s%s\n", from, comma);
	} else {
		printf("%s%s", from, *from && from[strlen(from) - 1] == '\n' ?
		       "" : "\n");
	}
	free(text);
	scols_unref_table(t);
}

static void show_holders(const struct demo *d, const struct figures *here)
{
	struct libscols_table *t = table(d, "holders", holder_columns,
					 NR(holder_columns));
	int i;

	for (i = 0; t && i < d->pins.nr; i++) {
		const struct holder *h = &d->pins.holder[i];
		/* accounts are listed in the order of their making */
		const char *cell[] = {
			h->name, (i ? &d->b : &d->a)->dev[0].name,
			amount(d, h->pages), amount(d, h->peak),
			amount(d, h->acquired), amount(d, h->released),
		};

		add_line(t, cell, NR(cell));
	}
	if (!d->json)
		printf("Memory of process %d that two assigned devices pin (/proc/%d/longterm_pins):\n",
		       getpid(), getpid());
	print_table(d, t, ",");
	if (!d->json)
		printf("charge %s, held %s, limit %s%s, VmLck %s\n\n",
		       amount(d, d->pins.charge), amount(d, d->pins.held),
		       d->pins.limit == UNLIMITED ? "unlimited" :
		       amount(d, d->pins.limit),
		       d->pins.charge > d->pins.limit ? " (CAP_IPC_LOCK)" : "",
		       here->charged == d->pins.charge ? "as the charge" :
		       amount(d, here->charged));
	else
		printf("   \"charge\": %s,\n   \"held\": %s,\n   \"limit\": %s,\n",
		       amount(d, d->pins.charge), amount(d, d->pins.held),
		       d->pins.limit == UNLIMITED ? "null" :
		       amount(d, d->pins.limit));
}

static const char *source(const struct figures *f)
{
	return f->measured ? "measured" :
			     "not measured, but as docs/behaviour.md says";
}

static void show_sharing(const struct demo *d, const struct figures *here,
			 const struct figures *stock)
{
	const struct figures *f[] = { here, stock };
	struct libscols_table *t;
	unsigned int i;

	if (!d->json) {
		printf("These %s, mapped for two devices, are charged as %s; on stock as %s.\n\n",
		       amount(d, here->mapped), amount(d, here->charged),
		       amount(d, stock->charged));
		return;
	}
	t = table(d, "sharing", sharing_columns, NR(sharing_columns));
	for (i = 0; t && i < 2; i++) {
		const char *cell[] = {
			f[i]->kernel, amount(d, f[i]->mapped), "2",
			amount(d, f[i]->charged), source(f[i]),
		};

		add_line(t, cell, NR(cell));
	}
	print_table(d, t, ",");
}

static void show_backings(const struct demo *d, const struct figures *here,
			  const struct figures *stock)
{
	struct libscols_table *t = table(d, "backings", backing_columns,
					 NR(backing_columns));
	unsigned int i;

	for (i = 0; t && i < NR_SHOWN; i++) {
		const struct backing *b = backing_find(shown[i]);
		const struct outcome *o = &here->of[i], *s = &stock->of[i];
		char then[48] = "?";

		if (s->known)
			snprintf(then, sizeof(then), "%s%s",
				 errno_name(s->err),
				 s->left > 0 ? ", pins leak" : "");
		{
			const char *cell[] = {
				b->name, b->access,
				b->flags & MAP_W ? "rw" : "r",
				amount(d, o->known ? o->size : -1),
				o->known ? errno_name(o->err) : "not here",
				reason_name[o->reason],
				amount(d, o->known ? o->charge : -1),
				amount(d, o->known ? o->held : -1), o->dma,
				then, amount(d, s->known ? s->charge : -1),
			};

			add_line(t, cell, NR(cell));
		}
	}
	print_table(d, t, "");
}

static void show(const struct demo *d, const struct figures *here,
		 const struct figures *stock)
{
	if (d->json)
		printf("{\n   \"kernel\": \"%s\",\n   \"stock\": \"%s\",\n   \"stock_source\": \"%s\",\n",
		       here->kernel, stock->kernel, source(stock));
	else
		printf("Linux %s, edu devices %s and %s, real DMA through the IOMMU.\n"
		       "stock: Linux %s, %s%s.\n\n", here->kernel,
		       d->a.dev[0].name, d->b.dev[0].name, stock->kernel,
		       source(stock),
		       stock->measured ? "" : " (to measure it: make stock)");
	show_holders(d, here);
	show_sharing(d, here, stock);
	show_backings(d, here, stock);
	if (d->json)
		printf("}\n");
}

/* Is everything as the table of backings says? */
static int check(const struct demo *d, const struct figures *f)
{
	int wrong = 0;
	unsigned int i;

	if (d->pins.charge != f->mapped || f->charged != f->mapped) {
		fprintf(stderr, "pindemo: %ld pages mapped twice: the charge is %ld, VmLck %ld\n",
			f->mapped, d->pins.charge, f->charged);
		wrong++;
	}
	for (i = 0; i < NR_SHOWN; i++) {
		const struct backing *b = backing_find(shown[i]);
		const struct outcome *o = &f->of[i];

		if (!o->known) {
			fprintf(stderr, "pindemo: %s\n", o->why);
			continue;
		}
		if (o->err == b->err && o->reason == b->reason && !o->left &&
		    strcmp(o->dma, "no") &&
		    o->charge == (b->err || b->how & HOW_FREE ? 0 : o->size))
			continue;
		fprintf(stderr, "pindemo: %s: not as it should be\n", b->name);
		wrong++;
	}
	return wrong;
}

static void usage(FILE *to)
{
	fputs("Usage: pindemo [--json] [--stock FILE] | pindemo --measure\n"
	      "Shows what assigned devices pin, and what comes of each kind of memory.\n"
	      "\n"
	      "  --json         the same as JSON; amounts are bytes\n"
	      "  --measure      rows for --stock, on whatever kernel runs\n"
	      "  --stock FILE   what --measure wrote on a stock kernel; without it\n"
	      "                 the table that is compiled in is shown\n", to);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "measure", no_argument, NULL, 'm' },
		{ "stock", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	static struct figures here, stock;
	static struct demo d;
	const char *stock_file = NULL;
	bool rows = false;
	int c, ret;

	while ((c = getopt_long(argc, argv, "jms:h", options, NULL)) != -1) {
		switch (c) {
		case 'j':
			d.json = true;
			break;
		case 'm':
			rows = true;
			break;
		case 's':
			stock_file = optarg;
			break;
		default:
			usage(c == 'h' ? stdout : stderr);
			return c == 'h' ? 0 : 2;
		}
	}
	if (vfio_count() < 2) {
		fputs("pindemo: USERPIN_VFIO_DEVS must name two edu devices\n",
		      stderr);
		return 2;
	}
	if (stock_file) {
		ret = read_stock(stock_file, &stock);
		if (ret) {
			fprintf(stderr, "pindemo: %s: %s\n", stock_file,
				strerror(-ret));
			return 2;
		}
	}
	ret = measure(&d, &here);
	if (ret) {
		fprintf(stderr, "pindemo: %s\n", strerror(-ret));
		return 1;
	}
	if (rows) {
		print_rows(&here);
		return 0;
	}
	if (!d.ours) {
		fputs("pindemo: this kernel has no longterm_pins; there is --measure\n",
		      stderr);
		return 2;
	}
	if (!stock_file)
		document_stock(&stock, &here);
	show(&d, &here, &stock);
	return check(&d, &here) ? 1 : 0;
}
