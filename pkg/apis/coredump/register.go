// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package coredump names the API group. Its versions are in the packages below.
package coredump

// GroupName is the API group of everything this project serves.
const GroupName = "coredump.example.io"
