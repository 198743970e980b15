// SPDX-License-Identifier: GPL-2.0
/*
 * The VM's own QEMU loses no interrupt of a CPU that runs a nested guest.
 *
 * CPU 1 runs a guest that exits all the time, and has an interrupt pending that it
 * does not take: so each VMRUN raises a virtual interrupt in QEMU's CPU. A timer
 * fires there 5000 times a second. When QEMU loses its interrupt, Linux, which arms
 * it anew in the interrupt, never hears of it again. A QEMU with the fault loses one of
 * some hundred.
 */
#include <linux/kvm.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kvm_lib.h"
#include "test.h"

#define EXITS		500000L
/* In so many exits without a tick of CPU 1 it has none any more */
#define LOST_EXITS	50000L

/* In real mode, at CODE: cpuid; jump back */
#define CODE		0x1000
static const unsigned char code[] = { 0x0f, 0xa2, 0xeb, 0xfc };

/* Local timer interrupts of CPU 1 */
static long ticks(void)
{
	char *text = slurp("/proc/interrupts");
	char *line = text ? strstr(text, "LOC:") : NULL;
	long n = -1;

	if (line)
		sscanf(line, "LOC: %*d %ld", &n);
	free(text);
	return n;
}

static long exits(void)
{
	return read_long("/sys/kernel/debug/kvm/exits", -1);
}

static int timer_on(int cpu)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.sample_period = 200000,	/* ns */
	};

	return syscall(SYS_perf_event_open, &attr, -1, cpu, -1, 0UL);
}

FIXTURE(nested) {
	struct guest g;
	struct kvm_run *run;
	pthread_t thread;
	int timer;
	atomic_bool ended;
};

static void *vcpu(void *arg)
{
	FIXTURE_DATA(nested) *self = arg;
	long ret;

	run_on(1);
	ret = ioctl(self->g.vcpu, KVM_RUN, 0UL) ? errno : 0;
	self->ended = true;
	return (void *)ret;
}

static void nothing(int sig)
{
	(void)sig;
}

FIXTURE_SETUP(nested)
{
	struct kvm_regs regs = { .rip = CODE, .rflags = 2 };	/* interrupts are off */
	struct kvm_sregs sregs;
	void *mem;
	int size;

	if (!cpus_emulated())
		SKIP(return, "the VM's CPUs are not emulated");
	ASSERT_EQ(0, run_on(0));
	signal(SIGUSR1, nothing);
	ASSERT_EQ(0, guest_open(&self->g));
	size = ioctl(self->g.kvm, KVM_GET_VCPU_MMAP_SIZE, 0UL);
	self->run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, self->g.vcpu, 0);
	ASSERT_NE(MAP_FAILED, self->run);
	mem = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	memcpy(mem, code, sizeof(code));
	ASSERT_EQ(0, guest_slot(&self->g, 0, CODE, mem, 4096, false));
	ASSERT_EQ(0, ioctl(self->g.vcpu, KVM_GET_SREGS, &sregs));
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	ASSERT_EQ(0, ioctl(self->g.vcpu, KVM_SET_SREGS, &sregs));
	ASSERT_EQ(0, ioctl(self->g.vcpu, KVM_SET_REGS, &regs));
	/* KVM asks the CPU for it by an interrupt that stays pending */
	self->run->request_interrupt_window = 1;
	self->timer = timer_on(1);
	ASSERT_LE(0, self->timer) TH_LOG("perf_event_open: %m");
	ASSERT_EQ(0, pthread_create(&self->thread, NULL, vcpu, self));
}

FIXTURE_TEARDOWN(nested)
{
	void *ret;

	if (!self->run)
		return;
	/* It is sent an interrupt, and so takes the timer's, if that was lost */
	self->run->immediate_exit = 1;
	pthread_kill(self->thread, SIGUSR1);
	EXPECT_EQ(0, pthread_join(self->thread, &ret));
	EXPECT_EQ(EINTR, (long)ret);
	close(self->timer);
	guest_close(&self->g);
}

TEST_F(nested, timer_of_its_cpu_goes_on)
{
	long first = exits(), last = first, said = first, tick = ticks(), before = tick, now;

	ASSERT_LE(0, first) TH_LOG("no count of exits");
	while (exits() - first < EXITS) {
		ASSERT_FALSE(self->ended) TH_LOG("the nested guest has ended");
		/* No more than that: whatever has CPU 1 do something mends it */
		sleep_ms(100);
		now = ticks();
		if (now != tick) {
			tick = now;
			last = exits();
		}
		ASSERT_GT(LOST_EXITS, exits() - last)
			TH_LOG("CPU 1 has had no tick for %ld exits, after %ld of them and %ld ticks",
			       exits() - last, exits() - first, tick - before);
		if (exits() - said > EXITS / 10) {
			said = exits();
			TH_LOG("%ld exits, %ld ticks", said - first, tick - before);
		}
	}
}

TEST_HARNESS_MAIN
