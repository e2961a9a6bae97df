// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package a

import (
	"fmt"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

const key = "pod"

func good(l logr.Logger, err error, pairs []any) {
	l.Info("Stored", key, "p", "size", 1)
	l.V(4).Info("Stored")
	l.Error(err, "[coredump] Not stored", "pod", "p")
	l.Info("Stored", pairs...)
	klog.LoggerWithValues(l, "pod", "p").Info("Stored")
}

func bad(l logr.Logger, err error) {
	l.Info(fmt.Sprintf("Stored %d", 1)) // want `the message is not constant`
	l.Info("stored")                    // want `does not begin with a capital letter`
	l.Error(err, "Stored.")             // want `ends with a full stop`
	l.Info("Stored", "pod")             // want `a key without a value`
	l.Info("Stored", err, "p")          // want `a key is a constant string`
	l.WithValues("pod name", "p")       // want `a key is a constant string`
	klog.LoggerWithValues(l, "pod")     // want `a key without a value`
	klog.Infof("Stored %d", 1)          // want `does not know the context`
	klog.V(4).InfoS("Stored")           // want `does not know the context` `does not know the context`
}
