// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package retention

import (
	"context"
	"time"

	"example.io/coredump/pkg/storage"
)

// ReadOrigins reads where the dumps of inv come from, as far as the rule about gone namespaces needs to know: for namespaces that
// do not live and have a dump older than the grace, and for those that have one from before they were made. inv must be as Scan made it.
func (p Policy) ReadOrigins(ctx context.Context, dumps *storage.Dumps, inv *Inventory, living Namespaces, now time.Time) error {
	if p.GoneGrace <= 0 || living == nil {
		return nil
	}
	known := map[Origin]*Origin{}
	for rest := inv.Dumps; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].Namespace == rest[0].Namespace {
			n++
		}
		if p.needsOrigins(rest[:n], living, now) {
			if err := readOrigins(ctx, dumps, rest[:n], known); err != nil {
				return err
			}
		}
		rest = rest[n:]
	}
	return nil
}

// needsOrigins tells whether the rule could take any of the dumps, all of one namespace.
func (p Policy) needsOrigins(dumps []*Dump, living Namespaces, now time.Time) bool {
	if dumps[0].Unknown() {
		return false
	}
	ns, lives := living[dumps[0].Namespace]
	if lives && now.Sub(ns.Created) <= p.GoneGrace {
		return false
	}
	for _, d := range dumps {
		if d.Complete() && now.Sub(d.At()) > p.GoneGrace && (!lives || d.At().Before(ns.Created)) {
			return true
		}
	}
	return false
}

// readOrigins reads the records of the dumps, which are all of a namespace, ordered by their keys. Both sides may have what the other has
// not: dumps come and go. A record that cannot be understood leaves its dump without an origin.
func readOrigins(ctx context.Context, from *storage.Dumps, dumps []*Dump, known map[Origin]*Origin) error {
	i := 0
	for l, err := range from.List(ctx, storage.Scope{Namespace: dumps[0].Namespace}, "") {
		if err != nil {
			return err
		}
		for i < len(dumps) && dumps[i].Record() < l.Key.Record() {
			i++
		}
		if l.Record == nil || i == len(dumps) || dumps[i].Key != l.Key {
			continue
		}
		o := Origin{NamespaceUID: l.Record.Spec.NamespaceUID, Cluster: l.Record.Spec.ClusterName}
		if known[o] == nil {
			known[o] = &o
		}
		dumps[i].Origin = known[o]
	}
	return nil
}
