// SPDX-License-Identifier: GPL-2.0
#include "pins.h"

#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "props.h"
#include "sysroot.h"

/* A line with more words than this is none that we know */
#define MAX_WORDS	64

struct line {
	char *words[MAX_WORDS];
	size_t nr;
};

bool parse_number(const char *text, uint64_t *value)
{
	char *end;

	if (!isdigit((unsigned char)*text))
		return false;
	errno = 0;
	*value = strtoull(text, &end, 10);
	return !errno && !*end;
}

/* Cut the line at *text into words; false after the last line */
static bool next_line(char **text, char *end, struct line *line)
{
	char *at = *text, *stop, *word;

	if (at >= end)
		return false;
	stop = memchr(at, '\n', end - at);
	if (!stop)
		stop = end;
	*stop = '\0';
	*text = stop + 1;
	line->nr = 0;
	/* A 0 in the middle ends the line: the rest is lost, and not understood */
	while (line->nr < MAX_WORDS && (word = strsep(&at, " "))) {
		line->words[line->nr++] = word;
		/* A path is all the rest: it may have blanks */
		if (line->nr == 1 && at && !strcmp(word, "cgroup")) {
			line->words[line->nr++] = at;
			break;
		}
	}
	return true;
}

static void *grow(void *array, size_t nr, size_t size)
{
	/* To the next power of two */
	if (nr & (nr - 1))
		return array;
	array = reallocarray(array, nr ? 2 * nr : 1, size);
	if (!array)
		err(2, "no memory");
	return array;
}

/* The words from @first on, and before @end, are reasons */
static void reasons_read(struct reasons *r, const struct line *line,
			 size_t first, size_t end)
{
	r->names = xcalloc(end - first, sizeof(*r->names));
	for (r->nr = 0; first + r->nr < end; r->nr++)
		r->names[r->nr] = escape_kernels(line->words[first + r->nr]);
}

static bool is_header(const struct line *line, size_t at)
{
	static const char *const names[] = {
		"holder", "pages", "peak", "acquired", "released"
	};
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (at + i >= line->nr || strcmp(line->words[at + i], names[i]))
			return false;
	return true;
}

/* A name, four figures, and one for each of the reasons */
static bool holder_read(struct holder *h, const struct reasons *r,
			char *const *words)
{
	uint64_t *figures[] = { &h->pages, &h->peak, &h->acquired,
				&h->released };
	size_t i;

	h->refused = xcalloc(r->nr, sizeof(*h->refused));
	h->name = escape_kernels(words[0]);
	for (i = 0; i < 4; i++)
		if (!parse_number(words[1 + i], figures[i]))
			return false;
	for (i = 0; i < r->nr; i++)
		if (!parse_number(words[5 + i], &h->refused[i]))
			return false;
	return *words[0];
}

static void holder_free(struct holder *h)
{
	free(h->name);
	free(h->refused);
}

static bool total_read(struct pins *pins, const struct line *line)
{
	const char *name = line->words[0], *value = line->words[1];

	if (!strcmp(name, "charge"))
		return parse_number(value, &pins->charge);
	if (!strcmp(name, "held"))
		return parse_number(value, &pins->held);
	if (!strcmp(name, "pinned"))
		return parse_number(value, &pins->pinned);
	if (!strcmp(name, "user"))
		return parse_number(value, &pins->user);
	if (!strcmp(name, "limit")) {
		if (!strcmp(value, "unlimited"))
			pins->limit = LIMIT_UNLIMITED;
		else if (strcmp(value, "-"))
			return parse_number(value, &pins->limit) &&
			       pins->limit < LIMIT_UNKNOWN;
		return true;
	}
	if (!strcmp(name, "cgroup")) {
		free(pins->cgroup);
		pins->cgroup = strcmp(value, "-") ? escape_kernels(value) : NULL;
	}
	if (!strcmp(name, "cgroup-state"))
		pins->cgroup_removed = !strcmp(value, "removed");
	/* Others are of a newer kernel */
	return true;
}

unsigned int pins_parse(struct pins *pins, const char *text, size_t len)
{
	char *copy = xcalloc(len + 1, 1), *at = copy;
	unsigned int number = 1;
	struct line line;
	bool ok;

	memset(pins, 0, sizeof(*pins));
	pins->limit = LIMIT_UNKNOWN;
	memcpy(copy, text, len);

	ok = next_line(&at, copy + len, &line) && is_header(&line, 0) &&
	     line.nr < MAX_WORDS;
	if (ok)
		reasons_read(&pins->reasons, &line, 5, line.nr);
	while (ok && next_line(&at, copy + len, &line)) {
		number++;
		/* More words may follow the value */
		if (line.nr >= 2 && line.nr < 5) {
			ok = total_read(pins, &line);
			continue;
		}
		ok = line.nr == 5 + pins->reasons.nr;
		if (!ok)
			break;
		pins->holders = grow(pins->holders, pins->nr,
				     sizeof(*pins->holders));
		memset(&pins->holders[pins->nr], 0, sizeof(*pins->holders));
		ok = holder_read(&pins->holders[pins->nr], &pins->reasons,
				 line.words);
		if (ok)
			pins->nr++;
		else
			holder_free(&pins->holders[pins->nr]);
	}
	free(copy);
	return ok ? 0 : number;
}

static void reasons_free(struct reasons *r)
{
	size_t i;

	for (i = 0; i < r->nr; i++)
		free(r->names[i]);
	free(r->names);
}

void pins_free(struct pins *pins)
{
	size_t i;

	for (i = 0; i < pins->nr; i++)
		holder_free(&pins->holders[i]);
	free(pins->holders);
	free(pins->cgroup);
	reasons_free(&pins->reasons);
}

/* Where the columns of the ledger begin; 0 if they are missing */
static size_t ledger_columns(const struct line *line, size_t first)
{
	size_t i;

	for (i = first; i + 2 < line->nr; i++)
		if (!strcmp(line->words[i], "charge") &&
		    !strcmp(line->words[i + 1], "held") &&
		    !strcmp(line->words[i + 2], "ledger"))
			return i;
	return 0;
}

static bool listed_read(struct listed *l, const struct reasons *r,
			const struct line *line)
{
	uint64_t pid;

	l->comm = escape_kernels(line->words[1]);
	if (!parse_number(line->words[0], &pid) || pid > INT32_MAX)
		return false;
	l->pid = pid;
	l->gone = !strcmp(line->words[2], "gone");
	return holder_read(&l->holder, r, line->words + 3) &&
	       parse_number(line->words[8 + r->nr], &l->charge) &&
	       parse_number(line->words[9 + r->nr], &l->held) &&
	       parse_number(line->words[10 + r->nr], &l->ledger);
}

static void listed_free(struct listed *l)
{
	free(l->comm);
	holder_free(&l->holder);
}

/* "refused REASON COUNT" */
static bool refusal_read(struct refusals *r, const struct line *line)
{
	uint64_t count;

	if (!parse_number(line->words[2], &count))
		return false;
	r->reasons.names = grow(r->reasons.names, r->reasons.nr,
				sizeof(*r->reasons.names));
	r->counts = grow(r->counts, r->reasons.nr, sizeof(*r->counts));
	r->reasons.names[r->reasons.nr] = escape_kernels(line->words[1]);
	r->counts[r->reasons.nr++] = count;
	return true;
}

void refusals_free(struct refusals *r)
{
	reasons_free(&r->reasons);
	free(r->counts);
}

unsigned int list_parse(struct list *list, const char *text, size_t len)
{
	char *copy = xcalloc(len + 1, 1), *at = copy;
	unsigned int number = 1;
	struct line line;
	size_t columns = 0, end;
	bool ok;

	memset(list, 0, sizeof(*list));
	memcpy(copy, text, len);

	/* pid comm state, a holder's columns, those of its ledger, newer ones */
	ok = next_line(&at, copy + len, &line) && is_header(&line, 3) &&
	     line.nr < MAX_WORDS;
	if (ok) {
		columns = line.nr;
		end = ledger_columns(&line, 8);
		ok = end;
		if (ok)
			reasons_read(&list->reasons, &line, 8, end);
	}
	while (ok && next_line(&at, copy + len, &line)) {
		number++;
		if (line.nr == 3 && !strcmp(line.words[0], "refused")) {
			ok = refusal_read(&list->refusals, &line);
			continue;
		}
		ok = line.nr == columns;
		if (!ok)
			break;
		list->lines = grow(list->lines, list->nr, sizeof(*list->lines));
		memset(&list->lines[list->nr], 0, sizeof(*list->lines));
		ok = listed_read(&list->lines[list->nr], &list->reasons, &line);
		if (ok)
			list->nr++;
		else
			listed_free(&list->lines[list->nr]);
	}
	free(copy);
	return ok ? 0 : number;
}

void list_free(struct list *list)
{
	size_t i;

	for (i = 0; i < list->nr; i++)
		listed_free(&list->lines[i]);
	free(list->lines);
	reasons_free(&list->reasons);
	refusals_free(&list->refusals);
}

uint64_t add_counts(uint64_t a, uint64_t b)
{
	uint64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

uint64_t multiply_counts(uint64_t a, uint64_t b)
{
	uint64_t product;

	return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

uint64_t holder_refused(const struct holder *h, const struct reasons *reasons)
{
	uint64_t sum = 0;
	size_t i;

	for (i = 0; i < reasons->nr; i++)
		sum = add_counts(sum, h->refused[i]);
	return sum;
}

static const char *status_field(const char *text, const char *field)
{
	size_t len = strlen(field);

	while (text && strncmp(text, field, len)) {
		text = strchr(text, '\n');
		if (text)
			text++;
	}
	if (!text)
		return NULL;
	text += len;
	return text + strspn(text, " \t");
}

uint64_t status_kb(const char *text, const char *field)
{
	const char *value = status_field(text, field);

	return value && isdigit((unsigned char)*value) ?
		strtoull(value, NULL, 10) : 0;
}

bool status_has_cap(const char *text, unsigned int cap)
{
	const char *value = status_field(text, "CapEff:");

	return value && strtoull(value, NULL, 16) & 1ull << cap;
}

bool is_qemu(const char *program)
{
	const char *slash = strrchr(program, '/');

	program = slash ? slash + 1 : program;
	return strstr(program, "qemu") || !strcmp(program, "kvm");
}

/* "guest=a,,b,debug-threads=on", or just the name: "a,b" */
static char *name_option(const char *option)
{
	struct props p;
	const char *guest;
	char *name = NULL;

	if (props_parse(&p, option, "guest")) {
		guest = props_get(&p, "guest");
		if (guest && *guest)
			name = escape(guest, strlen(guest));
	}
	props_free(&p);
	return name;
}

char *vm_name(const char *cmdline, size_t len)
{
	const char *end = cmdline + len, *arg = cmdline, *next;
	bool follows = false;

	/* The kernel may cut it anywhere */
	if (!len || end[-1] || !is_qemu(cmdline))
		return NULL;
	for (; arg < end; arg = next) {
		next = arg + strlen(arg) + 1;
		/* Names are short, and whoever wrote this may be hostile */
		if (follows)
			return next - arg > 4096 ? NULL : name_option(arg);
		follows = !strcmp(arg, "-name") || !strcmp(arg, "--name");
	}
	return NULL;
}
