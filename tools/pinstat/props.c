// SPDX-License-Identifier: GPL-2.0
#include "props.h"

#include <ctype.h>
#include <err.h>
#include <stdlib.h>
#include <string.h>

#include "sysroot.h"

#define MAX_DEPTH	16

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
	char *value = xcalloc(strlen(s) + 1, 1), *v = value;

	for (; *s; s++) {
		if (*s == ',' && *++s != ',')
			break;
		*v++ = *s;
	}
	/* At the end, or behind the comma */
	*at = s;
	return value;
}

static void keyval_parse(struct props *p, const char *text, const char *first)
{
	size_t len;
	char *key;

	for (; *text; first = NULL) {
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
}

/* --- JSON ------------------------------------------------------------------- */

struct json {
	struct props *props;
	const char *at;
};

static void json_space(struct json *j)
{
	while (*j->at && strchr(" \t\r\n", *j->at))
		j->at++;
}

static bool json_is(struct json *j, char c)
{
	json_space(j);
	if (*j->at != c)
		return false;
	j->at++;
	return true;
}

static char *put_utf8(char *o, unsigned int c)
{
	if (c < 0x80) {
		*o++ = c;
	} else if (c < 0x800) {
		*o++ = 0xc0 | c >> 6;
		*o++ = 0x80 | (c & 0x3f);
	} else {
		/* Halves of a pair stay as they are: names are escaped anyway */
		*o++ = 0xe0 | c >> 12;
		*o++ = 0x80 | (c >> 6 & 0x3f);
		*o++ = 0x80 | (c & 0x3f);
	}
	return o;
}

/* \uXXXX; 0 would end the text too early, and is no character of a name */
static bool json_unicode(struct json *j, char **o)
{
	unsigned int c = 0, i;

	for (i = 0; i < 4; i++, j->at++) {
		if (!isxdigit((unsigned char)*j->at))
			return false;
		c = c << 4 | (isdigit((unsigned char)*j->at) ? *j->at - '0' :
			      (*j->at | 0x20) - 'a' + 10);
	}
	*o = put_utf8(*o, c);
	return c;
}

/* NULL: no string */
static char *json_string(struct json *j)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	char *text, *o;
	const char *c;

	if (!json_is(j, '"'))
		return NULL;
	/* An escape is never shorter than what it stands for */
	text = o = xcalloc(strlen(j->at) + 1, 1);
	while (*j->at && *j->at != '"') {
		if (*j->at != '\\') {
			*o++ = *j->at++;
			continue;
		}
		j->at++;
		c = *j->at ? strchr(from, *j->at) : NULL;
		if (c) {
			*o++ = to[c - from];
			j->at++;
			continue;
		}
		if (*j->at != 'u')
			goto wrong;
		j->at++;
		if (!json_unicode(j, &o))
			goto wrong;
	}
	if (json_is(j, '"'))
		return text;
wrong:
	free(text);
	return NULL;
}

static bool json_value(struct json *j, const char *key, int depth);

static bool json_members(struct json *j, const char *key, bool array, int depth)
{
	const char end = array ? ']' : '}';
	unsigned int n = 0;
	char *name, *path;
	bool ok;

	if (json_is(j, end))
		return true;
	do {
		if (array)
			name = xasprintf("%u", n++);
		else
			name = json_string(j);
		if (!name || (!array && !json_is(j, ':'))) {
			free(name);
			return false;
		}
		path = *key ? xasprintf("%s.%s", key, name) : xstrdup(name);
		free(name);
		ok = json_value(j, path, depth + 1);
		free(path);
		if (!ok)
			return false;
	} while (json_is(j, ','));
	return json_is(j, end);
}

static bool json_value(struct json *j, const char *key, int depth)
{
	char *text;
	size_t len;

	if (depth > MAX_DEPTH)
		return false;
	if (json_is(j, '{'))
		return json_members(j, key, false, depth);
	if (json_is(j, '['))
		return json_members(j, key, true, depth);
	if (*j->at == '"') {
		text = json_string(j);
	} else {
		/* true, false, null or a number */
		len = strspn(j->at, "+-.0123456789abcdefghijklmnopqrstuvwxyzE");
		text = len ? strndup(j->at, len) : NULL;
		j->at += len;
	}
	if (!text)
		return false;
	props_add(j->props, xstrdup(key), text);
	return true;
}

bool props_parse(struct props *p, const char *text, const char *first)
{
	struct json j = { p, text };

	*p = (struct props){ 0 };
	if (*text != '{') {
		keyval_parse(p, text, first);
		return true;
	}
	if (!json_value(&j, "", 0))
		return false;
	json_space(&j);
	return !*j.at;
}

bool parse_size(const char *text, char unit, uint64_t *bytes)
{
	static const char units[] = "BKMGTPE";
	uint64_t whole = 0, part = 0, scale = 1, of_part;
	unsigned int shift, digits = 0;
	const char *u;

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
