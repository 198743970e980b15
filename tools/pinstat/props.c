// SPDX-License-Identifier: GPL-2.0
#include "props.h"

#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "sysroot.h"

/* QEMU has no option that needs more; others choose what we read */
#define MAX_DEPTH	16
#define MAX_PROPS	4096
#define MAX_KEY		1024

static void props_add(struct props *p, char *key, char *value)
{
	p->list = reallocarray(p->list, p->nr + 1, sizeof(*p->list));
	if (!p->list)
		err(2, "no memory");
	p->list[p->nr++] = (struct prop){ key, value };
}

void props_free(struct props *p)
{
	size_t i;

	for (i = 0; i < p->nr; i++) {
		free(p->list[i].key);
		free(p->list[i].value);
	}
	free(p->list);
	*p = (struct props){ 0 };
}

const char *props_get(const struct props *p, const char *key)
{
	size_t i;

	for (i = p->nr; i--;)
		if (!strcmp(p->list[i].key, key))
			return p->list[i].value;
	return NULL;
}

bool props_is(const struct props *p, const char *key, const char *value)
{
	const char *is = props_get(p, key);

	return is && !strcmp(is, value);
}

bool props_bool(const struct props *p, const char *key, bool otherwise)
{
	const char *is = props_get(p, key);

	if (!is)
		return otherwise;
	return !strcmp(is, "on") || !strcmp(is, "yes") || !strcmp(is, "true") ||
		!strcmp(is, "y");
}

/* --- key=value ------------------------------------------------------------- */

/* Up to a comma, of which two are one that is meant */
static char *keyval_value(const char **at)
{
	const char *s = *at;
	char *value, *v;

	while (*s && (*s != ',' || s[1] == ','))
		s += 1 + (*s == ',');
	value = v = xcalloc(s - *at + 1, 1);
	for (s = *at; *s; s++) {
		if (*s == ',' && *++s != ',')
			break;
		*v++ = *s;
	}
	/* At the end, or behind the comma */
	*at = s;
	return value;
}

static bool keyval_parse(struct props *p, const char *text, const char *first)
{
	size_t len;
	char *key;

	for (; *text; first = NULL) {
		if (p->nr == MAX_PROPS)
			return false;
		len = strcspn(text, "=,");
		if (text[len] == '=') {
			key = strndup(text, len);
			if (!key)
				err(2, "no memory");
			text += len + 1;
			props_add(p, key, keyval_value(&text));
		} else if (first) {
			props_add(p, xstrdup(first), keyval_value(&text));
		} else {
			/* A word alone switches on */
			props_add(p, keyval_value(&text), xstrdup("on"));
		}
	}
	return true;
}

/* --- JSON ------------------------------------------------------------------- */

/* False: too much, or a name with a 0 in it, which no name of QEMU's has */
static bool json_add(struct props *p, const char *key, json_object *value)
{
	json_object *part;
	char *path;
	size_t i;
	bool ok;

	if (p->nr == MAX_PROPS || strlen(key) > MAX_KEY)
		return false;

	if (json_object_is_type(value, json_type_object)) {
		json_object_object_foreach(value, name, member) {
			path = *key ? xasprintf("%s.%s", key, name) :
				      xstrdup(name);
			ok = json_add(p, path, member);
			free(path);
			if (!ok)
				return false;
		}
		return true;
	}
	if (json_object_is_type(value, json_type_array)) {
		for (i = 0; i < json_object_array_length(value); i++) {
			part = json_object_array_get_idx(value, i);
			path = xasprintf("%s.%zu", key, i);
			ok = json_add(p, path, part);
			free(path);
			if (!ok)
				return false;
		}
		return true;
	}
	if (json_object_is_type(value, json_type_string) &&
	    strlen(json_object_get_string(value)) !=
	    (size_t)json_object_get_string_len(value))
		return false;
	props_add(p, xstrdup(key),
		  xstrdup(value ? json_object_get_string(value) : "null"));
	return true;
}

/* Not strict: QEMU takes single quotes, too */
static bool json_parse(struct props *p, const char *text)
{
	struct json_tokener *tokener = json_tokener_new_ex(MAX_DEPTH);
	json_object *value;
	size_t end;
	bool ok;

	if (!tokener)
		err(2, "no memory");
	value = json_tokener_parse_ex(tokener, text, strlen(text));
	end = json_tokener_get_parse_end(tokener);
	ok = json_tokener_get_error(tokener) == json_tokener_success &&
	     !text[end + strspn(text + end, " \t\r\n")] &&
	     json_add(p, "", value);
	json_object_put(value);
	json_tokener_free(tokener);
	return ok;
}

bool props_parse(struct props *p, const char *text, const char *first)
{
	*p = (struct props){ 0 };
	if (*text == '{')
		return json_parse(p, text);
	return keyval_parse(p, text, first);
}

bool parse_size(const char *text, char unit, uint64_t *bytes)
{
	static const char units[] = "BKMGTPE";
	uint64_t whole = 0, part = 0, scale = 1, of_part;
	unsigned int shift, digits = 0;
	const char *u;

	if (text[0] == '0' && (text[1] | 0x20) == 'x' &&
	    isxdigit((unsigned char)text[2])) {
		errno = 0;
		*bytes = strtoull(text, (char **)&u, 16);
		return !errno && !*u;
	}
	for (; isdigit((unsigned char)*text); text++, digits++)
		if (__builtin_mul_overflow(whole, 10, &whole) ||
		    __builtin_add_overflow(whole, *text - '0', &whole))
			return false;
	if (!digits)
		return false;
	if (*text == '.')
		for (text++; isdigit((unsigned char)*text); text++)
			/* More digits than these make no difference */
			if (scale < 1000000) {
				part = part * 10 + *text - '0';
				scale *= 10;
			}
	if (*text)
		unit = *text++;
	u = strchr(units, toupper((unsigned char)unit));
	if (!unit || !u || *text)
		return false;
	shift = (u - units) * 10;
	of_part = (unsigned __int128)part * (1ull << shift) / scale;
	return !__builtin_mul_overflow(whole, 1ull << shift, bytes) &&
		!__builtin_add_overflow(*bytes, of_part, bytes);
}
