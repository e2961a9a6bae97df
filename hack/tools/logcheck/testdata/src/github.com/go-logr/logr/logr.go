// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package logr

type Logger struct{}

func (Logger) Info(msg string, keysAndValues ...any)             {}
func (Logger) Error(err error, msg string, keysAndValues ...any) {}
func (l Logger) WithValues(keysAndValues ...any) Logger          { return l }
func (l Logger) V(level int) Logger                              { return l }
