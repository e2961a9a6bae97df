// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

// version is set by the linker. component-base, which the other programs take theirs from, is not for this one.
var version = "devel"
