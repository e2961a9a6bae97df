// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"k8s.io/utils/clock"
)

// savedState is the file that survives a restart.
type savedState struct {
	Version    int           `json:"version"`
	Workloads  []savedWindow `json:"workloads,omitempty"`
	Namespaces []savedWindow `json:"namespaces,omitempty"`
}

// savedWindow is an hour, the last used first in its list.
type savedWindow struct {
	Namespace  string      `json:"namespace"`
	Kind       string      `json:"kind,omitempty"`
	Name       string      `json:"name,omitempty"`
	Start      int64       `json:"start"` // Unix seconds
	Kept       int         `json:"kept,omitempty"`
	Suppressed int         `json:"suppressed,omitempty"`
	Refunded   int         `json:"refunded,omitempty"`
	Sites      []savedSite `json:"sites,omitempty"`
}

type savedSite struct {
	Site string `json:"site"`
	Kept int    `json:"kept"`
}

const (
	stateVersion = 1
	// maxState bounds the file: more than the maps can hold with names of ordinary length.
	maxState = 16 << 20
	// maxName bounds each of the names in bytes. Kubernetes has 253 at most, and a pod is name and UID.
	maxName = 512
	// maxCount is far beyond what can happen in an hour.
	maxCount = 1 << 40
)

// Load reads what an earlier run saved; a file that does not exist is none. After an error the judge is as it was, and can be used.
func (j *Judge) Load(file string) error {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("load the counts of dumps: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxState+1))
	if err == nil {
		err = j.decode(b)
	}
	if err != nil {
		return fmt.Errorf("load the counts of dumps from %s: %w", file, err)
	}
	return nil
}

// decode takes over what was saved, if it is valid as a whole.
func (j *Judge) decode(b []byte) error {
	if len(b) > maxState {
		return fmt.Errorf("it is longer than %d bytes", maxState)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var s savedState
	if err := d.Decode(&s); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows its end")
	}
	if s.Version != stateVersion || len(s.Workloads) > maxWorkloads || len(s.Namespaces) > maxNamespaces {
		return fmt.Errorf("version %d, %d workloads, %d namespaces: must be version %d, and at most %d and %d",
			s.Version, len(s.Workloads), len(s.Namespaces), stateVersion, maxWorkloads, maxNamespaces)
	}
	workloads, namespaces := newRecent[Workload, window](maxWorkloads), newRecent[string, window](maxNamespaces)
	for i := len(s.Workloads) - 1; i >= 0; i-- {
		w := &s.Workloads[i]
		if err := w.check(); err != nil {
			return fmt.Errorf("workload %d: %w", i, err)
		}
		*workloads.get(Workload{w.Namespace, w.Kind, w.Name}) = w.window()
	}
	for i := len(s.Namespaces) - 1; i >= 0; i-- {
		w := &s.Namespaces[i]
		if err := w.check(); err != nil {
			return fmt.Errorf("namespace %d: %w", i, err)
		}
		*namespaces.get(w.Namespace) = w.window()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.workloads, j.namespaces = workloads, namespaces
	return nil
}

func (w *savedWindow) check() error {
	for _, s := range []string{w.Namespace, w.Kind, w.Name} {
		if len(s) > maxName {
			return fmt.Errorf("a name of %d bytes: at most %d are allowed", len(s), maxName)
		}
	}
	for _, n := range []int64{int64(w.Kept), int64(w.Suppressed), int64(w.Refunded), w.Start} {
		if n < 0 || n > maxCount {
			return fmt.Errorf("%d: must be from 0 to %d", n, maxCount)
		}
	}
	if len(w.Sites) > maxSites {
		return fmt.Errorf("%d sites: at most %d are allowed", len(w.Sites), maxSites)
	}
	for _, s := range w.Sites {
		if s.Site == "" || len(s.Site) > maxSite || s.Kept < 0 || int64(s.Kept) > maxCount {
			return errors.New("a site without a name, with a long one, or with a count that cannot be")
		}
	}
	return nil
}

func (w *savedWindow) window() window {
	h := window{start: time.Unix(w.Start, 0), kept: w.Kept, suppressed: w.Suppressed, refunded: w.Refunded}
	for _, s := range w.Sites {
		h.sites = append(h.sites, site{s.Site, s.Kept})
	}
	return h
}

// encode gives the file. Hours that are over are left out.
func (j *Judge) encode() ([]byte, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := j.clock.Now()
	s := savedState{Version: stateVersion}
	for k, w := range j.workloads.all {
		if !w.over(now) && len(k.Namespace) <= maxName && len(k.Kind) <= maxName && len(k.Name) <= maxName {
			s.Workloads = append(s.Workloads, saved(k, w))
		}
	}
	for k, w := range j.namespaces.all {
		if !w.over(now) && len(k) <= maxName {
			s.Namespaces = append(s.Namespaces, saved(Workload{Namespace: k}, w))
		}
	}
	return json.Marshal(s)
}

func saved(k Workload, w *window) savedWindow {
	s := savedWindow{
		Namespace: k.Namespace, Kind: k.Kind, Name: k.Name, Start: max(w.start.Unix(), 0),
		Kept: w.kept, Suppressed: w.suppressed, Refunded: w.refunded,
	}
	for _, x := range w.sites {
		s.Sites = append(s.Sites, savedSite{x.site, x.kept})
	}
	return s
}

// Save writes down what is counted, in one step.
func (j *Judge) Save(file string) error {
	b, err := j.encode()
	if err == nil {
		err = replace(file, b)
	}
	if err != nil {
		return fmt.Errorf("save the counts of dumps: %w", err)
	}
	return nil
}

// replace puts a file in the place of another: whoever reads it sees one of the two.
func replace(file string, b []byte) error {
	// Always the same name, so that being killed here leaves one file at most.
	f, err := os.OpenFile(file+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// Keep saves to the file whenever something has changed, but not more often than every pause, and once more when ctx ends. Errors are given to
// failed, after which it goes on.
func (j *Judge) Keep(ctx context.Context, file string, pause time.Duration, clk clock.Clock, failed func(error)) {
	save := func() {
		if err := j.Save(file); err != nil {
			failed(err)
		}
	}
	for {
		select {
		case <-ctx.Done():
			save()
			return
		case <-j.changed:
		}
		select {
		case <-ctx.Done():
		case <-clk.After(pause):
			save()
		}
	}
}
