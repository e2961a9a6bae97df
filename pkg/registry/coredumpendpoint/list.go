// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package coredumpendpoint

import (
	"context"
	"iter"
	"time"

	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/generic"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/registry/page"
	"example.io/coredump/pkg/registry/revision"
	"example.io/coredump/pkg/registry/status"
	"example.io/coredump/pkg/storage"
)

// List sums up the dumps of a namespace, or of all, pod name by pod name in the order of their keys.
func (r *REST) List(ctx context.Context, opts *metainternalversion.ListOptions) (runtime.Object, error) {
	namespace := request.NamespaceValue(ctx)
	p, err := page.Of(opts, namespace, time.Now())
	if err != nil {
		return nil, err
	}
	list := &v1alpha1.CoreDumpEndpointList{Items: []v1alpha1.CoreDumpEndpoint{}}
	last, more := "", false
	var seen revision.Set
	for s, err := range r.summaries(ctx, namespace, newQuery(namespace, opts), p.After, &seen) {
		if err != nil {
			return nil, status.Of(ctx, err, resource, "")
		}
		if more = p.Full(len(list.Items)); more {
			break
		}
		list.Items = append(list.Items, *s.endpoint())
		last = s.lastKey
	}
	if !more {
		last = ""
	}
	list.ListMeta = p.Meta(last, seen.Fingerprint())
	return list, nil
}

// podSummary is a summary and where in the bucket it ends.
type podSummary struct {
	*summary
	lastKey string
}

// summaries yields what fits the options, beginning behind the pod that the record's key after belongs to. All keys of a pod name
// come one after the other. All records that are read are added to seen.
func (r *REST) summaries(ctx context.Context, namespace string, q query, after string, seen *revision.Set) iter.Seq2[podSummary, error] {
	return func(yield func(podSummary, error) bool) {
		var current podSummary
		for l, err := range r.visible(ctx, namespace, q.scope, behindPod(after), seen) {
			if err != nil {
				yield(podSummary{}, err)
				return
			}
			if current.summary == nil || current.namespace != l.Key.Namespace || current.pod != l.Key.Pod {
				if current.summary != nil && q.matches(current.summary) && !yield(current, nil) {
					return
				}
				current.summary = newSummary(l.Key.Namespace, l.Key.Pod)
			}
			current.add(l.Record)
			current.lastKey = l.Key.Record()
		}
		if current.summary != nil && q.matches(current.summary) {
			yield(current, nil)
		}
	}
}

// behindPod gives what sorts after all keys of the pod of a record's key and before those of the next: "0" is the byte after "/".
func behindPod(after string) string {
	e, ok := storage.ParseKey(after)
	if !ok {
		return ""
	}
	return e.Namespace + "/" + e.Pod + "0"
}

// query is what a list selects. Endpoints have no labels.
type query struct {
	scope  storage.Scope
	labels labels.Selector
	fields fields.Selector
}

func newQuery(namespace string, opts *metainternalversion.ListOptions) query {
	q := query{scope: storage.Scope{Namespace: namespace}, labels: labels.Everything(), fields: fields.Everything()}
	if opts == nil {
		return q
	}
	if opts.LabelSelector != nil {
		q.labels = opts.LabelSelector
	}
	if opts.FieldSelector != nil {
		q.fields = opts.FieldSelector
	}
	// What follows only narrows what is read: fields is applied in any case.
	if ns, ok := q.fields.RequiresExactMatch("metadata.namespace"); ok && namespace == "" && storage.ValidNamespace(ns) {
		q.scope.Namespace = ns
	}
	if pod, ok := q.fields.RequiresExactMatch("metadata.name"); ok && q.scope.Namespace != "" && storage.ValidPod(pod) {
		q.scope.Pod = pod
	}
	return q
}

func (q query) matches(s *summary) bool {
	e := s.endpoint()
	return q.labels.Matches(labels.Set(e.Labels)) && q.fields.Matches(generic.ObjectMetaFieldsSet(&e.ObjectMeta, true))
}
