// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Command apiserver serves the API group coredump.example.io behind kube-apiserver's aggregation layer.
package main

import (
	"os"

	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/component-base/cli"

	"example.io/coredump/cmd/apiserver/app"
)

func main() {
	os.Exit(cli.Run(app.NewCommand(genericapiserver.SetupSignalContext())))
}
