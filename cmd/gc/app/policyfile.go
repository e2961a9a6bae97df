// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"maps"
	"os"
	"slices"

	"sigs.k8s.io/yaml"

	"example.io/coredump/pkg/retention"
	"example.io/coredump/pkg/storage"
)

// policyFile is the file that --config names. Who can write it runs gc, so its limits may be above those of the flags; --max-bytes
// bounds all namespaces together in any case.
type policyFile struct {
	Namespaces map[string]override `json:"namespaces"`
}

// override is what is different for a namespace. What is absent is as the flags say; 0 turns a rule off.
type override struct {
	MaxAge          *string `json:"maxAge,omitempty"`
	KeepLast        *int    `json:"keepLast,omitempty"`
	MaxPerContainer *int    `json:"maxPerContainer,omitempty"`
	MaxBytes        *string `json:"maxBytes,omitempty"`
}

// overrides reads the limits of single namespaces. A name that no namespace has is no mistake; one that none can have is.
func (p *problems) overrides(path string, defaults retention.Limits) map[string]retention.Limits {
	data, err := os.ReadFile(path)
	if err != nil {
		p.add("--config: %w", err)
		return nil
	}
	return p.parseOverrides(path, data, defaults)
}

func (p *problems) parseOverrides(path string, data []byte, defaults retention.Limits) map[string]retention.Limits {
	var file policyFile
	if err := yaml.UnmarshalStrict(data, &file); err != nil {
		p.add("--config %s: %w", path, err)
		return nil
	}
	limits := map[string]retention.Limits{}
	for _, ns := range slices.Sorted(maps.Keys(file.Namespaces)) {
		at := "--config " + path + ": namespaces." + ns
		if !storage.ValidNamespace(ns) && ns != storage.UnknownNamespace {
			p.add("--config %s: namespaces: %.80q: must be the name of a namespace, a DNS label of at most 63 characters, or %s", path, ns, storage.UnknownNamespace)
			continue
		}
		limits[ns] = p.override(at, file.Namespaces[ns], defaults)
	}
	return limits
}

func (p *problems) override(at string, o override, l retention.Limits) retention.Limits {
	if o.MaxAge != nil {
		l.MaxAge = p.duration(at+".maxAge", *o.MaxAge)
	}
	if o.KeepLast != nil {
		l.KeepLast = p.count(at+".keepLast", *o.KeepLast)
	}
	if o.MaxPerContainer != nil {
		l.MaxPerContainer = p.count(at+".maxPerContainer", *o.MaxPerContainer)
	}
	if o.MaxBytes != nil {
		l.MaxBytes = p.bytes(at+".maxBytes", *o.MaxBytes)
	}
	p.limits(at+".maxPerContainer", "keepLast", l)
	return l
}
