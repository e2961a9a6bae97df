// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import "strings"

// hosts tells whether the crashed process is none of a pod. One whose cgroup could not be read may be a pod's: then it is not.
func (c *crash) hosts() bool {
	return c.meta.Verified && !strings.Contains(c.meta.Cgroup, "kubepods")
}

// forward gives the crash to the handler that the host had before.
func (c *crash) forward() error { return nil }
