// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package runc names the program that hack/build-tools.sh builds.
package runc

import (
	_ "github.com/opencontainers/runc"
)
