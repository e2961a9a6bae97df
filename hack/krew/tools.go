// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package krew names the program that the integration tests build.
package krew

import _ "sigs.k8s.io/krew/cmd/krew"
