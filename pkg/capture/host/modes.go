// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// TakesSockets says whether the kernel can deliver dumps to a socket by the protocol that asks first (a pattern with @@, Linux 6.17).
//
// Where /proc/sys/kernel/core_modes is there, it tells. Writing a pattern and reading it back tells nothing: older kernels take @@/path for a relative
// file name, and 6.16.8 and 6.17 take what they cannot use. So without it the release decides, and a pattern that is refused is told by Apply.
func (h *Host) TakesSockets() (bool, error) {
	modes, err := os.ReadFile(filepath.Join(h.ProcSys, "kernel/core_modes"))
	if err == nil {
		return slices.Contains(strings.Fields(string(modes)), "socket"), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("read what the kernel can do with dumps: %w", err)
	}
	release, err := h.read("kernel/osrelease")
	if err != nil {
		return false, err
	}
	return atLeast(release, 6, 17), nil
}

// atLeast compares a release of the kernel such as 6.12.107-1-amd64.
func atLeast(release string, major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(release, "%d.%d", &a, &b); n != 2 {
		return false
	}
	return a > major || a == major && b >= minor
}
