// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"fmt"
)

// whyFile of an entry in aside says why it is there.
const whyFile = "why.txt"

// Remove removes a finished entry. After it was killed at any moment the entry is whole, or no longer in ready; Salvage removes the rest.
func (s *Spool) Remove(name string) error { return s.removeFrom(readyDir, name) }

func (s *Spool) removeFrom(dir, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	err := s.move(dir, goneDir, name)
	if err == nil {
		err = s.root.RemoveAll(goneDir + "/" + name)
	}
	if err != nil {
		return fmt.Errorf("remove entry %s: %w", name, err)
	}
	return nil
}

// SetAside keeps a finished entry where nobody takes it for one, with a file that says why. Who cleans up there is the administrator.
func (s *Spool) SetAside(name, why string) error { return s.setAside(readyDir, name, why) }

func (s *Spool) setAside(dir, name, why string) error {
	if err := checkName(name); err != nil {
		return err
	}
	e, err := s.open(dir, name)
	if err != nil {
		return fmt.Errorf("set entry %s aside: %w", name, err)
	}
	defer e.Close()
	if err := e.WriteFile(whyFile, []byte(why+"\n")); err != nil {
		return err
	}
	if err := s.move(dir, asideDir, name); err != nil {
		return fmt.Errorf("set entry %s aside: %w", name, err)
	}
	return nil
}
