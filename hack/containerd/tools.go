// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package containerd names the programs of containerd that hack/build-tools.sh builds.
package containerd

import (
	_ "github.com/containerd/containerd/v2/cmd/containerd"
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"
	_ "github.com/containerd/containerd/v2/cmd/ctr"
)
