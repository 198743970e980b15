// SPDX-License-Identifier: GPL-2.0
/*
 * The parsers, with input that nobody vouches for. By libFuzzer (make fuzz), or,
 * with REPLAY, with each of some files, whole and damaged in ways that are the
 * same each time.
 */
#include <locale.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>
#include <wctype.h>

#include "judge.h"
#include "pins.h"
#include "sysroot.h"

static void printable(const char *text)
{
	size_t left = text ? strlen(text) : 0, n;
	mbstate_t state = { 0 };
	wchar_t c;

	for (; left; text += n, left -= n) {
		n = mbrtowc(&c, text, left, &state);
		if (n > left || iswcntrl(c))
			abort();
	}
}

/* It can be told which name a text was */
static void try_name(const char *text, size_t len)
{
	char *escaped = escape(text, len), *json = json_text(escaped), *kernels;

	printable(escaped);
	kernels = escape_kernels(escaped);
	printable(kernels);
	free(kernels);
	free(json);
	unescape(escaped);
	if (strlen(escaped) != strnlen(text, len) ||
	    memcmp(escaped, text, strlen(escaped)))
		abort();
	free(escaped);
}

static void try_pins(const char *text, size_t len)
{
	struct pins pins;
	size_t i, r;

	pins_parse(&pins, text, len);
	for (i = 0; i < pins.nr; i++) {
		printable(pins.holders[i].name);
		holder_refused(&pins.holders[i], &pins.reasons);
	}
	for (r = 0; r < pins.reasons.nr; r++)
		printable(pins.reasons.names[r]);
	printable(pins.cgroup);
	pins_free(&pins);
}

static void try_list(const char *text, size_t len)
{
	struct list list;
	size_t i;

	list_parse(&list, text, len);
	for (i = 0; i < list.nr; i++) {
		printable(list.lines[i].comm);
		printable(list.lines[i].holder.name);
	}
	list_free(&list);
}

static void try_command(const char *text, size_t len)
{
	char *name = vm_name(text, len);

	printable(name);
	free(name);
}

static void try_status(const char *text, size_t len)
{
	/* As sysroot_read() gives it */
	char *copy = xcalloc(len + 1, 1);

	memcpy(copy, text, len);
	status_kb(copy, "VmLck:");
	status_kb(copy, "VmPin:");
	free(copy);
}

/* What check makes of a VM, whatever it is, on a kernel and QEMU of either kind */
static void try_judge(struct vm *vm, const struct mounts *mounts)
{
	struct judgement j;
	struct host host;
	size_t i;
	int kind;

	for (i = 0; i < vm->nr; i++)
		printable(vm->backends[i].name);
	for (kind = 0; kind < 4; kind++) {
		host = (struct host){
			.kernel = kind & 1, .qemu = kind & 2, .mounts = *mounts,
			.limited = true, .limit = 1 << 20,
		};
		judge(&j, vm, &host);
		for (i = 0; i < vm->nr; i++)
			printable(j.verdicts[i].why);
		for (i = 0; i < j.todo.nr; i++)
			printable(j.todo.list[i].text);
		for (i = 0; i < j.warnings.nr; i++)
			printable(j.warnings.list[i].text);
		judgement_free(&j, vm);
	}
}

static void try_domain(const char *text, size_t len, const struct mounts *mounts)
{
	struct vm vm = { 0 };
	char *wrong = domain_parse(&vm, text, len, "file", "/ram", mounts);

	printable(wrong);
	printable(vm.name);
	if (!wrong)
		try_judge(&vm, mounts);
	free(wrong);
	vm_free(&vm);
}

/* As many arguments as there are ends of text in it */
static void try_arguments(const char *text, size_t len,
			  const struct mounts *mounts)
{
	char *copy = xcalloc(len + 1, 1), *at, **argv, *wrong;
	struct vm vm = { 0 };
	size_t argc = 0;

	memcpy(copy, text, len);
	argv = xcalloc(len + 1, sizeof(*argv));
	for (at = copy; at < copy + len; at += strlen(at) + 1)
		argv[argc++] = at;
	wrong = qemu_parse(&vm, argv, argc, false);
	printable(wrong);
	printable(vm.name);
	if (!wrong)
		try_judge(&vm, mounts);
	free(wrong);
	vm_free(&vm);
	free(argv);
	free(copy);
}

static void try_mounts(const char *text, size_t len, struct mounts *mounts)
{
	char *copy = xcalloc(len + 1, 1);

	memcpy(copy, text, len);
	mounts_of_text(mounts, copy, len);
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct mounts mounts = { 0 };

	/* For printable() */
	if (!setlocale(LC_CTYPE, "C.UTF-8"))
		abort();
	try_name(text, size);
	/* So that none of these files is looked for on this system */
	sysroot = "/nowhere";
	try_mounts(text, size, &mounts);
	try_domain(text, size, &mounts);
	try_arguments(text, size, &mounts);
	mounts_free(&mounts);
	try_pins(text, size);
	try_list(text, size);
	try_command(text, size);
	try_status(text, size);
	return 0;
}

#ifdef REPLAY
static uint64_t seed = 1;

static uint64_t random_below(uint64_t n)
{
	/* xorshift: the same sequence each time */
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return n ? seed % n : 0;
}

/* One byte changed, a piece cut out or doubled, or the end cut off */
static size_t damage(char *text, size_t len, size_t room)
{
	static const char nasty[] = "\0\n -9\xff\xc3\xe2\x9b\\\"{[,=:%<&";
	size_t at = random_below(len), n = random_below(len - at);

	if (!len)
		return 0;
	switch (random_below(4)) {
	case 0:
		text[at] = nasty[random_below(sizeof(nasty))];
		return len;
	case 1:
		memmove(text + at, text + at + n, len - at - n);
		return len - n;
	case 2:
		if (len + n > room)
			return len;
		memmove(text + at + n, text + at, len - at);
		return len + n;
	default:
		return at;
	}
}

int main(int argc, char **argv)
{
	int i, round;

	for (i = 1; i < argc; i++) {
		size_t len, now, room;
		char *text, *copy;

		sysroot = "";
		text = sysroot_read(&len, "%s", argv[i]);
		if (!text) {
			perror(argv[i]);
			return 1;
		}
		/* Exactly as long as it is: what is read beyond is noticed */
		for (round = 0; round < 300; round++) {
			room = 2 * len + 16;
			copy = xcalloc(room, 1);
			memcpy(copy, text, len);
			now = len;
			if (round) {
				now = damage(copy, now, room);
				if (round % 3 == 0)
					now = damage(copy, now, room);
			}
			copy = realloc(copy, now ? now : 1);
			LLVMFuzzerTestOneInput((uint8_t *)copy, now);
			free(copy);
		}
		free(text);
	}
	return 0;
}
#endif
