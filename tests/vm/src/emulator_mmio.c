// SPDX-License-Identifier: GPL-2.0
/*
 * The VM's own QEMU has each access of a CPU reach its device, while another CPU
 * changes what is mapped where.
 *
 * CPU 1 writes to a register of one edu device, and reads it back. CPU 0 turns the
 * BAR of another one off and on. A QEMU with the fault loses an access in some 1000
 * times: it goes nowhere, or to a third device.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test.h"

#define TIMES		20000L
#define PCI_COMMAND	4
#define PCI_MEMORY	2
/* Of edu: what is written is read back, inverted */
#define CHECK		(4 / sizeof(uint32_t))

static bool memory(int config, bool on)
{
	uint16_t command;

	if (pread(config, &command, sizeof(command), PCI_COMMAND) != sizeof(command))
		return false;
	command = on ? command | PCI_MEMORY : command & ~PCI_MEMORY;
	return pwrite(config, &command, sizeof(command), PCI_COMMAND) == sizeof(command);
}

struct writer {
	volatile uint32_t *reg;
	long accesses, lost;
	atomic_bool stop;
};

static void *write_and_read(void *arg)
{
	struct writer *w = arg;
	uint32_t value;

	run_on(1);
	for (; !w->stop; w->accesses++) {
		value = w->accesses * 2654435761u;
		w->reg[CHECK] = value;
		w->lost += w->reg[CHECK] != ~value;
	}
	return NULL;
}

TEST(each_access_reaches_its_device)
{
	struct writer w = { 0 };
	int used, other, bar;
	pthread_t thread;

	if (!cpus_emulated())
		SKIP(return, "the VM's CPUs are not emulated");
	NEED_DEVICES(3);
	used = vfio_file(2, "config");
	other = vfio_file(0, "config");
	bar = vfio_file(2, "resource0");
	ASSERT_LE(0, used);
	ASSERT_LE(0, other);
	ASSERT_LE(0, bar);
	ASSERT_TRUE(memory(used, true));
	w.reg = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, bar, 0);
	ASSERT_NE(MAP_FAILED, (void *)w.reg);
	ASSERT_EQ(0, run_on(0));
	ASSERT_EQ(0, pthread_create(&thread, NULL, write_and_read, &w));
	for (long i = 0; i < TIMES; i++) {
		EXPECT_TRUE(memory(other, false));
		EXPECT_TRUE(memory(other, true));
	}
	w.stop = true;
	pthread_join(thread, NULL);
	EXPECT_EQ(0, w.lost)
		TH_LOG("of %ld writes", w.accesses);
	EXPECT_LT(0, w.accesses);
	EXPECT_TRUE(memory(other, false));
	EXPECT_TRUE(memory(used, false));
}

TEST_HARNESS_MAIN
