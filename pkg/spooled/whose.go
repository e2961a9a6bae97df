// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package spooled

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"k8s.io/klog/v2"

	"example.io/coredump/pkg/cgroup"
	"example.io/coredump/pkg/identity"
	"example.io/coredump/pkg/spool"
)

const (
	// hope is how long after a crash, and after our own start (who has just started knows nobody), somebody may still come to know whose it was: the API may be away, the pod's status late. After it, the
	// dump is kept where only administrators find it.
	hope = time.Hour
	// maxIdentity bounds identity.json.
	maxIdentity = 256 << 10
	// privileged is what the kernel says (%d) of a process that has rights, or has read what its user may not: one that changed its user, or a program that is setuid. Its
	// memory is for root alone (fs.suid_dumpable in proc_sys_fs(5)), so its dump is for administrators.
	privileged = 2
)

// errUnknown means that it will never be known whose a dump is.
var errUnknown = errors.New("whose it is cannot be told")

// whose tells whose the dump is: what was found out while the process was held, or else what can be found out now. It
// fails with errUnknown where that is nobody's guess; other errors mean to try again.
func (s *Source) whose(ctx context.Context, e *spool.Entry, m *spool.Meta) (identity.Who, error) {
	if m.Dumpable == privileged {
		return identity.Who{}, fmt.Errorf("%w: its owner himself may not read it (PR_GET_DUMPABLE is 2)", errUnknown)
	}
	if !m.Verified { // whatever else is written down
		return identity.Who{}, fmt.Errorf("%w: the process was gone before everything about it was read", errUnknown)
	}
	data, err := e.ReadFile(spool.IdentityFile, maxIdentity)
	if err == nil {
		who, err := identity.DecodeWho(data)
		if err == nil && who.Verified && who.Container != "" && who.NamespaceUID != "" {
			return who, nil
		}
		if err != nil {
			klog.FromContext(ctx).Error(err, "What was found out at the crash cannot be read; asking again", "entry", e.Name())
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return identity.Who{}, err
	}
	id, err := cgroup.Parse(m.Cgroup)
	if err != nil {
		return identity.Who{}, fmt.Errorf("%w: %w", errUnknown, err)
	}
	crash := time.Unix(0, m.CrashTime)
	asking, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	who, err := s.opts.Locator.Locate(asking, id, crash)
	switch {
	case err != nil && ctx.Err() != nil:
		return identity.Who{}, err // we are about to end: that is nobody's answer
	case err == nil:
		s.remember(ctx, e, who)
		return who, nil
	case errors.Is(err, identity.ErrContradiction):
		return identity.Who{}, fmt.Errorf("%w: %w", errUnknown, err)
	case time.Since(crash) <= hope || time.Since(s.started) <= hope:
	case who.Verified && who.Container != "":
		return who, nil // the names are sure; the namespace is gone or was not asked for
	default:
		return identity.Who{}, fmt.Errorf("%w for %v: %w", errUnknown, hope, err)
	}
	return identity.Who{}, err
}

// remember writes down whose a dump is: whoever knows it now may have forgotten it when it is asked again.
func (s *Source) remember(ctx context.Context, e *spool.Entry, who identity.Who) {
	data, err := who.Encode()
	if err == nil {
		err = e.WriteFile(spool.IdentityFile, data)
	}
	if err != nil {
		klog.FromContext(ctx).Error(err, "Whose a dump is cannot be written down", "entry", e.Name())
	}
}
