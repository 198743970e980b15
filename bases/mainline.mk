# SPDX-License-Identifier: GPL-2.0
# The newer kernel that `make bench` measures against, unpatched.

MAINLINE_PACKAGE := linux-source-7.3
MAINLINE_SUITES  := trixie-backports
# Only for the progress display before a build of one's own has been counted.
MAINLINE_STEPS   := 2500
