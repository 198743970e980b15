// SPDX-License-Identifier: GPL-2.0
#include "nodes.h"

#include <stdlib.h>
#include <string.h>

#include "sysroot.h"

/* More than any set takes */
#define MAX_TEXT	4096

bool nodes_parse(const char *list, bool set[MAX_NODES])
{
	unsigned long long from, to;
	bool in;
	char *end;

	memset(set, 0, MAX_NODES * sizeof(*set));
	if (strnlen(list, MAX_TEXT + 1) > MAX_TEXT)
		return false;
	while (*list) {
		in = *list != '^';
		list += !in;
		from = to = strtoull(list, &end, 10);
		if (end == list)
			return false;
		if (*end == '-')
			to = strtoull(end + 1, &end, 10);
		if (*end && *end != ',')
			return false;
		for (; from <= to && from < MAX_NODES; from++)
			set[from] = in;
		list = end + (*end == ',');
	}
	return true;
}

char *nodes_text(const char *list)
{
	char *text = xstrdup(""), *more;
	bool set[MAX_NODES];
	unsigned int from, to;

	if (!nodes_parse(list, set)) {
		free(text);
		return escape(list, strlen(list));
	}
	for (from = 0; from < MAX_NODES; from = to + 1) {
		to = from;
		if (!set[from])
			continue;
		while (to + 1 < MAX_NODES && set[to + 1])
			to++;
		more = from == to ?
			xasprintf("%s%s%u", text, *text ? "," : "", from) :
			xasprintf("%s%s%u-%u", text, *text ? "," : "", from, to);
		free(text);
		text = more;
	}
	return text;
}
