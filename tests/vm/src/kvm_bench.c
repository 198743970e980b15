// SPDX-License-Identifier: GPL-2.0
/*
 * What KVM costs where its references on guest pages were changed: a nested
 * exit and entry, which maps the VMCB four times, and the first touch of a page
 * by a guest. Prints how many nanoseconds and for how many times; in machine
 * "icount", where a nanosecond is an instruction, they repeat. Runs on a stock
 * kernel, too: scripts/kvm-cost compares.
 */
#include <sys/mman.h>
#include <time.h>

#include "kvm_util.h"
#include "processor.h"
#include "svm_util.h"
#include "test_util.h"

#define NESTED		2000UL
#define TOUCH_SIZE	(256UL << 20)
#define TOUCH_PAGES	(TOUCH_SIZE / 4096)
#define TOUCH_GPA	(4UL << 30)
#define TOUCH_GVA	(4UL << 30)

static void l2_code(void)
{
	for (;;)
		vmmcall();
}

/* The first rounds warm up; the host's clock runs from one sync to the next */
static void l1_code(struct svm_test_data *svm)
{
	unsigned long stack[64];
	int round, i;

	generic_svm_setup(svm, l2_code, &stack[64]);
	for (round = 0; round < 2; round++) {
		for (i = 0; i < NESTED; i++) {
			run_guest(svm->vmcb, svm->vmcb_gpa);
			svm->vmcb->save.rip += 3;
		}
		GUEST_SYNC(round);
	}
	GUEST_DONE();
}

static void touch_code(void)
{
	unsigned long i;

	GUEST_SYNC(0);
	for (i = 0; i < TOUCH_PAGES; i++)
		*(volatile char *)(TOUCH_GVA + i * 4096) = 1;
	GUEST_SYNC(1);
	GUEST_DONE();
}

/* Nanoseconds from sync 0 to sync 1 */
static uint64_t run(struct kvm_vcpu *vcpu)
{
	struct timespec start, took;
	struct ucall uc;

	for (;;) {
		vcpu_run(vcpu);
		TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_IO);
		switch (get_ucall(vcpu, &uc)) {
		case UCALL_SYNC:
			if (uc.args[1] == 0) {
				clock_gettime(CLOCK_MONOTONIC, &start);
				break;
			}
			took = timespec_elapsed(start);
			return took.tv_sec * 1000000000UL + took.tv_nsec;
		case UCALL_ABORT:
			REPORT_GUEST_ASSERT(uc);
		default:
			TEST_FAIL("the guest stopped");
		}
	}
}

static void nested(void)
{
	struct kvm_vcpu *vcpu;
	vm_vaddr_t svm_gva;
	struct kvm_vm *vm;

	vm = vm_create_with_one_vcpu(&vcpu, l1_code);
	vcpu_alloc_svm(vm, &svm_gva);
	vcpu_args_set(vcpu, 1, svm_gva);
	printf("nested-exit %lu %lu\n", run(vcpu), NESTED);
	kvm_vm_free(vm);
}

/* The memory is there; it is KVM that has not mapped it yet */
static void first_touch(const char *name, enum vm_mem_backing_src_type src)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	void *hva;

	/* Room for the guest's page tables */
	vm = __vm_create_with_one_vcpu(&vcpu, 2 * TOUCH_PAGES / 512, touch_code);
	vm_userspace_mem_region_add(vm, src, TOUCH_GPA, 1, TOUCH_PAGES, 0);
	virt_map(vm, TOUCH_GVA, TOUCH_GPA, TOUCH_PAGES);
	hva = addr_gpa2hva(vm, TOUCH_GPA);
	if (src == VM_MEM_SRC_ANONYMOUS)
		madvise(hva, TOUCH_SIZE, MADV_NOHUGEPAGE);
	memset(hva, 1, TOUCH_SIZE);
	printf("first-touch-%s %lu %lu\n", name, run(vcpu), TOUCH_PAGES);
	kvm_vm_free(vm);
}

int main(void)
{
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_SVM));
	program_invocation_name = "/proc/self/exe";
	setbuf(stdout, NULL);
	nested();
	first_touch("4k", VM_MEM_SRC_ANONYMOUS);
	first_touch("thp", VM_MEM_SRC_ANONYMOUS_THP);
	return 0;
}
