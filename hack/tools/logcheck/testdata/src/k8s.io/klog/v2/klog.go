// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package klog

import "github.com/go-logr/logr"

type Verbose struct{}

func (Verbose) InfoS(msg string, keysAndValues ...any) {}

func Infof(format string, args ...any)                                 {}
func V(level int) Verbose                                              { return Verbose{} }
func LoggerWithValues(l logr.Logger, keysAndValues ...any) logr.Logger { return l }
func Background() logr.Logger                                          { return logr.Logger{} }
