/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Included in front of upstream's selftests (see the Makefile), so that they
 * build and have the time they need.
 *
 * 6.12's stable tree took iommufd's selftest from a later kernel, but not the
 * headers: these names are missing. A PASID-capable mock device is an ordinary
 * one here, and the few cases that need the real thing fail on stock, too
 * (tests.conf knows them).
 */
#if !defined(USERPIN_SELFTESTS_H) && !defined(__ASSEMBLER__)
#define USERPIN_SELFTESTS_H

#include <unistd.h>

#define in_data_type			out_data_type
#define IOMMU_HW_INFO_TYPE_DEFAULT	0
#define IOMMU_HW_INFO_FLAG_INPUT_TYPE	1
#define MOCK_FLAGS_DEVICE_PASID		0
#define MOCK_PASID_WIDTH		20

/*
 * kselftest_harness.h gives each case 30 s, KVM's tests wait 1, 2 and 10 s for
 * what a guest does, by an alarm that fails the test: on a busy host that says
 * nothing. tests/vm/run ends what hangs.
 */
static inline unsigned int no_alarm(unsigned int seconds)
{
	(void)seconds;
	return 0;
}

#define alarm no_alarm

#endif
