// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package fetch

import "os"

func writeOut(*os.File, int64, int64) {}
