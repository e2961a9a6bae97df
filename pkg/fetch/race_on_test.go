// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

//go:build race

package fetch

// raceDetector tells whether it is watching.
const raceDetector = true
