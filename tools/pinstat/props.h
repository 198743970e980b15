/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The value of an option of QEMU: "type,key=value,..." or a JSON object. What is
 * nested in JSON has the keys on its way, joined by dots.
 */
#ifndef PINSTAT_PROPS_H
#define PINSTAT_PROPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct prop {
	char *key, *value;
};

struct props {
	struct prop *list;
	size_t nr;
};

/*
 * @first: the key of a first word without one, or NULL. False if it is not
 * understood. To be freed in any case.
 */
bool props_parse(struct props *p, const char *text, const char *first);
void props_free(struct props *p);
/* The last one counts, as in QEMU; NULL if there is none */
const char *props_get(const struct props *p, const char *key);
bool props_is(const struct props *p, const char *key, const char *value);
/* on, yes, true; @otherwise if it is not there */
bool props_bool(const struct props *p, const char *key, bool otherwise);

/* "1.5G"; @unit is that of a number without one. False: no size, or too large */
bool parse_size(const char *text, char unit, uint64_t *bytes);

#endif
