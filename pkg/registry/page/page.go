// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package page knows how lists are cut into pages: limit, continue, and the resource version of a list.
package page

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"example.io/coredump/pkg/registry/revision"
	"example.io/coredump/pkg/storage"
)

// version of the token. A token of another version has expired.
const version = 1

// maxToken bounds a token in bytes: a key has at most 63+253+63+28 characters.
const maxToken = 2048

// Page is the part of a list that a request asks for.
type Page struct {
	// Limit is the number of items, 0 for all.
	Limit int
	// After is the record's key of the last item of the page before; empty at the start.
	After string
	// ResourceVersion is the same on all pages: the time of the first. See package revision.
	ResourceVersion string

	began time.Time
}

// token is what clients send back as continue, as base64 of JSON. They must not look into it.
type token struct {
	Version         int    `json:"v"`
	ResourceVersion string `json:"rv"`
	After           string `json:"after"`
}

// Of understands the options of a list in the namespace (all, where empty). Its errors are Statuses.
func Of(opts *metainternalversion.ListOptions, namespace string, now time.Time) (Page, error) {
	p := Page{ResourceVersion: revision.Of(now, 0), began: now}
	if opts == nil {
		return p, nil
	}
	if opts.ShardSelector != "" {
		return p, apierrors.NewBadRequest("shardSelector is not supported by this API server")
	}
	if opts.ResourceVersionMatch == metav1.ResourceVersionMatchExact {
		return p, apierrors.NewResourceExpired("the lists of this API server are of the present: resourceVersionMatch must not be Exact")
	}
	p.Limit = int(max(opts.Limit, 0))
	if opts.Continue == "" {
		if opts.ResourceVersion == "0" {
			p.Limit = 0 // as kube-apiserver does: it is how informers list that are about to watch, and only a whole list tells what it has seen
		}
		return p, nil
	}
	t, err := decode(opts.Continue)
	if err != nil {
		return p, apierrors.NewBadRequest(fmt.Sprintf("continue is no token of this list: %v", err))
	}
	if t.Version != version {
		return p, apierrors.NewResourceExpired("the continue token has expired: list again from the start")
	}
	if err := t.check(namespace); err != nil {
		return p, apierrors.NewBadRequest(fmt.Sprintf("continue is no token of this list: %v", err))
	}
	p.After, p.ResourceVersion = t.After, t.ResourceVersion
	return p, nil
}

func decode(s string) (t token, err error) {
	if len(s) > maxToken {
		return t, fmt.Errorf("%d bytes are too many", len(s))
	}
	data, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return t, err
	}
	return t, json.Unmarshal(data, &t)
}

// check trusts nothing: tokens come from clients.
func (t token) check(namespace string) error {
	e, ok := storage.ParseKey(t.After)
	_, _, known := revision.Parse(t.ResourceVersion)
	switch {
	case !ok || !e.IsRecord:
		return fmt.Errorf("%.80q is no key", t.After)
	case namespace != "" && e.Namespace != namespace:
		return fmt.Errorf("it is of another namespace")
	case !known:
		return fmt.Errorf("%.40q is no resource version", t.ResourceVersion)
	}
	return nil
}

// Full tells whether a page with n items has as many as were asked for.
func (p Page) Full(n int) bool { return p.Limit > 0 && n >= p.Limit }

// Meta is the metadata of the page. Last is the record's key of its last item where more follow, and empty where that
// was all. How many more there are is not known without reading them. Seen is the fingerprint of the records that were seen, which the resource version has
// only where they are all of the scope.
func (p Page) Meta(last string, seen revision.Fingerprint) metav1.ListMeta {
	m := metav1.ListMeta{ResourceVersion: p.ResourceVersion}
	if last == "" && p.After == "" {
		m.ResourceVersion = revision.Of(p.began, seen)
	}
	if last != "" {
		data, _ := json.Marshal(token{version, p.ResourceVersion, last}) // strings and a number always have JSON
		m.Continue = base64.RawURLEncoding.EncodeToString(data)
	}
	return m
}
