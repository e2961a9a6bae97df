// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package fetch

import (
	"io/fs"
	"os"
)

func private(fs.FileInfo) bool { return true }

func lock(*os.File) error { return nil }

func freeBytes(*os.File) (int64, bool) { return 0, false }

func used(*os.File) int64 { return 0 }

func noSpace(error) bool { return false }
