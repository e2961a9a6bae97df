// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Command logcheck checks that logging is contextual and structured, by the conventions of Kubernetes:
// https://github.com/kubernetes/community/blob/main/contributors/devel/sig-instrumentation/migration-to-structured-logging.md
//
//	go vet -vettool=logcheck ./...
package main

import "golang.org/x/tools/go/analysis/unitchecker"

func main() { unitchecker.Main(analyzer) }
