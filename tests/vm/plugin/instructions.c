// SPDX-License-Identifier: GPL-2.0
/*
 * A plugin of QEMU's TCG: which instructions a VM executes, and for how many at a
 * time it has interrupts off, or a mutex. scripts/bench --profile uses it.
 *
 * What counts begins when the block at address `at` is executed for the time that
 * `number` says, and ends when it is executed again. Then, in the file `out`, there
 * is a line for each block,
 *	block ADDRESS INSTRUCTIONS
 * and one for the longest time from a CLI to the next STI, or to the return from
 * the kernel, and where the CLI was:
 *	off ADDRESS INSTRUCTIONS
 * Interrupts themselves, which have them off, too, are no part of that. For the
 * functions at `lock` and `unlock`, which are called in pairs, one more line says
 * for how long a mutex is held that is taken while another one is, and by whom:
 *	held ADDRESS INSTRUCTIONS
 */
#include <glib.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <qemu-plugin.h>

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

struct block {
	uint64_t pc;
	uint64_t insns;
	uint64_t executed;
};

static uint64_t begin, number = 1, lock, unlock;
static const char *out = "instructions.out";
static GHashTable *blocks;
static bool active;

/* How many instructions there were since interrupts went off; none: they are on */
static uint64_t now, off_since, off_at, longest, longest_at;
static bool off;

/* Mutexes that are held, the last one on top: since when, and who took it */
static struct {
	uint64_t since, at;
} held[16];
static unsigned int nr_held;
static uint64_t longest_held, longest_held_at;

static void mutex_calls(uint64_t pc)
{
	static uint64_t last;
	uint64_t n;

	if (pc == lock && nr_held < G_N_ELEMENTS(held)) {
		held[nr_held].since = now;
		held[nr_held++].at = last;
	} else if (pc == unlock && nr_held) {
		n = now - held[--nr_held].since;
		if (nr_held && n > longest_held) {
			longest_held = n;
			longest_held_at = held[nr_held].at;
		}
	}
	last = pc;
}

static void block_executed(unsigned int cpu, void *data)
{
	struct block *b = data;

	(void)cpu;
	if (b->pc == begin)
		active = number && !--number;
	if (active) {
		mutex_calls(b->pc);
		b->executed++;
	}
	now += b->insns;
}

static void cli_executed(unsigned int cpu, void *at)
{
	(void)cpu;
	if (!off) {
		off = true;
		off_since = now;
		off_at = (uintptr_t)at;
	}
}

static void on_again(unsigned int cpu, void *at)
{
	(void)cpu;
	(void)at;
	if (off && active && now - off_since > longest) {
		longest = now - off_since;
		longest_at = off_at;
	}
	off = false;
}

/* The same code may be translated again, and cut in other places */
static struct block *block_find(uint64_t pc, uint64_t insns)
{
	char key[40];
	struct block *b;

	snprintf(key, sizeof(key), "%" PRIx64 " %" PRIu64, pc, insns);
	b = g_hash_table_lookup(blocks, key);
	if (!b) {
		b = g_new0(struct block, 1);
		b->pc = pc;
		b->insns = insns;
		g_hash_table_insert(blocks, g_strdup(key), b);
	}
	return b;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t n = qemu_plugin_tb_n_insns(tb), i;

	(void)id;
	qemu_plugin_register_vcpu_tb_exec_cb(tb, block_executed,
					     QEMU_PLUGIN_CB_NO_REGS,
					     block_find(qemu_plugin_tb_vaddr(tb),
							n));
	for (i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		uintptr_t at = qemu_plugin_insn_vaddr(insn);
		char *text;

		if (qemu_plugin_insn_size(insn) > 3)
			continue;
		/* The one way to look at it that all versions have */
		text = qemu_plugin_insn_disas(insn);
		if (g_str_has_prefix(text, "cli"))
			qemu_plugin_register_vcpu_insn_exec_cb(
				insn, cli_executed, QEMU_PLUGIN_CB_NO_REGS,
				(void *)at);
		else if (g_str_has_prefix(text, "sti") ||
			 g_str_has_prefix(text, "iret") ||
			 g_str_has_prefix(text, "sysret"))
			qemu_plugin_register_vcpu_insn_exec_cb(
				insn, on_again, QEMU_PLUGIN_CB_NO_REGS,
				NULL);
		g_free(text);
	}
}

static void ended(qemu_plugin_id_t id, void *data)
{
	FILE *f = fopen(out, "w");
	GHashTableIter it;
	gpointer value;

	(void)id;
	(void)data;
	if (!f) {
		perror(out);
		return;
	}
	g_hash_table_iter_init(&it, blocks);
	while (g_hash_table_iter_next(&it, NULL, &value)) {
		struct block *b = value;

		if (b->executed)
			fprintf(f, "block %" PRIx64 " %" PRIu64 "\n", b->pc,
				b->executed * b->insns);
	}
	fprintf(f, "off %" PRIx64 " %" PRIu64 "\n", longest_at, longest);
	fprintf(f, "held %" PRIx64 " %" PRIu64 "\n", longest_held_at,
		longest_held);
	fclose(f);
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id,
					   const qemu_info_t *info, int argc,
					   char **argv)
{
	int i;

	(void)info;
	for (i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "at=", 3))
			begin = strtoull(argv[i] + 3, NULL, 16);
		else if (!strncmp(argv[i], "number=", 7))
			number = strtoull(argv[i] + 7, NULL, 10);
		else if (!strncmp(argv[i], "lock=", 5))
			lock = strtoull(argv[i] + 5, NULL, 16);
		else if (!strncmp(argv[i], "unlock=", 7))
			unlock = strtoull(argv[i] + 7, NULL, 16);
		else if (!strncmp(argv[i], "out=", 4))
			out = g_strdup(argv[i] + 4);
		else
			return -1;
	}
	blocks = g_hash_table_new(g_str_hash, g_str_equal);
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	qemu_plugin_register_atexit_cb(id, ended, NULL);
	return 0;
}
