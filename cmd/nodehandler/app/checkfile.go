// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// What --check-file says.
const (
	checkStarting = "starting"
	checkAlive    = "alive"
	checkDead     = "dead"
)

const checkInterval = time.Second

// keepCheckFile keeps the file as the program is, until ctx ends. A program that is killed cannot change it: a probe that must
// see that needs HTTP.
func (c *config) keepCheckFile(ctx context.Context, h *health) (err error) {
	if c.checkFile == "" {
		<-ctx.Done()
		return nil
	}
	written := ""
	write := func(state string) error {
		if state == written {
			return nil
		}
		written = state
		return replaceFile(c.checkFile, state+"\n")
	}
	defer func() { err = errors.Join(err, write(checkDead)) }()
	tick := time.NewTicker(checkInterval)
	defer tick.Stop()
	for {
		state := checkAlive
		if h.started() != nil {
			state = checkStarting
		} else if h.live() != nil {
			state = checkDead
		}
		if err := write(state); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// replaceFile writes a file that readers see whole.
func replaceFile(name, text string) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), ".check-*")
	if err != nil {
		return fmt.Errorf("--check-file: %w", err)
	}
	_, err = tmp.WriteString(text)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("--check-file: %w", err)
	}
	return nil
}
