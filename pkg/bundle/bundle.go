// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package bundle is what is known of a crash beside the core: status of pod and container, facts from /proc, the last lines of the log. It is a
// tar.zst of a few small files, in the bucket beside the core, and its files are in the archives that are served.
package bundle

// File is a file of a bundle.
type File struct {
	// Name is relative, of components that match [a-z0-9][a-z0-9._-]*, at most two: "pod.json", "proc/maps".
	Name string
	Data []byte
}
